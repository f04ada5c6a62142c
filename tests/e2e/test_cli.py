"""Every verb through the real command line, on one run: train, resume, evaluate, predict, compare, runs, merge."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from afina.testing.data import make_rows

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine, Done

ListFiles = Callable[[Path], dict[str, bytes]]
VERBS = (
    "train", "search", "resume", "reproduce", "evaluate", "predict", "compare", "runs", "merge", "check", "chat",
    "plan",
)  # fmt: skip
RUN_FILES = {
    "README.md", "config.yaml", "data.json", "environment.json", "metrics.jsonl", "model", "origin.json",
    "predictions.jsonl", "reasons.json", "report.html", "report.json", "row_scores.jsonl", "seen_texts.npy",
    "status.json", "task.json",
}  # fmt: skip
TRAIN_KEYS = {
    "run", "model", "task", "technique", "reasons", "metrics", "baselines", "trainable_parameters", "total_parameters",
    "duration_seconds", "peak_memory_bytes", "rows",
}  # fmt: skip
SETTINGS = ("--set", "precision=fp32", "--set", "bootstrap_resamples=20", "--num-train-epochs", "1")


@pytest.fixture(scope="module")
def place(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, write_csv: Any) -> Path:
    """A folder like a user's: a model, and the rows of three parts."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(tiny_models("bert"), folder / "bert")
    rows = make_rows("multiclass", 60)
    (folder / "data").mkdir()
    for name, part in {"train": rows[:40], "validation": rows[40:48], "test": rows[48:]}.items():
        write_csv(folder / "data" / f"{name}.csv", part)
    return folder


@pytest.fixture(scope="module")
def trained(place: Path, command_line: CommandLine) -> Done:
    """`afina train` of a LoRA, in an interpreter of its own."""
    return command_line.run_cold(
        "train", "data", "--model", "bert", "--technique", "lora", "--output", "runs/first", "--json", *SETTINGS,
        cwd=place,
    )  # fmt: skip


def test_help_of_every_verb(place: Path, command_line: CommandLine, list_files: ListFiles) -> None:
    before = list_files(place)
    general = command_line.run_cold("--help", cwd=place)
    assert general.code == 0
    assert "Usage: afina [OPTIONS] COMMAND" in general.out
    listed = general.out.partition("Commands:")[2].split("\n")
    assert {line.split()[0] for line in listed if line.startswith("  ") and line[2] != " "} == set(VERBS)
    for verb in VERBS:
        done = command_line.run(verb, "--help", cwd=place)
        assert (done.code, done.err) == (0, "")
        assert f"Usage: afina {verb}" in done.out
        assert ("--json" in done.out) is (verb != "chat")
    assert list_files(place) == before


def test_version_and_wrong_use(place: Path, command_line: CommandLine) -> None:
    from afina import __version__

    version = command_line.run("--version", cwd=place)
    assert (version.code, version.out) == (0, f"afina {__version__}\n")
    for arguments in (("trian",), ("train", "--nonsense"), ("predict",)):
        done = command_line.run(*arguments, cwd=place)
        assert done.code == 2
        assert done.out == ""
        assert done.err.startswith("afina: ")
        assert "Traceback" not in done.err


def test_train_prints_one_object(trained: Done) -> None:
    found = trained.read_object()
    assert set(found) >= TRAIN_KEYS
    assert (found["run"], found["model"]) == ("runs/first", "runs/first/model")
    assert (found["task"], found["technique"]) == ("text-classification", "lora")
    assert {"test/accuracy", "test/f1_macro", "test/loss"} <= set(found["metrics"])
    assert set(found["baselines"]) == {"majority", "tfidf-linear"}
    assert found["rows"]["read"] == found["rows"]["used"] == 60
    assert found["rows"]["dropped"] == {}
    assert found["rows"]["parts"] == {"train": 40, "validation": 8, "test": 12}
    assert 0 < found["trainable_parameters"] < found["total_parameters"]
    assert found["duration_seconds"] > 0
    assert found["peak_memory_bytes"] > 1e8
    assert all(set(reason) == {"setting", "value", "reason", "otherwise"} for reason in found["reasons"])


def test_train_tells_on_stderr(trained: Done) -> None:
    assert "run: runs/first" in trained.err
    assert "data.text_column = text" in trained.err
    assert "trainable params: " in trained.err
    assert "proof: " in trained.err
    assert "Traceback" not in trained.err
    assert "Warning" not in trained.err


