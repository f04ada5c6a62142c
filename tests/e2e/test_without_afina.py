"""Standard out: the code in report.json loads each result with transformers, peft or sentence-transformers alone.

All runs are trained here; one program in which afina can't be imported then runs each report's code as it is printed,
and once more with the texts of the test part, whose answers are compared with predictions.jsonl.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import afina
from afina.techniques.registry import TECHNIQUES
from afina.testing.data import Kind, make_rows

ROWS = 32
LENGTH = 40
"""Tokens a row may keep: fewer than most rows have, so that a text cut elsewhere gives another answer."""


class Cell(NamedTuple):
    """One run: what is trained on what."""

    technique: str
    family: str
    kind: Kind
    pooling: str = "auto"

    @property
    def name(self) -> str:
        """Name of the run's folder."""
        return "-".join(part for part in self if part != "auto")


CELLS = [
    *(Cell(technique, "bert", kind) for technique in TECHNIQUES for kind in ("multilabel", "regression", "pairs")),
    # With and without a padding token of their own, fused and transposed projections.
    *(Cell(technique, family, "multiclass") for technique in TECHNIQUES for family in ("gpt2", "llama", "phi3")),
    *(Cell("feature-extraction", "bert", "multiclass", pooling) for pooling in ("own", "first", "mean", "last")),
    Cell("feature-extraction", "bert", "pairs", "mean"),
    Cell("feature-extraction", "bert", "regression", "mean"),
    Cell("feature-extraction", "gpt2", "multilabel", "mean"),
]

PROGRAM = """
import importlib.abc, json, os, sys, traceback
import numpy as np

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "afina":
            raise ImportError("afina is not installed")

sys.meta_path.insert(0, Refuse())
try:
    import afina
except ImportError:
    pass
else:
    raise SystemExit("afina was imported")

import torch
torch.set_num_threads(1)
root, answers = sys.argv[1], {}
jobs = json.load(open(os.path.join(root, "jobs.json"), encoding="utf-8"))
for name, job in jobs.items():
    os.chdir(os.path.join(root, name))
    try:
        exec(job["code"], {})
        line, = [line for line in job["code"].splitlines() if line.startswith("texts = ")]
        space = {"TEXTS": job["texts"]}
        exec(job["code"].replace(line, "texts = TEXTS"), space)
        logits = space["logits"]
        logits = logits.detach().cpu().numpy() if isinstance(logits, torch.Tensor) else np.asarray(logits)
        answers[name] = {"logits": logits.tolist(), "names": space.get("names")}
    except Exception:
        answers[name] = {"error": traceback.format_exc()}
json.dump(answers, open(os.path.join(root, "answers.json"), "w", encoding="utf-8"))
"""


@pytest.fixture(scope="module")
def answers(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the program said of each run, with the run's folder and rows beside it."""
    import torch

    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("runs")
    jobs: dict[str, Any] = {}
    for cell in CELLS:
        rows = make_rows(cell.kind, ROWS)
        run = afina.fit(
            tiny_models(cell.family), rows, cell.technique, output=root / cell.name, max_seq_length=LENGTH,
            num_train_epochs=1, baselines=False, bootstrap_resamples=0, folds=2, cache=False, precision="fp32",
            pooling=cell.pooling, verbose=False,
        )  # fmt: skip
        stored = read_predictions(run.path)
        texts = [rows[line["row"] - 1] for line in stored]
        pairs = cell.kind == "pairs"
        jobs[cell.name] = {
            "code": run.report["load"]["code"],
            "texts": [[row["text"], row["text_pair"]] if pairs else row["text"] for row in texts],
        }
    (root / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, root], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((root / "answers.json").read_text(encoding="utf-8"))
    return {name: {**answer, "folder": root / name} for name, answer in found.items()}


def read_predictions(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_table_is_whole(answers: dict[str, Any]) -> None:
    assert len({cell.name for cell in CELLS}) == len(CELLS) == 31
    assert set(answers) == {cell.name for cell in CELLS}
    layouts = {json.loads((each["folder"] / "report.json").read_text())["load"]["layout"] for each in answers.values()}
    assert layouts == {"transformers", "peft", "sentence-transformers"}


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)
def test_result_loads_without_afina(cell: Cell, answers: dict[str, Any]) -> None:
    answer = answers[cell.name]
    assert "error" not in answer, answer["error"]
    stored = read_predictions(answer["folder"])
    logits_NC = np.asarray(answer["logits"], np.float64)
    assert len(stored) == len(logits_NC) >= 5
    if cell.kind == "regression":
        assert answer["names"] is None
        assert logits_NC[:, 0] == pytest.approx([line["prediction"] for line in stored], abs=1e-4)
        return
    names = list(stored[0]["probabilities"])
    assert answer["names"] == {str(i): name for i, name in enumerate(names)}
    expected_NC = np.array([[line["probabilities"][name] for name in names] for line in stored])
    found_NC = 1 / (1 + np.exp(-logits_NC)) if cell.kind == "multilabel" else softmax(logits_NC)
    assert np.abs(found_NC - expected_NC).max() < 1e-4
    assert np.ptp(expected_NC[:, 0]) > 1e-3, "answers that are all alike would prove nothing"


def softmax(logits_NC: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    weights_NC = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    return np.asarray(weights_NC / weights_NC.sum(axis=1, keepdims=True))
