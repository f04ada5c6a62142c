"""What every test gets: no network, no telemetry, a cache of its own, and tiny models built once a session.

The variables are set before any library that reads them is imported; this file imports none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

os.environ |= {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",  # tiny models: threads would only wait for each other, and for other tests
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}

# Tests run from a fresh clone too, where nothing is installed.
SOURCE = str(Path(__file__).parent.parent / "src")
if SOURCE not in sys.path:
    sys.path.insert(0, SOURCE)
# Programs started by a test find the package the same way.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH")]))


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`tiny_models(family)` is a folder with a tiny model of the family. Copy it before you change it."""
    root = tmp_path_factory.mktemp("models")

    def build(family: str) -> Path:
        from afina.testing.models import save_tiny_model

        folder = root / family
        return folder if folder.exists() else save_tiny_model(family, folder)

    return build


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads what another one, or the person at this machine, has cached."""
    monkeypatch.setenv("AFINA_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Every test begins with one thread, whatever another one has asked torch for."""
    yield
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
