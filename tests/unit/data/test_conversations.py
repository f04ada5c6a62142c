"""Rows for language models: which columns hold what, which rows can be used, and how they are divided."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyarrow.json import read_json

from afina.config.run import DataConfig
from afina.data.conversation_columns import (
    MESSAGES_EXPECTED,
    ConversationColumns,
    choose_conversation_columns,
    looks_like_conversations,
)
from afina.data.conversation_rows import find_prompt, normalize_row
from afina.data.conversations import Conversations, load_conversations
from afina.data.read import read_parts
from afina.data.rows import RowTable
from afina.errors import ConfigError, DataError

MEND = "mend these rows, or leave them out with --set data.on_bad_rows=drop"
ANY_FLAGS = "--messages-column NAME, or --prompt-column NAME with --completion-column NAME, or --text-column NAME"
LISTS = 'lists such as [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
TALK = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hi"}]
SHARED = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "hi"}]
ASK, REPLY = TALK[:1], TALK[1:]
TOOL = [{"type": "function", "function": {"name": "f"}}]


def choose(folder: Path, *rows: dict[str, Any], **flags: str) -> ConversationColumns:
    return choose_conversation_columns(read_parts(list(rows), folder), **flags)


def refusal(folder: Path, *rows: dict[str, Any], **flags: str) -> str:
    with pytest.raises(DataError) as caught:
        choose(folder, *rows, **flags)
    return str(caught.value)


def load(
    source: Any, folder: Path, seed: int = 42, flags: dict[str, str] | None = None, **settings: Any
) -> Conversations:
    return load_conversations(source, DataConfig(**settings), seed, read_parts(source, folder), **(flags or {}))


def message(source: Any, folder: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load(source, folder, **settings)
    return str(caught.value)


def list_rows(loaded: Conversations) -> dict[int, dict[str, Any]]:
    """All rows used, by their number in the source."""
    numbered: dict[int, dict[str, Any]] = {}
    for part in loaded.parts.values():
        rows = [row for batch in part.rows(3) for row in batch]
        numbered |= dict(zip(part.row_numbers.tolist(), rows, strict=True))
    return dict(sorted(numbered.items()))


def make_pairs(count: int) -> list[dict[str, Any]]:
    return [{"prompt": f"prompt {i}", "completion": f"completion {i}"} for i in range(count)]


AS_JSON = "holds is learned as JSON writes it"
OBJECTS = "is a usual name for them, and it holds lists of objects"
LAYOUTS = [
    # the row, the form, the columns by role, the reason, whether it speaks for the task by itself
    ({"id": 1, "messages": TALK}, "messages", {"messages": "messages"}, f"'messages' {OBJECTS}", True),
    ({"Mensajes": TALK, "texto": "a"}, "messages", {"messages": "Mensajes"}, f"'Mensajes' {OBJECTS}", True),
    ({"conversations": SHARED}, "messages", {"messages": "conversations"}, f"'conversations' {OBJECTS}", True),
    ({"conversation": TALK}, "messages", {"messages": "conversation"}, f"'conversation' {OBJECTS}", True),
    ({"Conversación": TALK}, "messages", {"messages": "Conversación"}, f"'Conversación' {OBJECTS}", True),
    ({"dialog": SHARED, "label": "a"}, "messages", {"messages": "dialog"}, f"'dialog' {OBJECTS}", True),
    ({"chat": TALK, "messages": TALK}, "messages", {"messages": "messages"}, f"'messages' {OBJECTS}", True),
    ({"prompt": "a", "prompt_id": "1", "messages": TALK, "category": "x"},
     "messages", {"messages": "messages"}, f"'messages' {OBJECTS}", True),
    ({"prompt": "a", "completion": "b", "messages": TALK},
     "messages", {"messages": "messages"}, f"'messages' {OBJECTS}", True),
    ({"messages": json.dumps(TALK)}, "messages", {"messages": "messages"}, f"'messages' {OBJECTS}", True),
    ({"messages": TALK, "tools": TOOL}, "messages", {"messages": "messages", "tools": "tools"},
     f"'messages' {OBJECTS}; 'tools' holds the tools", True),
    ({"messages": TALK, "Tools": json.dumps(TOOL)}, "messages", {"messages": "messages", "tools": "Tools"},
     f"'messages' {OBJECTS}; 'Tools' holds the tools", True),
    ({"messages": TALK, "tools": "hammer"}, "messages", {"messages": "messages"}, f"'messages' {OBJECTS}", True),
    ({"prompt": ASK, "completion": REPLY, "tools": TOOL},
     "messages", {"prompt": "prompt", "completion": "completion", "tools": "tools"},
     "'prompt' and 'completion' are usual names for a prompt and its answer, and hold lists of objects; "
     "'tools' holds the tools", True),
    ({"prompt": "a", "completion": "b"}, "completion", {"prompt": "prompt", "completion": "completion"},
     "'prompt' and 'completion' are usual names for a prompt and its answer", True),
    ({"prompt": "a", "completion": "b", "chosen": "c"}, "completion", {"prompt": "prompt", "completion": "completion"},
     "'prompt' and 'completion' are usual names for a prompt and its answer", True),
    ({"response": "b", "Prompt": "a"}, "completion", {"prompt": "Prompt", "completion": "response"},
     "'Prompt' and 'response' are usual names for a prompt and its answer", True),
    ({"prompt": "a", "output": "b", "text": "a b"}, "completion", {"prompt": "prompt", "completion": "output"},
     "'prompt' and 'output' are usual names for a prompt and its answer", True),
    ({"question": "a", "answer": "b"}, "completion", {"prompt": "question", "completion": "answer"},
     "'question' and 'answer' are usual names for a prompt and its answer", True),
    ({"question": "a", "answer": "42"}, "completion", {"prompt": "question", "completion": "answer"},
     "'question' and 'answer' are usual names for a prompt and its answer", True),
    ({"question": "a", "answer": "b", "response": "c"}, "completion", {"prompt": "question", "completion": "answer"},
     "'question' and 'answer' are usual names for a prompt and its answer", True),
    ({"Pregunta": "a", "Respuesta": "b"}, "completion", {"prompt": "Pregunta", "completion": "Respuesta"},
     "'Pregunta' and 'Respuesta' are usual names for a prompt and its answer", True),
    ({"input": "a", "output": "b"}, "completion", {"prompt": "input", "completion": "output"},
     "'input' and 'output' are usual names for a prompt and its answer", True),
    ({"entrada": "a", "salida": "b"}, "completion", {"prompt": "entrada", "completion": "salida"},
     "'entrada' and 'salida' are usual names for a prompt and its answer", True),
    ({"user": "a", "assistant": "b"}, "completion", {"prompt": "user", "completion": "assistant"},
     "'user' and 'assistant' are usual names for a prompt and its answer", True),
    ({"input_text": "a", "target_text": "b"}, "completion", {"prompt": "input_text", "completion": "target_text"},
     "'input_text' and 'target_text' are usual names for a prompt and its answer", True),
    ({"id": 1, "article": "a", "highlights": "b"}, "completion", {"prompt": "article", "completion": "highlights"},
     "'article' and 'highlights' are usual names for a prompt and its answer", True),
    ({"Documento": "a", "Resumen": "b"}, "completion", {"prompt": "Documento", "completion": "Resumen"},
     "'Documento' and 'Resumen' are usual names for a prompt and its answer", True),
    ({"prompt": "a", "completion": '[{"n": 1}]'}, "completion", {"prompt": "prompt", "completion": "completion"},
     "'prompt' and 'completion' are usual names for a prompt and its answer", True),
    ({"prompt": "a", "completion": {"n": 1}}, "completion", {"prompt": "prompt", "completion": "completion"},
     f"'prompt' and 'completion' are usual names for a prompt and its answer; what 'completion' {AS_JSON}", True),
    ({"prompt": "a", "completion": 3}, "completion", {"prompt": "prompt", "completion": "completion"},
     f"'prompt' and 'completion' are usual names for a prompt and its answer; what 'completion' {AS_JSON}", True),
    ({"question": "a", "answer": 3}, "completion", {"prompt": "question", "completion": "answer"},
     f"'question' and 'answer' are usual names for a prompt and its answer; what 'answer' {AS_JSON}", False),
    ({"instruction": "a", "output": ["b"]}, "instruction", {"instruction": "instruction", "output": "output"},
     f"by name, 'instruction' is the instruction, 'output' is the output; what 'output' {AS_JSON}", True),
    ({"instruction": "a", "output": "b"}, "instruction", {"instruction": "instruction", "output": "output"},
     "by name, 'instruction' is the instruction, 'output' is the output", True),
    ({"instruction": "a", "input": "c", "output": "b", "text": "d", "prompt": "e"},
     "instruction", {"instruction": "instruction", "input": "input", "output": "output"},
     "by name, 'instruction' is the instruction, 'input' is the input, 'output' is the output", True),
    ({"instruction": "a", "context": "c", "response": "b", "category": "d"},
     "instruction", {"instruction": "instruction", "input": "context", "output": "response"},
     "by name, 'instruction' is the instruction, 'context' is the input, 'response' is the output", True),
    ({"instruction": "a", "context": "d", "input": "c", "output": "b", "system": "s"},
     "instruction", {"instruction": "instruction", "input": "input", "system": "system", "output": "output"},
     "by name, 'instruction' is the instruction, 'input' is the input, 'system' is the system, "
     "'output' is the output", True),
    ({"Instrucción": "a", "Entrada": "c", "Salida": "b"},
     "instruction", {"instruction": "Instrucción", "input": "Entrada", "output": "Salida"},
     "by name, 'Instrucción' is the instruction, 'Entrada' is the input, 'Salida' is the output", True),
    ({"instruccion": "a", "respuesta": "b"}, "instruction", {"instruction": "instruccion", "output": "respuesta"},
     "by name, 'instruccion' is the instruction, 'respuesta' is the output", True),
    ({"id": "1", "system_prompt": "s", "question": "a", "response": "b"},
     "instruction", {"instruction": "question", "system": "system_prompt", "output": "response"},
     "by name, 'question' is the instruction, 'system_prompt' is the system, 'response' is the output", True),
    ({"text": "a"}, "text", {"text": "text"},
     "'text' is a usual name for it, and no columns of prompts and answers are there", False),
    ({"Texto": "a", "url": "b"}, "text", {"text": "Texto"},
     "'Texto' is a usual name for it, and no columns of prompts and answers are there", False),
    ({"content": "a", "prompt": "b"}, "text", {"text": "content"},
     "'content' is a usual name for it, and no columns of prompts and answers are there", False),
    ({"text": "a", "chat": "no list", "messages": ["b"]}, "text", {"text": "text"},
     "'text' is a usual name for it, and no columns of prompts and answers are there", False),
    ({"source": "web", "text": "a", "summary": "b"}, "text", {"text": "text"},
     "'text' is a usual name for it, and no columns of prompts and answers are there", False),
    ({"page": "p. 7", "body": "a longer text"}, "text", {"text": "body"},
     "'body' is a usual name for it, and no columns of prompts and answers are there", False),
    ({"text": "a", "prompt": "b", "completion": 3}, "text", {"text": "text"},
     "'text' is a usual name for it, and no columns of prompts and answers are there", False),
]  # fmt: skip


@pytest.mark.parametrize(("row", "form", "names", "reason", "speaks"), LAYOUTS)
def test_recognition(
    tmp_path: Path, row: dict[str, Any], form: str, names: dict[str, str], reason: str, speaks: bool
) -> None:
    (table,) = read_parts([row], tmp_path).values()
    columns = choose_conversation_columns({"all": table})
    assert (columns.form, columns.names) == (form, names)
    assert list(map(str, columns.reasons)) == [f"form of the rows = {form}: {reason}"]
    assert looks_like_conversations(table) is speaks


YES_OR_NO = [{"question": f"is {i} odd", "answer": ("no", "yes")[i % 2]} for i in range(20)]


@pytest.mark.parametrize(
    ("rows", "speaks"),
    [
        ([{"text": "a", "label": "b"}], False),
        ([{"question": "a", "answer": "b", "label": 1}], False),
        ([{"prompt": "a", "completion": "b", "score": 0.5}], False),
        ([{"prompt": "a", "completion": "b", "score": None}], True),
        ([{"instruction": "a", "output": "b", "label": 1}], True),
        (YES_OR_NO, False),
        ([{"prompt": row["question"], "completion": row["answer"]} for row in YES_OR_NO], True),
        ([{"prompt": "a", "chosen": "b", "rejected": "c", "messages": TALK}], False),
        ([{"prompt": "a", "completion": "b", "label": True}], False),
        ([{"x": "a", "y": "b"}], False),
        ([{"chat": TALK, "dialog": TALK}], True),
    ],
)
def test_what_may_be_for_a_classifier_does_not_speak_for_the_task(
    tmp_path: Path, rows: list[dict[str, Any]], speaks: bool
) -> None:
    (table,) = read_parts(rows, tmp_path).values()
    assert looks_like_conversations(table) is speaks


def test_most_rows_decide_what_a_column_holds(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"messages": TALK}, {"messages": TALK}, {"messages": "a"}]
    assert choose(tmp_path / "a", *rows).form == "messages"
    assert "not clear which columns" in refusal(tmp_path / "b", *rows, {"messages": "b"})


def test_tools_of_a_few_rows_are_found(tmp_path: Path) -> None:
    rows = [{"messages": TALK, "tools": TOOL if i == 8 else None} for i in range(2500)]
    assert choose(tmp_path, *rows).names == {"messages": "messages", "tools": "tools"}


def test_flags_win(tmp_path: Path) -> None:
    row = {"messages": TALK, "a": "x", "b": "y", "log": SHARED, "asked": ASK, "replied": REPLY, "tools": TOOL}
    pair = choose(tmp_path / "a", row, prompt_column="a", completion_column="b")
    assert pair == ConversationColumns("completion", {"prompt": "a", "completion": "b"})
    assert choose(tmp_path / "b", row, text_column="b") == ConversationColumns("text", {"text": "b"})
    log = choose(tmp_path / "c", row, messages_column="log")
    assert (log.form, log.names) == ("messages", {"messages": "log", "tools": "tools"})
    assert list(map(str, log.reasons)) == ["form of the rows = messages: 'tools' holds the tools"]
    assert choose(tmp_path / "d", {"log": TALK}, messages_column="log").reasons == ()
    joined = choose(tmp_path / "e", {"a": ASK, "b": REPLY}, prompt_column="a", completion_column="b")
    assert (joined.form, joined.names) == ("messages", {"prompt": "a", "completion": "b"})
    assert list(map(str, joined.reasons)) == ["form of the rows = messages: 'a' and 'b' hold lists of objects"]
    better = {"prompt": "a", "chosen": "b", "rejected": "c"}
    assert choose(tmp_path / "f", better, prompt_column="prompt", completion_column="chosen").form == "completion"


def test_flags_that_name_nothing(tmp_path: Path) -> None:
    row = {"promt": "a", "answers": "b"}
    assert refusal(tmp_path, row, prompt_column="prompt", completion_column="zzz") == (
        "2 problems\n"
        "1. the data has no column 'prompt'\n"
        "     found: columns: promt, answers; the nearest name is 'promt'\n"
        "     expected: a column 'prompt'\n"
        "     do: --prompt-column promt\n"
        "2. the data has no column 'zzz'\n"
        "     found: columns: promt, answers\n"
        "     expected: a column 'zzz'\n"
        "     do: --completion-column NAME"
    )


@pytest.mark.parametrize(
    ("flags", "given"),
    [
        ({"prompt_column": "a"}, "--prompt-column a"),
        ({"completion_column": "b"}, "--completion-column b"),
        ({"prompt_column": "a", "completion_column": "a"}, "--prompt-column a, --completion-column a"),
        ({"text_column": "a", "messages_column": "b"}, "--messages-column b, --text-column a"),
    ],
)
def test_flags_that_make_no_form(tmp_path: Path, flags: dict[str, str], given: str) -> None:
    assert refusal(tmp_path, {"a": "x", "b": "y"}, **flags) == (
        "the flags don't say what a row is made of\n"
        f"  found: {given}\n"
        "  expected: flags for the columns of one form\n"
        f"  do: {ANY_FLAGS}"
    )


def test_flags_for_columns_of_no_use(tmp_path: Path) -> None:
    row = {"a": "x", "b": ["y"], "c": TALK, "d": None, "e": 5}
    assert refusal(tmp_path / "a", row, messages_column="b") == (
        "the data: the messages column 'b' holds lists\n"
        '  found: values such as ["y"]\n'
        f"  expected: {LISTS}\n"
        "  do: --messages-column NAME, one of: a, b, c, d, e"
    )
    assert refusal(tmp_path / "b", row, text_column="d") == (
        "the data: the text column 'd' holds nothing\n"
        "  found: empty cells\n"
        "  expected: text\n"
        "  do: --text-column NAME, one of: a, b, c, d, e"
    )
    assert refusal(tmp_path / "c", row, prompt_column="e", completion_column="a") == (
        "the data: the prompt column 'e' holds numbers\n"
        "  found: values such as 5\n"
        "  expected: text in both columns, or lists of messages in both\n"
        "  do: --prompt-column NAME, one of: a, b, c, d, e"
    )
    assert refusal(tmp_path / "d", {"a": "x", "c": ASK}, prompt_column="c", completion_column="a") == (
        "2 problems\n"
        "1. the data: the prompt column 'c' holds lists\n"
        '     found: values such as [{"role": "user", "content": "hello"}]\n'
        "     expected: text in both columns, or lists of messages in both\n"
        "     do: --prompt-column NAME, one of: a, c\n"
        "2. the data: the completion column 'a' holds text\n"
        '     found: values such as "x"\n'
        "     expected: text in both columns, or lists of messages in both\n"
        "     do: --completion-column NAME, one of: a, c"
    )


def test_nothing_fits(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a", {"id": 1, "prompt": "a", "messages": "b"}) == (
        "the data: it is not clear which columns hold what is to be learned\n"
        '  found: columns: id (numbers, such as 1); prompt (text, such as "a"); messages (text, such as "b")\n'
        "  expected: messages; or prompt and completion; or instruction, maybe input, and output; or text\n"
        f"  do: {ANY_FLAGS}"
    )
    wide = refusal(tmp_path / "b", {f"c{i}": i for i in range(14)})
    assert "c11 (numbers, such as 11); and 2 more\n" in wide
    assert "c12" not in wide
    assert refusal(tmp_path / "c", {"chat": TALK, "dialog": TALK}) == (
        "the data: it is not clear which column holds the messages\n"
        "  found: several that it may be: dialog, chat\n"
        "  do: --messages-column dialog or --messages-column chat"
    )


@pytest.mark.parametrize(
    ("row", "remedy"),
    [
        ({"translation": {"en": "a", "es": "b"}},
         "write what stands under 'translation' as columns of their own, such as prompt and completion"),
        ({"dialog": ["a", "b"]}, f"write what stands under 'dialog' as {MESSAGES_EXPECTED}"),
        ({"messages": "[{'role': 'user', 'content': 'a'}]"},
         "write the lists in 'messages' as JSON, as json.dumps does"),
        ({"id": 1, "prompt": "a"}, ANY_FLAGS),
        ({"page": "p. 7", "paragraph": "a longer text"}, ANY_FLAGS),
        ({"user": "ana", "target": 0.5, "film": "a film"}, ANY_FLAGS),
    ],
)  # fmt: skip
def test_shapes_that_no_flag_mends(tmp_path: Path, row: dict[str, Any], remedy: str) -> None:
    assert refusal(tmp_path, row, row).endswith(f"\n  do: {remedy}")


def test_all_rows_under_one_key(tmp_path: Path) -> None:
    remedy = "write what stands under 'data' as a file of its own, a row for each entry"
    assert refusal(tmp_path, {"data": [{"text": "a"}]}).endswith(f"\n  do: {remedy}")


def test_the_only_column_of_text_is_the_text(tmp_path: Path) -> None:
    assert choose(tmp_path, {"id": 1, "lyrics": "a"}).names == {"text": "lyrics"}


@pytest.mark.parametrize(
    ("row", "columns", "flags"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "'chosen' and 'rejected'",
         "--prompt-column prompt --completion-column chosen, to learn from these answers alone"),
        ({"Chosen": TALK, "Rejected": TALK}, "'Chosen' and 'Rejected'",
         "--messages-column Chosen, to learn from these answers alone"),
        ({"chosen": "Human: a", "rejected": "Human: b"}, "'chosen' and 'rejected'",
         "--text-column chosen, to learn from these answers alone"),
        ({"prompt": "a", "chosen": TALK, "rejected": TALK, "messages": TALK}, "'chosen' and 'rejected'",
         "--messages-column messages, to learn from these answers alone"),
        ({"prompt": "a", "completion": "b", "label": False}, "'completion' and 'label'",
         "keep the rows whose 'label' is true, and --prompt-column prompt --completion-column completion"),
    ],
)  # fmt: skip
def test_preference_data_is_refused(tmp_path: Path, row: dict[str, Any], columns: str, flags: str) -> None:
    assert refusal(tmp_path, row) == (
        "the data: this is preference data, which is not for the task text-generation\n"
        f"  found: the columns {columns}\n"
        "  expected: one answer a row, the right one\n"
        f"  do: {flags}"
    )


def test_other_parts_must_have_the_columns_but_not_the_optional_ones(tmp_path: Path) -> None:
    train = [{"instruction": f"a {i}", "input": "b", "output": "c"} for i in range(20)]
    with pytest.raises(DataError) as caught:
        load({"train": train, "test": [{"instruction": "a", "response": "c"}]}, tmp_path / "a")
    assert str(caught.value) == (
        "the data, part 'test' has no column 'output'\n"
        "  found: columns: instruction, response\n"
        "  expected: a column 'output'\n"
        "  do: rename a column to 'output'; or take this part away, and one is carved out of the training rows"
    )
    loaded = load({"train": train, "test": [{"instruction": "a", "output": "c"}]}, tmp_path / "b")
    assert list(loaded.parts["test"].rows()) == [[{"instruction": "a", "input": "", "output": "c", "system": ""}]]
    given = {"train": [{"messages": TALK, "tools": TOOL}] * 9, "test": [{"messages": TALK}] * 2}
    with pytest.raises(DataError, match="too few different prompts"):
        load(given, tmp_path / "c")


def test_one_table_gives_three_parts(tmp_path: Path) -> None:
    rows = make_pairs(100)
    loaded = load(rows, tmp_path)
    assert {name: len(part) for name, part in loaded.parts.items()} == {"train": 70, "validation": 10, "test": 20}
    assert list_rows(loaded) == dict(enumerate(rows, 1))
    assert loaded.counts == {"read": 100, "used": 100, "dropped": {}}
    assert loaded.source == "a list in Python"
    assert loaded.reasons == loaded.columns.reasons
    assert loaded.notes == (
        "parts: train 70 rows, validation 10 rows, test 20 rows; "
        "validation and test chosen with seed 42, equal prompts on one side",
    )


def test_given_parts_are_kept_and_the_missing_one_is_carved(tmp_path: Path) -> None:
    train, test = make_pairs(100), [{"prompt": f"new {i}", "completion": "a"} for i in range(10)]
    loaded = load({"train": train, "test": [*test, {"prompt": "PROMPT 3 ", "completion": "b"}]}, tmp_path / "a")
    assert {name: len(part) for name, part in loaded.parts.items()} == {"train": 90, "validation": 10, "test": 11}
    assert [row["prompt"] for batch in loaded.parts["test"].rows() for row in batch] == [
        *(row["prompt"] for row in test),
        "PROMPT 3 ",
    ]
    assert loaded.notes == (
        "parts: train 90 rows, validation 10 rows, test 11 rows; validation chosen with seed 42, "
        "equal prompts on one side",
    )
    whole = load({"train": train, "validation": test, "test": test}, tmp_path / "b")
    assert whole.notes == ("parts: train 100 rows, validation 10 rows, test 10 rows, as the data brings them",)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"conversations": [{"from": "system", "value": "s"}, *SHARED, {"from": "observation", "value": "o"}]},
         {"messages": [{"role": "system", "content": "s"}, *TALK, {"role": "tool", "content": "o"}], "tools": None}),
        ({"mensajes": [{"role": "Usuario", "content": "a"}, {"role": "asistente", "content": "b"}]},
         {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": None}),
        ({"messages": [{"role": "narrator", "content": "a", "weight": 0, "name": None}]},
         {"messages": [{"role": "narrator", "content": "a", "weight": 0}], "tools": None}),
        ({"messages": [*ASK, {"role": "assistant", "tool_calls": [{"id": "1", "x": None}]}],
          "tools": json.dumps([{**TOOL[0], "x": None}])},
         {"messages": [*ASK, {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}], "tools": TOOL}),
        ({"messages": [{"role": None, "content": None, "from": "gpt", "value": "a"}], "tools": []},
         {"messages": [{"role": "assistant", "content": "a"}], "tools": None}),
        ({"conversations": [{"from": "human", "value": "a"},
                            {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
                            {"from": "function_response", "value": "1"}, {"from": "gpt", "value": "b"}]},
         {"messages": [{"role": "user", "content": "a"},
                       {"role": "assistant", "content": "", "tool_calls": [
                           {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]},
                       {"role": "tool", "content": "1"}, {"role": "assistant", "content": "b"}], "tools": None}),
        ({"messages": [*ASK, {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"},
                                "tool_calls": None}, {"role": "function", "name": "f", "content": "1"}, *REPLY]},
         {"messages": [*ASK, {"role": "assistant", "content": None, "tool_calls": [
                           {"type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                       {"role": "tool", "content": "1", "name": "f"}, *REPLY], "tools": None}),
        ({"prompt": ASK, "completion": REPLY}, {"messages": TALK, "tools": None, "prompt_messages": 1}),
        ({"prompt": " a\n", "completion": "b "}, {"prompt": " a\n", "completion": "b "}),
        ({"prompt": "a", "completion": {"año": [1, 2.5, None, True]}},
         {"prompt": "a", "completion": '{"año": [1, 2.5, null, true]}'}),
        ({"instruction": "a", "output": 7}, {"instruction": "a", "input": "", "output": "7", "system": ""}),
        ({"instruction": "a", "context": "c", "output": "b", "system": "s"},
         {"instruction": "a", "input": "c", "output": "b", "system": "s"}),
        ({"instruction": "a", "input": None, "output": "b"},
         {"instruction": "a", "input": "", "output": "b", "system": ""}),
        ({"text": " a"}, {"text": " a"}),
    ],
)  # fmt: skip
def test_rows_are_normalised(tmp_path: Path, row: dict[str, Any], expected: dict[str, Any]) -> None:
    kind = next(iter(row))
    others = [{**row, kind: vary(row[kind], i)} for i in range(20)]
    loaded = load([row, *others], tmp_path)
    found = list_rows(loaded)[1]
    assert found == expected
    assert [list(m)[:2] for m in found.get("messages", [])] == [["role", "content"] for _ in found.get("messages", [])]


def vary(cell: Any, number: int) -> Any:
    """Another prompt of the same shape."""
    if isinstance(cell, str):
        return f"{cell} {number}"
    return [{"role": "user", "content": f"number {number}"}, *cell[1:]]


BAD = [
    {"prompt": None, "completion": "a"}, {"prompt": " ", "completion": "a"}, {"prompt": "a", "completion": ""},
    {"prompt": "a"}, {"prompt": 7, "completion": "a"}, {"prompt": "a", "completion": ["b"]},
]  # fmt: skip


def test_all_problems_of_all_parts_come_in_one_error(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in [*make_pairs(20), *BAD]) + "{oops\n"
    )
    (tmp_path / "test.jsonl").write_text(json.dumps({"prompt": "c", "completion": " "}) + "\n")
    assert message(tmp_path, tmp_path / "spool") == (
        "6 problems\n"
        "1. train.jsonl: rows that are not valid JSON (row 27)\n"
        "     found: a key that isn't in double quotes at character 2\n"
        "     expected: one JSON object a row\n"
        f"     do: {MEND}\n"
        "2. train.jsonl: rows with no prompt in 'prompt' (rows 21, 22)\n"
        "     found: an empty cell\n"
        "     expected: text that is more than white space\n"
        f"     do: {MEND}\n"
        "3. train.jsonl: rows with no completion in 'completion' (rows 23, 24)\n"
        '     found: ""\n'
        "     expected: text that is more than white space\n"
        f"     do: {MEND}\n"
        "4. train.jsonl: rows with a prompt that is a number, a list or an object in 'prompt' (row 25)\n"
        "     found: 7\n"
        "     expected: text\n"
        f"     do: {MEND}\n"
        "5. train.jsonl: rows with a completion that is a number, a list or an object in 'completion' (row 26)\n"
        '     found: ["b"]\n'
        "     expected: text\n"
        f"     do: {MEND}\n"
        "6. test.jsonl: rows with no completion in 'completion' (row 1)\n"
        '     found: " "\n'
        "     expected: text that is more than white space\n"
        f"     do: {MEND}"
    )


@pytest.mark.parametrize(
    ("good", "bad", "reason", "found"),
    [
        ({"messages": TALK}, {"messages": None}, "no messages in 'messages'", "an empty cell"),
        ({"messages": TALK}, {"messages": []}, "no messages in 'messages'", "[]"),
        ({"messages": TALK}, {"messages": "hi"}, "messages that are not a list of objects in 'messages'", '"hi"'),
        ({"messages": TALK}, {"messages": ["hi"]}, "messages that are not a list of objects in 'messages'", '["hi"]'),
        ({"messages": TALK}, {"messages": TALK[0]}, "messages that are not a list of objects in 'messages'",
         '{"role": "user", "content": "hello"}'),
        ({"messages": TALK}, {"messages": '[{"role": "us'}, "messages that are not a list of objects in 'messages'",
         '"[{\\"role\\": \\"us"'),
        ({"messages": TALK}, {"messages": [{"user": "a"}]}, "a message without role and content in 'messages'",
         '{"user": "a"}'),
        ({"messages": TALK}, {"messages": [*ASK, {"role": "assistant"}]},
         "a message without role and content in 'messages'", '{"role": "assistant"}'),
        ({"messages": TALK, "tools": TOOL}, {"messages": TALK, "tools": ["f"]},
         "tools that are not a list of objects in 'tools'", '["f"]'),
        ({"prompt": ASK, "completion": REPLY}, {"prompt": ASK}, "no completion in 'completion'", "an empty cell"),
        ({"prompt": ASK, "completion": REPLY}, {"prompt": "a", "completion": REPLY},
         "a prompt that is not a list of objects in 'prompt'", '"a"'),
        ({"instruction": "a", "salida": "b"}, {"instruction": "a", "salida": "\n"}, "no output in 'salida'", '"\\n"'),
        ({"instruction": "a", "output": "b"}, {"instruction": 1, "output": "b"},
         "an instruction that is a number, a list or an object in 'instruction'", "1"),
        ({"instruction": "a", "input": "c", "output": "b"}, {"instruction": "a", "input": [1], "output": "b"},
         "an input that is a number, a list or an object in 'input'", "[1]"),
        ({"texto": "a"}, {"texto": "  "}, "no text in 'texto'", '"  "'),
        ({"texto": "a"}, {"texto": {"a": 1}}, "a text that is a number, a list or an object in 'texto'", '{"a": 1}'),
    ],
)  # fmt: skip
def test_faults_of_each_form(
    tmp_path: Path, good: dict[str, Any], bad: dict[str, Any], reason: str, found: str
) -> None:
    first, second, *_ = message([good, bad, good, good, bad, good], tmp_path).splitlines()
    assert first == f"the data: rows with {reason} (rows 2, 5)"
    assert second == f"  found: {found}"


def test_drop_leaves_bad_rows_out_and_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*BAD, *make_pairs(20)]) + "{oops\n")
    loaded = load(path, tmp_path / "a", on_bad_rows="drop")
    assert loaded.counts == {
        "read": 27,
        "used": 20,
        "dropped": {
            "rows that are not valid JSON": {"count": 1, "rows": {"all": [27]}},
            "rows with no prompt": {"count": 2, "rows": {"all": [1, 2]}},
            "rows with no completion": {"count": 2, "rows": {"all": [3, 4]}},
            "rows with a prompt that is a number, a list or an object": {"count": 1, "rows": {"all": [5]}},
            "rows with a completion that is a number, a list or an object": {"count": 1, "rows": {"all": [6]}},
        },
    }
    assert loaded.notes[1] == "2 rows dropped: rows with no prompt (rows 1, 2)"
    assert list_rows(loaded) == dict(enumerate(make_pairs(20), 7))
    assert loaded.source == str(path)
    assert load(make_pairs(20), tmp_path / "b").data_hash == loaded.data_hash


def test_structural_problems_come_with_those_of_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("a,b\nx\ny,z\n")
    found = message(path, tmp_path / "spool")
    assert found.startswith("2 problems\n1. a.csv: rows whose number of fields differs from the header's (row 1)\n")
    assert "\n2. a.csv: it is not clear which columns hold what is to be learned\n" in found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"train": make_pairs(20), "test": [{"prompt": "a", "completion": ""}, {"prompt": "", "completion": "b"}]},
         "the data, part 'test': no row can be used\n"
         "  found: 1 row with no completion, 1 row with no prompt\n"
         "  expected: rows with something to learn\n"
         f"  do: {ANY_FLAGS}"),
        ([*make_pairs(7), *BAD],
         "the data: too few rows to train and to test on\n"
         "  found: 7 rows\n"
         "  expected: at least 8 rows, and better some hundreds\n"
         "  do: add rows"),
        ([{"text": "a book"}],
         "the data: too few rows to train and to test on\n"
         "  found: 1 row\n"
         "  expected: at least 8 rows, and better some hundreds\n"
         "  do: add rows; in a .txt what stands between two blank lines is a row, without blank lines each line"),
        ([{**row, "prompt": f"p {i % 2}"} for i, row in enumerate(make_pairs(20))],
         "the data: too few different prompts to train and to test on\n"
         "  found: 2 different prompts in 20 rows\n"
         "  expected: one for each part at least, since rows with the same prompt stay on one side\n"
         "  do: add rows, or give a folder with train.*, validation.* and test.*"),
    ],
)  # fmt: skip
def test_data_that_is_too_little(tmp_path: Path, source: Any, expected: str) -> None:
    assert message(source, tmp_path, on_bad_rows="drop") == expected


def test_fractions_that_leave_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave too little to train on"):
        load(make_pairs(40), tmp_path, validation_fraction=0.4, test_fraction=0.6)


def talk(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        (talk(("system", "s"), ("user", "a"), ("assistant", "b"), ("user", "c")), ("s", "a")),
        (talk(("user", "a"), ("tool", "t"), ("assistant", "b")), ("a", "t")),
        (talk(("assistant", "welcome"), ("user", "a"), ("assistant", "b")), ("welcome", "a")),
        (talk(("system", "s"), ("assistant", "b"), ("assistant", "c")), ("s", "b", "c")),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}, *REPLY]}, ('[{"type":"text"}]',)),
        ({"instruction": "a", "input": "b", "output": "c", "system": "s"}, ("a", "b")),
        ({"prompt": "a", "completion": "b"}, ("a",)),
        ({"text": "a"}, ("a",)),
    ],
)
def test_what_is_asked(row: dict[str, Any], prompt: tuple[str, ...]) -> None:
    assert find_prompt(row) == prompt


def test_equal_prompts_stay_on_one_side(tmp_path: Path) -> None:
    rows = [
        talk(("user", text), ("assistant", f"answer {i} {k}"), ("user", f"again {i} {k}"))
        for i in range(40)
        for k, text in enumerate((f"Question {i}", f"question  {i} "))
    ]
    loaded = load(rows, tmp_path)
    sides = [
        {" ".join(row["messages"][0]["content"].lower().split()) for batch in part.rows() for row in batch}
        for part in loaded.parts.values()
    ]
    assert all(sides)
    assert sum(map(len, sides)) == 40 == len(set.union(*sides))


def test_the_split_follows_the_seed_alone(tmp_path: Path) -> None:
    chosen = [load(make_pairs(60), tmp_path / str(i), seed).parts["test"].row_numbers.tolist()
              for i, seed in enumerate((1, 1, 2))]  # fmt: skip
    assert chosen[0] == chosen[1] != chosen[2]


def test_hash_follows_what_is_trained_on_and_nothing_else(tmp_path: Path) -> None:
    rows = make_pairs(40)
    known = load(rows, tmp_path / "a").data_hash
    renamed = [{"id": 3, "question": row["prompt"], "answer": row["completion"]} for row in rows]
    assert load(renamed, tmp_path / "b", seed=1).data_hash == known
    assert load([*rows[:-1], {**rows[-1], "completion": "other"}], tmp_path / "c").data_hash != known
    assert load([*rows[:-1], {**rows[-1], "prompt": "Prompt 39"}], tmp_path / "d").data_hash != known
    assert load(rows[::-1], tmp_path / "e").data_hash != known
    turns = [talk(("user", f"a {i}"), ("assistant", "b")) for i in range(20)]
    known = load(turns, tmp_path / "f").data_hash
    assert load([{**turns[0], "tools": TOOL}, *turns[1:]], tmp_path / "g").data_hash != known
    assert load([talk(("user", "a 0"), ("tool", "b")), *turns[1:]], tmp_path / "h").data_hash != known


def test_sources_give_the_same_rows(tmp_path: Path) -> None:
    result = {"role": "tool", "content": "t", "name": "f"}
    rows = [
        {**talk(("user", f"ñandú {i}"), ("assistant", f"b {i}")), "tools": TOOL if i % 3 == 0 else None}
        for i in range(30)
    ]
    rows[1]["messages"].insert(1, result)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    # Not by `from_pylist`, which sorted the keys of objects in older versions.
    pq.write_table(read_json(tmp_path / "a.jsonl"), tmp_path / "a.parquet", row_group_size=7)
    (tmp_path / "a.json").write_text(json.dumps(rows))
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["messages", "tools"])
        writer.writerows([json.dumps(row["messages"]), row["tools"] and json.dumps(row["tools"])] for row in rows)
    known = load(rows, tmp_path / "list")
    assert list_rows(known) == dict(enumerate(rows, 1))
    for name in ("a.parquet", "a.jsonl", "a.json", "a.csv"):
        loaded = load(tmp_path / name, tmp_path / name.removeprefix("a."))
        assert list_rows(loaded) == list_rows(known), name
        assert loaded.data_hash == known.data_hash, name


def test_flags_reach_the_columns(tmp_path: Path) -> None:
    rows = [{"a": f"x {i}", "b": "y", "prompt": f"p {i}", "completion": "c"} for i in range(20)]
    flags = {"prompt_column": "a", "completion_column": "b"}
    assert list_rows(load(rows, tmp_path / "a", flags=flags))[1] == {"prompt": "x 0", "completion": "y"}
    assert list_rows(load(rows, tmp_path / "b", text_column="a"))[1] == {"text": "x 0"}


def test_rows_come_in_batches_from_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = load(make_pairs(100), tmp_path).parts["train"]
    taken: list[int] = []
    take = RowTable.take

    def record(table: RowTable, indices: Any, names: Any) -> dict[str, list[Any]]:
        taken.append(len(indices))
        return take(table, indices, names)

    monkeypatch.setattr(RowTable, "take", record)
    batches = part.rows(32)
    assert taken == []
    assert len(next(batches)) == 32
    assert taken == [32]
    assert [len(batch) for batch in batches] == [32, 6]
    assert taken == [32, 32, 6]


@pytest.mark.parametrize("rows", [
    [{"conversations": SHARED, "system": "Be kind."}, {"conversations": SHARED, "system": None}],
    [{"prompt": ASK, "completion": REPLY, "system": "Be kind."}, {"prompt": ASK, "completion": REPLY, "system": ""}],
], ids=["messages", "prompt and completion"])  # fmt: skip
def test_a_column_of_system_messages_stands_first(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    columns = choose(tmp_path / "a", *rows)
    assert columns.names["system"] == "system"
    assert "'system' holds the system message" in columns.reasons[0].reason
    cells = [{role: row[name] for role, name in columns.names.items()} for row in rows]
    system = {"role": "system", "content": "Be kind."}
    first, second = (normalize_row(each, columns) for each in cells)
    assert (first["messages"], second["messages"]) == ([system, *TALK], TALK)
    assert (first.get("prompt_messages"), second.get("prompt_messages")) in ((None, None), (2, 1))


def test_a_system_message_of_its_own_wins(tmp_path: Path) -> None:
    own = [{"role": "system", "content": "Be brief."}, *TALK]
    row = {"messages": own, "system": "Be kind."}
    columns = choose(tmp_path, row)
    assert normalize_row({role: row[name] for role, name in columns.names.items()}, columns)["messages"] == own


def test_earlier_turns_in_a_column_of_their_own_are_said_to_be_unread(tmp_path: Path) -> None:
    columns = choose(tmp_path, {"instruction": "add", "output": "3", "history": [["hi", "hello"]]})
    assert columns.form == "instruction"
    assert columns.reasons[0].reason.endswith("; 'history' isn't read: earlier turns are read as messages")


def test_columns_that_name_parts_are_told(tmp_path: Path) -> None:
    rows = [{**row, "split": ("train", "test")[i % 2]} for i, row in enumerate(make_pairs(20))]
    assert (
        "the column 'split' names parts and isn't read: write each of them as a file of its own"
        in load(rows, tmp_path).notes
    )


def test_a_call_that_is_no_json_is_a_fault(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "a"}, {"from": "function_call", "value": "{"}, {"from": "gpt", "value": "b"}]
    said = message([{"conversations": turns} for _ in range(20)], tmp_path)
    assert "tool calls that aren't a list of" in said
