"""What waits for ever when it is read, or leads elsewhere, is refused wherever it lies in a run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from afina.errors import RunFolderError
from afina.runs.folder import RunFolder, open_run
from afina.runs.listing import list_runs
from afina.runs.search_folder import open_search


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "run")
    (folder.checkpoints / "step-00000003").mkdir(parents=True)
    folder.write_text("config.yaml", "")
    (tmp_path / "outside").write_text("outside")
    return folder


@pytest.mark.parametrize(
    "name",
    ["task.json", "status.json", "seen_texts.npy", ".metrics.jsonl.steps", "checkpoints/step-00000003/manifest.json",
     "model/tokenizer/deep.json", ".afina.lock"],
)  # fmt: skip
def test_named_pipes(name: str, run: RunFolder) -> None:
    open_run(run.path)
    (run.path / name).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(run.path / name)
    with pytest.raises(RunFolderError, match=f"{name} in the folder of the run is no file\n  found: a named pipe"):
        open_run(run.path)


@pytest.mark.parametrize(("make", "kind"), [(os.mkfifo, "a named pipe"), (Path.touch, "a file")])
def test_what_stands_in_place_of_checkpoints(make: Any, kind: str, run: RunFolder) -> None:
    (run.checkpoints / "step-00000003").rmdir()
    run.checkpoints.rmdir()
    make(run.checkpoints)
    with pytest.raises(RunFolderError, match=f"checkpoints in the folder of the run is no folder\n  found: {kind}"):
        open_run(run.path)


def test_the_list_of_runs_waits_for_none_of_them(run: RunFolder) -> None:
    os.mkfifo(run.path / "status.json")
    (found,) = list_runs(run.path.parent)
    assert found["state"] == "damaged"
    assert "status.json" in found["reason"]


def test_a_search_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text("{}")
    open_search(tmp_path)
    os.mkfifo(tmp_path / "study.db")
    with pytest.raises(RunFolderError, match=r"study\.db in the folder of the run is no file"):
        open_search(tmp_path)


@pytest.mark.parametrize("name", ["metrics.jsonl", "report.json", "data.json", "origin.json", ".metrics.jsonl.steps"])
def test_folders_in_place_of_files(name: str, run: RunFolder) -> None:
    (run.path / name).mkdir()
    with pytest.raises(RunFolderError, match=f"{name} in the folder of the run is no file\n  found: a folder"):
        open_run(run.path)


def test_links_that_lead_out_lie_as_deep_as_they_like(run: RunFolder) -> None:
    inside, deep = run.checkpoints / "step-00000003" / "inside", run.checkpoints / "step-00000003" / "weights"
    inside.symlink_to(run.config)
    open_run(run.path)
    deep.symlink_to(run.path.parent / "outside")
    with pytest.raises(RunFolderError, match="checkpoints/step-00000003/weights is a symbolic link that leads out"):
        open_run(run.path)


def test_names_that_no_text_can_hold_are_spelled_out(run: RunFolder) -> None:
    os.mkfifo(os.fsencode(run.path) + b"/odd\xff")
    with pytest.raises(RunFolderError) as caught:
        open_run(run.path)
    assert "odd\\udcff" in str(caught.value)
