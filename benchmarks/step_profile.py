"""Where the time of afina's optimizer steps goes, by operator: what `--profile` of a benchmark prints.

torch's profiler makes a step slower, so figures of such a run are shares, and no speeds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from afina.training.events import Callback

# The first steps set memory up and compile products, so they say nothing of the others.
STEPS_BEFORE = 4
STEPS_PROFILED = 4
MOST_OPERATORS = 25


class StepProfile(Callback):
    """Profiles a few steps; `table` then holds the operators with the most time of their own."""

    def __init__(self) -> None:
        self.table = f"too few steps for a profile: it takes {STEPS_BEFORE + STEPS_PROFILED}"
        self.profiler: profile | None = None
        self.steps = 0

    def on_step_end(self, step: int, values: dict[str, float]) -> None:
        self.steps += 1
        if self.steps == STEPS_BEFORE:
            self.profiler = open_profiler()
            self.profiler.start()
        elif self.steps == STEPS_BEFORE + STEPS_PROFILED and self.profiler is not None:
            self.profiler.stop()
            self.table = write_table(self.profiler)
            self.profiler = None


def open_profiler() -> profile:
    """A profiler of the CPU, also of threads that Python started, and of the GPU if there is one."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    settings = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)
    return profile(activities=activities, experimental_config=settings)


def write_table(profiler: profile) -> str:
    """Milliseconds a step (of all threads together), share, and calls a step of each operator, the largest first."""
    events = sorted(profiler.key_averages(), key=count_seconds, reverse=True)
    total = sum(map(count_seconds, events)) or 1.0
    lines = [f"{'ms a step':>10}{'share':>8}{'calls':>8}  operator"]
    for event in events[:MOST_OPERATORS]:
        seconds, calls = count_seconds(event), event.count / STEPS_PROFILED
        lines.append(f"{1000 * seconds / STEPS_PROFILED:10.2f}{seconds / total:8.1%}{calls:8.0f}  {event.key}")
    return "\n".join(lines)


def count_seconds(event: Any) -> float:
    """Seconds of an operator without those that it calls: of the GPU where it ran there, else of the CPU."""
    return float(event.self_device_time_total or event.self_cpu_time_total) / 1e6
