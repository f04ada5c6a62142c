"""Afina as a caller from Python meets it: threads, the state of their process, their types, their frames."""

from __future__ import annotations

import contextlib
import pickle
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

import afina
from afina.isolation import isolate
from afina.testing.data import make_conversations, make_rows

QUICK = {"verbose": False, "baselines": False, "bootstrap_resamples": 0, "cache": False, "keep_baselines": False}


@pytest.fixture
def bert(tiny_models: Callable[[str], Path]) -> Path:
    return tiny_models("bert")


def fit(model: Path, rows: Any, output: Path, technique: str = "feature-extraction", **settings: Any) -> afina.Run:
    return afina.fit(model, rows, technique, output=output, **QUICK, **settings)


def test_threads_wait_for_each_other(bert: Path, tmp_path: Path) -> None:
    rows = make_rows("multiclass", 40)
    alone = fit(bert, rows, tmp_path / "alone", "lora", num_train_epochs=1)
    before = torch.nn.init.kaiming_uniform_
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda i: fit(bert, rows, tmp_path / str(i), "lora", num_train_epochs=1), range(3)))
    assert [run.metrics for run in found] == [alone.metrics] * 3
    assert torch.nn.init.kaiming_uniform_ is before


def test_the_state_of_the_caller_is_kept(bert: Path, tmp_path: Path) -> None:
    rows = make_rows("multiclass", 40)
    usual = fit(bert, rows, tmp_path / "usual", "lora", num_train_epochs=1)
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(1))
    try:
        with torch.inference_mode():
            run = fit(bert, rows, tmp_path / "odd", "lora", num_train_epochs=1)
            run.predict(["a"])
        assert torch.get_default_dtype() == torch.float64
        torch.testing.assert_close(torch.rand(3), expected)
    finally:
        torch.set_default_dtype(torch.float32)
    assert run.metrics == usual.metrics


@pytest.mark.parametrize("technique", ["feature-extraction", "lora"])
def test_the_device_that_the_caller_makes_tensors_on_is_not_where_a_run_makes_its_own(
    technique: str, bert: Path, tmp_path: Path
) -> None:
    rows = make_rows("multiclass", 40)
    few = {"num_train_epochs": 1} if technique == "lora" else {}
    usual = fit(bert, rows, tmp_path / "usual", technique, **few)
    torch.set_default_device("meta")
    try:
        run = fit(bert, rows, tmp_path / "odd", technique, **few)
        assert run.predict(["a"]) == usual.predict(["a"])
        assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_device(None)
    assert run.metrics == usual.metrics


