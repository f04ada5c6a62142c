"""Files of a run are taken as a run writes them; what anybody else has written is refused by file and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from afina.errors import RunFolderError
from afina.runs.folder import RunFolder
from afina.runs.search_folder import open_search
from afina.runs.status import read_state

REPORT: dict[str, Any] = {
    "run": "runs/a", "task": "text-classification", "kind": "multiclass", "technique": "lora", "scored": "test",
    "model": {"reference": "bert"}, "primary_metric": "accuracy", "metrics": {"test/accuracy": 0.5},
    "intervals": {"test/accuracy": [0.4, 0.6]}, "reasons": [{"setting": "a", "value": 1, "reason": "b"}], "notes": [],
    "baselines": {"majority": {"metrics": {"test/accuracy": 0.1}, "intervals": {}, "seconds": 0.1, "note": ""}},
    "rows": {"parts": {"train": 7, "validation": 1, "test": 2}}, "kept_step": 3, "trainable_parameters": 1,
    "total_parameters": 2, "duration_seconds": 1.5, "peak_memory_bytes": 100, "settings": {"seed": 1},
    "load": {"layout": "peft", "why": "small"}, "prediction": {"memory_bytes": {"total": 5}, "seconds": None},
}  # fmt: skip
CHOICE: dict[str, Any] = {"technique": "full", "reason": "a", "otherwise": ["b"], "kept": None}
ORIGIN: dict[str, Any] = {"model": "ab", "versions": {"torch": "2"}, "machine": {"threads": 1, "cpu": "x"}}
BASE: dict[str, Any] = {
    "counts": {"row_numbers_N": [4, 9], "losses_N": [0.5, 1], "correct_N": [1, 2], "tokens_N": [3, 4]},
    "general_loss": None, "answers": ["a"],
}  # fmt: skip
KINDS = [
    {"kind": "regression", "primary_metric": "rmse", "metrics": {"test/rmse": 1, "test/r2": float("nan")}},
    {"kind": "generation", "primary_metric": "loss", "metrics": {"validation/loss": 2.0}, "scored": "validation"},
    {"later": {"a": ["key of a later version"]}, "prediction": None},
]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("report.json", REPORT), *(("report.json", REPORT | kind) for kind in KINDS), ("choice.json", CHOICE),
        ("origin.json", ORIGIN), ("base.json", BASE), ("data.json", {"hash": "ab"}), ("reasons.json", {"any": "key"}),
    ],
)  # fmt: skip
def test_what_a_run_writes_is_taken(name: str, content: dict[str, Any], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_json(name, content)
    assert json.dumps(folder.read_json(name)) == json.dumps(content)


def nest(levels: int) -> Any:
    return [] if not levels else [nest(levels - 1)]


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("report.json", {}, "run: Field required"),
        ("report.json", REPORT | {"metrics": {"test/accuracy": "0.5"}},
         "metrics.test/accuracy: Input should be a valid number"),
        ("report.json", REPORT | {"metrics": {"test/loss": 0.5}}, "metrics has no test/accuracy"),
        ("report.json", REPORT | {"primary_metric": "rmse"}, "primary_metric is rmse, which isn't that of multiclass"),
        ("report.json", REPORT | {"intervals": {"test/accuracy": [0.5]}},
         "intervals.test/accuracy: List should have at least 2 items after validation, not 1"),
        ("report.json", REPORT | {"duration_seconds": float("nan")},
         "duration_seconds: Input should be a finite number"),
        ("report.json", REPORT | {"peak_memory_bytes": 10**400}, "peak_memory_bytes: Input should be less than "
         "9223372036854775808"),
        ("report.json", REPORT | {"peak_memory_bytes": -1},
         "peak_memory_bytes: Input should be greater than or equal to 0"),
        ("report.json", REPORT | {"trainable_parameters": True},
         "trainable_parameters: Input should be a valid integer"),
        ("report.json", REPORT | {"settings": {"a": nest(60)}}, "values nested too deeply"),
        ("report.json", REPORT | {"run": "\ud800"}, "half of a character, such as \\ud800 alone"),
        ("report.json", REPORT | {"baselines": {"a": []}},
         "baselines.a: Input should be a valid dictionary or instance of _Baseline"),
        ("data.json", {"hash": 5}, "hash: Input should be a valid string"),
        ("choice.json", CHOICE | {"technique": "auto"},
         "technique: Input should be 'full', 'feature-extraction', 'lora' or 'qlora'"),
        ("origin.json", ORIGIN | {"versions": ["torch"]}, "versions: Input should be a valid dictionary"),
        ("base.json", BASE | {"counts": BASE["counts"] | {"tokens_N": [3]}},
         "counts are of different numbers of rows"),
        ("reasons.json", {"a": nest(60)}, "values nested too deeply"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(name: str, content: dict[str, Any], found: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(RunFolderError) as caught:
        RunFolder(tmp_path).read_json(name)
    assert str(caught.value) == (
        f"{tmp_path / name} is not what a run writes\n  found: {found}\n  do: copy the folder of the run again"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"pid": 10**30}, {"pid": "1"}, {"host": 5}, {"updated_at": "yesterday"}, {"updated_at": "0001-01-01T00:00"},
        {"step": -1}, {"total_steps": "\x1b[2J"}, {"state": None},
    ],
)  # fmt: skip
def test_a_status_that_no_run_has_written_tells_nothing(changes: dict[str, Any], tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    status = {"state": "failed", "updated_at": "2026-01-01T00:00:00+00:00", "host": "here", "pid": 1, "step": 3}
    folder.write_json("status.json", status)
    assert read_state(folder) == {"state": "failed", "step": 3}
    folder.write_json("status.json", status | {"state": "training"} | changes)
    assert read_state(folder)["state"] in ("unfinished", "dead")


def test_a_finished_run_has_nothing_left_to_choose(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.config.write_text(
        "technique: full\nmodel: {reference: bert, max_seq_length: 64}\nevaluation: {eval_tokens_per_batch: 99}\n"
    )
    assert folder.read_config().model.max_seq_length == 64
    folder.config.write_text("technique: full\nmodel: {reference: bert}\n")
    with pytest.raises(RunFolderError) as caught:
        folder.read_config()
    assert str(caught.value) == (
        f"{folder.config} is not that of a finished run\n  found: technique: full, model.max_seq_length: auto,"
        " evaluation.eval_tokens_per_batch: auto\n"
        "  expected: what the run has chosen instead of auto\n  do: copy the folder of the run again"
    )


SEARCH_TRIAL = {
    "trial": 0, "search": "k", "place": 0, "asked": "lora", "technique": "lora", "settings": {}, "state": "finished",
    "why": "", "epochs": 1, "score": 0.5, "seconds": 1.0, "train_seconds": 1.0, "run": "r", "host": "h",
}  # fmt: skip
SEARCH_PLAN = {
    "config": {}, "given": [], "budget_seconds": 9.0, "techniques": ["lora"], "metric": "f1", "most_trials": 0,
    "storage": "", "key": "k",
}  # fmt: skip
SEARCH_FILE: dict[str, Any] = {
    "state": "unfinished", "kind": "multiclass", "data_hash": "d", "used_seconds": 1.5, "plan": SEARCH_PLAN,
    "trials": [SEARCH_TRIAL], "intervals": {}, "verdict": None, "winner": None, "best": None, "test": {},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, ""),
        ({"state": "finished"}, "a finished search without its best trial"),
        ({"used_seconds": "x"}, "used_seconds: Input should be a valid number"),
        ({"used_seconds": float("nan")}, "used_seconds: Input should be "),
        ({"plan": {}}, "plan.config: Field required"),
        ({"plan": None}, "plan: Input should be "),
        ({"plan": SEARCH_PLAN | {"budget_seconds": None}}, "plan.budget_seconds: Input should be a valid number"),
        ({"trials": "x"}, "trials: Input should be a valid list"),
        ({"trials": [1]}, "trials.0: Input should be "),
        ({"trials": [{}]}, "trials.0.trial: Field required"),
        ({"trials": [SEARCH_TRIAL | {"score": "x"}]}, "trials.0.score: Input should be a valid number"),
        ({"trials": [SEARCH_TRIAL | {"state": "x"}]}, "trials.0.state: Input should be "),
    ],
)
def test_a_search_that_no_search_has_written_is_refused(changes: dict[str, Any], found: str, tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text(json.dumps(SEARCH_FILE | changes), encoding="utf-8")
    if not found:
        assert open_search(tmp_path).read() == SEARCH_FILE
        return
    with pytest.raises(RunFolderError, match=r"search\.json is not what a run writes") as caught:
        open_search(tmp_path).read()
    assert caught.value.problems[0].found.startswith(found)
