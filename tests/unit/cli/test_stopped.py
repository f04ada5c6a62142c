"""A stop signal that comes when everything is over changes nothing of how the process ends."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, signal, sys
from afina.cli import main

sys.argv = ["afina", "--version"]
try:
    main()
except SystemExit as end:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        os.kill(os.getpid(), number)
    print(signal.getitimer(signal.ITIMER_REAL))
    raise
"""


def test_a_signal_after_the_end_is_ignored_and_no_timer_runs_on() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "(0.0, 0.0)"
