"""Tables and the lines below them."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from afina.cli.output import print_run, print_table
from afina.summary import choose_metrics, format_score
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


@pytest.mark.parametrize(
    ("score", "bounds", "shown"),
    [
        (0.887, (0.8651, 0.9), "0.887 [0.865, 0.900]"),
        (0.0, (0.0, 0.0), "0.000 [0.000, 0.000]"),
        (3.21e-9, (2e-9, 4e-9), "3.21e-09 [2e-09, 4e-09]"),
        (2980224737.4, (), "2.98e+09"),
        (21234.5, (), "21234.500"),
        (-0.01, (-0.2, 0.1), "-0.010 [-0.200, 0.100]"),
    ],
)
def test_scores_are_shown_with_digits_that_say_something(score: float, bounds: Any, shown: str) -> None:
    assert format_score({"test/rmse": score}, {"test/rmse": bounds} if bounds else {}, "test/rmse") == shown


def test_shares_keep_their_three_decimals() -> None:
    scores, bounds = {"test/f1_macro": 0.00312}, {"test/f1_macro": (0.002, 0.005)}
    assert format_score(scores, bounds, "test/f1_macro") == "0.003 [0.002, 0.005]"
