"""Tagged words through the real command line, a stop in the middle, and the result in transformers' own pipeline."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from afina.testing.data import make_tagged

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine, Done

SETTINGS = {
    "num_train_epochs": 3, "precision": "fp32", "bootstrap_resamples": 20, "folds": 2, "learning_rate": 1e-3,
    "per_device_train_batch_size": 1, "gradient_accumulation_steps": 8, "save_steps": 1, "dropout": 0.1,
    "head_init": "random", "early_stopping_patience": 0,
}  # fmt: skip
FLAGS = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
TRAIN = ("train", "rows.jsonl", "--model", "bert", "--technique", "full")


@pytest.fixture(scope="module")
def place(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and tagged rows."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(tiny_models("bert"), folder / "bert")
    lines = (json.dumps(row) + "\n" for row in make_tagged("words", 60))
    (folder / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(place: Path, command_line: CommandLine) -> Done:
    """`afina train` as a user calls it, without a word about the task."""
    return command_line.run_cold(*TRAIN, "--output", "run", "--json", *FLAGS, cwd=place)


def test_train_says_what_it_took_the_rows_for(trained: Done) -> None:
    found = trained.read_object()
    assert (found["task"], found["technique"]) == ("token-classification", "full")
    assert set(found["baselines"]) == {"majority", "dictionary"}
    assert "task = token-classification: each word has a tag" in trained.err
    assert "tags = BIO: an entity begins with B- and goes on with I-" in trained.err
    assert "Warning" not in trained.err


def test_predict_and_evaluate(trained: Done, place: Path, command_line: CommandLine) -> None:
    trained.read_object()
    done = command_line.run("predict", "run", "rows.jsonl", "--output", "out.csv", "--json", cwd=place)
    assert done.read_object()["rows"] == 60
    header = (place / "out.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "tokens,tags,prediction,confidence,predicted_entities"
    # The lists in a csv are read again.
    again = command_line.run("evaluate", "run", "out.csv", "--json", cwd=place).read_object()
    assert again["rows"] == 60
    assert command_line.run("compare", "run", "run", cwd=place).code == 0
    assert "f1" in command_line.run("evaluate", "run", "rows.jsonl", cwd=place).out


def test_a_stopped_run_goes_on_to_the_same_weights(trained: Done, place: Path, command_line: CommandLine) -> None:
    trained.read_object()
    process = command_line.start(*TRAIN, "--output", "stopped", *FLAGS, cwd=place)
    limit = time.monotonic() + 60
    while not list((place / "stopped" / "checkpoints").glob("step-*")):
        assert time.monotonic() < limit, process.err.read_text(encoding="utf-8")
        time.sleep(0.002)
    process.send(signal.SIGTERM)
    assert process.finish().code == 143
    assert command_line.run("resume", "stopped", cwd=place).code == 0
    whole, resumed = ((place / name / "model" / "model.safetensors").read_bytes() for name in ("run", "stopped"))
    assert resumed == whole


def test_transformers_pipeline_loads_the_result(trained: Done, place: Path) -> None:
    from transformers import pipeline

    import afina

    trained.read_object()
    tagger: Any = pipeline("token-classification", model=str(place / "run" / "model"), device="cpu")
    rows = make_tagged("words", 6, seed=4)
    ours = afina.load(place / "run").predict([row["tokens"] for row in rows])
    for row, tags in zip(rows, ours, strict=True):
        text, start = " ".join(row["tokens"]), 0
        found = {each["start"]: each["entity"] for each in tagger(text, ignore_labels=[])}
        # The tiny tokenizer has a token for each space, which it gives to the word after it in a text alone.
        for word, tag in zip(row["tokens"], tags, strict=True):
            assert start in found or start - 1 in found
            assert isinstance(tag, str)
            start += len(word) + 1
