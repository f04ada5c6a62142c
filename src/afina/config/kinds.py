"""What a setting takes, in words for somebody who writes YAML or flags: read from the schema, so it can't differ."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic.fields import FieldInfo

NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def describe_kind(field: FieldInfo) -> str:
    """Such as `a whole number above 0, or auto`, or `linear, cosine or constant`."""
    return ", or ".join(dict.fromkeys(_list_kinds(field.annotation, field.metadata)))


def takes_truth_values(annotation: Any) -> bool:
    """Whether a setting of this type may be true or false."""
    return annotation is bool or bool in get_args(annotation)


def _list_kinds(annotation: Any, limits: list[Any]) -> list[str]:
    """The descriptions of what an annotation allows; None is left out, since it stands for what is not given."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return [kind for each in inner for kind in _list_kinds(each, limits)]
    if origin is Annotated:
        return _list_kinds(inner[0], [limit for each in inner[1:] for limit in getattr(each, "metadata", [])])
    if origin is Literal:
        return [" or ".join(filter(None, [", ".join(map(str, inner[:-1])), str(inner[-1])]))]
    if origin is tuple:
        return ["a list such as [a, b]"]
    if origin is dict:
        return ["a mapping such as {key: value}"]
    return [] if annotation is NoneType else [NAMES[annotation] + _describe_range(limits)]


def _describe_range(limits: list[Any]) -> str:
    """Such as ` above 0 and up to 1`; empty without limits."""
    words = {
        annotated_types.Gt: ("above", "gt"), annotated_types.Ge: ("from", "ge"),
        annotated_types.Lt: ("below", "lt"), annotated_types.Le: ("up to", "le"),
    }  # fmt: skip
    found = [(words[type(limit)][0], getattr(limit, words[type(limit)][1])) for limit in limits if type(limit) in words]
    return " and".join(f" {word} {value:,}".removesuffix(".0") for word, value in found)
