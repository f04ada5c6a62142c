"""Real signals to real runs: in the middle of a long window and of an evaluation, with status.json to see them by."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from afina.testing.data import make_rows

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine, Done, Process

# One window is an epoch of 60 batches of one row, and an evaluation goes row by row.
SETTINGS = {
    "num_train_epochs": 4, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 60, "logging_steps": 1,
    "precision": "fp32", "dropout": 0.1, "early_stopping_patience": 0, "learning_rate": 2e-4, "baselines": "false",
    "bootstrap_resamples": 0, "eval_tokens_per_batch": 1, "head_init": "random",
}  # fmt: skip
TRAIN, VALIDATION = 60, 150
SIGNALS = [(signal.SIGTERM, 143), (signal.SIGINT, 130)]


@pytest.fixture(scope="module")
def place(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, write_csv: Any) -> Path:
    """A folder with a model and rows."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(tiny_models("bert"), folder / "bert")
    (folder / "rows").mkdir()
    for number, (name, rows) in enumerate({"train": TRAIN, "validation": VALIDATION, "test": 20}.items()):
        write_csv(folder / "rows" / f"{name}.csv", make_rows("multiclass", rows, number))
    return folder


@pytest.fixture(scope="module")
def start(place: Path, command_line: CommandLine) -> Callable[[str], Process]:
    """`start(name)` begins a run in the folder `name`."""
    flags = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]

    def begin(name: str) -> Process:
        return command_line.start(
            "train", "rows", "--model", "bert", "--technique", "full", "--output", name, *flags, cwd=place
        )

    return begin


@pytest.fixture(scope="module")
def undisturbed(place: Path, start: Callable[[str], Process]) -> bytes:
    """The weights of a whole run."""
    done = start("whole").finish()
    assert done.code == 0, done.err
    status = read_status(place / "whole")
    assert (status["state"], status["step"], status["total_steps"], status["epoch"]) == ("finished", 4, 4, 4.0)
    assert status["seconds_left"] is None
    return read_weights(place / "whole")


def read_status(run: Path) -> dict[str, Any]:
    """What status.json holds: it is whole whenever it is there."""
    path = run / "status.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def read_weights(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def wait_for(process: Process, is_there: Callable[[], bool]) -> None:
    """Wait until the run has come so far."""
    limit = time.monotonic() + 60
    while not is_there():
        assert time.monotonic() < limit, process.err.read_text(encoding="utf-8")
        time.sleep(0.002)


def check_stopped(run: Path, done: Done, code: int) -> dict[str, Any]:
    """The run ended as a stopped one does; gives its last status."""
    assert (done.code, done.out) == (code, "")
    assert done.err.endswith(f"afina: interrupted\n  do: afina resume {run.name}\n")
    assert "Traceback" not in done.err
    status = read_status(run)
    assert status["state"] == "interrupted"
    assert status["resume"] == f"afina resume {run.name}"
    return status


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_in_the_middle_of_a_window(
    number: signal.Signals, code: int, start: Callable[[str], Process], place: Path, undisturbed: bytes,
    command_line: CommandLine,
) -> None:  # fmt: skip
    run = place / f"window-{code}"
    process = start(run.name)
    wait_for(process, lambda: read_status(run).get("step") == 1 and read_status(run)["state"] == "training")
    process.send(number)
    status = check_stopped(run, process.finish(), code)
    assert status["checkpoint_step"] == 1, "the second window wasn't waited for"
    assert [folder.name for folder in run.glob("checkpoints/step-*")] == ["step-00000001"]
    resumed = command_line.run("resume", run.name, cwd=place)
    assert resumed.code == 0, resumed.err
    assert "going on after step 1 of 4" in resumed.err
    assert read_weights(run) == undisturbed


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_during_an_evaluation(
    number: signal.Signals, code: int, start: Callable[[str], Process], place: Path, undisturbed: bytes,
    command_line: CommandLine,
) -> None:  # fmt: skip
    run = place / f"evaluation-{code}"
    process = start(run.name)
    wait_for(process, lambda: read_status(run).get("step") == 1 and read_status(run)["state"] == "evaluating")
    process.send(number)
    check_stopped(run, process.finish(), code)
    state = json.loads(next(run.glob("checkpoints/step-00000001/state.json")).read_text(encoding="utf-8"))
    assert (state["step"], state["epoch"], state["best_step"]) == (1, 0, None), "it was not measured"
    resumed = command_line.run("resume", run.name, cwd=place)
    assert resumed.code == 0, resumed.err
    assert read_weights(run) == undisturbed


def test_a_run_is_listed_as_what_it_is(start: Callable[[str], Process], place: Path, command_line: CommandLine) -> None:
    def look() -> dict[str, Any]:
        listed = command_line.run("runs", ".", "--json", cwd=place).read_object()["runs"]
        return next(each for each in listed if each["run"] == "seen")

    process = start("seen")
    wait_for(process, lambda: read_status(place / "seen").get("step", 0) >= 1)
    process.send(signal.SIGSTOP)  # it won't go on while it is looked at
    status, known = read_status(place / "seen"), {"run": "seen", "technique": "full", "model": "bert"}
    assert (status["pid"], status["total_steps"]) == (process.pid, 4)
    assert look() == known | {"state": "running", "step": status["step"], "total_steps": 4}
    lines = command_line.run("runs", ".", cwd=place).out.splitlines()
    assert any(line.split()[:3] == ["seen", "running", f"{status['step']}/4"] for line in lines), lines
    process.send(signal.SIGKILL)
    process.finish()
    assert look() == known | {"state": "dead", "step": status["step"], "total_steps": 4}
