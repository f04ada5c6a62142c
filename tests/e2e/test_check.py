"""`afina check` through the real command line, and what `afina train` says of data by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from afina.testing.data import make_rows
from afina.testing.models import save_tiny_model

if TYPE_CHECKING:
    from tests.e2e.conftest import CommandLine

TRAIN = ("--model", "bert", "--technique", "feature-extraction", "--output", "out")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a tiny model, good rows, rows with a repeated one, and parts that share their texts."""
    save_tiny_model("bert", tmp_path / "bert")
    rows = make_rows("multiclass", 80, 0)
    write_lines(tmp_path / "good.jsonl", rows)
    write_lines(tmp_path / "variant.jsonl", [*rows, {"text": "one more text", "label": f"{rows[0]['label'].upper()} "}])
    (tmp_path / "leaky").mkdir()
    write_lines(tmp_path / "leaky" / "train.jsonl", rows)
    write_lines(tmp_path / "leaky" / "test.jsonl", rows[:20])
    return tmp_path


def test_the_exit_code_tells_whether_a_run_would_be_worth_something(place: Path, command_line: CommandLine) -> None:
    good = command_line.run("check", "good.jsonl", cwd=place)
    assert good.code == 0, good.err
    leaky = command_line.run("check", "leaky", "--html", "page.html", "--json", cwd=place)
    assert leaky.code == 2
    found = json.loads(leaky.out)
    assert found["has_errors"] is True
    assert found["findings"][0]["code"] == "leaked-rows"
    assert found["findings"][0]["rows"]["test"][:3] == [1, 2, 3]
    page = (place / "page.html").read_text(encoding="utf-8")
    assert "20 rows of the test part (100.0%)" in page
    assert "<script" not in page
    printed = command_line.run("check", "leaky", "--fix", "copy", cwd=place)
    assert printed.code == 2
    assert "leaked-row 20" in printed.out
    assert command_line.run("check", "copy", cwd=place).code == 0


def test_texts_are_escaped_in_the_page(place: Path, command_line: CommandLine) -> None:
    rows = [{"text": f"<script>alert({i})</script>", "label": "ab"[i % 2]} for i in range(10)]
    write_lines(place / "odd.jsonl", [*rows, rows[0]])
    for _ in range(2):  # the second page replaces the first one
        assert command_line.run("check", "odd.jsonl", "--html", "page.html", cwd=place).code == 0
    page = (place / "page.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(0)" in page
    assert "<script" not in page


def test_a_model_counts_its_tokens_and_looks_for_wrong_labels(place: Path, command_line: CommandLine) -> None:
    texts = [f"{'apple pear plum' if i % 2 else 'dog cat mouse'} {'of many words ' * 20}{i}" for i in range(80)]
    rows = [{"text": text, "label": "fruit" if i % 2 else "animal"} for i, text in enumerate(texts)]
    rows[6]["label"] = "fruit"
    write_lines(place / "long.jsonl", rows)
    flags = ("check", "long.jsonl", "--model", "bert", "--max-seq-length", "32", "--json")
    found = command_line.run(*flags, cwd=place).read_object()
    findings = {each["code"]: each for each in found["findings"]}
    assert findings["long-texts"]["count"] == 80
    assert found["facts"]["tokens"]["quantiles"]["median"] > 32
    assert 7 in findings["wrong-labels"]["rows"]["all"]
    assert "'fruit', or 'animal'?" in findings["wrong-labels"]["examples"][0]["text"]


def test_a_model_looks_through_several_labels_at_once(place: Path, command_line: CommandLine) -> None:
    words = {"fruit": "apple pear plum", "animal": "dog cat mouse", "sky": "moon sun star"}
    kinds = [["fruit"], ["animal", "sky"], ["sky"], ["animal", "fruit"]]
    rows = [
        {"text": " ".join(words[kind] for kind in kinds[i % 4] * 3) + f" {i}", "label": list(kinds[i % 4])}
        for i in range(400)
    ]
    rows[9]["label"] = ["animal", "fruit", "sky"]
    write_lines(place / "several.jsonl", rows)
    found = command_line.run("check", "several.jsonl", "--model", "bert", "--json", cwd=place).read_object()
    (finding,) = (each for each in found["findings"] if each["code"] == "wrong-labels")
    assert finding["rows"]["all"] == [10]
    assert finding["examples"][0]["text"].startswith("without 'fruit'? dog cat mouse")
    assert "with a label that fits badly, or without one that fits well" in finding["title"]


def test_what_is_asked_must_make_sense(place: Path, command_line: CommandLine) -> None:
    (place / "mine.html").write_text("<html>mine</html>")
    for flags, said in (
        (("--show-mask", "1"), "the mask depends on the model's tokens and template"),
        (("--show-mask", "1", "--model", "bert"), "only conversations have a mask"),
        (("--html", "page.txt"), "page.txt isn't the name of a page\n  do: --html page.html"),
        (("--html", "no/page.html"), "the folder no doesn't exist"),
        (("--html", "mine.html"), "mine.html exists already and is no page of afina check, so it isn't written over"),
        (("--fix", "good.jsonl"), "good.jsonl exists already"),
        (("--fix", "copy.csv"), "a cleaned copy keeps the format of the data"),
        (("--task", "nothing"), "task"),
    ):
        before = sorted(place.iterdir())
        done = command_line.run("check", "good.jsonl", *flags, cwd=place)
        assert done.code == 2
        assert said in done.err
        assert "Traceback" not in done.err
        assert sorted(place.iterdir()) == before


def test_train_stops_on_worthless_rows_and_goes_on_when_told_to(place: Path, command_line: CommandLine) -> None:
    stopped = command_line.run("train", "leaky", *TRAIN, cwd=place)
    assert stopped.code == 2
    assert "the data would make this run worthless" in stopped.err
    assert "20 rows of the test part (100.0%) with a text that stands in the train part too" in stopped.err
    assert "--set data.on_findings=warn" in stopped.err
    assert not (place / "out").exists()
    told = command_line.run("train", "leaky", *TRAIN, "--set", "data.on_findings=warn", cwd=place)
    assert told.code == 0, told.err
    assert "error leaked-rows: 20 rows of the test part" in told.err
    stored = json.loads((place / "out" / "data.json").read_text(encoding="utf-8"))["findings"]
    assert stored[0]["code"] == "leaked-rows"


def test_train_warns_of_what_costs_quality(place: Path, command_line: CommandLine) -> None:
    done = command_line.run("train", "variant.jsonl", *TRAIN, cwd=place)
    assert done.code == 0, done.err
    assert "warning label-variants: labels that differ only in case, spaces or how a number is written" in done.err
    assert "hint" not in done.err
