"""Each check on rows made by hand: what it finds, by which row number, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import afina
from afina.data.doctor.characters import clean_text
from afina.data.doctor.classes import normalize_label
from afina.data.doctor.finding import Finding, shorten, show_share
from afina.data.doctor.personal_forms import find_personal, is_card, is_iban
from afina.data.doctor.registry import CHECKS
from afina.errors import DataError

Find = Callable[..., dict[str, Finding]]
Rows = list[dict[str, Any]]


def test_good_rows_have_no_finding(rows: Rows, find: Find) -> None:
    assert find(rows) == {}
    assert len(CHECKS) > 15


def test_repeated_rows_are_those_after_the_first(rows: Rows, find: Find) -> None:
    found = find([*rows, {**rows[3], "text": f"  {rows[3]['text'].upper()}"}])["duplicate-rows"]
    assert (found.severity, found.count, found.rows) == ("hint", 1, {"all": [41]})
    assert find([*rows, *rows])["duplicate-rows"].severity == "warning"


def test_a_text_with_two_labels_conflicts_and_repeats_nothing(rows: Rows, find: Find) -> None:
    found = find([*rows, {**rows[4], "label": "pos"}])
    assert found.keys() == {"conflicting-labels"}
    assert found["conflicting-labels"].rows == {"all": [5, 41]}
    assert found["conflicting-labels"].title == "1 text of the data with more than one label: 2 rows (4.9%)"
    torn = [{**row, "label": {"pos": "neg", "neg": "pos"}[row["label"]]} for row in rows[:10]]
    assert find([*rows, *torn])["conflicting-labels"].severity == "error"


def test_numbers_conflict_where_they_are_far_apart(find: Find) -> None:
    rows = [{"text": f"row {i} of a hundred", "label": i / 7} for i in range(100)]
    near, far = {"text": rows[0]["text"], "label": 0.4}, {"text": rows[1]["text"], "label": 13.5}
    assert find([*rows, near, far])["conflicting-labels"].rows == {"all": [2, 102]}


def test_lists_of_labels_conflict_whatever_their_order(rows: Rows, find: Find) -> None:
    several = [{"text": row["text"], "label": [row["label"], "any"]} for row in rows]
    same, other = {**several[0], "label": ["any", "neg"]}, {**several[1], "label": ["any"]}
    found = find([*several, same, other])
    assert found["duplicate-rows"].rows == {"all": [41]}
    assert found["conflicting-labels"].rows == {"all": [2, 42]}


def test_leaks_are_an_error_where_they_make_the_figures_worthless(rows: Rows, find: Find) -> None:
    test = [{"text": f"quite another sentence, the one with {i}", "label": "pos"} for i in range(9)]
    found = find({"train": rows, "test": [*test, rows[1]]})
    assert found["leaked-rows"].severity == "warning"
    assert found["leaked-rows"].rows == {"test": [10]}
    assert "absent-classes" in found
    assert find({"train": rows, "test": [*test, *rows[:5]]})["leaked-rows"].severity == "error"


def test_the_parts_are_compared_two_by_two(rows: Rows) -> None:
    parts = {"train": rows[:20], "validation": rows[20:31], "test": rows[30:]}
    leaks = [each for each in afina.check(parts).findings if each.code == "leaked-rows"]
    assert [(each.title.split(" with ")[1], each.rows) for each in leaks] == [
        ("a text that stands in the validation part too", {"test": [1]})
    ]
    same = afina.check({"train": rows[:20], "validation": rows[20:], "test": rows[20:]})
    assert [(each.code, each.severity) for each in same.findings] == [("leaked-rows", "warning")]


LONG = "the committee met on a cold and rainy Tuesday to talk about the new library beside the old railway station"


def test_near_repeats_share_most_of_their_words(rows: Rows, find: Find) -> None:
    one, other = {"text": LONG, "label": "pos"}, {"text": LONG.replace("cold", "warm"), "label": "neg"}
    different = {"text": " ".join(reversed(LONG.split()[::2])) + " was closed", "label": "pos"}
    found = find([*rows, one, other, different])["near-duplicates"]
    assert found.rows == {"all": [42]}
    assert ", 1 of them with another label" in found.title
    assert find({"train": [*rows, one], "test": [other, different]})["near-leaks"].rows == {"test": [1]}
    texts = ("set a timer for five minutes please", "please set a timer for five minutes")
    short = [{"text": text, "label": "pos"} for text in texts]
    assert "near-duplicates" not in find([*rows, *short])


def test_spellings_of_one_label_are_one_finding(rows: Rows, find: Find) -> None:
    found = find(
        [*rows, {"text": "one more line of text", "label": "Pos "}, {"text": "and yet another", "label": "POS"}]
    )
    assert found.keys() == {"label-variants"}
    assert found["label-variants"].rows == {"all": [41, 42]}
    assert "'Pos ' beside 'pos'" in found["label-variants"].title


@pytest.mark.parametrize(
    ("names", "is_one"),
    [
        (("1", "01"), True), (("1", "1.0"), True), (("007", "7.00"), True), (("+2", "2"), True),
        (("1.1", "1.10"), False), (("1", "10"), False), (("-1", "1"), False), (("1a", "01a"), False),
    ],
)  # fmt: skip
def test_numbers_may_be_written_in_two_ways(names: tuple[str, str], is_one: bool) -> None:
    assert (normalize_label(names[0]) == normalize_label(names[1])) is is_one


def test_small_and_lopsided_classes(rows: Rows, find: Find) -> None:
    rare = [{"text": f"a rare thing of kind {i * 31}", "label": "rare"} for i in range(3)]
    found = find([*rows, *rare])["small-classes"]
    assert (found.count, found.rows) == (1, {"all": [41, 42, 43]})
    many = [{**row, "label": "pos" if i > 4 else "neg"} for i, row in enumerate(make_distinct_rows(300))]
    assert find(many)["imbalance"].severity == "warning"


def make_distinct_rows(count: int) -> Rows:
    """Texts that have nothing in common."""
    return [{"text": f"{i} {i * 7919 % 1009} {i * 104729 % 997}", "label": "pos"} for i in range(count)]


def test_characters_that_went_wrong(rows: Rows, find: Find) -> None:
    bad = [
        "un cafÃ© trÃ¨s bon ici",
        "a bell\x07 rings",
        "lost � letters here",
        "tab\tand\nline feed are fine",
        "Ça, «déjà vu…»",
    ]
    found = find([*rows, *({"text": text, "label": "pos"} for text in bad)])
    assert found["mojibake"].rows == {"all": [41]}
    assert found["control-characters"].rows == {"all": [42]}
    assert found["control-characters"].examples[0].text == "a bell\\x07 rings"
    assert found["lost-characters"].rows == {"all": [43]}
    assert [clean_text(text) for text in bad] == ["un café très bon ici", "a bell rings", *bad[2:]]
    assert clean_text("it\x92s 5 o\x92clock") == "it’s 5 o’clock"


def test_rows_keep_their_numbers_behind_the_first_batch(find: Find) -> None:
    rows = [{**row, "label": "ab"[i % 2]} for i, row in enumerate(make_distinct_rows(1200))]
    rows[9] = {"text": None, "label": "a"}
    rows[1100]["text"] += "\x07"
    found = find(rows)
    assert found["empty-text"].rows == {"all": [10]}
    assert found["control-characters"].rows == {"all": [1101]}


def test_labels_that_the_texts_name(rows: Rows, find: Find) -> None:
    told = [{**row, "text": f"{row['text']} [{row['label'].upper()}]"} for row in rows]
    assert find(told)["label-in-text"].severity == "warning"
    everywhere = [{**row, "text": f"{row['text']} neg or pos"} for row in rows]
    assert "label-in-text" not in find(everywhere)


def test_texts_with_nothing_in_them(rows: Rows, find: Find) -> None:
    found = find([*rows, {"text": "...", "label": "pos"}, {"text": "fine", "label": "pos"}])
    assert found["wordless-text"].rows == {"all": [41]}
    assert found["one-word-text"].rows == {"all": [42]}
    same = find([{"text": "the same", "label": label} for label in ("a", "b") * 10])
    assert same["constant-text"].severity == "error"


def test_columns_that_say_nothing(rows: Rows, find: Find) -> None:
    found = find([{**row, "source": "web", "id": i, "note": None} for i, row in enumerate(rows)])["constant-columns"]
    assert (found.count, found.rows) == (2, {})
    assert "'source' (always \"web\")" in found.title


def test_unread_rows_are_said_before_what_the_others_lack(tmp_path: Path) -> None:
    source = tmp_path / "broken.jsonl"
    source.write_text('{"text": "a text", "label": "b"}\n{"text": "another"\n', encoding="utf-8")
    with pytest.raises(DataError) as caught:
        afina.check(source)
    unread, alone = caught.value.problems
    assert (unread.what, list(unread.rows)) == ("broken.jsonl: rows that are not valid JSON", [2])
    assert alone.what == "broken.jsonl: the label column 'label' holds one class only"


def test_rows_that_cannot_be_used_are_errors_by_their_reason(rows: Rows, find: Find) -> None:
    bad = [{"text": " ", "label": "pos"}, {"text": "no label", "label": None}, {"text": 3, "label": "pos"}, "no row"]
    found = find([*rows, *bad])
    assert {code: each.rows for code, each in found.items()} == {
        "empty-text": {"all": [41]},
        "missing-label": {"all": [42]},
        "text-not-text": {"all": [43]},
        "unread-row": {"all": [44]},
    }
    assert {each.severity for each in found.values()} == {"error"}
    unknown = find({"train": rows, "test": [{"text": "new", "label": "never seen"}]})["unknown-label"]
    assert unknown.rows == {"test": [1]}


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("write to ana.perez+x@mail.example.org today", ["e-mail"]),
        ("card 4111 1111 1111 1111 expires", ["card number"]),
        ("card 4111 1111 1111 1112 is wrong", []),
        ("IBAN ES91 2100 0418 4502 0005 1332, thanks", ["IBAN"]),
        ("IBAN ES92 2100 0418 4502 0005 1332", []),
        ("llama al 612 345 678", ["phone number"]),
        ("call +44 20 7946 0958 or (555) 123-4567", ["phone number", "phone number"]),
        ("on 2004-05-12 at 10:15:30, 1,234,567 people, version 1.2.3.4", []),
        ("order 123456789012 and tracking 00340434161094015902", []),
        ("@user thanks @ home", []),
    ],
)
def test_personal_data_has_a_form_of_its_own(text: str, kinds: list[str]) -> None:
    assert [kind for kind, _ in find_personal(text)] == kinds


def test_check_digits() -> None:
    assert is_card("5500 0000 0000 0004")
    assert not is_card("0000 0000 0000 0000")
    assert is_iban("GB82WEST12345698765432")


def test_examples_hide_what_they_found(rows: Rows, find: Find) -> None:
    found = find([*rows, {"text": "write to somebody@example.org now", "label": "pos"}])["personal-data"]
    assert found.severity == "hint"
    assert found.examples[0].text == "e-mail so" + "•" * 18


def test_examples_of_other_findings_hide_it_too(rows: Rows, find: Find) -> None:
    twice = {"text": "call +34 612 345 678 or write to somebody@example.org", "label": "pos"}
    found = find([*rows, twice, twice])["duplicate-rows"]
    assert found.examples[0].text == "call +3" + "•" * 13 + " or write to so" + "•" * 18


def test_what_is_cut_by_the_end_of_an_example_is_hidden() -> None:
    shown = shorten("x " * 75 + "somebody@example.org")
    assert shown.endswith("so••••••••…")


def test_a_second_language_is_a_hint(find: Find) -> None:
    pytest.importorskip("py3langid")
    english = "The weather was fine in the morning, so we went for a long walk along the river number"
    spanish = "El tiempo era bueno por la mañana y fuimos a dar un paseo muy largo junto al río número"
    rows = [{"text": f"{spanish if i % 4 == 0 else english} {i * i}", "label": ("a", "b")[i % 2]} for i in range(40)]
    found = find(rows)["languages"]
    assert "en 75%, es 25%" in found.title
    assert found.examples[0].text.startswith("El tiempo")


def chat(*turns: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns], **more}


def test_conversations(find: Find) -> None:
    good = [chat(("user", f"what is {i} plus {i * i}?"), ("assistant", f"it is {i + i * i}")) for i in range(20)]
    bad = [
        chat(("user", "hello"), ("assistant", "hi"), ("user", "and now?")),
        chat(("user", "a"), ("user", "b"), ("assistant", "c")),
        chat(("user", "late"), ("system", "be kind"), ("assistant", "c")),
        chat(("user", " "), ("assistant", "what?")),
        chat(("user", "empty"), ("assistant", "")),
        {"messages": []},
        good[2],
        chat(("user", "what is 3 plus 9?"), ("assistant", "twelve")),
    ]
    assert find(good) == {}
    report = afina.check([*good, *bad])
    found = {(each.code, each.title): each.rows for each in report.findings}
    assert {code: rows for (code, _), rows in found.items() if code != "unusable-row"} == {
        "no-final-answer": {"all": [21]},
        "turn-order": {"all": [22, 23]},
        "empty-turns": {"all": [24]},
        "duplicate-rows": {"all": [27]},
    }
    unusable = {title: rows for (code, title), rows in found.items() if code == "unusable-row"}
    assert list(unusable.values()) == [{"all": [26]}, {"all": [25]}]
    tools = chat(("user", "time?"), ("assistant", "let me see"), ("tool", "10"), ("tool", "11"), ("assistant", "ten"))
    assert find([*good, tools]) == {}


def test_the_same_prompt_on_both_sides_is_worthless_only_with_the_same_answer(find: Find) -> None:
    train = [chat(("user", f"question {i}"), ("assistant", f"answer {i}")) for i in range(20)]
    other = [chat(("user", f"question {i}"), ("assistant", f"reply {i}")) for i in range(5)]
    assert find({"train": train, "test": other})["leaked-rows"].severity == "warning"
    assert find({"train": train, "test": train[:5]})["leaked-rows"].severity == "error"


def test_shares_and_examples_are_readable() -> None:
    assert [show_share(share) for share in (0.0, 0.0001, 0.125, 1.0)] == ["0.0%", "<0.1%", "12.5%", "100.0%"]
    assert shorten("a\n b\x00") == "a b\\x00"
    long = shorten("x" * 400 + "here" + "y" * 400, 400)
    assert long.startswith("…x")
    assert "here" in long
    assert len(long) == 162


def test_the_report_prints_and_becomes_json(rows: Rows) -> None:
    report = afina.check([*rows, rows[0]])
    assert str(report).splitlines()[0] == "a list in Python: text-classification, 41 rows"
    assert "[duplicate-rows]" in str(report)
    assert str(report).splitlines()[-1] == "0 errors, 0 warnings, 1 hint"
    found = report.to_dict()
    assert found["has_errors"] is False
    assert found["findings"][0]["rows"] == {"all": [41]}
    assert found["facts"]["classes"] == {"all": {"neg": 21, "pos": 20}}
