"""The names of a run's classes stand in task.json and in the model's config.json: both say what each output means.

A person may edit either by hand, and a file where two names have changed places turns every prediction around.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from afina.errors import RunFolderError
from afina.runs.folder import RunFolder

SHOWN = 3


def check_class_names(folder: RunFolder, written: Mapping[int, str]) -> None:
    """Refuse a model whose two lists of names differ.

    Args:
        written: the names by task.json; empty for numbers, which have none.

    Raises:
        RunFolderError: with the first names that differ.
    """
    try:
        stored = json.loads((folder.model / "config.json").read_text(encoding="utf-8")).get("id2label")
    except (OSError, ValueError, AttributeError):  # what isn't there can't differ; what is damaged, loading tells
        return
    if not written or not isinstance(stored, dict):
        return
    found = {str(number): str(name) for number, name in stored.items()}
    expected = {str(number): name for number, name in written.items()}
    odd = [
        number
        for number in sorted({*found, *expected}, key=lambda n: (len(n), n))
        if found.get(number) != expected.get(number)
    ]
    if odd:
        shown = ", ".join(f"{n} is {expected.get(n)!r} and {found.get(n)!r}" for n in odd[:SHOWN])
        raise RunFolderError(
            f"the classes of {folder.path} have other names in task.json than in model/config.json",
            found=shown + (", ..." if len(odd) > SHOWN else ""),
            expected="the same names in the same order, as the run wrote them",
            remedy="put back what was edited; to rename a class, change it in both files",
        )
