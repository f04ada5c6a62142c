"""Who may read a run: its owner alone, whatever wrote the files; what the user names stays by the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from afina.testing.data import make_conversations, make_rows

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine

pytestmark = pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
FLAGS = ("--technique", "lora", "--set", "num_train_epochs=1", "--set", "bootstrap_resamples=0", "--output", "run")


def list_modes(folder: Path) -> dict[str, int]:
    """The mode of the folder and of all below it."""
    return {str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_every_file_of_a_finished_run(
    family: str, tmp_path: Path, tiny_models: Callable[[str], Path], write_csv: Any, command_line: CommandLine
) -> None:
    rows = make_rows("multiclass", 60) if family == "bert" else make_conversations("completion", 40)
    data = write_csv(tmp_path / "rows.csv", rows)
    done = command_line.run("train", data, "--model", tiny_models(family), *FLAGS, cwd=tmp_path)
    assert done.code == 0, done.err
    modes = list_modes(tmp_path / "run")
    assert {"model/adapter_model.safetensors", "metrics.jsonl", "row_scores.jsonl", "report.json"} <= modes.keys()
    wrong = {
        name: oct(mode) for name, mode in modes.items()
        if mode != (0o700 if (tmp_path / "run" / name).is_dir() else 0o600)
    }  # fmt: skip
    assert wrong == {}
    if family == "bert":
        done = command_line.run("predict", "run", data, "--output", "out.csv", cwd=tmp_path)
        assert done.code == 0, done.err
        mask = os.umask(0)
        os.umask(mask)
        assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o666 & ~mask
        done = command_line.run("merge", "run", "--output", "merged", cwd=tmp_path)
        assert done.code == 0, done.err
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "merged").iterdir()} == {0o666 & ~mask}
