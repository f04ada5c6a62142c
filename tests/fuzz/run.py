"""Long fuzzing: `FUZZ_SECONDS=600 make fuzz`, or `python tests/fuzz/run.py --seconds 600 [TARGET ...]`.

Prints, for each target, how many inputs were read, how many of them refused, and what went wrong:

    target           inputs   accepted    refused   wrong    slowest
    csv              41,200      3,812     37,388       0      0.3 s
    ...
    1,204,113 inputs, 0 of them wrong

An input that ends otherwise than with an `AfinaError`, or takes the processor longer than ten seconds, is kept in
tests/fuzz/corpus/TARGET/, where the tests read it again. Each target runs in a process of its own, which writes down
its input before it reads it, so that one that kills the process is kept too. Files are made in memory where the
system has a folder there: on a disk, making and removing them takes longer than reading them.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from mutations import make_input
from target import Target, is_refusal
from targets import TARGETS

from afina.errors import AfinaError

CORPUS = Path(__file__).with_name("corpus")
MEMORY = Path("/dev/shm")
SLOW_SECONDS = 10


def keep(target: str, data: bytes, why: str) -> None:
    """Store an input for the tests, one for each place where it goes wrong."""
    name = hashlib.sha256(why.encode()).hexdigest()[:12]
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)
    say(f"{target}: {name}: {why}")


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


def find_place(error: BaseException) -> str:
    """The error and the last line of ours that it went through, which tells two faults apart."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/afina/" in frame.filename]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    words = re.sub(r"\d+", "#", str(error)[:200])  # a place in the input is no other fault
    return f"{type(error).__name__} in {place}: {words}"


def fuzz(target: Target, seconds: float, seed: int, place: Path) -> dict[str, Any]:
    """Read made-up inputs until the time is over."""
    draw, tally = random.Random(seed), {"inputs": 0, "accepted": 0, "refused": 0, "wrong": 0, "slowest": 0.0}
    (place / "seeds").mkdir()
    seeds, end, found = target.make_seeds(place / "seeds"), time.monotonic() + seconds, set()
    with contextlib.suppress(AfinaError):
        target.read(seeds[0], place / "seeds")  # imports what the first input would be blamed for
    while time.monotonic() < end:
        data = make_input(draw, seeds)
        (place / "current").write_bytes(data)
        folder = place / "input"
        folder.mkdir()
        start = time.process_time()  # however busy the machine is
        signal.setitimer(signal.ITIMER_PROF, 6 * SLOW_SECONDS)  # kills
        try:
            target.read(data, folder)
            tally["accepted"] += 1
        except Exception as error:
            tally["refused" if is_refusal(error) else "wrong"] += 1
            if not is_refusal(error) and (why := find_place(error)) not in found:
                found.add(why)
                keep(target.name, data, why)
        signal.setitimer(signal.ITIMER_PROF, 0)
        taken = time.process_time() - start
        if taken > SLOW_SECONDS:
            tally["wrong"] += 1
            keep(target.name, data, f"{taken:.0f} seconds")
        tally["slowest"] = max(tally["slowest"], taken)
        tally["inputs"] += 1
        shutil.rmtree(folder)
        (place / "tally").write_text(json.dumps(tally))
    return tally


def run_apart(name: str, seconds: float, seed: int) -> dict[str, Any]:
    """Fuzz one target in another process; one that is killed leaves its input, and another goes on."""
    total: dict[str, Any] = {"inputs": 0, "accepted": 0, "refused": 0, "wrong": 0, "slowest": 0.0}
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        with tempfile.TemporaryDirectory(prefix="afina-fuzz-", dir=MEMORY if MEMORY.is_dir() else None) as place:
            command = [sys.executable, __file__, "--child", place, "--seconds", str(left), "--seed", str(seed), name]
            code = subprocess.run(command).returncode
            path = Path(place, "tally")
            tally = json.loads(path.read_text()) if path.exists() else dict(total, inputs=0)
            current = Path(place, "current")
            if code and not current.exists():
                raise SystemExit(f"{name}: the process ended with {code} before its first input")
            if code:
                tally["wrong"] += 1
                keep(name, current.read_bytes(), f"process ended with {code}")
        for key in ("inputs", "accepted", "refused", "wrong"):
            total[key] += tally[key]
        total["slowest"] = max(total["slowest"], tally["slowest"])
        seed += 1
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    parser.add_argument(
        "--seconds", type=float, default=float(os.environ.get("FUZZ_SECONDS", 60)), help="for all targets"
    )
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(2**32)
    if options.child:
        faulthandler.enable()
        tempfile.tempdir = str(options.child)
        os.environ["AFINA_CACHE"] = str(options.child / "cache")
        warnings.simplefilter("ignore")
        fuzz(TARGETS[options.targets[0]], options.seconds, seed, options.child)
        return
    say(f"{'target':22}{'inputs':>10}{'accepted':>11}{'refused':>11}{'wrong':>8}{'slowest':>11}")
    inputs = wrong = 0
    for name in options.targets:
        tally = run_apart(name, options.seconds / len(options.targets), seed)
        inputs, wrong = inputs + tally["inputs"], wrong + tally["wrong"]
        say(f"{name:22}{tally['inputs']:>10,}{tally['accepted']:>11,}{tally['refused']:>11,}{tally['wrong']:>8,}"
            f"{tally['slowest']:>9.1f} s")  # fmt: skip
    say(f"{inputs:,} inputs, {wrong:,} of them wrong (seed {seed})")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
