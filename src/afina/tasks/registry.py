"""The tasks by name."""

from __future__ import annotations

from collections.abc import Callable

from afina.data.labels import LabelSpace
from afina.tasks.base import Task
from afina.tasks.text_classification import TextClassification
from afina.tasks.text_regression import TextRegression
from afina.tasks.token_classification import TokenClassification

TASKS: dict[str, Callable[[LabelSpace], Task]] = {
    TextClassification.name: TextClassification,
    TextRegression.name: TextRegression,
    TokenClassification.name: TokenClassification,
}


def make_task(name: str, labels: LabelSpace) -> Task:
    """The task called `name` over these labels."""
    return TASKS[name](labels)
