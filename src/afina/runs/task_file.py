"""task.json: all that using a finished run needs beside the model's folder.

It is read as what anybody may have written: runs are handed on.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Discriminator, Field, TypeAdapter, model_validator

from afina.data.labels import LabelKind
from afina.runs.forms import Form, check_form

Token = Annotated[int, Field(ge=0, lt=2**31)]
MOST_SAMPLED = 65_536
"""Tokens of a held-out row that a run keeps for the proof of a merged model."""


class _Stored(Form):
    model_config = ConfigDict(allow_inf_nan=False)


class _Base(_Stored):
    reference: str
    revision: str | None
    weights: str | None = None


class _Labels(_Stored):
    kind: LabelKind
    names: list[str]
    separator: str | None = None
    values: Literal["text", "numbers", "booleans"] = "text"


class _Fit(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    class_weights: list[float] = []
    target_mean: float = 0.0
    target_scale: float = 1.0
    thresholds: list[float] = []


class _Columns(_Stored):
    text: str
    text_pair: str | None
    label: str | None


class _Task(_Stored):
    base: _Base
    files: dict[str, int] = Field(default_factory=dict)
    checksums: dict[str, int] = Field(default_factory=dict)


class _Labelled(_Task):
    task: Literal["text-classification", "text-regression", "token-classification"]
    labels: _Labels
    fit: _Fit
    columns: _Columns


class _Generation(_Task):
    task: Literal["text-generation"]
    form: Literal["messages", "completion", "instruction", "text"]
    columns: dict[str, str]
    has_template: bool
    stop_tokens: list[Token]
    sample: list[Annotated[list[Token], Field(min_length=1, max_length=MOST_SAMPLED)]] = Field(default_factory=list)

    @model_validator(mode="after")
    def check_columns(self) -> Self:
        """A column that asks is named."""
        if self.columns.keys().isdisjoint(("messages", "prompt", "instruction", "text")):
            raise ValueError("no column of prompts")
        return self


_TASK: TypeAdapter[_Labelled | _Generation] = TypeAdapter(Annotated[_Labelled | _Generation, Discriminator("task")])


def check_task(stored: dict[str, Any], name: str) -> None:
    """Refuse what no run has written.

    Raises:
        RunFolderError: with the first place that doesn't fit.
    """
    check_form(_TASK, stored, name)
