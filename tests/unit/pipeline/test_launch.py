"""What becomes of the folder of a run that ends before it has learned anything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from afina.config.load import build_config
from afina.errors import Interrupted, ModelError, ResourceError, RunFolderError, TrainingError
from afina.pipeline import launch
from afina.pipeline.narrator import Narrator
from afina.runs.creation import create_run_folder
from afina.runs.folder import RunFolder
from afina.runs.status import StatusFile


class Listener(Narrator):
    """Keeps what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ModelError("no such layer")])
@pytest.mark.parametrize("is_told", [True, False])
def test_a_folder_that_was_told_is_said_to_be_removed(
    error: BaseException, is_told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(config: Any, folder: RunFolder, source: Any, narrator: Narrator) -> None:
        if is_told:
            folder.write_text("config.yaml", "")
            narrator.say(f"run: {folder.path}")
        raise error

    monkeypatch.setattr(launch, "run_stages", stop)
    config, path, narrator = (
        build_config({"output": str(tmp_path / "new" / "run")}),
        tmp_path / "new" / "run",
        Listener(),
    )
    with pytest.raises(Interrupted if isinstance(error, KeyboardInterrupt) else ModelError) as caught:
        launch.start_run(config, create_run_folder(config, "x"), None, narrator)
    told = [f"run: {path}", f"there is no checkpoint to go on from, so {path} is removed again"]
    assert narrator.said == (told if is_told else [])
    assert "resume" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("no room")])
def test_a_finished_run_stays(error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(config: Any, folder: RunFolder, source: Any, narrator: Narrator) -> None:
        narrator.status = StatusFile(folder)
        folder.write_text("config.yaml", "")
        folder.write_json("report.json", {})
        raise error

    monkeypatch.setattr(launch, "run_stages", stop)
    folder, narrator = create_run_folder(build_config({"output": str(tmp_path / "run")}), "x"), Listener()
    with pytest.raises(Interrupted if isinstance(error, KeyboardInterrupt) else OSError):
        launch.start_run(build_config({}), folder, None, narrator)
    assert narrator.said == []
    assert folder.is_finished
    assert folder.read_json("status.json")["state"] == "finished"


@pytest.mark.parametrize("error", [FileNotFoundError(2, "No such file"), ModelError("no such layer")])
def test_a_folder_that_is_removed_under_a_run(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(config: Any, folder: RunFolder, source: Any, narrator: Narrator) -> None:
        shutil.rmtree(folder.path)
        raise error

    monkeypatch.setattr(launch, "run_stages", stop)
    config = build_config({"output": str(tmp_path / "run")})
    said = (
        f"{tmp_path / 'run'} was removed or renamed while the run was at work in it\n"
        "  do: a new run with afina train, whose folder stays where it is until the end"
    )
    with pytest.raises(RunFolderError) as caught:
        launch.start_run(config, create_run_folder(config, "x"), None, Narrator())
    assert str(caught.value) == said
    with pytest.raises(RunFolderError) as caught:
        launch.resume_run(config, create_run_folder(config, "x"), None, Narrator())
    assert str(caught.value) == said


def resume(error: BaseException | None, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The status that a resumed run leaves which ends with an error, or well."""

    def go_on(config: Any, opened: Any, narrator: Narrator) -> None:
        with narrator.stage("train"):
            if error:
                raise error

    monkeypatch.setattr("afina.pipeline.source.open_source", lambda *given: type("Opened", (), {"is_generation": 0}))
    monkeypatch.setattr(launch, "run_labelled", lambda config, folder, opened, narrator: go_on(0, 0, narrator))
    (folder / "config.yaml").write_text("")
    try:
        launch.resume_run(build_config({}), RunFolder(folder), None, Narrator())
    finally:
        status: dict[str, Any] = json.loads((folder / "status.json").read_text())
    return status


@pytest.mark.parametrize("error", [TrainingError("too many steps"), ModelError("no such layer"), ValueError("odd")])
def test_the_status_of_a_run_that_fails(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(type(error)):
        resume(error, tmp_path, monkeypatch)
    status = json.loads((tmp_path / "status.json").read_text())
    assert (status["state"], status["error"]) == ("failed", str(error))
    assert status["resume"] == f"afina resume {tmp_path}"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), Interrupted(143, Path("run"))])
def test_the_status_of_a_run_that_is_stopped(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        resume(error, tmp_path, monkeypatch)
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "interrupted"


def test_the_status_of_a_run_that_ends_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = resume(None, tmp_path, monkeypatch)
    assert status["state"] == "finished"
    assert "started_at" in status
    assert "error" not in status


def test_memory_that_runs_out_outside_the_loop_is_no_bug_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ResourceError) as caught:
        resume(RuntimeError("DefaultCPUAllocator: can't allocate memory"), tmp_path, monkeypatch)
    assert str(caught.value) == (
        "this run doesn't fit into the memory\n  found: memory ran out\n"
        "  do: afina plan DATA --model REF shows which techniques fit, and with which settings"
    )
