"""Arguments of a chat template, such as `enable_thinking`, written into the template itself.

They become the defaults of what the template would otherwise find undefined. So the saved template writes what was
trained on by itself, in every library that reads it, and whoever renders it can still say otherwise.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from afina.errors import ConfigError, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FLAG = "--chat-template-kwargs"
# What transformers itself hands to a template, besides the special tokens.
GIVEN = frozenset({"add_generation_prompt", "documents", "messages", "raise_exception", "strftime_now", "tools"})
MARKS = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")


def set_arguments(tokenizer: PreTrainedTokenizerBase, arguments: Mapping[str, Any]) -> None:
    """Write the arguments into the tokenizer's template, or into each that knows them where it has several.

    Raises:
        ConfigError: for arguments that no template mentions, with the names that it knows.
    """
    template = tokenizer.chat_template
    named: dict[str, str] = template if isinstance(template, dict) else {"": template}
    known = {name: list_arguments(text) for name, text in named.items()}
    check_known(arguments, frozenset[str]().union(*known.values()))
    written = {
        name: write_arguments({key: value for key, value in arguments.items() if key in known[name]}) + text
        for name, text in named.items()
    }
    tokenizer.chat_template = written if isinstance(template, dict) else written[""]


def list_arguments(template: str) -> frozenset[str]:
    """Names that a template reads and that neither transformers nor the template itself gives a value.

    One that it gives a value only where nothing is defined counts too.
    """
    from jinja2 import Environment, meta, nodes

    tree = Environment(extensions=["jinja2.ext.loopcontrols"]).parse(MARKS.sub("", template))
    stored = {name.name for name in tree.find_all(nodes.Name) if name.ctx != "load"}
    asked = [*tree.find_all(nodes.Test), *tree.find_all(nodes.Filter)]
    optional = {
        each.node.name
        for each in asked
        if each.name in ("defined", "undefined", "default", "d") and isinstance(each.node, nodes.Name)
    }
    found = meta.find_undeclared_variables(tree) - (stored - optional) - GIVEN
    return frozenset(name for name in found if not name.endswith("_token"))


def check_known(arguments: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise ConfigError for arguments that aren't among the known ones."""
    expected = f"one of {', '.join(sorted(known))}" if known else "none: this chat template takes no arguments"
    problems = []
    for name in sorted(arguments.keys() - known):
        near = difflib.get_close_matches(name, sorted(known), 1)
        remedy = f"{FLAG} '{{{near[0]}: {json.dumps(arguments[name])}}}'" if near else f"leave it out of {FLAG}"
        problems.append(Problem("the chat template doesn't know an argument", name, expected, remedy))
    if problems:
        raise ConfigError(problems=problems)


def write_arguments(arguments: Mapping[str, Any]) -> str:
    """Jinja that defines them unless somebody has.

    It ends with a line's end, which Jinja takes away, so that what follows still begins a line.
    """
    lines = [
        f"{{% if {name} is not defined %}}{{% set {name} = {write_literal(value)} %}}{{% endif %}}\n"
        for name, value in arguments.items()
    ]
    return "".join(lines)


def write_literal(value: Any) -> str:
    """A value as Jinja spells it: as JSON, but for null."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{json.dumps(key)}: {write_literal(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(write_literal, value))}]"
    return "none" if value is None else json.dumps(value, ensure_ascii=False)
