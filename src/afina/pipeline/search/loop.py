"""The trials of a search, one after the other, until the budget, the space or the wished number of them is spent."""

from __future__ import annotations

import gc
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.advice.search.budget import Budget, TrialDurations, describe_seconds
from afina.advice.search.entry import Entry, Outcome, join_outcome
from afina.advice.search.neighbourhood import choose_neighbourhood
from afina.advice.search.openings import list_openings
from afina.advice.search.space import CONTRASTIVE, Proposal, Space
from afina.advice.search.study import Ledger
from afina.config.resolve import resolve_config
from afina.config.run import RunConfig
from afina.config.techniques import AUTO, FIRST_LOOK
from afina.errors import ConfigError, Interrupted, ProofError, ResourceError, TrainingError
from afina.pipeline.search.display import Display
from afina.pipeline.search.plan import SearchPlan
from afina.pipeline.search.settling import describe_choice, list_known
from afina.pipeline.search.summary import describe_settings, rank_trials
from afina.pipeline.search.trial import TrialListener
from afina.pipeline.search.workbench import TrialNarrator, Workbench
from afina.runs.folder import RunFolder
from afina.runs.lock import hold_folder
from afina.runs.names import REPORT
from afina.runs.search_folder import SearchFolder
from afina.training.memory import reset_peak_memory
from afina.wording import count

if TYPE_CHECKING:
    import optuna

# Proposals in a row that were tried before or would take too long; then the search ends.
MOST_SKIPPED = 50


