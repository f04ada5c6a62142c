"""Wrong input through the real command line: exit code 2, no traceback, what to do instead, and nothing written.

Each case gets a folder like a user's (a model, good rows, a finished run), spoils something, and runs one command.
Afterwards the folder must hold exactly what it held before.
"""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import afina
from afina.testing.data import make_rows

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine, Done

ListFiles = Callable[[Path], dict[str, bytes]]
LORA = ("--model", "bert", "--technique", "lora", "--output", "out")
TRAIN = ("train", "rows.csv", *LORA)
SEARCH = ("search", "rows.csv", "--model", "bert", "--output", "out", "--budget")
Spoil = Callable[[Path], None]


@dataclass(frozen=True)
class Case:
    """What is spoiled, what is typed, and what must be said about it."""

    name: str
    arguments: Sequence[str]
    said: Sequence[str]
    spoil: Spoil = lambda folder: None


def write(name: str, content: str | bytes) -> Spoil:
    """Write one file."""

    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return spoil


def edit_config(**changes: Any) -> Spoil:
    """Change config.json of the model; None takes a key away."""

    def spoil(folder: Path) -> None:
        path = folder / "bert" / "config.json"
        config = json.loads(path.read_text(encoding="utf-8")) | changes
        path.write_text(
            json.dumps({key: value for key, value in config.items() if value is not None}), encoding="utf-8"
        )

    return spoil


def remove_config(folder: Path) -> None:
    (folder / "bert" / "config.json").unlink()


def keep_only_bin(folder: Path) -> None:
    (folder / "bert" / "model.safetensors").rename(folder / "bert" / "pytorch_model.bin")


def fill_output(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "thesis.txt").write_text("mine", encoding="utf-8")


def make_rows_text(lines: Sequence[str], header: str = "text,label") -> str:
    return "\n".join([header, *lines]) + "\n"


GOOD = [f"{row['text']},{row['label']}" for row in make_rows("multiclass", 30)]
EMPTY = make_rows_text([f" ,{label}" for label in ("music", "kitchen") * 15])
MIXED = [f"a text {number},{number if number % 2 else 'word'}" for number in range(30)]

