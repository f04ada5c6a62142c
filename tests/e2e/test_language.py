"""Language models through the real command line: killed and resumed, loaded without afina, talked to, and bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import afina
from afina.cli.chat import HELP
from afina.data.chat_template import CHATML_IN_WORDS
from afina.terminal import make_printable
from afina.testing.data import make_conversations
from afina.testing.templates import CHAT_FAMILIES

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine

EPOCHS, STEPS_AN_EPOCH = 6, 11
SETTINGS = {
    "num_train_epochs": EPOCHS, "per_device_train_batch_size": 4, "save_steps": 3, "logging_steps": 1,
    "precision": "fp32", "early_stopping_patience": 0, "learning_rate": 1e-3, "max_seq_length": 120,
    "generation_samples": 2, "max_new_tokens": 4, "bootstrap_resamples": 0, "chat_template": "chatml",
}  # fmt: skip
WEIGHTS = {"full": "model.safetensors", "lora": "adapter_model.safetensors"}
CHAT = [{"role": "user", "content": "what is it"}, {"role": "assistant", "content": "a kettle"}]


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def place(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model and conversations."""
    folder = tmp_path_factory.mktemp("place")
    shutil.copytree(tiny_models("llama"), folder / "llama")
    write_lines(folder / "chats.jsonl", make_conversations("messages", 60))
    return folder


def list_flags(technique: str, name: str, **settings: Any) -> list[str]:
    given = [f"{key}={value}" for key, value in (SETTINGS | settings).items()]
    flags = [part for setting in given for part in ("--set", setting)]
    return ["train", "chats.jsonl", "--model", "llama", "--technique", technique, "--output", name, *flags]


@pytest.mark.parametrize("technique", WEIGHTS)
def test_resumed_after_a_kill_equals_undisturbed(technique: str, place: Path, command_line: CommandLine) -> None:
    done = command_line.run(*list_flags(technique, f"whole-{technique}"), cwd=place)
    assert done.code == 0, done.err
    process, run = (
        command_line.start(*list_flags(technique, f"killed-{technique}"), cwd=place),
        place / f"killed-{technique}",
    )
    limit = time.monotonic() + 60
    while not any(int(path.name[5:]) > STEPS_AN_EPOCH for path in run.glob("checkpoints/step-*")):
        assert time.monotonic() < limit, process.err.read_text(encoding="utf-8")
        time.sleep(0.002)
    process.send(signal.SIGKILL)
    assert process.finish().code == -signal.SIGKILL
    assert not (run / "report.json").exists()
    resumed = command_line.run("resume", run.name, cwd=place)
    assert resumed.code == 0, resumed.err
    assert "going on after step" in resumed.err
    for name in (f"model/{WEIGHTS[technique]}", "predictions.jsonl", "base.json"):
        assert (run / name).read_bytes() == (place / f"whole-{technique}" / name).read_bytes(), name
    reports = [json.loads((place / f"{kind}-{technique}" / "report.json").read_text()) for kind in ("killed", "whole")]
    assert reports[0]["metrics"] == reports[1]["metrics"]
    assert reports[0]["baselines"] == reports[1]["baselines"]
    assert reports[0]["history"] == reports[1]["history"]
    assert len(reports[0]["history"]) == EPOCHS * (STEPS_AN_EPOCH + 1) + 1


@pytest.fixture(scope="module")
def runs(place: Path, command_line: CommandLine) -> dict[str, Path]:
    """A short run of each technique."""
    for technique in ("full", "lora", "qlora"):
        done = command_line.run(*list_flags(technique, technique, num_train_epochs=1), cwd=place)
        assert done.code == 0, done.err
    return {technique: place / technique for technique in ("full", "lora", "qlora")}


