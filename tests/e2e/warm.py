"""A program that has imported the heavy libraries and forks itself for each command: `afina` without the wait.

Reads one JSON object a line on stdin and answers with one: {"start": {...}} gives {"pid": n}, {"wait": pid} gives
{"code": n}, as of subprocess. The child is a process like any other, with signals, files and exit code of its own.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from typing import Any


def import_libraries() -> None:
    """All that commands import beside afina itself."""
    import accelerate  # noqa: F401
    import peft  # noqa: F401
    import pyarrow  # noqa: F401
    import pydantic  # noqa: F401
    import rich.console
    import rich.table  # noqa: F401
    import sklearn.feature_extraction.text
    import sklearn.linear_model  # noqa: F401
    import torch
    import transformers.models.bert.modeling_bert  # noqa: F401
    import typer  # noqa: F401
    from transformers import AutoModelForSequenceClassification, AutoTokenizer  # noqa: F401

    torch.set_num_threads(1)


def run_command(job: dict[str, Any]) -> int:
    """The exit code of one command, in a child."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(job["cwd"])
    os.environ.update(job["environment"])
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, handle in enumerate((nothing, open_new(job["out"]), open_new(job["err"]))):
        os.dup2(handle, number)
    sys.argv = ["afina", *job["arguments"]]
    try:
        from afina.cli import main

        main()
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def open_new(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_libraries()
    for line in sys.stdin:
        job = json.loads(line)
        if "wait" in job:
            answer = {"code": os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1])}
        else:
            pid = os.fork()
            if pid == 0:
                code = run_command(job["start"])
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
            answer = {"pid": pid}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
