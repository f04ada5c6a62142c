"""A search end to end, on tiny models: ordinary runs, shared rows and features, a test part that nobody looks at."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import afina
from afina.advice.search.budget import Budget
from afina.advice.search.study import Ledger
from afina.data import encode
from afina.data.conversations import ConversationPart
from afina.data.examples import Part
from afina.errors import ConfigError, Interrupted, ResourceError, RunFolderError, TrainingError
from afina.pipeline import choosing, features
from afina.pipeline.narrator import Narrator
from afina.pipeline.search import launch, loop, outcome
from afina.pipeline.search.display import Display
from afina.pipeline.search.trial import TrialListener
from afina.runs.comparison import compare_runs
from afina.runs.folder import RunFolder
from afina.runs.listing import list_runs
from afina.testing.data import make_conversations, make_rows
from afina.training.events import StopTraining, TrainingPlan

SETTINGS: dict[str, Any] = {
    "precision": "fp32", "num_train_epochs": 2, "folds": 2, "bootstrap_resamples": 20, "verbose": False,
}  # fmt: skip


def make_noisy_rows(rows: int) -> list[dict[str, Any]]:
    """Three classes; a fifth of the labels is wrong, so that no model is right everywhere."""
    source = random.Random(0)
    made = make_rows("multiclass", rows)
    for row in made:
        if source.random() < 0.2:
            row["label"] = source.choice(["kitchen", "music", "weather"])
    return made


ROWS = make_noisy_rows(90)


@pytest.fixture
def search(tiny_models: Callable[[str], Path], tmp_path: Path) -> Callable[..., afina.Search]:
    """`search(name, data=..., family=..., **settings)`: a search in the folder `name`."""

    def run(name: str = "search", data: Any = ROWS, family: str = "bert", **settings: Any) -> afina.Search:
        given = {"budget": "10m", "trials": 4, "output": tmp_path / name, **SETTINGS, **settings}
        return afina.search(data, tiny_models(family), **given)

    return run


@pytest.fixture
def doors(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Counts the tokenised and encoded rows; reading the test part is an error until its time has come."""
    seen = SimpleNamespace(tokenised=0, encoded=0, is_open=False)
    tokenize, extract, finish = encode.tokenize_batch, features.extract_features, outcome.score_on_test

    def count_tokenised(tokenizer: Any, texts: Any, *given: Any) -> Any:
        seen.tokenised += len(texts)
        return tokenize(tokenizer, texts, *given)

    def count_encoded(model: Any, tokens: Any, rows: Any, *given: Any, **named: Any) -> Any:
        seen.encoded += len(rows)
        return extract(model, tokens, rows, *given, **named)

    def open_door(*given: Any) -> Any:
        seen.before = (seen.tokenised, seen.encoded)
        seen.is_open = True
        return finish(*given)

    monkeypatch.setattr(encode, "tokenize_batch", count_tokenised)
    monkeypatch.setattr(features, "extract_features", count_encoded)
    monkeypatch.setattr(outcome, "score_on_test", open_door)
    for owner, name in ((Part, "texts"), (ConversationPart, "rows")):
        read = getattr(owner, name)

        def refuse(self: Any, *given: Any, read: Any = read, **named: Any) -> Any:
            assert seen.is_open or self.name != "test", "the test part was read during the search"
            return read(self, *given, **named)

        monkeypatch.setattr(owner, name, refuse)
    return seen


def test_a_search_of_a_classification(search: Callable[..., afina.Search], doors: SimpleNamespace) -> None:
    found = search(trials=5, techniques="lora,feature-extraction,full")
    assert [each["technique"] for each in found.trials[:3]] == ["lora", "feature-extraction", "full"]
    assert [each["settings"] for each in found.trials[:3]] == [{}, {}, {}], "the defaults come first"
    assert len(found.trials) == 5
    assert all(each["settings"] for each in found.trials[3:])
    check_sharing(found, doors)
    check_trials(found)
    check_outcome(found)


