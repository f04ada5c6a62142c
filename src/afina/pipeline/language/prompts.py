"""What a language model is asked: prompts as tokens, and those that the rows of a file hold.

A row is read as training has read it: the same columns, the same names of speakers, the same template.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from afina.data.batches import PROMPTS_AT_ONCE
from afina.data.cells import holds_surrogate
from afina.data.chat import check_messages, tokenize_open
from afina.data.chat_messages import check_tools
from afina.data.chat_template import ChatFaultError, render, tokenize
from afina.data.column_names import normalize_name
from afina.data.columns import check_columns
from afina.data.conversation_columns import Form, parse_objects
from afina.data.conversation_rows import put_system_first, read_messages, read_text, read_tools
from afina.data.encode_conversations import join_prompt, write_messages
from afina.data.rows import RowTable
from afina.models.vocabulary import check_vocabulary
from afina.pipeline.renamed_columns import map_flags
from afina.wording import count

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

Prompt = str | Sequence[Mapping[str, Any]]
# Roles of the columns that an answer needs, and of those that may stand beside them.
ASKING = ("messages", "prompt", "instruction", "text")
BESIDE = ("input", "system")
USUAL_PROMPTS = ("prompt", "messages", "instruction", "question", "text", "pregunta", "consulta", "texto")

NO_TEMPLATE = "messages, for a model without a chat template"
EMPTY_PROMPT = "an empty prompt"
UNWRITTEN = "a prompt of which the chat template writes nothing"
TOO_LONG = "a prompt that leaves no room for an answer"
HALF_PAIR = "half of a surrogate pair, or bytes that are not UTF-8"


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, tools: Any = None, *, has_template: bool
) -> list[int]:
    """The prompt's tokens, up to where the answer begins.

    Raises:
        ChatFaultError: if the prompt is no text and no messages, or the template refuses it.
    """
    if has_template:
        messages = check_messages([{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt)
        text = render(tokenizer, messages, check_tools(tools), add_generation_prompt=True)
        check_unicode(text, prompt)
        (ids,) = tokenize(tokenizer, [text])
        return ids
    if not isinstance(prompt, str):
        raise ChatFaultError(NO_TEMPLATE, str(prompt)[:60])
    check_unicode(prompt, prompt)
    ids = tokenize_open(tokenizer, prompt)
    if not ids:
        raise ChatFaultError(EMPTY_PROMPT)
    return ids


def check_unicode(text: str, prompt: Prompt) -> None:
    """Refuse a prompt whose text no tokenizer takes."""
    if holds_surrogate(text):
        raise ChatFaultError(HALF_PAIR, str(prompt)[:60])


@dataclass(frozen=True)
class PromptReader:
    """Finds what the rows of a file ask."""

    form: Form
    columns: Mapping[str, str]
    """Role -> name of the column, see `ConversationColumns`."""
    has_template: bool

    def fit_to(self, table: RowTable) -> PromptReader:
        """The reader for a table: of the columns that were learned from, else of one with a usual name.

        Raises:
            DataError: if there is none.
        """
        learned = [name for role, name in self.columns.items() if role in ASKING]
        if all(name in table.kinds for name in learned):
            return self
        by_normal = {normalize_name(name): name for name in table.names}
        usual = [by_normal[name] for name in USUAL_PROMPTS if name in by_normal]
        if usual and len(learned) == 1:
            role = next(role for role in self.columns if role in ASKING)
            if self.has_template and normalize_name(usual[0]) == "messages":
                return PromptReader("messages", {"messages": usual[0]}, has_template=True)
            return PromptReader(self.form, {role: usual[0]}, self.has_template)
        check_columns(table, learned, map_flags({"columns": self.columns}))
        return self

    def read(self, row: Mapping[str, Any]) -> tuple[Prompt, Any] | None:
        """What a row asks and the tools for it; None where it asks nothing.

        Raises:
            ConversationFaultError: for cells that hold something else.
        """
        cells = {role: row.get(name) for role, name in self.columns.items()}
        asked = next(role for role in cells if role in ASKING)
        value = cells[asked]
        if value is None or value == [] or (isinstance(value, str) and not value.strip()):
            return None
        if self.form == "messages":
            prompt = read_question(value)
            if prompt and cells.get("system"):
                turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
                prompt = put_system_first(turns, cells["system"])
            return (prompt, read_tools(cells.get("tools"))) if prompt else None
        texts = {role: read_text(role, cells.get(role)) for role in (asked, *BESIDE) if role in cells}
        return self.join(texts), None

    def join(self, texts: Mapping[str, str]) -> Prompt:
        """One prompt of the texts of a row, as training has joined them."""
        if "text" in texts:
            return texts["text"]
        row = {**texts, "completion": "", "output": ""}
        return write_messages(row)[:-1] if self.has_template else join_prompt(row)[0]


@dataclass(frozen=True)
class PromptEncoder:
    """Makes tokens of prompts, as training has made them."""

    tokenizer: PreTrainedTokenizerBase
    reader: PromptReader
    context_length: int
    """Tokens that prompt and answer may have together."""
    vectors: int
    """Tokens that the model has a vector for."""

    def encode(self, prompt: Prompt, tools: Any = None) -> list[int]:
        """The prompt's tokens, up to where the answer begins.

        Raises:
            ChatFaultError: if the prompt is no text and no messages, is too long, or the template refuses it.
            ModelError: if the tokenizer isn't the model's.
        """
        ids = encode_prompt(self.tokenizer, prompt, tools, has_template=self.reader.has_template)
        if not ids:
            raise ChatFaultError(UNWRITTEN)
        if len(ids) >= self.context_length:
            raise ChatFaultError(
                TOO_LONG, f"{len(ids):,} tokens, and the model takes {self.context_length:,} with the answer"
            )
        check_vocabulary(ids, self.vectors, self.tokenizer.name_or_path)
        return ids


def find_context_length(text_config: PretrainedConfig) -> int:
    """Tokens that prompt and answer may have together."""
    return int(getattr(text_config, "max_position_embeddings", None) or sys.maxsize)


def describe_cut(answers: int, context_length: int, where: str) -> str:
    """What is said of answers that the model's window ended."""
    return f"{count(answers, 'answer')} ended where the model's window of {context_length:,} tokens ends ({where})"


def plan_batches(lengths: Sequence[int], context_length: int, max_new_tokens: int) -> list[list[int]]:
    """Places of the prompts of each batch, the longest first: prompts of like length need little padding.

    Those of a batch have the same room for an answer, so none is cut off by a longer prompt beside it.

    Args:
        lengths: of the prompts in tokens.
        context_length: tokens that prompt and answer may have together.
    """

    def find_room(place: int) -> int:
        return min(max_new_tokens, context_length - lengths[place])

    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    alike = (list(places) for _, places in itertools.groupby(order, find_room))
    return [
        places[start : start + PROMPTS_AT_ONCE] for places in alike for start in range(0, len(places), PROMPTS_AT_ONCE)
    ]


def read_question(value: Any) -> Prompt:
    """The messages of a cell without the last answers, or a plain text, which is one turn of the user's."""
    if isinstance(value, str) and parse_objects(value, is_json=True) is None:
        return value
    messages = read_messages("messages", value)
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    return messages
