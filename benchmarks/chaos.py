"""Kill real runs at random moments, resume them until they end, and compare them bit by bit with undisturbed ones.

    python benchmarks/chaos.py                          # 200 kills; make chaos
    python benchmarks/chaos.py --kills 12               # every kind of run once: a minute; make chaos KILLS=12
    python benchmarks/chaos.py --json chaos.json        # keeps every life: its kills, and what differed

It prints a line for each life (a run from its start to its end) and the tally, and exits with 1 if a run ended
otherwise than the undisturbed one, couldn't be gone on with, or lost its last good checkpoint. Linux, on a CPU.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

os.environ |= {
    "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "TRANSFORMERS_VERBOSITY": "error",
}  # fmt: skip

from chaos_kills import (
    Moment,
    count_changes,
    draw_moment,
    import_libraries,
    kill_at,
    list_unfinished,
    start,
)
from chaos_runs import CASES, RUN, Case, build_place, describe_end, list_differences

KILLED = -9
MOST_KILLS = 5
NEVER = Moment()


@dataclass
class Kill:
    """One kill, and where it found the run."""

    kind: str
    where: str
    """`before the start`, `inside a save`, `while it ran` or `after the end`."""
    step: int
    """Of the newest whole checkpoint on the disk; 0 without one."""


@dataclass
class Life:
    """A run from its start to its end."""

    case: str
    kills: list[Kill] = field(default_factory=list)
    resumed: int = 0
    """Times that it was gone on with; after the other kills there was nothing to go on with, so it was begun again."""
    faults: list[str] = field(default_factory=list)
    """What differs from the undisturbed run, or went wrong on the way."""


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody disturbed."""

    end: dict[str, Any]
    changes: int
    seconds: float


class Chaos:
    """Lives of runs in one place.

    Args:
        place: a new folder for everything.
        source: of all that is random.
    """

    def __init__(self, place: Path, source: random.Random) -> None:
        self.place, self.source = place, source
        self.known: dict[str, Undisturbed] = {}
        self.count = 0

    def live(self, case: Case, kills: int) -> Life:
        """One run that is killed up to `kills` times, then goes on to its end."""
        whole = self.known.get(case.name) or self.run_undisturbed(case)
        folder, life = self.make_folder(), Life(case.name)
        while True:
            is_last = len(life.kills) >= kills
            moment = NEVER if is_last else draw_moment(self.source, whole.changes, whole.seconds)
            newest = find_newest(folder / RUN)
            can_resume = (folder / RUN / case.mark).exists()
            life.resumed += can_resume
            log = folder / f"{len(life.kills)}.log"
            log.touch()  # a kill may come before the child has opened it
            pid = start(case.resume if can_resume else case.start, folder, log, moment)
            code = kill_at(pid, moment, folder / RUN)
            life.faults += check_start(log, newest, case, folder / RUN)
            if code != KILLED:
                break
            life.kills.append(describe_kill(folder / RUN, case, moment))
        said = log.read_text(encoding="utf-8")
        if code:
            life.faults.append(f"exit code {code}: {said.strip().splitlines()[-1:]}")
        else:
            life.faults += list_differences(describe_end(folder / RUN), whole.end)
        if not life.faults:
            shutil.rmtree(folder)
        return life

    def run_undisturbed(self, case: Case) -> Undisturbed:
        """The same run without a kill."""
        folder = self.make_folder()
        began = time.monotonic()
        code = kill_at(start(case.start, folder, folder / "0.log", NEVER), NEVER, folder / RUN)
        if code:
            sys.exit(f"{case.name} fails by itself\n{(folder / '0.log').read_text(encoding='utf-8')}")
        found = Undisturbed(describe_end(folder / RUN), count_changes(folder), time.monotonic() - began)
        self.known[case.name] = found
        return found

    def make_folder(self) -> Path:
        """A new folder for a run and its cache."""
        self.count += 1
        folder = self.place / f"life-{self.count:04d}"
        folder.mkdir()
        return folder


