"""The data looked at before anything is trained: what is wrong with it, and maybe a cleaned copy.

Without a model it is words that are counted, and nothing heavy is imported; with one its tokens are, labels that are
probably wrong are looked for, and of conversations it is shown what would be learned.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.config.reason import Reason
from afina.config.run import GENERATION, TAGGING, RunConfig
from afina.config.unread import list_unread
from afina.data.columns import ColumnChoice, choose_columns
from afina.data.conversation_columns import ConversationColumns, choose_conversation_columns
from afina.data.conversations import divide_conversations, find_usable_conversations
from afina.data.conversations import make_part as make_conversation_part
from afina.data.data_notes import note_joined, note_other_texts, note_unread
from afina.data.doctor.copy import FixedCopy, check_output, write_copy
from afina.data.doctor.examine import Examination, examine, sort_findings
from afina.data.doctor.finding import Finding
from afina.data.doctor.fix import Cleaner, ConversationCleaner, LabelledCleaner, decide_drops, find_spellings
from afina.data.doctor.fix_tags import TaggedCleaner, find_tag_spellings
from afina.data.doctor.subject import Subject, view_conversations, view_labelled
from afina.data.examples import count_classes, divide_rows, find_usable, make_part
from afina.data.parts import check_fractions, describe_source, explain_choice
from afina.data.read import read_parts
from afina.data.rows import RowTable
from afina.durable import expand_home
from afina.errors import ConfigError, DataError
from afina.pipeline.check_report import CheckReport, check_page_path
from afina.pipeline.narrator import Narrator
from afina.pipeline.source import find_model, guess_task
from afina.pipeline.tagging.check import count_all_types, divide_tagged, find_tag_faults, look_at_words, open_tagged
from afina.runs.lock import hold_output
from afina.wording import suit_reader

if TYPE_CHECKING:
    from afina.pipeline.check_model import ModelView


@dataclass(frozen=True)
class OpenedData:
    """The data, read and understood."""

    tables: Mapping[str, RowTable]
    columns: ColumnChoice | ConversationColumns
    subject: Subject
    task: str
    reasons: tuple[Reason, ...]
    shortages: list[Finding]
    """Why no run could divide these rows into parts."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for beside the findings."""

    mask: int = 0
    """Conversations to show with what is learned of them."""
    fix: Path | None = None
    """Where a cleaned copy goes."""
    html: Path | None = None
    """Where the report goes as a page."""


def check_data(config: RunConfig, source: Any, wanted: Wanted, narrator: Narrator) -> CheckReport:
    """Findings and facts about the data.

    Raises:
        UserError: if the data can't be read or understood, the model can't be used, or something can't be written.
    """
    check_wanted(config, source, wanted)
    with tempfile.TemporaryDirectory(prefix="afina-") as work:
        with narrator.stage("read"):
            opened = open_data(config, source, Path(work) / "rows")
        if wanted.mask and opened.task != GENERATION:
            raise ConfigError(
                "only conversations have a mask", found=f"data for {opened.task}", remedy="leave --show-mask out"
            )
        with narrator.stage("check") as advance:
            total = sum(map(len, opened.subject.views.values()))
            examination = examine(opened.subject, on_rows=lambda rows: advance(rows, total))
            if opened.task == TAGGING:
                examination.findings.extend(find_tag_faults(opened.subject))
        seen = None
        if config.model.reference:
            seen = look_through_model(config, source, opened, wanted.mask, Path(work), narrator)
        fixed = fix_data(config, source, opened, wanted.fix) if wanted.fix else None
        report = write_report(config, source, opened, examination, seen, fixed)
    if wanted.html:
        report.save_html(wanted.html)
    return report


def check_wanted(config: RunConfig, source: Any, wanted: Wanted) -> None:
    """Refuse what can't be written or shown, before anything is computed."""
    if wanted.mask and not config.model.reference:
        raise ConfigError("the mask depends on the model's tokens and template", remedy="--model REF")
    if wanted.fix:
        check_output(source, wanted.fix)
    if wanted.html:
        check_page_path(wanted.html)


def open_data(config: RunConfig, source: Any, spool: Path) -> OpenedData:
    """The rows, the columns, which of the rows can be used, and whether they are enough."""
    check_fractions(config.data)
    tables = read_parts(source, spool)
    base = find_model(config) if config.model.reference else None
    task, reason = guess_task(config, tables, base)
    reasons = [Reason("task", task, reason)] if reason else []
    columns: ColumnChoice | ConversationColumns
    usable: Mapping[str, Any]
    if task == TAGGING:
        tagged, subject, usable = explain_choice(tables, lambda: open_tagged(tables, config))
        subject = subject.with_faults(tables, usable)
        shortages = find_shortages(lambda: divide_tagged(tables, usable, tagged, subject, config))
        return OpenedData(tables, tagged, subject, task, (*reasons, *tagged.reasons), shortages)
    columns = explain_choice(tables, lambda: find_columns(tables, config, task))
    if isinstance(columns, ConversationColumns):
        usable = {name: find_usable_conversations(table, columns)[0] for name, table in tables.items()}
        turns = (make_conversation_part(name, tables[name], columns, rows) for name, rows in usable.items())
        subject = view_conversations(turns, columns)
        shortages = find_shortages(lambda: divide_conversations(tables, usable, columns, config.data, config.seed))
    else:
        task = columns.task
        space, usable = find_usable(dict(tables), columns, config.data)
        parts = (make_part(name, tables[name], columns, rows) for name, rows in usable.items())
        subject = view_labelled(parts, columns, space)
        shortages = find_shortages(lambda: divide_rows(tables, usable, columns, space, config.data, config.seed))
    subject = subject.with_faults(tables, usable)
    return OpenedData(tables, columns, subject, task, (*reasons, *columns.reasons), shortages)