@pytest.mark.parametrize("technique", ["full", "lora", "qlora"])
def test_the_printed_code_answers_without_afina(technique: str, runs: dict[str, Path]) -> None:
    """It prints what `afina chat` says."""
    code = json.loads((runs[technique] / "report.json").read_text())["load"]["code"]
    program = f"import sys; sys.modules['afina'] = None\n{code}"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program.replace("max_new_tokens=100", "max_new_tokens=6")],
        cwd=runs[technique], env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    chat = subprocess.run(
        [sys.executable, "-m", "afina", "chat", str(runs[technique]), "--max-new-tokens", "6"],
        input="a question\n\n", env=os.environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert chat.returncode == 0, chat.stderr[-2000:]
    assert chat.stdout.strip() == make_printable(done.stdout).strip()
    assert done.stdout.strip()


def test_other_verbs_work_on_it(runs: dict[str, Path], place: Path, command_line: CommandLine) -> None:
    found = command_line.run("evaluate", "lora", "chats.jsonl", "--json", cwd=place).read_object()
    assert found["rows"] == 60
    assert found["notes"][0].startswith(
        "test: 3 of 60 rows are longer than 120 tokens and were cut; 23 tokens to learn"
    )
    assert found["metrics"].keys() == {"test/loss", "test/perplexity", "test/token_accuracy"}
    assert found["rows_seen"] == json.loads((place / "lora" / "data.json").read_text())["parts"]["train"]
    asked = [{"messages": CHAT[:1], "id": 1}, {"messages": [], "id": 2}]
    write_lines(place / "asked.jsonl", asked)
    done = command_line.run("predict", "lora", "asked.jsonl", "--output", "answers.jsonl", cwd=place)
    assert done.code == 0, done.err
    answers = [json.loads(line) for line in (place / "answers.jsonl").read_text().splitlines()]
    assert [row["id"] for row in answers] == [1, 2]
    assert isinstance(answers[0]["prediction"], str)
    assert answers[1]["prediction"] is None
    merged = command_line.run("merge", "lora", "--output", "merged", cwd=place)
    assert (merged.code, merged.err) == (0, "")
    assert (place / "merged" / "model.safetensors").is_file()
    compared = command_line.run("compare", "lora", "full", "--json", cwd=place).read_object()
    assert compared["metric"] == "test/loss"


def test_chat_is_left_by_an_interrupt(runs: dict[str, Path]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "afina", "chat", str(runs["lora"])],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == f"{HELP}\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "afina: interrupted\n"), (
        "there is nothing that it might have written"
    )
    assert process.returncode == 130


def test_the_mask_is_shown(place: Path, command_line: CommandLine) -> None:
    flags = ["check", "chats.jsonl", "--model", "llama", "--chat-template", "chatml"]
    found = command_line.run(*flags, "--show-mask", "2", "--json", cwd=place).read_object()
    rows = [json.loads(line) for line in (place / "chats.jsonl").read_text().splitlines()]
    assert len(found["mask"]) == 2
    for shown in found["mask"]:
        trained = [each for each in shown["stretches"] if each["trained"]]
        assert sum(each["tokens"] for each in trained) == shown["trained_tokens"]
        wanted = rows[shown["row"] - 1]["messages"][1]["content"]
        assert trained[0]["text"].replace(" ", "").startswith(wanted.replace(" ", ""))
    printed = command_line.run(*flags, "--show-mask", "1", cwd=place)
    assert printed.code == 0, printed.err
    assert "⟦" in printed.out


TONES = "{% if tone is defined %}{{ tone + ': ' }}{% endif %}"


def test_arguments_of_the_template_stay_with_the_run(place: Path, command_line: CommandLine) -> None:
    (place / "tones.jinja").write_text(TONES + CHATML_IN_WORDS, encoding="utf-8")
    flags = list_flags("lora", "toned", num_train_epochs=1, chat_template="tones.jinja")
    done = command_line.run(*flags, "--chat-template-kwargs", "{tone: kind}", cwd=place)
    assert done.code == 0, done.err
    assert "; with tone=kind\n" in done.err
    answer = json.loads((place / "toned" / "predictions.jsonl").read_text().splitlines()[0])
    assert answer["prompt"].startswith("kind: ")
    speaker = afina.open_chat(str(place / "toned"))
    assert speaker.tokenizer.decode(speaker.encode(CHAT[:1])).startswith("kind: ")


def test_arguments_that_the_template_does_not_know(place: Path, command_line: CommandLine) -> None:
    flags = ["check", "chats.jsonl", "--model", "llama", "--chat-template", "chatml"]
    done = command_line.run(*flags, "--chat-template-kwargs", "{tone: kind}", cwd=place)
    assert (done.code, done.out) == (2, "")
    assert "the chat template doesn't know an argument" in done.err
    done = command_line.run(*flags, "--chat-template-kwargs", "kind", cwd=place)
    assert (done.code, done.out) == (2, "")
    assert "found: 'kind'\n  expected: a mapping such as {key: value}" in done.err


