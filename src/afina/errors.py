"""The errors that afina raises, as a tree.

    AfinaError
    ├── UserError              the input is wrong; the command line exits with 2
    │   ├── ConfigError        a setting or a flag
    │   ├── DataError          the file, its rows, its columns, its labels
    │   ├── ModelError         the model's reference or its folder
    │   ├── ResourceError      the run would need more memory than there is
    │   ├── RunFolderError     the folder of a run, read or written
    │   └── MissingExtraError  a package that only an extra installs
    ├── TrainingError          the training itself went wrong (a loss that is not a number); exits with 1
    └── ProofError             a check of our own result failed; exits with 1 and keeps everything
    KeyboardInterrupt
    └── Interrupted            a signal stopped the run; exits with 130 or 143, the run can be resumed

An error holds one `Problem` or several: all that is wrong with one input is said at once.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from afina.wording import suit_reader

ROWS_SHOWN = 10
LONGEST_CAUSE = 300
UNFINISHED = (":", ",", " or", " and")
"""How a line ends that another one belongs to."""
SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z`'\"])")
CLOSE = 0.75
"""Likeness, by `difflib`, from which a name may be a slip of another."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and what to do about it. Every part is a sentence or a piece of one."""

    what: str
    """What is wrong, naming the setting, the column or the file."""
    found: str = ""
    """What stood there."""
    expected: str = ""
    """What was expected instead."""
    remedy: str = ""
    """What to write or do instead, where the user typed it."""
    rows: Sequence[int] = field(default=())
    """Numbers of the rows concerned; the first row of data is row 1."""

    def __str__(self) -> str:
        what = f"{self.what} ({describe_rows(self.rows)})" if self.rows else self.what
        parts = [what]
        for label, text in (("found", self.found), ("expected", self.expected), ("do", self.remedy)):
            if text:
                parts.append(f"  {label}: {text}")
        return "\n".join(parts)


def describe_rows(rows: Sequence[int], noun: str = "row") -> str:
    """`row 4`, `rows 4, 9`, or `12 rows: 4, 9, ...` when there are more than ten."""
    shown = ", ".join(str(row) for row in rows[:ROWS_SHOWN])
    if len(rows) == 1:
        return f"{noun} {shown}"
    if len(rows) <= ROWS_SHOWN:
        return f"{noun}s {shown}"
    return f"{len(rows):,} {noun}s: {shown}, ..."


def find_close(name: str, names: Iterable[str]) -> str | None:
    """The name that `name` may be a slip of: nearly the same letters, or the same words among more. None is better than
    a guess that is far off.
    """
    known = list(names)
    near = difflib.get_close_matches(name, known, 1, CLOSE)
    longer = [other for other in known if set(name.split("_")) < set(other.split("_"))]
    return near[0] if near else longer[0] if len(longer) == 1 else None


JSON_FAULTS = {
    "Expecting ',' delimiter": "no comma between two values",
    "Expecting ':' delimiter": "no colon after a key",
    "Expecting property name enclosed in double quotes": "a key that isn't in double quotes",
    "Expecting value": "no value where one should be",
    "Extra data": "more after the value",
    "Illegal trailing comma": "a comma before the closing bracket",
    "Invalid \\": "a backslash with something that JSON doesn't know",
    "Invalid control character": "a control character inside a string",
    "Unterminated string": "a string that isn't closed",
}
"""What `json` says of a fault (the beginning of it), and what we say."""


def describe_json_fault(error: json.JSONDecodeError) -> str:
    """What is wrong with a text that should be JSON, without where."""
    return next((ours for theirs, ours in JSON_FAULTS.items() if error.msg.startswith(theirs)), "text that isn't JSON")


def describe_cause(error: BaseException, speaker: str = "the library") -> str:
    """What an error of the system or of another library means to a user, in one line without names of Python's types.

    Args:
        speaker: whose words the text is, where there is nothing better than the text.
    """
    if isinstance(error, json.JSONDecodeError):
        return f"{describe_json_fault(error)} (line {error.lineno:,}, column {error.colno:,})"
    if isinstance(error, UnicodeDecodeError):
        return f"bytes that are not UTF-8, the first at offset {error.start:,}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, RecursionError):
        return "values nested too deeply"
    text = take_sentences(str(error))
    return f"{speaker} says: {text}" if text else f"{speaker} fails and doesn't say why"


