"""`afina search` on the command line: its table, and what is left of a search that was killed or stopped."""

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
    from tests.e2e.conftest import CommandLine, Process

SETTINGS = ("--set", "precision=fp32", "--set", "num_train_epochs=6", "--set", "early_stopping_patience=0")
SETTINGS += ("--set", "per_device_train_batch_size=4", "--set", "bootstrap_resamples=20")


@pytest.fixture(scope="module")
def place(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, write_csv: Any) -> Path:
    """A folder with a model and rows."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(tiny_models("bert"), folder / "bert")
    write_csv(folder / "rows.csv", make_rows("multiclass", 60))
    return folder


def start(command_line: CommandLine, place: Path, name: str) -> Process:
    wanted = ("--budget", "5m", "--trials", "2", "--techniques", "lora,full", "--output", name)
    return command_line.start("search", "rows.csv", "--model", "bert", *wanted, *SETTINGS, cwd=place)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_search_that_was_ended_goes_on(
    number: signal.Signals, code: int, place: Path, command_line: CommandLine
) -> None:
    name = f"search-{code}"
    process = start(command_line, place, name)
    limit = time.monotonic() + 100
    while not any((place / name).glob("trial-001/checkpoints/step-*/manifest.json")):
        assert time.monotonic() < limit, process.err.read_text(encoding="utf-8")
        time.sleep(0.002)
    process.send(number)
    done = process.finish()
    assert (done.code, done.out) == (code, "")
    if number == signal.SIGINT:
        assert done.err.endswith(f"afina: interrupted\n  do: afina search --resume {name}\n")
        assert "Traceback" not in done.err
    assert json.loads((place / name / "search.json").read_text(encoding="utf-8"))["state"] == "unfinished"
    found = command_line.run("search", "--resume", name, cwd=place)
    assert found.code == 0, found.err
    assert "trial 0:" not in found.err, "what is done isn't done again"
    assert "trial 1: full, default" in found.err
    assert found.out.startswith("trial  technique  validation accuracy")
    assert "Test part, scored once: accuracy: winner " in found.out
    again = command_line.run("search", "--resume", name, "--json", cwd=place)
    assert f"{name} is finished: nothing is left to do, its best run is " in again.err
    printed = again.read_object()
    assert (printed["search"], printed["state"], len(printed["trials"])) == (name, "finished", 2)
    listed = command_line.run("runs", name, "--json", cwd=place).read_object()["runs"]
    assert len(listed) == 2
    compared = command_line.run("compare", f"{name}/trial-000", f"{name}/trial-001", cwd=place)
    assert compared.code == 0, compared.err
