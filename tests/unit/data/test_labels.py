"""Labels: their order, their spelling, and what can't be one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afina.data.label_values import name_label, parse_list, parse_number
from afina.data.labels import (
    MISSING,
    NO_LIST,
    NO_NAME,
    NO_NUMBER,
    UNKNOWN,
    LabelSpace,
    sort_names,
)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10", "9", "-1", "2.5"], ("-1", "2.5", "9", "10")),
        (["pos", "neg", "10"], ("10", "neg", "pos")),
        (["true", "false"], ("false", "true")),
        ([" a", "A", "a"], (" a", "A", "a")),
    ],
)
def test_order_of_names(names: list[str], expected: tuple[str, ...]) -> None:
    assert sort_names(names) == expected
    assert sort_names(names[::-1]) == expected


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("x ", "x "),
        (True, "true"),
        (1, "1"),
        (1.0, "1"),
        (0.5, "0.5"),
        ("1.0", "1.0"),
        (None, None),
        (" ", None),
        ([], None),
    ],
)
def test_names_of_labels(value: Any, name: str | None) -> None:
    assert name_label(value) == name


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("3", 3.0),
        (" 2.5 ", 2.5),
        ("-1e3", -1000.0),
        (7, 7.0),
        ("1_000", None),
        ("nan", None),
        ("inf", None),
        ("-Infinity", None),
        (True, None),
        ("", None),
        ("x", None),
        (None, None),
        ([1], None),
        ("1e999", None),
        (10**400, None),
    ],
)
def test_numbers(value: Any, number: float | None) -> None:
    assert parse_number(value) == number


@pytest.mark.parametrize(
    ("value", "separator", "names"),
    [
        (["b", "a", "b"], None, ["b", "a"]),
        ([], None, []),
        ([1, True], None, ["1", "true"]),
        ("a| b |", "|", ["a", "b"]),
        ('["a", 1]', None, ["a", "1"]),
        ('["a|b"]', "|", ["a|b"]),
        ("a", None, None),
        ([None], None, None),
        ([["a"]], None, None),
        ("[a]", None, None),
        ("['a', 'b']", None, ["a", "b"]),
        ("['it's']", None, None),
        ({"a": 1}, None, None),
    ],
)
def test_lists_of_labels(value: Any, separator: str | None, names: list[str] | None) -> None:
    assert parse_list(value, separator) == names


MULTICLASS = LabelSpace("multiclass", ("0", "1", "si"))
MULTILABEL = LabelSpace("multilabel", ("a", "b", "c"), "|")
REGRESSION = LabelSpace("regression")


@pytest.mark.parametrize(
    ("space", "value", "code"),
    [
        (MULTICLASS, 1, 1),
        (MULTICLASS, 1.0, 1),
        (MULTICLASS, "si", 2),
        (MULTILABEL, "c|a", [0, 2]),
        (MULTILABEL, [], []),
        (MULTILABEL, '["b"]', [1]),
        (REGRESSION, "2.5", 2.5),
        (REGRESSION, 3, 3.0),
    ],
)
def test_encode(space: LabelSpace, value: Any, code: Any) -> None:
    assert space.encode(value) == code


@pytest.mark.parametrize(
    ("space", "value", "reason"),
    [
        (MULTICLASS, None, MISSING),
        (MULTICLASS, "  ", MISSING),
        (MULTICLASS, "no", UNKNOWN),
        (MULTICLASS, [1], NO_NAME),
        (MULTICLASS, {}, NO_NAME),
        (MULTILABEL, None, MISSING),
        (MULTILABEL, ["d"], UNKNOWN),
        (MULTILABEL, 3, NO_LIST),
        (REGRESSION, "x", NO_NUMBER),
        (REGRESSION, True, NO_NUMBER),
        (REGRESSION, "", MISSING),
    ],
)
def test_unreadable_labels(space: LabelSpace, value: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        space.encode(value)


@given(st.lists(st.text(), unique=True))
def test_space_survives_json(names: list[str]) -> None:
    space = LabelSpace("multilabel", tuple(names), ";")
    assert LabelSpace.from_dict(json.loads(json.dumps(space.as_dict()))) == space


def test_a_number_is_found_however_it_is_spelled() -> None:
    space = LabelSpace("multiclass", ("1.0", "2.0", "2.5"))
    assert [space.encode(value) for value in ("1", 1, 1.0, "2.50", "1.0")] == [0, 0, 0, 2, 0]
    for odd in ("3", "x", "nan"):
        with pytest.raises(ValueError):  # noqa: PT011  (one of the reasons of the module)
            space.encode(odd)
    with pytest.raises(ValueError, match=UNKNOWN):
        LabelSpace("multiclass", ("1", "1.0")).encode("1.00")
    with pytest.raises(ValueError, match=UNKNOWN):
        LabelSpace("multiclass", ("1.0", "two")).encode("1")


@pytest.mark.parametrize("value", [9007199254740993, 10**30 + 1, -7, 2.5, 1e300, 0])
def test_numbers_come_back_as_they_were(value: float) -> None:
    name = name_label(value)
    assert name is not None
    restored = LabelSpace("multiclass", (name, "1"), values="numbers").restore(name)
    assert (restored, type(restored)) == (value, int if float(value).is_integer() else float)
