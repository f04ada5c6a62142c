"""The technique chosen by evidence: a head on frozen features first, and more only where more may pay and does.

The head is solved in any case: it is a result of its own, the evidence, and what a trained backbone has to beat on the
validation rows. What was seen and chosen is kept in choice.json, so a resumed run goes on with the same choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from afina.advice.choose import Choice, choose_labelled_technique
from afina.advice.evidence import gather_evidence
from afina.config.load import list_given
from afina.config.reason import Reason
from afina.config.run import RunConfig
from afina.config.techniques import ADAPTERS, AUTO, FIRST_LOOK, TRAITS
from afina.config.unread import group_unread
from afina.pipeline.costs import check_memory_fits, list_fits, resolve_by_technique
from afina.pipeline.description import rewrite_description
from afina.pipeline.far_targets import describe_far_targets
from afina.pipeline.learn import learn
from afina.pipeline.learned import Learned
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared, change_technique, describe_workload, keep
from afina.pipeline.readiness import make_sizes
from afina.pipeline.solving import Probe, install_probe, pose_problem, probe_features
from afina.runs.folder import RunFolder
from afina.runs.names import CHOICE
from afina.techniques.feature_extraction import FeatureExtraction
from afina.training.seed import seed_torch

# Standard error of a share near 0.8, times the root of the rows.
SHARE_ERROR = 0.4

Marks = npt.NDArray[np.bool_]


def is_open(config: RunConfig, folder: RunFolder) -> bool:
    """Whether the technique is chosen here, in a new run or in one that is resumed."""
    return config.technique == AUTO or (folder.path / CHOICE).exists()


def learn_by_choice(prepared: Prepared, narrator: Narrator) -> tuple[Prepared, Learned]:
    """The run as it was settled, and what was learned by the technique that it was settled on."""
    first = prepared if prepared.technique.name == FIRST_LOOK else change_technique(prepared, FIRST_LOOK, narrator)
    found = look(first, narrator)
    chosen = {**recall_choice(first, found, narrator), "pooling": found.solution.pooling}
    settled = (
        first if chosen["technique"] == FIRST_LOOK else settle(prepared, first, chosen["technique"], found, narrator)
    )
    tell_unread(settled, narrator)
    keep(settled, narrator)
    narrator.say(f"run: {first.folder.path}")
    if chosen["kept"] != FIRST_LOOK:
        trained = learn(settled, narrator)
        chosen["kept"], chosen["why_kept"] = compare(settled, trained, found)
        if chosen["kept"] != FIRST_LOOK:
            narrator.explain(Reason("result", chosen["kept"], chosen["why_kept"]))
            return settled, replace(trained, choice=chosen)
        first.folder.write_json(CHOICE, chosen)
    if chosen["technique"] != FIRST_LOOK:  # also where a kill came after the two were compared
        narrator.explain(Reason("result", FIRST_LOOK, chosen["why_kept"]))
        narrator.note(f"seconds and memory are those of both, the head and {chosen['technique']}")
        rewrite_description(first.folder, first.config)
        # What was predicted for the head alone is not what was measured.
        first = replace(first, costs=None)
    return first, replace(take_probe(first, found, narrator), choice=chosen)


def settle(prepared: Prepared, first: Prepared, technique: str, found: Probe, narrator: Narrator) -> Prepared:
    """The run by the chosen technique; a resumed one is prepared for it already."""
    if prepared.technique.name == technique:
        return prepared
    if TRAITS[technique].moves == "all":  # which can read the features that the head is best on
        pooled = first.given.features.model_copy(update={"pooling": found.solution.pooling})
        first = replace(first, given=first.given.model_copy(update={"features": pooled}))
    return change_technique(first, technique, narrator)


def tell_unread(settled: Prepared, narrator: Narrator) -> None:
    """Say which of the user's settings the chosen technique doesn't read."""
    name, given = settled.technique.name, settled.given.model_dump(exclude_unset=True)
    for readers, paths in group_unread(name, list_given(given)).items():
        narrator.note(f"{', '.join(paths)}: not read by {name}; --technique {readers[0]} reads them")


def look(first: Prepared, narrator: Narrator) -> Probe:
    """The head on frozen features; the backbone is let go again, since what follows needs the memory."""
    technique, loaded = load_frozen(first, narrator)
    return probe_features(first, technique, loaded, narrator)


def take_probe(first: Prepared, found: Probe, narrator: Narrator) -> Learned:
    """The head as the run's result."""
    technique, loaded = load_frozen(first, narrator)
    technique.prepare(loaded, first.setup)
    return install_probe(first, technique, loaded, found, narrator)


