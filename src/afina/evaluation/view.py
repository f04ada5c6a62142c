"""What the report's template shows, computed from the report's mapping: rows of text, shares, and which sections exist.

Every key of the mapping may be absent or empty; its section then vanishes. Long tables are cut here, and say so:
the mapping itself is stored whole beside the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from afina.evaluation import formats
from afina.evaluation.charts import draw_calibration, draw_scatter, draw_scores, draw_training
from afina.evaluation.verdict import Verdict, judge_report

PARTS = ("train", "validation", "test")
MOST_CLASSES_IN_ORDER = 12
"""Classes up to which tables keep the order of the labels and stand open."""
MOST_CLASSES_SHOWN = 100
MOST_CONFUSIONS_LISTED = 15
MOST_ERRORS_SHOWN = 50
SHADES = 9
VERDICT_NAMES = {
    "better": "Better than the baselines",
    "likely": "Probably better than the baselines",
    "even": "No better than a plain baseline",
    "worse": "Worse than a plain baseline",
    "unknown": "Not settled",
}

Row = dict[str, Any]


def build_view(report: Mapping[str, Any]) -> dict[str, Any]:
    """The template's variables; empty values stand for sections that vanish."""
    verdict = judge_report(report)
    return {
        "title": write_title(report),
        "subtitle": write_subtitle(report),
        "verdict": verdict,
        "verdict_names": VERDICT_NAMES,
        "main_score": describe_main_score(verdict),
        "scores_chart": draw_scores(verdict.contenders, verdict.metric) if verdict else "",
        "scores": list_scores(report, verdict),
        "baseline_notes": list_baseline_notes(report),
        "rows": list_rows(report.get("rows") or {}),
        "classes": list_classes(report.get("class_counts") or {}),
        "training_chart": draw_training(report.get("history") or []),
        "per_class": list_per_class(report.get("per_class") or []),
        "confusion": build_confusion(report.get("confusion") or {}),
        "calibration_chart": draw_calibration(report.get("calibration") or []),
        "scatter_chart": draw_scatter(report.get("scatter") or []),
        "errors": list_errors(report),
        "cost": list_cost(report),
        "settings": formats.flatten_settings(report.get("settings") or {}),
        "environment": formats.flatten_settings(report.get("environment") or {}),
    }


def describe_main_score(verdict: Verdict | None) -> Row:
    """The large figure at the head of the page."""
    if verdict is None:
        return {}
    return {
        "name": formats.name_metric(verdict.metric),
        "value": formats.format_score(verdict.own.value),
        "interval": formats.format_interval(verdict.own.interval),
        "lower": verdict.metric in formats.LOWER_IS_BETTER,
    }


def write_title(report: Mapping[str, Any]) -> str:
    """`bert-tiny, LoRA`: the last part of the model's reference, and the technique."""
    reference = str((report.get("model") or {}).get("reference") or "").rstrip("/")
    technique = str(report.get("technique") or "")
    parts = [reference.rsplit("/", 1)[-1], formats.TECHNIQUE_NAMES.get(technique, technique)]
    return ", ".join(part for part in parts if part) or "A run of afina"


def write_subtitle(report: Mapping[str, Any]) -> str:
    """One line: the task, its classes, the rows that were learned from, the data."""
    parts = [str(report.get("task") or "").replace("-", " ").capitalize()]
    classes = len(report.get("per_class") or [])
    if classes and report.get("kind") != "regression":
        word = "labels, any number a row" if report.get("kind") == "multilabel" else "classes"
        parts.append(f"{classes:,} {word}")
    rows = ((report.get("rows") or {}).get("parts") or {}).get("train")
    if rows is not None:
        parts.append(f"{formats.format_count(rows)} rows to learn from")
    data = ((report.get("settings") or {}).get("data") or {}).get("path")
    if data:
        parts.append(str(data).rstrip("/").rsplit("/", 1)[-1])
    return " · ".join(part for part in parts if part)


