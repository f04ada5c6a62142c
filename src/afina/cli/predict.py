"""afina predict"""

from __future__ import annotations

import typer

from afina.cli.columns import MESSAGES_COLUMN, PROMPT_COLUMN, TEXT_COLUMN, TEXT_PAIR_COLUMN
from afina.cli.decoding import ANSWER_SEED, MAX_NEW_TOKENS, TEMPERATURE, TOP_P, collect_decoding
from afina.cli.output import JSON_OPTION, QUIET_OPTION, print_json, show
from afina.errors import describe_rows
from afina.wording import count


def predict(
    run: str = typer.Argument(..., metavar="RUN", help="Folder of a finished run."),
    data: str = typer.Argument(..., metavar="DATA", help="Rows with the run's text columns: file, folder or Hub id."),
    output: str = typer.Option(..., metavar="FILE", help="File to write: .csv, .tsv or .jsonl; it must not exist."),
    text_column: str | None = TEXT_COLUMN,
    text_pair_column: str | None = TEXT_PAIR_COLUMN,
    messages_column: str | None = MESSAGES_COLUMN,
    prompt_column: str | None = PROMPT_COLUMN,
    max_new_tokens: int | None = MAX_NEW_TOKENS,
    temperature: float | None = TEMPERATURE,
    top_p: float | None = TOP_P,
    seed: int | None = ANSWER_SEED,
    as_json: bool = JSON_OPTION,
    quiet: bool = QUIET_OPTION,
) -> None:
    """Predict all rows of a file: rows in = rows out, in their order."""
    from afina.finished import predict_file

    decoding = collect_decoding(max_new_tokens, temperature, top_p, seed)
    path, rows, empty = predict_file(
        run, data, output, verbose=not quiet, text_column=text_column, text_pair_column=text_pair_column,
        messages_column=messages_column, prompt_column=prompt_column, **decoding,
    )  # fmt: skip
    if as_json:
        print_json({"output": str(path), "rows": rows, "rows_without_prediction": len(empty)})
    else:
        lacking = f"; without a prediction, for they hold no text: {describe_rows(empty)}" if empty else ""
        show(f"{count(rows, 'row')} written to {path}{lacking}", on_stderr=True)
