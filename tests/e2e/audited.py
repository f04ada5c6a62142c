"""A program that fine-tunes, saves and predicts under an audit hook, and prints what happened that may not happen.

`python audited.py PLACE [SAMPLE]` with PLACE/bert, PLACE/llama, PLACE/rows.csv, PLACE/chats.jsonl and the folders
PLACE/work, PLACE/cache and PLACE/tmp. One JSON object comes out: the events of each kind, and what was found among
them. With SAMPLE it does, in place of a fine-tuning, one thing that may not happen.

Python raises its audit events (docs.python.org/3/library/audit_events.html) from the interpreter, so that a library
can't leave them out. What is written by compiled code goes unnoticed; the test looks at the folders for that.
"""

from __future__ import annotations

import json
import os
import site
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

PLACE = Path(sys.argv[1]).resolve()
SOURCE = Path(__file__).resolve().parents[2] / "src"
LIBRARIES = tuple(
    str(Path(folder).resolve())
    for folder in (
        *site.getsitepackages(), *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
        SOURCE,
    )
)  # fmt: skip
WRITABLE = tuple(str(PLACE / name) for name in ("work", "cache", "tmp"))
# The last one is the kernel's switch that starts the measurement of peak memory anew.
DEVICES = (os.devnull, "/dev/shm", f"/proc/{os.getpid()}/clear_refs")
FORBIDDEN = (
    "ftplib.connect", "http.client.connect", "marshal.load", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn",
    "os.spawn", "os.startfile", "os.system", "pickle.find_class", "pty.spawn", "smtplib.connect", "socket.bind",
    "socket.connect", "socket.getaddrinfo", "socket.gethostbyaddr", "socket.gethostbyname", "socket.sendto",
    "subprocess.Popen", "urllib.Request",
)  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# event -> which of its arguments are paths that are changed
CHANGING = {
    "os.chmod": (0,), "os.chown": (0,), "os.link": (1,), "os.mkdir": (0,), "os.remove": (0,), "os.rename": (0, 1),
    "os.rmdir": (0,), "os.symlink": (1,), "os.truncate": (0,), "shutil.copyfile": (1,), "shutil.move": (0, 1),
    "shutil.rmtree": (0,),
}  # fmt: skip


class Watch:
    """What was seen, by phase."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.found: list[str] = []
        self.compilers: set[str] = set()
        self.phase = "start"
        self.is_busy = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_busy:  # what this hook does itself
            return
        self.is_busy = True
        try:
            self.look(event, arguments)
        finally:
            self.is_busy = False

    def look(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in FORBIDDEN or event in CHANGING or event in ("compile", "exec", "import", "open"):
            self.counts[event] += 1
        if event in FORBIDDEN:
            self.report(event, arguments)
        elif event == "open":
            path, _, flags = arguments
            if flags & WRITING and not is_writable(path):
                self.report("open for writing", arguments)
        elif event in CHANGING:
            if not all(is_writable(arguments[place]) for place in CHANGING[event]):
                self.report(event, arguments)
        elif event == "exec":
            self.look_at_code(arguments[0])
        elif event == "compile":
            self.look_at_text(arguments[1])

    def look_at_code(self, code: Any) -> None:
        """Code of a file must be of a library's; other code is text that a library compiled."""
        name = code.co_filename
        if not name.startswith("<") and os.path.isabs(name) and not is_library(name) and os.path.exists(name):
            self.report("exec", (name,))

    def look_at_text(self, name: Any) -> None:
        """Who makes code of text: a file of a library does when it is imported, else the library's own module."""
        if isinstance(name, bytes):
            name = os.fsdecode(name)
        frame: Any = sys._getframe(3)
        while frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
            frame = frame.f_back
        caller = frame.f_code.co_filename if frame else "?"
        if isinstance(name, str) and is_library(name) and os.path.isfile(name):
            return
        if not is_library(caller) and not caller.startswith("<"):
            self.report("compile", (str(name), caller))
        self.compilers.add(shorten(caller))

    def report(self, event: str, arguments: tuple[Any, ...]) -> None:
        frame: Any = sys._getframe(3)
        callers = []
        while frame is not None and len(callers) < 8:
            callers.append(f"{shorten(frame.f_code.co_filename)}:{frame.f_lineno}")
            frame = frame.f_back
        self.found.append(f"{self.phase}: {event} {str(arguments)[:200]} from {' < '.join(callers)}")


