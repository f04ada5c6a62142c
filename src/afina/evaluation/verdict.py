"""One honest sentence: how the run stands against the best plain baseline, within what the test rows can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from afina.metrics.direction import is_better_larger

UNMOVED = "No step was better on the validation rows than the start, so this is the model before the first step. "
CHANCE = " Chance may explain it."
UNTOLD = " Without an interval of the gain it can't be told whether chance explains it."
UNTOUCHED = "untouched model"
CONSTANT = "majority"


def name_scored(report: Mapping[str, Any]) -> str:
    """The part whose scores the report shows: `test`, or `validation` where the test part was left alone."""
    return str(report.get("scored", "test"))


def write_verdict(report: Mapping[str, Any]) -> str:
    """The sentence, or an empty string where there are no baselines."""
    start = UNMOVED if report.get("kept_step") == 0 else ""
    return start + compare_with_baselines(report)


def compare_with_baselines(report: Mapping[str, Any]) -> str:
    """The sentence on the scores; empty where there are no baselines.

    Whether chance explains a difference is told by its own interval, over the same rows for both, never by two
    intervals that overlap: rows that are hard for both widen these and not the difference.
    """
    metric = report["primary_metric"]
    key = f"{name_scored(report)}/{metric}"
    known = {name: each for name, each in (report.get("baselines") or {}).items() if key in each["metrics"]}
    if not known:
        return ""
    sign = 1 if is_better_larger(metric) else -1
    name, best = max(known.items(), key=lambda item: sign * item[1]["metrics"][key])
    gain = sign * (report["metrics"][key] - best["metrics"][key])
    told = describe_gain(f"{abs(gain):.3f} {metric}", gain, (best.get("gain") or {}).get(key), name)
    return told + doubt_probabilities(report, known)


def describe_gain(amount: str, gain: float, interval: Sequence[float] | None, name: str) -> str:
    """The sentence on one baseline, from the interval of the gain over it: above 0 is better."""
    low, high = interval or (0.0, 0.0)
    is_clear = low > 0 or high < 0
    bounds = f" (95 % interval of the gain {low:+.3f} to {high:+.3f}, on the same rows)" if interval else ""
    doubt = "" if is_clear else CHANCE if interval else UNTOLD
    is_base = name == UNTOUCHED
    if gain == 0:
        which = f"the {name}" if is_base else f"the best plain baseline, {name}"
        return f"It is exactly as good as {which}." + ("" if is_base else " The baseline may be enough.")
    if gain > 0:
        against = f"the {name}" if is_base else f"the best plain baseline, {name}"
        return f"It is {amount} better than {against}{bounds}.{doubt}"
    if is_base:
        return f"It is no better than the {name}: {amount} worse{bounds}.{doubt}"
    if is_clear:
        return f"The plain baseline {name} is {amount} better{bounds}: use that one, or another model or technique."
    return f"It is no better than the plain baseline {name}: {amount} worse{bounds}.{doubt} The baseline may be enough."


def doubt_probabilities(report: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """A warning where the probabilities are worse than those of the answer that ignores the text; else empty."""
    key = f"{name_scored(report)}/loss"
    constant, ours = known.get(CONSTANT, {"metrics": {}})["metrics"].get(key), report["metrics"].get(key)
    if constant is None or ours is None or ours <= constant:
        return ""
    return (
        f" Its probabilities are worse than those of {CONSTANT}, which never reads the text (loss {ours:.3f} and"
        f" {constant:.3f}): go by what it predicts, not by how sure it is."
    )
