"""afina train"""

from __future__ import annotations

import typer

from afina.cli.output import JSON_OPTION, QUIET_OPTION, SET_OPTION, option, print_json, print_run, select_output

DATA = typer.Argument(
    None,
    metavar="DATA",
    help="File (csv, tsv, jsonl, json, parquet, txt, conll), folder with train.* and maybe test.*, or Hub id.",
)


def train(
    data: str | None = DATA,
    model: str | None = option("REF", "Folder, Hub id, .gguf file, or package:NAME/PATH."),
    technique: str | None = option("NAME", "How it is learned: auto, full, feature-extraction, lora or qlora."),
    task: str | None = option(
        "NAME", "auto, text-classification, text-regression, text-generation or token-classification."
    ),
    config: str | None = option("FILE", "YAML file with any of the settings."),
    output: str | None = option("FOLDER", "Of the run, new or empty; runs/... by default."),
    seed: str | None = option("N", "Seed of all that is random: a whole number from 0 and below 2,147,483,648."),
    text_column: str | None = option("NAME", "Column of the text; guessed."),
    text_pair_column: str | None = option("NAME", 'Column of the second text; guessed, "" for none.'),
    label_column: str | None = option("NAME", "Column of the label; guessed."),
    max_seq_length: str | None = option("N", "Tokens a row may have: a whole number above 0, or auto."),
    learning_rate: str | None = option("RATE", "Peak learning rate: a number above 0 and up to 1, or auto."),
    num_train_epochs: str | None = option("N", "Passes over the training rows: a whole number above 0, or auto."),
    max_steps: str | None = option("N", "Optimizer steps in place of epochs: a whole number from 0, for none."),
    per_device_train_batch_size: str | None = option("N", "Rows of one pass: a whole number above 0."),
    messages_column: str | None = option("NAME", "Column of lists of messages; guessed."),
    prompt_column: str | None = option("NAME", "Column of what is asked; guessed."),
    completion_column: str | None = option("NAME", "Column of the answer; guessed."),
    chat_template: str | None = option("NAME", "auto, chatml, none, or path of a Jinja file."),
    chat_template_kwargs: str | None = option("MAPPING", "Its arguments: a mapping such as {key: value}."),
    class_weight: str | None = option("NAME", "Weight of rare classes: none or balanced."),
    r: str | None = option("N", "Rank of LoRA's matrices: a whole number above 0."),
    lora_alpha: str | None = option("SCALE", "Scale of LoRA's update: a number above 0 and up to 10,000."),
    lora_dropout: str | None = option("SHARE", "Dropout of LoRA's inputs: a number from 0 and below 1, or auto."),
    target_modules: str | None = option(
        "NAMES", "Layers with an adapter: a list such as [a, b], or auto or all-linear."
    ),
    set_: list[str] = SET_OPTION,
    as_json: bool = JSON_OPTION,
    quiet: bool = QUIET_OPTION,
) -> None:
    """Adapt a model to labelled rows, score it on held-out ones, and write a report."""
    given = {
        "task": task, "technique": technique,
        "seed": seed, "output": output, "text_column": text_column, "text_pair_column": text_pair_column,
        "label_column": label_column, "max_seq_length": max_seq_length, "learning_rate": learning_rate,
        "num_train_epochs": num_train_epochs, "max_steps": max_steps,
        "per_device_train_batch_size": per_device_train_batch_size,
        "messages_column": messages_column, "prompt_column": prompt_column, "completion_column": completion_column,
        "chat_template": chat_template, "chat_template_kwargs": chat_template_kwargs, "class_weight": class_weight,
        "r": r, "lora_alpha": lora_alpha, "lora_dropout": lora_dropout, "target_modules": target_modules,
    }  # fmt: skip
    from afina.api import fit
    from afina.config.keywords import collect_flags

    settings = collect_flags(given, set_, fit)
    run = fit(model, data, settings.pop("technique", None), config=config, verbose=not quiet, **settings)
    if as_json:
        print_json(select_output(run.report))
    else:
        print_run(run.report)