class SearchLoop:
    """A search while it runs. The entries of its trials are kept in the study."""

    def __init__(
        self, plan: SearchPlan, folder: SearchFolder, bench: Workbench, space: Space, ledger: Ledger, budget: Budget,
        display: Display,
    ) -> None:  # fmt: skip
        self.plan, self.folder, self.bench, self.space = plan, folder, bench, space
        self.ledger, self.budget, self.display = ledger, budget, display
        self.durations = TrialDurations()
        self.test_seconds = 0.0
        """What scoring the test part will take, for the winner and the default."""
        self.entries = self.ledger.entries()
        for entry in self.mine:
            self.learn_duration(entry)
            if entry["state"] != "running" and not entry["is_told"]:  # a kill came between the two
                self.tell(self.ledger.reopen(entry["trial"]), entry)

    @property
    def mine(self) -> list[Entry]:
        """Entries of this search; others may share the storage."""
        return [entry for entry in self.entries if entry["search"] == self.plan.key]

    @property
    def tried(self) -> list[Entry]:
        """Those that ran, whatever came of it, but for lack of time."""
        return [entry for entry in self.entries if entry["state"] in ("finished", "stopped", "failed")]

    @property
    def ended(self) -> list[Entry]:
        """Those that ran, and those that lacked time to."""
        return [entry for entry in self.entries if entry["state"] not in ("running", "skipped")]

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The best trial of all machines so far."""
        return next(iter(rank_trials(self.tried, self.plan.metric)), None)

    def run(self) -> None:
        """Go on with a trial that was stopped, then take new ones while there is time."""
        self.drop_models()  # a kill may have come before this was done
        with self.display.running():
            for entry in self.mine:
                if entry["state"] == "running":
                    self.run_trial(self.ledger.reopen(entry["trial"]), entry)
            while (found := self.propose()) is not None:
                self.run_trial(*found)

    def propose(self) -> tuple[optuna.trial.Trial, Entry] | None:
        """The next trial that is new and can be expected to end in time; None where there is none."""
        for _ in range(MOST_SKIPPED):
            most, done = self.plan.most_trials, len([e for e in self.mine if e["state"] != "skipped"])
            if most and done >= most:
                self.display.say(f"the limit of {count(most, 'trial')} is reached")
                return None
            place, opening = len(self.mine), self.find_opening()
            fixed = self.fix_parameters(opening)
            trial = self.ledger.ask(place, fixed)
            # A trial that chooses its technique itself becomes a point of the space when it has.
            proposal = Proposal(AUTO, {}) if fixed == {} else self.ledger.propose(self.space, trial)
            entry = self.describe(trial.number, place, proposal) | {"opening": opening}
            repeat = self.find_repeat(entry)
            shortage = "" if repeat else self.find_shortage(entry)
            obstacle = repeat or shortage
            if shortage:
                entry["budget_seconds"] = self.budget.seconds
            self.keep(trial, entry | ({"state": "skipped", "why": obstacle} if obstacle else {}))
            if not obstacle:
                return trial, entry
            self.ledger.tell(trial, "failed")
            if opening is not None:
                shown = f"{proposal.technique}, {describe_settings(proposal.settings)}"
                self.display.say(f"{shown} is left out: {obstacle}")
        self.display.say(
            f"the search ends: none of {MOST_SKIPPED} proposals in a row is worth starting; of the last one,"
            f" {proposal.technique} with {describe_settings(proposal.settings)}: {obstacle}"
        )
        return None

    @property
    def openings(self) -> list[dict[str, Any]]:
        """The study's parameters of the first trials."""
        first = next((entry for entry in self.mine if entry["place"] == 0 and entry["state"] != "running"), None)
        return list_openings(self.space, self.plan.techniques, first)

    def find_opening(self) -> int | None:
        """The first opening that is still to be tried; those that lacked time are, once there is more of it."""
        known = {
            number_opening(entry) for entry in self.mine
            if entry.get("budget_seconds", self.budget.seconds) >= self.budget.seconds
        }  # fmt: skip
        return next((number for number in range(len(self.openings)) if number not in known), None)

    def fix_parameters(self, opening: int | None) -> Mapping[str, Any] | None:
        """What the study doesn't propose: all of an opening, then what `choose_neighbourhood` says."""
        openings = self.openings
        if opening is not None:
            return openings[opening]
        ranked = rank_trials(self.tried, self.plan.metric)
        return choose_neighbourhood(self.space, ranked, self.mine, len(openings))

    def describe(self, number: int, place: int, proposal: Proposal) -> Entry:
        """The entry of a trial that hasn't begun."""
        return {
            "trial": number, "search": self.plan.key, "place": place, "asked": proposal.technique,
            "technique": proposal.technique, "settings": dict(proposal.settings), "state": "running", "why": "",
            "epochs": 0, "score": None, "seconds": 0.0, "train_seconds": 0.0,
            "run": str(self.folder.name_trial(number).path.resolve()), "host": platform.node(),
        }  # fmt: skip

    def find_repeat(self, entry: Entry) -> str:
        """Which trial was the same before, in words; an empty string if none was."""
        wanted = (entry["technique"], entry["settings"])
        others = [other for other in self.tried if wanted in list_known(other)]
        return f"this was tried before, as trial {others[0]['trial']}" if others and self.mine else ""

    def find_shortage(self, entry: Entry) -> str:
        """Why there is too little time for a trial; an empty string if there isn't. The first one is always begun."""
        left = self.budget.left_seconds - self.test_seconds
        needed = self.durations.expect(entry["technique"], self.count_rows(entry["technique"], entry["settings"]))
        if not self.mine or needed <= left:
            return ""
        return (
            f"a trial of {entry['technique']} takes about {describe_seconds(needed)}, and {describe_seconds(left)} are"
            " left"
        )

    def resolve(self, technique: str, settings: Mapping[str, Any]) -> RunConfig:
        """The description of a trial, with what it will choose by the number of rows."""
        config = self.plan.configure(technique, dict(settings))
        return resolve_config(config.model_copy(update={"task": self.bench.task}), self.bench.sizes)[0]

    def count_rows(self, technique: str, settings: Mapping[str, Any]) -> int:
        """Rows that pass through training if nothing ends it early; by pairs each one brings another."""
        if technique == FIRST_LOOK:
            return 0
        training = self.resolve(technique, settings).training
        a_row = 2 if training.objective == CONTRASTIVE else 1
        return a_row * self.bench.sizes.train_units * int(training.num_train_epochs)

    def run_trial(self, trial: optuna.trial.Trial, entry: Entry) -> None:
        """One trial from its start, or from where it was stopped, to its entry."""
        listener = TrialListener(
            self.plan.metric, self.make_report(trial, entry), self.budget,
            self.test_seconds + self.durations.expect(entry["technique"], 0), self.display,
            note=lambda why, epochs: self.keep(trial, entry | {"why": why, "epochs": epochs}),
            must_fit=entry["place"] == 0, is_known=entry["technique"] in self.durations.row_seconds,
        )  # fmt: skip
        if entry["why"] and not self.folder.name_trial(entry["trial"]).is_finished:
            # A kill came between the word on its end and the end: it is to be decided anew.
            entry |= {"why": "", "epochs": 0}
            self.keep(trial, entry)
        self.display.begin_trial(entry["trial"], entry["technique"], entry["settings"])
        reset_peak_memory(self.bench.device)
        began = time.monotonic()
        try:
            entry = join_outcome(entry, self.attempt(entry, listener))
        except KeyboardInterrupt:
            self.write()  # a stop must not give back the time that was taken
            raise
        entry["seconds"] = max(entry["seconds"], time.monotonic() - began)
        self.keep(trial, entry)
        self.tell(trial, entry)
        self.learn_duration(entry)
        self.drop_models()
        gc.collect()
        self.display.end_trial(entry, self.ended, self.plan.metric, self.budget.left_seconds)

    def make_report(self, trial: optuna.trial.Trial, entry: Entry) -> Callable[[float, int], bool]:
        """What takes a score and its epoch, and says whether the trial ends there.

        By pairs no trial does: its scores before the end are those of a head for a backbone on its way, and say little
        of where it arrives. So these aren't held against those of other trials either.
        """
        by_pairs = self.resolve(entry["asked"], entry["settings"]).training.objective == CONTRASTIVE
        number = number_opening(entry)
        is_opening = number is not None and number < len(self.openings)

        def report(score: float, epoch: int) -> bool:
            self.write()  # nor must a kill
            return not by_pairs and self.ledger.report(trial, score, epoch) and not is_opening

        return report

    def tell(self, trial: optuna.trial.Trial, entry: Entry) -> None:
        """Let the study know how a trial ended, and for one that chose its technique, at which point of the space."""
        if entry["asked"] == AUTO:
            point = self.space.locate(entry["technique"], entry["settings"])
            if point is not None:
                self.ledger.place(trial, self.space, point)
        is_unscored = entry["state"] == "stopped" and not entry.get("epochs")
        self.ledger.tell(trial, "failed" if is_unscored else entry["state"], entry["score"])

    def attempt(self, entry: Entry, listener: TrialListener) -> Outcome:
        """What became of a trial, from `state` to `train_seconds`; where it chose, what it chose.

        The first trial has to succeed: without it there would be nothing to hold the others against.
        """
        folder = self.folder.make_trial(entry["trial"])
        narrator = TrialNarrator(self.display.narrator, listener)
        config = self.plan.configure(entry["technique"], entry["settings"])
        try:
            with hold_folder(folder.path, "afina search"):
                if folder.is_finished:  # a kill came before the entry knew
                    folder.clear_remains()
                    report = folder.read_json(REPORT)
                    listener.why, listener.epochs = entry["why"], entry.get("epochs", 0)
                else:
                    report = self.bench.run(config, folder, narrator)
        except list_failures() as error:
            if entry["place"] == 0:
                raise
            shutil.rmtree(folder.checkpoints, ignore_errors=True)
            why = str(error).strip().split("\n")[0] or type(error).__name__
            ended: Outcome = {"state": "failed", "why": why, "train_seconds": listener.train_seconds}
            return ended | ({"state": "short", "budget_seconds": self.budget.seconds} if listener.is_short else {})
        except Interrupted as stop:
            raise Interrupted(stop.exit_code, self.folder.path, "search --resume") from None
        score = report["metrics"].get(f"validation/{self.plan.metric}")
        undefined = f"{self.plan.metric} is undefined on the validation rows" if score is None else ""
        if undefined and entry["place"] == 0:
            raise ConfigError(undefined, remedy="--metric with another score")
        self.test_seconds = max(self.test_seconds, estimate_test_seconds(report, self.bench.test_rows))
        chosen = describe_choice(report, self.plan.given) if entry["asked"] == AUTO else {}
        return {
            **chosen,
            "state": "failed" if undefined else "stopped" if listener.why else "finished",
            "why": listener.why or undefined,
            "epochs": listener.epochs,
            "score": score,
            "seconds": sum(report["stage_seconds"].values()),
            "train_seconds": report["stage_seconds"].get("train", 0.0),
        }

    def locate(self, entry: Mapping[str, Any]) -> RunFolder:
        """The run of a trial of this search or of another one."""
        if entry["search"] == self.plan.key:
            return self.folder.name_trial(entry["trial"])
        return RunFolder(Path(entry["run"]))

    def keep(self, trial: optuna.trial.Trial, entry: Entry) -> None:
        """Store an entry, and see what others have stored meanwhile."""
        self.ledger.note(trial, entry)
        self.entries = self.ledger.entries()
        self.write()

    def learn_duration(self, entry: Entry) -> None:
        """From an entry of this machine, for the trials to come."""
        if entry["score"] is None and entry["train_seconds"]:  # by its first steps
            technique, settings = entry["technique"], entry["settings"]
            self.durations.record_rate(technique, entry["train_seconds"] / self.count_rows(technique, settings))
        if entry["score"] is not None:
            technique, settings = list_known(entry)[-1]
            seconds = entry["seconds"] - entry.get("choose_seconds", 0.0)
            self.durations.record(technique, seconds, entry["train_seconds"], self.count_rows(technique, settings))

    def drop_models(self) -> None:
        """Remove the weights of trials that can't win any more; their settings and scores stay."""
        best = self.best
        for entry in self.mine:
            is_beaten = best is not None and entry["trial"] != best["trial"] and entry["place"] != 0
            if is_beaten and entry["state"] in ("finished", "stopped"):
                shutil.rmtree(self.folder.name_trial(entry["trial"]).model, ignore_errors=True)

    def write(self, **outcome: Any) -> None:
        """search.json as things stand."""
        nothing: dict[str, Any] = {"intervals": {}, "verdict": None, "winner": None, "best": None, "test": {}}
        self.folder.write({
            "state": "finished" if outcome else "unfinished",
            "kind": self.bench.kind,
            "data_hash": self.bench.data_hash,
            "used_seconds": self.budget.used_seconds,
            "plan": self.plan.as_dict(),
            "trials": [each for each in self.entries if each["state"] != "skipped"],
            **(outcome or nothing),
        })  # fmt: skip


