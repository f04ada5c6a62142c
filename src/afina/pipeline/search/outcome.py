"""The end of a search: the verdict on its winner, what is promoted, and the test part, read here for the first time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afina.advice.search.entry import Entry
from afina.advice.search.verdict import bound_scores, judge
from afina.config.reason import Reason
from afina.pipeline.search.loop import SearchLoop
from afina.pipeline.search.summary import rank_trials
from afina.pipeline.search.workbench import TrialNarrator
from afina.runs.folder import FOR_OWNER, RunFolder
from afina.runs.names import REPORT
from afina.runs.paired_comparison import can_judge, compare_pair, write_verdict
from afina.runs.pairing import match_rows

RETRAINED = "best"
OWN_RUN = "the run of the trial itself"


def finish_search(loop: SearchLoop) -> None:
    """Judge, promote the winner or the default, score both on the test part, and write the outcome.

    The test part is scored after the promotion, so that it has no say in it.
    """
    default = next(each for each in loop.mine if each["place"] == 0)
    ranked = rank_trials(loop.tried, loop.plan.metric)
    winner = default if default["score"] == ranked[0]["score"] else ranked[0]
    folder, how = provide_run(loop, winner)
    runs = {each["trial"]: loop.locate(each) for each in ranked} | {winner["trial"]: folder}
    judged = judge_trials(loop, runs, default["trial"], winner["trial"])
    best = promote(loop, judged["verdict"], winner, default, folder, how)
    loop.display.say("scoring the test part, for the first time and once: the winner and the default")
    test = compare_on_test(loop, winner, folder, default)
    loop.write(**judged, winner={"trial": winner["trial"], "run": str(folder.path), "how": how}, best=best, test=test)
    loop.folder.clear_work()
    loop.folder.make_private()


def judge_trials(loop: SearchLoop, runs: Mapping[int, RunFolder], default: int, winner: int) -> dict[str, Any]:
    """`intervals` of all trials whose run can be read on this machine, and the `verdict` on the winner."""
    here = {number: run for number, run in runs.items() if run.is_finished}
    matched = match_rows(list(here.values()), "validation", loop.bench.kind)
    if matched is None:
        return {"intervals": {}, "verdict": None}
    seed, metric, numbers = loop.plan.config.seed, loop.plan.metric, list(here)
    bounds = bound_scores(matched.rows, metric, seed)
    verdict = judge(matched.rows, numbers.index(default), numbers.index(winner), metric, seed)
    return {
        "intervals": {str(number): each for number, each in zip(numbers, bounds, strict=True)},
        "verdict": verdict.as_dict(),
    }


def promote(
    loop: SearchLoop, verdict: Mapping[str, Any] | None, winner: Entry, default: Entry, folder: RunFolder, how: str
) -> dict[str, Any]:
    """The result of the search: the winner where the validation rows say clearly enough that it is better, else the
    default."""
    if verdict is not None and verdict["is_promoted"]:
        return {"trial": winner["trial"], "run": str(folder.path), "how": how, "why": verdict["why_promoted"]}
    why = verdict["why_promoted"] if verdict is not None else "the trials have no scores by row to be judged by"
    return {"trial": default["trial"], "run": str(loop.locate(default).path), "how": OWN_RUN, "why": why}


def compare_on_test(loop: SearchLoop, winner: Entry, folder: RunFolder, default: Entry) -> dict[str, Any]:
    """Test scores of the `winner` and the `default`, and how far apart they are on the same rows."""
    report = score_on_test(loop, winner, folder)
    found: dict[str, Any] = {"winner": pick_test_scores(report)}
    if winner["trial"] == default["trial"]:
        return found
    other = loop.locate(default)
    other_report = score_on_test(loop, default, other)
    found["default"] = pick_test_scores(other_report)
    pair = compare_pair(other, other_report, folder, report, "test")
    metric = loop.plan.metric
    if pair is not None and metric in pair["differences"]:
        found |= {"differences": pair["differences"], "mcnemar": pair["mcnemar"]}
        found["words"] = describe_difference(metric, pair["differences"][metric], pair["rows"])
    return found


def pick_test_scores(report: Mapping[str, Any]) -> dict[str, float]:
    """Those of the test part."""
    return {name: value for name, value in report["metrics"].items() if name.startswith("test/")}


def provide_run(loop: SearchLoop, winner: Entry) -> tuple[RunFolder, str]:
    """The winner's run: that of its trial, or where another machine has it, one trained again here."""
    run = loop.locate(winner)
    if winner["search"] == loop.plan.key and run.model.exists():
        return run, OWN_RUN
    again = RunFolder(loop.folder.path / RETRAINED)
    again.path.mkdir(FOR_OWNER, exist_ok=True)
    if not again.is_finished:
        loop.display.say(f"trial {winner['trial']} ran on {winner['host']}, so it is trained again here")
        config = loop.plan.configure(winner["technique"], dict(winner["settings"]))
        loop.bench.run(config, again, TrialNarrator(loop.display.narrator))
    return again, f"retrained: trial {winner['trial']} ran on {winner['host']}"


def score_on_test(loop: SearchLoop, entry: Entry, folder: RunFolder) -> dict[str, Any]:
    """The run's report with test scores; one that has them already is not scored again."""
    report = folder.read_json(REPORT)
    if report["scored"] == "test":
        return report
    narrator = TrialNarrator(loop.display.narrator)
    narrator.notes = list(report["notes"])
    narrator.reasons = [Reason(**{**each, "otherwise": tuple(each["otherwise"])}) for each in report["reasons"]]
    config = loop.plan.configure(entry["technique"], dict(entry["settings"]), is_trial=False)
    return loop.bench.score_test(config, folder, narrator)


def describe_difference(metric: str, found: Mapping[str, Any], rows: int) -> str:
    """How far the winner is from the default on the test part, and whether chance may explain it."""
    low, high = found["interval"]
    if not can_judge(rows):
        return write_verdict(metric, found["difference"], (low, high), rows)
    doubt = ", which chance may explain" if low <= 0 <= high else ""
    return f"difference {found['difference']:+.4f} {metric} (95 % interval {low:+.4f} to {high:+.4f}){doubt}"
