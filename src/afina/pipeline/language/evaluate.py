"""The scores of a run's language model on other rows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from afina.data.conversation_columns import ConversationColumns
from afina.data.conversations import ConversationPart, find_usable_conversations, make_part
from afina.data.encode_conversations import Encoding, Tally, TrainedRows, encode_conversations, list_faults
from afina.data.rows import RowTable
from afina.errors import DataError
from afina.metrics.naming import prefix_bounds, prefix_scores
from afina.models.load import load_tokenizer
from afina.pipeline.language.finish import PRIMARY_METRIC
from afina.pipeline.language.objective import take_apart
from afina.pipeline.language.prepare import describe_tally
from afina.pipeline.language.scored_columns import find_scored_columns
from afina.pipeline.language.speaker import Speaker
from afina.pipeline.renamed_columns import GivenColumns
from afina.pipeline.source_rows import leave_out, open_rows
from afina.runs.folder import RunFolder
from afina.runs.seen_texts import read_seen_texts
from afina.training.next_tokens import NextTokens
from afina.training.session import start_accelerator
from afina.wording import count

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def evaluate_language(
    folder: RunFolder, source: Any, on_bad_rows: str, columns: GivenColumns | None = None
) -> dict[str, Any]:
    """`metrics` and `intervals` over the learned tokens of all rows of a file; `rows` and `rows_seen` count them,
    and `notes` tell which were cut, split or left out. They are found right before the model is loaded.

    Args:
        columns: as in `evaluate_labelled`.

    Raises:
        DataError: with every row that can't be used.
    """
    folder.check_finished()
    folder.check_model()
    config, stored = folder.read_config(), folder.read_task()
    seen = read_seen_texts(folder)
    encoding = Encoding(stored["has_template"], config.data.train_on, int(config.model.max_seq_length))
    with open_rows(source) as rows, tempfile.TemporaryDirectory(prefix="afina-") as work:
        notes: list[str] = []
        read, tokenizer = (
            find_scored_columns(rows.table, stored, columns or {}, notes.append),
            load_tokenizer(folder.model),
        )
        encoded = encode_table(rows.table, read, tokenizer, encoding, Path(work), on_bad_rows)
        part, data, tally, left_out = encoded
        hashes_N = part.hashes[np.isin(part.row_numbers, data.row_numbers)]
        pad_id, batch = int(tokenizer.pad_token_id), int(config.evaluation.eval_tokens_per_batch)
        speaker = Speaker.of_run(folder.path)
        accelerator = start_accelerator(speaker.answerer.device, speaker.answerer.precision)
        objective = take_apart(NextTokens(data, data, pad_id, batch), speaker.model, accelerator, left_out.append)
        counts = objective.measure(speaker.model, data, accelerator)
    intervals = counts.bootstrap(config.evaluation.bootstrap_resamples, config.seed)
    metrics = prefix_scores("test", counts.summarise())
    return {
        "run": str(folder.path),
        "technique": config.technique,
        "primary_metric": PRIMARY_METRIC,
        "rows": data.row_count,
        "rows_seen": seen.count(hashes_N),
        "metrics": metrics,
        "intervals": prefix_bounds("test", intervals),
        "notes": [*notes, *left_out, *seen.notes, *describe_tally("test", tally, data, encoding.max_seq_length)],
    }


def encode_table(
    table: RowTable, columns: ConversationColumns, tokenizer: PreTrainedTokenizerBase, encoding: Encoding, work: Path,
    on_bad_rows: str,
) -> tuple[ConversationPart, TrainedRows, Tally, list[str]]:  # fmt: skip
    """The rows of a table, and those with an answer to score as tokens and marks; what happened on the way, and notes
    on rows that are left out.

    Raises:
        DataError: with every row that can't be used, or if there is nothing to score.
    """
    usable, problems = find_usable_conversations(table, columns)
    part = make_part("test", table, columns, usable)
    data, tally = encode_conversations(part, tokenizer, encoding, work)
    left_out = leave_out(
        [*table.problems_in(columns.names.values()), *problems, *list_faults({"all": tally}, {"all": table.source})],
        on_bad_rows,
    )
    if not len(data):
        raise DataError(f"{table.source} holds no answer to score", found=count(len(part), "row"))
    return part, data, tally, left_out
