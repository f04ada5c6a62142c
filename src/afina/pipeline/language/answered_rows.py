"""Every row of a file with the answer to it: all prompts are checked first, then answered in batches of like length.

Answers to a file are kept beside the output as they come. Work that was stopped goes on from there: which prompts share
a batch depends on the file alone, so the answers are those of work that was never stopped.

Letters: N rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import numpy.typing as npt

from afina.config.techniques import ADAPTERS
from afina.data.bad_rows import RowNumbers
from afina.data.chat_template import ChatFaultError
from afina.data.columns import check_free
from afina.data.conversation_rows import ConversationFaultError
from afina.data.rows import RowTable
from afina.errors import Interrupted, Problem, describe_rows
from afina.models.fingerprint import hash_model
from afina.models.inspect import load_text_config
from afina.models.load import load_tokenizer
from afina.models.vocabulary import count_vectors
from afina.pipeline.language.decoding import Decoding
from afina.pipeline.language.prompts import PromptEncoder, PromptReader, describe_cut, find_context_length, plan_batches
from afina.pipeline.narrator import Narrator
from afina.pipeline.restoring import find_base
from afina.pipeline.source_rows import iterate_chunks, mind_parts, open_rows, refuse_problems
from afina.runs.folder import RunFolder
from afina.runs.journal import AnswerJournal

if TYPE_CHECKING:
    from afina.pipeline.language.speaker import Speaker

# Rows among which those of like length are answered together.
WINDOW_ROWS = 1024
MEND = "mend these rows"


@dataclass(frozen=True)
class Questions:
    """What the rows of a table ask."""

    table: RowTable
    reader: PromptReader
    lengths_N: npt.NDArray[np.int64]
    """Tokens of each row's prompt; 0 for a row that asks nothing."""
    digest: str
    """Of these tokens."""

    @property
    def count(self) -> int:
        """Rows that ask something."""
        return int(np.count_nonzero(self.lengths_N))


