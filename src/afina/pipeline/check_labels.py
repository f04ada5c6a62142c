"""Labels that are probably wrong, as a head on a model's frozen features sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from afina.config.run import RunConfig
from afina.config.techniques import FIRST_LOOK
from afina.data.doctor.confident import Suspects, find_suspect_marks, find_suspects
from afina.data.doctor.finding import EXAMPLES_SHOWN, Example, Finding, shorten, show_share
from afina.data.doctor.subject import Subject
from afina.data.encoded import EncodedPart
from afina.metrics.probabilities import sigmoid, softmax
from afina.models.inspect import ModelFacts
from afina.pipeline.narrator import Narrator
from afina.pipeline.readiness import resolve_hardware
from afina.wording import count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from afina.data.encode import TokenArrays
    from afina.techniques.base import Setup, Technique

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# What transformers calls the tasks of heads whose labels can be looked through.
LABELS_OF_HEADS = {"multiclass": "single_label_classification", "multilabel": "multi_label_classification"}
MANY_SHARE = 0.025
FITS_WORSE = "whose label fits far worse than another"
SURE_MARGIN = 0.5
"""Probability by which another class must fit better. With 8 % of the labels of short requests changed, 80 % of
these are found, and 9 of 10 that are found are among these."""
SURE_MARGIN_OF_MARKS = 0.9
"""The same for each of several labels. Of pairs of news with the topics of both, one label changed in 5 % of them, two
thirds of the changed ones are found, and 4 of 10 that are found are among these."""
TRUSTED_ACCURACY = 0.8


@dataclass(frozen=True)
class FeatureView:
    """What features depend on, as in `pipeline.features.FeatureSetup`."""

    config: RunConfig
    setup: Setup
    technique: Technique
    pad_id: int
    device: str


def cross_predict(
    config: RunConfig, facts: ModelFacts, tokenizer: PreTrainedTokenizerBase, tokens: TokenArrays, subject: Subject,
    places: Ints, narrator: Narrator,
) -> Floats:  # fmt: skip
    """Probabilities (N, C) of each row at `places` by a head that was solved on the frozen features of other rows."""
    from afina.models import probe
    from afina.models.features import list_poolings
    from afina.pipeline.features import compute_features
    from afina.techniques.base import Setup
    from afina.techniques.registry import make_technique

    config = resolve_hardware(config, Narrator())
    device, precision = str(config.training.device), str(config.training.precision)
    classes, labels = len(subject.names), subject.training.labels[places].astype(np.int64)
    head = {"num_labels": classes, "problem_type": LABELS_OF_HEADS[subject.kind]}
    setup = Setup(facts.folder, str(facts.folder), head, tokenizer.pad_token_id, config, precision)
    technique = make_technique(FIRST_LOOK)
    seen = FeatureView(config, setup, technique, int(tokenizer.pad_token_id), device)
    part = EncodedPart("the rows", tokens, labels, np.arange(len(labels)))
    loaded = technique.load(setup)
    # Those that training asks for come in the same pass, and are kept.
    poolings = tuple(dict.fromkeys((*list_poolings(facts.architecture, facts.model_type), "mean")))
    features = compute_features(seen, loaded, [part], poolings, narrator)[part.name]["mean"]
    problem = probe.HeadProblem(subject.kind, labels, classes, seed=config.seed)
    probabilities_NC = np.zeros((len(labels), classes), np.float32)
    squash = sigmoid if subject.kind == "multilabel" else softmax
    with narrator.stage("solve"):
        for train, held in probe.split_folds(problem):
            solved = probe.fit_head(features[train], problem.at(train), probe.USUAL_INVERSE_STRENGTH, True)
            probabilities_NC[held] = squash(solved.logits(features[held]))
    return probabilities_NC


def describe_suspects(subject: Subject, places: Ints, probabilities_NC: Floats, sample: str) -> list[Finding]:
    """The finding about labels that are probably wrong, the surest as examples."""
    view, labels = subject.training, subject.training.labels[places]
    suspects, accuracy = look_through(labels, probabilities_NC, subject.kind)
    found, rows = len(suspects.places), places[suspects.places]
    if not found:
        return []
    shown = rows[:EXAMPLES_SHOWN]
    doubts = [ask(subject, place, better) for place, better in zip(shown, suspects.better.tolist(), strict=False)]
    examples = tuple(
        Example(view.name, number, f"{doubt} {shorten(text)}")
        for number, doubt, text in zip(view.numbers[shown].tolist(), doubts, view.texts(shown), strict=True)
    )
    share, is_several = found / len(places), labels.ndim == 2
    what = "with a label that fits badly, or without one that fits well" if is_several else FITS_WORSE
    return [
        Finding(
            "wrong-labels",
            "warning" if share >= MANY_SHARE and accuracy >= TRUSTED_ACCURACY else "hint",
            f"{count(found, 'row')} ({show_share(share)} of {sample or 'all'}) {what}",
            f"by confident learning: a head on the model's frozen features is right on {accuracy:.0%} of held-out rows,"
            " so some of these labels are wrong and some texts are just hard",
            "look at the examples first, which are the surest; mend the labels that are wrong",
            found,
            {view.name: view.number_rows(rows)},
            examples,
        )
    ]


def look_through(labels: npt.NDArray[np.generic], probabilities_NC: Floats, kind: str) -> tuple[Suspects, float]:
    """The suspects, and the share of rows on which the probabilities agree with all that they are given."""
    if kind == "multilabel":
        marks_NC = labels.astype(np.uint8)
        agree_N = ((probabilities_NC > 0.5) == marks_NC).all(axis=1)
        return find_suspect_marks(probabilities_NC, marks_NC).surer_than(SURE_MARGIN_OF_MARKS), float(agree_N.mean())
    labels_N = labels.astype(np.int64)
    agree_N = probabilities_NC.argmax(axis=1) == labels_N
    return find_suspects(probabilities_NC, labels_N).surer_than(SURE_MARGIN), float(agree_N.mean())


def ask(subject: Subject, place: int, better: int) -> str:
    """What is doubted of the row at `place`: `'fruit', or 'animal'?`, or of several labels `without 'fruit'?`."""
    labels, names = subject.training.labels, subject.names
    if labels.ndim == 2:
        return f"{'without' if labels[place, better] else 'also'} {names[better]!r}?"
    return f"{names[int(labels[place])]!r}, or {names[better]!r}?"
