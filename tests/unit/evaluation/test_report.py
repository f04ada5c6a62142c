"""The page and the card of a run: whole, self-contained, and safe with any text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from typing import Any

import pytest
import yaml

from afina.evaluation.card import describe_head, render_card
from afina.evaluation.charts import draw_calibration, draw_history, draw_scatter, draw_scores, draw_series, round_ticks
from afina.evaluation.report import render_report
from afina.evaluation.verdict import write_verdict

HOSTILE = '</script><img src=x onerror=alert(1)> & "quoted" {{ 7 * 7 }}'
VOID = {"meta", "br", "img", "circle", "line", "polyline"}


def make_report(**changes: Any) -> dict[str, Any]:
    """A small report of two classes, every text of it hostile."""
    report = {
        "run": "runs/x", "version": "0.1.0", "created": "2026-01-01T00:00:00+00:00", "task": "text-classification",
        "kind": "multiclass", "technique": "lora", "model": {"reference": HOSTILE, "architecture": "bert"},
        "primary_metric": "accuracy",
        "metrics": {"test/accuracy": 0.9, "test/loss": 0.3, "validation/accuracy": 0.8},
        "intervals": {"test/accuracy": [0.85, 0.95]},
        "baselines": {
            "majority": {"metrics": {"test/accuracy": 0.5}, "intervals": {}, "seconds": 0.0, "note": ""},
            "tfidf-linear": {
                "metrics": {"test/accuracy": 0.7}, "intervals": {"test/accuracy": [0.6, 0.8]}, "seconds": 1.0,
                "note": HOSTILE,
            },
        },
        "reasons": [{"setting": "lora.r", "value": 16, "reason": HOSTILE}],
        "rows": {"read": 100, "used": 98, "dropped": {HOSTILE: 2}, "parts": {"train": 70, "validation": 8, "test": 20}},
        "class_counts": {HOSTILE: {"train": 35}, "b": {"train": 35}},
        "notes": [HOSTILE],
        "per_class": [
            {"name": HOSTILE, "precision": 1.0, "recall": 0.8, "f1": 0.9, "support": 10},
            {"name": "b", "precision": 0.8, "recall": 1.0, "f1": 0.9, "support": 10},
        ],
        "confusion": {"names": [HOSTILE, "b"], "counts": [[8, 2], [0, 10]]},
        "calibration": [{"low": 0.9, "high": 1.0, "confidence": 0.95, "accuracy": 0.9, "count": 20}],
        "errors": [{"row": 7, "text": HOSTILE, "label": HOSTILE, "predicted": "b", "confidence": 0.99}],
        "history": [
            {"step": 1, "epoch": 0.5, "loss": 1.0, "learning_rate": 1e-4},
            {"step": 2, "epoch": 1.0, "loss": 0.5, "learning_rate": 1e-4},
            {"step": 2, "epoch": 1.0, "validation/loss": 0.6},
        ],
        "trainable_parameters": 10, "total_parameters": 1000, "duration_seconds": 12.3, "stage_seconds": {"train": 9.0},
        "peak_memory_bytes": 2**30, "proof": {"rows": 20, "largest_difference": 0.0, "tolerance": 1e-4},
        "load": {"folder": "model/", "layout": "peft", "why": "because", "code": HOSTILE},
        "settings": {"seed": 1, "lora": {"r": 16}}, "environment": {"cpu": HOSTILE, "device": "cpu"},
    }  # fmt: skip
    return {**report, **changes}


class Page(HTMLParser):
    """Collects tags, checks that they are balanced, and keeps attributes that could fetch or run something."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.risky: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.risky += [(name, value) for name, value in attrs if name in ("src", "href") or name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_balanced_self_contained_and_shows_hostile_text_as_text() -> None:
    html = render_report(make_report())
    page = Page(html)
    assert page.open == []
    assert page.risky == []
    assert not page.tags & {"script", "img", "link", "iframe"}
    assert "://" not in html
    assert page.text.count(HOSTILE) > 8, "the texts are there, as they were"


@pytest.mark.parametrize(
    "section",
    ["reasons", "rows", "class_counts", "notes", "per_class", "confusion", "calibration", "errors", "history", "proof",
     "load", "settings", "environment", "baselines", "intervals", "stage_seconds"],
)  # fmt: skip
def test_a_section_without_facts_is_left_out(section: str) -> None:
    whole, without = make_report(), make_report()
    without[section] = type(whole[section])()
    assert len(render_report(without)) < len(render_report(whole))


def test_only_settings_that_the_technique_reads_are_listed() -> None:
    settings = {"training": {"learning_rate": 0.123, "class_weight": "balanced"}, "lora": {"r": 777}}
    page = render_report(make_report(technique="feature-extraction", settings=settings))
    assert "class_weight" in page
    assert "learning_rate" not in page
    assert "777" not in page
    assert "777" in render_report(make_report(technique="lora", settings=settings))


def test_what_would_have_changed_a_choice_stands_under_its_reason() -> None:
    choice = {"setting": "technique", "value": "full", "reason": "it fits", "otherwise": ["less memory: lora", HOSTILE]}
    page = render_report({**make_report(), "reasons": [choice]})
    assert "it fits<br><small>otherwise: less memory: lora; " in page
    assert HOSTILE not in page


