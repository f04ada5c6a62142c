"""How the next token is chosen: the likeliest one, or one drawn with a seed.

A drawn token is the likeliest one after Gumbel noise was added to the logits, which draws from their softmax (Maddison,
Tarlow & Minka, "A* Sampling", 2014). Each prompt has noise of its own, so its answer doesn't depend on the prompts that
share its batch.

Letters: B prompts of a batch, V tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from afina.errors import ConfigError, Problem
from afina.training.seed import derive_seed

if TYPE_CHECKING:
    import torch

MAX_NEW_TOKENS = 256


def is_whole(value: Any) -> bool:
    """Whether it is a whole number; True is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_within(value: Any, low: float, high: float) -> bool:
    """Whether it isn't given, or is a number between two others."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high)


@dataclass(frozen=True)
class Decoding:
    """What decides an answer beside the model and the prompt; the names are those of transformers.

    ConfigError for values out of range, all at once.
    """

    max_new_tokens: int = MAX_NEW_TOKENS
    """Tokens of an answer at most."""
    temperature: float | None = None
    """By what the logits are divided before a token is drawn. 0, or neither this nor `top_p`: the likeliest token."""
    top_p: float | None = None
    """Share of the probability that the likeliest tokens, from which one is drawn, have together."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        checks = (
            (
                "max_new_tokens",
                is_whole(self.max_new_tokens) and self.max_new_tokens >= 1,
                "a whole number from 1",
                "256",
            ),
            ("temperature", is_within(self.temperature, 0, 100), "a number from 0 to 100", "0.7"),
            ("top_p", is_within(self.top_p, 0, 1) and self.top_p != 0, "a number above 0, at most 1", "0.9"),
            ("seed", is_whole(self.seed), "a whole number", "0"),
        )
        problems = [
            Problem(f"{name} can't be used", repr(getattr(self, name)), expected, f"{name}={usual}")
            for name, is_right, expected, usual in checks
            if not is_right
        ]
        if problems:
            raise ConfigError(problems=problems)

    @property
    def draws(self) -> bool:
        """Whether tokens are drawn."""
        return self.temperature != 0 and not (self.temperature is None and self.top_p is None)

    def list_processors(self, numbers: Sequence[int], device: torch.device) -> list[Any]:
        """What `generate` does to the logits of the prompts with these numbers before the likeliest token wins."""
        if not self.draws:
            return []
        from transformers import TemperatureLogitsWarper, TopPLogitsWarper

        processors: list[Any] = [] if self.temperature is None else [TemperatureLogitsWarper(float(self.temperature))]
        if self.top_p is not None:
            processors.append(TopPLogitsWarper(self.top_p))
        return [*processors, GumbelNoise(self.seed, numbers, device)]


class GumbelNoise:
    """Adds noise to the logits, by a generator of its own for each prompt."""

    def __init__(self, seed: int, numbers: Sequence[int], device: torch.device) -> None:
        import torch

        self.generators = [
            torch.Generator(device).manual_seed(derive_seed(seed, "answer", number)) for number in numbers
        ]

    def __call__(self, input_ids: torch.Tensor, scores_BV: torch.Tensor) -> torch.Tensor:
        """The noisy logits of shape (B, V)."""
        import torch

        exponential_BV = torch.stack(
            [
                torch.empty_like(scores_V).exponential_(generator=generator)
                for scores_V, generator in zip(scores_BV, self.generators, strict=True)
            ]
        )
        return scores_BV - exponential_BV.log()