def is_library(path: str) -> bool:
    return os.path.realpath(path).startswith(LIBRARIES)


def is_writable(path: Any) -> bool:
    if isinstance(path, int) or path in (None, -1):
        return True  # a file that is open already, or a pipe
    return os.path.realpath(os.fsdecode(path)).startswith((*WRITABLE, *DEVICES))


def shorten(path: str) -> str:
    """The path of a library's file below where libraries lie."""
    for folder in sorted(LIBRARIES, key=len, reverse=True):
        if path.startswith(folder):
            return path[len(folder) + 1 :]
    return path


def run_labelled(technique: str) -> Callable[[], None]:
    def run() -> None:
        import afina

        precision = "bf16" if technique == "full" else "fp32"  # the first takes the compiled kernel
        settings = {"num_train_epochs": 1, "bootstrap_resamples": 5, "precision": precision}
        run = afina.fit(PLACE / "bert", PLACE / "rows.csv", technique, output=technique, verbose=False, **settings)
        assert run.predict(["a text"])
        afina.evaluate(run.path, PLACE / "rows.csv")
        afina.predict_file(run.path, PLACE / "rows.csv", f"{technique}.csv", verbose=False)

    return run


def run_language() -> None:
    import afina

    settings = {
        "num_train_epochs": 1, "bootstrap_resamples": 0, "precision": "fp32", "chat_template": "chatml",
        "max_seq_length": 120, "generation_samples": 1, "max_new_tokens": 2,
    }  # fmt: skip
    run = afina.fit(PLACE / "llama", PLACE / "chats.jsonl", "lora", output="language", verbose=False, **settings)
    assert len(run.generate(["what is it"], max_new_tokens=2)) == 1
    afina.merge(run.path, "merged")


PHASES: dict[str, Callable[[], None]] = {
    "feature-extraction": run_labelled("feature-extraction"),
    "full": run_labelled("full"),
    "lora": run_labelled("lora"),
    "language model": run_language,
}


def call_socket() -> None:
    import socket

    with socket.socket() as connection:
        connection.settimeout(0.1)
        try:
            connection.connect(("127.0.0.1", 9))
        except OSError:
            return


def start_program() -> None:
    import subprocess

    subprocess.run(["true"], check=True)


def unpickle() -> None:
    import pickle

    pickle.loads(pickle.dumps(Path))


def run_file() -> None:
    (PLACE / "work" / "own.py").write_text("VALUE = 1")
    sys.path.insert(0, str(PLACE / "work"))
    import own  # type: ignore[import-not-found]

    assert own.VALUE == 1


SAMPLES: dict[str, Callable[[], object]] = {
    "code": run_file,
    "compile": lambda: eval("1 + 1"),
    "directory": (PLACE / "elsewhere").mkdir,
    "network": call_socket,
    "pickle": unpickle,
    "program": start_program,
    "write": lambda: (PLACE / "elsewhere.txt").write_text("text"),
}


def main() -> None:
    watch = Watch()
    sys.addaudithook(watch)
    phases: dict[str, Callable[[], object]] = {"sample": SAMPLES[sys.argv[2]]} if len(sys.argv) > 2 else {**PHASES}
    for phase, run in phases.items():
        watch.phase = phase
        run()
    watch.is_busy = True
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    real = {file for file in files if isinstance(file, str) and os.path.isabs(file)}  # torch has modules without files
    strange = sorted(file for file in real if not is_library(file) and file != __file__)
    seen = {"counts": watch.counts, "found": watch.found, "compilers": sorted(watch.compilers), "modules": strange}
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main()