def test_many_classes_become_a_list_and_a_folded_matrix() -> None:
    names = [f"class {i}" for i in range(39)]
    counts = [[10 if i == j else (3 if j == i + 1 else 0) for j in range(39)] for i in range(39)]
    html = render_report(make_report(confusion={"names": names, "counts": counts}))
    assert "the whole matrix, 39 classes" in html
    assert len(html) < 300_000


def test_a_matrix_of_hundreds_of_classes_stays_in_the_json() -> None:
    names = [f"class {i}" for i in range(400)]
    counts = [[10 if i == j else (3 if j == i + 1 else 0) for j in range(400)] for i in range(400)]
    html = render_report(make_report(confusion={"names": names, "counts": counts}))
    assert "report.json holds the whole matrix of 400 classes" in html
    assert len(html) < 100_000


def test_training_is_drawn_in_three_curves() -> None:
    history = make_report()["history"]
    scores = [{"step": step, "epoch": 1.0, "validation/accuracy": 0.5 + step / 10} for step in (0, 2)]
    html = render_report(make_report(history=[*history, *scores]))
    for title in ("training and validation loss", "validation accuracy", "learning rate"):
        assert f'aria-label="{title} over steps"' in html


def test_what_is_no_number_is_not_drawn() -> None:
    history = make_report()["history"]
    odd = [{"step": 99, "loss": float("nan"), "validation/loss": float("inf"), "learning_rate": float("nan")}]
    assert render_report(make_report(history=[*history, *odd])) == render_report(make_report(history=history))


def test_card_has_a_head_that_the_hub_can_read() -> None:
    card = render_card(make_report(model={"reference": "bert-base-uncased", "architecture": "bert"}))
    head = yaml.safe_load(card.split("---")[1])
    assert head["base_model"] == "bert-base-uncased"
    assert head["library_name"] == "peft"
    assert "| this run | 0.900 (0.850 to 0.950) |" in card.replace("  ", " ")


@pytest.mark.parametrize(
    ("metrics", "named"),
    [
        (["test/loss", "test/perplexity", "test/token_accuracy", "test/rouge_l"], ["perplexity", "rouge"]),
        (["test/accuracy", "test/f1_macro", "test/f1_micro", "validation/accuracy"], ["accuracy", "f1"]),
    ],
)
def test_card_names_metrics_as_the_hub_does(metrics: list[str], named: list[str]) -> None:
    assert describe_head(make_report(metrics=dict.fromkeys(metrics, 0.5)))["metrics"] == named


def test_card_shows_what_comes_from_data_letter_by_letter() -> None:
    classes = {"<img src=x onerror=alert(1)>": {}, "[click](javascript:alert(1))": {}, "a|`b`*c*": {}}
    card = render_card(make_report(class_counts=classes, notes=["<script>x</script>"]))
    assert "- &lt;script&gt;x&lt;/script&gt;\n" in card
    assert r"&lt;img src=x onerror=alert(1)&gt;, \[click\](javascript:alert(1)), a\|\`b\`\*c\*." in card


def test_pages_hold_no_control_characters() -> None:
    assert "\x1b" not in render_report(make_report(notes=["\x1b[2J"]))


def test_card_of_a_local_folder_names_no_base_on_the_hub() -> None:
    card = render_card(make_report(model={"reference": "/home/me/models/x", "architecture": "bert"}))
    assert "base_model" not in card.split("---")[1]


def baseline(metrics: dict[str, float], gain: dict[str, list[float]]) -> dict[str, Any]:
    return {"metrics": metrics, "intervals": {}, "gain": gain, "seconds": 1.0, "note": ""}


ON_ROWS = "(95 % interval of the gain {} to {}, on the same rows)"
UNTOLD = "Without an interval of the gain it can't be told whether chance explains it."


@pytest.mark.parametrize(
    ("score", "gain", "sentence"),
    [
        (0.9, [0.1, 0.3], "It is 0.200 accuracy better than the best plain baseline, tfidf-linear "
         + ON_ROWS.format("+0.100", "+0.300") + "."),
        (0.75, [-0.02, 0.12], "It is 0.050 accuracy better than the best plain baseline, tfidf-linear "
         + ON_ROWS.format("-0.020", "+0.120") + ". Chance may explain it."),
        (0.65, [-0.12, 0.02], "It is no better than the plain baseline tfidf-linear: 0.050 accuracy worse "
         + ON_ROWS.format("-0.120", "+0.020") + ". Chance may explain it. The baseline may be enough."),
        (0.4, [-0.4, -0.2], "The plain baseline tfidf-linear is 0.300 accuracy better "
         + ON_ROWS.format("-0.400", "-0.200") + ": use that one, or another model or technique."),
        (0.7, [-0.1, 0.1], "It is exactly as good as the best plain baseline, tfidf-linear. The baseline may be"
         " enough."),
        (0.9, None, f"It is 0.200 accuracy better than the best plain baseline, tfidf-linear. {UNTOLD}"),
        (0.4, None, "It is no better than the plain baseline tfidf-linear: 0.300 accuracy worse. " + UNTOLD
         + " The baseline may be enough."),
    ],
)  # fmt: skip
def test_verdict_says_what_the_interval_of_the_gain_allows(
    score: float, gain: list[float] | None, sentence: str
) -> None:
    words = baseline({"test/accuracy": 0.7}, {"test/accuracy": gain} if gain else {})
    # Intervals of the two scores that overlap decide nothing.
    wide = {"test/accuracy": [0.1, 0.99]}
    report = make_report(metrics={"test/accuracy": score}, intervals=wide, baselines={"tfidf-linear": words})
    assert write_verdict(report) == sentence


