"""Any setting as a flag: `--weight-decay 0.1` is `--set weight_decay=0.1`, for every verb that takes settings.

The help of a verb lists those that people reach for; an error may name any of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from typer.core import TyperCommand

# Settings that are an argument or a flag of another name.
OWN = {"path", "reference"}
# Settings that not every verb reads which takes settings: `check` and `plan` make no run.
OF_RUNS = {"output"}
SHOWN: Mapping[str, tuple[str, str]] = {
    "technique": ("NAME", "How it is learned: auto, full, feature-extraction, lora or qlora."),
    "task": ("NAME", "auto, text-classification, text-regression, text-generation or token-classification."),
    "output": ("FOLDER", "Where the result goes, new or empty; runs/... by default."),
    "seed": ("N", "Seed of all that is random: a whole number from 0 and below 2,147,483,648."),
    "text_column": ("NAME", "Column of the text; guessed."),
    "text_pair_column": ("NAME", 'Column of the second text; guessed, "" for none.'),
    "label_column": ("NAME", "Column of the label; guessed."),
    "messages_column": ("NAME", "Column of lists of messages; guessed."),
    "prompt_column": ("NAME", "Column of what is asked; guessed."),
    "completion_column": ("NAME", "Column of the answer; guessed."),
    "chat_template": ("NAME", "auto, chatml, none, or path of a Jinja file."),
    "chat_template_kwargs": ("MAPPING", "Its arguments: a mapping such as {key: value}."),
    "max_seq_length": ("N", "Tokens a row may have: a whole number above 0, or auto."),
    "learning_rate": ("RATE", "Peak learning rate: a number above 0 and up to 1, or auto."),
    "num_train_epochs": ("N", "Passes over the training rows: a whole number above 0, or auto."),
    "max_steps": ("N", "Optimizer steps in place of epochs: a whole number from 0, for none."),
    "per_device_train_batch_size": ("N", "Rows of one pass: a whole number above 0."),
    "class_weight": ("NAME", "Weight of rare classes: none or balanced."),
    "r": ("N", "Rank of LoRA's matrices: a whole number above 0."),
    "lora_alpha": ("SCALE", "Scale of LoRA's update: a number above 0 and up to 10,000."),
    "lora_dropout": ("SHARE", "Dropout of LoRA's inputs: a number from 0 and below 1, or auto."),
    "target_modules": ("NAMES", "Layers with an adapter: a list such as [a, b], or auto or all-linear."),
}
"""Metavar and help of the settings that some help lists; in the words of the schema, which takes too long to import."""
SWITCHED = ("true", "false", "auto", "yes", "no", "on", "off", "1", "0")


class SettingsCommand(TyperCommand):
    """A verb that takes settings."""

    shown: tuple[str, ...] = ()
    """Settings that its help lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        return super().parse_args(ctx, list(spell_settings(args, {*own, *ctx.help_option_names}, self.shown)))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        super().format_options(ctx, formatter)
        with formatter.section("The most used settings"):
            formatter.write_dl(
                [(f"--{name.replace('_', '-')} {SHOWN[name][0]}", SHOWN[name][1]) for name in self.shown]
            )


def show_settings(*names: str) -> type[SettingsCommand]:
    """A kind of verb that takes settings, and whose help lists these."""

    class Verb(SettingsCommand):
        shown = names

    return Verb


def spell_settings(arguments: Sequence[str], own: Collection[str], shown: Collection[str] = ()) -> Iterator[str]:
    """The arguments with `--set name=value` for each flag that is a setting's name and none of the verb's own.

    Args:
        shown: settings in the verb's help.
    """
    names: Mapping[str, bool] | None = None
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        flag, separator, value = argument.partition("=")
        if argument == "--":  # what follows are no flags
            yield from (argument, *rest)
            return
        if not flag.startswith("--") or flag in own:
            yield argument
            continue
        names = list_settings(shown) if names is None else names
        name = flag[2:].replace("-", "_")
        if name not in names:
            yield argument
            continue
        if not separator and names[name] and not (rest and rest[0].lower() in SWITCHED):
            value = "true"  # what is true or false needs no value
        elif not separator and (not rest or rest[0].startswith("--")):
            yield argument  # the parser refuses it
            continue
        elif not separator:
            value = rest.pop(0)
        yield from ("--set", f"{name}={value}")


def list_settings(shown: Collection[str]) -> Mapping[str, bool]:
    """The last parts of settings' paths, which name them, and whether each is true or false.

    Args:
        shown: settings in the verb's help.
    """
    from afina.config.load import list_fields  # pydantic, which help does without

    kinds = {path.rpartition(".")[2]: "bool" in str(field.annotation) for path, field in list_fields().items()}
    unread = OWN | (OF_RUNS - set(shown))
    return {name: kind for name, kind in kinds.items() if name not in unread}


def mend_flag(flag: str, what: str, remedy: str, shown: Collection[str]) -> tuple[str, str]:
    """What is wrong with a flag that the parser refuses, and what to write; as they were where no setting is meant.

    A setting's name comes here where it has no value, and what other programs call a setting at any time.
    """
    from afina.config.load import ALIASES

    name = flag.lstrip("-").replace("-", "_")
    if name in list_settings(shown):
        return f"the option {flag} needs a value", f"{flag} VALUE"
    if name in ALIASES:
        return what.partition(" (")[0], f"--{ALIASES[name].replace('_', '-')} VALUE"
    return what, remedy