def test_a_killed_prediction_goes_on(runs: dict[str, Path], place: Path, command_line: CommandLine) -> None:
    asked = [{"prompt": f"what is it {'again ' * (i % 5)}{i}"} for i in range(64)]
    write_lines(place / "many.jsonl", asked)
    flags = ["predict", "lora", "many.jsonl", "--max-new-tokens", "16", "--temperature", "1.5", "--output"]
    assert command_line.run(*flags, "whole.jsonl", cwd=place).code == 0
    kept = place / ".killed.jsonl.answers"
    for number in (signal.SIGKILL, signal.SIGINT):
        process, limit = command_line.start(*flags, "killed.jsonl", cwd=place), time.monotonic() + 100
        lines = len(kept.read_bytes().splitlines()) if kept.exists() else 0
        while not kept.exists() or len(kept.read_bytes().splitlines()) < max(3, lines + 1):
            assert time.monotonic() < limit, process.err.read_text(encoding="utf-8")
            time.sleep(0.002)
        process.send(number)
        done = process.finish()
        assert done.code == (-signal.SIGKILL if number == signal.SIGKILL else 130)
        assert not (place / "killed.jsonl").exists()
    assert "rows are answered, and kept in .killed.jsonl.answers\n  do: the same command again" in done.err
    done = command_line.run(*flags, "killed.jsonl", cwd=place)
    assert (done.code, "going on: " in done.err) == (0, True)
    assert (place / "killed.jsonl").read_bytes() == (place / "whole.jsonl").read_bytes()
    assert not kept.exists()


def test_chat_draws_by_seed(runs: dict[str, Path], place: Path, command_line: CommandLine) -> None:
    def talk(*flags: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "afina", "chat", str(runs["lora"]), "--max-new-tokens", "6", *flags],
            input="a question\n" + "long " * 200 + "\n\n", env=os.environ, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr[-2000:]
        assert "a prompt that leaves no room for an answer" in done.stderr
        return done.stdout

    drawn = talk("--temperature", "2", "--seed", "1")
    assert drawn == talk("--temperature", "2", "--seed", "1")
    assert drawn != talk("--temperature", "2", "--seed", "2")
    bad = command_line.run("chat", "lora", "--top-p", "1.5", cwd=place)
    assert (bad.code, bad.out) == (2, "")
    assert "top_p can't be used\n  found: 1.5\n  expected: a number above 0, at most 1" in bad.err


