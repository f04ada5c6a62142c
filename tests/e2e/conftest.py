"""The command line as a user runs it: another process, its exit code, and what it prints where."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def read_object(self) -> dict[str, Any]:
        """The one JSON object on stdout."""
        assert self.code == 0, self.err
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


class CommandLine:
    """Runs `afina ...` in other processes, one thread each: models this small are slower on several.

    `run` and `start` fork from a program that has the heavy libraries already (`warm.py`); `run_cold` and `start_cold`
    start a new interpreter, as a user does.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.environment = {
            **os.environ,
            "AFINA_CACHE": str(folder / "afina"),
            "COLUMNS": "160",
            "HF_HOME": str(folder / "huggingface"),
            "OMP_NUM_THREADS": "1",
        }
        self.server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("warm.py")],
            env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def close(self) -> None:
        """End the program."""
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.close()
        self.server.wait(TIMEOUT_SECONDS)
        self.server.stdout.close()

    def _ask(self, job: dict[str, Any]) -> dict[str, int]:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        return dict(json.loads(self.server.stdout.readline()))

    def start(self, *arguments: str | Path, cwd: Path, **environment: str) -> Process:
        """A command that has just been started."""
        self.count += 1
        out, err = (self.folder / f"{self.count}.{name}" for name in ("out", "err"))
        job = {
            "arguments": [*map(str, arguments)], "cwd": str(cwd), "environment": environment, "out": str(out),
            "err": str(err),
        }  # fmt: skip
        return Process(self, self._ask({"start": job})["pid"], out, err)

    def run(self, *arguments: str | Path, cwd: Path, **environment: str) -> Done:
        """A command that has ended."""
        return self.start(*arguments, cwd=cwd, **environment).finish()

    def start_cold(self, *arguments: str | Path, cwd: Path, **environment: str) -> subprocess.Popen[str]:
        """A command in a new interpreter that has just been started."""
        return subprocess.Popen(
            [sys.executable, "-m", "afina", *map(str, arguments)],
            cwd=cwd, env=self.environment | environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run_cold(self, *arguments: str | Path, cwd: Path, **environment: str) -> Done:
        """A command in a new interpreter that has ended."""
        return finish_cold(self.start_cold(*arguments, cwd=cwd, **environment))


@dataclass(frozen=True)
class Process:
    """A running command."""

    owner: CommandLine
    pid: int
    out: Path
    err: Path

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def finish(self) -> Done:
        """Wait for its end; one that hangs is killed."""
        alarm = threading.Timer(TIMEOUT_SECONDS, self.send, [signal.SIGKILL])
        alarm.start()
        code = self.owner._ask({"wait": self.pid})["code"]
        alarm.cancel()
        return Done(code, self.out.read_text(encoding="utf-8"), self.err.read_text(encoding="utf-8"))


def finish_cold(process: subprocess.Popen[str]) -> Done:
    """Wait for the end of a process; one that hangs is killed."""
    try:
        out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    return Done(process.returncode, out, err)


@pytest.fixture(scope="session")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """The command line with a cache of its own."""
    line = CommandLine(tmp_path_factory.mktemp("commands"))
    yield line
    line.close()


@pytest.fixture(scope="session")
def write_csv() -> Callable[[Path, Sequence[dict[str, Any]]], Path]:
    """`write_csv(path, rows)` writes rows with a header and gives the path."""

    def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


@pytest.fixture(scope="session")
def list_files() -> Callable[[Path], dict[str, bytes]]:
    """`list_files(folder)` gives the content of every file below it, and nothing for each empty folder."""

    def read(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
            for path in sorted(folder.rglob("*"))
        }

    return read
