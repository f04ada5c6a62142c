"""What `afina check` does with a model: rows are cut where training would cut them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import afina
from afina.testing.data import make_rows
from afina.testing.models import MAX_POSITIONS


def test_a_length_that_the_model_cant_take_is_cut_to_its_limit(tiny_models: Callable[[str], Path]) -> None:
    rows = make_rows("multiclass", 60)
    rows[0]["text"] = "a long text " * 50
    report = afina.check(rows, tiny_models("bert"), max_seq_length=1024)
    (found,) = [each for each in report.findings if each.code == "long-texts"]
    assert f"longer than {MAX_POSITIONS} tokens" in found.title
    assert {"setting": "model.max_seq_length", "value": MAX_POSITIONS, "reason": (
        f"1024 was asked for, but the model can't take more than {MAX_POSITIONS} tokens"
    )} in report.reasons  # fmt: skip
