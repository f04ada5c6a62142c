"""A short form of `make fuzz`: a few inputs for each reader, and again all that ever went wrong."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutations import MUTATIONS, make_input  # type: ignore[import-not-found]
from target import Target, is_refusal  # type: ignore[import-not-found]
from targets import TARGETS  # type: ignore[import-not-found]

CORPUS = Path(__file__).with_name("corpus")
KEPT = sorted(path for path in CORPUS.glob("*/*") if path.is_file())
FEW = settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
every_target = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
pytestmark = pytest.mark.filterwarnings("ignore")  # libraries warn of odd files


def read(target: Target, data: bytes) -> bool:
    """Whether the input is accepted; one that is neither accepted nor refused raises."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            target.read(data, Path(folder))
        except Exception as error:
            if not is_refusal(error):
                raise
            return False
    return True


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sequence[bytes]]:
    return {name: target.make_seeds(tmp_path_factory.mktemp("seeds")) for name, target in TARGETS.items()}


@every_target
def test_good_inputs_are_accepted(target: Target, seeds: dict[str, Sequence[bytes]]) -> None:
    assert any(read(target, data) for data in seeds[target.name])


@every_target
def test_changed_inputs_are_read_or_refused(target: Target, seeds: dict[str, Sequence[bytes]]) -> None:
    @FEW
    @given(st.integers(0, 2**32))
    def check(seed: int) -> None:
        read(target, make_input(random.Random(seed), seeds[target.name]))

    check()


@every_target
def test_any_bytes_are_read_or_refused(target: Target) -> None:
    @FEW
    @given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
    def check(data: bytes) -> None:
        read(target, data)

    check()


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.relative_to(CORPUS).as_posix())
def test_what_went_wrong_once_is_read_or_refused(path: Path) -> None:
    read(TARGETS[path.parent.name], path.read_bytes())


def test_an_error_of_a_library_would_be_found() -> None:
    for error in (ValueError("text"), KeyError("a"), RecursionError(), MemoryError()):
        assert not is_refusal(error)


def test_mutations_change_inputs() -> None:
    draw, seed = random.Random(0), b'{"text": "a", "label": 1}\n' * 3
    for mutation in MUTATIONS:
        assert any(mutation(draw, seed, [seed]) != seed for _ in range(9)), mutation
        mutation(draw, b"", [b""])
    assert len({make_input(draw, [seed]) for _ in range(100)}) > 80