CASES = [
    Case("budget without a unit", (*SEARCH, "20"), ["a budget needs a unit", "do: --budget 20m"]),
    Case("search without a budget", SEARCH[:-1], ["no budget was given", "do: --budget 20m"]),
    Case("no time for one trial", (*SEARCH, "0.01s"), ["the budget of 0.0 s is too little for one trial"]),
    Case("unknown scheme of a storage", (*SEARCH, "1m", "--storage", "foo://x"), ["no storage has the scheme foo"]),
    Case("unknown technique to search", (*SEARCH, "1m", "--techniques", "lorra"), ["there is no technique 'lorra'"]),
    Case("unknown metric to search by", (*SEARCH, "1m", "--metric", "f1"), ["the metric f1 can't be searched by"]),
    Case("search in three rows", (*SEARCH, "1m"), ["too few rows", "3 rows"], write(
        "rows.csv", make_rows_text(GOOD[:3]))),
    Case("no search to go on with", ("search", "--resume", "rows.csv"), ["rows.csv is not a search"]),
    Case("no file", ("train", "nofile.csv", *LORA), ["there is no file or folder nofile.csv"]),
    Case("similar file", ("train", "row.csv", *LORA), ["there is no file or folder row.csv", "do: write rows.csv"]),
    Case("empty file", TRAIN, ["rows.csv is empty"], write("rows.csv", "")),
    Case("header only", TRAIN, ["rows.csv holds no rows of data"], write("rows.csv", "text,label\n")),
    Case("not UTF-8", TRAIN, ["not UTF-8", "row 31"], write(
        "rows.csv", make_rows_text(GOOD).encode() + b"caf\xe9,music\n")),
    Case("UTF-16", TRAIN, ["UTF-16"], write("rows.csv", make_rows_text(GOOD).encode("utf-16"))),
    Case("ragged", TRAIN, ["number of fields differs", "row 31", "--set data.on_bad_rows=drop"], write(
        "rows.csv", make_rows_text([*GOOD, "one,music,three"]))),
    Case("no label column", TRAIN, ["which column holds the label", "--label-column a or --label-column b"], write(
        "rows.csv", make_rows_text([f"{line},{i % 3}" for i, line in enumerate(GOOD)], "text,a,b"))),
    Case("named label column missing", (*TRAIN, "--label-column", "labl"), [
        "rows.csv has no column 'labl'", "do: --label-column label"]),
    Case("one class", TRAIN, ["one class only", "found: 'music' in all rows"], write(
        "rows.csv", make_rows_text([f"a text {number},music" for number in range(30)]))),
    Case("fewer rows than classes", TRAIN, ["too few rows for its classes", "for 30 classes"], write(
        "rows.csv", make_rows_text([f"a text {number},class{number}" for number in range(30)]))),
    Case("too few rows", TRAIN, ["too few rows", "4 rows"], write("rows.csv", make_rows_text(GOOD[:4]))),
    Case("numbers and words", TRAIN, ["mixes numbers and words", "--task text-classification"], write(
        "rows.csv", make_rows_text(MIXED))),
    Case("text of numbers", (*TRAIN, "--text-column", "number"), [
        "the text column 'number' holds numbers", "do: --text-column NAME"], write(
        "rows.csv", make_rows_text([f"{i},{line}" for i, line in enumerate(GOOD)], "number,text,label"))),
    Case("all texts empty", TRAIN, [
        "rows with no text in 'text' (30 rows: 1, 2, ", "text that is more than white space"], write(
        "rows.csv", EMPTY)),
    Case("all texts empty and dropped", (*TRAIN, "--set", "on_bad_rows=drop"), [
        "all texts are empty", "30 rows with no text"], write("rows.csv", EMPTY)),
    Case("suffix unknown", ("train", "rows.xlsx", *LORA), ["rows.xlsx is of no format"], write("rows.xlsx", "text")),
    Case("no config in model", TRAIN, ["there is no config.json in", "--model"], remove_config),
    Case("only pickled weights", TRAIN, ["pickled objects", "pytorch_model.bin", "model.safetensors"], keep_only_bin),
    Case("remote code", TRAIN, ["asks for Python code", "never run", "auto_map"], edit_config(
        model_type="mystery", auto_map={"AutoModel": "modeling_mystery.Mystery"})),
    Case("source text for a model_type", TRAIN, ["model_type that is no name", "bert"], edit_config(
        text_config={"model_type": "bert\nimport os"})),
    Case("unknown architecture", TRAIN, ["doesn't know this architecture", "model_type: bret"], edit_config(
        model_type="bret")),
    Case("no architecture", TRAIN, ["config.json names no architecture"], edit_config(model_type=None)),
    Case("model is a file", ("train", "rows.csv", "--model", "rows.csv", "--technique", "full", "--output", "out"), [
        "rows.csv is a file of rows, and a model was expected", "do: --model"]),
    Case("Hub id offline", (
        "train", "rows.csv", "--model", "google-bert/bert-base-uncased", "--technique", "full", "--output", "out"), [
        "HF_HUB_OFFLINE is set", "hf download google-bert/bert-base-uncased"]),
    Case("unknown key", (*TRAIN, "--set", "training.learning_rat=1"), ["training.learning_rat", "learning_rate?"]),
    Case("unknown key in YAML", ("train", "rows.csv", *LORA, "--config", "run.yaml"), [
        "weight_decai", "did you mean training.weight_decay?"], write("run.yaml", "training:\n  weight_decai: 0.1\n")),
    Case("no config file", (*TRAIN, "--config", "none.yaml"), ["no such config file: none.yaml"]),
    Case("broken YAML", (*TRAIN, "--config", "run.yaml"), ["the config file run.yaml can't be read"], write(
        "run.yaml", "training: [1, 2\n")),
    Case("value out of range", (*TRAIN, "--learning-rate", "-1"), ["training.learning_rate", "found: -1"]),
    Case("two values out of range", (*TRAIN, "--learning-rate", "-1", "--num-train-epochs", "none"), [
        "2 problems", "training.learning_rate", "training.num_train_epochs"]),
    Case("no equals sign", (*TRAIN, "--set", "learning_rate"), ["--set 'learning_rate' is not key=value"]),
    Case("LoRA's settings without LoRA", (
        "train", "rows.csv", "--model", "bert", "--technique", "full", "--output", "out", "--r", "8"), [
        "the technique full doesn't read", "lora.r", "--technique lora"]),
    Case("missing model", ("train", "rows.csv", "--technique", "full", "--output", "out"), [
        "no model was given", "--model REF"]),
    Case("missing everything", ("train",), ["2 problems", "no data was given", "no model"]),
    Case("unknown technique", ("train", "rows.csv", "--model", "bert", "--technique", "loar", "--output", "out"), [
        "technique", "'loar'", "full, feature-extraction, lora or qlora"]),
    Case("unknown task", (*TRAIN, "--task", "translation"), ["task", "'translation'", "text-classification"]),
    Case("unknown target modules", (*TRAIN, "--target-modules", "[quer,value]"), [
        "layers that the model doesn't have: quer", "did you mean query?"]),
    Case("no room for a text", (*TRAIN, "--set", "max_seq_length=2"), ["leaves no room for a text", "3 or more"]),
    Case("GPU that isn't there", (*TRAIN, "--set", "device=mps"), ["this machine has no mps device"]),
    Case("output holds a run", (*TRAIN[:-1], "done"), ["done already holds a run", "afina resume done"]),
    Case("output not empty", TRAIN, ["out is not an empty folder", "another --output"], fill_output),
    Case("output is a file", (*TRAIN[:-1], "rows.csv"), ["rows.csv is not an empty folder"]),
    Case("output inside a file", (*TRAIN[:-1], "rows.csv/out"), ["rows.csv/out", "another --output"]),
    Case("predict without the text column", ("predict", "done", "other.csv", "--output", "new.csv"), [
        "other.csv has no column 'text'", "do: --text-column NAME"], write("other.csv", "words,more\nhello,b\n")),
    Case("predict over a file", ("predict", "done", "rows.csv", "--output", "rows.csv"), [
        "rows.csv exists already", "another --output"]),
    Case("predict to an unknown format", ("predict", "done", "rows.csv", "--output", "new.xlsx"), [
        ".csv, .tsv, .jsonl"]),
    Case("predict into no folder", ("predict", "done", "rows.csv", "--output", "no/new.csv"), [
        "the folder no doesn't exist"]),
    Case("predict of no file", ("predict", "done", "none.csv", "--output", "new.csv"), ["no file or folder none.csv"]),
    Case("predict of ragged rows", ("predict", "done", "other.csv", "--output", "new.csv"), [
        "row 2", "do: mend these rows\n"], write("other.csv", "text,id\nhello,1\nhello\n")),
    Case("evaluate an unknown label", ("evaluate", "done", "other.csv"), [
        "row 2", "labels that stand in the training part too: kitchen, music, weather",
        "do: mend these rows, or --on-bad-rows drop to score the others\n"], write(
        "other.csv", "text,label\nhello,music\nhello,sport\n")),
    Case("evaluate without labels", ("evaluate", "done", "other.csv"), ["has no column 'label'"], write(
        "other.csv", "text\nhello\n")),
    Case("resume of no run", ("resume", "bert"), ["bert is not a run: it has no config.yaml", "afina runs"]),
    Case("resume of nothing", ("resume", "nowhere"), ["nowhere doesn't exist"]),
    Case("predict with no run", ("predict", "nowhere", "rows.csv", "--output", "new.csv"), ["nowhere doesn't exist"]),
    Case("compare one run", ("compare", "done"), ["two runs or more"]),
    Case("merge of no adapter", ("merge", "done", "--output", "merged"), ["one model already"]),
    Case("merge over a folder", ("merge", "done", "--output", "bert"), ["bert is not an empty folder"]),
    Case("train on a run", (
        "train", "rows.csv", "--model", "done", "--technique", "full", "--output", "out"), [
        "is the folder of a run, not a model", "/model"]),
]  # fmt: skip


