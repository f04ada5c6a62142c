"""A run's folder is new, holds whole files, and says what is missing."""

from __future__ import annotations

import json
import os
import re
import stat
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from afina.config.load import build_config
from afina.errors import RunFolderError
from afina.runs import creation as module
from afina.runs.creation import check_free_space, choose_path, create_run_folder, make_folder
from afina.runs.folder import RunFolder, open_run
from afina.runs.names import LOCK


def make_config(output: Path | None = None) -> Any:
    return build_config({"technique": "lora", "output": str(output) if output else None})


def test_a_new_or_empty_folder_is_taken(tmp_path: Path) -> None:
    run = create_run_folder(make_config(tmp_path / "a" / "b"), "x")
    assert run.path == tmp_path / "a" / "b"
    assert run.path.is_dir()
    assert create_run_folder(make_config(run.path), "x").path == run.path


def test_a_run_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(RunFolderError) as caught:
        create_run_folder(make_config(tmp_path), "x")
    assert str(caught.value) == (
        f"{tmp_path} already holds a run\n  do: another --output, or afina resume {tmp_path} to go on with that one"
    )


@pytest.mark.parametrize("is_file", [True, False])
def test_what_is_there_is_not_written_over(is_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "out"
    if is_file:
        path.write_text("mine")
    else:
        path.mkdir()
        (path / "mine.txt").write_text("mine")
    with pytest.raises(RunFolderError) as caught:
        create_run_folder(make_config(path), "x")
    assert str(caught.value) == (
        f"{path} is not an empty folder\n  expected: a new or empty folder\n  do: another --output"
    )


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError) as caught:
        create_run_folder(make_config(tmp_path / "file" / "run"), "x")
    assert caught.value.problems[0].what == f"the folder {tmp_path / 'file' / 'run'} can't be made"
    assert caught.value.problems[0].remedy == "another --output"


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 300)
    with pytest.raises(RunFolderError) as caught:
        create_run_folder(make_config(path), "x")
    assert str(caught.value) == (
        f"{path} can't be the folder of a run\n  found: File name too long\n  do: another --output"
    )


def test_a_name_is_made_of_data_technique_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls(2026, 1, 2, 3, 4, 5)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "datetime", Clock)
    base = Path("runs/My-data-v1.2-lora-20260102-030405")
    assert choose_path("lora", "My data/v1.2") == base
    assert create_run_folder(make_config(), "My data/v1.2").path == base
    assert create_run_folder(make_config(), "My data/v1.2").path in (base, Path(f"{base}-2"))
    (base / "x").touch()
    assert choose_path("lora", "My data/v1.2").name.startswith(base.name + "-")
    assert choose_path("lora", "---").name == "data-lora-20260102-030405"
    assert len(choose_path("lora", "d" * 300).name) <= 64