def take_sentences(text: str) -> str:
    """The first line of what a library says, with those that it leads to; whole sentences as far as there is room.

    One that is too long by itself ends at a word.
    """
    said = ""
    for line in map(str.strip, text.strip().splitlines()):
        if said and (not said.endswith(UNFINISHED) or line.startswith("Traceback")):
            break
        said = f"{said} {line}".strip()
    kept = ""
    for sentence in SENTENCES.split(said):
        longer = f"{kept} {sentence}".strip()
        if len(longer) > LONGEST_CAUSE:
            break
        kept = longer
    return kept or f"{said[:LONGEST_CAUSE].rpartition(' ')[0] or said[:LONGEST_CAUSE]} ..." if said else ""


class AfinaError(Exception):
    """Base of every error raised on purpose. `problems` holds one entry for each thing that is wrong."""

    exit_code = 1

    def __init__(
        self,
        what: str = "",
        *,
        found: str = "",
        expected: str = "",
        remedy: str = "",
        problems: Sequence[Problem] = (),
    ) -> None:
        self.problems = tuple(problems) or (Problem(what, found, expected, remedy),)
        self.heading = what if problems else ""
        super().__init__(self._message())

    def suit_reader(self) -> None:
        """Spell the message for whoever reads it: see `afina.wording`."""
        self.heading, self.problems = suit_reader(self.heading), tuple(map(spell_problem, self.problems))
        self.args = (self._message(),)

    def _message(self) -> str:
        if len(self.problems) == 1:
            return "\n".join(part for part in (self.heading, str(self.problems[0])) if part)
        heading = self.heading or f"{len(self.problems)} problems"
        listed = [f"{i}. {problem}".replace("\n", "\n   ") for i, problem in enumerate(self.problems, 1)]
        return "\n".join([heading, *listed])


def spell_problem(problem: Problem) -> Problem:
    """The problem in words that suit the reader."""
    what, found, expected, remedy = map(suit_reader, (problem.what, problem.found, problem.expected, problem.remedy))
    return Problem(what, found, expected, remedy, problem.rows)


class UserError(AfinaError):
    """The input is wrong; nothing was changed."""

    exit_code = 2


class ConfigError(UserError):
    """A setting is unknown, out of range, or at odds with another."""


class DataError(UserError):
    """The file, its rows, its columns or its labels can't be used as they are."""


class ModelError(UserError):
    """The model's reference can't be resolved, or its folder can't be used."""


class ResourceError(UserError):
    """The run would need more memory than this machine can give it."""


class RunFolderError(UserError):
    """The folder of a run can't be written, or doesn't hold what was asked of it."""


class MissingExtraError(UserError):
    """A package is needed that only an extra of afina installs."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed",
            remedy=f"pip install 'afina[{extra}]'",
        )


class TrainingError(AfinaError):
    """The training went wrong. The run's folder keeps everything up to the last checkpoint."""


class ProofError(AfinaError):
    """A check of our own result failed. The run's folder keeps everything for a look."""


class Interrupted(KeyboardInterrupt):
    """A signal stopped the run. `run` is its folder, where a checkpoint was saved (None: nothing to resume).

    It is no `Exception`: whoever goes on to the next of several runs when one fails doesn't mean to do so after ^C.

    `found` tells what is kept of other work, `verb` is what goes on with a run, and `remedy` how to go on without one.
    """

    def __init__(
        self, exit_code: int, run: Path | None = None, verb: str = "resume", *, found: str = "", remedy: str = ""
    ) -> None:
        self.problems: tuple[Problem, ...] = (
            Problem("interrupted", found, remedy=f"afina {verb} {shlex.quote(str(run))}" if run else remedy),
        )
        super().__init__(str(self.problems[0]))
        self.exit_code = exit_code
        self.run = run

    def suit_reader(self) -> None:
        """As that of `AfinaError`."""
        self.problems = tuple(map(spell_problem, self.problems))
        self.args = (str(self.problems[0]),)


@contextlib.contextmanager
def refuse_unwritable(path: Path, kind: type[UserError], remedy: str) -> Iterator[None]:
    """Around opening or renaming a file: what the system has against it is said as a `kind`, with the remedy."""
    try:
        yield
    except OSError as error:
        raise kind(f"{path} can't be written", found=describe_cause(error), remedy=remedy) from error
