"""Trials where each row has a label."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from afina.config.resolve import resolve_config
from afina.config.run import RunConfig
from afina.models.features import list_poolings
from afina.pipeline.changes import keep_files
from afina.pipeline.description import rewrite_description
from afina.pipeline.finish import finish_run, write_reports
from afina.pipeline.learn import compute_logits, learn
from afina.pipeline.learned import Learned
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import (
    Prepared,
    describe_data,
    encode_part,
    find_technique,
    list_facts,
    list_parts,
    resolve_hardware,
)
from afina.pipeline.scoring import score_run, write_rows
from afina.runs.folder import RunFolder
from afina.tasks.base import Fit


class LabelledWorkbench:
    """See `Workbench`."""

    def __init__(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.kind: str = prepared.task.labels.kind
        self.task = prepared.task.name
        self.primary_metric = prepared.task.primary_metric
        self.base = prepared.setup.base
        self.device = prepared.device
        facts = prepared.facts
        self.facts = list_facts(len(prepared.parts["train"]), facts, prepared.task.labels)
        self.poolings = list_poolings(facts.architecture)
        self.data_hash = prepared.examples.data_hash
        self.test_rows = len(prepared.examples.parts["test"])

    def run(self, config: RunConfig, folder: RunFolder, narrator: Narrator) -> dict[str, Any]:
        varied = self.vary(config, folder, narrator)
        keep_files(folder, varied.config, varied.setup.base, self.data_hash, describe_data(varied), narrator)
        return finish_run(varied, learn(varied, narrator), narrator)

    def score_test(self, config: RunConfig, folder: RunFolder, narrator: Narrator) -> dict[str, Any]:
        self.encode_test(narrator)
        varied = self.vary(config, folder, narrator)
        rewrite_description(folder, varied.config)
        if varied.technique.learns_by == "solver":
            # Validation rows have nothing left to choose now: the head is solved once more, with them (seconds).
            return finish_run(varied, learn(varied, narrator), narrator)
        stored = folder.read_json("report.json")
        model = varied.technique.restore(folder.model, varied.setup).to(varied.device)
        held_out = [part for name, part in varied.parts.items() if name != "train"]
        logits = {part.name: compute_logits(varied, model, part) for part in held_out}
        fit = Fit.from_dict(folder.read_task()["fit"])
        learned = Learned(model, fit, logits, "", kept_step=stored["kept_step"])
        scores = score_run(varied, learned, narrator)
        write_rows(varied, learned)
        report = {**stored, **scores, "settings": varied.config.model_dump(mode="json"), "notes": narrator.notes}
        write_reports(folder, report)
        return report

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
        config, reasons = resolve_config(config, self.facts)
        config, device, precision = resolve_hardware(config, narrator)
        for reason in reasons:
            narrator.explain(reason)
        technique = find_technique(config, self.task, self.prepared.facts, folder)
        return replace(
            self.prepared, folder=folder, config=config, technique=technique, device=device,
            setup=replace(self.prepared.setup, config=config, precision=precision),
            parts={name: self.prepared.parts[name] for name in list_parts(config)},
        )  # fmt: skip
