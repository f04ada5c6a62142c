"""Standard streams that whoever started the process has closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = "from afina.cli import fill_streams; fill_streams(); import sys; {}"


@pytest.mark.parametrize(
    ("closed", "code"),
    [
        (">&-", "print('x', sys.stdout.isatty()); assert open(sys.argv[1], 'w').fileno() > 2"),
        ("2>&-", "print('x', file=sys.stderr); assert open(sys.argv[1], 'w').fileno() > 2"),
        ("<&-", "assert sys.stdin.readline() == ''; assert open(sys.argv[1], 'w').fileno() > 2"),
        ("<&- >&- 2>&-", "print('x'); assert open(sys.argv[1], 'w').fileno() > 2"),
    ],
)
def test_a_closed_stream_is_the_null_device(closed: str, code: str, tmp_path: Path) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", CODE.format(code), str(tmp_path / "file")]
    subprocess.run(command, check=True, timeout=60)
    assert (tmp_path / "file").read_text() == ""