def find_shortages(divide: Callable[[], object]) -> list[Finding]:
    """What keeps `divide` from making the parts of a run: training refuses the same rows by the same rule."""
    try:
        divide()
    except DataError as error:
        return [
            Finding(
                "row-counts", "error", f"{each.what}: {each.found}; a run takes {each.expected}",
                "a run stops before it begins", each.remedy or "add rows", 0,
            )
            for each in error.problems
        ]  # fmt: skip
    return []


def find_columns(tables: Mapping[str, RowTable], config: RunConfig, task: str) -> ColumnChoice | ConversationColumns:
    """The columns that the task needs."""
    if task == GENERATION:
        return choose_conversation_columns(tables, **name_columns(config))
    return choose_columns(tables, config.data, config.task)


def name_columns(config: RunConfig) -> dict[str, str | None]:
    """Columns of conversations that the user named."""
    names = ("messages_column", "prompt_column", "completion_column", "text_column")
    return {name: getattr(config.data, name) for name in names}


def look_through_model(
    config: RunConfig, source: Any, opened: OpenedData, mask: int, work: Path, narrator: Narrator
) -> ModelView:
    """What only the model's tokens or features can tell."""
    if opened.task == GENERATION:
        from afina.pipeline.language.check import look_at_conversations

        return look_at_conversations(config, source, opened.tables, mask, work, narrator)
    if opened.task == TAGGING:
        return look_at_words(config, opened.subject, work, narrator)
    from afina.pipeline.check_model import look_at_labelled

    return look_at_labelled(config, opened.subject, work, narrator)


def fix_data(config: RunConfig, source: Any, opened: OpenedData, output: Path) -> FixedCopy:
    """The cleaned copy."""
    cleaner: Cleaner
    if opened.task == TAGGING and isinstance(opened.columns, ColumnChoice):
        cleaner = TaggedCleaner(opened.columns, find_tag_spellings(opened.tables, opened.columns))
    elif isinstance(opened.columns, ColumnChoice):
        separator = config.data.label_separator
        cleaner = LabelledCleaner(opened.columns, separator, find_spellings(opened.tables, opened.columns, separator))
    else:
        cleaner = ConversationCleaner(opened.columns)
    drops = decide_drops(opened.tables, cleaner, opened.subject.kind == "regression")
    with hold_output(output, "afina check --fix"):
        return write_copy(expand_home(source), output, opened.tables, cleaner, drops)


def write_report(
    config: RunConfig, source: Any, opened: OpenedData, examination: Examination, seen: ModelView | None,
    fixed: FixedCopy | None,
) -> CheckReport:  # fmt: skip
    """All of it together."""
    subject = opened.subject
    facts: dict[str, Any] = {"task": opened.task, "columns": list(subject.columns)}
    facts["rows"] = {name: table.read_count for name, table in opened.tables.items()}
    facts["usable"] = {name: len(view) for name, view in subject.views.items()}
    if opened.task == TAGGING:
        facts["classes"] = count_all_types(subject)
    elif subject.space:
        facts["classes"] = {name: count_classes(view.labels, subject.space) for name, view in subject.views.items()}
    facts |= examination.facts
    findings, reasons = sort_findings([*opened.shortages, *examination.findings]), list(opened.reasons)
    notes = [note for table in opened.tables.values() for note in table.notes]
    if subject.space is not None and opened.task != TAGGING:
        notes += [*note_joined(subject.space), *note_other_texts(next(iter(opened.tables.values())), subject.columns)]
    notes += [
        *note_unread(opened.tables, subject.columns),
        *list_unread(config, is_generation=opened.task == GENERATION),
    ]
    if seen:
        facts |= seen.facts
        # The model can't use what the doctor has called unusable before it.
        new = [each for each in seen.findings if not any(each.repeats(known) for known in findings)]
        findings = sort_findings([*findings, *new])
        known = {each.setting for each in reasons}
        told = [each for each in seen.reasons if not each.setting.startswith("training.")]
        reasons += [each for each in told if each.setting not in known]
    return CheckReport(
        describe_source(source),
        [replace(each, remedy=suit_reader(each.remedy)) for each in findings],
        facts,
        [{"setting": each.setting, "value": each.value, "reason": suit_reader(each.reason)} for each in reasons],
        notes,
        seen.mask if seen else (),
        fixed.as_dict() if fixed else {},
    )