def test_a_chat_goes_on_after_a_line_that_is_no_text(runs: dict[str, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "afina", "chat", str(runs["lora"]), "--max-new-tokens", "4"],
        input=b"a \xff\na question\n\n", env=os.environ | {"PYTHONUTF8": "1"}, capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert b"use: half of a surrogate pair, or bytes that are not UTF-8\n  found: " in done.stderr
    assert b"  do: ask something else; /new begins a new conversation" in done.stderr
    assert done.stdout.strip()


def test_generate_takes_the_names_of_transformers(runs: dict[str, Path]) -> None:
    run = afina.load(runs["lora"])
    drawn = run.generate(["what is it"] * 2, 6, temperature=2.0, top_p=0.9, seed=1)
    assert drawn == run.generate(["what is it"] * 2, 6, temperature=2.0, top_p=0.9, seed=1)
    assert drawn[0] != drawn[1]
    likeliest = run.generate(["what is it"] * 2, 6)
    assert likeliest[0] == likeliest[1] == run.generate(["what is it"], 6, temperature=0)[0]


GOOD = make_conversations("messages", 20)
BAD_ROWS: dict[str, tuple[Any, str]] = {
    "no role": ({"messages": [{"content": "x"}, CHAT[1]]}, "role"),
    "an empty answer": ({"messages": [CHAT[0], {"role": "assistant", "content": " "}]}, "an empty assistant turn"),
    "no answer": ({"messages": CHAT[:1]}, "no assistant turn"),
    "an unknown role": ({"messages": [{"role": "narrator", "content": "x"}, CHAT[1]]}, "a message of an unknown role"),
    "a call that does not parse": (
        {"messages": [CHAT[0], {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        "tool calls whose arguments aren't a JSON object",
    ),
    "a row that is no object": ([1, 2], "an object"),
    "no messages": ({"messages": []}, "messages"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_are_listed_and_nothing_is_written(
    name: str, place: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    row, said = BAD_ROWS[name]
    write_lines(tmp_path / "bad.jsonl", [*GOOD, row])
    done = command_line.run(
        "train", "bad.jsonl", "--model", place / "llama", "--technique", "lora", "--output", "out", "--chat-template",
        "chatml", "--task", "text-generation", cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 2, done.err
    assert said in done.err
    assert "21" in done.err, "the number of the row"
    assert "Traceback" not in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.jsonl"]


def test_a_prompt_without_completion_is_listed(place: Path, command_line: CommandLine, tmp_path: Path) -> None:
    write_lines(tmp_path / "bad.jsonl", [*make_conversations("completion", 20), {"prompt": "x", "completion": ""}])
    done = command_line.run("train", "bad.jsonl", "--model", place / "llama", "--technique", "lora", cwd=tmp_path)
    assert done.code == 2
    assert "rows with an empty completion in 'completion'" in done.err.replace("no completion", "an empty completion")
    assert "21" in done.err


def test_chat_without_a_template_offers_one(place: Path, command_line: CommandLine, tmp_path: Path) -> None:
    write_lines(tmp_path / "chats.jsonl", GOOD)
    done = command_line.run("train", "chats.jsonl", "--model", place / "llama", "--technique", "lora", cwd=tmp_path)
    assert done.code == 2
    assert "the model's tokenizer brings no chat template" in done.err
    assert "--chat-template chatml" in done.err


def talk(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "afina", "chat", *arguments, "--max-new-tokens", "4"],
        input="a question\n\n", env=os.environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_a_published_model_talks_in_the_template_that_is_named(
    runs: dict[str, Path], place: Path, tmp_path: Path
) -> None:
    template = tmp_path / "own.jinja"
    template.write_text(
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if not quiet %}{{ nowhere() }}{% endif %}"
    )
    refused = talk(str(place / "llama"), "--chat-template", str(template))
    assert "nowhere" in refused.stderr
    told = talk(str(place / "llama"), "--chat-template", str(template), "--chat-template-kwargs", "{quiet: true}")
    assert (told.returncode, "nowhere" in told.stderr) == (0, False), told.stderr
    kept = talk(str(runs["lora"]), "--chat-template", "chatml")
    assert kept.returncode == 2
    assert "a tuned model keeps the chat template that it was tuned with" in kept.stderr
    assert not kept.stdout


def test_a_template_that_raises_is_a_clear_error(place: Path, command_line: CommandLine, tmp_path: Path) -> None:
    alternating = CHAT_FAMILIES["mistral"].template
    (tmp_path / "own.jinja").write_text(alternating, encoding="utf-8")
    twice = {"messages": [CHAT[0], CHAT[0], CHAT[1]]}
    write_lines(tmp_path / "bad.jsonl", [*GOOD, twice])
    done = command_line.run(
        "train", "bad.jsonl", "--model", place / "llama", "--technique", "lora", "--chat-template", "own.jinja",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 2, done.err
    assert "chat template" in done.err
    assert "21" in done.err
    write_lines(
        tmp_path / "worse.jsonl",
        [{"messages": [{"role": "user", "content": str(i)}] * 2 + [CHAT[1]]} for i in range(20)],
    )
    done = command_line.run(
        "check", "worse.jsonl", "--model", place / "llama", "--chat-template", "own.jinja", cwd=tmp_path
    )
    assert "rows with messages that the chat template refuses (20 rows: 1, 2, 3, 4, 5" in done.err
    assert "problems" not in done.err, "said once, though the rows are divided into three parts"


def test_a_tokenizer_of_another_model_is_refused(place: Path, command_line: CommandLine, tmp_path: Path) -> None:
    shutil.copytree(place / "llama", tmp_path / "llama")
    path = tmp_path / "llama" / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {token: number + 1000 * (token == "k") for token, number in vocabulary.items()}
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    write_lines(tmp_path / "chats.jsonl", GOOD)
    done = command_line.run(
        "train", "chats.jsonl", "--model", "llama", "--technique", "lora", "--chat-template", "chatml", cwd=tmp_path
    )
    assert done.code == 2, done.err
    assert "is not that of its model" in done.err


def test_rows_too_long_for_any_answer_stop_the_run(place: Path, command_line: CommandLine, tmp_path: Path) -> None:
    write_lines(
        tmp_path / "long.jsonl",
        [{"messages": [{"role": "user", "content": f"{i} " + "x " * 200}, CHAT[1]]} for i in range(20)],
    )
    done = command_line.run(
        "train", "long.jsonl", "--model", place / "llama", "--technique", "lora", "--chat-template", "chatml",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.code == 2
    assert "the train part holds nothing to learn" in done.err
    assert "--max-seq-length" in done.err


def test_an_encoder_is_refused_for_chats(
    tiny_models: Callable[[str], Path], command_line: CommandLine, tmp_path: Path
) -> None:
    write_lines(tmp_path / "chats.jsonl", GOOD)
    done = command_line.run("train", "chats.jsonl", "--model", tiny_models("bert"), "--technique", "lora", cwd=tmp_path)
    assert done.code == 2, done.err
    assert "reads texts but can't write any" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["chats.jsonl"]


def test_plain_prompts_are_answered_and_empty_ones_counted(
    runs: dict[str, Path], place: Path, command_line: CommandLine
) -> None:
    write_lines(place / "prompts.jsonl", [{"prompt": "what is it"}, {"prompt": ""}])
    flags = ["predict", "lora", "prompts.jsonl", "--output", "prompted.jsonl", "--json"]
    found = command_line.run(*flags, cwd=place).read_object()
    assert found == {"output": "prompted.jsonl", "rows": 2, "rows_without_prediction": 1}
    answers = [json.loads(line)["prediction"] for line in (place / "prompted.jsonl").read_text().splitlines()]
    assert isinstance(answers[0], str)
    assert answers[1] is None
