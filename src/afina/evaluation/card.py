"""README.md of a run: a model card in the Hub's form. Every claim comes from the report."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from afina.evaluation.report import TITLES, load_template, tabulate_scores
from afina.evaluation.verdict import name_scored, write_verdict
from afina.terminal import make_printable

PIPELINES = {
    "generation": "text-generation", "entities": "token-classification", "tags": "token-classification"
}  # fmt: skip
# The Hub's names of metrics, by ours.
METRICS = {
    "accuracy": "accuracy", "f1": "f1", "f1_macro": "f1", "f1_micro": "f1", "rmse": "rmse", "perplexity": "perplexity",
    "exact_match": "exact_match", "chrf": "chrf", "rouge_l": "rouge",
}  # fmt: skip
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


def render_card(report: Mapping[str, Any]) -> str:
    """The card's Markdown with its YAML head; the licence is left to the person who publishes it."""
    head = yaml.safe_dump(describe_head(report), sort_keys=False, allow_unicode=True)
    text = load_template("card.md.j2").render(
        report=report, head=head, titles=TITLES, scored=name_scored(report), scores=tabulate_scores(report),
        verdict=write_verdict(report),
    )  # fmt: skip
    return make_printable(text)


def describe_head(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the Hub reads of a card."""
    reference = report["model"]["reference"]
    scored = {name.rpartition("/")[2] for name in report["metrics"]}
    head: dict[str, Any] = {
        "library_name": report["load"]["layout"],
        "pipeline_tag": PIPELINES.get(report["kind"], "text-classification"),
        "tags": ["afina", report["task"], report["technique"]],
        "metrics": list(dict.fromkeys(theirs for ours, theirs in METRICS.items() if ours in scored)),
    }
    if HUB_ID.fullmatch(reference):
        head["base_model"] = reference
    return head