def list_scores(report: Mapping[str, Any], verdict: Verdict | None) -> dict[str, Any]:
    """The table of scores: one row a metric, one column the model, each baseline, and the validation part."""
    metrics = report.get("metrics") or {}
    baselines: Mapping[str, Any] = report.get("baselines") or {}
    keys = [key.removeprefix("test/") for key in metrics if key.startswith("test/")]
    primary = verdict.metric if verdict else ""
    keys.sort(key=lambda key: key != primary)
    return {
        "columns": [formats.name_baseline(name) for name in baselines],
        "validated": any(key.startswith("validation/") for key in metrics),
        "rows": [_list_score(report, baselines, key, key == primary) for key in keys],
    }


def _list_score(report: Mapping[str, Any], baselines: Mapping[str, Any], key: str, primary: bool) -> Row:
    name = f"test/{key}"
    entries = [report, *baselines.values()]
    values = [(entry.get("metrics") or {}).get(name) for entry in entries]
    known = [value for value in values if formats.is_number(value)]
    best = (min if key in formats.LOWER_IS_BETTER else max)(known, default=None)
    return {
        "name": formats.name_metric(key),
        "meaning": formats.METRIC_MEANINGS.get(key, ""),
        "primary": primary,
        "lower": key in formats.LOWER_IS_BETTER,
        "cells": [
            {
                "value": formats.format_score(value),
                "interval": formats.format_interval((entry.get("intervals") or {}).get(name)),
                "best": len(known) > 1 and value == best,
            }
            for entry, value in zip(entries, values, strict=True)
        ],
        "validation": formats.format_score((report.get("metrics") or {}).get(f"validation/{key}")),
    }


def list_baseline_notes(report: Mapping[str, Any]) -> list[str]:
    """One sentence a baseline that has something to say."""
    return [
        f"{formats.name_baseline(name)}: {entry['note']}"
        for name, entry in (report.get("baselines") or {}).items()
        if entry.get("note")
    ]


