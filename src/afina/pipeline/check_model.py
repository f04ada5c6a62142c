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
from afina.data.doctor.finding import Finding, show_share
from afina.data.doctor.lengths import summarise, tabulate_cuts
from afina.data.doctor.subject import Subject, View
from afina.data.examples import Part
from afina.models.inspect import inspect_model
from afina.models.resolve import resolve_model
from afina.pipeline.check_labels import LABELS_OF_HEADS, cross_predict, describe_suspects
from afina.pipeline.narrator import Narrator
from afina.pipeline.readiness import make_sizes
from afina.wording import count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from afina.data.encode import TokenArrays

Ints = npt.NDArray[np.int64]

ROWS_LOOKED_AT = 5000
ROWS_LEAST = 50
WHOLE_TOKENS = 10**9
CUT_SHARE, MANY_SHARE, KEPT_SHARE = 0.01, 0.05, 0.99


@dataclass(frozen=True)
class ModelView:
    """What was learned with the help of a model."""

    findings: Sequence[Finding]
    facts: dict[str, Any]
    reasons: Sequence[Reason] = ()
    mask: Sequence[dict[str, Any]] = ()


def look_at_labelled(config: RunConfig, subject: Subject, work: Path, narrator: Narrator) -> ModelView:
    """Lengths in tokens, and suspicious labels, of a seeded sample of the training rows."""
    from afina.models.load import load_tokenizer

    base = resolve_model(str(config.model.reference), config.model.revision)
    facts = inspect_model(base, "sequence-classification")
    reason = choose_max_seq_length(config, make_sizes(len(subject.training), facts, subject.space))
    limit = int(reason.value)
    places = choose_rows(len(subject.training), config.seed)
    sample = f"a sample of {count(len(places), 'row')}" if len(places) < len(subject.training) else ""
    with narrator.stage("tokenise"):
        tokenizer = load_tokenizer(base)
        lengths_N = encode_rows(tokenizer, subject.training, places, WHOLE_TOKENS, work / "whole").lengths
    findings = describe_cuts(lengths_N, limit, facts.max_positions, sample)
    tokens = {"quantiles": summarise(lengths_N), "cuts": tabulate_cuts(lengths_N), "sample": sample}
    if subject.kind in LABELS_OF_HEADS and len(places) >= ROWS_LEAST:
        cut = encode_rows(tokenizer, subject.training, places, limit, work / "cut")
        config = config.model_copy(update={"model": config.model.model_copy(update={"max_seq_length": limit})})
        probabilities_NC = cross_predict(config, facts, tokenizer, cut, subject, places, narrator)
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