@pytest.fixture(scope="module")
def template(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a user before anything is spoiled."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copytree(tiny_models("bert"), folder / "bert")
    write("rows.csv", make_rows_text(GOOD))(folder)
    afina.fit(
        folder / "bert", folder / "rows.csv", "feature-extraction", output=folder / "done", folds=2, baselines=False,
        bootstrap_resamples=0, pooling="own", cache=False, verbose=False,
    )  # fmt: skip
    return folder


def test_the_table_is_whole() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 50


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input(
    case: Case, template: Path, tmp_path: Path, command_line: CommandLine, list_files: ListFiles
) -> None:
    folder = tmp_path / "user"
    shutil.copytree(template, folder)
    case.spoil(folder)
    before = list_files(folder)
    done = command_line.run(*case.arguments, cwd=folder)
    check_refusal(done, case.said)
    assert list_files(folder) == before
    assert len(done.err) < 3000, "a message that nobody reads"


def check_refusal(done: Done, said: Sequence[str]) -> None:
    """The end of a command that was given wrong input."""
    assert done.code == 2, f"{done.code}\n{done.out}\n{done.err}"
    assert done.out == ""
    assert "Traceback" not in done.err
    assert "unexpected" not in done.err
    assert "\nafina: " in f"\n{done.err}"
    for words in said:
        assert words in done.err, done.err


@pytest.mark.parametrize("technique", ["full", "feature-extraction"])
def test_full_disk(
    technique: str, template: Path, tmp_path: Path, list_files: ListFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "user"
    shutil.copytree(template, folder)
    before = list_files(folder)
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(afina.RunFolderError) as caught:
        afina.fit(folder / "bert", folder / "rows.csv", technique, output=folder / "new" / "out", verbose=False)
    message = str(caught.value).splitlines()
    assert message[0] == f"the disk of {folder / 'new' / 'out'} is too full for this run"
    assert message[1] == "  found: 0.00 GB free"
    assert message[3] == "  do: output on another disk"
    assert caught.value.exit_code == 2
    assert list_files(folder) == before


def test_a_technique_whose_package_is_missing_is_refused_before_rows_are_tokenised(
    template: Path, tmp_path: Path, list_files: ListFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "user"
    shutil.copytree(template, folder)
    before = list_files(folder)
    monkeypatch.setattr("afina.techniques.registry.is_installed", lambda kind: not kind.needs)
    monkeypatch.setattr("afina.pipeline.prepare.encode_parts", None)
    with pytest.raises(afina.UserError, match="the technique qlora needs the package 'bitsandbytes'"):
        afina.fit(folder / "bert", folder / "rows.csv", "qlora", output=folder / "new" / "out", verbose=False)
    assert list_files(folder) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_reading_and_importing(
    number: signal.Signals, template: Path, tmp_path: Path, command_line: CommandLine, list_files: ListFiles
) -> None:
    """At whatever moment it comes, a stop signal ends quietly and leaves nothing behind."""
    folder = tmp_path / "user"
    shutil.copytree(template, folder)
    before = list_files(folder)
    for seconds in (0.3, 1.0, 3.0):
        process = command_line.start_cold("train", "rows.csv", *LORA[:-1], "new/out", "--quiet", cwd=folder)
        time.sleep(seconds)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 128 + number, err
        assert out == ""
        assert err in ("afina: interrupted\n", "afina: interrupted; afina runs tells whether there is a run\n")
        assert list_files(folder) == before


@pytest.mark.parametrize("verb", ["predict", "merge", "evaluate"])
def test_other_verbs_are_stopped_quietly(
    verb: str, template: Path, tmp_path: Path, command_line: CommandLine, list_files: ListFiles
) -> None:
    folder = tmp_path / "user"
    shutil.copytree(template, folder)
    arguments = {
        "predict": ("predict", "done", "rows.csv", "--output", "new.csv"),
        "merge": ("merge", "done", "--output", "merged"),
        "evaluate": ("evaluate", "done", "rows.csv"),
    }[verb]
    before = list_files(folder)
    process = command_line.start_cold(*arguments, cwd=folder)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    said = "afina: interrupted\n" if verb == "evaluate" else "afina: interrupted; nothing was written\n"
    assert (out, err) == ("", said)
    assert list_files(folder) == before


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--device-memory", "24"], "'24' is not a size of memory\n  found: a number without a unit"),
        (["--device", "tpu"], "'tpu' is no device that is known"),
        (["--device", "cuda"], "how much memory the cuda device has isn't known"),
    ],
)
def test_a_machine_that_is_not_described_is_refused(
    flags: list[str], said: str, command_line: Any, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    data = tmp_path / "rows.csv"
    data.write_text("text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(40)))
    done = command_line.run("plan", data, "--model", tiny_models("bert"), *flags, cwd=tmp_path)
    assert done.code == 2
    assert said in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_a_model_that_only_reads_is_no_partner(template: Path, command_line: CommandLine) -> None:
    done = command_line.run("chat", "bert", cwd=template)
    check_refusal(done, ["the model bert reads texts but can't write any\n  found: an encoder (bert)"])
