"""The choice of a technique where only QLoRA would fit into memory, and its package isn't installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import afina
from afina.errors import MissingExtraError
from afina.pipeline import choosing
from afina.pipeline.costs import MemoryFit
from afina.pipeline.language import choosing as language_choosing
from afina.techniques.qlora import QLora
from afina.testing.data import make_conversations, make_rows

SETTINGS: dict[str, Any] = {"bootstrap_resamples": 0, "baselines": False, "precision": "fp32", "verbose": False}


def fit_qlora_alone(configs: Mapping[str, Any], *_: Any) -> dict[str, MemoryFit]:
    """As `check_memory_fits` on a machine with little memory."""
    return {name: MemoryFit(name == "qlora", 1) for name in configs}


@pytest.fixture(autouse=True)
def _small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QLora, "needs", "no_such_package")
    for module in (choosing, language_choosing):
        monkeypatch.setattr(module, "check_memory_fits", fit_qlora_alone)


def test_labelled_rows_keep_the_head_and_say_what_to_install(
    tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    run = afina.fit(tiny_models("bert"), make_rows("multiclass", 60), output=tmp_path / "run", **SETTINGS)
    assert run.technique == "feature-extraction"
    reason = next(each for each in run.reasons if each["setting"] == "technique")
    assert reason["reason"] == "nothing else fits into the memory of this machine"
    assert reason["otherwise"] == ["pip install 'afina[qlora]', if a base in 4 bits fits: qlora"]


def test_a_language_model_says_what_to_install_before_it_is_loaded(
    tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = make_conversations("completion", 24)
    with pytest.raises(MissingExtraError) as caught:
        afina.fit(tiny_models("llama"), rows, output=tmp_path / "run", **SETTINGS)
    assert str(caught.value) == (
        "qlora, the only technique that fits into memory, needs the package 'bitsandbytes', which is not installed\n"
        "  do: pip install 'afina[qlora]'"
    )
