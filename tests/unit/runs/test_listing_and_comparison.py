"""Runs side by side: newest first, and only scores that mean the same are compared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from afina.config.load import flatten_settings
from afina.errors import ConfigError, RunFolderError
from afina.runs.comparison import compare_runs
from afina.runs.folder import RunFolder
from afina.runs.listing import list_runs


def make_run(path: Path, score: float = 0.9, age_seconds: int = 0, finished: bool = True, **changes: Any) -> RunFolder:
    path.mkdir()
    run = RunFolder(path)
    run.config.write_text("technique: lora\nmodel:\n  reference: bert\n")
    os.utime(run.config, (1e9 - age_seconds, 1e9 - age_seconds))
    run.write_json("data.json", {"hash": changes.pop("hash", "a" * 64)})
    report = {
        "run": str(path), "task": "text-classification", "kind": "multiclass", "technique": "lora",
        "primary_metric": "accuracy", "scored": "test", "baselines": {}, "reasons": [], "notes": [], "kept_step": None,
        "total_parameters": 10, "load": {"layout": "peft", "why": "small"},
        "model": {"reference": "bert"}, "metrics": {"test/accuracy": score, "validation/accuracy": 0.1},
        "intervals": {"test/accuracy": [0.8, 0.95]}, "trainable_parameters": 10, "duration_seconds": 1.5,
        "peak_memory_bytes": 100, "rows": {"parts": {"validation": 10, "test": 20}},
        "settings": {"seed": 1, "output": str(path), "lora": {"r": 8}},
    }  # fmt: skip
    if finished:
        run.write_json("report.json", report | changes)
    return run


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    make_run(tmp_path / "old", 0.5, age_seconds=100)
    make_run(tmp_path / "new", 0.75)
    make_run(tmp_path / "killed", age_seconds=50, finished=False)
    (tmp_path / "something else").mkdir()
    rest = {
        "state": "finished", "task": "text-classification", "technique": "lora", "model": "bert",
        "metric": "test/accuracy", "interval": [0.8, 0.95], "duration_seconds": 1.5,
    }  # fmt: skip
    assert list_runs(tmp_path) == [
        {"run": str(tmp_path / "new"), "score": 0.75, **rest},
        {"run": str(tmp_path / "killed"), "state": "unfinished", "technique": "lora", "model": "bert"},
        {"run": str(tmp_path / "old"), "score": 0.5, **rest},
    ]


@pytest.mark.parametrize(
    ("name", "content", "finished", "reason"),
    [
        ("report.json", "{", True, "report.json can't be read"),
        ("report.json", "{}", True, "report.json is not what a run writes"),
        ("config.yaml", "", False, "config.yaml is not what a run writes\n  found: an empty file"),
        ("config.yaml", "a: [", False, "config.yaml can't be read"),
        ("config.yaml", "nothing: 1", False, "unknown setting nothing"),
    ],
)
def test_a_damaged_run_leaves_the_others(name: str, content: str, finished: bool, reason: str, tmp_path: Path) -> None:
    make_run(tmp_path / "whole")
    run = make_run(tmp_path / "damaged", age_seconds=-50, finished=finished)
    (run.path / name).write_text(content)
    damaged, whole = sorted(list_runs(tmp_path), key=lambda each: str(each["state"]))
    assert whole["state"] == "finished"
    assert damaged.keys() == {"run", "state", "reason"}
    assert damaged["state"] == "damaged"
    assert reason in damaged["reason"]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunFolderError) as caught:
        list_runs(tmp_path / "nothing")
    assert str(caught.value) == (
        f"the folder {tmp_path / 'nothing'} doesn't exist\n"
        "  expected: a folder that holds runs\n  do: leave it out for those under runs/"
    )
    monkeypatch.chdir(tmp_path)
    assert list_runs(Path("runs")) == [], "the usual folder, before the first run"


def test_a_run_without_intervals_has_none_to_show(tmp_path: Path) -> None:
    make_run(tmp_path / "a", intervals={})
    assert list_runs(tmp_path)[0]["interval"] is None


def test_a_comparison_shows_scores_and_what_differs(tmp_path: Path) -> None:
    read = {"seed": 1, "output": "y", "lora": {"r": 8}, "training": {"dropout": 0.0}}
    one = make_run(tmp_path / "one", 0.9, settings=read)
    other = make_run(
        tmp_path / "other", 0.8, technique="full", settings={"seed": 1, "output": "x", "training": {"dropout": 0.1}}
    )
    found = compare_runs([one, other])
    assert found["metric"] == "test/accuracy"
    assert found["differences"] == {"training.dropout": [0.0, 0.1]}, "what full doesn't read is none"
    assert found["runs"][0] == {
        "run": str(one.path), "technique": "lora", "model": "bert", "metrics": {"test/accuracy": 0.9},
        "intervals": {"test/accuracy": [0.8, 0.95]}, "trainable_parameters": 10, "duration_seconds": 1.5,
        "peak_memory_bytes": 100,
    }  # fmt: skip
    assert [run["metrics"]["test/accuracy"] for run in found["runs"]] == [0.9, 0.8]


def test_a_setting_that_was_left_open_is_compared_as_what_was_chosen(tmp_path: Path) -> None:
    chosen = {"setting": "features.pooling", "value": "mean", "reason": "least loss"}
    settings: list[dict[str, Any]] = [{"features": {"pooling": each}} for each in ("auto", "mean", "auto")]
    one = make_run(tmp_path / "one", technique="full", settings=settings[0], reasons=[chosen])
    same, unknown = (make_run(tmp_path / str(i), technique="full", settings=settings[i]) for i in (1, 2))
    assert compare_runs([one, same])["differences"] == {}
    assert compare_runs([one, unknown])["differences"] == {"features.pooling": ["mean", "auto"]}
    # The first look of a choice that took LoRA, whose head reads the architecture's own.
    adapters = (make_run(tmp_path / f"lora {i}", settings=settings[0], reasons=[chosen][:i]) for i in (0, 1))
    assert compare_runs(list(adapters))["differences"] == {}


def test_a_comparison_without_scores_of_rows_says_so(tmp_path: Path) -> None:
    one, other = make_run(tmp_path / "one"), make_run(tmp_path / "other")
    unknown = f"whether chance explains the difference between {other.path} and {one.path} isn't known: "
    kept_none = "kept no scores of single test rows (row_scores.jsonl)"
    assert compare_runs([one, other])["notes"] == [f"{unknown}{one.path} and {other.path} {kept_none}"]
    line = {"part": "test", "row": 1, "key": "a", "label": "x", "prediction": "x", "loss": 0.5}
    one.write_lines("row_scores.jsonl", [line])
    assert compare_runs([one, other])["notes"] == [f"{unknown}{other.path} {kept_none}"]
    other.write_lines("row_scores.jsonl", [line | {"key": "b"}])
    assert compare_runs([one, other])["notes"] == [f"{unknown}no test row was scored by both"]
    other.write_lines("row_scores.jsonl", [line])
    assert compare_runs([one, other])["notes"] == []


def test_one_run_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        compare_runs([make_run(tmp_path / "one")])
    assert str(caught.value) == "comparing takes two runs or more\n  do: afina compare RUN RUN"


@pytest.mark.parametrize(
    ("changes", "other"),
    [
        ({"hash": "b" * 64}, "text-classification, 20 test rows of data bbbbbbbb"),
        ({"task": "text-regression"}, "text-regression, 20 test rows of data aaaaaaaa"),
        ({"rows": {"parts": {"validation": 10, "test": 21}}}, "text-classification, 21 test rows of data aaaaaaaa"),
    ],
)
def test_scores_of_other_rows_are_not_compared(changes: dict[str, Any], other: str, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "other", **changes)]
    with pytest.raises(ConfigError) as caught:
        compare_runs(runs)
    assert str(caught.value) == (
        "the runs were scored on different tasks or rows\n"
        f"  found: {tmp_path / 'one'}: text-classification, 20 test rows of data aaaaaaaa;"
        f" {tmp_path / 'other'}: {other}\n"
        "  expected: runs over the same data, split by the same seed\n"
        "  do: afina evaluate RUN DATA scores each of them on rows that you name"
    )


def test_an_unfinished_run_is_not_compared(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "other", finished=False)]
    with pytest.raises(RunFolderError, match=r"has no report\.json; the run isn't finished"):
        compare_runs(runs)


def test_a_setting_that_only_one_run_has_is_told(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / name, settings={"model": {"chat_template_kwargs": given}})
        for name, given in (("one", {}), ("other", {"enable_thinking": False}))
    ]
    assert compare_runs(runs)["differences"] == {"model.chat_template_kwargs": [{}, {"enable_thinking": False}]}


def test_settings_are_flattened_to_paths() -> None:
    assert list(flatten_settings({"a": 1, "b": {"c": [1], "d": {"e": None}}})) == [
        ("a", 1),
        ("b.c", [1]),
        ("b.d", {"e": None}),
    ]