def test_run_folder_is_as_designed(trained: Done, place: Path) -> None:
    run = place / "runs" / "first"
    assert {path.name for path in run.iterdir()} == RUN_FILES
    assert {path.name for path in (run / "model").iterdir()} >= {"adapter_model.safetensors", "config.json"}
    for name in ("reasons", "environment", "data", "report", "task"):
        json.loads((run / f"{name}.json").read_text(encoding="utf-8"))
    for name in ("metrics", "predictions"):
        lines = (run / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        assert lines
        assert all(isinstance(json.loads(line), dict) for line in lines)
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_same_seed_gives_same_run(trained: Done, place: Path, command_line: CommandLine) -> None:
    done = command_line.run(
        "train", "--config", "runs/first/config.yaml", "--output", "runs/again", "--quiet", cwd=place
    )
    assert done.code == 0, done.err
    assert done.err == ""
    assert "held-out scores on 12 rows" in done.out
    for file in ("model/adapter_model.safetensors", "predictions.jsonl"):
        first, again = ((place / "runs" / name / file).read_bytes() for name in ("first", "again"))
        assert first == again, file


def test_resume_of_a_finished_run_changes_nothing(
    trained: Done, place: Path, command_line: CommandLine, list_files: ListFiles
) -> None:
    before = list_files(place / "runs" / "first")
    done = command_line.run("resume", "runs/first", "--json", cwd=place)
    assert done.read_object() == trained.read_object()
    assert done.err == "runs/first is finished: nothing is left to do, the model is in runs/first/model\n"
    done = command_line.run("resume", "runs/first", cwd=place)
    assert done.code == 0
    assert "report  runs/first/report.html" in done.out
    assert list_files(place / "runs" / "first") == before


def test_evaluate_gives_the_metrics_of_the_run(trained: Done, place: Path, command_line: CommandLine) -> None:
    done = command_line.run("evaluate", "runs/first", "data/test.csv", "--json", cwd=place)
    found = done.read_object()
    expected = {name: value for name, value in trained.read_object()["metrics"].items() if name.startswith("test/")}
    assert found["rows"] == 12
    assert found["metrics"] == pytest.approx(expected, abs=1e-6)
    assert found["intervals"] == trained.read_object()["intervals"]
    assert found["rows_seen"] == 0


def test_evaluate_says_which_rows_were_learned_from(
    trained: Done, place: Path, command_line: CommandLine, tmp_path: Path, write_csv: Any
) -> None:
    import afina

    rows = make_rows("multiclass", 60)  # 40 of them trained, 8 chose the checkpoint, 12 tested
    rows[0]["text"] = f"  {rows[0]['text'].upper()}"
    write_csv(tmp_path / "all.csv", rows)
    done = command_line.run("evaluate", "runs/first", tmp_path / "all.csv", cwd=place)
    assert "warning: the model learned from 40 of these 60 rows, so the scores flatter; score new rows" in done.out
    assert afina.evaluate(place / "runs" / "first", rows)["rows_seen"] == 40
    done = command_line.run("evaluate", "runs/first", "data/test.csv", cwd=place)
    assert "the model learned from none of these rows" in done.out


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_predict_keeps_rows_and_order(
    suffix: str, trained: Done, place: Path, tmp_path: Path, command_line: CommandLine, write_csv: Any
) -> None:
    rows = [{"id": str(number), "text": row["text"]} for number, row in enumerate(make_rows("multiclass", 20, seed=5))]
    rows[3]["text"] = ""
    rows[7]["text"] = "   "
    rows[19]["text"] = "¿qué? " * 200
    write_csv(tmp_path / "new.csv", rows)
    # From another folder: a run is found by its path alone.
    done = command_line.run(
        "predict", place / "runs" / "first", "new.csv", "--output", f"out{suffix}", "--json", cwd=tmp_path
    )
    assert done.read_object() == {"output": f"out{suffix}", "rows": 20, "rows_without_prediction": 2}
    with open(tmp_path / f"out{suffix}", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file)) if suffix == ".csv" else [json.loads(line) for line in file]
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert list(found[0]) == ["id", "text", "prediction", "confidence"]
    nothing = "" if suffix == ".csv" else None
    for number, row in enumerate(found):
        if number in (3, 7):
            assert (row["prediction"], row["confidence"]) == (nothing, nothing)
        else:
            assert row["prediction"] in ("kitchen", "music", "weather")
            assert 1 / 3 <= float(row["confidence"]) <= 1
    assert {path.name for path in tmp_path.iterdir()} == {"new.csv", f"out{suffix}"}


