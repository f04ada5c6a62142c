"""What a run's model says of rows, whichever task it has learned, as a stream or as a file."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from afina.config.run import GENERATION, TAGGING
from afina.data.columns import check_columns, check_free
from afina.data.read import find_delimiter
from afina.errors import ConfigError
from afina.pipeline.narrator import Narrator
from afina.pipeline.renamed_columns import GivenColumns, find_text_names, map_flags, rename_columns
from afina.pipeline.source_rows import mind_parts, open_rows, refuse_problems
from afina.runs.folder import RunFolder
from afina.runs.journal import AnswerJournal
from afina.runs.lock import hold_output
from afina.runs.table_file import check_output, write_rows

PREDICTION, CONFIDENCE = "prediction", "confidence"
PREFIX = "model_"


class PredictedFile(NamedTuple):
    """A file of predictions."""

    path: Path
    rows: int
    empty: list[int]
    """Numbers of the rows that have nothing to predict from."""


def predict_rows(
    folder: RunFolder, source: Any, decoding: Mapping[str, Any], narrator: Narrator,
    journal: AnswerJournal | None = None, columns: GivenColumns | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Each row with its prediction. Rows that can't be used are refused before the model is loaded.

    Args:
        decoding: what decides a language model's answers, see `Decoding`.
        journal: keeps a language model's answers as they come.
        columns: names of the rows' columns where they differ from those that the run learned from.

    Raises:
        ConfigError: if decoding is given for a run that answers nothing, or a column that it doesn't read.
    """
    stored = rename_columns(folder.read_task(), columns or {})
    prefix, flags = choose_prefix(stored), map_flags(stored)
    if stored["task"] == GENERATION:
        from afina.pipeline.language.answered_rows import answer_rows
        from afina.pipeline.language.decoding import Decoding

        check_decoding(decoding)
        name = f"{prefix}{PREDICTION}"
        return answer_rows(folder, source, Decoding(**decoding), narrator, journal, name, stored["columns"])
    if decoding:
        raise ConfigError(
            f"{folder.path} gives labels, no answers", found=", ".join(decoding), remedy="leave these settings out"
        )
    if stored["task"] == TAGGING:
        has_entities = stored["labels"]["kind"] == "entities"
        text = stored["columns"]["text"]
        return predict_tags(folder, source, text, prefix, narrator, flags, has_entities=has_entities)
    texts = [stored["columns"][role] for role in ("text", "text_pair")]
    added = [PREDICTION] if stored["labels"]["kind"] == "regression" else [PREDICTION, CONFIDENCE]
    names = {name: prefix + name for name in added}
    return predict_labels(folder, source, [name for name in texts if name], names, narrator, flags)


def check_decoding(decoding: Mapping[str, Any]) -> None:
    """Refuse what doesn't decide an answer.

    Raises:
        ConfigError: with the settings that do.
    """
    from afina.pipeline.language.decoding import Decoding

    known = [field.name for field in fields(Decoding)]
    if unknown := [name for name in decoding if name not in known]:
        raise ConfigError(
            f"no answer depends on {', '.join(unknown)}", expected=f"some of {', '.join(known)}",
            remedy='afina.predict_file(run, data, "answers.jsonl") writes a file' if "output" in unknown else "",
        )  # fmt: skip


def choose_prefix(stored: Mapping[str, Any]) -> str:
    """What stands before the names of added columns: nothing, or `model_` where a column that the run learned from has
    one of these names itself, and so stands in the rows.

    Args:
        stored: task.json of the run.
    """
    return PREFIX if {PREDICTION, CONFIDENCE} & set(stored["columns"].values()) else ""


def predict_labels(
    folder: RunFolder, source: Any, learned: list[str], added: Mapping[str, str], narrator: Narrator,
    flags: Mapping[str, str],
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Every row with its columns and those that are added: `prediction`, and for classes `confidence`, under the names
    in `added`. A row without text gets None.

    Args:
        learned: the text columns that the run learned from, or what they are called here.
        flags: column -> the flag that names another one.

    Raises:
        DataError: before the first row, if a row can't be read, a text column is missing, or an added one is there.
    """
    with open_rows(source) as rows:
        mind_parts(rows, narrator)
        text_names = find_text_names(rows.table, learned, narrator.note)
        check_columns(rows.table, text_names, flags)
        check_free(rows.table, list(added.values()))
        refuse_problems(rows.table.problems_in(text_names))
        from afina.pipeline.predictor import Predictor

        yield from Predictor(folder.path).predict_table(rows.table, text_names, added)


def predict_tags(
    folder: RunFolder, source: Any, text_name: str, prefix: str, narrator: Narrator, flags: Mapping[str, str], *,
    has_entities: bool,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Every row with its columns, a tag for each word and the entities; a row without words gets None.

    Args:
        prefix: of the names of added columns.

    Raises:
        DataError: as `predict_labels`.
    """
    with open_rows(source) as rows:
        mind_parts(rows, narrator)
        check_columns(rows.table, [text_name], flags)
        from afina.pipeline.tagging.predictor import TagPredictor, list_added

        added = {name: prefix + name for name in list_added(rows.table, text_name, has_entities=has_entities)}
        check_free(rows.table, list(added.values()))
        refuse_problems(rows.table.problems_in([text_name]))
        yield from TagPredictor(folder.path).predict_table(rows.table, [text_name], added)


def predict_to_file(
    folder: RunFolder, source: Any, path: Path, decoding: Mapping[str, Any], narrator: Narrator,
    columns: GivenColumns | None = None,
) -> PredictedFile:  # fmt: skip
    """All rows with their predictions as a file.

    Raises:
        RunFolderError: if the file exists already or can't be written.
    """
    check_output(path)
    with hold_output(path, "afina predict"):
        check_output(path)  # the process that held it may have written it
        return write_predicted(folder, source, path, decoding, narrator, columns)


def write_predicted(
    folder: RunFolder, source: Any, path: Path, decoding: Mapping[str, Any], narrator: Narrator,
    columns: GivenColumns | None,
) -> PredictedFile:  # fmt: skip
    """Work as `predict_to_file` says it, where no other process writes the file."""
    journal, empty = AnswerJournal(path.with_name(f".{path.name}.answers")), array("q")
    name = choose_prefix(folder.read_task()) + PREDICTION

    def note_empty() -> Iterator[dict[str, Any]]:
        for number, row in enumerate(predict_rows(folder, source, decoding, narrator, journal, columns), 1):
            if row[name] is None:
                empty.append(number)
            yield row

    rows = write_rows(note_empty(), path, find_delimiter(source, path.suffix))
    journal.discard()
    return PredictedFile(path, rows, list(empty))
