"""Texts handed over in any of Python's forms give the same predictions; what is no list of texts is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import afina
from afina.errors import ConfigError, DataError, RunFolderError
from afina.pipeline.given_texts import list_given, take_texts
from afina.pipeline.language.speaker import Speaker
from afina.pipeline.predictor import Predictor
from afina.testing.data import make_conversations, make_rows

ROWS = make_rows("multiclass", 24)
TEXTS = [str(row["text"]) for row in ROWS]
QUICK: dict[str, Any] = {
    "num_train_epochs": 1, "precision": "fp32", "bootstrap_resamples": 0, "verbose": False, "seed": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> afina.Run:
    """A classifier that was tuned for a moment."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    return afina.fit(tiny_models("bert"), ROWS, "full", output=folder, baselines=False, **QUICK)


@pytest.fixture(scope="module")
def speaker(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> afina.Run:
    """A language model that was tuned for a moment."""
    rows, folder = make_conversations("messages", 24), tmp_path_factory.mktemp("runs") / "run"
    more = {"max_seq_length": 120, "generation_samples": 0, "general_text": False, "chat_template": "chatml"}
    return afina.fit(tiny_models("llama"), rows, "full", output=folder, **QUICK, **more)


def test_a_run_whose_files_contradict_each_other_is_refused(run: afina.Run, speaker: afina.Run, tmp_path: Path) -> None:
    """The report speaks of classes and task.json of a language model that has labels beside."""
    copy = shutil.copytree(speaker.path, tmp_path / "run")
    shutil.copy(run.path / "report.json", copy / "report.json")
    task = json.loads((copy / "task.json").read_text())
    labels = json.loads((run.path / "task.json").read_text())["labels"]
    (copy / "task.json").write_text(json.dumps(task | {"labels": labels}))
    with pytest.raises(ConfigError) as caught:
        afina.load(copy).predict(TEXTS)
    assert str(caught.value) == (
        f"{copy} answers prompts and gives no labels\n  do: afina.open_chat, or run.generate(prompts)"
    )
    assert len(afina.load(copy).generate(["a"], 2)) == 1


@pytest.mark.parametrize("kind", ["labels", "answers"])
def test_a_run_whose_description_was_edited_is_refused(
    kind: str, run: afina.Run, speaker: afina.Run, tmp_path: Path
) -> None:
    copy = shutil.copytree({"labels": run, "answers": speaker}[kind].path, tmp_path / "run")
    config = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(config.replace("technique: full", "technique: lora"))
    used = {"labels": lambda: afina.load(copy).predict(TEXTS), "answers": lambda: afina.load(copy).generate(["a"], 2)}
    with pytest.raises(RunFolderError, match=r"was changed since the run wrote it(?s:.)*technique full -> lora"):
        used[kind]()


def test_rows_without_the_text_column_are_refused_before_the_model_is_loaded(
    run: afina.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "__init__", None)
    with pytest.raises(DataError, match="no column 'text'"):
        afina.predict(run.path, [{"words": "a", "more": "b"}])


def test_rows_to_score_are_refused_before_the_model_is_loaded(
    run: afina.Run, speaker: afina.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "__init__", None)
    monkeypatch.setattr(Speaker, "of_run", None)
    for rows, said in (([{"text": "a"}], "no column 'label'"), ([{"text": "a", "label": "none"}], "row 1")):
        with pytest.raises(DataError, match=said):
            afina.evaluate(run, rows)
    for rows, said in (([{"text": "a"}], "no column 'messages'"), ([{"messages": [{"role": "king"}]}], "row 1")):
        with pytest.raises(DataError, match=said):
            afina.evaluate(speaker, rows)


def test_scores_are_given_beside_a_damaged_file_of_seen_texts(
    run: afina.Run, speaker: afina.Run, tmp_path: Path
) -> None:
    for name, whole, rows in (("a", run, ROWS), ("b", speaker, make_conversations("messages", 24))):
        expected = afina.evaluate(whole, rows)
        assert (expected["rows_seen"] or 0) > 0
        copy = Path(shutil.copytree(whole.path, tmp_path / name))
        (copy / "seen_texts.npy").write_bytes(b"damaged")
        found = afina.evaluate(copy, rows)
        assert found["metrics"] == expected["metrics"]
        assert found["rows_seen"] is None
        assert found["notes"][0] == (
            f"{copy / 'seen_texts.npy'} is damaged, so whether the model learned from these rows isn't known"
        )


@pytest.mark.parametrize(
    "given",
    [pd.DataFrame(ROWS), pd.DataFrame(ROWS)["text"], np.array(TEXTS), tuple(TEXTS), [{"text": t} for t in TEXTS]],
    ids=["frame", "series", "array", "tuple", "mappings"],
)
def test_every_form_is_read_as_the_list_of_its_texts(run: afina.Run, given: Any) -> None:
    assert run.predict(given) == run.predict(TEXTS)
    assert run.predict_proba(given) == run.predict_proba(TEXTS)


def test_a_language_model_reads_rows_as_it_has_learned_them(speaker: afina.Run) -> None:
    rows = [{"messages": row["messages"][:1]} for row in make_conversations("messages", 3, seed=5)]
    plain = speaker.generate([row["messages"] for row in rows], 3)
    assert speaker.generate(rows, 3) == speaker.generate(pd.DataFrame(rows), 3) == plain
    with pytest.raises(DataError, match="prompt 2 is of no use: an empty prompt"):
        speaker.generate([*rows[:1], {"messages": None}])


def test_half_a_surrogate_pair_is_refused_by_row(run: afina.Run, speaker: afina.Run) -> None:
    with pytest.raises(DataError) as caught:
        run.predict(["good", "bad \ud800", "\udcff"])
    assert str(caught.value) == (
        "some of the texts hold half of a surrogate pair (rows 2, 3)\n"
        "  found: 'bad \\ud800'\n"
        "  expected: text that UTF-8 can hold\n"
        '  do: text.encode("utf-8", "replace").decode()'
    )
    for prompt in ("\ud800", [{"role": "user", "content": "\ud800"}]):
        with pytest.raises(DataError, match="prompt 2 is of no use: half of a surrogate pair"):
            speaker.generate(["good", prompt])


def test_columns_that_predicting_would_write_over_are_refused(run: afina.Run, speaker: afina.Run) -> None:
    rows = [{"text": "good", "prediction": "mine", "confidence": 1}]
    with pytest.raises(DataError) as caught:
        afina.predict(run, rows)
    assert str(caught.value) == (
        "the data has columns that predicting would write over: 'prediction', 'confidence'\n"
        "  expected: other names: predicting adds 'prediction', 'confidence'\n"
        "  do: rename or remove these columns"
    )
    with pytest.raises(DataError, match="predicting would write over: 'prediction'"):
        afina.predict(speaker, [{"messages": [{"role": "user", "content": "why?"}], "prediction": "mine"}])


def rename_column(run: afina.Run, path: Path, before: str, now: str) -> Path:
    """A copy of the run that has learned from a column of another name."""
    copy = Path(shutil.copytree(run.path, path))
    stored = json.loads((copy / "task.json").read_text())
    stored["columns"] = {role: now if name == before else name for role, name in stored["columns"].items()}
    (copy / "task.json").write_text(json.dumps(stored))
    return copy


def test_a_run_that_learned_from_a_column_of_such_a_name_predicts_beside_it(
    run: afina.Run, speaker: afina.Run, tmp_path: Path
) -> None:
    expected = afina.predict(run, [{"text": "good"}])[0]
    copy = rename_column(run, tmp_path / "labels", "text", "prediction")
    (found,) = afina.predict(copy, [{"prediction": "good", "confidence": 3}])
    assert found == {
        "prediction": "good", "confidence": 3, "model_prediction": expected["prediction"],
        "model_confidence": expected["confidence"],
    }  # fmt: skip
    (tmp_path / "rows.jsonl").write_text('{"prediction": "good"}\n{"prediction": " "}\n')
    assert afina.predict_file(copy, tmp_path / "rows.jsonl", tmp_path / "out.csv", verbose=False)[1:] == (2, [2])
    with pytest.raises(DataError, match="predicting would write over: 'model_prediction'"):
        afina.predict(copy, [{"prediction": "good", "model_prediction": "mine"}])
    copy = rename_column(speaker, tmp_path / "answers", "messages", "prediction")
    (found,) = afina.predict(copy, [{"prediction": [{"role": "user", "content": "why?"}]}], max_new_tokens=2)
    assert found.keys() == {"prediction", "model_prediction"}


def test_a_language_model_has_no_probabilities(speaker: afina.Run) -> None:
    with pytest.raises(ConfigError, match="a language model has no probabilities of classes"):
        speaker.predict_proba(["great"])


def test_pairs_are_taken_by_the_names_of_their_columns() -> None:
    rows = [{"text_pair": "b", "text": "a"}, ("c", "d")]
    assert take_texts(rows, ["text", "text_pair"]) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(("given", "found"), [("a", "one string"), ({"text": "a"}, "type dict"), (3, "type int")])
def test_what_is_no_list_is_refused(given: Any, found: str) -> None:
    with pytest.raises(DataError, match=found):
        list_given(given, "predict", "text")


def test_a_mapping_without_the_column_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        take_texts(["a", {"body": "b"}], ["text"])
    assert str(caught.value) == (
        "row 2 has no column 'text'\n  found: 'body'\n  expected: the columns the model has learned from: 'text'"
    )


def test_a_frame_with_two_columns_of_one_name_is_refused(run: afina.Run) -> None:
    frame = pd.DataFrame([["a", "b"], ["c", "d"]], columns=["text", "text"])
    with pytest.raises(DataError, match="the data frame has several columns of one name"):
        run.predict(frame)


def test_a_run_whose_class_names_were_edited_in_one_place_is_refused(run: afina.Run, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    stored = json.loads((copy / "task.json").read_text(encoding="utf-8"))
    stored["labels"]["names"].reverse()
    (copy / "task.json").write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(RunFolderError, match="have other names in task\\.json than in model/config\\.json"):
        afina.predict(copy, [{"text": "good"}])


def test_rows_that_cannot_be_scored_are_refused_or_left_out(run: afina.Run) -> None:
    odd = [{"text": "good", "label": "another class"}, {"text": "", "label": ROWS[0]["label"]}]
    rows = [*ROWS, *odd]
    with pytest.raises(DataError) as caught:
        afina.evaluate(run, rows)
    assert str(caught.value).count('or on_bad_rows="drop" to score the others') == 2
    assert "data.on_bad_rows" not in str(caught.value)
    found = afina.evaluate(run, rows, on_bad_rows="drop")
    assert found["rows"] == len(ROWS)
    assert found["metrics"] == afina.evaluate(run, ROWS)["metrics"]
    told = [note for note in found["notes"] if note.startswith("left out: ")]
    assert len(told) == 2
    assert "doesn't have in 'label' (row 25)" in told[0] + told[1]
    with pytest.raises(DataError, match="no row can be scored"):
        afina.evaluate(run, odd, on_bad_rows="drop")
    with pytest.raises(ConfigError, match="on_bad_rows doesn't fit"):
        afina.evaluate(run, ROWS, on_bad_rows="ignore")  # type: ignore[arg-type]


def test_conversations_that_cannot_be_scored_are_left_out(speaker: afina.Run) -> None:
    rows = make_conversations("messages", 12)
    wrong = {"messages": [{"role": "wizard", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
    found = afina.evaluate(speaker, [*rows, wrong], on_bad_rows="drop")
    assert found["rows"] == afina.evaluate(speaker, rows)["rows"]
    assert "a message of an unknown role" in found["notes"][0]
