"""One table: every technique on every kind of task, and every technique on every family of models.

Each cell trains for real, and its result is checked the same way; no cell refuses at present. A new technique, kind or
family gets its tests by existing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

import afina
from afina.config.run import TaskName, TechniqueName
from afina.tasks.registry import TASKS
from afina.techniques.registry import TECHNIQUES
from afina.testing.data import Kind, make_rows
from afina.testing.models import DECODERS, ENCODERS, FAMILIES
from afina.training.callbacks.history import read_history

KINDS: tuple[Kind, ...] = get_args(Kind)
ROWS = 32
# In fp32 the same row gives the same numbers in any batch, so the comparisons are tight on every machine.
SETTINGS: dict[str, Any] = {
    "num_train_epochs": 1, "baselines": False, "folds": 2, "logging_steps": 1, "precision": "fp32"
}  # fmt: skip
KIND_CELLS = [(technique, kind) for technique in TECHNIQUES for kind in KINDS]
FAMILY_CELLS = [(technique, family) for technique in TECHNIQUES for family in FAMILIES if family != "bert"]


def test_the_table_is_whole() -> None:
    assert set(TECHNIQUES) == set(get_args(TechniqueName)) - {"auto"} == {"feature-extraction", "full", "lora", "qlora"}
    assert set(TASKS) == set(get_args(TaskName)) - {"auto", "text-generation"}
    assert set(TASKS) == {"text-classification", "text-regression", "token-classification"}
    assert set(KINDS) == {"multiclass", "binary", "multilabel", "regression", "pairs"}
    assert len(ENCODERS) == 9
    assert len(DECODERS) == 7
    assert len(KIND_CELLS) == 20
    assert len(FAMILY_CELLS) == 60


@pytest.mark.parametrize(("technique", "kind"), KIND_CELLS)
def test_technique_learns_kind(technique: str, kind: Kind, tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows = make_rows(kind, ROWS)
    run = afina.fit(
        tiny_models("bert"), rows, technique, output=tmp_path / "run", bootstrap_resamples=20, verbose=False, **SETTINGS
    )
    check_run(run, rows, kind)
    assert run.intervals, "20 resamples give intervals"


@pytest.mark.parametrize(("technique", "family"), FAMILY_CELLS)
def test_technique_takes_family(
    technique: str, family: str, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = make_rows("multiclass", ROWS)
    # A head of random numbers: a solved one may be the best result, and then nothing has moved.
    settings = {**SETTINGS, "head_init": "random", "bootstrap_resamples": 0, "output": tmp_path / "run"}
    run = afina.fit(tiny_models(family), rows, technique, verbose=False, **settings)
    check_run(run, rows, "multiclass")
    check_moved(run, tiny_models(family))
    assert run.intervals == {}


@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "regression"])
def test_evaluations_score_as_the_report_does(kind: Kind, tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    settings = {**SETTINGS, "class_weight": "none" if kind == "regression" else "balanced", "bootstrap_resamples": 0}
    rows = make_rows(kind, 60)
    rows = [row for i, row in enumerate(rows) if i % 3 == 0 or row["label"] != rows[0]["label"]]  # some are rarer
    run = afina.fit(
        tiny_models("bert"), rows, "full", output=tmp_path / "run", objective="cross-entropy", verbose=False, **settings
    )
    lines = [line for line in read_history(run.path / "metrics.jsonl") if "validation/loss" in line]
    (kept,) = (line for line in lines if line["step"] == run.report["kept_step"])
    key = "validation/rmse" if kind == "regression" else "validation/loss"
    assert kept[key] == pytest.approx(run.metrics[key], rel=1e-4)


@pytest.mark.parametrize("objective", ["cross-entropy", "contrastive"])
@pytest.mark.parametrize("family", ["bert", "llama"])
def test_full_moves_a_backbone_under_another_pooling(
    family: str, objective: str, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = {**SETTINGS, "pooling": "mean", "objective": objective, "learning_rate": 1e-3, "bootstrap_resamples": 0}
    run = afina.fit(
        tiny_models(family), make_rows("multiclass", ROWS), "full", output=tmp_path / "run", verbose=False,
        head_init="random", **settings,
    )  # fmt: skip
    assert run.report["load"]["layout"] == "sentence-transformers"
    assert run.report["settings"]["training"]["objective"] == objective
    assert run.report["proof"]["largest_difference"] <= run.report["proof"]["tolerance"]
    before, after = (read_tensors(folder) for folder in (tiny_models(family), run.path / "model"))
    prefixes = ("", "bert.", "model.")
    moved = [
        name for name, tensor in after.items()
        if any(p + name in before and not before[p + name].equal(tensor) for p in prefixes)
    ]  # fmt: skip
    assert any("attention" in name or "attn" in name for name in moved)
    assert len(run.predict(["some words", "and others"])) == 2


@pytest.mark.parametrize(("technique", "kind"), KIND_CELLS)
def test_technique_computes_in_bf16(
    technique: str, kind: Kind, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    """bf16 has three decimal digits, and each batch rounds otherwise: close, not equal."""
    rows = make_rows(kind, ROWS)
    settings = {**SETTINGS, "precision": "bf16", "bootstrap_resamples": 0, "output": tmp_path / "run"}
    run = afina.fit(tiny_models("llama"), rows, technique, verbose=False, **settings)
    check_run(run, rows, kind, tolerance=0.03)
    assert run.report["settings"]["training"]["precision"] == "bf16"


def read_tensors(folder: Path) -> dict[str, Any]:
    """The tensors of a folder by name."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def check_run(run: afina.Run, rows: list[dict[str, Any]], kind: Kind, tolerance: float = 1e-4) -> None:
    """What holds for the result of every cell."""
    check_metrics(run, kind)
    check_files(run)
    check_names(run, rows, kind)
    check_predictions(run, rows, kind, tolerance)


