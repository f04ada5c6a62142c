"""Tables and the lines below them."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from afina.cli.output import print_run, print_table
from afina.summary import choose_metrics
from afina.terminal import align_columns

ROWS = [["majority", "0.25", "-"], ["lora", "0.75 [0.5, 1.0]", "12.5"]]
PLAIN = [
    "                    accuracy   seconds",
    "  majority              0.25         -",
    "  lora       0.75 [0.5, 1.0]      12.5",
]


def test_columns_are_aligned() -> None:
    assert align_columns(["", "accuracy", "seconds"], ROWS) == PLAIN


def test_a_table_has_lines_around_it_in_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_table("scores", ["", "accuracy", "seconds"], ROWS)
    assert capsys.readouterr().out.splitlines() == ["scores", *PLAIN]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_table("scores", ["", "accuracy", "seconds"], ROWS)
    assert "┃" in capsys.readouterr().out


def test_the_main_score_stands_first() -> None:
    scores = {f"test/{name}": 0.5 for name in ("f1_macro", "f1_micro", "subset_accuracy", "loss")}
    assert choose_metrics(scores, "f1_micro") == ["f1_micro", "f1_macro", "subset_accuracy"]
    assert choose_metrics({"test/accuracy": 1, "test/mcc": 1}, "accuracy") == ["accuracy", "mcc"]
    assert choose_metrics({"test/perplexity": 2, "test/loss": 1}, "loss") == ["loss", "perplexity"]


def make_report(kind: str) -> dict[str, Any]:
    baseline = {"metrics": {"test/loss": 2.0}, "intervals": {}, "seconds": None, "note": ""}
    return {
        "kind": kind, "scored": "test", "run": "runs/x", "technique": "lora", "primary_metric": "loss", "intervals": {},
        "metrics": {"test/loss": 1.0, "test/perplexity": 2.7}, "baselines": {"untouched model": baseline},
        "rows": {"parts": {"test": 9}}, "duration_seconds": 3.0, "peak_memory_bytes": 2**30,
        "load": {"layout": "peft", "why": "small"},
    }  # fmt: skip


def test_a_language_model_is_offered_prompts(capsys: pytest.CaptureFixture[str]) -> None:
    print_run(make_report("generation"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["untouched", "model", "2.000", "-", "-"]
    assert lines[3].split() == ["lora", "1.000", "2.700", "3.0"]
    assert lines[-2:] == [
        "use it  afina chat runs/x",
        "use it  afina predict runs/x prompts.jsonl --output answers.jsonl",
    ]
    print_run(make_report("multiclass"))
    assert capsys.readouterr().out.splitlines()[-1] == "use it  afina predict runs/x FILE --output predictions.csv"
