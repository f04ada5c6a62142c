"""Which column holds the text, the second text of a pair, and the label; and which task the labels call for.

What the user names wins. Otherwise names decide (`column_names.py`), then contents; each guess comes with its
reason, and where two columns are equally good the user is asked, with an example of each. The training part
decides, and the other parts must have the same columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from afina.config.reason import Reason
from afina.config.run import DataConfig, TaskName
from afina.data.column_names import LABEL_TIERS, PAIRS, TEXT_TIERS, normalize_name
from afina.data.column_profile import ColumnProfile, profile_columns
from afina.data.header import add_hint
from afina.data.label_profile import profile_labels
from afina.data.rows import RowTable
from afina.data.task_choice import KnownTask, choose_task
from afina.errors import DataError, Problem, find_close
from afina.wording import quote_name

FLAGS = {"text": "--text-column", "text_pair": "--text-pair-column", "label": "--label-column"}
COLUMNS_SHOWN = 12
CARVED = "take this part away, and one is carved out of the training rows"
TO_WRITE = "--task text-generation, for a language model that learns to write such texts"
Profiles = Mapping[str, ColumnProfile]


@dataclass(frozen=True)
class ColumnChoice:
    """Columns and task, each with the reason where it was guessed."""

    text: str
    text_pair: str | None
    label: str
    task: KnownTask
    multi_label: bool
    reasons: tuple[Reason, ...] = ()

    @property
    def text_names(self) -> tuple[str, ...]:
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)


def choose_columns(tables: Mapping[str, RowTable], config: DataConfig, task: TaskName) -> ColumnChoice:
    """The choice for all parts.

    DataError where a named column is missing or of no use, or where no guess is better than another.
    """
    table = tables["all"] if "all" in tables else tables["train"]
    check_apart(config)
    try:
        return _choose(tables, table, config, task)
    except DataError as error:
        raise add_hint(error, table) from None


def _choose(tables: Mapping[str, RowTable], table: RowTable, config: DataConfig, task: TaskName) -> ColumnChoice:
    """The choice, by the training part."""
    given = (config.text_column, config.text_pair_column or None, config.label_column)
    check_columns(table, [name for name in given if name], list_flags(config))
    guess = _Guess(table, profile_columns(table), config)
    label = guess.label_by_name()
    text, text_pair = guess.texts(label)
    label = label or guess.label_by_content({text, text_pair})
    guess.check_label(label)
    check_parts(tables, [name for name in (text, text_pair, label) if name])
    profile = profile_labels(table, label, config.label_separator)
    chosen = choose_task(table, label, profile, task, config.label_separator)
    reasons = list(guess.reasons)
    if task == "auto":
        reasons.append(Reason("task", chosen.task, chosen.reason))
    return ColumnChoice(text, text_pair, label, chosen.task, chosen.multi_label, tuple(reasons))


def check_apart(config: DataConfig) -> None:
    """Refuse one column for two things: a label that is its own text teaches nothing."""
    label = config.label_column
    for key, name in (("text", config.text_column), ("text_pair", config.text_pair_column)):
        if label and name == label:
            raise DataError(
                f"the text and the label are the same column {label!r}",
                found=f"{FLAGS[key]} {quote_name(label)} and {FLAGS['label']} {quote_name(label)}",
                expected="two columns",
                remedy=f"another {FLAGS[key]}, or leave one of the two out and it is guessed",
            )


def list_flags(config: DataConfig) -> dict[str, str]:
    """The columns that the user names, each with the flag that names it."""
    named = {getattr(config, f"{key}_column"): flag for key, flag in reversed(FLAGS.items())}
    return {name: flag for name, flag in named.items() if name}


def check_columns(table: RowTable, names: Iterable[str], flags: Mapping[str, str] | None = None) -> None:
    """DataError when a column is missing, with the nearest name. Prediction calls it, too.

    Args:
        flags: column -> the flag that may name another one.
    """
    problems = [_missing_column(table, name, (flags or {}).get(name)) for name in names if name not in table.kinds]
    if problems:
        raise DataError(problems=problems)


def check_parts(tables: Mapping[str, RowTable], names: Iterable[str]) -> None:
    """DataError when a part lacks a column that the training part has, as sets of competitions do."""
    problems = []
    for part, table in tables.items():
        instead = CARVED if part in ("validation", "test") else ""
        for problem in (_missing_column(table, name, None) for name in names if name not in table.kinds):
            problems.append(replace(problem, remedy=f"{problem.remedy}{instead and '; or '}{instead}"))
    if problems:
        raise DataError(problems=problems)


def check_free(table: RowTable, added: Sequence[str]) -> None:
    """DataError when columns have the names of those that predicting adds: it would write over them."""
    taken = ", ".join(repr(name) for name in added if name in table.kinds)
    if taken:
        raise DataError(
            f"{table.source} has columns that predicting would write over: {taken}",
            expected=f"other names: predicting adds {', '.join(map(repr, added))}",
            remedy="rename or remove these columns",
        )


def _missing_column(table: RowTable, name: str, flag: str | None) -> Problem:
    near = find_nearest(name, table.names)
    remedy = f"{flag} {near or 'NAME'}" if flag else f"rename a column to {name!r}"
    hint = f"; the nearest name is {near!r}" if near else ""
    return Problem(
        f"{table.source} has no column {name!r}",
        f"columns: {list_names(table.names)}{hint}",
        f"a column {name!r}",
        remedy,
    )


def advise_marks(profiles: Sequence[ColumnProfile]) -> str:
    """What to write where several columns of 0 and 1 mark the labels of a row."""
    marks = [each.name for each in profiles if each.shape == "numbers" and each.distinct_count == 2]
    if len(marks) < 2:
        return ""
    chosen = "frame.apply(lambda row: [name for name in names if row[name]], axis=1)"
    return f"; if these mark labels of which a row may have several, one column of lists, in pandas: {chosen}"


def find_nearest(name: str, names: Sequence[str]) -> str | None:
    """The name that is most like `name`, if any is."""
    by_normal = {normalize_name(other): other for other in names}
    near = find_close(normalize_name(name), by_normal)
    return by_normal[near] if near else None


def find_nested(table: RowTable, profiles: Iterable[ColumnProfile]) -> str:
    """What to write where all rows stand under a key of one object; empty where they don't."""
    nested = next((profile for profile in profiles if profile.shape == "lists"), None)
    if table.read_count != 1 or nested is None:
        return ""
    return f"write what stands under {nested.name!r} as a file of its own, a row for each entry"


