"""Feature extraction end to end: which rows the head is solved on, how the pooling is chosen, what a full disk does."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import afina
from afina.errors import RunFolderError
from afina.pipeline import features, solving
from afina.techniques.feature_extraction import FeatureExtraction
from afina.testing.data import make_rows

SETTINGS: dict[str, Any] = {
    "technique": "feature-extraction", "folds": 2, "bootstrap_resamples": 0, "baselines": False, "precision": "fp32",
    "verbose": False,
}  # fmt: skip
ROWS = make_rows("multiclass", 60)


@pytest.fixture
def fit(tiny_models: Callable[[str], Path], tmp_path: Path) -> Callable[..., afina.Run]:
    """`fit(name, data, **settings)`: a run of a tiny BERT."""

    def run(name: str, data: Any, **settings: Any) -> afina.Run:
        return afina.fit(tiny_models("bert"), data, output=tmp_path / name, **{**SETTINGS, **settings})

    return run


def find_value(run: afina.Run, setting: str) -> Any:
    """The value that was chosen for a setting; None if none was."""
    return next((each["value"] for each in run.reasons if each["setting"] == setting), None)


def list_probabilities(run: afina.Run) -> list[float]:
    """Those of the test rows, in one list."""
    return [value for row in run.predict_proba([row["text"] for row in ROWS[48:]]) for value in row.values()]


def test_the_head_learns_from_validation_rows_that_were_cut_from_the_training_rows(
    fit: Callable[..., afina.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solving.probe, "INVERSE_STRENGTHS", (0.1, 0.1))
    train, test = ROWS[:48], ROWS[48:]
    cut = fit("cut", {"train": train, "test": test}, pooling="mean", validation_fraction=0.3)
    own = fit("own", {"train": train, "validation": test, "test": test}, pooling="mean")
    fewer = fit("fewer", {"train": train[:34], "validation": test, "test": test}, pooling="mean")
    assert cut.report["rows"]["parts"] == {"train": 34, "validation": 14, "test": 12}
    assert find_value(cut, "rows of the head") == "train + validation"
    assert find_value(own, "rows of the head") is None, "a validation part of the user's own is not learned from"
    assert list_probabilities(cut) == pytest.approx(list_probabilities(own), abs=0.01)
    assert list_probabilities(fewer) != pytest.approx(list_probabilities(own), abs=0.05), "the rows make a difference"


def test_a_sample_chooses_the_pooling_that_all_rows_would(
    fit: Callable[..., afina.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = fit("whole", ROWS)
    monkeypatch.setattr(solving, "ROWS_OF_ALL_POOLINGS", 10)
    sampled = fit("sampled", ROWS)
    assert find_value(sampled, "features.pooling") == find_value(whole, "features.pooling")
    assert list_probabilities(sampled) == pytest.approx(list_probabilities(whole), abs=1e-5)
    assert not [each for each in sampled.reasons if each["reason"] == "the only one considered"]


def test_a_model_that_does_not_fit_on_the_disk_is_said_with_what_to_do(
    fit: Callable[..., afina.Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = FeatureExtraction.save

    def save_on_full_disk(self: FeatureExtraction, *rest: Any) -> None:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
        try:
            save(self, *rest)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(FeatureExtraction, "save", save_on_full_disk)
    with pytest.raises(RunFolderError) as caught:
        fit("run", ROWS)
    assert str(caught.value).startswith(f"the model can't be written to {tmp_path}/run/model")
    assert "free some space, then afina.fit once more, or output on another disk" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_techniques_share_the_features_of_a_row(fit: Callable[..., afina.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the start of a LoRA's head has computed, feature extraction finds: of each text one forward pass."""
    encoded = []
    extract = features.extract_features

    def count_rows(model: Any, tokens: Any, rows: Any, *given: Any, **named: Any) -> Any:
        encoded.append(len(rows))
        return extract(model, tokens, rows, *given, **named)

    monkeypatch.setattr(features, "extract_features", count_rows)
    parts = {"train": ROWS[:40], "validation": ROWS[40:50], "test": ROWS[50:]}
    fit("lora", parts, technique="lora", num_train_epochs=1, objective="cross-entropy")
    assert encoded == [40]
    fit("features", parts)
    assert encoded == [40, 10, 10]
    fit("mean", parts, pooling="mean")
    assert encoded == [40, 10, 10]


def test_what_ran_before_changes_no_bit(
    fit: Callable[..., afina.Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In bf16 LoRA stores the frozen weights in bf16, so its features aren't those of feature extraction."""
    lora = {"technique": "lora", "precision": "bf16", "num_train_epochs": 1}
    fit("features", ROWS, precision="bf16")
    after = fit("after", ROWS, **lora)
    monkeypatch.setenv("AFINA_CACHE", str(tmp_path / "another"))
    alone = fit("alone", ROWS, **lora)
    weights = [(run.model / "adapter_model.safetensors").read_bytes() for run in (after, alone)]
    assert weights[0] == weights[1]
