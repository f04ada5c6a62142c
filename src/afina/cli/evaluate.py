"""afina evaluate"""

from __future__ import annotations

import typer

from afina.cli.columns import (
    COMPLETION_COLUMN,
    LABEL_COLUMN,
    MESSAGES_COLUMN,
    PROMPT_COLUMN,
    TEXT_COLUMN,
    TEXT_PAIR_COLUMN,
)
from afina.cli.output import JSON_OPTION, print_json, print_table, show
from afina.summary import choose_metrics, format_score


def evaluate(
    run: str = typer.Argument(..., metavar="RUN", help="Folder of a finished run."),
    data: str = typer.Argument(..., metavar="DATA", help="Labelled rows: file, folder (its test part) or Hub id."),
    on_bad_rows: str = typer.Option(
        "fail", metavar="WHAT", help="Rows that can't be scored: fail names them all, drop leaves them out."
    ),
    text_column: str | None = TEXT_COLUMN,
    text_pair_column: str | None = TEXT_PAIR_COLUMN,
    label_column: str | None = LABEL_COLUMN,
    messages_column: str | None = MESSAGES_COLUMN,
    prompt_column: str | None = PROMPT_COLUMN,
    completion_column: str | None = COMPLETION_COLUMN,
    as_json: bool = JSON_OPTION,
) -> None:
    """Score a run's model on labelled rows."""
    from afina.finished import evaluate as score

    result = score(
        run, data, on_bad_rows=on_bad_rows,  # type: ignore[arg-type]  # the function checks it
        text_column=text_column, text_pair_column=text_pair_column, label_column=label_column,
        messages_column=messages_column, prompt_column=prompt_column, completion_column=completion_column,
    )  # fmt: skip
    if as_json:
        print_json(result)
        return
    for note in result["notes"]:
        show(note, on_stderr=True)
    metrics = choose_metrics(result["metrics"], result["primary_metric"])
    scores = [format_score(result["metrics"], result["intervals"], f"test/{name}") for name in metrics]
    print_table(f"{run} on {result['rows']:,} rows of {data}", ["", *metrics], [[result["technique"], *scores]])
    if result["rows_seen"] is not None or not result["notes"]:
        show(describe_seen(result["rows"], result["rows_seen"]))


def describe_seen(rows: int, seen: int | None) -> str:
    """Whether the scores are those of new rows."""
    if seen is None:
        return "whether the model learned from these rows isn't known: the run has no seen_texts.npy"
    if seen:
        return f"warning: the model learned from {seen:,} of these {rows:,} rows, so the scores flatter; score new rows"
    return "the model learned from none of these rows"
