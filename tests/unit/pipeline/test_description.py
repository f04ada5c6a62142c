"""A config.yaml that was changed by another hand is noticed; what was moved is asked for by the flag that names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afina.config.load import build_config
from afina.config.run import RunConfig
from afina.errors import RunFolderError
from afina.pipeline.changes import pin_run
from afina.pipeline.description import (
    check_as_written,
    check_description,
    check_model_place,
    find_rows,
    rewrite_description,
)
from afina.pipeline.narrator import Narrator
from afina.runs.folder import RunFolder
from afina.runs.names import ORIGIN

SETTINGS: dict[str, Any] = {
    "technique": "full", "data": {"path": "rows.csv"}, "model": {"reference": "bert"},
    "training": {"learning_rate": 1e-5},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, tiny_models: Callable[[str], Path]) -> RunFolder:
    """A run that has just begun."""
    run = RunFolder(tmp_path)
    pin_run(run, build_config(SETTINGS), tiny_models("bert"), "d" * 64, {"hash": "d" * 64}, Narrator())
    return run


def go_on(folder: RunFolder) -> list[str]:
    """What is noted when it goes on."""
    narrator = Narrator()
    check_description(folder, folder.read_description(), narrator)
    return narrator.notes


def edit(folder: RunFolder, before: str, now: str) -> None:
    text = folder.config.read_text()
    assert before in text
    folder.config.write_text(text.replace(before, now))


def test_what_the_run_wrote_is_taken(folder: RunFolder) -> None:
    assert go_on(folder) == []
    folder.config.write_text("# a note\n" + folder.config.read_text())
    assert go_on(folder) == []


def test_a_changed_setting_is_refused_until_it_is_allowed(folder: RunFolder) -> None:
    edit(folder, "learning_rate: 1.0e-05", "learning_rate: 3.0e-05")
    with pytest.raises(RunFolderError) as caught:
        go_on(folder)
    assert str(caught.value) == (
        f"{folder.config} was changed since the run began\n  found: training.learning_rate 1e-05 -> 3e-05\n"
        "  expected: as the run wrote it\n"
        "  do: write it back as it was, or go on all the same with --allow-changes config"
    )
    folder.allowed_changes = frozenset({"config"})
    assert go_on(folder) == ["changed since the run began: training.learning_rate 1e-05 -> 3e-05"]
    folder.allowed_changes = frozenset()
    assert go_on(folder) == [], "what was allowed once is the run's own"


def test_a_result_is_not_used_by_another_description(folder: RunFolder) -> None:
    check_as_written(folder, folder.read_description())
    edit(folder, "learning_rate: 1.0e-05", "learning_rate: 3.0e-05")
    with pytest.raises(RunFolderError) as caught:
        check_as_written(folder, folder.read_description())
    assert str(caught.value) == (
        f"{folder.config} was changed since the run wrote it, and tells how its model is used\n"
        "  found: training.learning_rate 1e-05 -> 3e-05\n  expected: as the run wrote it\n"
        f"  do: write it back as it was, or train it anew: afina train --config {folder.config} --output NEW"
    )
    (folder.path / ORIGIN).unlink()
    check_as_written(folder, folder.read_description())


def test_a_setting_that_is_left_out_has_its_default(folder: RunFolder) -> None:
    edit(folder, "  learning_rate: 1.0e-05\n", "")
    with pytest.raises(RunFolderError, match=r"training\.learning_rate 1e-05 -> auto"):
        go_on(folder)


@pytest.mark.parametrize(("before", "now"), [("seed: 42", "seed: 7"), ("test_fraction: 0.2", "test_fraction: 0.3")])
def test_another_split_is_refused_whatever_is_allowed(folder: RunFolder, before: str, now: str) -> None:
    edit(folder, before, now)
    folder.allowed_changes = frozenset({"config"})
    with pytest.raises(RunFolderError, match="which rows are held out") as caught:
        go_on(folder)
    assert caught.value.problems[0].remedy.endswith(
        f"back as it was, or train it anew: afina train --config {folder.config} --output NEW"
    )


def test_places_may_be_others(folder: RunFolder) -> None:
    edit(folder, "path: rows.csv", "path: moved.csv")
    edit(folder, "reference: bert", "reference: moved")
    assert go_on(folder) == []


def test_what_the_run_wrote_again_is_no_change(folder: RunFolder) -> None:
    old = folder.config.read_text()
    other = RunConfig.model_validate({**SETTINGS, "technique": "feature-extraction"})
    for _ in range(2):
        rewrite_description(folder, other)
        assert go_on(folder) == []
    assert len(folder.read_json(ORIGIN)["settings"]) == 2
    folder.config.write_text(old)  # as a kill between the two files leaves it
    assert go_on(folder) == []


def test_settings_that_a_technique_does_not_read_are_not_written(tmp_path: Path, folder: RunFolder) -> None:
    config = RunConfig.model_validate({**SETTINGS, "lora": {"r": 4}})  # as `auto` that settled on another leaves it
    rewrite_description(folder, config)
    assert go_on(folder) == []


def test_a_run_that_kept_no_settings_goes_on(folder: RunFolder) -> None:
    origin = folder.read_json(ORIGIN)
    del origin["settings"]
    folder.write_json(ORIGIN, origin)
    edit(folder, "seed: 42", "seed: 7")
    assert go_on(folder) == []
    (folder.path / ORIGIN).unlink()
    assert go_on(folder) == []


def test_rows_that_were_moved_are_named_by_a_flag(tmp_path: Path) -> None:
    folder, path = RunFolder(tmp_path / "my run"), tmp_path / "rows.csv"
    config = build_config({"data": {"path": str(path)}})
    with pytest.raises(RunFolderError) as caught:
        find_rows(folder, config, None, "resume")
    assert str(caught.value) == (
        f"the data of {folder.path} is no longer where it was\n  found: nothing at {path}\n"
        f"  do: afina resume '{folder.path}' --data PATH, with the place where it is now"
    )
    assert find_rows(folder, config, "elsewhere.csv", "resume") == "elsewhere.csv"
    path.touch()
    assert find_rows(folder, config, None, "resume") == str(path)
    assert find_rows(folder, build_config({"data": {"path": "user/rows"}}), None, "resume") == "user/rows"


def test_rows_that_were_in_memory(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"do: afina\.reproduce\(run, data=rows\)"):
        find_rows(RunFolder(tmp_path), build_config({}), None, "reproduce")


def test_a_model_that_was_moved(tmp_path: Path) -> None:
    folder, model = RunFolder(tmp_path), tmp_path / "model"
    config = build_config({"model": {"reference": str(model)}})
    with pytest.raises(RunFolderError) as caught:
        check_model_place(folder, config)
    assert str(caught.value) == (
        f"the model of {tmp_path} is no longer where it was\n  found: nothing at {model}\n"
        f"  do: write the place where it is now as model.reference into {folder.config}"
    )
    model.mkdir()
    check_model_place(folder, config)
