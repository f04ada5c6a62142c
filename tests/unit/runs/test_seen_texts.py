"""What a model learned from is known again, by few bytes that are the same for the same rows."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from afina.data.split import hash_texts
from afina.runs.folder import RunFolder
from afina.runs.seen_texts import SEEN_TEXTS, read_seen_texts, write_seen_texts

TRAINED = hash_texts([("A text",), ("another",), ("a  TEXT",), ("one", "two")])


def test_texts_are_known_again(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert read_seen_texts(run).count(TRAINED) is None, "a run without the file doesn't know"
    write_seen_texts(run, [TRAINED[:2], TRAINED[2:]])
    asked = hash_texts([("a text",), ("A TEXT",), ("new",), ("one",), ("one", "two")])
    assert read_seen_texts(run).count(asked) == 3
    assert read_seen_texts(run).count(asked[2:4]) == 0


def test_the_file_is_small_and_the_same_in_any_order(tmp_path: Path) -> None:
    runs = [RunFolder(tmp_path / name) for name in ("a", "b")]
    for run, hashes in zip(runs, (TRAINED, TRAINED[::-1]), strict=True):
        run.path.mkdir()
        write_seen_texts(run, [hashes])
    first, second = ((run.path / SEEN_TEXTS).read_bytes() for run in runs)
    assert first == second
    assert len(first) == 128 + 8 * 3
    assert [path.name for path in runs[0].path.iterdir()] == [SEEN_TEXTS]


def save_array(array: NDArray[np.generic]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


@pytest.mark.parametrize(
    "content",
    [b"", b"no array", save_array(np.array([None])), save_array(np.arange(3.0))],
    ids=["empty", "no array", "pickled", "decimals"],
)
def test_a_damaged_file_is_said(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / SEEN_TEXTS
    path.write_bytes(content)
    seen = read_seen_texts(RunFolder(tmp_path))
    assert seen.count(TRAINED) is None
    assert seen.notes == (f"{path} is damaged, so whether the model learned from these rows isn't known",)