def number_opening(entry: Mapping[str, Any]) -> int | None:
    """Which of the openings a trial is; None if it is another one. Searches of before kept no number: they began with
    all of them, in their order."""
    number: int | None = entry.get("opening", entry["place"])
    return number


def list_failures() -> tuple[type[BaseException], ...]:
    """What ends one trial and not the search: a loss that is no number, a failed proof, numbers that an adapter can't
    learn, too little memory, whether it runs out or is predicted to."""
    import torch

    from afina.pipeline.far_targets import FarTargetsError

    return TrainingError, ProofError, FarTargetsError, ResourceError, MemoryError, torch.OutOfMemoryError


def estimate_test_seconds(report: Mapping[str, Any], test_rows: int) -> float:
    """How long it takes to load two such models and score them on the test part, from what the validation part took."""
    stages, rows = report["stage_seconds"], report["rows"]["parts"]
    by_rows = stages.get("evaluate", 0.0) / max(1, rows["validation"])
    others = rows["train"] + rows["validation"]
    if "features" in stages and "train" not in stages:
        by_rows += stages["features"] / others
    seen = test_rows
    if report["settings"]["training"]["objective"] == CONTRASTIVE and "train" in stages:
        seen += others  # the head is solved once more
    return 2.0 * (stages.get("load", 0.0) + stages.get("solve", 0.0) + stages.get("prove", 0.0) + by_rows * seen)
