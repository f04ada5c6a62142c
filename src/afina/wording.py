"""One message for two readers: written for the command line, spelled anew for whoever calls from Python.

Messages name flags (`--label-column NAME`) and verbs (`afina resume PATH`). A call from Python takes keywords and
functions instead, whose names follow from these: so they are translated where a message leaves the library, and each
message is written once.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator

FUNCTIONS = {
    "train": "fit", "resume": "resume", "evaluate": "evaluate", "predict": "predict", "chat": "open_chat",
    "check": "check", "plan": "plan", "compare": "compare", "runs": "list_runs", "merge": "merge", "search": "search",
    "reproduce": "reproduce",
}  # fmt: skip
# Values that are plain words: without them a word after a flag belongs to the sentence, as in "--fix keeps the first".
WORDS = (
    "feature-extraction", "full", "lora", "qlora", "auto", "text-classification", "text-regression",
    "text-generation", "token-classification", "chatml", "none", "balanced", "cpu", "cuda", "mps", "config", "device",
    "model", "versions", "drop", "fail", "warn", "fp32", "bf16", "true", "false",
)  # fmt: skip
PLACEHOLDER = r"[A-Z][A-Z_]*(?:/[A-Z_]+)*\b(?![a-z])"
QUOTED = r"\"[^\"]*\"|'[^']*'|\[[^\]]*\]"
NUMBER = r"\d[\w.]*\w|\d"
PATH = r"[\w~.-]*/[^\s,;:()]*[^\s,;:().]"
WORD = rf"(?:{'|'.join(WORDS)})(?:,(?:{'|'.join(WORDS)}))*(?![\w-])"
VALUE = rf"{QUOTED}|{PLACEHOLDER}|{NUMBER}|{PATH}|{WORD}"
SETTING = re.compile(r"--set ([a-z_]+\.)?([A-Za-z_]+)(?:=(\{[^}]*\}|[^\s,;:()]*[^\s,;:().]))?")
METRIC = re.compile(r"--metric ([a-z]\w*[_\d]\w*|accuracy|loss|rmse|mae|f1)\b")
COLUMN = re.compile(r"--([a-z-]+-column) (?!for\b|with\b|or\b|and\b|takes\b)(\w(?:[\w-]*\w)?)")
FLAG = re.compile(rf"--([a-z][a-z-]*[a-z])(?:[ =]({VALUE}))?(?![\w-])")
# What stands after a verb: values, keywords, dots, or one last name.
ARGUMENTS = rf"(?: (?:\w+=(?:{QUOTED}|[^\s,;:()]+)|{VALUE}|\.\.\.|(?!made\b|gave\b)[\w.-]+(?=$|[,;:)])))*"
VERB = re.compile(rf"(?<![\w/.~-])afina ({'|'.join(FUNCTIONS)})\b({ARGUMENTS})")
# What stands beside the call that does the same.
ON_COMMAND_LINE = re.compile(r"afina (?:train|search|plan|check) DATA \.\.\., or ")
TWICE = re.compile(r"(afina\.\w+),? or \1(?:\(\))?,?(?= )")
ARGUMENT = re.compile(rf"\w+=(?:{QUOTED}|\S+)|{QUOTED}|\S+")

_is_command_line = False


@contextlib.contextmanager
def speak_as_command_line() -> Iterator[None]:
    """A context in which messages stay as they are written."""
    global _is_command_line
    _is_command_line = True
    try:
        yield
    finally:
        _is_command_line = False


def suit_reader(text: str) -> str:
    """The message as the reader of this process knows things."""
    return text if _is_command_line else spell_for_python(text)


def spell_for_python(text: str) -> str:
    """The message with keywords for flags and functions for verbs.

    >>> spell_for_python("--label-column NAME, or leave them out with --set data.on_bad_rows=drop")
    'label_column=NAME, or leave them out with on_bad_rows="drop"'
    >>> spell_for_python("afina resume runs/reviews goes on")
    'afina.resume("runs/reviews") goes on'
    """
    text = ON_COMMAND_LINE.sub("", text)
    text = SETTING.sub(lambda found: _write_keyword(found[2], found[3]), text)
    text = METRIC.sub(lambda found: _write_keyword("metric", found[1]), text)
    text = COLUMN.sub(lambda found: _write_keyword(found[1].replace("-", "_"), found[2]), text)
    text = FLAG.sub(lambda found: _write_keyword(found[1].replace("-", "_"), found[2]), text)
    return TWICE.sub(r"\1", VERB.sub(_write_call, text))


def quote_name(name: str) -> str:
    """A column's name as a flag takes it: in quotes, unless it is a plain word."""
    return name if re.fullmatch(r"\w(?:[\w-]*\w)?", name) else shlex.quote(name)


def _write_keyword(name: str, value: str | None) -> str:
    return name if value is None else f"{name}={_write_value(value)}"


def _write_value(value: str) -> str:
    """The value as Python spells it; placeholders, numbers and what is quoted already stay."""
    if value in ("true", "false"):
        return value.capitalize()
    if value == "null":
        return "None"
    is_number = re.fullmatch(r"\d+(\.\d+)?(e-?\d+)?", value) is not None
    is_mapping = value.startswith("{")
    if is_number or is_mapping or re.fullmatch(PLACEHOLDER, value) or re.fullmatch(QUOTED, value):
        return value
    return f'"{value}"'


def _write_call(found: re.Match[str]) -> str:
    verb, given = found[1], ARGUMENT.findall(found[2])
    if not given:
        return f"afina.{FUNCTIONS[verb]}"
    arguments = [each if "=" in each or each == "..." else _write_value(each) for each in given]
    if verb == "train" and "=" not in arguments[0]:
        arguments[0] = f"data={arguments[0]}"
    return f"afina.{FUNCTIONS[verb]}({', '.join(arguments)})"


def count(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
