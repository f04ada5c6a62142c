"""docs/reference/api.md, made from the docstrings of what `afina` exports.

python docs/reference/make_api.py > docs/reference/api.md
"""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

import afina

HEAD = """# What `afina` exports

Functions in the order in which they are needed, then what they give, then errors. Settings are keywords of `fit`,
`check`, `plan` and `search`: [settings](settings.md) lists them all. Messages that name what to write speak of keywords
here, and of flags on the command line.
"""
FUNCTIONS = (
    "fit", "resume", "load", "predict", "predict_file", "evaluate", "compare", "merge", "open_chat", "list_runs",
    "check", "plan", "search", "reproduce",
)  # fmt: skip
CLASSES = ("Run", "Search", "Reproduction")
RUN_CONFIG = "\n### `RunConfig`\n\nA whole description, as a YAML file holds it: `fit(config=...)` takes one.\n"


def render_page() -> str:
    """The page."""
    functions = "".join(render_function(getattr(afina, name), f"afina.{name}") for name in FUNCTIONS)
    classes = "".join(render_class(getattr(afina, name)) for name in CLASSES)
    named = {*FUNCTIONS, *CLASSES, "RunConfig"}
    errors = "".join(
        f"- `{name}`: {first_line(getattr(afina, name))}\n"
        for name in afina.__all__ if name not in named and not name.startswith("_")
    )  # fmt: skip
    return f"{HEAD}\n## Functions\n{functions}\n## What they give\n{classes}{RUN_CONFIG}\n## Errors\n\n{errors}"


def render_class(kind: type) -> str:
    """Its docstring, and each public method and property."""
    parts = [f"\n### `{kind.__name__}`\n\n{render_text(kind)}\n\n"]
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property):
            parts.append(f"- **`{name}`**: {' '.join((member.__doc__ or '').split())}\n")
        elif inspect.isfunction(member):
            parts.append(render_function(member, f"{kind.__name__.lower()}.{name}", level=4))
    return "".join(parts)


def render_function(function: Any, name: str, level: int = 3) -> str:
    """Its call and its docstring."""
    signature = inspect.signature(function)
    shown = [each for each in signature.parameters.values() if each.name != "self"]
    call = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(signature.replace(parameters=shown)))
    return f"\n{'#' * level} `{name}`\n\n```python\n{name}{call}\n```\n\n{render_text(function)}\n"


def render_text(thing: Any) -> str:
    """The docstring as Markdown: arguments and errors as lists."""
    lines = []
    for line in inspect.getdoc(thing).splitlines():
        heading = re.fullmatch(r"(Args|Raises|Attributes):(.*)", line)
        if heading:
            lines += [f"{'Arguments' if heading[1] == 'Args' else heading[1]}:{heading[2]}", ""]
            continue
        item = re.match(r" {4}(\w+): (.*)", line)
        lines.append(f"- `{item[1]}`: {item[2]}" if item else line.strip() if line.startswith("    ") else line)
    return "\n".join(lines)


def first_line(thing: Any) -> str:
    """The first sentence of its docstring."""
    return (inspect.getdoc(thing) or "").split("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    sys.stdout.write(render_page())
