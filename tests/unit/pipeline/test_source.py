"""Which task the columns of a file stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

import afina
from afina.errors import DataError


def test_preference_data_is_told_from_labels(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {i}", "chosen": f"a {i}", "rejected": f"b {i}"} for i in range(8)]
    with pytest.raises(DataError, match="this is preference data") as caught:
        afina.check(rows)
    assert 'prompt_column="prompt" completion_column="chosen"' in str(caught.value)
