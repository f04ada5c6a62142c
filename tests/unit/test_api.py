"""What Python's door does by itself: paths that mean the same from any folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import afina
from afina.config.given import anchor_paths
from afina.config.load import build_config
from afina.errors import ConfigError, DataError
from afina.models.resolve import describe_reference


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with a model, a GGUF file, a template and rows."""
    (tmp_path / "model").mkdir()
    for name in ("model.gguf", "chat.jinja", "rows.jsonl", "chatml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["model", "model.gguf"])
def test_paths_become_whole(here: Path, name: str) -> None:
    config = build_config({"data": {"path": "rows.jsonl"}, "model": {"reference": name, "chat_template": "chat.jinja"}})
    whole = anchor_paths(config)
    assert whole.data.path == str(here / "rows.jsonl")
    assert whole.model.reference == str(here / name)
    assert whole.model.chat_template == str(here / "chat.jinja")


def test_what_names_no_file_stays(here: Path) -> None:
    config = build_config({"data": {"path": "user/rows"}, "model": {"reference": "user/m", "chat_template": "chatml"}})
    assert anchor_paths(config) == config


@pytest.mark.parametrize(
    ("name", "reference"),
    [("model", "BASE"), ("model.gguf", "BASE"), ("package:a/b", "BASE"), ("user/model", "user/model")],
)
def test_a_base_of_this_machine_is_named_by_its_folder(here: Path, name: str, reference: str) -> None:
    assert describe_reference(name, "BASE") == reference


def test_what_is_missing_is_said_for_python() -> None:
    with pytest.raises(ConfigError) as caught:
        afina.fit()
    assert [problem.remedy for problem in caught.value.problems] == [
        "afina.fit(model, data)", "model=REF, or afina.fit(model, data)",
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [[{"text": "a", "label": "b"}] * 500, pd.DataFrame({"text": ["a"]})])
@pytest.mark.parametrize("call", [afina.fit, lambda rows, model: afina.plan(model, rows)])
def test_a_model_in_the_place_of_the_data_is_named(call: Any, rows: Any) -> None:
    with pytest.raises(ConfigError, match="model must be a folder") as caught:
        call(rows, "some/model")
    assert f"found: a {type(rows).__name__}\n" in str(caught.value)
    assert "afina.fit(model, data), but (data, model) for afina.search, afina.plan and afina.check" in str(caught.value)


@pytest.mark.parametrize("section", ["lora", "training"])
def test_a_section_without_its_settings_says_how_to_give_them(section: str) -> None:
    with pytest.raises(ConfigError, match=f"{section} holds settings, and has no value") as caught:
        afina.fit("some/model", [], **{section: 3})
    assert f'in Python {section}={{"' in str(caught.value)
    assert "did you mean" not in str(caught.value)


def test_a_frame_is_not_shown_whole(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a", "b"], "label": ["x", "y"]})
    with pytest.raises(DataError) as caught:
        afina.check(frame, fix=tmp_path / "copy.csv")
    assert str(caught.value) == (
        "fix copies a file or a folder\n  found: a DataFrame in Python\n  do: save the rows as a file"
    )
