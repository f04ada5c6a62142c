"""Trials where each row has a label, or each word of it a tag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from afina.config.run import RunConfig
from afina.config.techniques import AUTO, FIRST_LOOK
from afina.models.features import list_poolings
from afina.pipeline.changes import pin_run
from afina.pipeline.choosing import check_techniques, learn_by_choice, resolve_candidates
from afina.pipeline.description import rewrite_description
from afina.pipeline.finish import describe_task, finish_run, save_model
from afina.pipeline.learn import learn, make_objective
from afina.pipeline.learned import Learned
from afina.pipeline.logits import compute_part_logits
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared, change_technique, describe_data, describe_workload, encode_part
from afina.pipeline.proof import prove_saved_model
from afina.pipeline.readiness import make_sizes
from afina.pipeline.result import rescore
from afina.pipeline.scoring import score_run, write_rows
from afina.pipeline.search.varied import vary
from afina.pipeline.settled_head import settle_head
from afina.runs.folder import RunFolder
from afina.runs.names import REPORT
from afina.runs.seen_texts import write_seen_texts
from afina.tasks.base import TaskState
from afina.training.contrastive import ContrastiveRows
from afina.training.session import start_accelerator


class LabelledWorkbench:
    """See `Workbench`."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.kind: str = prepared.task.labels.kind
        self.task = prepared.task.name
        self.primary_metric = prepared.task.primary_metric
        # For tagged words the choice takes no training, so it was made when the rows were prepared.
        self.first_technique = prepared.technique.name if prepared.setup.of_words else AUTO
        self.base = prepared.setup.base
        self.device = prepared.device
        facts = prepared.facts
        self.sizes = make_sizes(len(prepared.parts["train"]), facts, prepared.task.labels)
        self.poolings = () if prepared.setup.of_words else list_poolings(facts.architecture, facts.model_type)
        self.data_hash = prepared.examples.data_hash
        self.test_rows = len(prepared.examples.parts["test"])

    def check_techniques(self) -> dict[str, bool]:
        first = change_technique(self.prepared, FIRST_LOOK, Narrator())
        return {FIRST_LOOK: True, **check_techniques(first, resolve_candidates(first))}

    def run(self, config: RunConfig, folder: RunFolder, narrator: Narrator) -> dict[str, Any]:
        if config.technique == AUTO:
            given = config.model_copy(update={"task": self.task})
            first = self.vary(given.model_copy(update={"technique": FIRST_LOOK}), folder, narrator)
            settled, learned = learn_by_choice(replace(first, given=given), narrator)
            return finish_run(settled, learned, narrator)
        varied = self.vary(config, folder, narrator)
        pin_run(folder, varied.config, varied.setup.base, self.data_hash, describe_data(varied), narrator)
        return finish_run(varied, learn(varied, narrator), narrator)

    def score_test(self, config: RunConfig, folder: RunFolder, narrator: Narrator) -> dict[str, Any]:
        self.encode_test(narrator)
        varied = self.vary(config, folder, narrator)
        rewrite_description(folder, varied.config)
        stored = folder.read_json(REPORT)
        if varied.technique.traits.learns_by == "solver":
            # Validation rows have nothing left to choose now: the head is solved once more, with them (seconds).
            return finish_run(varied, replace(learn(varied, narrator), choice=stored["choice"]), narrator)
        learned = restore_learned(varied, stored, narrator)
        found = score_run(varied, learned, narrator)
        if varied.config.training.objective == "contrastive":  # its head was settled just now
            found["proof"] = save_again(varied, learned, narrator)
        write_rows(varied, learned)
        return rescore(folder, stored, found, varied.config, narrator)

    def encode_test(self, narrator: Narrator) -> None:
        """Tokenise the test part, once."""
        shared = self.prepared
        if "test" not in shared.parts:
            shared.parts["test"] = encode_part(
                shared.examples.parts["test"], shared.tokenizer, shared.facts, int(shared.config.model.max_seq_length),
                shared.folder.work / "tokens" / "test", narrator,
            )  # fmt: skip

    def vary(self, config: RunConfig, folder: RunFolder, narrator: Narrator) -> Prepared:
        """The shared rows under another description: technique and settings of training may differ."""
        config = config.model_copy(update={"task": self.task})
        return vary(
            self.prepared,
            config,
            self.sizes,
            lambda parts, _config, _device: describe_workload(parts),
            folder,
            narrator,
        )


def restore_learned(varied: Prepared, stored: Mapping[str, Any], narrator: Narrator) -> Learned:
    """The saved model of a trial with what it says of all held-out rows; a head that was solved on a moved backbone is
    solved once more, with the validation rows, as in any run whose test part is scored."""
    model = varied.technique.restore(varied.folder.model, varied.setup).to(varied.device)
    state = TaskState.from_dict(varied.folder.read_task()["fit"])
    objective, accelerator = make_objective(varied, state), start_accelerator(varied.device, varied.setup.precision)
    with narrator.stage("evaluate"):
        if isinstance(objective, ContrastiveRows):  # a kill may have left the head that knows the validation rows
            objective.solve_head(model, accelerator, varied.parts["train"])
        logits = {"validation": compute_part_logits(varied, model, varied.parts["validation"])}
        parts = settle_head(varied, objective, model, accelerator, logits, narrator)
        logits["test"] = compute_part_logits(varied, model, varied.parts["test"])
    return Learned(model, state, logits, "", parts, kept_step=stored["kept_step"])


def save_again(varied: Prepared, learned: Learned, narrator: Narrator) -> dict[str, Any]:
    """The model saved in the place of the older one, with all that names its rows; gives the proof."""
    with narrator.stage("save"):
        save_model(varied, learned)
        varied.folder.write_task(describe_task(varied, learned))
    write_seen_texts(varied.folder, [varied.examples.parts[name].hashes for name in learned.parts])
    with narrator.stage("prove"):
        return prove_saved_model(varied, learned)
