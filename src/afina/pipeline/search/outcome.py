"""The end of a search: the verdict on its winner, and the test part, which is read here for the first time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afina.advice.search.verdict import bound_scores, judge
from afina.pipeline.search.loop import SearchLoop
from afina.pipeline.search.summary import rank_trials
from afina.pipeline.search.workbench import TrialNarrator
from afina.runs.folder import RunFolder
from afina.runs.paired_comparison import compare_pair
from afina.runs.pairing import match_rows

Entry = Mapping[str, Any]
RETRAINED = "best"


def finish_search(loop: SearchLoop) -> None:
    """Judge, score the winner and the default on the test part, and write the outcome."""
    plan, folder = loop.plan, loop.folder
    ranked = rank_trials(loop.tried, plan.metric)
    default = next(each for each in loop.mine if each["place"] == 0)
    winner = ranked[0]
    judged = judge_trials(loop, ranked, default)
    loop.display.say("scoring the test part, for the first time and once: the winner and the default")
    winner_folder, how = provide_run(loop, winner)
    folders = {"winner": winner_folder}
    if winner["trial"] != default["trial"]:
        folders["default"] = loop.locate(default)
    entries = {"winner": winner, "default": default}
    reports = {name: score_on_test(loop, entries[name], each) for name, each in folders.items()}
    test: dict[str, Any] = {
        name: {key: value for key, value in report["metrics"].items() if key.startswith("test/")}
        for name, report in reports.items()
    }
    if "default" in folders:
        pair = compare_pair(folders["default"], reports["default"], winner_folder, reports["winner"], "test")
        if pair is not None and plan.metric in pair["differences"]:
            test |= {"differences": pair["differences"], "mcnemar": pair["mcnemar"]}
            test["words"] = describe_difference(plan.metric, pair["differences"][plan.metric])
    best = {"trial": winner["trial"], "run": str(winner_folder.path), "how": how}
    loop.write(**judged, best=best, test=test)
    folder.clear_work()


def judge_trials(loop: SearchLoop, ranked: list[Entry], default: Entry) -> dict[str, Any]:
    """`intervals` of all trials whose run is on this machine, and the `verdict` on the best of them."""
    here = [each for each in ranked if loop.locate(each).is_finished]
    matched = match_rows([loop.locate(each) for each in here], "validation", loop.bench.kind)
    if matched is None:
        return {"intervals": {}, "verdict": None}
    numbers = [each["trial"] for each in here]
    seed, metric = loop.plan.config.seed, loop.plan.metric
    bounds = bound_scores(matched.rows, metric, seed)
    verdict = judge(matched.rows, numbers.index(default["trial"]), 0, metric, seed)
    return {
        "intervals": {str(number): each for number, each in zip(numbers, bounds, strict=True)},
        "verdict": verdict.as_dict(),
    }


def provide_run(loop: SearchLoop, winner: Entry) -> tuple[RunFolder, str]:
    """The winner's run: that of its trial, or where another machine has it, one trained again here."""
    run = loop.locate(winner)
    if winner["search"] == loop.plan.key and run.model.exists():
        return run, "promoted: the run of the trial itself"
    again = RunFolder(loop.folder.path / RETRAINED)
    again.path.mkdir(exist_ok=True)
    if not again.is_finished:
        loop.display.say(f"trial {winner['trial']} ran on {winner['host']}, so it is trained again here")
        config = loop.plan.configure(winner["technique"], dict(winner["settings"]))
        loop.bench.run(config, again, TrialNarrator(loop.display.narrator))
    return again, f"retrained: trial {winner['trial']} ran on {winner['host']}"


def score_on_test(loop: SearchLoop, entry: Entry, folder: RunFolder) -> dict[str, Any]:
    """The run's report with test scores; one that has them already is not scored again."""
    report = folder.read_json("report.json")
    if report["scored"] == "test":
        return report
    narrator = TrialNarrator(loop.display.narrator)
    narrator.notes = list(report["notes"])
    config = loop.plan.configure(entry["technique"], dict(entry["settings"]), is_trial=False)
    return loop.bench.score_test(config, folder, narrator)


def describe_difference(metric: str, found: Mapping[str, Any]) -> str:
    """How far the winner is from the default on the test part, and whether chance may explain it."""
    low, high = found["interval"]
    doubt = ", which chance may explain" if low <= 0 <= high else ""
    return f"difference {found['difference']:+.4f} {metric} (95 % interval {low:+.4f} to {high:+.4f}){doubt}"
