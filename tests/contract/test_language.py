"""One table: every technique that trains language models, on every family of decoders and every form of rows.

Each cell trains for real, and its result is checked the same way; feature extraction refuses.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import afina
from afina.errors import ConfigError
from afina.techniques.registry import TECHNIQUES
from afina.testing.data import make_conversations
from afina.testing.models import DECODERS
from afina.testing.templates import QWEN3
from afina.training.callbacks.history import read_history

TRAINING = [name for name, technique in TECHNIQUES.items() if "text-generation" in technique.tasks]
FORMS = ("messages", "completion", "instruction", "text")
SETTINGS: dict[str, Any] = {
    "num_train_epochs": 1, "logging_steps": 1, "precision": "fp32", "bootstrap_resamples": 20, "max_seq_length": 120,
    "generation_samples": 2, "max_new_tokens": 3, "chat_template": "chatml", "verbose": False,
}  # fmt: skip


def test_the_table_is_whole() -> None:
    assert TRAINING == ["full", "lora", "qlora"]
    assert len(DECODERS) == 7


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("technique", TRAINING)
def test_technique_trains_family(
    technique: str, family: str, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = make_conversations("messages", 24)
    run = afina.fit(tiny_models(family), rows, technique, output=tmp_path / "run", **SETTINGS)
    check_run(run)
    assert run.report["settings"]["data"]["packing"] == "auto"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("technique", TRAINING)
def test_technique_trains_form(technique: str, form: Any, tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    settings = {**SETTINGS, "chat_template": "auto" if form == "text" else "chatml"}
    if form == "text":
        settings["task"] = "text-generation"
    run = afina.fit(tiny_models("llama"), make_conversations(form, 24), technique, output=tmp_path / "run", **SETTINGS)
    check_run(run)
    form_found = next(each["value"] for each in run.reasons if each["setting"] == "form of the rows")
    assert form_found == form


def test_feature_extraction_refuses(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows = make_conversations("messages", 24)
    with pytest.raises(ConfigError, match="feature-extraction has no meaning for a language model"):
        afina.fit(tiny_models("llama"), rows, "feature-extraction", output=tmp_path / "run", **SETTINGS)
    assert not (tmp_path / "run").exists()


def test_the_untouched_model_may_be_the_result_whatever_is_said_of_heads(
    tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = make_conversations("completion", 24)
    run = afina.fit(tiny_models("llama"), rows, "lora", output=tmp_path / "run", head_init="random", **SETTINGS)
    evaluations = [line["step"] for line in read_history(run.path / "metrics.jsonl") if "validation/loss" in line]
    assert evaluations[0] == 0


def check_run(run: afina.Run) -> None:
    """What holds for the result of every cell."""
    report = run.report
    assert (report["task"], report["primary_metric"]) == ("text-generation", "loss")
    assert all(math.isfinite(value) for value in run.metrics.values()), run.metrics
    wanted = {"loss", "perplexity", "token_accuracy", "exact_match", "chrf", "rouge_l", "general_loss"}
    assert wanted == {name.removeprefix("test/") for name in run.metrics if name.startswith("test/")}
    before = run.baselines["untouched model"]["metrics"]
    assert before.keys() == {f"test/{name}" for name in wanted}
    assert before["test/loss"] != run.metrics["test/loss"]
    low, high = run.intervals["test/loss"]
    assert low <= run.metrics["test/loss"] <= high
    assert report["proof"]["largest_difference"] <= report["proof"]["tolerance"]
    assert sum(report["rows"]["parts"].values()) == report["rows"]["used"] == 24
    assert (report["trainable_parameters"] == report["total_parameters"]) is (run.technique == "full")
    files = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert not [name for name in files if name.endswith((".bin", ".pt", ".pkl", ".tmp"))]
    assert {"config.yaml", "report.json", "report.html", "README.md", "predictions.jsonl", "task.json"} <= files
    assert "row_scores.jsonl" in files
    check_answers(run)


def check_answers(run: afina.Run) -> None:
    """The run loaded again answers the sampled prompts as it did before."""
    lines = [json.loads(line) for line in (run.path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 2
    assert all(line["prediction"] == line["tuned"] for line in lines)
    answers = afina.load(run.path).generate(["a question"], max_new_tokens=2)
    assert len(answers) == 1
    assert isinstance(answers[0], str)


def test_template_arguments_are_a_keyword(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    rows = make_conversations("messages", 24)
    with pytest.raises(ConfigError, match="the chat template doesn't know an argument"):
        afina.check(rows, tiny_models("llama"), chat_template="chatml", chat_template_kwargs={"enable_thinking": False})


def test_rows_of_split_conversations_have_scores_of_their_own(
    tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    def say(row: int, turn: int) -> list[dict[str, str]]:
        return [{"role": "user", "content": f"q {row}"}, {"role": "assistant", "content": f"{row}" * (turn + row % 4)}]

    rows = [{"messages": [each for turn in range(1, 2 + row % 3) for each in say(row, turn)]} for row in range(24)]
    template = tmp_path / "qwen3.jinja"
    template.write_text(QWEN3, encoding="utf-8")
    settings = {**SETTINGS, "chat_template": str(template), "max_seq_length": 400}
    run = afina.fit(tiny_models("qwen3"), rows, "lora", output=tmp_path / "run", **settings)
    assert any("rewrites earlier turns" in note for note in run.report["notes"]), run.report["notes"]
    lines = [json.loads(line) for line in (run.path / "row_scores.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(lines) == len({(line["part"], line["row"]) for line in lines}) > 3
    for line in lines:
        alone = afina.evaluate(run.path, [rows[line["row"] - 1]])
        assert line["loss"] / line["tokens"] == pytest.approx(alone["metrics"]["test/loss"], rel=1e-4)
