"""Runs that are killed, stopped or damaged, and then resumed: the weights are those of a run that nobody disturbed.

Every comparison is of bytes: fp32 on a CPU, one thread.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from afina.testing.data import make_rows

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine, Done, Process

TECHNIQUES = ("full", "lora")
# So few rows are learned by pairs, unless the settings say otherwise: each objective is killed once.
OBJECTIVES = {"full": "auto", "lora": "cross-entropy"}
WEIGHTS = {"full": "model.safetensors", "lora": "adapter_model.safetensors"}
EPOCHS, STEPS_AN_EPOCH = 8, 11
# Dropout and a schedule, so that what is random and what depends on the step's number matters.
SETTINGS = {
    "num_train_epochs": EPOCHS, "per_device_train_batch_size": 4, "save_steps": 3, "logging_steps": 1,
    "precision": "fp32", "dropout": 0.1, "early_stopping_patience": 0, "learning_rate": 2e-4, "baselines": "false",
    "bootstrap_resamples": 0, "lr_scheduler_type": "cosine",
}  # fmt: skip
SHORT_SECONDS = 0.002


@pytest.fixture(scope="module")
def place(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, write_csv: Any) -> Path:
    """A folder with a model and rows."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(tiny_models("bert"), folder / "bert")
    write_csv(folder / "rows.csv", make_rows("multiclass", 60))
    return folder


@pytest.fixture(scope="module")
def start(place: Path, command_line: CommandLine) -> Callable[..., Process]:
    """`start(technique, name)` begins a run in the folder `name`."""

    def begin(technique: str, name: str, **settings: Any) -> Process:
        chosen = {"objective": OBJECTIVES[technique]}
        given = [f"{key}={value}" for key, value in (SETTINGS | chosen | settings).items()]
        flags = [part for setting in given for part in ("--set", setting)]
        return command_line.start(
            "train", "rows.csv", "--model", "bert", "--technique", technique, "--output", name, *flags, cwd=place
        )

    return begin


@pytest.fixture(scope="module")
def undisturbed(place: Path, start: Callable[..., Process]) -> dict[str, Path]:
    """A whole run of each technique."""
    for technique in TECHNIQUES:
        done = start(technique, f"whole-{technique}").finish()
        assert done.code == 0, done.err
    return {technique: place / f"whole-{technique}" for technique in TECHNIQUES}


@pytest.fixture(scope="module")
def killed(place: Path, start: Callable[..., Process]) -> dict[str, Path]:
    """A run of each technique, killed in the middle of an epoch."""
    for technique in TECHNIQUES:
        process = start(technique, f"killed-{technique}")
        wait_for(process, lambda run=place / f"killed-{technique}": find_newest(run) > STEPS_AN_EPOCH)
        process.send(signal.SIGKILL)
        assert process.finish().code == -signal.SIGKILL
    return {technique: place / f"killed-{technique}" for technique in TECHNIQUES}


def wait_for(process: Process, is_there: Callable[[], bool]) -> None:
    """Wait until the run has come so far."""
    limit = time.monotonic() + 60
    while not is_there():
        assert time.monotonic() < limit, process.err.read_text(encoding="utf-8")
        time.sleep(SHORT_SECONDS)


def find_newest(run: Path) -> int:
    """The step of the newest checkpoint; 0 without one."""
    return max((int(folder.name.removeprefix("step-")) for folder in run.glob("checkpoints/step-*")), default=0)


def list_checkpoints(run: Path) -> list[Path]:
    return sorted(run.glob("checkpoints/step-*"))


def copy_run(run: Path, name: str) -> Path:
    return Path(shutil.copytree(run, run.with_name(name)))


