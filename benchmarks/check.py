"""python benchmarks/check.py: seconds and peak memory of `afina check` on 10,000, 100,000 and 1,000,000 short rows.

It prints one line a size, each of a process of its own, start-up and the reading of the file included:

    rows       seconds       CPU   peak memory
    10,000        17.0       1.7       247 MiB
    100,000       39.4       4.5       263 MiB
    1,000,000    275.4      23.6       504 MiB

(taken while other programs held the machine: see the last sentence)

One row in fifty repeats an earlier one, one in a hundred almost does, one in two hundred has characters gone wrong.
On a machine that has something else to do, the CPU's seconds are those that mean something.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SIZES = (10_000, 100_000, 1_000_000)
WORDS = 20_000
LABELS = ("praise", "complaint", "question", "order")


def write_rows(path: Path, rows: int, seed: int = 0) -> None:
    """Rows of five to twenty words, written while they are made."""
    chance = random.Random(seed)
    words = [f"w{i}" for i in range(WORDS)]
    earlier: list[str] = []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in range(rows):
            text = " ".join(chance.choices(words, k=chance.randint(5, 20)))
            if earlier and row % 50 == 0:
                text = chance.choice(earlier)
            elif earlier and row % 100 == 1:
                text = f"{chance.choice(earlier)} again"
            elif row % 200 == 2:
                text += " cafÃ© trÃ¨s bon"
            if len(earlier) < 10_000:
                earlier.append(text)
            writer.writerow([text, chance.choice(LABELS)])


def measure(path: Path) -> tuple[float, float, int]:
    """Seconds, seconds of the CPU, and peak bytes of one check in a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    command = [sys.executable, "-m", "afina", "check", str(path), "--quiet", "--json"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False)
    assert done.returncode in (0, 2), done.returncode
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_maxrss > before.ru_maxrss, "sizes must rise: the system tells of the largest child only"
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, cpu, after.ru_maxrss * 1024


def main() -> None:
    """One line a size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    sizes = parser.parse_args().sizes
    print(f"{'rows':<10} {'seconds':>7}   {'CPU':>7}   {'peak memory':>11}")
    with tempfile.TemporaryDirectory(prefix="afina-") as folder:
        for rows in sorted(sizes):
            path = Path(folder) / f"{rows}.csv"
            write_rows(path, rows)
            seconds, cpu, peak = measure(path)
            print(f"{rows:<10,} {seconds:>7.1f}   {cpu:>7.1f}   {peak / 2**20:>7,.0f} MiB", flush=True)


if __name__ == "__main__":
    main()
