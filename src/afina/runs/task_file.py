"""task.json: all that using a finished run needs beside the model's folder.

It is read as what anybody may have written: runs are handed on.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, TypeAdapter

from afina.data.labels import LabelKind
from afina.runs.forms import Form, check_form


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
    stop_tokens: list[int]
    sample: list[list[int]] = Field(default_factory=list)


_TASK: TypeAdapter[_Labelled | _Generation] = TypeAdapter(Annotated[_Labelled | _Generation, Discriminator("task")])


def check_task(stored: dict[str, Any], name: str) -> None:
    """Refuse what no run has written.

    Raises:
        RunFolderError: with the first place that doesn't fit.
    """
    check_form(_TASK, stored, name)