@pytest.mark.parametrize(
    ("loss", "gain", "sentence"),
    [
        (1.0, [0.4, 0.6], "It is 0.500 loss better than the untouched model " + ON_ROWS.format("+0.400", "+0.600")
         + "."),
        (1.4, [-0.1, 0.3], "It is 0.100 loss better than the untouched model " + ON_ROWS.format("-0.100", "+0.300")
         + ". Chance may explain it."),
        (1.6, [-0.3, -0.1], "It is no better than the untouched model: 0.100 loss worse "
         + ON_ROWS.format("-0.300", "-0.100") + "."),
        (1.0, None, f"It is 0.500 loss better than the untouched model. {UNTOLD}"),
        (1.6, None, f"It is no better than the untouched model: 0.100 loss worse. {UNTOLD}"),
    ],
)  # fmt: skip
def test_verdict_on_a_language_model(loss: float, gain: list[float] | None, sentence: str) -> None:
    base = {"untouched model": baseline({"test/loss": 1.5}, {"test/loss": gain} if gain else {})}
    report = make_report(primary_metric="loss", metrics={"test/loss": loss}, intervals={}, baselines=base)
    assert write_verdict(report) == sentence


@pytest.mark.parametrize(("loss", "is_said"), [(1.105, True), (0.5, False), (None, False)])
def test_verdict_warns_of_probabilities_worse_than_a_constants(loss: float | None, is_said: bool) -> None:
    scores = {"test/accuracy": 0.7, **({} if loss is None else {"test/loss": loss})}
    plain = baseline({"test/accuracy": 0.55, "test/loss": 0.688}, {"test/accuracy": [0.01, 0.2]})
    words = baseline({"test/accuracy": 0.6, "test/loss": 0.6}, {})
    verdict = write_verdict(make_report(metrics=scores, baselines={"tfidf-linear": words, "majority": plain}))
    warning = "Its probabilities are worse than those of majority, which never reads the text (loss 1.105 and 0.688)"
    assert (warning in verdict) is is_said


@pytest.mark.parametrize("intervals", [{}, {"test/accuracy": [0.85, 0.95]}])
def test_card_promises_only_intervals_that_are_there(intervals: dict[str, Any]) -> None:
    card = render_card(make_report(intervals=intervals))
    assert ("with 95 % bootstrap intervals:" in card) is bool(intervals)
    assert "rows that training never saw" in card


@pytest.mark.parametrize(("step", "is_said"), [(0, True), (20, False), (None, False)])
def test_verdict_says_when_the_start_was_kept(step: int | None, is_said: bool) -> None:
    verdict = write_verdict(make_report(kept_step=step))
    assert ("No step was better on the validation rows than the start" in verdict) is is_said


def test_losses_of_the_first_steps_do_not_squeeze_the_rest() -> None:
    training = [(step, 100.0 if step == 1 else 1.0) for step in range(1, 21)]
    svg = draw_history(training, [(10, 1.5), (20, 0.9)])
    assert "loss (larger ones at the edge)" in svg
    assert ">1.5<" in svg
    assert ">20<" in svg
    assert ">80<" not in svg
    plain = draw_history([(1, 2.0), (2, 1.0)], [(2, 2.5)])
    assert ">loss<" in plain


def test_charts_are_well_formed() -> None:
    drawn = [
        draw_history([(0, 1.0), (10, 0.5)], [(10, 0.7)]),
        draw_calibration([{"confidence": 0.9, "accuracy": 0.8, "count": 5}]),
        draw_scatter([(1.0, 1.0), (1.0, 1.0)]),
        draw_series([(0, 1e-4), (10, 0.0)], "learning rate"),
        draw_scores([("<a>", 0.5, (0.4, 0.6)), ("b", -1.0, None)]),
    ]
    for svg in drawn:
        ElementTree.fromstring(svg)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.2, 4.1), (0.0, 1e-6), (1e5, 3e5)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    ticks = round_ticks(low, high)
    assert 2 <= len(ticks) <= 8
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in ticks)


def test_charts_have_their_looks_without_the_style_of_the_page() -> None:
    page = render_report(make_report())
    marks = re.findall(r"<(polyline|circle|line)\b([^>]*)>", page)
    assert {kind for kind, _ in marks} == {"polyline", "circle", "line"}
    for kind, attributes in marks:
        assert ("fill=" if kind == "circle" else "stroke=") in attributes
        assert kind != "polyline" or 'fill="none"' in attributes
