"""What has changed since a run began is said; what is not meant to change is refused until it is allowed by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afina.config.load import build_config
from afina.errors import ConfigError, RunFolderError
from afina.models.fingerprint import hash_model
from afina.pipeline import changes
from afina.pipeline.changes import parse_allowed, pin_run, settle_device
from afina.pipeline.narrator import Narrator
from afina.runs.folder import RunFolder
from afina.runs.names import ORIGIN


@pytest.fixture
def base(tiny_models: Callable[[str], Path]) -> Path:
    return tiny_models("bert")


def begin(path: Path, base: Path) -> RunFolder:
    """A run that has just begun."""
    folder = RunFolder(path)
    pin_run(folder, build_config({}), base, "d" * 64, {"hash": "d" * 64}, Narrator())
    return folder


def go_on(folder: RunFolder, base: Path, data_hash: str = "d" * 64) -> list[str]:
    """What is noted when it goes on."""
    narrator = Narrator()
    pin_run(folder, build_config({}), base, data_hash, {}, narrator)
    return narrator.notes


def edit_origin(folder: RunFolder, **changed: Any) -> None:
    origin = folder.read_json(ORIGIN)
    for kind, value in changed.items():
        origin[kind] = {**origin[kind], **value} if isinstance(value, dict) else value
    folder.write_json(ORIGIN, origin)


def test_where_nothing_has_changed_nothing_is_said(tmp_path: Path, base: Path) -> None:
    folder = begin(tmp_path, base)
    origin = folder.read_json(ORIGIN)
    assert origin["model"] == hash_model(base)
    assert {"afina", "torch", "transformers", "numpy"} <= origin["versions"].keys()
    assert origin["machine"]["threads"] == 1
    assert go_on(folder, base) == []


def test_other_rows_are_refused_whatever_is_allowed(tmp_path: Path, base: Path) -> None:
    folder = begin(tmp_path, base)
    folder.allowed_changes = frozenset(changes.ALLOWED)
    with pytest.raises(RunFolderError) as caught:
        go_on(folder, base, "e" * 64)
    assert caught.value.problems[0].what == f"the data of {tmp_path} has changed since the run began"


def test_a_model_and_versions_that_changed_are_refused_both_at_once(tmp_path: Path, base: Path) -> None:
    folder = begin(tmp_path, base)
    torch = folder.read_json(ORIGIN)["versions"]["torch"]
    edit_origin(folder, model="a" * 64, versions={"torch": "1.0", "gone": "2"})
    with pytest.raises(RunFolderError) as caught:
        go_on(folder, base)
    assert str(caught.value) == (
        "2 problems\n"
        f"1. the model of {tmp_path} has changed since the run began\n"
        f"     found: the model's files {'a' * 16} -> {hash_model(base)[:16]}\n"
        "     do: bring back what it began with, or go on all the same with --allow-changes model\n"
        f"2. the libraries of {tmp_path} have changed since the run began\n"
        f"     found: gone 2 -> absent, torch 1.0 -> {torch}\n"
        "     do: bring back what it began with, or go on all the same with --allow-changes versions"
    )
    folder.allowed_changes = frozenset({"model", "versions"})
    assert go_on(folder, base) == [
        f"changed since the run began: the model's files {'a' * 16} -> {hash_model(base)[:16]}",
        f"changed since the run began: gone 2 -> absent, torch 1.0 -> {torch}{changes.LAST_BITS}",
    ]


def test_another_machine_is_only_said(tmp_path: Path, base: Path) -> None:
    folder = begin(tmp_path, base)
    cpu = folder.read_json(ORIGIN)["machine"]["cpu"]
    edit_origin(folder, machine={"cpu": "Z80", "threads": 8})
    assert go_on(folder, base) == [f"changed since the run began: cpu Z80 -> {cpu}, threads 8 -> 1{changes.LAST_BITS}"]


def test_a_run_that_does_not_say_what_it_began_with_goes_on(tmp_path: Path, base: Path) -> None:
    folder = begin(tmp_path, base)
    (tmp_path / ORIGIN).unlink()
    assert go_on(folder, base) == [f"what has changed since the run began is not known: {tmp_path} has no {ORIGIN}"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (None, set()),
        ("", set()),
        ("model", {"model"}),
        (" versions,device ", {"versions", "device"}),
        (["model"], {"model"}),
    ],
)
def test_what_is_allowed_is_given_by_name(text: Any, names: set[str]) -> None:
    assert parse_allowed(text) == names


def test_a_name_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_allowed("model,weather")
    assert str(caught.value) == (
        "unknown change: weather\n  found: allow_changes = model,weather\n"
        "  expected: some of config, device, model, versions"
    )
    with pytest.raises(ConfigError) as caught:
        parse_allowed("data")
    assert str(caught.value) == (
        "the data of a run can't change: another split would put learned rows among those that are held out\n"
        "  do: a new run with afina train"
    )


def test_a_device_that_is_not_here_is_refused_or_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder, narrator = RunFolder(tmp_path), Narrator()
    config = build_config({"training": {"device": "cuda"}})
    with pytest.raises(RunFolderError) as caught:
        settle_device(config, folder, narrator)
    assert str(caught.value) == (
        f"{tmp_path} began on a cuda device, which this machine doesn't have\n  found: cpu\n  expected: cuda\n"
        "  do: go on all the same with --allow-changes device"
    )
    folder.allowed_changes = frozenset({"device"})
    assert settle_device(config, folder, narrator).training.device == "cpu"
    assert narrator.notes == [f"changed since the run began: device cuda -> cpu{changes.LAST_BITS}"]
    assert json.loads(config.model_dump_json())["training"]["device"] == "cuda"


def test_another_file_as_the_chat_template_is_refused_as_another_model(tmp_path: Path, base: Path) -> None:
    template, settings = tmp_path / "mine.jinja", {"model": {"chat_template": str(tmp_path / "mine.jinja")}}
    template.write_text("a")
    folder, narrator = RunFolder(tmp_path / "run"), Narrator()
    folder.path.mkdir()
    pin_run(folder, build_config(settings), base, "d" * 64, {"hash": "d" * 64}, narrator)
    pin_run(folder, build_config(settings), base, "d" * 64, {}, narrator)
    assert narrator.notes == []
    template.write_text("b")
    with pytest.raises(RunFolderError, match="the file of the chat template") as caught:
        pin_run(folder, build_config(settings), base, "d" * 64, {}, narrator)
    assert "--allow-changes model" in str(caught.value)
    template.unlink()
    folder.allowed_changes = frozenset({"model"})
    pin_run(folder, build_config(settings), base, "d" * 64, {}, narrator)
    assert "-> no file" in narrator.notes[0]


def test_settings_of_generation_are_part_of_the_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = hash_model(tmp_path)
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 5}')
    assert hash_model(tmp_path) != before
