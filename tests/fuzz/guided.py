"""Fuzzing that is led by which lines of afina an input reaches: `pip install '.[fuzz]'`, then

    python tests/fuzz/guided.py csv -max_total_time=600

It goes on until the first input that ends otherwise than with an `AfinaError`, and writes that down (libFuzzer's
flags: https://llvm.org/docs/LibFuzzer.html). Slower than `run.py`, and finds what chance doesn't.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import tempfile
import warnings
from pathlib import Path

import atheris  # type: ignore[import-not-found]

READERS = ("config", "data", "models", "runs", "tasks")
with atheris.instrument_imports(include=["afina"]):
    from target import is_refusal
    from targets import TARGETS

    import afina

    for module in pkgutil.walk_packages(afina.__path__, "afina."):  # else imported where nobody looks
        if module.name.split(".")[1] in READERS:
            importlib.import_module(module.name)


def main() -> None:
    warnings.simplefilter("ignore")
    target = TARGETS[sys.argv.pop(1)]

    def read(data: bytes) -> None:
        with tempfile.TemporaryDirectory(prefix="afina-fuzz-") as folder:
            try:
                target.read(data, Path(folder))
            except Exception as error:
                if not is_refusal(error):
                    raise

    with tempfile.TemporaryDirectory(prefix="afina-seeds-") as seeds, tempfile.TemporaryDirectory() as made:
        for number, data in enumerate(target.make_seeds(Path(made))):
            Path(seeds, str(number)).write_bytes(data)
        atheris.Setup([*sys.argv, seeds], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