def test_autocast_of_the_caller_changes_no_number(bert: Path, tmp_path: Path) -> None:
    rows = make_rows("multiclass", 40)
    usual = fit(bert, rows, tmp_path / "usual", "lora", num_train_epochs=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        odd = fit(bert, rows, tmp_path / "odd", "lora", num_train_epochs=1)
        found = odd.predict_proba(["a", "b"])
    assert odd.metrics == usual.metrics
    assert found == usual.predict_proba(["a", "b"])


@pytest.mark.parametrize("enabled", [None, False, True])
def test_within_a_call_autocast_rounds_weights_anew_in_each_pass(enabled: bool | None) -> None:
    linear, inputs = torch.nn.Linear(2, 2, bias=False), torch.eye(2)
    caller = contextlib.nullcontext() if enabled is None else torch.autocast("cpu", torch.bfloat16, enabled=enabled)

    def compute() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return linear(inputs)

    with caller:
        with isolate():
            before = compute()
            with torch.no_grad():
                linear.weight += 1
            torch.testing.assert_close(compute() - before, torch.ones(2, 2, dtype=torch.bfloat16), atol=0.02, rtol=0)
        assert torch.is_autocast_enabled("cpu") is bool(enabled)
        depth = torch.autocast_increment_nesting() - 1
        torch.autocast_decrement_nesting()
        assert depth == int(enabled is not None)


@pytest.mark.parametrize(
    ("labels", "kind"),
    [([0, 1], int), ([0.0, 1.0], int), ([0.5, 1.5], float), ([True, False], bool), (["0", "1"], str)],
)
def test_labels_come_back_as_what_they_were(labels: list[Any], kind: type, bert: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": labels[i % 2]} for i, row in enumerate(make_rows("binary", 40))]
    run = fit(bert, rows, tmp_path / "run", task="text-classification")
    assert {type(label) for label in run.predict([row["text"] for row in rows])} == {kind}
    assert set(run.predict_proba(["a"])[0]) == set(labels)
    (row,) = afina.predict(run, rows[:1])
    assert type(row["prediction"]) is kind


def test_lists_of_numbers_come_back_as_lists_of_numbers(bert: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": [i % 3, 7]} for i, row in enumerate(make_rows("binary", 40))]
    assert fit(bert, rows, tmp_path / "run").predict(["a"])[0][-1] == 7


def test_frames_of_others(bert: Path, tmp_path: Path) -> None:
    rows = make_rows("multiclass", 40)
    table = pa.Table.from_pylist(rows)
    run = fit(bert, table, tmp_path / "arrow")
    texts = [row["text"] for row in rows]
    assert run.predict(table.to_pandas()) == run.predict(texts)

    class Frame:  # what matters of polars' own, which isn't installed for the tests
        columns = ("text", "label")

        def to_dicts(self) -> list[dict[str, Any]]:
            return rows

        def to_dict(self) -> dict[str, Any]:
            raise AssertionError

    assert run.predict(Frame()) == run.predict(texts)


def test_a_dict_of_columns(bert: Path, tmp_path: Path) -> None:
    rows = make_rows("multiclass", 40)
    columns = {"text": [row["text"] for row in rows], "label": pd.Series([row["label"] for row in rows])}
    assert fit(bert, columns, tmp_path / "columns").metrics == fit(bert, rows, tmp_path / "rows").metrics
    with pytest.raises(afina.DataError, match="columns of several lengths"):
        afina.check({"text": ["a", "b"], "label": ["x"]})


def test_one_conversation_is_one_prompt(tiny_models: Callable[[str], Path]) -> None:
    from afina.pipeline.language.decoding import Decoding

    speaker = afina.open_chat(str(tiny_models("llama")), chat_template="chatml")
    conversation, few = [{"role": "user", "content": "hello"}], Decoding(4)
    assert speaker.answer(conversation, few) == speaker.answer([conversation], few)


def test_columns_with_numbers_for_names(bert: Path, tmp_path: Path) -> None:
    frame = pd.DataFrame([(row["text"], row["label"]) for row in make_rows("multiclass", 40)])
    run = fit(bert, frame, tmp_path / "run", text_column="0", label_column="1")
    assert run.predict(frame) == run.predict(frame[0])


def test_a_run_can_be_pickled_after_use(bert: Path, tmp_path: Path) -> None:
    run = fit(bert, make_rows("multiclass", 40), tmp_path / "run", "lora", num_train_epochs=1)
    expected = run.predict(["a"])
    assert pickle.loads(pickle.dumps(run)).predict(["a"]) == expected


def test_a_run_is_found_from_another_folder(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = fit(bert, make_rows("multiclass", 40), Path("run"))
    monkeypatch.chdir("/")
    assert run.path == tmp_path / "run"
    assert len(run.predict(["a"])) == 1


def test_home_is_written_as_a_tilde(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(bert.parent))
    output = afina.fit(
        f"~/{bert.name}", make_rows("multiclass", 40), "feature-extraction", output="~/a run", **QUICK
    ).path
    assert output == bert.parent / "a run"


def test_several_parts_are_not_predicted_in_part(bert: Path, tmp_path: Path) -> None:
    rows = make_rows("multiclass", 40)
    run = fit(bert, rows, tmp_path / "run")
    with pytest.raises(afina.DataError, match="in several parts"):
        afina.predict(run, {"train": rows, "test": rows[:3]})


def test_a_description_may_be_an_object(bert: Path, tmp_path: Path) -> None:
    rows = make_rows("multiclass", 40)
    settings = {"technique": "feature-extraction", "seed": 3, "features": {"cache": False}}
    for name, config in (("mapping", settings), ("object", afina.RunConfig.model_validate(settings))):
        run = afina.fit(bert, rows, config=config, output=tmp_path / name, verbose=False, baselines=False)
        assert run.technique == "feature-extraction"
    with pytest.raises(afina.ConfigError, match="config is no description"):
        afina.fit(bert, rows, config=3)  # type: ignore[arg-type]


def test_a_run_tells_its_scores(bert: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = fit(bert, make_rows("multiclass", 40), tmp_path / "run")
    assert "held-out scores on 8 rows" in str(run)
    assert str(run.path / "report.html") in str(run)
    assert run.evaluate(make_rows("multiclass", 9))["rows"] == 9


def test_search_names_what_was_given_in_the_wrong_place(bert: Path) -> None:
    with pytest.raises(afina.ConfigError, match="model must be a folder"):
        afina.search(bert, pd.DataFrame({"text": ["a"]}), budget="1m")  # type: ignore[arg-type]


def test_an_interrupted_run_is_no_error_to_go_on_after() -> None:
    assert not issubclass(afina.Interrupted, Exception)
    assert issubclass(afina.Interrupted, KeyboardInterrupt)


class Tone(str, Enum):  # noqa: UP042 (a StrEnum is its text anyway)
    GOOD = "good"
    BAD = "bad"


def test_labels_that_are_an_enum_of_texts_are_their_texts(bert: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": [*Tone][i % 2]} for i, row in enumerate(make_rows("binary", 40))]
    assert set(fit(bert, rows, tmp_path / "run").predict_proba(["a"])[0]) == {"good", "bad"}


@pytest.mark.parametrize("value", [object(), 1j, b"good"])
def test_labels_that_can_not_be_stored_are_named(value: Any, bert: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": value} for row in make_rows("binary", 40)]
    with pytest.raises(afina.errors.DataError, match="rows with a value that can't be stored in 'label'"):
        fit(bert, rows, tmp_path / "run")


def test_a_csv_spells_true_and_false_as_python_does(bert: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"], "label": i % 2 == 0} for i, row in enumerate(make_rows("binary", 40))]
    run = fit(bert, rows, tmp_path / "run")
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    found = run.evaluate(tmp_path / "rows.csv")["metrics"]
    assert found["test/accuracy"] == run.evaluate(rows)["metrics"]["test/accuracy"]


def test_only_a_test_part_can_be_scored_and_predicted(bert: Path, tmp_path: Path) -> None:
    rows = make_rows("multiclass", 40)
    run = fit(bert, rows, tmp_path / "run")
    scores = run.evaluate(rows)
    assert run.evaluate({"test": rows}) == scores
    assert afina.predict(run, {"test": rows}) == afina.predict(run, rows)
    (tmp_path / "set").mkdir()
    pd.DataFrame(rows).to_csv(tmp_path / "set" / "test.csv", index=False)
    assert run.evaluate(tmp_path / "set") == scores
    with pytest.raises(afina.errors.DataError, match="no training part"):
        fit(bert, {"test": rows}, tmp_path / "other")


def test_arrow_is_predicted_from(bert: Path, tmp_path: Path) -> None:
    run = fit(bert, make_rows("multiclass", 40), tmp_path / "run")
    texts = ["a text", "another"]
    expected = run.predict(texts)
    assert run.predict(pa.array(texts)) == run.predict(pa.chunked_array([texts])) == expected
    assert run.predict(pa.table({"text": texts})) == expected
    with pytest.raises(afina.errors.DataError, match="takes a list of texts"):
        run.predict(np.array("a"))


def test_conversations_alone_are_rows(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    talks = [row["messages"] for row in make_conversations("messages", 16)]
    settings = {"chat_template": "chatml", "general_text": False, "generation_samples": 0, "num_train_epochs": 1}
    run = afina.fit(tiny_models("llama"), talks, "lora", output=tmp_path / "run", **QUICK, **settings)
    assert run.metrics["test/loss"] > 0


def test_a_search_scores_the_test_part(bert: Path) -> None:
    with pytest.raises(afina.errors.ConfigError, match="scores the test part once"):
        afina.search(make_rows("binary", 40), bert, "1m", score_test=False)


def test_settings_that_a_technique_does_not_read_are_no_difference(bert: Path, tmp_path: Path) -> None:
    rows = make_rows("multiclass", 40)
    runs = [fit(bert, rows, tmp_path / "head"), fit(bert, rows, tmp_path / "lora", "lora", num_train_epochs=1)]
    assert afina.compare(*runs)["differences"] == {"technique": ["feature-extraction", "lora"]}


def test_an_adapter_of_a_language_model_loads_in_transformers(
    tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    settings = {"chat_template": "chatml", "general_text": False, "generation_samples": 0, "num_train_epochs": 1}
    rows = make_conversations("messages", 16)
    run = afina.fit(tiny_models("llama"), rows, "lora", output=tmp_path / "run", **QUICK, **settings)
    model = AutoModelForCausalLM.from_pretrained(run.path / "model")
    assert any("lora_B" in name and weight.any() for name, weight in model.named_parameters())
    assert len(run.generate(["a"], max_new_tokens=1)) == 1
    written = afina.predict(run, [{"prompt": "a"}, {"prompt": "b"}], max_new_tokens=1)
    assert len(written) == 2


def test_a_reproduction_that_is_stopped_leaves_nothing_to_be_taken_for_a_run(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows("multiclass", 40)
    run = fit(bert, rows, tmp_path / "run")

    def stop(*arguments: Any) -> None:
        raise afina.Interrupted(143, arguments[1].path)

    monkeypatch.setattr("afina.reproductions.resume_run", stop)
    with pytest.raises(afina.Interrupted) as caught:
        afina.reproduce(run, rows, output=tmp_path / "again", verbose=False)
    assert f'afina.reproduce("{run.path}")' in str(caught.value)
    assert not (tmp_path / "again").exists()


def test_marks_in_an_array_are_told_to_be_names(bert: Path, tmp_path: Path) -> None:
    marks = np.eye(2, dtype=int)[[i % 2 for i in range(40)]]
    columns = {"text": [row["text"] for row in make_rows("binary", 40)], "labels": np.concatenate([marks, marks], 1)}
    with pytest.raises(afina.errors.DataError, match="holds a mark for each label, and no names"):
        fit(bert, columns, tmp_path / "run")
