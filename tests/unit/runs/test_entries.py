"""What waits for ever when it is read, or leads elsewhere, is refused wherever it lies in a run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from afina.errors import RunFolderError
from afina.runs.folder import RunFolder, open_run


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


def test_a_pipe_in_place_of_checkpoints(run: RunFolder) -> None:
    (run.checkpoints / "step-00000003").rmdir()
    run.checkpoints.rmdir()
    os.mkfifo(run.checkpoints)
    with pytest.raises(RunFolderError, match="checkpoints in the folder of the run is no file"):
        open_run(run.path)


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
