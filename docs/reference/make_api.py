"""docs/reference/api.md, made from the docstrings of what `afina` exports.

python docs/reference/make_api.py > docs/reference/api.md
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import sys
import textwrap
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
CLASSES = ("Run", "CheckReport", "Finding", "Plan", "Search", "Reproduction", "Speaker")
# Of classes whose other methods are for the command line: the members that are told.
TOLD = {
    "CheckReport": ("has_errors", "print", "to_dict", "save_html"), "Finding": ("list_rows",),
    "Plan": ("first_guess", "to_dict"), "Speaker": ("has_template", "answer", "encode"),
}  # fmt: skip
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
    """Its docstring, its fields, and each public method and property."""
    parts = [f"\n### `{kind.__name__}`\n\n{render_text(kind)}\n\n"]
    parts += [f"- **`{name}`**: {text}\n" for name, text in list_fields(kind) if not name.startswith("_")]
    for name, member in vars(kind).items():
        if name.startswith("_") or name not in TOLD.get(kind.__name__, vars(kind)):
            continue
        if isinstance(member, property):
            parts.append(f"- **`{name}`**: {' '.join((member.__doc__ or '').split())}\n")
        elif inspect.isfunction(member):
            parts.append(render_function(member, f"{kind.__name__.lower()}.{name}", level=4))
    return "".join(parts)


def list_fields(kind: type) -> list[tuple[str, str]]:
    """The fields of a data class that have a line under them, with that line."""
    if not dataclasses.is_dataclass(kind):
        return []
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    body = tree.body if isinstance(tree, ast.ClassDef) else []
    return [
        (field.target.id, " ".join(text.value.value.split()))
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str)
    ]


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