def list_names(names: Sequence[str]) -> str:
    more = f", and {len(names) - COLUMNS_SHOWN:,} more" if len(names) > COLUMNS_SHOWN else ""
    return ", ".join(names[:COLUMNS_SHOWN]) + more


class _Guess:
    """The guesses for one table, and the reasons for them."""

    def __init__(self, table: RowTable, profiles: Profiles, config: DataConfig) -> None:
        self.table, self.profiles, self.config = table, profiles, config
        self.reasons: list[Reason] = []
        self.by_normal = {normalize_name(name): name for name in table.names}

    def texts(self, label: str | None) -> tuple[str, str | None]:
        """The text column, and the second one of a pair."""
        text, pair = self.config.text_column, self.config.text_pair_column
        taken = {label, text, pair}
        if pair is None:
            text, pair = self._pair_by_name(text, label)
        elif pair and text is None:
            text = self._partner(pair, taken)
        text = text or self._text(taken)
        for key, name in (("text", text), ("text_pair", pair)):
            if name:
                self._check_text(key, name)
        if pair and pair == text:
            raise DataError(
                f"the text and its pair are the same column {text!r}",
                expected="two columns",
                remedy='--text-pair-column NAME, or --text-pair-column "" for none',
            )
        return text, pair or None

    def _pair_by_name(self, text: str | None, label: str | None) -> tuple[str | None, str | None]:
        for names in PAIRS:
            first, second = (self.by_normal.get(name) for name in names)
            if first is None or second is None or label in (first, second) or text not in (None, first):
                continue
            if self.profiles[first].is_text and self.profiles[second].is_text:
                if text is None:
                    self._add("text", first, f"{first!r} and {second!r} are the names of a pair")
                self._add("text_pair", second, f"{first!r} and {second!r} are the names of a pair")
                return first, second
        return text, None

    def _partner(self, pair: str, taken: set[str | None]) -> str | None:
        for first, second in PAIRS:
            name = self.by_normal.get(first)
            if second == normalize_name(pair) and name is not None and name not in taken:
                self._add("text", name, f"{name!r} and {pair!r} are the names of a pair")
                return name
        return None

    def _text(self, taken: set[str | None]) -> str:
        profiles = [p for p in self.profiles.values() if p.is_text and p.name not in taken]
        found = self._by_tiers("text", TEXT_TIERS, {p.name for p in profiles})
        if found:
            return found
        prose = [p for p in profiles if p.is_prose]
        for candidates, reason in (
            (prose, "the only column of longer texts that seldom repeat"),
            (profiles, "the only column of text"),
        ):
            if len(candidates) == 1:
                self._add("text", candidates[0].name, reason)
                return candidates[0].name
        raise self._unclear("text", "which column holds the text", prose or profiles)

    def label_by_name(self) -> str | None:
        if self.config.label_column:
            return self.config.label_column
        taken = {self.config.text_column, self.config.text_pair_column}
        names = {p.name for p in self.profiles.values() if p.filled_count and p.name not in taken}
        return self._by_tiers("label", LABEL_TIERS, names)

    def label_by_content(self, taken: set[str | None]) -> str:
        others = [p for p in self.profiles.values() if p.name not in taken and p.filled_count]
        few = [p for p in others if p.is_label_like]
        for candidates, reason in (
            (few, "the only column with few values that repeat"),
            (others, "the only other column"),
        ):
            if len(candidates) == 1:
                self._add("label", candidates[0].name, reason)
                return candidates[0].name
        otherwise = f"{advise_marks(few)}; or {TO_WRITE}"
        raise self._unclear("label", "which column holds the label", few or others, otherwise)

    def _by_tiers(self, key: str, tiers: Sequence[Sequence[str]], names: set[str]) -> str | None:
        for tier in tiers:
            found = [self.by_normal[normal] for normal in tier if self.by_normal.get(normal) in names]
            if len(found) > 1:
                raise self._unclear(key, f"which column holds the {key}", [self.profiles[name] for name in found])
            if found:
                self._add(key, found[0], f"{found[0]!r} is a usual name for it")
                return found[0]
        return None

    def _check_text(self, key: str, name: str) -> None:
        profile = self.profiles[name]
        if profile.shape not in ("text", "mixed values", "nothing"):
            what = "numbers" if profile.shape == "numbers" else profile.shape
            raise DataError(
                f"{self.table.source}: the text column {name!r} holds {what}",
                found=f"values such as {profile.example}",
                expected="text",
                remedy=f"{FLAGS[key]} NAME, one of: {list_names([n for n in self.table.names if n != name])}",
            )

    def check_label(self, name: str) -> None:
        """Refuse cells that hold objects, or lists of them, as tools for annotations write them."""
        example = self.profiles[name].example
        if example.startswith(("{", "[{")):
            raise DataError(
                f"{self.table.source}: the label column {name!r} holds objects", found=f"values such as {example}",
                expected="the name of a class, a number, or a list of names",
                remedy=f"write what is meant of {name!r} as a column of its own, or {FLAGS['label']} NAME",
            )  # fmt: skip

    def _unclear(self, key: str, question: str, candidates: Sequence[ColumnProfile], otherwise: str = "") -> DataError:
        shown = candidates or list(self.profiles.values())
        listed = "; ".join(map(str, shown[:COLUMNS_SHOWN]))
        found = f"several that it may be: {listed}" if candidates else f"none that it may be: {listed}"
        remedy = " or ".join(f"{FLAGS[key]} {quote_name(p.name)}" for p in candidates[:2]) or f"{FLAGS[key]} NAME"
        remedy = find_nested(self.table, shown) or remedy
        return DataError(f"{self.table.source}: it is not clear {question}", found=found, remedy=remedy + otherwise)

    def _add(self, key: str, name: str, reason: str) -> None:
        self.reasons.append(Reason(f"data.{key}_column", name, reason))
