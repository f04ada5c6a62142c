"""afina train"""

from __future__ import annotations

import typer

from afina.cli.output import JSON_OPTION, QUIET_OPTION, print_json, print_run

DATA = typer.Argument(
    None, help="File (csv, tsv, jsonl, json, parquet), folder with train.* and maybe test.*, or Hub id."
)


def train(
    data: str | None = DATA,
    model: str | None = typer.Option(None, help="Folder, Hub id, .gguf file, or package:NAME/PATH."),
    technique: str | None = typer.Option(
        None, help="full, feature-extraction, lora, qlora, or auto: chosen by evidence."
    ),
    task: str | None = typer.Option(None, help="text-classification, text-regression or text-generation; guessed."),
    config: str | None = typer.Option(None, help="YAML file with any of the settings."),
    output: str | None = typer.Option(None, help="Folder of the run, new or empty; runs/... by default."),
    seed: str | None = typer.Option(None, help="Seed of the split, the order of rows, new weights and dropout."),
    text_column: str | None = typer.Option(None, help="Column of the text; guessed."),
    text_pair_column: str | None = typer.Option(None, help='Column of the second text; guessed, "" for none.'),
    label_column: str | None = typer.Option(None, help="Column of the label; guessed."),
    max_seq_length: str | None = typer.Option(None, help="Tokens a row may have."),
    learning_rate: str | None = typer.Option(None, help="Peak learning rate."),
    num_train_epochs: str | None = typer.Option(None, help="Passes over the training rows."),
    per_device_train_batch_size: str | None = typer.Option(None, help="Rows of one forward and backward pass."),
    messages_column: str | None = typer.Option(None, help="Column of lists of messages; guessed."),
    prompt_column: str | None = typer.Option(None, help="Column of what is asked; guessed."),
    completion_column: str | None = typer.Option(None, help="Column of the answer; guessed."),
    chat_template: str | None = typer.Option(None, help="auto, chatml, none, or path of a Jinja file."),
    class_weight: str | None = typer.Option(None, help="balanced weighs rare classes up; none."),
    r: str | None = typer.Option(None, help="Rank of LoRA's matrices."),
    lora_alpha: str | None = typer.Option(None, help="Scale of LoRA's update."),
    lora_dropout: str | None = typer.Option(None, help="Dropout of LoRA's inputs."),
    target_modules: str | None = typer.Option(None, help="Layers with an adapter: auto, all-linear or [a,b]."),
    set_: list[str] = typer.Option([], "--set", help="Any other setting as key=value; repeatable."),
    as_json: bool = JSON_OPTION,
    quiet: bool = QUIET_OPTION,
) -> None:
    """Adapt a model to labelled rows, score it on held-out ones, and write a report."""
    given = {
        "task": task, "seed": seed, "output": output, "text_column": text_column, "text_pair_column": text_pair_column,
        "label_column": label_column, "max_seq_length": max_seq_length, "learning_rate": learning_rate,
        "num_train_epochs": num_train_epochs, "per_device_train_batch_size": per_device_train_batch_size,
        "messages_column": messages_column, "prompt_column": prompt_column, "completion_column": completion_column,
        "chat_template": chat_template, "class_weight": class_weight, "r": r, "lora_alpha": lora_alpha,
        "lora_dropout": lora_dropout, "target_modules": target_modules,
    }  # fmt: skip
    from afina.api import fit
    from afina.config.load import parse_override

    settings = dict(parse_override(f"{name}={value}") for name, value in given.items() if value is not None)
    if text_pair_column == "":
        settings["text_pair_column"] = ""
    settings.update(parse_override(text) for text in set_)
    run = fit(model, data, technique, config=config, verbose=not quiet, **settings)
    if as_json:
        print_json(describe_result(run.report))
    else:
        print_run(run.report)


def describe_result(report: dict[str, object]) -> dict[str, object]:
    """What `--json` prints of a run."""
    names = (
        "run", "task", "technique", "reasons", "metrics", "intervals", "baselines", "trainable_parameters",
        "total_parameters", "duration_seconds", "peak_memory_bytes", "rows", "notes", "load", "kept_step",
    )  # fmt: skip
    return {**{name: report[name] for name in names}, "model": f"{report['run']}/model"}
