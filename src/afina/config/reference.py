"""docs/reference/settings.md, made from the fields of `RunConfig`.

python -m afina.config.reference > docs/reference/settings.md
"""

from __future__ import annotations

import sys
from typing import Any

from pydantic import BaseModel

from afina.config.kinds import describe_kind
from afina.config.run import RunConfig

HEAD = """# Settings

Every setting has one name: a key of a YAML file, `--set key=value` on the command line, a keyword in Python. The last
part of a name is enough where no other setting ends in it (`--set learning_rate=2e-5`). Values that don't fit and names
that don't exist are errors.
"""


def render_reference() -> str:
    """The page, one table for the settings without a section and one for each section."""
    tables = [render_table("", RunConfig)]
    for name, info in RunConfig.model_fields.items():
        section: Any = info.annotation
        if is_section(section):
            tables.append(render_table(name, section))
    return HEAD + "".join(tables)


def is_section(annotation: Any) -> bool:
    """Whether a field holds settings of its own."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def render_table(section: str, model: type[BaseModel]) -> str:
    """A heading and a line for each setting."""
    prefix = f"{section}." if section else ""
    lines = [f"\n## {section or 'the run'}\n", "| setting | default | takes | |", "|---|---|---|---|"]
    for name, info in model.model_fields.items():
        if not is_section(info.annotation):
            text = " ".join((info.description or "").split()).replace("|", "\\|")
            default = describe_default(info.default)
            lines.append(f"| `{prefix}{name}` | `{default}` | {describe_kind(info)} | {text} |")
    return "\n".join(lines) + "\n"


def describe_default(value: Any) -> str:
    """As it is written in YAML."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else str(value)


if __name__ == "__main__":
    sys.stdout.write(render_reference())
