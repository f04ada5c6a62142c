"""Conversations as token arrays, with a mark on each token that is learned, and a tally of what happened on the way.

Letters: N rows, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from afina.data.bad_rows import MEND, RowNumbers
from afina.data.chat import (
    LOST_CALLS,
    ChatFaultError,
    TrainedTokens,
    encode_completion,
    encode_conversation,
    encode_messages,
    encode_plain,
)
from afina.data.chat_template import (
    LOST_ANSWER,
    MERGED,
    OTHER_PROMPT,
    REFUSED,
    REWRITTEN,
    find_special_strings,
    spell_turn_ends,
)
from afina.data.conversations import ConversationPart
from afina.data.encode import TokenArrays, map_file
from afina.data.text_windows import cut_windows
from afina.errors import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Indices = npt.NDArray[np.int64]
KEPT_SHARE = 0.99
TEMPLATE_FAULTS = (REFUSED, REWRITTEN, OTHER_PROMPT, MERGED, LOST_ANSWER)
STRANGE = "texts that spell a special token of the model"
ENDED_EARLY = "an answer that spells the token that ends it"


@dataclass(frozen=True)
class TrainedRows:
    """N rows of tokens; which of them are learned; where each row came from."""

    name: str
    tokens: TokenArrays
    loss_mask: npt.NDArray[np.uint8]
    """1 for each token of `tokens.ids` that the model learns to say, never for the first of a row."""
    row_numbers: Indices
    """Rising; the rows of a conversation that was split, or of a long text, have the same number."""

    def __len__(self) -> int:
        return len(self.tokens)

    def row_loss_mask(self, row: int) -> npt.NDArray[np.uint8]:
        """The marks of one row, shape (T,)."""
        return self.loss_mask[self.tokens.offsets[row] : self.tokens.offsets[row + 1]]

    @property
    def row_count(self) -> int:
        """Rows of the user's file."""
        return len(np.unique(self.row_numbers))

    @property
    def trained_counts(self) -> Indices:
        """Tokens that are learned in each row, shape (N,)."""
        sums = np.concatenate([[0], np.cumsum(self.loss_mask, dtype=np.int64)])
        return sums[self.tokens.offsets[1:]] - sums[self.tokens.offsets[:-1]]


@dataclass
class Tally:
    """What became of the rows of one part, by their numbers in the user's file."""

    rows: int = 0
    """How many there are."""
    faults: dict[str, RowNumbers] = field(default_factory=dict)
    """Rows that can't be used, by reason."""
    details: dict[str, str] = field(default_factory=dict)
    """What was found in the first row of each fault."""
    untrained: RowNumbers = field(default_factory=RowNumbers)
    """Rows without a token to learn, left out."""
    notes: dict[str, RowNumbers] = field(default_factory=dict)
    """Rows that are odd, but used."""
    split: RowNumbers = field(default_factory=RowNumbers)
    """Conversations that became a row for each answer."""
    split_into: int = 0
    """How many rows these are."""
    windowed: RowNumbers = field(default_factory=RowNumbers)
    """Plain texts that are learned in several windows."""
    windows: int = 0
    """How many windows these are."""
    lengths: list[int] = field(default_factory=list)
    """Tokens of each usable row before it was cut."""
    cut_rows: int = 0
    cut_tokens: int = 0
    cut_trained: int = 0
    whole_trained: int = 0
    """Tokens to learn before rows were cut."""

    def find_length(self) -> int:
        """The least length that keeps `KEPT_SHARE` of the rows whole."""
        return int(np.quantile(self.lengths, KEPT_SHARE, method="higher")) if self.lengths else 0


def list_faults(tallies: Mapping[str, Tally], sources: Mapping[str, str]) -> list[Problem]:
    """The faults as an error lists them, each once for parts that were carved out of one file.

    Args:
        sources: names of the parts' files.
    """
    found: dict[tuple[str, str], list[Tally]] = {}
    for name, tally in tallies.items():
        for reason in tally.faults:
            found.setdefault((sources[name], reason), []).append(tally)
    problems = []
    for (source, reason), those in found.items():
        numbers = sorted(number for tally in those for number in tally.faults[reason])
        rows = RowNumbers(numbers, sum(len(tally.faults[reason]) for tally in those))
        remedy = choose_remedy(reason, is_all=hits_all(reason, tallies.values()))
        problems.append(Problem(f"{source}: rows with {reason}", those[0].details[reason], "", remedy, rows))
    return problems


