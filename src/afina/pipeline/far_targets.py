"""Numbers to predict that lie far from 0 for how they vary, such as years, under a head without bias, as decoders have.

Such a head gives the mean by its weights alone. Features vary by some percent from text to text, and so does what
stands for the mean: by more than the numbers themselves. Letters: N rows.
"""

from __future__ import annotations

from dataclasses import replace

from afina.config.reason import Reason
from afina.config.run import RunConfig
from afina.config.techniques import POOLING_READERS
from afina.errors import ConfigError
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared

# Standard deviations that the mean may be away from 0. A tiny Qwen3 learns targets of 90 and 3 worse than their mean
# is, at 10 the start is wrong by about half a standard deviation, which training mends.
FAR = 10.0


class FarTargetsError(ConfigError):
    """An adapter for such numbers. A search goes on with other techniques."""


def describe_far_targets(prepared: Prepared) -> str:
    """The mean and the deviation of the training targets where they are too far away for the model's own head; empty
    where they aren't."""
    if prepared.task.labels.kind != "regression" or prepared.facts.architecture != "decoder":
        return ""
    labels_N = prepared.parts["train"].labels
    mean, deviation = float(labels_N.mean()), float(labels_N.std())
    return f"mean {mean:.4g}, standard deviation {deviation:.4g}" if abs(mean) > FAR * deviation > 0 else ""


def hold_far_targets(prepared: Prepared, narrator: Narrator) -> Prepared:
    """The run with a head that has a bias, where the targets need one and its technique moves the whole model.

    Raises:
        FarTargetsError: for an adapter, whose head is the architecture's own.
    """
    found = describe_far_targets(prepared)
    if (
        not found
        or prepared.config.features.pooling not in ("auto", "own")
        or prepared.technique.traits.moves == "head"
    ):
        return prepared
    if prepared.technique.name not in POOLING_READERS:
        raise FarTargetsError(
            "the numbers lie too far from 0 for the model's own head, which has no bias, and an adapter has no other",
            found=found, expected=f"a mean within {FAR:g} standard deviations of 0",
            remedy="--technique full or feature-extraction, or a column of these numbers less their mean",
        )  # fmt: skip
    narrator.explain(
        Reason(
            "features.pooling", "last", f"the numbers lie far from 0 ({found}), and the model's own head has no bias"
        )
    )
    config = take_last(prepared.config)
    return replace(prepared, config=config, setup=replace(prepared.setup, config=config))


def take_last(config: RunConfig) -> RunConfig:
    """The description with a head of its own on the last token, which is what a decoder's reads too."""
    return config.model_copy(update={"features": config.features.model_copy(update={"pooling": "last"})})