def check_sharing(found: afina.Search, doors: SimpleNamespace) -> None:
    """Whatever the trials are, each row of the two parts is tokenised and encoded once."""
    parts = found.best.report["rows"]["parts"]
    assert doors.is_open
    assert doors.before == (parts["train"] + parts["validation"],) * 2
    assert doors.tokenised == sum(parts.values())


def check_trials(found: afina.Search) -> None:
    """Trials are ordinary runs."""
    listed = list_runs(found.path)
    assert {each["run"] for each in listed} == {str(found.path / f"trial-{number:03d}") for number in range(5)}
    assert {each["state"] for each in listed} == {"finished"}
    for each in found.trials:
        folder = RunFolder(found.path / f"trial-{each['trial']:03d}")
        report = folder.read_json("report.json")
        assert report["metrics"]["validation/accuracy"] == each["score"]
        is_kept = each["trial"] in (found.to_dict()["winner"]["trial"], 0)
        assert folder.model.exists() is is_kept
        assert (report["scored"] == "test") is is_kept
        if not is_kept:
            with pytest.raises(RunFolderError, match=r"holds no model; a search keeps those of its best trial"):
                afina.load(folder.path).predict(["the kettle"])
    compared = compare_runs([RunFolder(found.path / f"trial-{number:03d}") for number in (0, 3, 4)])
    assert compared["part"] == "validation"
    assert len(compared["paired"]) == 2


def check_outcome(found: afina.Search) -> None:
    """The winner is the best trial; it and the default are scored on the test part with everything a run has, and one
    of the two is the result."""
    stored = found.to_dict()
    assert stored["state"] == "finished"
    winner = max(found.trials, key=lambda each: (each["score"], -each["trial"]))
    assert stored["winner"]["trial"] == winner["trial"]
    best = found.trials[stored["best"]["trial"]]
    assert best is (winner if stored["verdict"]["is_promoted"] else found.trials[0])
    assert found.best.metrics["validation/accuracy"] == best["score"]
    assert set(found.best.baselines) == {"majority", "tfidf-linear"}
    assert found.best.report["settings"]["evaluation"]["score_test"] is True
    assert len(found.best.predict(["the kettle"])) == 1
    evaluated = afina.evaluate(found.best.path, [ROWS[i - 1] for i in list_test_rows(found.best)])
    assert evaluated["metrics"]["test/accuracy"] == pytest.approx(found.best.metrics["test/accuracy"])
    assert stored["verdict"]["metric"] == "accuracy"
    assert set(stored["intervals"]) == {str(each["trial"]) for each in found.trials}
    assert not (found.path / ".work").exists()
    text = str(found)
    assert stored["verdict"]["words"] in text
    assert text.splitlines()[0].split()[:3] == ["trial", "technique", "validation"]
    assert text.splitlines()[1].split()[0] == str(winner["trial"])
    assert stored["best"]["why"] in text
    assert afina.search(resume=found.path).to_dict() == stored
    for more in ({"budget": "1m"}, {"trials": 2}):
        with pytest.raises(ConfigError, match="is finished: its test part was scored"):
            afina.search(resume=found.path, **more)


def list_test_rows(run: afina.Run) -> list[int]:
    import json

    lines = (run.path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["row"] for line in lines]


def test_a_search_of_a_language_model(search: Callable[..., afina.Search], doors: SimpleNamespace) -> None:
    settings = {"chat_template": "chatml", "generation_samples": 1, "max_new_tokens": 3}
    found = search(data=make_conversations("messages", 40), family="llama", trials=3, **settings)
    assert doors.is_open
    assert [each["technique"] for each in found.trials[:2]] == ["lora", "full"]
    winner = min(found.trials, key=lambda each: (each["score"], each["trial"]))
    assert found.to_dict()["winner"]["trial"] == winner["trial"]
    best = found.trials[found.to_dict()["best"]["trial"]]
    assert found.best.metrics["validation/loss"] == pytest.approx(best["score"], rel=1e-5)
    assert {"test/loss", "test/token_accuracy"} <= set(found.best.metrics)
    assert len(found.best.report["generations"]) == 1
    assert found.best.generate(["hello"], max_new_tokens=2)
    kept = json.loads((found.best.path / "reasons.json").read_text(encoding="utf-8"))
    assert kept == found.best.reasons
    by_setting = {each["setting"]: each["value"] for each in kept}
    settings_told = found.best.report["settings"]["training"]
    assert by_setting["training.num_train_epochs"] == settings_told["num_train_epochs"]
    assert found.to_dict()["verdict"]["metric"] == "loss"


