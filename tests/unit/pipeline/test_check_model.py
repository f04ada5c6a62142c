"""What `afina check` does with a model: it cuts rows where training would, and asks for no room to train in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import afina
from afina.errors import DataError
from afina.pipeline.check_labels import ask
from afina.testing.data import make_conversations, make_rows
from afina.testing.models import MAX_POSITIONS
from afina.testing.templates import CHAT_FAMILIES


def test_a_length_that_the_model_cant_take_is_cut_to_its_limit(tiny_models: Callable[[str], Path]) -> None:
    rows = make_rows("multiclass", 60)
    rows[0]["text"] = "a long text " * 50
    report = afina.check(rows, tiny_models("bert"), max_seq_length=1024)
    (found,) = [each for each in report.findings if each.code == "long-texts"]
    assert f"longer than {MAX_POSITIONS} tokens" in found.title
    assert {"setting": "model.max_seq_length", "value": MAX_POSITIONS, "reason": (
        f"1024 was asked for, but the model can't take more than {MAX_POSITIONS} tokens"
    )} in report.reasons  # fmt: skip


def lack_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a megabyte of memory."""
    from afina.advice import machine
    from afina.pipeline import costs

    monkeypatch.setattr(machine, "find_free_bytes", lambda device: 2**20)
    monkeypatch.setattr(costs, "add_resident", lambda found: found)


def lack_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no byte of the disk."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))


@pytest.mark.parametrize("lack", [lack_memory, lack_disk])
def test_conversations_are_checked_where_no_run_would_fit(
    lack: Callable[[pytest.MonkeyPatch], None], tiny_models: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lack(monkeypatch)
    report = afina.check(make_conversations("messages", 24), tiny_models("llama"), chat_template="chatml", show_mask=1)
    assert report.facts["parts"]["train"]["trained_tokens"] > 0
    assert len(report.mask) == 1


def test_what_is_doubted_of_a_row_is_asked() -> None:
    one = SimpleNamespace(names=("a", "b"), training=SimpleNamespace(labels=np.array([1, 0])))
    assert ask(one, 0, 0) == "'b', or 'a'?"  # type: ignore[arg-type]
    several = SimpleNamespace(names=("a", "b"), training=SimpleNamespace(labels=np.array([[1, 0]], np.uint8)))
    assert [ask(several, 0, label) for label in (0, 1)] == ["without 'a'?", "also 'b'?"]  # type: ignore[arg-type]


def test_a_row_that_the_doctor_refuses_is_not_told_again_with_the_model(tiny_models: Callable[[str], Path]) -> None:
    wrong = {"messages": [{"role": "wizard", "content": "hi"}, {"role": "assistant", "content": "hello"}]}
    report = afina.check([*make_conversations("messages", 24), wrong], tiny_models("llama"), chat_template="chatml")
    assert [each.title for each in report.findings if each.code == "unusable-row"] == [
        "1 row with a message of an unknown role"
    ]


CALL = {"type": "function", "function": {"name": "look_up", "arguments": {}}}
REFUSING = "{{ raise_exception('no') }}"
SILENT = "{% for each in messages %}{{ each.role + each.content + eos_token }}{% endfor %}"
SILENT += "{% if add_generation_prompt %}assistant{% endif %}"


@pytest.mark.parametrize(
    ("message", "template", "remedy"),
    [
        (
            {"tool_calls": [CALL]},
            SILENT,
            'chat_template="chatml", or chat_template=PATH of another Jinja file that writes tool calls',
        ),
        ({}, REFUSING, 'chat_template=PATH of a Jinja file that takes them, or chat_template="chatml"'),
        ({"content": " "}, "chatml", "mend these rows"),
    ],
)
def test_what_all_rows_lack_is_not_mended_by_leaving_them_out(
    message: dict[str, Any], template: str, remedy: str, tiny_models: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = make_conversations("messages", 24)
    for row in rows:
        row["messages"][-1].update(message)
    if template != "chatml":
        (tmp_path / "odd.jinja").write_text(template)
        template = str(tmp_path / "odd.jinja")
    with pytest.raises(DataError) as caught:
        afina.fit(tiny_models("llama"), rows, output=tmp_path / "run", chat_template=template, verbose=False)
    (problem,) = caught.value.problems
    assert problem.remedy == remedy


UNENDED = "{% for each in messages %}{{ each.role + ': ' + each.content + '\n' }}{% endfor %}"
UNENDED += "{% if add_generation_prompt %}assistant: {% endif %}"
THINKING = SILENT.replace("%}assistant{%", "%}assistant<think>{%")


def check_with(template: str, rows: list[dict[str, Any]], model: Path, folder: Path) -> Any:
    (folder / "given.jinja").write_text(template)
    return afina.check(rows, model, chat_template=str(folder / "given.jinja"))


def test_a_template_without_an_end_is_warned_of(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    report = check_with(UNENDED, make_conversations("messages", 24), tiny_models("llama"), tmp_path)
    (found,) = [each for each in report.findings if each.code == "odd-conversations"]
    assert (found.severity, found.count) == ("warning", 24)
    assert "{{ eos_token }} after each answer" in found.remedy


def test_a_prompt_that_opens_what_answers_lack_is_named(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        check_with(THINKING, make_conversations("messages", 24), tiny_models("llama"), tmp_path)
    (problem,) = caught.value.problems
    assert "assistant<think>' up to this turn" in problem.found
    assert "a copy of it whose prompt ends where its answers begin" in problem.remedy


def test_conversations_that_are_split_are_told(tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    more = [{"role": "user", "content": "and"}, {"role": "assistant", "content": "so"}]
    rows = [{"messages": [*row["messages"], *more]} for row in make_conversations("messages", 24)]
    report = check_with(CHAT_FAMILIES["qwen3"].template, rows, tiny_models("llama"), tmp_path)
    (found,) = [each for each in report.findings if each.code == "split-conversations"]
    assert found.title == "24 conversations become 48 rows, one for each answer"
    whole = check_with(UNENDED, rows, tiny_models("llama"), tmp_path)
    assert "split-conversations" not in [each.code for each in whole.findings]


def test_turns_written_out_in_texts_are_better_off_as_messages(tiny_models: Callable[[str], Path]) -> None:
    end = afina.open_chat(str(tiny_models("llama")), chat_template="chatml").tokenizer.eos_token
    rows = [{"text": f"user: what is {i}?{end}assistant: {i}{end}"} for i in range(20)]
    report = afina.check(rows, tiny_models("llama"))
    (found,) = [each for each in report.findings if each.code == "special-strings"]
    assert found.remedy.startswith("to learn answers alone, write such turns as messages")