def hits_all(reason: str, tallies: Iterable[Tally]) -> bool:
    """Whether no row is without a fault."""
    return all(len(tally.faults.get(reason, ())) == tally.rows for tally in tallies)


def choose_remedy(reason: str, *, is_all: bool) -> str:
    """What to write against a fault: where all rows have it, it is the template's, or there are none to keep."""
    if not is_all:
        return MEND
    if reason == LOST_CALLS:
        return "--chat-template chatml, or --chat-template PATH of another Jinja file that writes tool calls"
    if reason == OTHER_PROMPT:
        return (
            "--chat-template PATH of a copy of it whose prompt ends where its answers begin, or --chat-template chatml"
        )
    if reason in TEMPLATE_FAULTS:
        return "--chat-template PATH of a Jinja file that takes them, or --chat-template chatml"
    return "mend these rows"


@dataclass(frozen=True)
class Encoding:
    """How rows become tokens."""

    has_template: bool
    """Whether prompts and answers are put into the tokenizer's chat template."""
    train_on: str
    """See `DataConfig.train_on`."""
    max_seq_length: int


def encode_conversations(
    part: ConversationPart, tokenizer: PreTrainedTokenizerBase, encoding: Encoding, folder: Path
) -> tuple[TrainedRows, Tally]:
    """The part's token arrays, written to `folder` while they are made, and what happened on the way."""
    folder.mkdir(parents=True, exist_ok=True)
    tally, lengths, numbers = Tally(), [0], []
    with open(folder / "ids.i32", "wb") as ids_file, open(folder / "trained.u8", "wb") as marks_file:
        for number, row in number_rows(part):
            tally.rows += 1
            for ids, marks in encode_row(row, tokenizer, encoding, number, tally):
                ids_file.write(np.asarray(ids, np.int32).tobytes())
                marks_file.write(np.asarray(marks, np.uint8).tobytes())
                lengths.append(len(ids))
                numbers.append(number)
    ids_T, offsets_N = map_file(folder / "ids.i32", np.int32), np.cumsum(lengths, dtype=np.int64)
    tokens = TokenArrays(ids_T, offsets_N, None, tally.cut_rows, tally.cut_tokens)
    marks_T = map_file(folder / "trained.u8", np.uint8)
    return TrainedRows(part.name, tokens, marks_T, np.asarray(numbers, np.int64)), tally


def number_rows(part: ConversationPart) -> Iterator[tuple[int, dict[str, Any]]]:
    """The part's rows, each with its number in the user's file."""
    rows = (row for batch in part.rows() for row in batch)
    yield from zip((int(number) for number in part.row_numbers), rows, strict=True)


def encode_row(
    row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, encoding: Encoding, number: int, tally: Tally
) -> list[tuple[list[int], list[int]]]:
    """Tokens and marks of what one row gives after the cut; nothing, and a line in the tally, where it is of no use."""
    try:
        found = tokenize_row(row, tokenizer, encoding)
    except ChatFaultError as fault:
        tally.details.setdefault(str(fault), fault.detail)
        tally.faults.setdefault(str(fault), RowNumbers()).add(number)
        return []
    if len(found) > 1:
        tally.split.add(number)
        tally.split_into += len(found)
    strange = [STRANGE] if spells_special_token(row, tokenizer) else []
    strange += [ENDED_EARLY] if ends_early(row, tokenizer) else []
    for note in dict.fromkeys([*(note for each in found for note in each.notes), *strange]):
        tally.notes.setdefault(note, RowNumbers()).add(number)
    if "text" in row:
        rows = cut_text(found[0], encoding, number, tally)
    else:
        rows = [cut_row(each, encoding, tally) for each in found]
    rows = [(ids, marks) for ids, marks in rows if any(marks)]
    if not rows:
        tally.untrained.add(number)
    return rows