def load_frozen(first: Prepared, narrator: Narrator) -> tuple[FeatureExtraction, Any]:
    """The technique and the untouched model with a head to set."""
    technique = FeatureExtraction()
    seed_torch(first.config.seed, "head")
    with narrator.stage("load"):
        return technique, technique.load(first.setup)


def recall_choice(first: Prepared, found: Probe, narrator: Narrator) -> dict[str, Any]:
    """What was chosen when the run began, or is chosen now and kept: `technique`, `evidence`, `kept`."""
    folder = first.folder
    if (folder.path / CHOICE).exists():
        known = folder.read_json(CHOICE)
        narrator.explain(Reason("technique", known["technique"], known["reason"], tuple(known["otherwise"])))
        return known
    with narrator.stage("choose"):
        evidence = gather_evidence(
            found.features["train"], first.examples.parts["train"].joined_texts(),
            pose_problem(first, ("train",), found.state), found.solution.inverse_strength, found.has_bias,
        )  # fmt: skip
        configs = resolve_candidates(first)
        by_pairs = any(each.training.objective == "contrastive" for each in configs.values())
        fitting = check_techniques(first, configs)
        choice = choose_labelled_technique(evidence, first.facts.parameters, fitting, by_pairs=by_pairs)
    narrator.explain(Reason("technique", choice.technique, choice.reason, choice.otherwise))
    chosen = {**choice.as_dict(), "evidence": evidence.as_dict(), "kept": settle_at_once(choice)}
    folder.write_json(CHOICE, chosen)
    return chosen


def settle_at_once(choice: Choice) -> str | None:
    """The technique of the result where that is known before anything is trained."""
    return FIRST_LOOK if choice.technique == FIRST_LOOK else None


def compare(second: Prepared, trained: Learned, found: Probe) -> tuple[str, str]:
    """The technique whose model is better on the validation rows, and the scores that say so."""
    task, labels = second.task, second.parts["validation"].labels
    if trained.kept_step == 0:
        return FIRST_LOOK, f"no step of {second.technique.name} was better on {len(labels):,} validation rows"
    plain = replace(found.state, target_mean=0.0, target_scale=1.0)
    scores = {  # of equals the first one is taken: the head, which costs less
        FIRST_LOOK: task.score(found.solution.head.logits(found.features["validation"]), labels, plain),
        second.technique.name: task.score(trained.logits["validation"], labels, trained.state),
    }
    best = max(scores, key=lambda name: task.rank(scores[name]))
    shown = ", ".join(f"{name} {each[task.primary_metric]:.4f}" for name, each in scores.items())
    if second.config.training.objective == "contrastive":
        right = found.solution.head.logits(found.features["validation"]).argmax(axis=1) == labels
        moved_right = trained.logits["validation"].argmax(axis=1) == labels
        if not is_clearly_better(right, moved_right):
            why = f"few rows teach more by pairs than by a head alone, and {len(labels):,} validation rows"
            return second.technique.name, f"{why} don't clearly say otherwise ({shown})"
    why = f"the best {task.primary_metric} on {len(labels):,} validation rows ({shown})"
    if task.labels.kind != "regression":
        why += f"; on so many rows chance moves such a share by about {SHARE_ERROR / len(labels) ** 0.5:.2f}"
    return best, why


def is_clearly_better(right_N: Marks, other_right_N: Marks) -> bool:
    """Whether the first is right in more rows than the other by more than one standard error of that difference."""
    ahead, behind = int((right_N & ~other_right_N).sum()), int((other_right_N & ~right_N).sum())
    return ahead - behind > float(np.sqrt(ahead + behind))


def resolve_candidates(first: Prepared) -> dict[str, RunConfig]:
    """The description of the run by each technique that moves a backbone and is installed."""
    sizes = make_sizes(len(first.parts["train"]), first.facts, first.examples.labels)
    return resolve_by_technique(first.given, first.task.name, sizes)


def check_techniques(first: Prepared, configs: Mapping[str, RunConfig]) -> dict[str, bool]:
    """Whether each technique that moves a backbone fits into the memory of this machine, and can learn the targets."""
    found = list_fits(
        check_memory_fits(configs, first.setup, first.facts, describe_workload(first.parts), first.device)
    )
    is_far = bool(describe_far_targets(first))
    return {name: fits and not (is_far and name in ADAPTERS) for name, fits in found.items()}