def answer_rows(
    folder: RunFolder, source: Any, decoding: Decoding, narrator: Narrator, journal: AnswerJournal | None = None,
    name: str = "prediction", columns: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Every row with its columns and its answer; a row that asks nothing gets None.

    Args:
        name: of the column with the answers.
        columns: what is read of a row, see `PromptReader`; None: what the run learned from.

    Raises:
        DataError: before the first answer, with every row that can't be read or put into the template.
        Interrupted: by a signal while answers are kept in the journal.
    """
    with open_rows(source) as rows:
        mind_parts(rows, narrator)
        check_free(rows.table, [name])
        encoder = load_encoder(folder, columns)
        questions = check_questions(encoder, rows.table)
        if questions.reader.columns != encoder.reader.columns:
            (asking,) = questions.reader.columns.values()
            narrator.note(f"prompts are taken from {asking!r}, for there is no column of those that were learned from")
        from afina.pipeline.language.speaker import Speaker

        speaker = Speaker.of_run(folder.path)
        answers: dict[int, str] = {}
        if journal:
            answers = journal.open(name_work(folder, questions, decoding))
            tell_journal(journal, answers, questions, narrator)
        try:
            answer_questions(speaker, questions, decoding, answers, narrator, journal)
        except BaseException as error:
            raise_interrupted(error, journal, answers, questions)
        place = 0
        for chunk in iterate_chunks(rows.table):
            for values in zip(*chunk.values(), strict=True):
                yield {**dict(zip(chunk, values, strict=True)), name: answers.get(place)}
                place += 1


def load_encoder(folder: RunFolder, columns: Mapping[str, str] | None = None) -> PromptEncoder:
    """What makes tokens of the prompts for a run's model, without the model.

    Raises:
        ModelError: if the model may not be used, or its tokenizer or its settings can't be read.
    """
    folder.check_finished()
    folder.check_model()
    config, stored = folder.read_config(), folder.read_task()
    reader = PromptReader(stored["form"], columns or stored["columns"], stored["has_template"])
    settings = load_text_config(find_base(config, stored["base"]) if config.technique in ADAPTERS else folder.model)
    return PromptEncoder(load_tokenizer(folder.model), reader, find_context_length(settings), count_vectors(settings))


def answer_questions(
    speaker: Speaker, questions: Questions, decoding: Decoding, answers: dict[int, str], narrator: Narrator,
    journal: AnswerJournal | None,
) -> None:  # fmt: skip
    """Add the answers that aren't there yet, batch by batch, and name those that the model's window ended."""
    context_length, cut = speaker.encoder.context_length, list[int]()
    with narrator.count_rows("answering", questions.count, len(answers)) as advance:
        for places in plan_file(questions.lengths_N, context_length, decoding.max_new_tokens):
            if all(place in answers for place in places):
                continue
            found = speaker.answer_batch(encode_rows(speaker.encoder, questions, places), decoding, cut.append)
            answers.update(found)
            if journal:
                journal.add(found)
            advance(len(answers))
    if cut:
        rows = describe_rows(questions.table.row_numbers[sorted(cut)].tolist())
        narrator.note(describe_cut(len(cut), context_length, rows))


def name_work(folder: RunFolder, questions: Questions, decoding: Decoding) -> str:
    """A hash of all that decides the answers: model, settings, prompts, and how tokens are chosen."""
    settings = folder.config.read_text(encoding="utf-8")
    parts = (hash_model(folder.model), settings, questions.digest, repr(decoding))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def tell_journal(journal: AnswerJournal, answers: dict[int, str], questions: Questions, narrator: Narrator) -> None:
    """Say what was found of earlier work."""
    if journal.is_other:
        narrator.say(
            f"{journal.path} held answers of other work (another run, other rows or settings);"
            " all rows are answered anew"
        )
    elif answers:
        narrator.say(f"going on: {len(answers):,} of {questions.count:,} rows are answered in {journal.path}")


def raise_interrupted(
    error: BaseException, journal: AnswerJournal | None, answers: dict[int, str], questions: Questions
) -> NoReturn:
    """Raise the error as it is, or for a signal what tells how to go on."""
    if isinstance(error, Exception | Interrupted) or journal is None:
        raise error
    found = f"{len(answers):,} of {questions.count:,} rows are answered, and kept in {journal.path}"
    remedy = "the same command again: it goes on from there"
    raise Interrupted(getattr(error, "exit_code", 130), found=found, remedy=remedy) from None


def check_questions(encoder: PromptEncoder, table: RowTable) -> Questions:
    """The prompts of all rows, each of which can be answered.

    Raises:
        DataError: with every row that can't.
    """
    reader = encoder.reader.fit_to(table)
    lengths, faults, found = [], dict[str, RowNumbers](), dict[str, str]()
    digest, numbers = hashlib.sha256(), iter(table.row_numbers)
    for columns in iterate_chunks(table):
        for values in zip(*columns.values(), strict=True):
            number = int(next(numbers))
            try:
                ids = encode_row(encoder, reader, dict(zip(columns, values, strict=True)))
            except (ConversationFaultError, ChatFaultError) as fault:
                faults.setdefault(str(fault), RowNumbers()).add(number)
                found.setdefault(str(fault), fault.found if isinstance(fault, ConversationFaultError) else fault.detail)
                continue
            lengths.append(len(ids))
            digest.update(f"{ids}\n".encode())
    named = [
        Problem(f"{table.source}: rows with {reason}", found[reason], "", MEND, rows) for reason, rows in faults.items()
    ]
    refuse_problems([*table.problems_in(reader.columns.values()), *named])
    return Questions(table, reader, np.asarray(lengths, np.int64), digest.hexdigest())


def encode_row(encoder: PromptEncoder, reader: PromptReader, row: dict[str, Any]) -> list[int]:
    """The tokens of what a row asks; none where it asks nothing."""
    asked = reader.read(row)
    return encoder.encode(*asked) if asked else []


def encode_rows(encoder: PromptEncoder, questions: Questions, places: list[int]) -> dict[int, list[int]]:
    """The prompts at these places of the table."""
    columns = questions.table.take(np.asarray(places), list(questions.table.names))
    rows = zip(*columns.values(), strict=True)
    return {
        place: encode_row(encoder, questions.reader, dict(zip(columns, values, strict=True)))
        for place, values in zip(places, rows, strict=True)
    }


def plan_file(lengths_N: npt.NDArray[np.int64], context_length: int, max_new_tokens: int) -> Iterator[list[int]]:
    """Places of the rows of each batch, the same whenever the same file is answered; see `plan_batches`."""
    asked = np.flatnonzero(lengths_N).tolist()
    for start in range(0, len(asked), WINDOW_ROWS):
        near = asked[start : start + WINDOW_ROWS]
        for batch in plan_batches([int(lengths_N[place]) for place in near], context_length, max_new_tokens):
            yield [near[i] for i in batch]
