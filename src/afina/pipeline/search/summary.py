"""A search in words and rows: what its table shows, best trial first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from afina.advice.search.budget import describe_seconds
from afina.advice.search.entry import Entry
from afina.config.techniques import AUTO
from afina.metrics.direction import is_better_larger


def rank_trials(entries: Sequence[Entry], metric: str) -> list[Entry]:
    """The trials with a score, best first; of equals the earlier one, so the default stays where none is better."""
    sign = -1.0 if is_better_larger(metric) else 1.0
    scored = [(sign * each["score"], each["trial"], each) for each in entries if each["score"] is not None]
    return [each for _, _, each in sorted(scored, key=lambda found: found[:2])]


def make_header(metric: str) -> tuple[str, ...]:
    """The names of the columns; the widest one is the last."""
    return ("trial", "technique", f"validation {metric}", "time", "ended", "settings")


def make_rows(entries: Sequence[Entry], metric: str, intervals: Mapping[str, Sequence[float]]) -> list[tuple[str, ...]]:
    """Cells of the ranked trials under the header; then those without a score."""
    ranked = rank_trials(entries, metric)
    rest = [each for each in entries if each["score"] is None]
    return [
        (
            f"{each['trial']}", each["technique"], describe_score(each, intervals),
            describe_seconds(each["seconds"]), each["why"] or "at its end", describe_trial(each),
        )
        for each in [*ranked, *rest]
    ]  # fmt: skip


def describe_score(entry: Entry, intervals: Mapping[str, Sequence[float]]) -> str:
    """`0.8713 [0.8350, 0.9051]`, or a dash."""
    if entry["score"] is None:
        return "-"
    bounds = intervals.get(str(entry["trial"]))
    return f"{entry['score']:.4f}" + (f" [{bounds[0]:.4f}, {bounds[1]:.4f}]" if bounds else "")


def describe_settings(settings: Mapping[str, Any]) -> str:
    """`learning_rate 0.00042, r 8`, or `default`."""
    shown = [f"{path.rpartition('.')[2]} {value}" for path, value in settings.items() if path != "lora.lora_alpha"]
    return ", ".join(shown) or "default"


def describe_trial(entry: Entry) -> str:
    """Its settings, and whether it chose its technique by itself."""
    shown = describe_settings(entry["settings"])
    if entry.get("asked") != AUTO:
        return shown
    return f"default: chosen by auto, {shown}" if entry["settings"] else "default: chosen by auto"


def summarise(search: Mapping[str, Any]) -> str:
    """The ranked table and the verdict as plain text."""
    metric = search["plan"]["metric"]
    rows = [make_header(metric), *make_rows(search["trials"], metric, search["intervals"])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *describe_outcome(search)])


def describe_outcome(search: Mapping[str, Any]) -> list[str]:
    """The sentences on the winner."""
    best = search["best"]
    if best is None:
        return ["The search isn't finished."]
    lines = [search["verdict"]["words"]] if search["verdict"] else []
    lines += [f"Test part, scored once: {describe_test(search)}"]
    lines += [*describe_ties(search), *describe_gaps(search["trials"])]
    return [*lines, describe_promotion(search), f"best run: trial {best['trial']}, {best['run']} ({best['how']})"]


def describe_promotion(search: Mapping[str, Any]) -> str:
    """Which of the winner and the default is the result, and why."""
    best, winner = search["best"], search["winner"]
    if winner["trial"] == best["trial"]:
        number = f"trial {best['trial']}, the best by score"
        return f"The result is {number}: {best['why']}."
    return f"The result is the default, trial {best['trial']}, and not trial {winner['trial']}: {best['why']}."


def describe_ties(search: Mapping[str, Any]) -> list[str]:
    """How the winner was chosen among equals, where it has any."""
    ranked = rank_trials(search["trials"], search["plan"]["metric"])
    equals = [each["trial"] for each in ranked if each["score"] == ranked[0]["score"]]
    if len(equals) < 2:
        return []
    numbers = ", ".join(map(str, equals))
    return [f"Trials {numbers} score the same: of equals the default wins, else the earliest."]


def describe_gaps(entries: Sequence[Entry]) -> list[str]:
    """Why some numbers are missing between those of the trials, where they are."""
    numbers = {each["trial"] for each in entries}
    missing = sorted(set(range(max(numbers))) - numbers)
    if not missing:
        return []
    words = "number" if len(missing) == 1 else "numbers"
    return [
        f"{len(missing)} {words} without a trial: proposals passed over, tried before or too long for the time left."
    ]


def describe_test(search: Mapping[str, Any]) -> str:
    """What the test part says of the winner and the default."""
    metric, test = search["plan"]["metric"], search["test"]
    scores = ", ".join(f"{name} {test[name][f'test/{metric}']:.4f}" for name in ("winner", "default") if name in test)
    return f"{metric}: {scores}" + (f"; {test['words']}" if test.get("words") else "")
