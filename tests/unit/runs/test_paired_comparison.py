"""Runs are compared on the rows that both scored, matched by content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from afina.errors import ConfigError
from afina.runs.comparison import compare_runs
from afina.runs.folder import RunFolder
from afina.runs.row_scores import hash_content, write_row_scores

LABELLED: dict[str, Any] = {
    "task": "text-classification", "labels": {"kind": "multilabel", "names": [], "separator": None},
    "fit": {"class_weights": [], "target_mean": 0.0, "target_scale": 1.0, "thresholds": []},
    "columns": {"text": "text", "text_pair": None, "label": "label"},
    "base": {"reference": "bert", "revision": None},
}  # fmt: skip
OF_KIND = {
    "multiclass": ("text-classification", "accuracy"), "multilabel": ("text-classification", "f1_micro"),
    "regression": ("text-regression", "rmse"), "generation": ("text-generation", "loss"),
}  # fmt: skip


def make_run(path: Path, kind: str, lines: Sequence[dict[str, Any]], **changes: Any) -> RunFolder:
    """A finished run whose row scores are `lines`; each has a `text`, from which its key is made."""
    path.mkdir()
    folder = RunFolder(path)
    folder.config.write_text("technique: lora\n")
    folder.write_json("data.json", {"hash": changes.pop("hash", "a" * 64)})
    task, primary = OF_KIND[kind]
    part, names = changes.get("scored", "test"), changes.pop("names", [])
    report = {
        "run": path.name, "task": task, "kind": kind, "technique": "lora", "primary_metric": primary, "scored": part,
        "model": {"reference": "bert"}, "metrics": {f"{part}/{primary}": 0.5}, "intervals": {},
        "trainable_parameters": 10, "duration_seconds": 10.0, "peak_memory_bytes": 100, "settings": {"seed": 1},
        "rows": {"parts": {"test": 20, "validation": 20}}, "baselines": {}, "reasons": [], "notes": [],
        "kept_step": None, "total_parameters": 10, "load": {"layout": "peft", "why": "small"},
    }  # fmt: skip
    folder.write_json("report.json", report | changes)
    folder.write_json("task.json", LABELLED | {"labels": LABELLED["labels"] | {"names": names}})
    write_row_scores(
        folder,
        ({"part": part, "row": row, "key": hash_content(line.pop("text")), **line} for row, line in enumerate(lines)),
    )
    return folder


def make_lines(right: int, rows: int = 20, start: int = 0) -> list[dict[str, Any]]:
    """Rows with two classes, of which the first `right` are right."""
    return [
        {"text": f"text {start + i}", "label": "ab"[i % 2], "prediction": "ab"[(i + (i >= right)) % 2], "loss": 0.5}
        for i in range(rows)
    ]


def test_classes_are_compared_row_by_row(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", "multiclass", make_lines(8))
    other = make_run(tmp_path / "other", "multiclass", make_lines(18), duration_seconds=30.0, peak_memory_bytes=600)
    found = compare_runs([one, other])
    (pair,) = found["paired"]
    assert (found["part"], found["notes"], pair["notes"]) == ("test", [], [])
    assert (pair["run"], pair["against"], pair["rows"], pair["metric"]) == ("other", "one", 20, "accuracy")
    assert pair["differences"]["accuracy"]["difference"] == pytest.approx(0.5)
    low, high = pair["differences"]["accuracy"]["interval"]
    assert 0.2 < low < 0.5 < high < 0.8
    assert pair["mcnemar"]["only_second"] == 10
    assert pair["mcnemar"]["p"] == pytest.approx(2 / 2**10)
    assert pair["cost"] == {
        "seconds": 20.0, "bytes": 500, "unit": "point of accuracy", "gained": pytest.approx(50.0),
        "seconds_per_unit": pytest.approx(0.4), "bytes_per_unit": pytest.approx(10.0),
    }  # fmt: skip
    assert pair["verdict"] == (
        f"0.500 accuracy better, more than chance explains (95 % interval of the difference {low:+.3f} to {high:+.3f},"
        " on the same 20 rows)"
    )


def test_a_loss_that_gains_nothing_has_no_price(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", "multiclass", make_lines(11))
    other = make_run(tmp_path / "other", "multiclass", make_lines(10))
    (pair,) = compare_runs([one, other])["paired"]
    assert pair["verdict"].startswith("0.050 accuracy worse, which chance may explain (95 % interval")
    assert pair["cost"]["seconds_per_unit"] is None
    with_itself = compare_runs([one, one])
    assert with_itself["notes"] == [f"{one.path} is compared with itself"]
    (same,) = with_itself["paired"]
    assert same["verdict"].startswith("no difference in accuracy (")


def test_rows_in_another_order_are_matched_by_content(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", "multiclass", make_lines(8))
    other = make_run(tmp_path / "other", "multiclass", make_lines(8)[::-1], hash="b" * 64)
    (pair,) = compare_runs([one, other])["paired"]
    assert pair["rows"] == 20
    assert pair["differences"]["accuracy"]["difference"] == 0.0


def test_only_common_rows_are_compared_and_it_is_said(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", "multiclass", make_lines(20))
    other = make_run(tmp_path / "other", "multiclass", make_lines(20, start=14), hash="b" * 64)
    (pair,) = compare_runs([one, other])["paired"]
    assert pair["rows"] == 6
    assert pair["notes"] == [
        "the runs scored different test rows (20 and 20); the difference is over the 6 that both have, the scores above"
        " over all rows of each run"
    ]


@pytest.mark.parametrize(("start", "counted"), [(19, "1 row"), (11, "9 rows")])
def test_few_common_rows_are_not_judged(start: int, counted: str, tmp_path: Path) -> None:
    """Their resamples are all alike, so that even one row would be more than chance."""
    one = make_run(tmp_path / "one", "multiclass", make_lines(0))
    other = make_run(tmp_path / "other", "multiclass", make_lines(20, start=start), hash="b" * 64)
    (pair,) = compare_runs([one, other])["paired"]
    assert pair["differences"]["accuracy"]["difference"] != 0
    assert pair["verdict"] == f"not judged: both scored the same {counted}, and it takes 10 to judge by"
    assert (pair["cost"]["gained"], pair["cost"]["seconds_per_unit"]) == (None, None)


def test_rows_without_any_in_common_are_refused(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", "multiclass", make_lines(20))
    other = make_run(tmp_path / "other", "multiclass", make_lines(20, start=50), hash="b" * 64)
    with pytest.raises(ConfigError, match="the runs were scored on different tasks or rows"):
        compare_runs([one, other])
    number = [{"text": f"text {i}", "label": 1.0, "prediction": 2.0} for i in range(20)]
    with pytest.raises(ConfigError, match="the runs were scored on different tasks or rows"):
        compare_runs([one, make_run(tmp_path / "third", "regression", number)])


def test_numbers_and_lists_are_compared(tmp_path: Path) -> None:
    runs = [
        make_run(
            tmp_path / f"numbers-{error}", "regression",
            [{"text": f"text {i}", "label": float(i), "prediction": i + error * (-1) ** i} for i in range(20)],
        )
        for error in (2.0, 0.5)
    ]  # fmt: skip
    (pair,) = compare_runs(runs)["paired"]
    assert pair["differences"]["rmse"] == {"difference": -1.5, "interval": [-1.5, -1.5]}
    assert pair["verdict"].startswith("1.500 rmse better, more than chance explains")
    assert (pair["mcnemar"], pair["cost"]["unit"], pair["cost"]["gained"]) == (None, "rmse", 1.5)
    lists = [
        make_run(
            tmp_path / f"lists-{name}", "multilabel",
            [{"text": f"text {i}", "label": ["a", "b"], "prediction": given, "loss": 0.1} for i in range(20)],
        )
        for name, given in (("one", ["a"]), ("both", ["a", "b"]))
    ]  # fmt: skip
    (pair,) = compare_runs(lists)["paired"]
    assert pair["differences"]["f1_micro"]["difference"] == pytest.approx(1 / 3)
    assert pair["mcnemar"]["only_second"] == 20


def test_labels_that_no_row_has_count_as_in_the_report(tmp_path: Path) -> None:
    """A macro F1 over two labels of which one is never seen is half of that over one."""
    runs = [
        make_run(
            tmp_path / name, "multilabel", names=["a", "b"],
            lines=[{"text": f"text {i}", "label": ["a"], "prediction": given, "loss": 0.1} for i in range(20)],
        )
        for name, given in (("none", []), ("right", ["a"]))
    ]  # fmt: skip
    (pair,) = compare_runs(runs)["paired"]
    assert pair["differences"]["f1_macro"]["difference"] == pytest.approx(0.5)


def make_tokens(loss: float, tokens: int) -> list[dict[str, Any]]:
    return [{"text": f"text {i}", "loss": loss * (1 + i % 3), "tokens": tokens, "correct": 1} for i in range(20)]


def test_language_models_are_compared_by_token_or_else_by_row(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", "generation", make_tokens(4.0, 2))
    better = make_run(tmp_path / "better", "generation", make_tokens(3.0, 2))
    longer = make_run(tmp_path / "longer", "generation", make_tokens(3.0, 3))
    by_token, by_row = compare_runs([one, better, longer])["paired"]
    assert by_token["metric"] == "loss"
    assert by_token["verdict"].startswith(f"{1.95 / 2:.3f} loss better, more than chance explains")
    assert (by_token["notes"], by_token["mcnemar"]) == ([], None)
    assert set(by_row["differences"]) == {"loss_per_row"}
    assert by_row["notes"] == [
        "the models count tokens differently, so the loss is compared by row, not by token"
    ]  # fmt: skip


def test_a_run_that_left_its_test_part_alone(tmp_path: Path) -> None:
    runs = [
        make_run(
            tmp_path / name, "multiclass", make_lines(9), scored="validation", metrics={"validation/accuracy": 0.5}
        )
        for name in ("one", "other")
    ]
    found = compare_runs(runs)
    assert (found["metric"], found["part"]) == ("validation/accuracy", "validation")
    assert found["notes"] == [
        "compared on the validation rows, which also chose the checkpoints: one, other left the test part alone"
    ]