def test_a_search_begins_with_what_a_run_without_a_technique_does(
    search: Callable[..., afina.Search], tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    """Few rows by pairs: the default is the very model of `afina train`, its head solved with the validation rows."""
    found = search(trials=3)
    first, head, third = found.trials
    assert [first["asked"], first["technique"], head["technique"], third["technique"]] == [
        "auto", "full", "feature-extraction", "full"
    ]  # fmt: skip
    pooling = found.best.report["choice"]["pooling"]
    assert first["settings"] == ({} if pooling == "own" else {"features.pooling": pooling})
    assert head["settings"] == {}
    assert (third["technique"], third["settings"]) != (first["technique"], first["settings"])
    assert found.to_dict()["best"]["trial"] == 0, "seven validation rows promote nothing else"
    alone = afina.fit(tiny_models("bert"), ROWS, output=tmp_path / "alone", **SETTINGS)
    assert found.best.metrics == pytest.approx(alone.metrics, abs=1e-6)
    one, two = (run.predict_proba(["the kettle"])[0] for run in (found.best, alone))
    assert one == pytest.approx(two, abs=1e-5)
    reasons = [{each["setting"]: each["value"] for each in run.reasons} for run in (found.best, alone)]
    assert reasons[0]["rows of the head"] == reasons[1]["rows of the head"] == "train + validation"
    assert reasons[0]["result"] == reasons[1]["result"] == "full"
    row = next(line for line in str(found).splitlines() if line.startswith("0 "))
    assert "default: chosen by auto" in row


def test_a_default_that_keeps_the_head_does_not_try_twice_what_it_tried(
    search: Callable[..., afina.Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choosing, "compare", lambda *_: ("feature-extraction", "as the test wants it"))
    found = search(trials=3, objective="contrastive", pooling="mean")
    assert [(each["technique"], each["settings"]) for each in found.trials[:2]] == [
        ("feature-extraction", {}),
        ("lora", {}),
    ]
    assert found.trials[0]["moved"] == {"technique": "full", "settings": {}}
    assert ("full", {}) not in [(each["technique"], each["settings"]) for each in found.trials]


def test_auto_beside_a_named_technique(search: Callable[..., afina.Search]) -> None:
    found = search(trials=2, techniques="auto,lora", objective="contrastive")
    assert [each["asked"] for each in found.trials] == ["auto", "lora"]
    assert found.to_dict()["plan"]["techniques"] == ["auto", "lora"]


def test_a_stopped_default_goes_on_with_its_choice(
    search: Callable[..., afina.Search], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = search("whole", trials=3)
    on_step_end = TrialListener.on_step_end

    def stop(self: TrialListener, step: int, values: dict[str, float]) -> None:
        if step == 3:
            raise KeyboardInterrupt
        on_step_end(self, step, values)

    with monkeypatch.context() as patched:
        patched.setattr(TrialListener, "on_step_end", stop)
        with pytest.raises(Interrupted):
            search("halves", trials=3)
    with monkeypatch.context() as patched:
        patched.setattr(choosing, "gather_evidence", None)  # what was seen isn't looked at again
        done = afina.search(ROWS, resume=tmp_path / "halves", verbose=False)
    told = [[(each["technique"], each["settings"], each["score"]) for each in one.trials] for one in (done, whole)]
    assert told[0] == told[1]
    assert done.best.metrics == whole.best.metrics


@pytest.mark.parametrize(("objective", "is_heard"), [("contrastive", False), ("cross-entropy", True)])
def test_a_trial_by_pairs_is_not_cut_by_scores_on_its_way(
    objective: str, is_heard: bool, search: Callable[..., afina.Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "report", lambda *given: True)
    found = search(trials=2, techniques="full", objective=objective, learning_rate=1e-3, early_stopping_patience=0)
    ends = [(each["state"], each["why"]) for each in found.trials]
    assert ends[0] == ("finished", ""), "a default is never cut"
    assert (ends[1][0] == "stopped") is is_heard


def test_the_best_of_regressions_has_the_least_error(search: Callable[..., afina.Search]) -> None:
    found = search(data=make_rows("regression", 60), trials=3, metric="mae")
    winner = min(found.trials, key=lambda each: (each["score"], each["trial"]))
    assert found.to_dict()["winner"]["trial"] == winner["trial"]
    assert found.trials[found.to_dict()["best"]["trial"]]["score"] == found.best.metrics["validation/mae"]


def test_a_stopped_search_goes_on_where_it_was(
    search: Callable[..., afina.Search], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The trial that was stopped goes on from its checkpoint; the later ones are those of an undisturbed search."""
    settings = {"techniques": ["lora", "full"], "early_stopping_patience": 0}
    whole = search("whole", trials=5, **settings)
    on_step_end = TrialListener.on_step_end
    steps, used = [], [0.0]

    def stop(self: TrialListener, step: int, values: dict[str, float]) -> None:
        steps.append(step)
        used.append(self.budget.used_seconds)
        if len(steps) == 22:
            raise KeyboardInterrupt
        on_step_end(self, step, values)

    with monkeypatch.context() as patched:
        patched.setattr(TrialListener, "on_step_end", stop)
        with pytest.raises(Interrupted) as caught:
            search("halves", trials=3, **settings)
    path = tmp_path / "halves"
    assert str(caught.value) == f'interrupted\n  do: afina.search(resume="{path}")'
    stopped = afina.Search(path)
    assert [each["state"] for each in stopped.trials] == ["finished", "finished", "running"]
    assert stopped.to_dict()["used_seconds"] >= used[-1], "stops don't make the budget longer"
    with pytest.raises(ConfigError, match="isn't finished"):
        stopped.best  # noqa: B018
    with pytest.raises(RunFolderError, match="was in memory, so it must be given again"):
        afina.search(resume=path, verbose=False)
    with pytest.raises(RunFolderError, match="has changed since the search began"):
        afina.search(make_rows("multiclass", 70), resume=path, verbose=False)
    origin = json.loads((path / "origin.json").read_text(encoding="utf-8"))
    origin["versions"]["torch"] = "1.0"
    (path / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"the libraries of .* have changed since the run began"):
        afina.search(ROWS, resume=path, verbose=False)
    (path / "trial-001" / "model").mkdir(exist_ok=True)  # as if a kill had come before the beaten one was removed
    done = afina.search(ROWS, resume=path, verbose=False, trials=3, allow_changes="versions")
    kept = {int(model.parent.name.removeprefix("trial-")) for model in path.glob("trial-*/model")}
    assert kept == {0, done.to_dict()["winner"]["trial"]}
    outcomes = [
        [(each["technique"], each["settings"], each["score"], each["state"]) for each in found.trials]
        for found in (done, whole)
    ]
    assert outcomes[0] == outcomes[1]
    assert done.best.metrics == whole.best.metrics


def test_a_kill_between_a_report_and_the_word_on_it_changes_nothing(
    search: Callable[..., afina.Search], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The trial was cut after its first epoch, and stays so."""
    settings = {"techniques": "full", "trials": 2, "early_stopping_patience": 0, "objective": "cross-entropy"}
    settings |= {"learning_rate": 1e-3}
    monkeypatch.setattr(Ledger, "report", lambda *given: True)
    whole = search("whole", **settings)
    keep = loop.SearchLoop.keep

    def be_killed(self: Any, trial: Any, entry: Any) -> None:
        if entry["state"] == "stopped":
            raise KeyboardInterrupt
        keep(self, trial, entry)

    with monkeypatch.context() as patched:
        patched.setattr(loop.SearchLoop, "keep", be_killed)
        with pytest.raises(Interrupted):
            search("killed", **settings)
    assert (tmp_path / "killed" / "trial-001" / "report.json").exists()
    done = afina.search(ROWS, resume=tmp_path / "killed", verbose=False)
    ends = [
        [(each["state"], each["why"], each["epochs"], each["score"]) for each in found.trials]
        for found in (whole, done)
    ]  # fmt: skip
    assert ends[0] == ends[1]
    assert ends[0][1][:3] == ("stopped", "stopped after epoch 1 of 2: in the worse half there", 1)
    assert done.trials[1]["seconds"] > 0.01, "of its run, and not of reading its report"


def test_a_word_on_an_end_that_never_came_is_taken_back(
    search: Callable[..., afina.Search], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed after it was to be cut, then after it had gone on to its end: it counts as finished."""
    settings = {"techniques": "full", "trials": 2, "early_stopping_patience": 0, "objective": "cross-entropy"}
    settings |= {"learning_rate": 1e-3}
    keep = loop.SearchLoop.keep

    def be_killed(state: str) -> Any:
        def kill(self: Any, trial: Any, entry: Any) -> None:
            is_here = entry["place"] == 1 and entry["state"] == state and (state == "finished" or entry["why"])
            if state == "running" or not is_here:
                keep(self, trial, entry)
            if is_here:
                raise KeyboardInterrupt

        return kill

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "report", lambda *given: True)
        patched.setattr(loop.SearchLoop, "keep", be_killed("running"))
        with pytest.raises(Interrupted):
            search("killed", **settings)
    assert afina.Search(tmp_path / "killed").trials[1]["why"].startswith("stopped after epoch 1")
    monkeypatch.setattr(Ledger, "report", lambda *given: False)
    with monkeypatch.context() as patched:
        patched.setattr(loop.SearchLoop, "keep", be_killed("finished"))
        with pytest.raises(Interrupted):
            afina.search(ROWS, resume=tmp_path / "killed", verbose=False)
    done = afina.search(ROWS, resume=tmp_path / "killed", verbose=False)
    assert (done.trials[1]["state"], done.trials[1]["why"]) == ("finished", "")


@pytest.mark.parametrize("error", [TrainingError, ResourceError])
def test_a_trial_that_fails_is_counted_and_passed_over(
    error: type[Exception], search: Callable[..., afina.Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = loop.SearchLoop.run_trial

    def fail_second(self: Any, trial: Any, entry: Any) -> None:
        if entry["place"] == 1:
            monkeypatch.setattr(self.bench, "run", raise_once(self.bench.run))
        run(self, trial, entry)

    def raise_once(method: Any) -> Any:
        def fail(*given: Any) -> Any:
            monkeypatch.setattr(given[2], "notes", [])
            raise error("the loss or its gradient is not a finite number at step 3")

        return fail

    monkeypatch.setattr(loop.SearchLoop, "run_trial", fail_second)
    found = search(trials=2, techniques="lora,full")
    failed = found.trials[1]
    assert (failed["state"], failed["score"]) == ("failed", None)
    assert failed["why"] == "the loss or its gradient is not a finite number at step 3"
    assert "failed" not in found.trials[0]["state"]
    assert found.to_dict()["best"]["trial"] == 0
    assert "the loss or its gradient is not a finite number" in str(found)


def test_machines_share_a_storage(search: Callable[..., afina.Search], tmp_path: Path) -> None:
    """The second search knows the trials of the first; a winner whose run it doesn't have is trained again."""
    settings = {"storage": f"sqlite:///{tmp_path / 'shared.db'}", "metric": "loss"}
    first = search("first", trials=2, techniques="full,lora", **settings)
    best, worse = sorted(first.trials, key=lambda each: each["score"])
    order = [worse["technique"], best["technique"]]
    second = search("second", trials=1, techniques=order, **settings)
    assert [each["trial"] for each in second.trials] == [0, 1, 2]
    assert second.trials[2]["run"] == str(tmp_path / "second" / "trial-002")
    assert second.to_dict()["plan"]["storage"] == settings["storage"]
    winner = second.to_dict()["winner"]
    assert winner["trial"] == best["trial"]
    assert winner["how"].startswith(f"retrained: trial {best['trial']} ran on ")
    assert winner["run"] == str(tmp_path / "second" / "best")
    again, once = (found.to_dict()["test"]["winner"]["test/loss"] for found in (second, first))
    assert again == pytest.approx(once)


@pytest.mark.parametrize("other", [{"seed": 7}, {"max_seq_length": 8}])
def test_searches_of_other_descriptions_don_t_share_what_they_found(
    search: Callable[..., afina.Search], tmp_path: Path, other: dict[str, Any]
) -> None:
    """Other rows to judge by, or other texts: their scores can't be held against each other."""
    settings = {"storage": f"sqlite:///{tmp_path / 'shared.db'}", "trials": 1, "techniques": "feature-extraction,lora"}
    assert len(search("first", **settings).trials) == 1
    assert len(search("second", **settings, **other).trials) == 1
    assert len(search("third", **settings).trials) == 2


def test_a_storage_that_is_taken_away_in_the_middle(
    search: Callable[..., afina.Search], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = Ledger.note

    def take_away(self: Ledger, trial: Any, entry: Any) -> None:
        note(self, trial, entry)
        if entry["state"] == "finished":
            (tmp_path / "search" / "study.db").unlink()

    monkeypatch.setattr(Ledger, "note", take_away)
    with pytest.raises(RunFolderError, match=r"study\.db is gone"):
        search()
    assert (tmp_path / "search" / "trial-000" / "report.json").is_file(), "the trials so far stay"


def listen(budget_seconds: float, now: list[float], must_fit: bool = False, worse: bool = False) -> TrialListener:
    budget = Budget(budget_seconds, clock=lambda: now[0])
    listener = TrialListener(
        "accuracy", lambda score, epoch: worse, budget, 5.0, Display(Narrator()), lambda *given: None, must_fit=must_fit
    )
    listener.on_train_begin(TrainingPlan(total_steps=100, epochs=4, first_step=0))
    return listener


def test_a_trial_ends_when_the_time_does() -> None:
    now = [0.0]
    listener = listen(20.0, now)
    now[0] = 14.0
    listener.on_step_end(1, {"epoch": 0.1})
    now[0] = 15.5
    with pytest.raises(StopTraining):
        listener.on_step_end(2, {"epoch": 1.2})
    assert listener.why == "out of time in epoch 2 of 4"


def test_the_worse_half_ends_but_not_in_its_last_epoch() -> None:
    listener = listen(100.0, [0.0], worse=True)
    listener.on_evaluate_end(0, {"epoch": 0.0, "validation/accuracy": 0.2})
    with pytest.raises(StopTraining):
        listener.on_evaluate_end(25, {"epoch": 1.0, "validation/accuracy": 0.2})
    assert (listener.why, listener.epochs) == ("stopped after epoch 1 of 4: in the worse half there", 1)
    listener.on_evaluate_end(100, {"epoch": 4.0, "validation/accuracy": 0.2})


def test_a_score_that_is_undefined_says_nothing_and_ends_no_search() -> None:
    listener = listen(100.0, [0.0], worse=True)
    listener.on_evaluate_end(25, {"epoch": 1.0, "validation/loss": 0.2})
    listener.on_evaluate_end(50, {"epoch": 2.0, "validation/accuracy": float("nan")})
    assert (listener.why, listener.epochs) == ("", 2)


def test_a_budget_for_less_than_one_trial_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("afina.pipeline.search.trial.time.monotonic", lambda: now[0])
    listener = listen(60.0, now, must_fit=True)
    for step in range(1, 5):
        now[0] += 1.0
        listener.on_step_end(step, {"epoch": step / 25})
    now[0] += 1.0
    with pytest.raises(ConfigError) as caught:
        listener.on_step_end(5, {"epoch": 0.2})
    assert str(caught.value) == (
        "the budget of 1m00s is too little for one trial\n"
        "  found: the default configuration takes about 1m45s: 100 steps of 1 s\n"
        "  expected: time for the default and some more\n"
        "  do: --budget 9m, at least 3m, or fewer epochs: --set num_train_epochs=1"
    )


@pytest.mark.parametrize(("is_known", "seconds"), [(False, 1.0), (False, 0.5), (True, 1.0)])
def test_a_trial_that_would_be_cut_in_its_middle_ends_after_a_few_steps(
    is_known: bool, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("afina.pipeline.search.trial.time.monotonic", lambda: now[0])
    budget = Budget(60.0, clock=lambda: now[0])
    listener = TrialListener(
        "accuracy", lambda score, epoch: False, budget, 5.0, Display(Narrator()), lambda *given: None, must_fit=False,
        is_known=is_known,
    )  # fmt: skip
    listener.on_train_begin(TrainingPlan(total_steps=100, epochs=4, first_step=0))
    for step in range(1, 5):
        now[0] += seconds
        listener.on_step_end(step, {"epoch": step / 25})
    now[0] += seconds
    if is_known or seconds < 1:
        listener.on_step_end(5, {"epoch": 0.2})
        return
    with pytest.raises(ResourceError) as caught:
        listener.on_step_end(5, {"epoch": 0.2})
    assert str(caught.value) == "it would take about 1m35s more, and 50 s are left"
    assert listener.train_seconds == 100.0


def test_a_refused_search_leaves_nothing(
    search: Callable[..., afina.Search], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: TrialListener, step: int) -> None:
        raise ConfigError("the budget is too little for one trial")

    monkeypatch.setattr(TrialListener, "check_fit", refuse)
    with pytest.raises(ConfigError, match="too little for one trial"):
        search()
    assert not (tmp_path / "search").exists()


def test_a_trial_that_cannot_end_in_time_is_not_started(
    search: Callable[..., afina.Search], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the default has taken its time, nothing that would take as long fits into what is left."""
    run = loop.SearchLoop.run_trial

    def spend(self: Any, trial: Any, entry: Any) -> None:
        run(self, trial, entry)
        self.budget.seconds = self.budget.used_seconds + 0.9 * entry["seconds"]

    monkeypatch.setattr(loop.SearchLoop, "run_trial", spend)
    found = search(trials=None, techniques="full", num_train_epochs=3)
    assert [each["trial"] for each in found.trials] == [0]
    assert not (tmp_path / "search" / "trial-001").exists()


def test_what_lacked_time_is_tried_when_there_is_more(
    search: Callable[..., afina.Search], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One opening is given up after a few steps, the next one isn't begun; with more time both are tried in their turn,
    and without it neither is."""
    listen = TrialListener.check_fit

    def lack_time(self: TrialListener, step: int) -> None:
        listen(self, step)
        if self.train_seconds and not self.must_fit:
            self.budget._used_before += self.budget.left_seconds
            raise self.give_up("it would take too long")

    def be_stopped(loop: Any) -> None:
        raise KeyboardInterrupt

    settings = {"techniques": "full,lora,feature-extraction", "early_stopping_patience": 0, "trials": None}
    monkeypatch.setattr(loop, "MOST_SKIPPED", 3)
    with monkeypatch.context() as patched:
        patched.setattr(TrialListener, "check_fit", lack_time)
        patched.setattr("afina.pipeline.search.launch.finish_search", be_stopped)
        with pytest.raises(Interrupted):
            search("short", **settings)
        path = tmp_path / "short"
        found = afina.Search(path)
        ends = [(each["technique"], each["state"]) for each in found.trials]
        assert ends == [("full", "finished"), ("lora", "short")]
        assert found.trials[1]["why"] == "it would take too long"
        with pytest.raises(Interrupted):
            afina.search(ROWS, resume=path, verbose=False)
        assert len(afina.Search(path).trials) == 2
    done = afina.search(ROWS, resume=path, budget="10m", trials=2, verbose=False)
    assert [(each["technique"], each["state"], each["settings"]) for each in done.trials[2:]] == [
        ("lora", "finished", {}), ("feature-extraction", "finished", {})
    ]  # fmt: skip


def test_all_that_is_missing_is_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        afina.search(trials=0)
    assert [problem.what for problem in caught.value.problems] == [
        "no data was given", "no model was given", "no budget was given", "a search needs a trial"
    ]  # fmt: skip


def test_a_file_may_name_data_and_model(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    file, model = tmp_path / "run.yaml", tiny_models("bert")
    file.write_text(f"data: {{path: {tmp_path / 'rows.jsonl'}}}\nmodel: {{reference: {model}}}\n")
    given: dict[str, Any] = {"config": file, "techniques": "feature-extraction", "trials": 1, "verbose": False}
    found = afina.search(budget="10m", output=tmp_path / "search", precision="fp32", **given)
    assert found.best.report["model"]["reference"] == model.name
    with pytest.raises(ConfigError) as caught:
        afina.search(**given)
    assert [problem.what for problem in caught.value.problems] == ["no budget was given"]


def test_changes_are_allowed_to_a_search_that_goes_on_alone() -> None:
    with pytest.raises(ConfigError) as caught:
        afina.search("rows.csv", "bert", "1m", allow_changes="model")
    assert str(caught.value) == (
        "allow_changes is for a search that goes on\n  found: allow_changes = 'model' beside a new search\n"
        "  do: leave it out, or afina.search(resume=FOLDER)"
    )


def test_what_a_search_that_goes_on_keeps_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        afina.search("other.csv", "bert", resume=tmp_path, trials=0, seed=3)
    assert [problem.what for problem in caught.value.problems] == [
        "a search that goes on keeps its data", "a search that goes on keeps its model",
        "a search that goes on keeps its seed", "a search needs a trial",
    ]  # fmt: skip
    assert caught.value.problems[1].found == "model = 'bert' beside resume"


def test_techniques_that_a_search_cannot_try(search: Callable[..., afina.Search]) -> None:
    with pytest.raises(ConfigError) as caught:
        search(techniques="lora,auto")
    assert str(caught.value) == (
        "'auto' can only be the first technique of a search: it is the default that the others are held against\n"
        '  found: lora,auto\n  do: techniques="auto,lora"'
    )
    with pytest.raises(ConfigError) as caught:
        search(data=make_conversations("messages", 40), family="llama", techniques="feature-extraction")
    assert caught.value.problems[0].remedy == 'techniques="lora,full"'


def test_a_search_goes_on_when_what_is_proposed_was_tried(
    search: Callable[..., afina.Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the study proposes the head, whose few settings are soon tried, others get their turn."""
    ask = Ledger.ask

    def ask_for_head(self: Ledger, place: int, fixed: Any = None) -> Any:
        return ask(self, place, fixed or {"technique": "feature-extraction"})

    monkeypatch.setattr(Ledger, "ask", ask_for_head)
    monkeypatch.setattr(loop, "MOST_SKIPPED", 4)
    found = search(trials=6, techniques="full,feature-extraction", pooling="mean")
    assert [each["technique"] for each in found.trials] == ["full", "feature-extraction", *["full"] * 4]
    assert len({str(each["settings"]) for each in found.trials if each["technique"] == "full"}) == 5


def test_a_search_that_has_tried_everything_says_so(
    search: Callable[..., afina.Search], capsys: pytest.CaptureFixture[str]
) -> None:
    found = search(trials=None, techniques="feature-extraction", pooling="mean", verbose=True)
    assert len(found.trials) == 1
    assert (
        "the search ends: none of 50 proposals in a row is worth starting; of the last one, feature-extraction with"
        " default: this was tried before, as trial 0"
    ) in (said := " ".join(capsys.readouterr().err.split()))
    assert "does nothing here" not in said, "what trials are told besides isn't the user's"


def test_the_cause_of_a_failure_stays_and_a_signal_has_none() -> None:
    error, stop = ValueError("no study"), Interrupted(130, None, "search")
    error.__cause__ = OSError("no disk")
    with pytest.raises(ValueError, match="no study") as caught:
        launch.raise_stop(error, error)
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(Interrupted) as interrupted:
        launch.raise_stop(stop, error)
    assert interrupted.value.__suppress_context__
