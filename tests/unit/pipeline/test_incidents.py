"""What went wrong in the steps of a whole run stands in its report, its scores, its history and its notes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import afina
from afina.errors import ModelError
from afina.testing.data import make_conversations, make_rows
from afina.training.callbacks.history import read_history
from afina.training.next_tokens import NextTokens
from afina.training.objective import LabelledRows

SETTINGS: dict[str, Any] = {
    "num_train_epochs": 1, "precision": "fp32", "baselines": False, "verbose": False, "bootstrap_resamples": 0,
    "per_device_train_batch_size": 8,
}  # fmt: skip


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 5 of the file has no number for a loss, and passes of more than four rows find no memory."""
    for objective in (LabelledRows, NextTokens):
        sum_losses = objective.sum_losses

        def sum_spoilt(self: Any, model: Any, rows: Any, accelerator: Any, plain: Any = sum_losses) -> torch.Tensor:
            if len(rows) > 4 and model.training:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
            loss: torch.Tensor = plain(self, model, rows, accelerator)
            return loss * float("nan") if 5 in self.name_rows(rows) else loss

        monkeypatch.setattr(objective, "sum_losses", sum_spoilt)


def check(run: afina.Run, capsys: pytest.CaptureFixture[str]) -> None:
    skipped = run.report["skipped_steps"]
    assert skipped["count"] == run.metrics["train/skipped_steps"] == 1
    assert skipped["steps"][0]["rows"] == [5]
    step = skipped["steps"][0]["step"]
    assert run.report["smaller_passes"]["steps"] == [{"step": 1, "rows_per_pass": 4, "why": "memory ran out"}]
    assert run.report["spikes"]["count"] == 0
    notes = "\n".join(run.report["notes"])
    assert f"steps were skipped, since their loss or gradient was not a finite number: {step}; training row 5" in notes
    assert "memory ran short: at most 4 rows a pass from step 1 on, each step over the same rows as before" in notes
    incidents = [line["incident"] for line in read_history(run.path / "metrics.jsonl") if "incident" in line]
    assert incidents == ["smaller_passes", "skipped_step"]
    assert notes.split("\n")[-1] in (run.path / "report.html").read_text(encoding="utf-8")
    said = capsys.readouterr().err
    assert f"step {step} is skipped: its loss is not a finite number; training row 5" in said
    assert "step 1: memory ran out; at most 4 instead of 8 rows a pass from here on" in said


@pytest.mark.usefixtures("spoil")
@pytest.mark.parametrize("technique", ["full", "lora"])
def test_of_labelled_rows(
    technique: str, tiny_models: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"train": make_rows("multiclass", 40), "validation": make_rows("multiclass", 12, 1)}
    data["test"] = make_rows("multiclass", 12, 2)
    settings = SETTINGS | {"verbose": True, "objective": "cross-entropy"}
    check(afina.fit(tiny_models("bert"), as_dataset(data), technique, output=tmp_path / "run", **settings), capsys)


@pytest.mark.usefixtures("spoil")
def test_of_conversations(
    tiny_models: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {
        name: make_conversations("messages", rows) for name, rows in (("train", 30), ("validation", 6), ("test", 6))
    }
    settings = SETTINGS | {
        "on_findings": "warn",
        "chat_template": "chatml",
        "generation_samples": 0,
        "general_text": False,
        "verbose": True,
    }
    run = afina.fit(tiny_models("llama"), as_dataset(data), "lora", output=tmp_path / "run", **settings)
    check(run, capsys)


def test_a_technique_without_steps_has_none_to_skip(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows = make_rows("multiclass", 60)
    run = afina.fit(tiny_models("bert"), rows, "feature-extraction", output=tmp_path / "run", **SETTINGS)
    assert "skipped_steps" not in run.report
    assert "train/skipped_steps" not in run.metrics


def as_dataset(parts: dict[str, list[dict[str, Any]]]) -> Any:
    """Parts as the Hub's library has them."""
    from datasets import Dataset, DatasetDict

    return DatasetDict({name: Dataset.from_list(rows) for name, rows in parts.items()})


def test_a_language_model_with_weights_that_are_no_numbers_is_refused(
    tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_models("llama"), tmp_path / "model"))
    tensors = load_file(model / "model.safetensors")
    tensors["model.norm.weight"][0] = torch.nan
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"NaN or infinities are in model\.norm\.weight"):
        afina.fit(model, make_conversations("completion", 24), "lora", output=tmp_path / "run", **SETTINGS)
    assert not (tmp_path / "run").exists()
