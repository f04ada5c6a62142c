"""A whole fine-tuning under an audit hook: no unpickling, no network, no other program, no code but the libraries' own.

Beside it a proof that the hook sees what it is to see.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from afina.testing.data import make_conversations, make_rows

PROGRAM = Path(__file__).with_name("audited.py")


# Who makes code of text: named tuples, data classes and annotations of Python itself, Jinja (a template, for its
# sandbox), and libraries that write functions of their own when they are imported.
MAKERS = frozenset({
    "ast.py", "attr", "collections", "dataclasses.py", "jinja2", "mpmath", "numpy", "pandas", "pyarrow", "pydantic",
    "scipy", "six.py", "sklearn", "sympy", "torch", "typing.py", "typing_inspection",
})  # fmt: skip


def start(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in PLACE/work with a home, a cache and a folder for temporary files of its own."""
    for name in ("work", "cache", "tmp", "home"):
        (place / name).mkdir(exist_ok=True)
    environment = os.environ | {
        "AFINA_CACHE": str(place / "cache"), "HOME": str(place / "home"), "TMPDIR": str(place / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    # As a user has it; the last one is set by torch, where this process has imported it.
    for name in ("DO_NOT_TRACK", "HF_HOME", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE", "XDG_CACHE_HOME",
                 "TORCHINDUCTOR_CACHE_DIR"):  # fmt: skip
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, *arguments], cwd=place / "work", env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def place(tiny_models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, write_csv: Any) -> Path:
    folder = tmp_path_factory.mktemp("audited")
    for family in ("bert", "llama"):
        shutil.copytree(tiny_models(family), folder / family)
    write_csv(folder / "rows.csv", make_rows("multiclass", 60))
    rows = make_conversations("messages", 40)
    (folder / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def seen(place: Path) -> dict[str, Any]:
    done = start(place, str(PROGRAM), str(place))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_the_hook_saw_a_fine_tuning(seen: dict[str, Any]) -> None:
    assert seen["counts"]["open"] > 500
    assert seen["counts"]["exec"] > 1000
    assert seen["counts"]["os.rename"] > 20


def test_nothing_forbidden_happens(seen: dict[str, Any]) -> None:
    assert not seen["found"], "\n".join(seen["found"])


def test_code_is_made_of_text_by_libraries_only(seen: dict[str, Any]) -> None:
    assert {maker.split("/")[0] for maker in seen["compilers"]} <= MAKERS
    assert "jinja2/environment.py" in seen["compilers"], "the chat template of the language model"


def test_all_modules_are_of_libraries(seen: dict[str, Any]) -> None:
    assert seen["modules"] == []


def test_nothing_is_left_behind(seen: dict[str, Any], place: Path) -> None:
    assert not list((place / "home").iterdir())
    left = [path for path in (place / "tmp").iterdir() if not path.name.startswith("torchinductor")]
    assert not left, "torch makes an empty folder for its compiler when it is imported"


@pytest.mark.parametrize(
    ("sample", "event"),
    [
        ("code", "exec"), ("compile", "compile"), ("directory", "os.mkdir"), ("network", "socket.connect"),
        ("pickle", "pickle.find_class"), ("program", "subprocess.Popen"), ("write", "open for writing"),
    ],
)  # fmt: skip
def test_what_may_not_happen_is_seen(sample: str, event: str, tmp_path: Path) -> None:
    done = start(tmp_path, str(PROGRAM), str(tmp_path), sample)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["found"]
    assert any(line.startswith(f"sample: {event} ") for line in found), found
