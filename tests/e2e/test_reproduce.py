"""A run repeated: equal to the last bit, or said where it isn't; what it began with must still be there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file, save_file

from afina.reproductions import MAY_BE_CACHED
from afina.runs.folder import compute_checksum
from afina.testing.data import make_rows

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine

FLAGS = ("--set", "num_train_epochs=2", "--set", "bootstrap_resamples=0", "--set", "baselines=false")


@pytest.fixture(scope="module")
def place(
    tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, write_csv: Any,
    command_line: CommandLine,
) -> Path:  # fmt: skip
    """A folder with a model, rows, and a finished run whose head began at features of a warm cache."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(tiny_models("bert"), folder / "bert")
    write_csv(folder / "rows.csv", make_rows("multiclass", 60))
    for technique in ("feature-extraction", "lora"):
        done = command_line.run(
            "train", "rows.csv", "--model", "bert", "--technique", technique, "--output", technique, *FLAGS, cwd=folder
        )
        assert done.code == 0, done.err
    return folder


def copy_run(place: Path, name: str) -> Path:
    return Path(shutil.copytree(place / "lora", place / name))


def test_a_run_is_the_same_bits_again(place: Path, command_line: CommandLine) -> None:
    done = command_line.run("reproduce", "lora", cwd=place)
    assert done.code == 0, done.err
    assert done.out == "equal: all 10 tensors have the same bits, and all scores are the same\nagain   lora-again\n"
    found = command_line.run("reproduce", "lora", "--json", cwd=place).read_object()
    assert found == {
        "run": "lora", "again": "lora-again-2", "equal": True, "tensors": 10, "differing": [], "metrics": {},
        "changes": [], "uses_cache": True,
    }  # fmt: skip


def test_what_differs_is_said_with_its_size(place: Path, command_line: CommandLine) -> None:
    run = copy_run(place, "other")
    path = run / "model" / "adapter_model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[3] += 0.5
    save_file(tensors, path, {"format": "pt"})  # as it was: the size is looked at
    task = json.loads((run / "task.json").read_text(encoding="utf-8"))
    task["checksums"]["adapter_model.safetensors"] = compute_checksum(path)
    (run / "task.json").write_text(json.dumps(task), encoding="utf-8")
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    loss = report["metrics"]["test/loss"]
    report["metrics"]["test/loss"] = 7.5
    (run / "report.json").write_text(json.dumps(report), encoding="utf-8")
    origin = json.loads((run / "origin.json").read_text(encoding="utf-8"))
    origin["versions"]["numpy"] = "1.0"
    (run / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
    done = command_line.run("reproduce", "other", "--output", "fresh", cwd=place)
    assert done.code == 1, done.err
    lines = done.out.splitlines()
    assert lines[0].startswith("changed since the run began: numpy 1.0 -> ")
    assert lines[1:] == [
        "1 of 10 tensors differ",
        f"  {name} (adapter_model.safetensors): 1 of {tensors[name].numel():,} values, by 5.0e-01 at most",
        f"  test/loss 7.5 -> {loss}",
        MAY_BE_CACHED,
        "again   fresh",
    ]


def test_other_rows_and_another_model_cannot_repeat_it(place: Path, command_line: CommandLine, write_csv: Any) -> None:
    run = copy_run(place, "gone")
    data = json.loads((run / "data.json").read_text(encoding="utf-8"))
    known, data["hash"] = data["hash"], "0" * 64
    (run / "data.json").write_text(json.dumps(data), encoding="utf-8")
    done = command_line.run("reproduce", "gone", "--quiet", cwd=place)
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith(
        "afina: gone can't be reproduced\n"
        "the data of gone has changed since the run began\n"
        f"  found: {known[:16]}\n  expected: {'0' * 16}\n  do: bring it back as it was\n"
    )
    assert not (place / "gone-again").exists()
    data["hash"] = known
    (run / "data.json").write_text(json.dumps(data), encoding="utf-8")
    origin = json.loads((run / "origin.json").read_text(encoding="utf-8"))
    origin["model"] = "0" * 64
    (run / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
    done = command_line.run("reproduce", "gone", "--quiet", cwd=place)
    assert done.code == 2
    assert "the model of gone has changed since the run began" in done.err
    assert not (place / "gone-again").exists()


def test_a_run_that_is_not_finished_cannot_be_repeated(place: Path, command_line: CommandLine) -> None:
    run = copy_run(place, "unfinished")
    (run / "report.json").unlink()
    done = command_line.run("reproduce", "unfinished", cwd=place)
    assert done.code == 2
    assert "unfinished has no report.json; the run isn't finished" in done.err