def check_same(found: Path, expected: Path, technique: str) -> None:
    """Weights, predictions, scores and the way there of two runs are equal."""
    for name in (f"model/{WEIGHTS[technique]}", "predictions.jsonl"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name
    reports = [json.loads((run / "report.json").read_text(encoding="utf-8")) for run in (found, expected)]
    assert reports[0]["metrics"] == reports[1]["metrics"]
    # Those that an earlier process found out too, not the mere "as given" of the one that ended the run.
    assert sorted(map(str, reports[0]["reasons"])) == sorted(map(str, reports[1]["reasons"]))
    # The loss of every step: the best checkpoint, and with it the model, may be older than the interruption.
    # One line a step, one for each epoch's evaluation, and one for that of the solved head.
    assert len(reports[0]["history"]) == EPOCHS * (STEPS_AN_EPOCH + 1) + 1
    assert reports[0]["history"] == reports[1]["history"]
    assert not (found / "checkpoints").exists()
    assert not (found / ".work").exists()


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_resumed_after_a_kill_equals_undisturbed(
    technique: str, killed: dict[str, Path], undisturbed: dict[str, Path], command_line: CommandLine
) -> None:
    run = copy_run(killed[technique], f"resumed-{technique}")
    assert not (run / "report.json").exists()
    step = find_newest(run)
    assert STEPS_AN_EPOCH < step < EPOCHS * STEPS_AN_EPOCH
    assert (list_checkpoints(run)[-1] / "manifest.json").is_file()
    done = command_line.run("resume", run.name, cwd=run.parent)
    assert done.code == 0, done.err
    assert f"going on after step {step} of {EPOCHS * STEPS_AN_EPOCH}" in done.err
    check_same(run, undisturbed[technique], technique)


def test_killed_run_is_listed_and_refuses_use(killed: dict[str, Path], command_line: CommandLine) -> None:
    run = killed["lora"]
    listed = command_line.run("runs", ".", "--json", cwd=run.parent).read_object()["runs"]
    found = next(each for each in listed if each["run"] == run.name)
    assert found["state"] == "dead"
    assert find_newest(run) <= found["step"] <= found["total_steps"] == EPOCHS * STEPS_AN_EPOCH
    for verb in (("evaluate", run.name, "rows.csv"), ("compare", run.name, "whole-lora")):
        done = command_line.run(*verb, cwd=run.parent)
        assert done.code == 2
        assert f"do: afina resume {run.name}" in done.err
        assert "Traceback" not in done.err


def test_killed_before_the_first_checkpoint(
    start: Callable[..., Process], place: Path, undisturbed: dict[str, Path], command_line: CommandLine
) -> None:
    run = place / "early"
    process = start("full", "early", save_steps=0)
    wait_for(process, lambda: (run / "metrics.jsonl").exists() and bool((run / "metrics.jsonl").read_text()))
    process.send(signal.SIGKILL)
    assert process.finish().code == -signal.SIGKILL
    # Faster than the kill: then there is a checkpoint of a whole epoch, which is taken away.
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    done = command_line.run("resume", "early", cwd=place)
    assert done.code == 0, done.err
    assert "going on" not in done.err
    check_same(run, undisturbed["full"], "full")


def test_killed_while_reading(
    start: Callable[..., Process], place: Path, undisturbed: dict[str, Path], command_line: CommandLine
) -> None:
    """Before its description is written there is no run; it can be begun again in the same folder."""
    process = start("full", "unread")
    wait_for(process, lambda: (place / "unread" / ".work").exists())
    process.send(signal.SIGKILL)
    assert process.finish().code == -signal.SIGKILL
    assert not (place / "unread" / "config.yaml").exists()
    done = command_line.run("resume", "unread", cwd=place)
    assert done.code == 2
    assert done.err.splitlines()[0] == "afina: unread is not a run: it has no config.yaml"
    assert "do: start it again with afina train" in done.err
    assert start("full", "unread").finish().code == 0
    check_same(place / "unread", undisturbed["full"], "full")


def test_a_second_process_is_refused(
    start: Callable[..., Process], place: Path, undisturbed: dict[str, Path], command_line: CommandLine
) -> None:
    """It harms nothing: the first one goes on to the same end."""
    process = start("lora", "busy")
    wait_for(process, lambda: find_newest(place / "busy") > 0)
    process.send(signal.SIGSTOP)
    refused = command_line.run("resume", "busy", cwd=place)
    again = command_line.run(
        "train", "rows.csv", "--model", "bert", "--technique", "lora", "--output", "busy", cwd=place
    )
    process.send(signal.SIGCONT)
    assert (refused.code, again.code) == (2, 2)
    assert refused.err.splitlines()[0] == "afina: another process is at work in busy"
    assert f"found: afina train, process {process.pid} on " in refused.err
    assert process.finish().code == 0
    check_same(place / "busy", undisturbed["lora"], "lora")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_by_a_signal(
    number: signal.Signals,
    code: int,
    start: Callable[..., Process],
    place: Path,
    undisturbed: dict[str, Path],
    command_line: CommandLine,
) -> None:
    name = f"stopped-{code}"
    process = start("lora", name)
    wait_for(process, lambda: find_newest(place / name) > STEPS_AN_EPOCH)
    process.send(number)
    done = process.finish()
    assert (done.code, done.out) == (code, "")
    assert done.err.endswith(f"afina: interrupted\n  do: afina resume {name}\n")
    assert "Traceback" not in done.err
    resumed = command_line.run(*done.err.rpartition("do: afina ")[2].split(), cwd=place)
    assert resumed.code == 0, resumed.err
    check_same(place / name, undisturbed["lora"], "lora")


def test_stopped_twice(
    start: Callable[..., Process], place: Path, undisturbed: dict[str, Path], command_line: CommandLine
) -> None:
    """A second ^C doesn't wait for the step; the run can be resumed all the same."""
    process = start("full", "twice")
    wait_for(process, lambda: find_newest(place / "twice") > STEPS_AN_EPOCH)
    process.send(signal.SIGINT)
    process.send(signal.SIGINT)
    done = process.finish()
    assert done.code == 130
    assert done.err.endswith("afina: interrupted\n  do: afina resume twice\n")
    assert "Traceback" not in done.err
    assert command_line.run("resume", "twice", cwd=place).code == 0
    check_same(place / "twice", undisturbed["full"], "full")


def flip_byte(checkpoint: Path) -> None:
    path = checkpoint / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def drop_manifest(checkpoint: Path) -> None:
    (checkpoint / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (flip_byte, "optimizer.safetensors has other content than was written"),
        (drop_manifest, "manifest.json is missing"),
    ],
)
def test_damaged_checkpoint_is_passed_over(
    damage: Callable[[Path], None],
    why: str,
    killed: dict[str, Path],
    undisturbed: dict[str, Path],
    command_line: CommandLine,
) -> None:
    run = copy_run(killed["lora"], f"damaged-{damage.__name__}")
    older, newest = list_checkpoints(run)[-2:]
    damage(newest)
    done = command_line.run("resume", run.name, cwd=run.parent)
    assert done.code == 0, done.err
    note = f"the checkpoint {newest.name} is damaged and was passed over: {why}"
    assert note in done.err
    assert f"going on after step {int(older.name.removeprefix('step-'))} of" in done.err
    assert note in json.loads((run / "report.json").read_text(encoding="utf-8"))["notes"]
    check_same(run, undisturbed["lora"], "lora")