def test_of_two_runs_of_one_moment_each_gets_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one comes between the choice of a name and the making of the folder."""
    monkeypatch.chdir(tmp_path)
    names = iter([tmp_path / "runs" / "taken", tmp_path / "runs" / "free"])
    (tmp_path / "runs" / "taken").mkdir(parents=True)
    monkeypatch.setattr(module, "choose_path", lambda kind, name: next(names))
    assert create_run_folder(make_config(), "x").path == tmp_path / "runs" / "free"


def leave_beginning(path: Path) -> None:
    """What a kill leaves while the rows are read."""
    (path / ".work" / "rows").mkdir(parents=True)
    for name in (LOCK, "data.json", ".config.yaml.tmp"):
        (path / name).write_text("x")


def test_a_run_that_was_killed_before_it_began_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "run"
    leave_beginning(path)
    with pytest.raises(RunFolderError) as caught:
        open_run(path)
    assert caught.value.problems[0].remedy == (
        "start it again with afina train: it was killed before there was anything to go on with"
    )
    run = create_run_folder(make_config(path), "x")
    run.clear_beginning()
    assert [each.name for each in path.iterdir()] == [LOCK]


@pytest.mark.parametrize("change", ["no lock", "a file of mine", "a run"])
def test_what_may_be_mine_is_not_taken_for_a_beginning(change: str, tmp_path: Path) -> None:
    path = tmp_path / "run"
    leave_beginning(path)
    if change == "no lock":  # a folder that holds data.json, which somebody else wrote
        (path / LOCK).unlink()
    else:
        (path / ("mine.csv" if change == "a file of mine" else "config.yaml")).write_text("")
    before = sorted(path.iterdir())
    with pytest.raises(RunFolderError):
        create_run_folder(make_config(path), "x")
    with pytest.raises(RunFolderError):
        RunFolder(path).clear_beginning()
    assert sorted(path.iterdir()) == before


def test_what_a_kill_left_of_a_finished_run_goes(tmp_path: Path) -> None:
    for name in (".work", "checkpoints", ".model.tmp", "model"):
        (tmp_path / name / "x").mkdir(parents=True)
    for name in ("report.json", ".metrics.jsonl.steps", "metrics.jsonl"):
        (tmp_path / name).write_text("")
    RunFolder(tmp_path).clear_remains()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["metrics.jsonl", "model", "report.json"]


def test_a_run_is_opened_or_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("")
    assert open_run(str(tmp_path)).path == tmp_path
    for path, what in ((tmp_path / "no", "doesn't exist"), (tmp_path.parent, "is not a run: it has no config.yaml")):
        with pytest.raises(RunFolderError) as caught:
            open_run(path)
        assert str(caught.value) == (
            f"{path} {what}\n  expected: the folder that afina train or afina.fit made\n"
            "  do: afina runs, or afina.list_runs(), gives the runs here"
        )


def test_a_run_that_failed_at_its_end_is_not_used(tmp_path: Path) -> None:
    """Its model may not be what was trained."""
    (tmp_path / "config.yaml").write_text("")
    with pytest.raises(RunFolderError) as caught:
        RunFolder(tmp_path).check_finished()
    assert str(caught.value) == (
        f"{tmp_path} has no report.json; the run isn't finished\n  do: afina resume {tmp_path}"
    )
    (tmp_path / "report.json").write_text("{}")
    RunFolder(tmp_path).check_finished()


def test_the_folder_of_a_search_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "search.json").write_text("{}")
    with pytest.raises(RunFolderError) as caught:
        open_run(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path} is the folder of a search, not a run\n  expected: the folder that afina train or afina.fit made\n"
        f"  do: afina runs {tmp_path} gives its runs, afina search --resume {tmp_path} goes on with it"
    )


def test_files_are_whole_or_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(tmp_path)
    run.write_json("report.json", {"a": "ä"})
    assert json.loads(run.report.read_text(encoding="utf-8")) == {"a": "ä"}
    assert run.is_finished
    assert "ä" in run.report.read_text(encoding="utf-8")

    def die(source: Any, target: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(KeyboardInterrupt):
            run.write_json("report.json", {"a": "b"})
    assert json.loads(run.report.read_text(encoding="utf-8")) == {"a": "ä"}
    run.write_json("report.json", {"a": "b"})
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with pytest.raises(RunFolderError) as caught:
        run.read_json("report.json")
    assert str(caught.value) == (
        f"{tmp_path} has no report.json; the run isn't finished\n  do: afina resume {tmp_path}"
    )  # fmt: skip
    run.report.write_text("{")
    with pytest.raises(RunFolderError) as caught:
        run.read_json("report.json")
    assert str(caught.value).startswith(f"{run.report} can't be read\n  found: ")


def test_what_a_run_no_longer_has_is_not_asked_of_resume(tmp_path: Path) -> None:
    """Neither of a finished run, nor of one whose first files are gone: going on would refuse it as well."""
    run = RunFolder(tmp_path / "my run")
    run.path.mkdir()
    again = f"copy the folder of the run again, or train it anew: afina train --config '{run.config}' --output NEW"
    with pytest.raises(RunFolderError) as caught:
        run.read_json("data.json")
    assert str(caught.value) == f"{run.path} has no data.json, which every run that goes on has\n  do: {again}"
    run.report.write_text("{}")
    with pytest.raises(RunFolderError) as caught:
        run.read_json("task.json")
    assert str(caught.value) == f"{run.path} has no task.json, which a finished run has\n  do: {again}"
    with pytest.raises(RunFolderError) as caught:
        open_run(run)
    assert str(caught.value) == (
        f"{run.path} has no config.yaml, which every run has\n  do: copy the folder of the run again"
    )


@pytest.mark.parametrize(("content", "found"), [("", "an empty file"), ("technique: full\n", "no model.reference")])
def test_a_description_that_no_run_writes(content: str, found: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config.write_text(content)
    for read in (run.read_description, run.read_config):
        with pytest.raises(RunFolderError) as caught:
            read()
        assert str(caught.value) == (
            f"{run.config} is not what a run writes\n  found: {found}\n  expected: the description of the run\n"
            "  do: copy the folder of the run again, or start a new run with afina train"
        )


@pytest.mark.parametrize(("data", "argument"), [("data: {path: rows.csv}\n", ""), ("", " DATA")])
def test_a_run_whose_model_is_gone_can_be_trained_anew(data: str, argument: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(f"model: {{reference: bert}}\n{data}")
    again = f"train it anew: afina train{argument} --config {run.config} --output NEW"
    with pytest.raises(RunFolderError) as caught:
        run.check_model()
    assert str(caught.value) == (
        f"{run.path} holds no model, though the run is finished\n  do: copy the folder of the run again, or {again}"
    )
    (tmp_path / "search.json").write_text("{}")
    with pytest.raises(RunFolderError) as caught:
        run.check_model()
    assert str(caught.value) == (
        f"{run.path} holds no model; a search keeps those of its best trial and of the default\n"
        f"  do: {again} --score-test true --baselines true --generation-samples 8 --general-text true"
    )


@pytest.mark.parametrize(("least", "advice"), [(2e9, ", or --set training.save_total_limit=1"), (3e9, "")])
def test_a_full_disk_is_refused_before_the_run(
    least: float, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 2_500_000_000

    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Usage)
    check_free_space(tmp_path, 2_500_000_000, 2_500_000_000)
    with pytest.raises(RunFolderError) as caught:
        check_free_space(tmp_path, 4_000_000_000, int(least))
    assert str(caught.value) == (
        f"the disk of {tmp_path} is too full for this run\n"
        "  found: 2.50 GB free\n"
        "  expected: about 4.00 GB for the model and what is kept on its way\n"
        f"  do: --output on another disk{advice}"
    )


def test_work_is_cleared(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.clear_work()
    (run.work / "rows").mkdir(parents=True)
    run.clear_work()
    assert not run.work.exists()


@pytest.mark.parametrize(
    "data", ["reviews", "_.hidden", "../../etc/passwd", "a b\n\x1b[2J;rm -rf", "ä" * 9, "x" * 300, ""]
)
@pytest.mark.parametrize("kind", ["feature-extraction", "search"])
def test_names_of_runs_are_plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data: str, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        path = choose_path(kind, data)
        assert path.parent == Path("runs")
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", path.name)
        path.mkdir(parents=True)


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_a_run_is_its_owners_alone(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "runs" / "one")
    folder.write_json("data.json", {})
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.path / "data.json").stat().st_mode) == 0o600
    (tmp_path / "mine").mkdir(mode=0o750)
    assert stat.S_IMODE(make_folder(tmp_path / "mine").path.stat().st_mode) == 0o750


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_what_libraries_wrote_becomes_its_owners_alone(tmp_path: Path) -> None:
    kept, folder = tmp_path / "kept", RunFolder(tmp_path / "run")
    folder.path.mkdir(0o755)
    folder.model.mkdir(0o755)
    for path in (kept, folder.history, folder.model / "model.safetensors"):
        path.touch(0o644)
    (folder.path / "link").symlink_to(kept)
    folder.write_lines("predictions.jsonl", [{"row": 1}])
    assert stat.S_IMODE((folder.path / "predictions.jsonl").stat().st_mode) == 0o600
    folder.make_private()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.path.rglob("*") if path.name != "link"}
    assert modes == {"model": 0o700, "model.safetensors": 0o600, "metrics.jsonl": 0o600, "predictions.jsonl": 0o600}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o644
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o755, "the folder itself keeps the mode that it has"


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_in_a_run_are_not_followed(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run")
    (tmp_path / "kept").write_text("kept")
    (folder.path / "report.json").symlink_to(tmp_path / "kept")
    folder.write_json("report.json", {"a": 1})  # renamed over the link
    assert json.loads(folder.report.read_text()) == {"a": 1}
    (folder.path / ".report.json.tmp").symlink_to(tmp_path / "kept")
    with pytest.raises(OSError, match="symbolic links"):
        folder.write_json("report.json", {})
    assert (tmp_path / "kept").read_text() == "kept"
    folder.write_text("config.yaml", "")
    with pytest.raises(RunFolderError, match=r"\.report\.json\.tmp is a symbolic link that leads out of the folder"):
        open_run(folder.path)


def test_a_run_is_named_by_its_path_or_by_what_has_one(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.write_text("config.yaml", "")
    assert open_run(run).path == open_run(tmp_path).path == open_run(str(tmp_path)).path == tmp_path


@pytest.mark.parametrize(
    ("given", "found", "remedy"),
    [(None, "None", ""), (["a", "b"], "['a', 'b']", "\n  do: give each run by itself: afina.compare(run, other)")],
)
def test_what_names_no_run_is_refused(given: Any, found: str, remedy: str) -> None:
    with pytest.raises(RunFolderError) as caught:
        open_run(given)
    assert str(caught.value) == (
        f"this is no run\n  found: {found}\n  expected: the path of a run's folder, or what afina.fit gave{remedy}"
    )


def write_model(path: Path) -> RunFolder:
    """A run with a model of three files, as far as they are looked at."""
    run = RunFolder(path)
    (run.model / "1_Pooling").mkdir(parents=True)
    for name in ("model.safetensors", "tokenizer.json", "1_Pooling/config.json"):
        (run.model / name).write_text("{}")
    labels = {"kind": "regression", "names": []}
    columns = {"text": "text", "text_pair": None, "label": "label"}
    base = {"reference": "bert", "revision": None}
    run.write_task({"task": "text-regression", "labels": labels, "fit": {}, "columns": columns, "base": base})
    return run


def test_a_model_with_all_its_files_is_used(tmp_path: Path) -> None:
    run = write_model(tmp_path)
    (run.model / "mine.txt").write_text("a note beside them")
    run.check_model()


def test_a_model_without_all_its_files_is_refused(tmp_path: Path) -> None:
    run = write_model(tmp_path)
    (run.model / "tokenizer.json").unlink()
    (run.model / "1_Pooling" / "config.json").write_text("{    }")  # a person may edit that
    (run.model / "model.safetensors").write_text("{    }")
    with pytest.raises(RunFolderError) as caught:
        run.check_model()
    assert str(caught.value) == (
        f"the model in {run.model} is not what the run wrote\n"
        "  found: model.safetensors of 6 bytes instead of 2, no tokenizer.json\n"
        "  expected: each file that task.json names, weights bit by bit\n"
        "  do: copy the folder of the run again"
    )


def test_a_flipped_bit_in_the_weights_is_found(tmp_path: Path) -> None:
    run = write_model(tmp_path)
    (run.model / "model.safetensors").write_bytes(b"{|")  # "{}" with its last bit flipped
    with pytest.raises(RunFolderError, match=r"found: model\.safetensors with other content than was written\n"):
        run.check_model()


def test_an_older_run_kept_no_checksums(tmp_path: Path) -> None:
    run = write_model(tmp_path)
    stored = run.read_task()
    del stored["checksums"]
    run.write_json("task.json", stored)
    (run.model / "model.safetensors").write_bytes(b"{|")
    run.check_model()


def test_an_older_run_kept_no_sizes(tmp_path: Path) -> None:
    run = write_model(tmp_path)
    stored = run.read_task()
    del stored["files"]
    run.write_json("task.json", stored)
    (run.model / "tokenizer.json").unlink()
    run.check_model()
