"""Any setting as a flag: `--weight-decay 0.1` is `--set weight_decay=0.1`, for every verb that takes settings.

The help of a verb lists the flags that people reach for; an error may name any of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from typer.core import TyperCommand

# Settings that a verb which reads them has a flag or an argument of its own for.
OWN = {"output", "path", "reference"}
SWITCHED = ("true", "false", "auto", "yes", "no", "on", "off", "1", "0")


class SettingsCommand(TyperCommand):
    """A verb that takes settings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        return super().parse_args(ctx, list(spell_settings(args, {*own, *ctx.help_option_names})))


def spell_settings(arguments: Sequence[str], own: Collection[str]) -> Iterator[str]:
    """The arguments with `--set name=value` for each flag that is a setting's name and none of the verb's own."""
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
        names = list_settings() if names is None else names
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


def list_settings() -> Mapping[str, bool]:
    """The last parts of settings' paths, which name them, and whether each is true or false."""
    from afina.config.load import list_fields  # pydantic, which help does without

    kinds = {path.rpartition(".")[2]: "bool" in str(field.annotation) for path, field in list_fields().items()}
    return {name: kind for name, kind in kinds.items() if name not in OWN}


def mend_flag(flag: str, what: str, remedy: str) -> tuple[str, str]:
    """What is wrong with a flag that the parser refuses, and what to write; as they were where no setting is meant.

    A setting's name comes here where it has no value, and what other programs call a setting at any time.
    """
    from afina.config.load import ALIASES, find_path

    name = flag.lstrip("-").replace("-", "_")
    if find_path(name) and name not in OWN:
        return f"the option {flag} needs a value", f"{flag} VALUE"
    if name in ALIASES:
        return what.partition(" (")[0], f"--{ALIASES[name].replace('_', '-')} VALUE"
    return what, remedy
