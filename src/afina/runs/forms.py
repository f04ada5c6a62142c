"""The forms of the JSON files of a run, which are read as what anybody may have written: runs are handed on.

Only what is read again is looked at. Types are as written: no text becomes a number. Keys that a later version adds
don't disturb.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from afina.config.techniques import ChosenTechnique
from afina.errors import RunFolderError
from afina.metrics.primary import PRIMARY_METRICS

DEEPEST = 50
"""Values inside values; what a run writes has less than ten such levels."""
LONGEST_FOUND = 200

Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]
Score = Annotated[float, Field(allow_inf_nan=False)]
Scores = dict[str, float]
"""By name. One that is undefined, as a correlation with what doesn't vary, isn't among them."""
Intervals = dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]]


class Form(BaseModel):
    """What a file, or a part of it, must hold."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Reason(Form):
    setting: str
    value: Any
    reason: str


class _Reference(Form):
    reference: str


class _Parts(Form):
    validation: Count
    test: Count


class _Rows(Form):
    parts: _Parts


class _Baseline(Form):
    metrics: Scores
    intervals: Intervals
    gain: Intervals = {}
    seconds: Seconds | None


class _Loading(Form):
    layout: str
    why: str


class _Bytes(Form):
    total: Seconds | Count


class _Time(Form):
    total: Seconds


class _Prediction(Form):
    memory_bytes: _Bytes
    seconds: _Time | None


class _Report(Form):
    run: str
    task: str
    kind: Literal["multiclass", "multilabel", "regression", "generation", "entities", "tags"]
    technique: str
    model: _Reference
    scored: Literal["test", "validation"]
    primary_metric: str
    metrics: Scores
    intervals: Intervals
    baselines: dict[str, _Baseline]
    reasons: list[_Reason]
    notes: list[str]
    rows: _Rows
    kept_step: Count | None
    trainable_parameters: Count
    total_parameters: Count
    duration_seconds: Seconds
    peak_memory_bytes: Count
    prediction: _Prediction | None = None
    load: _Loading
    settings: dict[str, Any]

    @model_validator(mode="after")
    def _check_scores(self) -> Self:
        """The main score must be there."""
        if self.primary_metric != PRIMARY_METRICS[self.kind]:
            raise ValueError(f"primary_metric is {self.primary_metric}, which isn't that of {self.kind}")
        if f"{self.scored}/{self.primary_metric}" not in self.metrics:
            raise ValueError(f"metrics has no {self.scored}/{self.primary_metric}")
        return self


class _Data(Form):
    hash: str


class _Choice(Form):
    technique: ChosenTechnique
    reason: str
    otherwise: list[str]
    kept: ChosenTechnique | None
    why_kept: str = ""


class _Origin(Form):
    model: str
    versions: dict[str, str]
    machine: dict[str, str | int]
    settings: list[dict[str, Any]] = Field(default_factory=list)


class _Status(Form):
    state: str
    updated_at: str
    host: str
    pid: Annotated[int, Field(ge=0, lt=2**31)]
    step: Count = 0
    total_steps: Count = 0


class _TokenCounts(Form):
    row_numbers_N: list[Count]
    losses_N: list[float]
    correct_N: list[Count]
    tokens_N: list[Count]

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        """All are of the same rows."""
        if not len(self.row_numbers_N) == len(self.losses_N) == len(self.correct_N) == len(self.tokens_N):
            raise ValueError("counts are of different numbers of rows")
        return self


class _Base(Form):
    counts: _TokenCounts
    general_loss: float | None
    answers: list[str]


class _Trial(Form):
    trial: Count
    search: str
    place: Count
    state: Literal["running", "finished", "stopped", "failed", "short", "skipped"]
    why: str
    technique: str
    settings: dict[str, Any]
    score: Score | None
    seconds: Seconds


class _Plan(Form):
    config: dict[str, Any]
    given: list[str]
    budget_seconds: Seconds
    techniques: list[str]
    metric: str
    most_trials: Count
    storage: str
    key: str


class _Chosen(Form):
    trial: Count
    run: str


class _Search(Form):
    state: Literal["finished", "unfinished"]
    kind: str
    data_hash: str
    used_seconds: Seconds
    plan: _Plan
    trials: list[_Trial]
    winner: _Chosen | None
    best: _Chosen | None

    @model_validator(mode="after")
    def check_end(self) -> Self:
        """A finished search names its result."""
        if self.state == "finished" and (self.best is None or self.winner is None):
            raise ValueError("a finished search without its best trial")
        return self


FORMS: Mapping[str, TypeAdapter[Any]] = {
    f"{name}.json": TypeAdapter(form)
    for name, form in (
        ("report", _Report), ("data", _Data), ("choice", _Choice), ("origin", _Origin), ("status", _Status),
        ("base", _Base), ("search", _Search),
    )
}  # fmt: skip


def parse_file(name: str, text: str, path: str) -> dict[str, Any]:
    """What a JSON file of a run holds, known to have the form of its name where there is one.

    Raises:
        ValueError, RecursionError: if it is no JSON.
        RunFolderError: with the first place that doesn't fit.
    """
    found = json.loads(text)
    if not isinstance(found, dict):
        raise RunFolderError(f"{path} is not what a run writes", expected="a JSON object")
    if measure_depth(found) > DEEPEST:
        raise refuse(path, "values nested too deeply")
    if "\\u" in text and has_half_characters(found):
        raise refuse(path, "half of a character, such as \\ud800 alone")
    if name in FORMS:
        check_form(FORMS[name], found, path)
    return found


def check_form(form: TypeAdapter[Any], stored: Mapping[str, Any], path: str) -> None:
    """Refuse what no run has written.

    Raises:
        RunFolderError: with the first place that doesn't fit.
    """
    try:
        form.validate_python(stored)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        words = first["msg"].removeprefix("Value error, ")
        raise refuse(path, words if first["type"] == "value_error" else f"{place}: {words}") from None


def refuse(path: str, found: str) -> RunFolderError:
    """The error for a file that no run has written."""
    return RunFolderError(
        f"{path} is not what a run writes", found=found[:LONGEST_FOUND], remedy="copy the folder of the run again"
    )


def measure_depth(tree: Any) -> int:
    """How many mappings and lists are inside each other at the most, the outermost being 1; at most `DEEPEST` + 1."""
    level, depth = [tree], 0
    while level and depth <= DEEPEST:
        depth += 1
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
    return depth


def has_half_characters(tree: Any) -> bool:
    """Whether some text holds half of a pair of surrogates, which can't be printed or written."""
    try:
        json.dumps(tree, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
