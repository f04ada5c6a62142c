"""Which form rows for a language model have, and which columns hold their parts.

What the user names wins. Otherwise names decide, in English and Spanish, and contents are checked: columns of
messages win over an instruction or a prompt with its answer, these over plain text. The training part
decides, and the other parts must have the same columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from afina.config.reason import Reason
from afina.data.column_names import LABEL_TIERS, normalize_name
from afina.data.column_profile import ColumnProfile, choose_spread, profile_columns
from afina.data.columns import COLUMNS_SHOWN, check_parts, find_nearest, find_nested, list_names
from afina.data.conversation_names import (
    ANSWERS,
    ASKED,
    BESIDE,
    EARLIER,
    INSTRUCTIONS,
    MESSAGES,
    RARE_ANSWERS,
    RARE_TEXTS,
    RARELY_ASKED,
    TEXTS,
    TOOLS,
)
from afina.data.header import add_hint
from afina.data.rows import RowTable
from afina.errors import DataError, Problem
from afina.wording import quote_name

Form = Literal["messages", "completion", "instruction", "text"]
Content = Literal["objects", "text", "values", "nothing"]
"""`objects`: lists of messages; `values`: numbers, objects and other things that JSON has and that are no text."""

OPTIONAL = frozenset({"tools", "input", "system"})

# What the columns named by flags may hold, and which flags go together.
ALLOWED = {
    "messages": ("objects",),
    "prompt": ("objects", "text"),
    "completion": ("objects", "text", "values"),
    "text": ("text",),
}
TOGETHER = ({"messages"}, {"prompt", "completion"}, {"text"})
MESSAGES_EXPECTED = 'lists such as [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
ANY_FLAGS = "--messages-column NAME, or --prompt-column NAME with --completion-column NAME, or --text-column NAME"


@dataclass(frozen=True)
class ConversationColumns:
    """The form of the rows, and the columns that hold their parts."""

    form: Form
    names: dict[str, str]
    """Role of the column -> its name in the file.

    messages: messages, or prompt and completion where these hold lists of messages; maybe tools and system.
    completion: prompt, completion. instruction: instruction, output, maybe input and system. text: text.
    """
    reasons: tuple[Reason, ...] = ()
    has_values: bool = False
    """Whether the answers are numbers, objects or lists, which are learned as JSON writes them."""


def choose_conversation_columns(
    tables: Mapping[str, RowTable],
    *,
    prompt_column: str | None = None,
    completion_column: str | None = None,
    messages_column: str | None = None,
    text_column: str | None = None,
) -> ConversationColumns:
    """The choice for all parts. DataError where a named column is missing or of no use, or where nothing fits."""
    table = tables["all"] if "all" in tables else tables["train"]
    given = {"messages": messages_column, "prompt": prompt_column, "completion": completion_column, "text": text_column}
    flagged = {role: name for role, name in given.items() if name}
    guess = _Guess(table)
    try:
        columns = _use_flags(guess, flagged) if flagged else _use_names(guess)
    except DataError as error:
        raise add_hint(error, table) from None
    check_parts(tables, [name for role, name in columns.names.items() if role not in OPTIONAL])
    return columns


def holds_values(table: RowTable, name: str) -> bool:
    """Whether a column of answers holds what is learned as JSON writes it."""
    return _Guess(table).content(name) == "values"


def looks_like_preferences(table: RowTable, *, writes: bool = False) -> bool:
    """Whether each row has a better and a worse answer, or for a model that writes, an answer marked as good or bad."""
    guess = _Guess(table)
    return guess.are_preferences if writes else {"chosen", "rejected"} <= guess.by_normal.keys()


def looks_like_conversations(table: RowTable, *, writes: bool = False) -> bool:
    """Whether columns of messages, or of prompts and answers, are there: enough to guess the task.

    False for plain texts alone, which may have lost their labels, and for preference data. A column named like
    a label, or answers that are few and repeat (`yes`, `no`), may as well be for a classifier: there only
    messages and instructions are sure.

    Args:
        writes: whether the model is a language model: then a label beside prompts and answers says what they are about.
    """
    guess = _Guess(table)
    if guess.are_preferences or guess.message_names():
        return not guess.are_preferences
    found = guess.answered()
    if found is None or found.form == "messages":
        return found is not None
    asked, answer = (name for role, name in found.names.items() if role not in OPTIONAL)
    if normalize_name(asked) in INSTRUCTIONS:
        return True
    profiles = profile_columns(table)
    others = [profile for name, profile in profiles.items() if name not in found.names.values()]
    if not writes and any(map(is_named_as_label, others)):
        return False
    if guess.content(answer) == "values":  # for a model that reads, a number to predict unless its name forbids it
        return writes or (normalize_name(asked), normalize_name(answer)) == ("prompt", "completion")
    is_sure = normalize_name(asked) == "prompt" and normalize_name(answer) in ANSWERS
    return is_sure or not profiles[answer].is_label_like


def holds_labels(table: RowTable) -> bool:
    """Whether a column has a usual name of labels, few values that repeat, or numbers to predict."""
    profiles = profile_columns(table).values()
    return any(is_named_as_label(each) or each.is_label_like or each.is_target for each in profiles)


def is_named_as_label(profile: ColumnProfile) -> bool:
    """Whether a column with something in it has a usual name of labels."""
    usual = {name for tier in LABEL_TIERS for name in tier}
    return bool(profile.filled_count) and normalize_name(profile.name) in usual


def parse_objects(value: Any, *, is_json: bool) -> list[dict[str, Any]] | None:
    """The list of objects that a cell holds, or spells as JSON in a file without lists such as csv; else None."""
    if is_json and isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    return value if isinstance(value, list) and all(isinstance(item, dict) for item in value) else None


class _Guess:
    """What the names of one table and the contents of some of its rows speak for."""

    def __init__(self, table: RowTable) -> None:
        self.table = table
        self.by_normal = {normalize_name(name): name for name in table.names}

    def message_names(self) -> list[str]:
        """Columns that by name and content hold messages, all equally good."""
        tiers = [
            [name for name in self.present(tier) if self.content(name, is_json=True) == "objects"] for tier in MESSAGES
        ]
        return next(filter(None, tiers), [])

    def messages(self) -> ConversationColumns | None:
        found = self.message_names()
        if len(found) > 1:
            raise DataError(
                f"{self.table.source}: it is not clear which column holds the messages",
                found=f"several that it may be: {', '.join(found)}",
                remedy=f"--messages-column {found[0]} or --messages-column {found[1]}",
            )
        reason = "{!r} is a usual name for them, and it holds lists of objects"
        return self.with_tools({"messages": found[0]}, reason.format(found[0])) if found else None

    def answered(self) -> ConversationColumns | None:
        """The columns of what is asked and what is answered, and those beside them."""
        pairs = ((name, self.answer_of(name)) for name in self.present(ASKED))
        asked, answer = next((pair for pair in pairs if pair[1]), ("", None))
        if answer is None:
            asked, answer = self.rare_pair()
        if answer is None:
            return None
        reason = f"{asked!r} and {answer!r} are usual names for a prompt and its answer"
        if self.content(asked) == "objects":
            return self.with_tools({"prompt": asked, "completion": answer}, f"{reason}, and hold lists of objects")
        beside = {}
        for role, usual in BESIDE.items():
            others = [name for name in self.present(usual) if name not in (asked, answer)]
            beside[role] = next((name for name in others if self.content(name) == "text"), "")
        if not any(beside.values()) and normalize_name(asked) not in INSTRUCTIONS:
            return self.answered_by(answer, "completion", {"prompt": asked, "completion": answer}, reason)
        names = {role: name for role, name in {"instruction": asked, **beside, "output": answer}.items() if name}
        roles = ", ".join(f"{name!r} is the {role}" for role, name in names.items())
        roles += "".join(f"; {name!r} isn't read: earlier turns are read as messages" for name in self.present(EARLIER))
        return self.answered_by(answer, "instruction", names, f"by name, {roles}")

    def answer_of(self, asked: str) -> str | None:
        """The column that answers `asked`, with the same kind of content; a text may have values as its answers."""
        content = self.content(asked)
        usual = dict.fromkeys([ASKED[normalize_name(asked)], *ANSWERS])
        found = {name: self.content(name) for name in self.present(usual) if name != asked}
        kinds = {"text": ("text",) if self.present(TEXTS) else ("text", "values"), "objects": ("objects",)}
        return next((name for kind in kinds.get(content, ()) for name in found if found[name] == kind), None)

    def answered_by(self, answer: str, form: Form, names: dict[str, str], reason: str) -> ConversationColumns:
        """The columns, with a word on answers that are no texts."""
        if self.content(answer) != "values":
            return _explain(form, names, reason)
        said = f"{reason}; what {answer!r} holds is learned as JSON writes it"
        return replace(_explain(form, names, said), has_values=True)

    def rare_pair(self) -> tuple[str, str | None]:
        """Two columns of texts whose names may stand for what is asked and answered, where none is called a text."""
        if self.present(TEXTS):
            return "", None
        profiles = profile_columns(self.table)
        asked_by = {**RARELY_ASKED, **ASKED}
        for asked in self.present(asked_by):
            usual = dict.fromkeys([asked_by[normalize_name(asked)], *ANSWERS, *RARE_ANSWERS])
            answer = next((name for name in self.present(usual) if name != asked and profiles[name].is_text), None)
            if answer and profiles[asked].is_text and not profiles[asked].is_label_like:
                return asked, answer
        return "", None

    def text(self) -> ConversationColumns | None:
        others = "no columns of prompts and answers are there"
        profiles = profile_columns(self.table)
        texts = [name for name, profile in profiles.items() if profile.is_text]
        found = next((name for name in self.present(TEXTS) if self.content(name) == "text"), None)
        if not found and texts:
            longest = max(texts, key=lambda name: profiles[name].mean_characters)
            found = longest if normalize_name(longest) in RARE_TEXTS else None
        if found:
            return _explain("text", {"text": found}, f"{found!r} is a usual name for it, and {others}")
        # What is asked, without a column of texts that answer it, isn't all that is to be learned.
        if len(texts) != 1 or normalize_name(texts[0]) in (*ASKED, *sum(MESSAGES, ())):
            return None
        return _explain("text", {"text": texts[0]}, f"{texts[0]!r} is the only column of text, and {others}")

    def with_tools(self, names: dict[str, str], reason: str = "") -> ConversationColumns:
        """The form `messages`, with the columns of the tools and of the system message if there are any."""
        system = next((name for name in self.present(BESIDE["system"]) if self.content(name) == "text"), None)
        if system and system not in names.values():
            names = {**names, "system": system}
            reason = f"{reason}{reason and '; '}{system!r} holds the system message"
        tools = next((name for name in self.present(TOOLS) if self.holds_tools(name)), None)
        if tools:
            names, reason = {**names, "tools": tools}, f"{reason}{reason and '; '}{tools!r} holds the tools"
        return _explain("messages", names, reason) if reason else ConversationColumns("messages", names)

    def holds_tools(self, name: str) -> bool:
        """Whether most filled cells are lists of objects. All rows are asked: those with tools may be few."""
        are_objects = [
            parse_objects(value, is_json=True) is not None
            for value in self.table.column(name)
            if value not in (None, "")
        ]
        return 2 * sum(are_objects) > len(are_objects)

    @property
    def are_preferences(self) -> bool:
        """Whether the rows have a better and a worse answer, or answers marked as good or bad."""
        if "chosen" in self.by_normal and "rejected" in self.by_normal:
            return True
        marked = {"prompt", "completion", "label"} <= self.by_normal.keys()
        return marked and profile_columns(self.table)[self.by_normal["label"]].shape == "true or false"

    def present(self, usual: Iterable[str]) -> list[str]:
        """The columns that have one of these normalised names, in the order of these."""
        return [self.by_normal[normal] for normal in usual if normal in self.by_normal]

    def content(self, name: str, *, is_json: bool = False) -> Content:
        """What most filled cells of a column hold, in rows spread evenly over the table."""
        spread = choose_spread(self.table.row_count)
        filled = [value for value in self.table.take(spread, [name])[name] if value is not None and value != ""]
        if 2 * sum(parse_objects(value, is_json=is_json) is not None for value in filled) > len(filled):
            return "objects"
        if 2 * sum(isinstance(value, str) for value in filled) > len(filled):
            return "text"
        return "values" if filled else "nothing"


def _explain(form: Form, names: dict[str, str], reason: str) -> ConversationColumns:
    return ConversationColumns(form, names, (Reason("form of the rows", form, reason),))


def _use_names(guess: _Guess) -> ConversationColumns:
    if guess.are_preferences:
        raise _refuse_preferences(guess)
    found = guess.messages() or guess.answered() or guess.text()
    if found:
        return found
    profiles = list(profile_columns(guess.table).values())
    more = f"; and {len(profiles) - COLUMNS_SHOWN:,} more" if len(profiles) > COLUMNS_SHOWN else ""
    raise DataError(
        f"{guess.table.source}: it is not clear which columns hold what is to be learned",
        found=f"columns: {'; '.join(map(str, profiles[:COLUMNS_SHOWN]))}{more}",
        expected="messages; or prompt and completion; or instruction, maybe input, and output; or text",
        remedy=_mend_shape(guess, profiles),
    )


def _mend_shape(guess: _Guess, profiles: Sequence[ColumnProfile]) -> str:
    """What to write where no flag helps, since texts lie deeper than in cells; else the flags."""
    nested = find_nested(guess.table, profiles)
    if nested:
        return nested
    spelled = next((each for each in profiles if each.example.startswith('"[{')), None)
    if spelled:
        return f"write the lists in {spelled.name!r} as JSON, as json.dumps does"
    deep = next((each for each in profiles if each.shape in ("objects", "lists")), None)
    if deep is None or sum(each.is_text for each in profiles) > 1:
        return ANY_FLAGS
    wanted = "columns of their own, such as prompt and completion" if deep.shape == "objects" else MESSAGES_EXPECTED
    return f"write what stands under {deep.name!r} as {wanted}"


def _refuse_preferences(guess: _Guess) -> DataError:
    """The error for preference data, with flags that take one answer of each row."""
    answer, mark = [*guess.present(["chosen", "rejected"]), *guess.present(["completion", "label"])][:2]
    asked, messages = guess.present(["prompt", "question", "instruction"]), guess.present(MESSAGES[0])
    flags = f"--messages-column {[*messages, answer][0]}"
    if asked and not messages:
        flags = f"--prompt-column {asked[0]} --completion-column {answer}"
    elif not messages and guess.content(answer, is_json=True) == "text":
        flags = f"--text-column {answer}"
    are_marked = normalize_name(mark) == "label"
    return DataError(
        f"{guess.table.source}: this is preference data, which is not for the task text-generation",
        found=f"the columns {answer!r} and {mark!r}",
        expected="one answer a row, the right one",
        remedy=f"keep the rows whose {mark!r} is true, and {flags}" if are_marked
        else f"{flags}, to learn from these answers alone",
    )  # fmt: skip


def _use_flags(guess: _Guess, flagged: dict[str, str]) -> ConversationColumns:
    _check_flags(guess.table, flagged)
    contents = {role: guess.content(name, is_json=role == "messages") for role, name in flagged.items()}
    wrong = [role for role in flagged if contents[role] not in ALLOWED[role]]
    if not wrong and "objects" in contents.values() and len(set(contents.values())) > 1:
        wrong = list(flagged)
    if wrong:
        raise DataError(problems=[_wrong_content(guess.table, role, flagged[role]) for role in wrong])
    if contents.get("completion") == "values":
        return guess.answered_by(flagged["completion"], "completion", flagged, "prompts and completions are named")
    if "objects" not in contents.values():
        return ConversationColumns("text" if "text" in flagged else "completion", flagged)
    held = " and ".join(map(repr, flagged.values()))
    return guess.with_tools(flagged, "" if "messages" in flagged else f"{held} hold lists of objects")


def _check_flags(table: RowTable, flagged: dict[str, str]) -> None:
    """DataError where columns are missing, or where flags don't make up one form."""
    problems = []
    if flagged.keys() not in TOGETHER or len(set(flagged.values())) < len(flagged):
        given = ", ".join(f"--{role}-column {quote_name(name)}" for role, name in flagged.items())
        what, expected = "the flags don't say what a row is made of", "flags for the columns of one form"
        problems.append(Problem(what, given, expected, ANY_FLAGS))
    for role, name in flagged.items():
        if name not in table.kinds:
            near = find_nearest(name, table.names)
            found = f"columns: {list_names(table.names)}" + (f"; the nearest name is {near!r}" if near else "")
            remedy = f"--{role}-column {near or 'NAME'}"
            problems.append(Problem(f"{table.source} has no column {name!r}", found, f"a column {name!r}", remedy))
    if problems:
        raise DataError(problems=problems)


def _wrong_content(table: RowTable, role: str, name: str) -> Problem:
    profile = profile_columns(table)[name]
    both = "text in both columns, or lists of messages in both"
    return Problem(
        f"{table.source}: the {role} column {name!r} holds {profile.shape}",
        f"values such as {profile.example}" if profile.filled_count else "empty cells",
        {"text": "text", "messages": MESSAGES_EXPECTED}.get(role, both),
        f"--{role}-column NAME, one of: {list_names(table.names)}",
    )
