"""The part that a run is judged by: the test part, or the validation part where the test part is to be left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import afina
from afina.data.conversations import ConversationPart
from afina.data.examples import Part
from afina.runs.folder import RunFolder
from afina.runs.listing import list_runs
from afina.runs.names import ROW_SCORES
from afina.runs.row_scores import hash_content, read_row_scores
from afina.testing.data import make_conversations, make_rows

SETTINGS: dict[str, Any] = {"num_train_epochs": 1, "precision": "fp32", "baselines": False, "verbose": False}
OF_LANGUAGE = {"chat_template": "chatml", "generation_samples": 2, "max_new_tokens": 3, "precision": "fp32"}


@pytest.fixture
def closed_test_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a row of the test part is an error."""
    for owner, name in ((Part, "texts"), (ConversationPart, "rows")):
        read = getattr(owner, name)

        def refuse(self: Any, *given: Any, read: Any = read, **named: Any) -> Any:
            assert self.name != "test", "the test part was read"
            return read(self, *given, **named)

        monkeypatch.setattr(owner, name, refuse)


@pytest.mark.parametrize("technique", ["lora", "feature-extraction"])
@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_row_scores_are_the_scores_row_by_row(
    technique: str, kind: Any, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = make_rows(kind, 60)
    run = afina.fit(tiny_models("bert"), rows, technique, output=tmp_path / "run", **SETTINGS)
    for part in ("validation", "test"):
        lines = list(read_row_scores(RunFolder(run.path), part).values())
        assert len(lines) == run.report["rows"]["parts"][part]
        for line in lines:
            expected = rows[line["row"] - 1]["label"]
            assert line["label"] == (pytest.approx(expected) if kind == "regression" else expected)
        if kind == "regression":
            errors = np.asarray([line["prediction"] - line["label"] for line in lines])
            assert np.sqrt((errors**2).mean()) == pytest.approx(run.metrics[f"{part}/rmse"], rel=1e-6)
            continue
        assert np.mean([line["loss"] for line in lines]) == pytest.approx(run.metrics[f"{part}/loss"], rel=1e-6)
        right = np.mean([line["prediction"] == line["label"] for line in lines])
        name = "accuracy" if kind == "multiclass" else "subset_accuracy"
        assert right == pytest.approx(run.metrics[f"{part}/{name}"])


def test_row_scores_of_a_language_model(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows = make_conversations("messages", 30)
    run = afina.fit(tiny_models("llama"), rows, "lora", output=tmp_path / "run", **SETTINGS | OF_LANGUAGE)
    for part in ("validation", "test"):
        lines = list(read_row_scores(RunFolder(run.path), part).values())
        assert len(lines) == run.report["rows"]["parts"][part]
        loss = sum(line["loss"] for line in lines) / sum(line["tokens"] for line in lines)
        assert loss == pytest.approx(run.metrics[f"{part}/loss"])
        assert all(0 <= line["correct"] <= line["tokens"] for line in lines)


@pytest.mark.usefixtures("closed_test_part")
@pytest.mark.parametrize("technique", ["lora", "full", "feature-extraction"])
def test_the_test_part_is_left_alone(technique: str, tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows = make_rows("multiclass", 60)
    settings = SETTINGS | {"baselines": True, "score_test": False}
    run = afina.fit(tiny_models("bert"), rows, technique, output=tmp_path / "runs" / "run", **settings)
    check_left_alone(run)
    assert {key.partition("/")[0] for each in run.baselines.values() for key in each["metrics"]} == {"validation"}
    (listed,) = list_runs(tmp_path / "runs")
    assert (listed["metric"], listed["score"]) == ("validation/accuracy", run.metrics["validation/accuracy"])
    assert f"validation/accuracy={run.metrics['validation/accuracy']:.4f}" in repr(run)


@pytest.mark.usefixtures("closed_test_part")
def test_the_test_part_of_a_language_model_is_left_alone(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows = make_conversations("messages", 30)
    settings = SETTINGS | OF_LANGUAGE | {"score_test": False}
    check_left_alone(afina.fit(tiny_models("llama"), rows, "lora", output=tmp_path / "run", **settings))


def check_left_alone(run: afina.Run) -> None:
    """All scores, intervals and rows are those of the validation part, and the pages say so."""
    assert run.report["scored"] == "validation"
    scores = run.metrics.keys() - {"train/skipped_steps"}
    assert {key.partition("/")[0] for key in [*scores, *run.intervals]} == {"validation"}
    assert run.intervals
    assert set(run.report["rows"]["parts"]) == {"train", "validation", "test"}
    assert read_row_scores(RunFolder(run.path), "test") == {}
    page, card = ((run.path / name).read_text(encoding="utf-8") for name in ("report.html", "README.md"))
    assert "Scores on the validation rows" in page
    assert "validation rows, which also chose the checkpoint" in page
    assert "validation rows, which also chose the checkpoint" in card
    assert "that training never saw" not in card


def test_equal_rows_are_told_apart_and_damage_is_said(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert read_row_scores(folder, "test") == {}
    key = hash_content(["a text", "music"])
    assert len(key) == 16
    assert key != hash_content(["a text", "kitchen"])
    lines = [{"part": "test", "row": row, "key": key} for row in (3, 8)]
    (tmp_path / ROW_SCORES).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    assert [(found, line["row"]) for found, line in read_row_scores(folder, "test").items()] == [
        ((key, 0), 3),
        ((key, 1), 8),
    ]
    (tmp_path / ROW_SCORES).write_text('{"part": "te', encoding="utf-8")
    with pytest.raises(afina.RunFolderError) as caught:
        read_row_scores(folder, "test")
    assert str(caught.value) == (
        f"{tmp_path / ROW_SCORES} is damaged\n  expected: one JSON object a line\n"
        f"  do: train again from {tmp_path / 'config.yaml'}"
    )
