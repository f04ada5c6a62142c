"""Any setting as a flag: `--weight-decay 0.1` is `--set weight_decay=0.1`, for every verb that takes settings.

The help of a verb lists the flags that people reach for; an error may name any of the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from typer.core import TyperCommand


class SettingsCommand(TyperCommand):
    """A verb that takes settings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = {name for parameter in self.params for name in (*parameter.opts, *parameter.secondary_opts)}
        return super().parse_args(ctx, list(spell_settings(args, {*own, *ctx.help_option_names})))


def spell_settings(arguments: Sequence[str], own: Collection[str]) -> Iterator[str]:
    """The arguments with `--set name=value` for each flag that is a setting's name and none of the verb's own."""
    names: Collection[str] | None = None
    rest = iter(arguments)
    for argument in rest:
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
        given = value if separator else next(rest, None)
        # Without a value it stays as it is, and the parser refuses it.
        yield from (argument,) if given is None else ("--set", f"{name}={given}")


def list_settings() -> Collection[str]:
    """The last parts of all settings' paths, which name them."""
    from afina.config.load import list_keys, name_leaves  # pydantic, which help does without

    return name_leaves(list_keys())


def mend_flag(flag: str, what: str, remedy: str) -> tuple[str, str]:
    """What is wrong with a flag that the parser refuses, and what to write; as they were where no setting is meant.

    A setting's name comes here where it has no value, and what other programs call a setting at any time.
    """
    from afina.config.load import ALIASES, find_path

    name = flag.lstrip("-").replace("-", "_")
    if find_path(name):
        return f"the option {flag} needs a value", f"{flag} VALUE"
    if name in ALIASES:
        return what.partition(" (Possible")[0], f"--{ALIASES[name].replace('_', '-')} VALUE"
    return what, remedy