def describe_kill(run: Path, case: Case, moment: Moment) -> Kill:
    """Where a kill found the run, as the disk shows it."""
    if list_unfinished(run):
        where = "inside a save"
    elif not (run / case.mark).exists():
        where = "before the start"
    else:
        where = "after the end" if (run / "report.json").exists() else "while it ran"
    return Kill(moment.kind, where, find_newest(run))


def find_newest(run: Path) -> int:
    """The step of the newest checkpoint that verifies; 0 without one."""
    from afina.training.checkpoint import CheckpointStore

    found, _ = CheckpointStore(run / "checkpoints", 1).find_newest()
    return int(found.state["step"]) if found else 0


def check_start(log: Path, newest: int, case: Case, run: Path) -> list[str]:
    """What went wrong between a kill and the next start: a checkpoint that was whole must be where it goes on."""
    said = log.read_text(encoding="utf-8")
    found = re.search(r"going on after step (\d+)", said)
    faults = ["a traceback"] if "Traceback" in said else []
    if not case.is_search and newest and found and int(found[1]) != newest:
        faults.append(f"step {newest} was lost: it went on after step {found[1]}")
    if not case.is_search and newest and find_newest(run) < newest and not (run / "report.json").exists():
        faults.append(f"step {newest} was lost: step {find_newest(run)} is the newest now")
    return faults


def tally(lives: list[Life]) -> dict[str, Any]:
    """Counts of all lives."""
    kills = [kill for life in lives for kill in life.kills]
    faults = [fault for life in lives for fault in life.faults]
    return {
        "runs": len(lives),
        "kills": len(kills),
        "by moment": dict(Counter(kill.kind for kill in kills)),
        "by place": dict(Counter(kill.where for kill in kills)),
        "resumed": sum(life.resumed for life in lives),
        "begun again": len(kills) - sum(life.resumed for life in lives),
        "equal to the undisturbed run": sum(not life.faults for life in lives),
        "ended otherwise": sum(any(": " in fault for fault in life.faults) for life in lives),
        "last good checkpoint lost": sum("was lost" in fault for fault in faults),
        "tracebacks": faults.count("a traceback"),
    }


def main() -> None:
    """Kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="at least so many in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help=f"one of: {'; '.join(case.name for case in CASES)}. Repeatable")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--keep", action="store_true", help="keep the folder of runs that ended otherwise")
    given = parser.parse_args()
    cases = [case for case in CASES if not given.only or case.name in given.only]
    place = Path(tempfile.mkdtemp(prefix="afina-chaos-"))
    import_libraries()
    if os.fork() == 0:  # this process never computes: threads of torch would not survive a fork
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        build_place(place)
        os._exit(0)
    os.wait()
    source, lives = random.Random(given.seed), list[Life]()
    chaos = Chaos(place, source)
    while not lives or sum(len(life.kills) for life in lives) < given.kills or len(lives) < len(cases):
        try:
            life = chaos.live(cases[len(lives) % len(cases)], source.randint(1, MOST_KILLS))
        except KeyboardInterrupt:
            print("stopped; the tally is that of the lives so far")
            break
        lives.append(life)
        places = ", ".join(kill.where for kill in life.kills) or "no kill came in time"
        print(f"{life.case}: {'; '.join(life.faults) or 'equal'} ({places})", flush=True)
    counts = tally(lives)
    print(json.dumps(counts, indent=2))
    if given.json:
        described = {"tally": counts, "seed": given.seed, "lives": [asdict(life) for life in lives]}
        given.json.write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")
    is_well = counts["equal to the undisturbed run"] == len(lives)
    if is_well or not given.keep:
        shutil.rmtree(place, ignore_errors=True)
    else:
        print(f"kept: {place}")
    sys.exit(0 if is_well else 1)


if __name__ == "__main__":
    main()