def test_changed_data_is_refused(
    killed: dict[str, Path], command_line: CommandLine, list_files: Callable[[Path], dict[str, bytes]]
) -> None:
    run = copy_run(killed["lora"], "changed")
    rows = run.parent / "rows.csv"
    content = rows.read_text(encoding="utf-8")
    before = list_files(run / "checkpoints")
    try:
        rows.write_text(content.replace("kitchen\n", "music\n", 1), encoding="utf-8")
        done: Done = command_line.run("resume", "changed", cwd=run.parent)
    finally:
        rows.write_text(content, encoding="utf-8")
    assert done.code == 2
    assert "afina: the data of changed has changed since the run began\n" in done.err
    assert "do: bring the same rows back, or start a new run with afina train" in done.err
    assert list_files(run / "checkpoints") == before, "the checkpoints are kept"


def test_other_versions_are_refused_until_they_are_allowed(
    killed: dict[str, Path], undisturbed: dict[str, Path], command_line: CommandLine
) -> None:
    run = copy_run(killed["full"], "versions")
    origin = json.loads((run / "origin.json").read_text(encoding="utf-8"))
    origin["versions"]["torch"] = "2.0.0"
    (run / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
    refused = command_line.run("resume", "versions", cwd=run.parent)
    assert refused.code == 2
    assert "afina: the libraries of versions have changed since the run began\n  found: torch 2.0.0 -> " in refused.err
    assert "--allow-changes versions" in refused.err
    done = command_line.run("resume", "versions", "--allow-changes", "versions", cwd=run.parent)
    assert done.code == 0, done.err
    notes = json.loads((run / "report.json").read_text(encoding="utf-8"))["notes"]
    assert any(note.startswith("changed since the run began: torch 2.0.0 -> ") for note in notes)
    check_same(run, undisturbed["full"], "full")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes of its own, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all that is free."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return ballast


@pytest.mark.parametrize("is_freed_in_time", [True, False])
def test_a_disk_that_is_full_for_a_while(
    is_freed_in_time: bool, small_disk: Path, start: Callable[..., Process], undisturbed: dict[str, Path],
    command_line: CommandLine,
) -> None:  # fmt: skip
    """The run goes on without checkpoints; only the result has to be written, and then everything is kept."""
    run = small_disk / "run"
    process = start("full", str(run))
    wait_for(process, lambda: find_newest(run) > 0)
    process.send(signal.SIGSTOP)
    ballast = fill(small_disk)
    process.send(signal.SIGCONT)
    wait_for(process, lambda: "can't be written, so the run goes on" in process.err.read_text(encoding="utf-8"))
    if is_freed_in_time:
        ballast.unlink()
    done = process.finish()
    assert "Traceback" not in done.err
    if is_freed_in_time:
        assert done.code == 0, done.err
        assert "checkpoints can be written again: step " in done.err
    else:
        assert done.code == 2, done.err
        assert f"free some space, then afina resume {run}" in done.err
        assert find_newest(run) > 0
        ballast.unlink()
        resumed = command_line.run("resume", run, cwd=small_disk)
        assert resumed.code == 0, resumed.err
    check_same(run, undisturbed["full"], "full")
