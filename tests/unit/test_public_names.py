"""The public names are few, sorted and there, and importing them costs nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import afina

HEAVY = ("torch", "transformers", "datasets", "sklearn", "pandas", "pyarrow", "numpy", "peft", "accelerate")


@pytest.mark.parametrize("name", afina.__all__)
def test_the_name_resolves(name: str) -> None:
    assert getattr(afina, name) is not None
    found = getattr(afina, name)
    if name != "__version__":
        assert found.__name__ == name
        assert found.__module__.startswith("afina.")
        assert found.__doc__


def test_the_list_is_sorted_short_and_what_dir_gives() -> None:
    assert afina.__all__ == sorted(set(afina.__all__))
    assert 15 < len(afina.__all__) < 40
    assert dir(afina) == afina.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError) as caught:
        afina.finetune  # noqa: B018
    assert str(caught.value) == "module 'afina' has no attribute 'finetune'"


def test_the_command_s_name_for_training_leads_to_the_function() -> None:
    with pytest.raises(AttributeError, match=r"'train'; afina\.fit trains$"):
        afina.train  # noqa: B018


@pytest.mark.parametrize("module", ["afina", "afina.errors", "afina.config.run", "afina.config.load", "afina.cli"])
def test_importing_is_light(module: str) -> None:
    code = f"import {module}, json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = json.loads(done.stdout)
    assert module in loaded
    assert [name for name in HEAVY if name in loaded] == []
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "value"), [("DO_NOT_TRACK", "1"), ("HF_HUB_DISABLE_TELEMETRY", "1"), ("USE_HUB_KERNELS", "NO")]
)
def test_other_libraries_tell_nobody_and_fetch_nothing(name: str, value: str) -> None:
    """Set before any of them is imported, unless the user has set it otherwise."""
    for before, expected in ((None, value), ("other", "other")):
        change = f"os.environ.pop({name!r}, 0)" if before is None else f"os.environ[{name!r}] = {before!r}"
        code = f"import os; {change}; import afina; print(os.environ[{name!r}])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == f"{expected}\n"


@pytest.mark.parametrize(
    ("before", "expected"),
    [({}, "30000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_threads_that_wait_let_others_have_the_core(before: dict[str, str], expected: str) -> None:
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = "import os, afina; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, env=kept | before
    )
    assert done.stdout == f"{expected}\n"
