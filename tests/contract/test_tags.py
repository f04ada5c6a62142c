"""One table: every technique on every form of tagged rows, and every technique on families of both kinds.

Each cell trains for real, and its result is checked the same way; no cell refuses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import afina
from afina.techniques.registry import TECHNIQUES
from afina.testing.data import TaggedForm, make_tagged

ROWS = 32
FORMS: tuple[TaggedForm, ...] = ("words", "plain", "spans")
FAMILIES = ("modernbert", "roberta", "llama")
SETTINGS: dict[str, Any] = {
    "num_train_epochs": 1, "folds": 2, "logging_steps": 1, "precision": "fp32", "bootstrap_resamples": 20,
    "verbose": False,
}  # fmt: skip


def test_the_table_is_whole() -> None:
    assert all("token-classification" in technique.tasks for technique in TECHNIQUES.values())
    assert len(TECHNIQUES) == 4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("technique", list(TECHNIQUES))
def test_technique_learns_form(
    technique: str, form: TaggedForm, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = make_tagged(form, ROWS)
    # So short that some rows are read in windows.
    run = afina.fit(tiny_models("bert"), rows, technique, output=tmp_path / "run", max_seq_length=20, **SETTINGS)
    check_run(run, form)
    check_predictions(run, rows, form)
    assert "are read in windows that overlap" in " ".join(run.report["notes"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("technique", list(TECHNIQUES))
def test_technique_takes_family(
    technique: str, family: str, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = make_tagged("words", 20)
    settings = {**SETTINGS, "head_init": "random", "baselines": False}
    run = afina.fit(tiny_models(family), rows, technique, output=tmp_path / "run", **settings)
    check_run(run, "words")


def check_run(run: afina.Run, form: TaggedForm) -> None:
    """What holds for the result of every cell."""
    primary = "accuracy" if form == "plain" else "f1"
    assert run.report["task"] == "token-classification"
    assert (run.report["primary_metric"], run.report["kind"]) == (primary, "tags" if form == "plain" else "entities")
    names = {"accuracy", "f1_macro"} if form == "plain" else {"f1", "precision", "recall", "accuracy"}
    assert {f"test/{name}" for name in (*names, "loss")} <= set(run.metrics)
    assert all(math.isfinite(value) for value in run.metrics.values())
    assert set(run.intervals) == {f"test/{name}" for name in names}
    moved, total = run.report["trainable_parameters"], run.report["total_parameters"]
    assert (moved == total) is (run.technique == "full")
    proof = run.report["proof"]
    assert proof["rows"] == run.report["rows"]["parts"]["test"]
    assert proof["largest_difference"] <= proof["tolerance"]
    assert proof["scored_difference"] <= proof["scored_tolerance"]
    config = json.loads((run.model / "config.json").read_text(encoding="utf-8"))
    types = {name.removeprefix("B-").removeprefix("I-") for name in config["id2label"].values()} - {"O"}
    assert {row["name"] for row in run.report["per_class"]} == types
    page = (run.path / "report.html").read_text(encoding="utf-8")
    assert ("Class by class" if form == "plain" else "Type by type") in page
    assert "pipeline_tag: token-classification" in (run.path / "README.md").read_text(encoding="utf-8")
    if run.technique in ("feature-extraction", "full"):
        assert "ForTokenClassification" in config["architectures"][0]
        assert "AutoModelForTokenClassification" in run.report["load"]["code"]


def check_predictions(run: afina.Run, rows: list[dict[str, Any]], form: TaggedForm) -> None:
    """Every word has one tag, and the run loaded again says of its test rows what it said before."""
    stored = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(stored) == run.report["rows"]["parts"]["test"]
    cells = [row["text" if form == "spans" else "tokens"] for row in rows]
    predictions = afina.load(run.path).predict(cells)
    words = [cell.split() if isinstance(cell, str) else cell for cell in cells]
    assert [len(tags) for tags in predictions] == [len(row) for row in words]
    for line in stored:
        for tag, old, sure in zip(predictions[line["row"] - 1], line["prediction"], line["probabilities"], strict=True):
            assert tag == old or sure < 0.51, "another batch may round a close call otherwise"
