"""What was computed once is found again bit by bit; what is damaged or doesn't fit on the disk costs time only."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from afina.data.cache import locate_cache
from afina.models.feature_cache import FeatureCache

MADE_OF = {"model": "abc", "precision": "fp32"}
WIDTH = 5
RANDOM = np.random.default_rng(0)
KEYS = np.frombuffer(RANDOM.bytes(16 * 20), dtype="V16")
FEATURES = {name: RANDOM.normal(size=(20, WIDTH)).astype(np.float32) for name in ("own", "mean")}


def take(rows: Any) -> dict[str, Any]:
    return {name: array[rows] for name, array in FEATURES.items()}


def check_hits(cache: FeatureCache, asked: Any, known: Any, poolings: tuple[str, ...] = ("own", "mean")) -> None:
    """Of the rows asked for, exactly those in `known` are found, with their own numbers."""
    arrays, known_D = cache.find(KEYS[asked], poolings)
    assert known_D.tolist() == [row in known for row in asked]
    assert set(arrays) == (set(poolings) if arrays else set())
    for name, array in arrays.items():
        np.testing.assert_array_equal(array[known_D], FEATURES[name][np.asarray(asked)[known_D]])


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path, MADE_OF)


def test_a_cache_that_may_not_be_looked_into_holds_nothing(
    cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.add(KEYS[:5], take(slice(5)))

    def refuse(*rest: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "glob", refuse)
    check_hits(cache, [0, 1], set())


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """In here no file can grow beyond 100 bytes: writing fails as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_nothing_is_known_at_first(cache: FeatureCache) -> None:
    arrays, known_D = cache.find(KEYS, ("own",))
    assert arrays == {}
    assert known_D.tolist() == [False] * 20


def test_rows_are_found_in_any_order_and_number(cache: FeatureCache) -> None:
    cache.add(KEYS[:8], take(slice(0, 8)))
    check_hits(cache, list(range(20)), set(range(8)))
    check_hits(cache, [7, 19, 0, 7, 3], {0, 3, 7})
    check_hits(cache, [18, 19], set())
    assert cache.find(KEYS[[7]], ("own",))[1].all()


def test_shards_add_up(cache: FeatureCache) -> None:
    for start in range(0, 20, 7):
        cache.add(KEYS[start : start + 7], take(slice(start, start + 7)))
    cache.add(KEYS[5:9], take(slice(5, 9)))  # another run computed these as well
    assert len(list(cache.folder.iterdir())) == 4
    check_hits(cache, list(reversed(range(20))), set(range(20)))


def test_a_key_that_ends_in_zeros_is_itself(cache: FeatureCache) -> None:
    keys = np.frombuffer(b"a" + bytes(15) + b"a" * 15 + bytes(1) + bytes(16), dtype="V16")
    cache.add(keys[:1], {"own": FEATURES["own"][:1]})
    assert cache.find(keys, ("own",))[1].tolist() == [True, False, False]


def test_two_runs_share_what_each_has_written(tmp_path: Path) -> None:
    one, other = FeatureCache(tmp_path, MADE_OF), FeatureCache(tmp_path, dict(reversed(MADE_OF.items())))
    one.add(KEYS[:5], take(slice(0, 5)))
    other.add(KEYS[3:9], take(slice(3, 9)))
    for cache in (one, other):
        check_hits(cache, list(range(20)), set(range(9)))


@pytest.mark.parametrize("changed", [{"model": "abd"}, {"precision": "bf16"}, {"storage": "nf4"}])
def test_other_models_and_settings_have_folders_of_their_own(tmp_path: Path, changed: dict[str, str]) -> None:
    FeatureCache(tmp_path, MADE_OF).add(KEYS, FEATURES)
    check_hits(FeatureCache(tmp_path, MADE_OF | changed), [0, 1], set())


def test_a_shard_without_the_pooling_is_passed_over(cache: FeatureCache) -> None:
    cache.add(KEYS[:4], {"own": FEATURES["own"][:4]})
    cache.add(KEYS[4:6], take(slice(4, 6)))
    check_hits(cache, list(range(20)), set(range(6)), ("own",))
    check_hits(cache, list(range(20)), {4, 5})


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "folder", "foreign"])
def test_a_damaged_shard_is_passed_over(cache: FeatureCache, damage: str) -> None:
    from safetensors.numpy import save_file

    cache.add(KEYS[:5], take(slice(0, 5)))
    (shard,) = cache.folder.iterdir()
    content = shard.read_bytes()
    if damage == "folder":
        shard.unlink()
        shard.mkdir()
    elif damage == "foreign":
        save_file(take(slice(0, 5)), shard)  # no keys
    else:
        shard.write_bytes({"cut": content[:-9], "empty": b"", "noise": bytes(64)}[damage])
    check_hits(cache, [0, 1, 2], set())
    cache.add(KEYS[:2], take(slice(0, 2)))
    check_hits(cache, [0, 1, 2], {0, 1})


def test_an_unfinished_shard_does_not_count(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(source: Any, target: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        cache.add(KEYS, FEATURES)
    assert [path.suffix for path in cache.folder.iterdir()] == [".tmp"]
    check_hits(cache, [0, 1], set())


def test_a_full_disk_loses_the_cache_and_not_the_run(cache: FeatureCache) -> None:
    with full_disk():
        cache.add(KEYS, FEATURES)
    check_hits(cache, [0, 1], set())
    assert list(cache.folder.iterdir()) == []


def test_a_cache_that_cannot_be_made_loses_the_cache_and_not_the_run(tmp_path: Path) -> None:
    (tmp_path / "features").write_text("a file in the way")
    cache = FeatureCache(tmp_path, MADE_OF)
    cache.add(KEYS, FEATURES)
    check_hits(cache, [0, 1], set())


def test_a_rename_that_fails_leaves_nothing_behind(cache: FeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: Any, target: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    cache.add(KEYS, FEATURES)
    assert list(cache.folder.iterdir()) == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFINA_CACHE", str(tmp_path))
    assert locate_cache() == tmp_path
    monkeypatch.delenv("AFINA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert locate_cache() == tmp_path / "xdg" / "afina"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate_cache() == tmp_path / ".cache" / "afina"


@pytest.mark.skipif(os.name == "nt", reason="modes are POSIX")
def test_features_are_their_owners_alone(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "cache", {"model": "m"})
    cache.add(np.zeros(1, "V16"), {"mean": np.zeros((1, 2), np.float32)})
    assert list(cache.folder.iterdir())
    assert stat.S_IMODE(cache.folder.parent.stat().st_mode) == 0o700
