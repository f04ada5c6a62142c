"""A call that is to say nothing says nothing: neither afina nor a library beneath it writes to stdout or stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from transformers.utils import logging

import afina
from afina.testing.data import make_conversations, make_rows
from afina.testing.models import save_tiny_model

SHORT = {"num_train_epochs": 1, "precision": "fp32", "bootstrap_resamples": 0, "verbose": False}


@pytest.fixture
def _talkative(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """transformers as it is for a user: warnings and progress bars, which the variables of our tests forbid."""
    handler = logging.get_logger().handlers[0]  # it has the stderr of whenever transformers was imported
    before = handler.setStream(sys.stderr)  # type: ignore[attr-defined]
    monkeypatch.setattr(sys.modules["huggingface_hub.utils.tqdm"], "HF_HUB_DISABLE_PROGRESS_BARS", None)
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_warning()
    logging.enable_progress_bar()
    yield
    logging.set_verbosity(verbosity)
    handler.setStream(before)  # type: ignore[attr-defined]
    if not bars:
        logging.disable_progress_bar()


@pytest.mark.usefixtures("_talkative")
@pytest.mark.parametrize("technique", ["full", "lora", None])
def test_a_classifier_is_trained_and_used_quietly(
    technique: str | None, tiny_models: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tiny_models("bert")
    capfd.readouterr()
    run = afina.fit(model, make_rows("multiclass", 40), technique, output=tmp_path / "run", **SHORT)
    run.predict(["a text"])
    if technique == "lora":
        afina.merge(run.path, tmp_path / "merged")
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("_talkative")
def test_a_language_model_is_trained_and_used_quietly(
    tiny_models: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = tiny_models("llama")
    capfd.readouterr()
    run = afina.fit(
        model, make_conversations("messages", 12), "lora", output=tmp_path / "run", chat_template="chatml", **SHORT
    )
    run.generate(["a prompt"], 2)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("_talkative")
def test_a_tiny_model_is_saved_quietly(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_tiny_model("bert", tmp_path / "model")
    assert capfd.readouterr() == ("", "")
