"""What a model tells about labelled rows: how long they are in its tokens, and which labels are probably wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from afina.config.reason import Reason
from afina.config.resolve import choose_max_seq_length
from afina.config.run import RunConfig
from afina.data.doctor.confident import find_suspects
from afina.data.doctor.finding import EXAMPLES_SHOWN, Example, Finding, shorten, show_share
from afina.data.doctor.lengths import summarise, tabulate_cuts
from afina.data.doctor.subject import Subject, View
from afina.data.encoded import EncodedPart
from afina.data.examples import Part
from afina.data.findings import count
from afina.models.inspect import ModelFacts, inspect_model
from afina.models.resolve import resolve_model
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import list_facts, resolve_hardware

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from afina.data.encode import TokenArrays
    from afina.techniques.base import Setup, Technique

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

ROWS_LOOKED_AT = 5000
ROWS_LEAST = 50
WHOLE_TOKENS = 10**9
CUT_SHARE, MANY_SHARE, KEPT_SHARE = 0.01, 0.05, 0.99
SURE_MARGIN = 0.5
"""Probability by which another class must fit better. With 8 % of the labels of short requests changed, 80 % of
these are found, and 9 of 10 that are found are among these."""
TRUSTED_ACCURACY = 0.8


@dataclass(frozen=True)
class ModelView:
    """What was learned with the help of a model."""

    findings: Sequence[Finding]
    facts: dict[str, Any]
    reasons: Sequence[Reason] = ()
    mask: Sequence[dict[str, Any]] = ()


@dataclass(frozen=True)
class FeatureView:
    """What features depend on, as in `pipeline.features.FeatureSetup`."""

    config: RunConfig
    setup: Setup
    technique: Technique
    pad_id: int
    device: str


def look_at_labelled(config: RunConfig, subject: Subject, work: Path, narrator: Narrator) -> ModelView:
    """Lengths in tokens, and suspicious labels, of a seeded sample of the training rows."""
    from afina.models.load import load_tokenizer

    base = resolve_model(str(config.model.reference), config.model.revision)
    facts = inspect_model(base, "sequence-classification")
    reason = choose_max_seq_length(config, list_facts(len(subject.training), facts, subject.space))
    limit = int(reason.value)
    places = choose_rows(len(subject.training), config.seed)
    sample = f"a sample of {count(len(places), 'row')}" if len(places) < len(subject.training) else ""
    with narrator.stage("tokenise"):
        tokenizer = load_tokenizer(base)
        lengths_N = encode_rows(tokenizer, subject.training, places, WHOLE_TOKENS, work / "whole").lengths
    findings = describe_cuts(lengths_N, limit, facts.max_positions, sample)
    tokens = {"quantiles": summarise(lengths_N), "cuts": tabulate_cuts(lengths_N), "sample": sample}
    if subject.kind == "multiclass" and len(places) >= ROWS_LEAST:
        cut = encode_rows(tokenizer, subject.training, places, limit, work / "cut")
        labels_N = subject.training.labels[places].astype(np.int64)
        config = config.model_copy(update={"model": config.model.model_copy(update={"max_seq_length": limit})})
        probabilities_NC = cross_predict(config, facts, tokenizer, cut, labels_N, len(subject.names), narrator)
        findings += describe_suspects(subject, places, probabilities_NC, sample)
    return ModelView(findings, {"tokens": tokens}, [reason])


def choose_rows(rows: int, seed: int) -> Ints:
    """All rows, or a seeded choice of `ROWS_LOOKED_AT`, in their order."""
    if rows <= ROWS_LOOKED_AT:
        return np.arange(rows)
    return np.sort(np.random.Generator(np.random.PCG64(seed)).choice(rows, ROWS_LOOKED_AT, replace=False))


def encode_rows(tokenizer: PreTrainedTokenizerBase, view: View, places: Ints, limit: int, folder: Path) -> TokenArrays:
    """The tokens of some rows, as training would make them."""
    from afina.data.encode import encode_texts

    part = view.part
    assert isinstance(part, Part)
    return encode_texts(tokenizer, replace(part, indices=part.indices[places]).texts(), limit, folder)


def describe_cuts(lengths_N: Ints, limit: int, most: int | None, sample: str) -> list[Finding]:
    """A warning where many texts are longer than `limit`, when the model itself reads at most `most` tokens."""
    share = float((lengths_N > limit).mean()) if len(lengths_N) else 0.0
    if share < CUT_SHARE:
        return []
    lost = float(np.maximum(0, lengths_N - limit).sum() / lengths_N.sum())
    enough = int(np.quantile(lengths_N, KEPT_SHARE, method="higher"))
    return [
        Finding(
            "long-texts",
            "warning" if lost >= MANY_SHARE else "hint",
            f"{show_share(share)} of {sample or 'the texts'} are longer than {limit:,} tokens, which cuts"
            f" {show_share(lost)} of all tokens",
            "what is cut is never read, neither in training nor in use",
            f"--max-seq-length {enough} keeps {KEPT_SHARE:.0%} of them whole"
            if enough <= (most or enough)
            else f"this model reads {most:,} tokens: take one that reads {enough:,}, or give it what matters first",
            int((lengths_N > limit).sum()),
        )
    ]


def cross_predict(
    config: RunConfig, facts: ModelFacts, tokenizer: PreTrainedTokenizerBase, tokens: TokenArrays, labels_N: Ints,
    classes: int, narrator: Narrator,
) -> Floats:  # fmt: skip
    """Probabilities (N, C) of each row by a head that was solved on the frozen features of other rows."""
    from afina.models.features import list_poolings
    from afina.pipeline.features import compute_features
    from afina.techniques import probe
    from afina.techniques.base import Setup
    from afina.techniques.registry import make_technique

    config, device, precision = resolve_hardware(config, Narrator())
    head = {"num_labels": classes, "problem_type": "single_label_classification"}
    setup = Setup(facts.folder, str(facts.folder), head, tokenizer.pad_token_id, config, precision)
    technique = make_technique("feature-extraction")
    seen = FeatureView(config, setup, technique, int(tokenizer.pad_token_id), device)
    part = EncodedPart("the rows", tokens, labels_N, np.arange(len(labels_N)))
    loaded = technique.load(setup)
    features = compute_features(seen, loaded, [part], list_poolings(facts.architecture), narrator)[part.name]["mean"]
    problem = probe.HeadProblem("multiclass", labels_N, classes, seed=config.seed)
    probabilities_NC = np.zeros((len(labels_N), classes), np.float32)
    with narrator.stage("solve"):
        for train, held in probe.split_folds(problem):
            logits = probe.fit_head(features[train], problem.at(train), probe.USUAL_STRENGTH, True).logits(
                features[held]
            )
            exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
            probabilities_NC[held] = exponents / exponents.sum(axis=1, keepdims=True)
    return probabilities_NC


def describe_suspects(subject: Subject, places: Ints, probabilities_NC: Floats, sample: str) -> list[Finding]:
    """The finding about labels that are probably wrong, the surest as examples."""
    view, names = subject.training, subject.names
    labels_N = view.labels[places].astype(np.int64)
    accuracy = float((probabilities_NC.argmax(axis=1) == labels_N).mean())
    suspects = find_suspects(probabilities_NC, labels_N).surer_than(SURE_MARGIN)
    found, rows = len(suspects.places), places[suspects.places]
    if not found:
        return []
    shown = rows[:EXAMPLES_SHOWN]
    pairs = zip(view.numbers[shown].tolist(), view.texts(shown), shown.tolist(), suspects.better.tolist(), strict=False)
    examples = tuple(
        Example(view.name, number, f"{names[int(view.labels[place])]!r}, or {names[better]!r}? {shorten(text)}")
        for number, text, place, better in pairs
    )
    share = found / len(places)
    return [
        Finding(
            "wrong-labels",
            "warning" if share >= MANY_SHARE / 2 and accuracy >= TRUSTED_ACCURACY else "hint",
            f"{count(found, 'row')} ({show_share(share)} of {sample or 'all'}) whose label fits far worse than another",
            f"by confident learning: a head on the model's frozen features is right on {accuracy:.0%} of held-out rows,"
            " so some of these labels are wrong and some texts are just hard",
            "look at the examples first, which are the surest; mend the labels that are wrong",
            found,
            {view.name: view.number_rows(rows)},
            examples,
        )
    ]