def list_rows(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Facts on the rows: read, used, dropped by reason, and the parts with their shares."""
    used = rows.get("used")
    facts = [(name, formats.format_count(rows[name])) for name in ("read", "used") if name in rows]
    dropped = [(str(why), formats.format_count(count)) for why, count in (rows.get("dropped") or {}).items()]
    parts = [
        (name, formats.format_count(count), formats.format_share(count, used))
        for name, count in (rows.get("parts") or {}).items()
    ]
    return {"facts": facts, "dropped": dropped, "parts": parts} if facts or parts else {}


def list_classes(class_counts: Mapping[str, Mapping[str, int]]) -> dict[str, Any]:
    """Rows of each class in each part, most frequent first; by class or by part, as the mapping happens to be keyed."""
    if class_counts and set(class_counts) <= set(PARTS):
        names = dict.fromkeys(name for counts in class_counts.values() for name in counts)
        class_counts = {name: {part: counts.get(name, 0) for part, counts in class_counts.items()} for name in names}
    present = {part for counts in class_counts.values() for part in counts}
    parts = [part for part in PARTS if part in present] + sorted(present - set(PARTS))
    listed = sorted(class_counts.items(), key=lambda item: -max(item[1].values(), default=0))
    most = max((max(counts.values(), default=0) for counts in class_counts.values()), default=0)
    return {
        "parts": parts,
        "rows": [
            {
                "name": name,
                "counts": [formats.format_count(counts.get(part, 0)) for part in parts],
                "share": round(100 * max(counts.values(), default=0) / (most or 1)),
            }
            for name, counts in listed[:MOST_CLASSES_SHOWN]
        ],
        "total": len(listed),
        "folded": len(listed) > MOST_CLASSES_IN_ORDER,
    }


def list_per_class(table: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The table of classes: in their order where they are few, else the weakest F1 first."""
    many = len(table) > MOST_CLASSES_IN_ORDER
    listed = sorted(table, key=lambda row: row.get("f1") or 0.0) if many else list(table)
    return {
        "rows": [
            {
                "name": row.get("name", row.get("label", "")),
                "cells": [formats.format_score(row.get(key)) for key in ("precision", "recall", "f1")],
                "share": round(100 * (row.get("f1") or 0.0)),
                "support": formats.format_count(row.get("support")),
                "threshold": formats.format_score(row["threshold"]) if "threshold" in row else "",
            }
            for row in listed[:MOST_CLASSES_SHOWN]
        ],
        "total": len(table),
        "many": many,
        "thresholds": any("threshold" in row for row in table),
    }


def build_confusion(confusion: Mapping[str, Any]) -> dict[str, Any]:
    """The largest confusions, and the coloured table where the classes are few enough to be read."""
    names, counts = confusion.get("names") or [], confusion.get("counts") or []
    if not names or not counts:
        return {}
    wrong = [
        {"true": names[i], "predicted": names[j], "count": count, "of": sum(row)}
        for i, row in enumerate(counts)
        for j, count in enumerate(row)
        if i != j and count
    ]
    wrong.sort(key=lambda entry: -entry["count"])
    largest = wrong[:MOST_CONFUSIONS_LISTED]
    for entry in largest:
        entry["share"] = formats.format_share(entry["count"], entry["of"])
    shown = len(names) <= MOST_CLASSES_SHOWN
    return {
        "names": names,
        "largest": largest,
        "kinds": len(wrong),
        "many": len(names) > MOST_CLASSES_IN_ORDER,
        "table": [_shade_row(i, row) for i, row in enumerate(counts)] if shown else [],
    }


def _shade_row(index: int, row: Sequence[int]) -> list[tuple[int, str]]:
    """Pairs (count, style) of one true class: `r` and `w` for right and wrong, then a shade by the share of the row."""
    total = sum(row) or 1
    return [
        (count, f"{'r' if column == index else 'w'}{max(1, round(SHADES * count / total))}" if count else "")
        for column, count in enumerate(row)
    ]


def list_errors(report: Mapping[str, Any]) -> list[Row]:
    """Wrong test rows, the worst first; for numbers the last column is how far off the prediction is."""
    numbers = report.get("kind") == "regression"
    return [
        {
            "row": formats.format_count(entry.get("row")),
            "text": entry.get("text", ""),
            "label": _join_labels(entry.get("label", "")),
            "predicted": _join_labels(entry.get("predicted", "")),
            "confidence": formats.format_score(entry.get("confidence")),
            "numbers": numbers,
        }
        for entry in (report.get("errors") or [])[:MOST_ERRORS_SHOWN]
    ]


def _join_labels(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def list_cost(report: Mapping[str, Any]) -> dict[str, Any]:
    """Seconds of the stages, memory, parameters and the proof of the saved model."""
    stages: Mapping[str, Any] = report.get("stage_seconds") or {}
    total = report.get("duration_seconds")
    facts = []
    if total is not None:
        facts.append(("whole run", formats.format_seconds(total)))
    if report.get("peak_memory_bytes") is not None:
        facts.append(("peak memory", formats.format_bytes(report["peak_memory_bytes"])))
    trainable, parameters = report.get("trainable_parameters"), report.get("total_parameters")
    if trainable is not None:
        share = formats.format_share(trainable, parameters)
        facts.append(("trained parameters", f"{formats.format_count(trainable)}{f' ({share})' if share else ''}"))
    if parameters is not None:
        facts.append(("parameters in all", formats.format_count(parameters)))
    whole = sum(value for value in stages.values() if formats.is_number(value))
    return {
        "facts": facts,
        "stages": [
            (name, formats.format_seconds(value), round(100 * value / (whole or 1), 1))
            for name, value in stages.items()
            if formats.is_number(value)
        ],
        "proof": write_proof(report.get("proof") or {}),
    }


def write_proof(proof: Mapping[str, Any]) -> str:
    """The sentence on the saved model loaded afresh, or nothing."""
    difference, tolerance = proof.get("largest_difference"), proof.get("tolerance")
    if not formats.is_number(difference):
        return ""
    rows = formats.format_count(proof.get("rows"))
    allowed = f", {tolerance:.0e} is allowed" if formats.is_number(tolerance) else ""
    return (
        f"The saved model was loaded afresh and run on {rows} rows: its outputs differ from those of the trained one "
        f"by at most {difference:.1e}{allowed}."
    )
