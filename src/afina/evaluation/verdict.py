"""One honest sentence: how the run stands against the best plain baseline, within what the test rows can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from afina.metrics.direction import is_better_larger

UNMOVED = "No step was better on the validation rows than the start, so this is the model before the first step. "
OVERLAP = " The 95 % intervals overlap, so chance may explain it."
FEW_ROWS = " With so few test rows chance may explain it."
UNTOLD = " Without intervals it can't be told whether chance explains it."


def name_scored(report: Mapping[str, Any]) -> str:
    """The part whose scores the report shows: `test`, or `validation` where the test part was left alone."""
    return str(report.get("scored", "test"))


def write_verdict(report: Mapping[str, Any]) -> str:
    """The sentence, or an empty string where there are no baselines."""
    start = UNMOVED if report.get("kept_step") == 0 else ""
    return start + compare_with_baselines(report)


def compare_with_baselines(report: Mapping[str, Any]) -> str:
    """The sentence on the scores; empty where there are no baselines."""
    metric = report["primary_metric"]
    key = f"{name_scored(report)}/{metric}"
    known = {name: each for name, each in (report.get("baselines") or {}).items() if key in each["metrics"]}
    if not known:
        return ""
    sign = 1 if is_better_larger(metric) else -1
    name, best = max(known.items(), key=lambda item: sign * item[1]["metrics"][key])
    gain = sign * (report["metrics"][key] - best["metrics"][key])
    ours: Any = (report.get("intervals") or {}).get(key)
    theirs: Any = (best.get("intervals") or {}).get(key)
    amount = f"{abs(gain):.3f} {metric}"
    if "gain" in report:
        return compare_with_base(amount, gain, report["gain"].get(key))
    is_clear = bool(ours and theirs) and (ours[0] > theirs[1] or theirs[0] > ours[1])
    doubt = "" if is_clear else OVERLAP if ours and theirs else UNTOLD
    if gain > 0:
        return f"It is {amount} better than the best plain baseline, {name}.{doubt}"
    if is_clear:
        return f"The plain baseline {name} is {amount} better: use that one, or another model or technique."
    return f"It is no better than the plain baseline {name} ({amount} worse).{doubt} The baseline may be enough."


def compare_with_base(amount: str, gain: float, interval: Sequence[float] | None) -> str:
    """The sentence on a language model, from the interval of its gain over the untouched one, row by row."""
    sure, doubt = "", UNTOLD
    if interval:
        low, high = interval
        sure = f" (95 % interval {low:.3f} to {high:.3f})"
        doubt = "" if low > 0 or high < 0 else FEW_ROWS
    if gain > 0:
        return f"It is {amount} better than the untouched model{sure}.{doubt}"
    return f"It is no better than the untouched model ({amount} worse).{doubt}"
