"""What is written is on the disk before its name is, and before what it replaces is gone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from afina.durable import sync_tree
from afina.pipeline.result import finish_folder, write_model
from afina.runs.folder import RunFolder

Events = list[tuple[str, Path]]


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    """Each sync, renaming and removal, with the file or folder that it is of."""
    seen: Events = []
    plain: dict[str, Any] = {
        "fsync": os.fsync, "rename": os.rename, "replace": os.replace, "rmtree": shutil.rmtree,
    }  # fmt: skip

    def sync(handle: int) -> None:
        seen.append(("sync", Path(os.readlink(f"/proc/self/fd/{handle}"))))
        plain["fsync"](handle)

    def rename(source: Path, target: Path) -> None:
        seen.append(("rename", Path(target)))
        plain["rename"](source, target)

    def remove(path: Path, **options: Any) -> None:
        seen.append(("remove", Path(path)))
        plain["rmtree"](path, **options)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(os, "replace", rename)
    monkeypatch.setattr(shutil, "rmtree", remove)
    return seen


def save(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    for name in ("model.safetensors", "1_Pooling/config.json"):
        (folder / name).write_text("x")


def test_all_of_a_tree_is_synced_and_names_after_what_they_name(tmp_path: Path, events: Events) -> None:
    save(tmp_path)
    sync_tree(tmp_path)
    inner = tmp_path / "1_Pooling"
    assert {path for _, path in events} == {inner / "config.json", inner, tmp_path / "model.safetensors", tmp_path}
    places = {path: place for place, (_, path) in enumerate(events)}
    assert places[inner / "config.json"] < places[inner] < places[tmp_path]


def test_a_model_is_on_the_disk_before_its_name_is(tmp_path: Path, events: Events) -> None:
    run = RunFolder(tmp_path)
    write_model(run, save)
    renamed = events.index(("rename", run.model))
    before = {path.name for what, path in events[:renamed] if what == "sync"}
    assert before == {"model.safetensors", "config.json", "1_Pooling", ".model.tmp"}
    assert ("sync", tmp_path) in events[renamed:]


def test_reasons_stay_until_the_report_has_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, left = RunFolder(tmp_path), list[str]()
    (run.work / "tokens").mkdir(parents=True)
    (run.work / "reasons.jsonl").touch()
    monkeypatch.setattr(
        "afina.pipeline.result.write_reports", lambda run, report: left.extend(path.name for path in run.work.iterdir())
    )
    finish_folder(run, {"environment": {}})
    assert left == ["reasons.jsonl"]
    assert not run.work.exists()


def test_checkpoints_go_when_the_report_is_on_the_disk(
    tmp_path: Path, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    monkeypatch.setattr("afina.pipeline.result.write_reports", lambda run, report: run.write_json("report.json", {}))
    finish_folder(run, {"environment": {}})
    removed = events.index(("remove", run.checkpoints))
    renamed = events.index(("rename", run.report))
    assert ("sync", tmp_path / ".report.json.tmp") in events[:renamed]
    assert ("sync", tmp_path) in events[renamed:removed]


def test_lines_are_on_the_disk_before_their_name_is(tmp_path: Path, events: Events) -> None:
    RunFolder(tmp_path).write_lines("predictions.jsonl", [{"row": 1}])
    assert [what for what, _ in events] == ["sync", "rename"]
