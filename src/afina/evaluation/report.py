"""report.html of a run: one file with its styles and charts inline, no scripts, nothing fetched.

Texts of the data are untrusted: the HTML template escapes everything but the charts, whose texts are escaped where
they are drawn.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, Template

from afina.config.load import flatten_settings
from afina.config.unread import leave_unread_out
from afina.evaluation.charts import draw_calibration, draw_history, draw_scatter, draw_scores, draw_series
from afina.evaluation.verdict import name_scored, write_verdict
from afina.metrics.direction import is_better_larger
from afina.terminal import make_printable

OURS = "this run"
LARGEST_CONFUSIONS = 20
# A matrix of more classes is megabytes of cells that nobody reads; report.json holds it.
MOST_CLASSES_IN_MATRIX = 60

TITLES = {
    "accuracy": "accuracy",
    "f1_macro": "F1, macro",
    "f1": "F1 of entities",
    "precision": "precision of entities",
    "recall": "recall of entities",
    "f1_micro": "F1, micro",
    "f1_weighted": "F1, weighted",
    "mcc": "Matthews correlation",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "subset_accuracy": "subset accuracy",
    "hamming_loss": "Hamming loss",
    "loss": "loss",
    "calibration_error": "calibration error",
    "brier": "Brier score",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "perplexity": "perplexity",
    "token_accuracy": "token accuracy",
    "exact_match": "exact match",
    "chrf": "chrF",
    "rouge_l": "ROUGE-L",
    "general_loss": "loss on general text",
}


def render_report(report: Mapping[str, Any]) -> str:
    """The whole page."""
    page = load_template("report.html.j2").render(
        report=report,
        titles=TITLES,
        scored=name_scored(report),
        verdict=write_verdict(report),
        scores=tabulate_scores(report),
        charts=draw_charts(report),
        confusions=list_confusions(report.get("confusion") or {}),
        most_classes_in_matrix=MOST_CLASSES_IN_MATRIX,
        settings=list(flatten_settings(leave_unread_out(report.get("settings") or {}, report["technique"]))),
    )
    return make_printable(page)


def load_template(name: str) -> Template:
    """A template of this package; those of HTML escape what they are given."""
    environment = Environment(
        loader=PackageLoader("afina.evaluation"),
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["thousands"] = lambda number: f"{number:,}"
    environment.filters["plainly"] = escape_markdown
    return environment.get_template(name)


def escape_markdown(text: object) -> str:
    """A text from outside as Markdown shows it letter by letter: neither HTML nor a link nor a cell of a table."""
    return re.sub(r"[\\`*\[\]|]", r"\\\g<0>", html.escape(str(text), quote=False))


def tabulate_scores(report: Mapping[str, Any]) -> dict[str, Any]:
    """`metrics`, the names across, and `rows`, one for each baseline and the run last; the primary metric first."""
    scored = f"{name_scored(report)}/"
    names = [key.removeprefix(scored) for key in report["metrics"] if key.startswith(scored)]
    names.sort(key=lambda name: name != report["primary_metric"])
    entries = [*(report.get("baselines") or {}).items(), (OURS, report)]
    rows = [
        {
            "name": title,
            "note": entry.get("note", "") if title != OURS else "",
            "cells": [_describe_cell(entry, scored + name) for name in names],
        }
        for title, entry in entries
    ]
    for column, name in enumerate(names):
        cells = [row["cells"][column] for row in rows]
        known = [cell["value"] for cell in cells if cell["value"] is not None]
        best = (max if is_better_larger(name) else min)(known)
        for cell in cells:
            cell["best"] = cell["value"] == best
    return {"metrics": names, "rows": rows}


def _describe_cell(entry: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {"value": entry["metrics"].get(key), "interval": (entry.get("intervals") or {}).get(key), "best": False}


def draw_charts(report: Mapping[str, Any]) -> dict[str, str]:
    """The charts that the report has numbers for."""
    history, primary = report.get("history") or [], report["primary_metric"]
    training, validation, rates, scores = (
        [(line["step"], line[key]) for line in history if math.isfinite(line.get(key, math.nan))]
        for key in ("loss", "validation/loss", "learning_rate", f"validation/{primary}")
    )
    rows = tabulate_scores(report)["rows"]
    entries = [(row["name"], row["cells"][0]["value"], row["cells"][0]["interval"]) for row in rows]
    charts = {}
    if f"{name_scored(report)}/{primary}" in report["metrics"] and report.get("baselines"):
        charts["scores"] = draw_scores([entry for entry in entries if entry[1] is not None])
    if len(training) > 1 or len(validation) > 1:
        charts["history"] = draw_history(training, validation)
    if len(scores) > 1:
        charts["validation"] = draw_series(scores, f"validation {TITLES[primary]}", with_dots=True)
    if len(rates) > 1:
        charts["rate"] = draw_series(rates, "learning rate")
    if report.get("calibration"):
        charts["calibration"] = draw_calibration(report["calibration"])
    if report.get("scatter"):
        charts["scatter"] = draw_scatter([(true, predicted) for true, predicted in report["scatter"]])
    return charts


def list_confusions(confusion: Mapping[str, Any]) -> list[tuple[str, str, int, float]]:
    """The largest confusions: true class, given class, rows, share of the true class."""
    names = confusion.get("names") or []
    found = [
        (names[truth], names[given], count, count / sum(row))
        for truth, row in enumerate(confusion.get("counts") or [])
        for given, count in enumerate(row)
        if given != truth and count
    ]
    return sorted(found, key=lambda each: -each[2])[:LARGEST_CONFUSIONS]
