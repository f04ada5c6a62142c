"""A run that somebody else made: what could harm is refused with its reason, and nothing is written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from afina.runs.folder import compute_checksum
from afina.testing.data import make_rows

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine

SETTINGS = (
    "--set", "precision=fp32", "--set", "bootstrap_resamples=0", "--set", "num_train_epochs=1", "--technique", "lora",
)  # fmt: skip
VERBS = {
    "evaluate": ("evaluate", "run", "rows.csv"),
    "predict": ("predict", "run", "rows.csv", "--output", "out.csv"),
    "merge": ("merge", "run", "--output", "out"),
    "chat": ("chat", "run"),
    "resume": ("resume", "run"),
}
USING = ("evaluate", "predict", "merge")


@pytest.fixture(scope="module")
def place(
    tiny_models: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
    write_csv: Any,
    command_line: CommandLine,
) -> Path:
    """A folder with rows, a base, and a finished run on it."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(tiny_models("bert"), folder / "bert")
    write_csv(folder / "rows.csv", make_rows("multiclass", 60))
    done = command_line.run("train", "rows.csv", "--model", "bert", "--output", "run", *SETTINGS, cwd=folder)
    assert done.code == 0, done.err
    return folder


def change(name: str, **changes: Any) -> Callable[[Path], None]:
    """Set keys of a JSON file of the place."""

    def edit(place: Path) -> None:
        path = place / name
        found = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(found | changes))

    return edit


def unfinish(place: Path) -> None:
    """Make it a run that was stopped."""
    (place / "run" / "report.json").unlink()
    (place / "run" / "task.json").unlink()
    shutil.rmtree(place / "run" / "model")


def link(name: str, target: str) -> Callable[[Path], None]:
    def make(place: Path) -> None:
        (place / "kept").mkdir()
        (place / "kept" / "file").write_text("kept")
        path = place / "run" / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(place / target)

    return make


def pickle_adapter(place: Path) -> None:
    (place / "run" / "model" / "adapter_model.safetensors").rename(place / "run" / "model" / "adapter_model.bin")


def write_code(place: Path) -> None:
    (place / "run" / "model" / "modeling_own.py").write_text("raise RuntimeError")


def cut_adapter(place: Path) -> None:
    path = place / "run" / "model" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def damage_adapter(place: Path) -> None:
    path = place / "run" / "model" / "adapter_model.safetensors"
    path.write_bytes(b"\xff" * path.stat().st_size)


def forge_adapter(place: Path) -> None:
    """A damaged one, under a checksum that says that it was written so."""
    damage_adapter(place)
    checksum = compute_checksum(place / "run" / "model" / "adapter_model.safetensors")
    change("run/task.json", checksums={"adapter_model.safetensors": checksum})(place)


def drop_tokenizer(place: Path) -> None:
    (place / "run" / "model" / "tokenizer.json").unlink()


@dataclass(frozen=True)
class Case:
    name: str
    edit: Callable[[Path], None]
    words: list[str]
    verbs: tuple[str, ...] = USING


CASES = [
    Case("code for the model", change("run/model/config.json", auto_map={"AutoModel": "evil.Model"}), ["auto_map"]),
    Case("code for the tokenizer", change("run/model/tokenizer_config.json", auto_map=["evil.T", None]), [
        "tokenizer_config.json asks for Python code"]),
    Case("code beside the model", write_code, ["modeling_own.py", "never run"]),
    Case("code for the base", change("bert/config.json", auto_map={"AutoModel": "evil.Model"}),
         ["the model in", "bert can't be used", "auto_map"]),
    Case("a module of the adapter", change(
        "run/model/adapter_config.json", megatron_config={"a": 1}, megatron_core="os"), ["megatron_config"]),
    Case("a pickled adapter", pickle_adapter, ["adapter_model.safetensors", "pickled weights are not read"]),
    Case("a damaged adapter", damage_adapter, ["the model in run/model is not what the run wrote", "other content"]),
    Case("a forged adapter", forge_adapter, ["the adapter in run/model can't be loaded"]),
    Case("a cut adapter", cut_adapter, ["the model in run/model is not what the run wrote", "bytes instead of"]),
    Case("a run without its tokenizer", drop_tokenizer, ["is not what the run wrote", "found: no tokenizer.json"]),
    Case("an unknown task", change("run/task.json", task="os.system"), ["run/task.json is not what a run writes"]),
    Case("labels that are no names", change("run/task.json", labels={"kind": "multiclass", "names": [1, {}]}),
         ["run/task.json is not what a run writes", "labels.names"]),
    Case("no base", change("run/task.json", base={}), ["run/task.json is not what a run writes", "base.reference"]),
    Case("a base that is no name", change("run/task.json", base={"reference": "a\nb", "revision": None}), [
        "the model's name is no name"]),
    Case("a link out of the run", link("predictions.jsonl", "kept/file"), ["predictions.jsonl is a symbolic link"],
         (*USING, "chat")),
    Case("a model elsewhere", link("model", "kept"), ["model is a symbolic link that leads out"]),
    Case("code for the model of a stopped run", lambda place: (unfinish(place), change(
        "bert/config.json", auto_map={"AutoModel": "evil.Model"})(place))[0], ["auto_map"], ("resume",)),
    Case("rows of a stopped run that lead out", lambda place: (unfinish(place), link(".work", "kept")(place))[0],
         [".work is a symbolic link that leads out of the folder of the run"], ("resume",)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused(case: Case, place: Path, tmp_path: Path, command_line: CommandLine) -> None:
    shutil.copytree(place, tmp_path, dirs_exist_ok=True)
    adapt = tmp_path / "run" / "task.json"  # which holds the whole path of the base
    adapt.write_text(adapt.read_text().replace(str(place), str(tmp_path)))
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(place), str(tmp_path)))
    case.edit(tmp_path)
    for verb in case.verbs:
        done = command_line.run(*VERBS[verb], cwd=tmp_path)
        assert done.code == 2, done.err
        assert not [words for words in case.words if words not in done.err], done.err
        assert "Traceback" not in done.err
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.csv").exists()
    if (tmp_path / "kept").exists():
        assert [(path.name, path.read_text()) for path in (tmp_path / "kept").iterdir()] == [("file", "kept")]


def test_the_run_is_of_use_before_it_is_changed(place: Path, tmp_path: Path, command_line: CommandLine) -> None:
    for verb in USING:
        arguments = [str(tmp_path / part) if part.startswith("out") else part for part in VERBS[verb]]
        done = command_line.run(*arguments, cwd=place)
        assert done.code == 0, done.err
