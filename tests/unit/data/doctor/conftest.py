"""Findings of small hand-made data, by their code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import afina
from afina.data.doctor.finding import Finding

Find = Callable[..., dict[str, Finding]]


@pytest.fixture
def find() -> Find:
    """`find(rows, **settings)`: the findings about rows, by code; the first of a code counts."""

    def look(data: Any, **settings: Any) -> dict[str, Finding]:
        findings = afina.check(data, **settings).findings
        return {finding.code: finding for finding in reversed(findings)}

    return look


def make_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows of two classes with nothing wrong about them."""
    openings = (
        "the quick brown fox",
        "a lazy old dog",
        "some green parrots",
        "my neighbour's cats",
        "three white mice",
    )
    return [
        {"text": f"{openings[i % 5]} jumped over fence number {i * i + 7}", "label": ("neg", "pos")[i % 2]}
        for i in range(start, start + count)
    ]


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    """Forty rows with nothing wrong about them."""
    return make_rows(40)