@pytest.mark.parametrize(
    ("suffix", "delimiter", "kept"), [(".csv", ";", ";"), (".csv", "\t", "\t"), (".tsv", ";", "\t")]
)
def test_predict_keeps_the_delimiter_for_the_same_suffix(
    suffix: str, delimiter: str, kept: str, trained: Done, place: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    (tmp_path / "new.csv").write_text(delimiter.join(["id", "text"]) + f'\n1{delimiter}"play, some;\tmusic"\n')
    done = command_line.run("predict", place / "runs" / "first", "new.csv", "--output", f"out{suffix}", cwd=tmp_path)
    assert done.code == 0, done.err
    with open(tmp_path / f"out{suffix}", encoding="utf-8", newline="") as file:
        header, row = csv.reader(file, delimiter=kept)
    assert header == ["id", "text", "prediction", "confidence"]
    assert row[:2] == ["1", "play, some;\tmusic"]


def test_merge_gives_a_model_to_train_from(trained: Done, place: Path, command_line: CommandLine) -> None:
    found = command_line.run("merge", "runs/first", "--output", "merged", "--json", cwd=place).read_object()
    assert found == {"model": "merged"}
    files = {path.name for path in (place / "merged").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= files
    assert "adapter_config.json" not in files
    from afina.models.inspect import inspect_model

    assert inspect_model(place / "merged").model_type == "bert"


def test_runs_and_compare(trained: Done, place: Path, command_line: CommandLine) -> None:
    import afina

    second = afina.fit(
        place / "bert", place / "data", "feature-extraction", output=place / "runs" / "second", folds=2,
        bootstrap_resamples=20, baselines=False, verbose=False, cache=False,
    )  # fmt: skip
    listed = command_line.run("runs", "--json", cwd=place).read_object()["runs"]
    assert {"runs/first", "runs/second"} <= {each["run"] for each in listed}
    newest = next(each for each in listed if each["run"] == "runs/second")
    assert newest["state"] == "finished"
    assert newest["score"] == second.metrics["test/accuracy"]
    compared = command_line.run("compare", "runs/first", "runs/second", "--json", cwd=place).read_object()
    assert set(compared) == {"metric", "part", "runs", "paired", "differences", "notes"}
    (pair,) = compared["paired"]
    assert (pair["run"], pair["against"], pair["rows"]) == (str(second.path), "runs/first", 12)
    assert compared["metric"] == "test/accuracy"
    assert [each["technique"] for each in compared["runs"]] == ["lora", "feature-extraction"]
    assert compared["differences"]["technique"] == ["lora", "feature-extraction"]
    table = command_line.run("compare", "runs/first", "runs/second", cwd=place)
    assert table.code == 0
    assert "held-out scores (test rows)" in table.out
    assert "runs/second against runs/first: " in " ".join(table.out.split())
    assert "McNemar p = " in table.out
    assert re.search(r"^  takes .* s (more|less) and .* GiB", table.out, re.MULTILINE)
    assert "settings that differ" in table.out
    assert table.out.isascii(), "no boxes where no terminal is"
    heads = table.out.splitlines()[1].split()
    assert heads[:3] == ["run", "technique", "accuracy"]
    assert command_line.run("runs", "elsewhere", cwd=place).code == 2


def test_plan_prints_a_table_or_one_object(
    command_line: Any, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40)))
    shown = command_line.run("plan", data, "--model", tiny_models("bert"), cwd=tmp_path)
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert lines[2].split()[:3] == ["technique", "memory", "weights"]
    assert [line.split()[0] for line in lines[3:7]] == ["full", "feature-extraction", "lora", "qlora"]
    assert lines[7].startswith("first guess: full: 28 rows, since few rows make many pairs to learn from, and all ")
    found = command_line.run("plan", data, "--model", tiny_models("bert"), "--json", cwd=tmp_path).read_object()
    assert [row["technique"] for row in found["techniques"]] == ["full", "feature-extraction", "lora", "qlora"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.csv"]
