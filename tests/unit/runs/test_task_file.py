"""task.json is taken as a run writes it, and refused with its first odd place."""

from __future__ import annotations

from typing import Any

import pytest

from afina.errors import RunFolderError
from afina.runs.task_file import check_task

BASE = {"reference": "bert", "revision": None}
LABELLED: dict[str, Any] = {
    "task": "text-classification", "labels": {"kind": "multiclass", "names": ["a", "b"], "separator": None},
    "fit": {"class_weights": [1.0], "target_mean": 0.0, "target_scale": 1.0, "thresholds": []},
    "columns": {"text": "text", "text_pair": None, "label": "label"}, "base": BASE,
}  # fmt: skip
LANGUAGE: dict[str, Any] = {
    "task": "text-generation", "form": "messages", "columns": {"messages": "messages"}, "has_template": True,
    "stop_tokens": [2], "sample": [[1, 2]], "base": BASE,
}  # fmt: skip


@pytest.mark.parametrize("stored", [LABELLED, LANGUAGE, LABELLED | {"later": "a key of a later version"}])
def test_what_a_run_writes_is_taken(stored: dict[str, Any]) -> None:
    check_task(stored, "task.json")


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ({}, ": Unable to extract tag using discriminator 'task'"),
        (LABELLED | {"task": "os.system"}, ": Input tag 'os.system' found using 'task' does not match any of the "
         "expected tags: 'text-classification', 'text-regression', 'token-classification', 'text-generation'"),
        (LABELLED | {"labels": {"kind": "multiclass", "names": "ab"}},
         "text-classification.labels.names: Input should be a valid list"),
        (LABELLED | {"fit": {"evil": 1}}, "text-classification.fit.evil: Extra inputs are not permitted"),
        (LABELLED | {"base": {"reference": "bert"}}, "text-classification.base.revision: Field required"),
        (LANGUAGE | {"stop_tokens": ["2"]}, "text-generation.stop_tokens.0: Input should be a valid integer"),
        (LANGUAGE | {"stop_tokens": [10**30]}, "text-generation.stop_tokens.0: Input should be less than 2147483648"),
        (LANGUAGE | {"sample": [[-1]]}, "text-generation.sample.0.0: Input should be greater than or equal to 0"),
        (LANGUAGE | {"sample": [[]]},
         "text-generation.sample.0: List should have at least 1 item after validation, not 0"),
        (LANGUAGE | {"columns": {"x": "y"}}, "no column of prompts"),
        (LANGUAGE | {"columns": {}}, "no column of prompts"),
    ],
)  # fmt: skip
def test_anything_else_is_refused(stored: dict[str, Any], found: str) -> None:
    with pytest.raises(RunFolderError) as caught:
        check_task(stored, "run/task.json")
    assert str(caught.value) == (
        f"run/task.json is not what a run writes\n  found: {found}\n  do: copy the folder of the run again"
    )
