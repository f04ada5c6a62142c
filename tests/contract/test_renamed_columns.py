"""Rows whose columns have other names than in training are predicted and scored as those are."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import afina
from afina.testing.data import make_conversations, make_rows, make_tagged

QUICK = {
    "verbose": False, "baselines": False, "bootstrap_resamples": 0, "cache": False, "keep_baselines": False,
    "num_train_epochs": 1, "generation_samples": 0, "max_new_tokens": 2,
}  # fmt: skip


@pytest.fixture
def labelled(tiny_models: Callable[[str], Path], tmp_path: Path) -> afina.Run:
    return afina.fit(tiny_models("bert"), make_rows("multiclass", 40), "full", output=tmp_path / "labelled", **QUICK)


@pytest.fixture
def answering(tiny_models: Callable[[str], Path], tmp_path: Path) -> afina.Run:
    rows = make_conversations("completion", 24)
    return afina.fit(tiny_models("llama"), rows, "lora", output=tmp_path / "chat", chat_template="chatml", **QUICK)


def rename(rows: list[dict[str, Any]], **names: str) -> list[dict[str, Any]]:
    """The rows with other names, and a column that nothing reads."""
    return [{"note": "n", **{names.get(key, key): value for key, value in row.items()}} for row in rows]


def list_predictions(rows: list[dict[str, Any]]) -> list[Any]:
    return [row["prediction"] for row in rows]


def test_texts_and_labels_are_found_under_the_names_that_are_given(labelled: afina.Run) -> None:
    rows = make_rows("multiclass", 12, seed=1)
    renamed = rename(rows, text="quote", label="kind")
    expected = afina.predict(labelled, rows)
    found = afina.predict(labelled, renamed, text_column="quote")
    assert list_predictions(found) == list_predictions(expected)
    assert set(found[0]) == {"note", "quote", "kind", "prediction", "confidence"}
    scores = afina.evaluate(labelled, renamed, text_column="quote", label_column="kind")
    assert scores["metrics"] == afina.evaluate(labelled, rows)["metrics"]
    with pytest.raises(afina.DataError, match="no column 'text'") as caught:
        afina.predict(labelled, renamed)
    assert "text_column=NAME" in str(caught.value)
    with pytest.raises(TypeError, match="unexpected keyword argument 'textcolumn'"):
        labelled.evaluate(renamed, textcolumn="quote")
    with pytest.raises(afina.DataError, match="no column 'label'"):
        afina.evaluate(labelled, renamed, text_column="quote")


def test_a_column_that_a_run_does_not_read_is_refused(labelled: afina.Run, answering: afina.Run) -> None:
    rows = make_rows("multiclass", 4)
    with pytest.raises(afina.ConfigError, match="doesn't read what is named by prompt_column") as caught:
        afina.predict(labelled, rows, prompt_column="text")
    assert "text_column=NAME, label_column=NAME" in str(caught.value)
    with pytest.raises(afina.ConfigError, match="messages_column"):
        afina.evaluate(answering, make_conversations("completion", 4), messages_column="prompt")


def test_the_only_text_column_is_taken_and_told(labelled: afina.Run, tmp_path: Path) -> None:
    rows = make_rows("multiclass", 6, seed=1)
    expected = list_predictions(afina.predict(labelled, rows))
    assert list_predictions(afina.predict(labelled, pd.DataFrame({"words": [row["text"] for row in rows]}))) == expected
    file, output = tmp_path / "reviews.csv", tmp_path / "out.csv"
    pd.DataFrame(rename(rows, text="Review", label="number")).to_csv(file, index=False)
    command = [sys.executable, "-m", "afina", "predict", str(labelled.path), str(file), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (
        "texts are taken from 'Review', for there is no column 'text'; --text-column NAME names another" in done.stderr
    )
    assert list(pd.read_csv(output)["prediction"]) == expected


def test_pairs_name_two(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows = make_rows("pairs", 40)
    run = afina.fit(tiny_models("bert"), rows, "full", output=tmp_path / "run", **QUICK)
    first, second = (name for name in rows[0] if name != "label")
    renamed = rename(rows, **{first: "one", second: "other"})
    found = afina.predict(run, renamed, text_column="one", text_pair_column="other")
    assert list_predictions(found) == list_predictions(afina.predict(run, rows))


def test_words_of_tags(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows = make_tagged("words", 32)
    run = afina.fit(tiny_models("bert"), rows, "full", output=tmp_path / "run", **QUICK)
    words, tags = rows[0]
    renamed = rename(rows[:6], **{words: "read", tags: "seen"})
    found = afina.predict(run, renamed, text_column="read")
    assert list_predictions(found) == list_predictions(afina.predict(run, rows[:6]))
    scores = afina.evaluate(run, renamed, text_column="read", label_column="seen")
    assert scores["metrics"] == afina.evaluate(run, rows[:6])["metrics"]


def test_prompts_and_answers(answering: afina.Run) -> None:
    rows = make_conversations("completion", 5, seed=1)
    renamed = rename(rows, prompt="asked", completion="answered")
    few = {"max_new_tokens": 2}
    found = afina.predict(answering, renamed, prompt_column="asked", **few)
    assert list_predictions(found) == list_predictions(afina.predict(answering, rows, **few))
    scores = afina.evaluate(answering, renamed, prompt_column="asked", completion_column="answered")
    assert scores["metrics"] == afina.evaluate(answering, rows)["metrics"]


def test_a_plain_prompt_asks_whatever_was_learned(
    tiny_models: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = make_conversations("messages", 24)
    run = afina.fit(tiny_models("llama"), rows, "lora", output=tmp_path / "run", chat_template="chatml", **QUICK)
    asked = [{"title": "what is it", "question": "who"}, {"title": "where", "question": "when"}]
    few = {"max_new_tokens": 2}
    expected = run.predict(["what is it", "where"], **few)
    assert list_predictions(afina.predict(run, asked, prompt_column="title", **few)) == expected
    afina.predict_file(run, asked, tmp_path / "answers.jsonl", **few)
    assert "prompts are taken from 'question', for there is no column of those that were learned from" in (
        capsys.readouterr().err
    )


def test_what_decides_no_answer_is_refused(labelled: afina.Run, answering: afina.Run, tmp_path: Path) -> None:
    with pytest.raises(afina.ConfigError, match="no answer depends on output") as caught:
        afina.predict(answering, [{"prompt": "a"}], output="x.jsonl")
    assert "afina.predict_file" in str(caught.value)
    with pytest.raises(afina.ConfigError, match="gives labels, no answers"):
        labelled.predict(["a"], max_new_tokens=5)


@pytest.mark.parametrize(("train", "score"), [("messages", "completion"), ("completion", "messages")])
def test_rows_of_another_form_are_scored_and_answered(
    train: Any, score: Any, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    rows, others = make_conversations(train, 24), make_conversations(score, 5, seed=1)
    run = afina.fit(tiny_models("llama"), rows, "lora", output=tmp_path / "run", chat_template="chatml", **QUICK)
    found = afina.evaluate(run, others)
    assert found["rows"] == 5
    kinds = {"messages": "conversations", "completion": "prompts and their answers"}
    assert found["notes"][0].startswith(f"the rows are scored as {kinds[score]}: '")
    assert found["notes"][0].endswith(f"; the model has learned from {kinds[train]}")
    few = {"max_new_tokens": 2}
    if score == "completion":
        named = afina.evaluate(
            run, rename(others, prompt="p", completion="c"), prompt_column="p", completion_column="c"
        )
        same = [{"messages": as_messages(row["prompt"], row["completion"])} for row in others]
        assert found["metrics"] == named["metrics"] == afina.evaluate(run, same)["metrics"]
    else:
        asked = [{"messages": row["messages"][:1]} for row in others]
        texts = [row["messages"][0]["content"] for row in others]
        assert list_predictions(afina.predict(run, asked, **few)) == run.predict(texts, **few)


def as_messages(prompt: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def test_answers_that_are_numbers_are_learned_and_scored_as_json_writes_them(
    tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = [{"prompt": f"{n} and 1", "completion": n + 1} for n in range(24)]
    run = afina.fit(tiny_models("llama"), rows, "lora", output=tmp_path / "run", **QUICK)
    texts = [{**row, "completion": str(row["completion"])} for row in rows]
    assert afina.evaluate(run, rows[:5])["metrics"] == afina.evaluate(run, texts[:5])["metrics"]
