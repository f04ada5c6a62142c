"""`--technique auto`: the head where more would not pay, a moved backbone where it does; a stop keeps the choice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import afina
from afina.advice import choose
from afina.pipeline import choosing
from afina.pipeline.costs import MemoryFit
from afina.pipeline.language import choosing as language_choosing
from afina.pipeline.learned import Learned
from afina.testing.data import make_conversations, make_rows

SETTINGS: dict[str, Any] = {
    "num_train_epochs": 1, "bootstrap_resamples": 0, "baselines": False, "precision": "fp32", "verbose": False,
    "objective": "cross-entropy",
}  # fmt: skip


@pytest.fixture
def fit(tiny_models: Callable[[str], Path], tmp_path: Path) -> Callable[..., afina.Run]:
    """`fit(**settings)`: a run of a tiny BERT on 60 rows, its technique chosen."""

    def run(**settings: Any) -> afina.Run:
        return afina.fit(
            tiny_models("bert"), make_rows("multiclass", 60), output=tmp_path / "run", **{**SETTINGS, **settings}
        )

    return run


def let_move(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing stop the choice at the head."""
    for name, value in (("FEWEST_ROWS", 10), ("SMALL_ERROR", -1.0), ("SEPARATED", 2.0)):
        monkeypatch.setattr(choose, name, value)


def prefer(monkeypatch: pytest.MonkeyPatch, technique: str) -> None:
    """Let few rows be enough, and the comparison at the end prefer this technique."""
    let_move(monkeypatch)
    monkeypatch.setattr(choosing, "compare", lambda *_: (technique, "as the test wants it"))


def find_reason(run: afina.Run, setting: str) -> dict[str, Any]:
    """The reason of a setting."""
    return next(each for each in run.reasons if each["setting"] == setting)


def test_few_rows_keep_the_head(fit: Callable[..., afina.Run]) -> None:
    run = fit()
    assert run.technique == "feature-extraction"
    assert "too few to move a backbone" in find_reason(run, "technique")["reason"]
    assert find_reason(run, "technique")["otherwise"] == ["200 training rows or more: full"]
    assert run.report["choice"]["evidence"]["rows"] == 42
    assert json.loads((run.path / "reasons.json").read_text())[0]["setting"]
    assert afina.load(run.path).predict(["some words"])


def test_few_rows_move_a_backbone_by_pairs(fit: Callable[..., afina.Run]) -> None:
    run = fit(objective="auto", num_train_epochs=3)
    technique, result = find_reason(run, "technique"), find_reason(run, "result")
    assert technique["value"] == result["value"] == run.technique == "full"
    assert "few rows make many pairs" in technique["reason"]
    assert "don't clearly say otherwise" in result["reason"]
    assert run.report["settings"]["training"]["objective"] == "contrastive"
    pooling = find_reason(run, "features.pooling")["value"]
    assert run.report["settings"]["features"]["pooling"] == pooling
    assert run.report["load"]["layout"] == ("transformers" if pooling == "own" else "sentence-transformers")
    assert len(run.predict(["some words", "and others"])) == 2


def test_a_head_that_is_clearly_better_gives_no_way_to_pairs() -> None:
    head, moved = np.array([True] * 8 + [False] * 2), np.array([True] * 4 + [False] * 6)
    assert choosing.is_clearly_better(head, moved)
    assert not choosing.is_clearly_better(moved, head)
    assert not choosing.is_clearly_better(head, head)
    assert not choosing.is_clearly_better(np.array([True, False]), np.array([False, False]))


def test_a_moved_backbone_that_is_better_is_the_result(
    fit: Callable[..., afina.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, "full")
    run = fit()
    assert run.technique == "full"
    assert run.report["settings"]["technique"] == "full"
    assert run.report["choice"]["kept"] == "full"
    assert find_reason(run, "result")["value"] == "full"
    assert len(run.predict(["some words", "and others"])) == 2


def test_a_moved_backbone_that_is_no_better_gives_way_to_the_head(
    fit: Callable[..., afina.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    prefer(monkeypatch, "feature-extraction")
    run = fit()
    assert run.technique == "feature-extraction"
    assert run.report["settings"]["technique"] == "feature-extraction"
    assert "technique: feature-extraction" in (run.path / "config.yaml").read_text()
    assert run.report["prediction"] is None, "what was predicted for the head alone isn't what was measured"
    assert "seconds and memory are those of both, the head and full" in run.report["notes"]
    assert len(run.predict(["some words", "and others"])) == 2


def test_settings_that_the_chosen_technique_does_not_read_are_said(fit: Callable[..., afina.Run]) -> None:
    notes = fit(lora={"r": 4}).report["notes"]
    assert "lora.r: not read by feature-extraction; --technique lora reads them" in notes
    steps = "training.num_train_epochs, training.objective"
    assert f"{steps}: not read by feature-extraction; --technique full reads them" in notes


def test_a_run_that_is_stopped_goes_on_with_its_choice(
    fit: Callable[..., afina.Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    prefer(monkeypatch, "full")
    learn, count = choosing.learn, 0

    def stop_once(*given: Any) -> Learned:
        nonlocal count
        count += 1
        learned = learn(*given)
        if count == 1:
            raise KeyboardInterrupt
        return learned

    monkeypatch.setattr(choosing, "learn", stop_once)
    with pytest.raises(afina.Interrupted):
        fit()
    monkeypatch.setattr(choosing, "gather_evidence", None)  # what was seen isn't looked at again
    run = afina.resume(tmp_path / "run", make_rows("multiclass", 60), verbose=False)
    assert run.technique == "full"
    assert find_reason(run, "technique")["value"] == "full"


def test_the_better_model_on_the_validation_rows_is_kept(
    fit: Callable[..., afina.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_move(monkeypatch)
    run = fit(learning_rate=1e-6)
    assert find_reason(run, "technique")["value"] == "full"
    result = find_reason(run, "result")
    assert result["value"] == run.technique
    assert "validation rows" in result["reason"]


def test_a_language_model_gets_an_adapter_while_the_tokens_are_few(
    tiny_models: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**SETTINGS, "generation_samples": 0, "general_text": False}
    rows = make_conversations("completion", 24)
    run = afina.fit(tiny_models("llama"), rows, output=tmp_path / "run", **settings)
    assert run.technique == "lora"
    reason = find_reason(run, "technique")
    assert "tokens to learn" in reason["reason"]
    assert any(each.endswith("for all weights: full") for each in reason["otherwise"])
    monkeypatch.setattr(choose, "LARGE_PARAMETERS", 10**12)
    monkeypatch.setattr(
        language_choosing, "check_memory_fits", lambda configs, *_: dict.fromkeys(configs, MemoryFit(True, 1))
    )
    full = afina.fit(tiny_models("llama"), rows, output=tmp_path / "full", **settings)
    assert full.technique == "full"
    assert find_reason(full, "training.learning_rate")["value"] < find_reason(run, "training.learning_rate")["value"]
