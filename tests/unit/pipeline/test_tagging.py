"""Tagged words through the verbs: what is told, chosen, predicted, scored, compared and refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import afina
from afina.config.load import load_config
from afina.errors import ConfigError, DataError
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import prepare_run
from afina.pipeline.source import open_source
from afina.runs.folder import RunFolder
from afina.testing.data import TaggedForm, make_tagged

SETTINGS: dict[str, Any] = {"folds": 2, "precision": "fp32", "bootstrap_resamples": 20, "verbose": False}


@pytest.fixture(scope="module")
def run(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> afina.Run:
    """A head on frozen features, which is quick."""
    output = tmp_path_factory.mktemp("tagging") / "run"
    return afina.fit(tiny_models("bert"), make_tagged("words", 60), "feature-extraction", output=output, **SETTINGS)


@pytest.fixture(scope="module")
def run_of_texts(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> afina.Run:
    """The same from texts with entities in them."""
    output = tmp_path_factory.mktemp("tagging") / "run"
    return afina.fit(tiny_models("bert"), make_tagged("spans", 60), "feature-extraction", output=output, **SETTINGS)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_choices_are_told(run: afina.Run) -> None:
    reasons = {each["setting"]: each for each in run.reasons}
    assert reasons["task"]["value"] == "token-classification"
    assert (reasons["tags"]["value"], reasons["data.label_column"]["value"]) == ("BIO", "tags")
    assert set(run.baselines) == {"majority", "dictionary"}
    assert run.report["class_counts"]["kitchen"]["train"] > 0


def test_a_solved_head_learns_the_words(run: afina.Run) -> None:
    assert run.metrics["test/accuracy"] > run.baselines["majority"]["metrics"]["test/accuracy"]


def test_rows_in_are_rows_out(run: afina.Run, tmp_path: Path) -> None:
    rows = [{**row, "id": i} for i, row in enumerate(make_tagged("words", 8, seed=3))]
    rows[2]["tokens"] = []
    source = write_rows(tmp_path / "new.jsonl", rows)
    path, count, empty = afina.predict_file(run.path, source, tmp_path / "out.jsonl", verbose=False)
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert (count, empty) == (8, [3])
    assert [row["id"] for row in found] == list(range(8))
    for row, given in zip(found, rows, strict=True):
        assert row["tags"] == given["tags"]
        if given["tokens"]:
            assert len(row["prediction"]) == len(row["confidence"]) == len(given["tokens"])
            for entity in row["predicted_entities"]:
                words = given["tokens"][entity["first_word"] : entity["last_word"] + 1]
                assert entity["text"] == " ".join(words)
                assert 0 < entity["probability"] <= 1
        else:
            assert row["prediction"] is row["predicted_entities"] is None


def test_texts_get_words_and_characters(run_of_texts: afina.Run) -> None:
    rows = make_tagged("spans", 12, seed=3)
    found = afina.predict(run_of_texts.path, [{"text": row["text"]} for row in rows])
    entities = [entity for row in found for entity in row["predicted_entities"]]
    assert entities
    for row in found:
        assert row["words"] == row["text"].split()
        assert len(row["prediction"]) == len(row["words"])
        for entity in row["predicted_entities"]:
            assert row["text"][entity["start"] : entity["end"]] == entity["text"]
    # What is predicted can be learned from again.
    again = [{"text": row["text"], "entities": row["predicted_entities"]} for row in found]
    assert afina.evaluate(run_of_texts.path, again)["metrics"]["test/f1"] == 1.0


def test_words_and_texts_are_predicted_in_python(run: afina.Run) -> None:
    tags = run.predict([["the", "kettle"], "one cake, then"])
    assert [len(row) for row in tags] == [2, 4]
    assert run.predict([]) == []
    with pytest.raises(DataError, match="lists of words, or texts"):
        run.predict([["a", 3], [], "b"])
    with pytest.raises(ConfigError, match="have no such table"):
        run.predict_proba([["a"]])


def test_new_rows_are_scored(run: afina.Run, tmp_path: Path) -> None:
    rows = make_tagged("words", 20, seed=5)
    found = afina.evaluate(run.path, write_rows(tmp_path / "new.jsonl", rows))
    assert (found["rows"], found["rows_seen"], found["primary_metric"]) == (20, 0, "f1")
    assert {row["name"] for row in found["per_class"]} == {"kitchen", "music", "weather"}
    assert afina.evaluate(run.path, make_tagged("words", 60))["rows_seen"] == 48
    rows[3]["tags"][0] = "B-planet"
    with pytest.raises(DataError, match="a tag that the training part doesn't have"):
        afina.evaluate(run.path, rows)


def test_runs_are_compared_by_row(run: afina.Run, tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    other = afina.fit(
        tiny_models("bert"), make_tagged("words", 60), "full", output=tmp_path / "other", num_train_epochs=1, **SETTINGS
    )
    found = afina.compare(run.path, other.path)
    assert found["metric"] == "test/f1"
    (pair,) = found["paired"]
    assert pair["rows"] == run.report["rows"]["parts"]["test"]
    difference = other.metrics["test/f1"] - run.metrics["test/f1"]
    assert pair["differences"]["f1"]["difference"] == pytest.approx(difference)
    assert pair["mcnemar"] is None


def test_auto_moves_the_backbone_where_it_fits(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    run = afina.fit(
        tiny_models("bert"), make_tagged("words", 20), output=tmp_path / "run", num_train_epochs=1, **SETTINGS
    )
    assert run.technique == "full"
    reason = next(each for each in run.reasons if each["setting"] == "technique")
    assert reason["reason"].startswith("a word's tag depends on the words around it")


def test_check_looks_at_tags(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows = make_tagged("words", 40)
    rows[3] = {"tokens": ["a", "b", "c"], "tags": ["O", "I-music", "B-Music"]}
    rows[5] = {"tokens": ["d"], "tags": ["B-planet"]}
    test = make_tagged("words", 8, seed=7)
    test[0] = rows[0]
    report = afina.check({"train": rows, "test": test}, tiny_models("bert"))
    findings = {finding.code: finding for finding in report.findings}
    assert {"loose-tags", "rare-tags", "tag-variants", "leaked-rows"} <= set(findings)
    assert list(findings["loose-tags"].rows["train"]) == [4]
    assert "'planet' (1)" in findings["rare-tags"].title
    assert findings["tag-variants"].title == "types that differ only in case or spaces: 'Music beside music'"
    assert "fix=OUT leaves" in findings["leaked-rows"].remedy
    assert report.facts["task"] == "token-classification"
    assert report.facts["classes"]["train"]["planet"] == 1
    assert report.facts["tokens"]["quantiles"]["longest"] > 10
    assert str(report)


def write_long(path: Path) -> Path:
    """Rows that are each read in several windows of 32 tokens."""
    pairs = zip(make_tagged("words", 40), make_tagged("words", 40, seed=1), strict=True)
    joined = [{name: one[name] * 3 + other[name] * 3 for name in one} for one, other in pairs]
    return write_rows(path, joined)


@pytest.mark.parametrize("technique", ["full", "auto"])
def test_epochs_follow_from_the_windows_that_are_trained(
    technique: str, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = {
        "model.reference": str(tiny_models("bert")), "model.max_seq_length": 32, "technique": technique,
        "training.per_device_train_batch_size": 1,
    }  # fmt: skip
    config, folder, narrator = load_config(None, settings), RunFolder(tmp_path / "run"), Narrator()
    folder.path.mkdir()
    opened = open_source(config, folder, write_long(tmp_path / "long.jsonl"), narrator)
    prepared = prepare_run(config, folder, opened, narrator)
    windows = len(prepared.parts["train"])
    assert windows > 3 * len(prepared.examples.parts["train"])
    assert prepared.technique.name == "full"
    assert prepared.config.training.num_train_epochs == max(3, -(-600 // windows))
    told = [each for each in narrator.reasons if each.setting == "training.num_train_epochs"]
    assert [each.value for each in told] == [prepared.config.training.num_train_epochs]


def test_plan_counts_the_windows_of_long_rows(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    plan = afina.plan(
        write_long(tmp_path / "long.jsonl"), tiny_models("bert"), technique="full", max_seq_length=32,
        per_device_train_batch_size=1,
    )  # fmt: skip
    windows = plan.subject.workload.train_rows
    assert windows == len(plan.subject.workload.lengths) > 3 * 28
    assert f"28 training rows give about {windows:,} sequences to learn" in str(plan)


def test_plan_counts_tagged_rows(tiny_models: Callable[[str], Path]) -> None:
    plan = afina.plan(make_tagged("words", 40), tiny_models("bert"))
    assert [row.costs.technique for row in plan.rows] == ["full", "feature-extraction", "lora", "qlora"]
    assert plan.first_guess is not None
    assert plan.first_guess.technique == "full"  # as `auto` would take


@pytest.mark.parametrize(("form", "metric"), [("words", "f1"), ("plain", "accuracy")])
def test_a_search_of_tagged_words(
    form: TaggedForm, metric: str, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    """It begins with what a run without a technique takes, and ends with scores of the test part."""
    pytest.importorskip("optuna")
    settings: dict[str, Any] = {"num_train_epochs": 2, "precision": "fp32", "bootstrap_resamples": 20}
    found = afina.search(
        make_tagged(form, 60), tiny_models("bert"), "10m", trials=4, output=str(tmp_path / "search"), verbose=False,
        **settings,
    )  # fmt: skip
    assert [each["technique"] for each in found.trials[:3]] == ["full", "feature-extraction", "lora"]
    outcome = found.to_dict()
    assert outcome["plan"]["metric"] == metric
    assert outcome["kind"] == ("entities" if form == "words" else "tags")
    assert outcome["verdict"]["rows"] == found.best.report["rows"]["parts"]["validation"]
    assert all("features.pooling" not in each["settings"] for each in found.trials)
    assert f"test/{metric}" in outcome["test"]["winner"]
    assert f"test/{metric}" in found.best.metrics
    (tags,) = found.best.predict([["the", "oven", "is", "hot"]])
    assert len(tags) == 4
    with pytest.raises(ConfigError, match=r"metric mcc can't be searched by\n  expected: for this task one of"):
        afina.search(make_tagged(form, 60), tiny_models("bert"), "1m", metric="mcc", verbose=False, **settings)