def cut_text(found: TrainedTokens, encoding: Encoding, number: int, tally: Tally) -> list[tuple[list[int], list[int]]]:
    """Tokens and marks of a plain text, of which nothing is lost: a longer one becomes several windows."""
    windows = list(cut_windows(found.ids, encoding.max_seq_length, has_start=not found.loss_mask[0]))
    tally.lengths.append(len(found.ids))
    tally.whole_trained += sum(sum(marks) for _, marks in windows)
    if len(windows) > 1:
        tally.windowed.add(number)
        tally.windows += len(windows)
    return windows


def cut_row(found: TrainedTokens, encoding: Encoding, tally: Tally) -> tuple[list[int], list[int]]:
    """Tokens and marks up to the longest length; what is lost goes into the tally."""
    most, ids, marks = encoding.max_seq_length, found.ids, make_loss_mask(found, encoding.train_on)
    tally.lengths.append(len(ids))
    tally.whole_trained += sum(marks)
    tally.cut_rows += len(ids) > most
    tally.cut_tokens += max(0, len(ids) - most)
    tally.cut_trained += sum(marks[most:])
    return ids[:most], marks[:most]


def make_loss_mask(found: TrainedTokens, train_on: str) -> list[int]:
    """The marks, none of them on the first token, which nothing predicts."""
    marks = [1] * len(found.ids) if train_on == "all" else list(found.loss_mask)
    return [0, *marks[1:]]


def tokenize_row(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase, encoding: Encoding) -> list[TrainedTokens]:
    """Tokens and mask of a row of any form; several where a conversation had to be split.

    Raises:
        ChatFaultError: if the row can't be used.
    """
    if "text" in row:
        return [encode_plain(tokenizer, row["text"])]
    if "messages" not in row and not encoding.has_template:
        prompt, answer = join_prompt(row)
        return [encode_completion(tokenizer, prompt, answer)]
    messages, tools, prompt_messages = write_messages(row), row.get("tools"), row.get("prompt_messages", 0)
    if encoding.train_on == "assistant":
        return encode_conversation(tokenizer, messages, tools, prompt_messages=prompt_messages)
    last_only = encoding.train_on == "last"
    return [
        encode_messages(tokenizer, messages, tools, prompt_messages=prompt_messages, last_turn_only=last_only)
    ]  # with all tokens learned, rows that repeat their beginnings would teach these several times


def write_messages(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The row as messages: those it has, or what is asked as the user's and what is answered as the assistant's."""
    if "messages" in row:
        return list(row["messages"])
    prompt, answer = (row["prompt"], row["completion"]) if "prompt" in row else (ask(row), row["output"])
    system = [{"role": "system", "content": row["system"]}] if row.get("system") else []
    return [*system, {"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]


def ask(row: dict[str, Any]) -> str:
    """An instruction and its input in one text."""
    return "\n\n".join(part for part in (row["instruction"], row.get("input")) if part)


def join_prompt(row: dict[str, Any]) -> tuple[str, str]:
    """Prompt and answer as plain text; an instruction ends with a line's end, so that the answer begins a new one."""
    if "prompt" in row:
        return row["prompt"], row["completion"]
    return "\n\n".join(part for part in (row.get("system"), ask(row)) if part) + "\n", row["output"]


def ends_early(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the text of an answer goes on after an end of turn that stands in it."""
    if "messages" in row:
        answers = [message.get("content") for message in row["messages"] if message.get("role") == "assistant"]
    else:
        answers = [row.get(key) for key in ("completion", "output")]
    texts = [text.rstrip() for text in answers if isinstance(text, str)]
    return any(end in text.removesuffix(end) for end in spell_turn_ends(tokenizer) for text in texts)


def spells_special_token(row: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a text of the row that isn't the assistant's holds the string of a special token."""
    if "messages" in row:
        texts = [message.get("content") for message in row["messages"] if message.get("role") != "assistant"]
    else:
        texts = [row.get(key) for key in ("prompt", "instruction", "input", "system", "text")]
    return any(find_special_strings(text, tokenizer) for text in texts if isinstance(text, str))