def check_metrics(run: afina.Run, kind: Kind) -> None:
    """Every score is finite, the main one is among them, and the model has what the technique says moved."""
    primary = {"regression": "rmse", "multilabel": "f1_micro"}.get(kind, "accuracy")
    assert run.report["primary_metric"] == primary
    assert {f"test/{primary}", f"validation/{primary}", "test/loss" if primary != "rmse" else "test/mae"} <= set(
        run.metrics
    )
    assert all(math.isfinite(value) for value in run.metrics.values()), run.metrics
    for low, high in run.intervals.values():
        assert low <= high
    moved, total = run.report["trainable_parameters"], run.report["total_parameters"]
    assert (moved == total) is (run.technique == "full")
    assert 0 < moved <= total
    proof = run.report["proof"]
    assert proof["rows"] == min(32, run.report["rows"]["parts"]["test"])
    assert proof["largest_difference"] <= proof["tolerance"]
    assert proof["scored_difference"] <= proof["scored_tolerance"]
    assert run.report["rows"]["parts"].keys() == {"train", "validation", "test"}
    assert sum(run.report["rows"]["parts"].values()) == run.report["rows"]["used"] == ROWS
    learned_by_steps = TECHNIQUES[run.technique].traits.learns_by == "gradient"
    assert bool(run.report["history"]) is learned_by_steps


def check_files(run: afina.Run) -> None:
    """The run is complete, its weights are safetensors, and nothing that only a running run needs is left."""
    files = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    expected = {
        "config.yaml", "reasons.json", "environment.json", "data.json", "task.json", "predictions.jsonl", "report.html",
        "report.json", "README.md", "row_scores.jsonl", "seen_texts.npy", "origin.json", "status.json",
    }  # fmt: skip
    assert expected <= files
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pth", ".pkl", ".pickle", ".tmp"))], files
    assert any(name.startswith("model/") and name.endswith(".safetensors") for name in files)
    others = {name for name in files - expected if not name.startswith("model/")}
    assert others <= {"metrics.jsonl"}, others


def check_names(run: afina.Run, rows: list[dict[str, Any]], kind: Kind) -> None:
    """config.json of the model names the classes."""
    config = json.loads((run.model / "config.json").read_text(encoding="utf-8"))
    if kind == "regression":
        assert len(config["id2label"]) == 1
        assert config["problem_type"] == "regression"
        return
    labels = [label for row in rows for label in (row["label"] if kind == "multilabel" else [row["label"]])]
    names = sorted(set(labels))
    assert config["id2label"] == {str(i): name for i, name in enumerate(names)}
    assert config["label2id"] == {name: i for i, name in enumerate(names)}


def check_predictions(run: afina.Run, rows: list[dict[str, Any]], kind: Kind, tolerance: float) -> None:
    """Rows in = predictions out, and the run loaded again says of its test rows what it said before."""
    stored = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(stored) == run.report["rows"]["parts"]["test"]
    texts: Any = [(row["text"], row["text_pair"]) if kind == "pairs" else row["text"] for row in rows]
    again = afina.load(run.path)
    predictions = again.predict(texts)
    assert len(predictions) == len(rows)
    if kind == "regression":
        for line in stored:
            assert predictions[line["row"] - 1] == pytest.approx(line["prediction"], abs=tolerance)
        return
    probabilities = again.predict_proba(texts)
    assert len(probabilities) == len(rows)
    for line in stored:
        found = probabilities[line["row"] - 1]
        assert found == pytest.approx(line["probabilities"], abs=tolerance)
        if not is_close_call(line["probabilities"], run, kind, tolerance):
            assert predictions[line["row"] - 1] == line["prediction"]
    if kind != "multilabel":
        assert all(sum(each.values()) == pytest.approx(1.0, abs=1e-4) for each in probabilities)


def is_close_call(probabilities: dict[str, float], run: afina.Run, kind: Kind, tolerance: float) -> bool:
    """Whether a change of each probability by `tolerance` could change the prediction."""
    if kind == "multilabel":
        thresholds = json.loads((run.path / "task.json").read_text(encoding="utf-8"))["fit"]["thresholds"]
        return any(abs(p - t) <= tolerance for p, t in zip(probabilities.values(), thresholds, strict=True))
    first, second, *_ = sorted(probabilities.values(), reverse=True)
    return first - second <= 2 * tolerance


def check_moved(run: afina.Run, base: Path) -> None:
    """What should move has moved, and the rest is as it was to the bit."""
    from safetensors.numpy import load_file

    if run.technique in ("lora", "qlora"):
        adapter = load_file(run.model / "adapter_model.safetensors")
        second = [tensor for name, tensor in adapter.items() if "lora_B" in name]
        assert len(second) >= 2
        assert all(tensor.any() for tensor in second), "B starts at 0"
        return
    before, after = (load_file(folder / "model.safetensors") for folder in (base, run.model))
    pairs = [
        (tensor, after[name])
        for old, tensor in before.items()
        for name in after
        if f".{name}".endswith(f".{old}") or f".{old}".endswith(f".{name}")
    ]
    assert len(pairs) >= 10
    moved = sum(bool((old != new).any()) for old, new in pairs) / len(pairs)
    assert moved == 0 if run.technique == "feature-extraction" else moved > 0.9
