"""Reasons of a run outlive the process that found them."""

from __future__ import annotations

from pathlib import Path

from afina.config.reason import Reason
from afina.runs.reasons import ReasonsFile

FOUND = Reason("training.learning_rate", 1e-4, "measured", ("a wider model: 5e-5",))
CHOSEN = Reason("lora.target_modules", ["query", "value"], "those of «BERT»")


def test_reasons_are_read_as_they_were_added(tmp_path: Path) -> None:
    kept = ReasonsFile(tmp_path / "reasons.jsonl")
    assert kept.read() == []
    kept.add(FOUND)
    kept.add(CHOSEN)
    assert ReasonsFile(kept.path).read() == [FOUND, CHOSEN]


def test_a_line_that_was_cut_off_spoils_nothing(tmp_path: Path) -> None:
    kept = ReasonsFile(tmp_path / "reasons.jsonl")
    kept.add(FOUND)
    whole = kept.path.read_bytes()
    for length in range(len(whole)):
        kept.path.write_bytes(whole[:length])
        kept.add(CHOSEN)
        assert kept.read() == [CHOSEN]
    kept.path.write_bytes(b'\xff\n[]\n{"setting": "seed"}\nnull\n' + whole)
    assert kept.read() == [FOUND]


def test_a_place_that_takes_no_file_costs_only_the_reasons(tmp_path: Path) -> None:
    kept = ReasonsFile(tmp_path / "none" / "reasons.jsonl")
    kept.add(FOUND)
    assert kept.read() == []
