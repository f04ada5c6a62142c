"""A checkpoint is whole or not there, whatever the disk or a kill does at any step of its writing."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from afina.errors import RunFolderError
from afina.training import checkpoint as checkpoints
from afina.training import checkpoint_files as module
from afina.training.checkpoint import CheckpointStore, name_step, restore_moments, restore_weights
from afina.training.optim import make_optimizer


def make_model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.ModuleDict({"moving": nn.Linear(4, 3), "resting": nn.Linear(50, 50)})
    model["resting"].requires_grad_(False)
    return model


def take_steps(model: Any, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> None:
    for step in range(start, start + steps):
        torch.manual_seed(step)
        model["moving"](torch.randn(6, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = make_model()
    optimizer = make_optimizer(model, 0.1, 0.1)
    take_steps(model, optimizer, 3)
    return model, optimizer


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    (tmp_path / "run").mkdir()
    return CheckpointStore(tmp_path / "run" / "checkpoints", keep=2)


def list_names(store: CheckpointStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir()) if store.folder.exists() else []


def test_weights_moments_and_state_come_back(store: CheckpointStore, trained: Any) -> None:
    model, optimizer = trained
    folder = store.save(model, optimizer, {"step": 3, "best_step": None, "best_loss": 0.1 + 0.2})
    assert folder == store.folder / "step-00000003"
    assert sorted(path.name for path in folder.iterdir()) == [
        "manifest.json", "optimizer.safetensors", "state.json", "weights.safetensors"
    ]  # fmt: skip
    found, damaged = store.find_newest()
    assert found is not None
    assert damaged == {}
    assert found.state == {"step": 3, "best_step": None, "best_loss": 0.1 + 0.2}
    again = make_model(1)
    fresh = make_optimizer(again, 0.1, 0.1)
    assert not torch.equal(again["moving"].weight, model["moving"].weight)
    restore_weights(found, again)
    restore_moments(found, again, fresh)
    # Only what moves is kept: a LoRA's checkpoint is small.
    assert torch.equal(again["moving"].weight, model["moving"].weight)
    assert not torch.equal(again["resting"].weight, model["resting"].weight)
    assert folder.joinpath("weights.safetensors").stat().st_size < 2000
    for wanted, parameter in zip(model.parameters(), again.parameters(), strict=True):
        assert optimizer.state[wanted].keys() == fresh.state[parameter].keys()
        for name, value in optimizer.state[wanted].items():
            assert torch.equal(fresh.state[parameter][name], value)
            assert fresh.state[parameter][name].dtype == value.dtype
    take_steps(model, optimizer, 4, start=3)
    take_steps(again, fresh, 4, start=3)
    assert torch.equal(again["moving"].weight, model["moving"].weight)


def test_moments_matter(store: CheckpointStore, trained: Any) -> None:
    model, optimizer = trained
    store.save(model, optimizer, {"step": 3})
    found, _ = store.find_newest()
    assert found is not None
    again = make_model()
    restore_weights(found, again)
    fresh = make_optimizer(again, 0.1, 0.1)
    take_steps(model, optimizer, 1, start=3)
    take_steps(again, fresh, 1, start=3)
    assert not torch.equal(again["moving"].weight, model["moving"].weight)


def test_a_checkpoint_before_the_first_step_has_no_moments(store: CheckpointStore) -> None:
    model = make_model()
    optimizer = make_optimizer(model, 0.1, 0.1)
    store.save(model, optimizer, {"step": 0})
    found, _ = store.find_newest()
    assert found is not None
    restore_moments(found, model, optimizer)
    assert not optimizer.state


def test_a_checkpoint_of_another_model_is_refused(store: CheckpointStore, trained: Any) -> None:
    model, optimizer = trained
    folder = store.save(model, optimizer, {"step": 3})
    found, _ = store.find_newest()
    assert found is not None
    other = make_model()
    other["moving"].bias.requires_grad_(False)
    with pytest.raises(RunFolderError) as caught:
        restore_weights(found, other)
    assert str(caught.value) == (
        f"the checkpoint {folder} is of another model\n  found: 2 tensors instead of 1, or of other shapes\n"
        f"{WANTED}\n  do: remove {folder}; the run then goes on from an older one, or begins again"
    )


WANTED = "  expected: tensors of fp32, of the names and shapes of the weights that are trained"


@pytest.mark.parametrize(
    ("name", "tensors", "found"),
    [
        ("weights.safetensors", b"no tensors", "weights.safetensors can't be read: safetensors says: Error while "),
        ("optimizer.safetensors", b"\xff" * 9, "optimizer.safetensors can't be read: safetensors says: Error while "),
        ("weights.safetensors", {"moving.weight": torch.zeros(3, 4).long()},
         "moving.weight in weights.safetensors is torch.int64"),
        ("optimizer.safetensors", {"moving.weight.step": torch.zeros(())},
         "moments of moving.weight that are missing or of another shape"),
        ("optimizer.safetensors", {f"moving.bias.{name}": torch.zeros(2) for name in ("exp_avg", "exp_avg_sq", "step")},
         "moments of moving.bias that are missing or of another shape"),
    ],
)  # fmt: skip
def test_what_verifies_and_is_nonsense_is_refused(
    name: str, tensors: Any, found: str, store: CheckpointStore, trained: Any
) -> None:
    model, optimizer = trained
    folder = store.save(model, optimizer, {"step": 3})
    content = tensors if isinstance(tensors, bytes) else safetensors.torch.save(tensors)
    (folder / name).write_bytes(content)
    write_json(folder / "manifest.json", module.make_manifest(folder))
    checkpoint, damaged = store.find_newest()
    assert checkpoint is not None
    assert damaged == {}
    is_weights = name.startswith("weights")
    with pytest.raises(RunFolderError) as caught:
        restore_weights(checkpoint, model) if is_weights else restore_moments(checkpoint, model, optimizer)
    (problem,) = caught.value.problems
    assert problem.what == f"the checkpoint {folder} is of another model"
    assert problem.found.startswith(found)


class Killed(BaseException):
    """What a kill is to the program: nothing catches it."""


WRITES = (
    (Path, "mkdir"), (safetensors.torch, "save_file"), (os, "fsync"), (os, "rename"), (checkpoints, "write_synced"),
    (module, "make_manifest"),
)  # fmt: skip


def break_disk(monkeypatch: pytest.MonkeyPatch, at: int, error: BaseException, once: bool) -> list[str]:
    """Raise `error` at the `at`-th operation on the disk (and, unless `once`, at all after it); gives those done."""
    done: list[str] = []

    def wrap(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            if len(done) == at:
                if once:
                    done.append("failed")
                raise error
            done.append(name)
            return function(*args, **options)

        monkeypatch.setattr(owner, name, call)

    # Removing ignores errors of the disk, but not a kill.
    for owner, name in WRITES if once else (*WRITES, (shutil, "rmtree")):
        wrap(owner, name)
    return done


def save_twice(store: CheckpointStore, trained: Any, second: int, at: int) -> int:
    """A checkpoint of step 5, then one of step `second` that is killed at operation `at`; gives how many were done."""
    model, optimizer = trained
    store.save(model, optimizer, {"step": 5, "best_step": 5, "n": 1})
    with pytest.MonkeyPatch.context() as patch:
        done = break_disk(patch, at, Killed(), once=False)
        with contextlib.suppress(Killed):
            store.save(model, optimizer, {"step": second, "best_step": 5, "n": 2})
    return len(done)


@pytest.mark.parametrize("second", [5, 8])
@pytest.mark.parametrize("keep", [1, 2])
def test_a_kill_at_any_instant_leaves_a_whole_checkpoint(second: int, keep: int, tmp_path: Path, trained: Any) -> None:
    operations = save_twice(CheckpointStore(tmp_path / "whole", keep), trained, second, at=1000)
    assert operations >= 13
    outcomes = set()
    for at in range(operations):
        store = CheckpointStore(tmp_path / str(at), keep)
        assert save_twice(store, trained, second, at) == at
        found, damaged = store.find_newest()
        assert found is not None, f"nothing is left after a kill at operation {at}"
        assert damaged == {}
        assert found.state in ({"step": 5, "best_step": 5, "n": 1}, {"step": second, "best_step": 5, "n": 2})
        best = store.find_step(5)
        assert best is not None
        outcomes.add(found.state["n"])
        # The next save of the resumed run clears what is left lying about.
        store.save(*trained, {"step": 9, "best_step": 9})
        store.save(*trained, {"step": 10, "best_step": 9})
        assert list_names(store) == ["step-00000009", "step-00000010"]
    assert outcomes == {1, 2}


@pytest.mark.parametrize("second", [5, 8])
def test_an_error_of_the_disk_at_any_instant_is_said_and_costs_nothing(
    second: int, tmp_path: Path, trained: Any
) -> None:
    refused: list[str] = []
    written = False
    for at in range(100):
        (tmp_path / str(at)).mkdir()
        store = CheckpointStore(tmp_path / str(at) / "checkpoints", 2)
        model, optimizer = trained
        store.save(model, optimizer, {"step": 5, "n": 1})
        with pytest.MonkeyPatch.context() as patch:
            done = break_disk(patch, at, OSError(errno.ENOSPC, "No space left on device"), once=True)
            try:
                store.save(model, optimizer, {"step": second, "n": 2})
            except RunFolderError as error:
                refused.append(str(error))
            written = "failed" not in done
        found, _ = store.find_newest()
        assert found is not None
        assert not list(store.folder.glob(".*"))
        if written:
            break
    assert written
    assert len(refused) == at >= 10
    assert refused == [
        f"the checkpoint {tmp_path / str(i) / 'checkpoints' / name_step(second)} can't be written\n"
        "  found: No space left on device\n"
        f"  do: free some space, then afina resume {tmp_path / str(i)}"
        for i in range(at)
    ]


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """In here no file can grow beyond 100 bytes: writing fails as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_said_with_what_to_do(store: CheckpointStore, trained: Any) -> None:
    model, optimizer = trained
    store.save(model, optimizer, {"step": 1})
    with full_disk(), pytest.raises(RunFolderError) as caught:
        store.save(model, optimizer, {"step": 2})
    assert caught.value.problems[0].remedy == f"free some space, then afina resume {store.folder.parent}"
    assert list_names(store) == ["step-00000001"]


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "noise"])
def test_a_damaged_checkpoint_is_passed_over(file: str, damage: str, store: CheckpointStore, trained: Any) -> None:
    model, optimizer = trained
    for step in (1, 2):
        store.save(model, optimizer, {"step": step})
    path = store.folder / "step-00000002" / file
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        changed = bytes([content[0] ^ 1]) + content[1:]
        path.write_bytes({"cut": content[:-1], "changed": changed, "noise": b"\xff\x00"}[damage])
    assert store.find_damage(store.folder / "step-00000002")
    found, damaged = store.find_newest()
    assert found is not None
    assert found.state == {"step": 1}
    assert list(damaged) == [store.folder / "step-00000002"]
    assert store.find_step(2) is None
    assert store.find_step(1) == found


def test_a_file_too_many_is_damage(store: CheckpointStore, trained: Any) -> None:
    folder = store.save(*trained, {"step": 1})
    (folder / "extra").write_text("")
    assert store.find_damage(folder) == "extra is not one of its files"


def test_without_any_there_is_none(store: CheckpointStore) -> None:
    assert store.find_newest() == (None, {})
    assert store.find_step(1) is None
    assert store.list_folders() == []


@pytest.mark.parametrize(
    ("keep", "best", "kept"),
    [(1, None, [9]), (1, 2, [2, 9]), (2, 2, [2, 8, 9]), (2, 9, [8, 9]), (3, 8, [7, 8, 9]), (50, 1, list(range(1, 10)))],
)
def test_the_newest_and_the_best_are_kept(
    keep: int, best: int | None, kept: list[int], tmp_path: Path, trained: Any
) -> None:
    store = CheckpointStore(tmp_path, keep)
    for step in range(1, 10):
        store.save(*trained, {"step": step, "best_step": best if best and step >= best else None})
        assert store.find_newest()[0] is not None
    assert list_names(store) == [name_step(step) for step in kept]


def test_damaged_ones_of_an_abandoned_future_push_no_good_one_out(tmp_path: Path, trained: Any) -> None:
    store = CheckpointStore(tmp_path, 1)
    store.keep = 3
    for step in (100, 200, 300):
        store.save(*trained, {"step": step, "best_step": 100})
    for step in (200, 300):
        (tmp_path / name_step(step) / "state.json").unlink()
    store.keep = 1
    found, damaged = store.find_newest()
    assert found is not None
    assert found.state["step"] == 100
    assert [folder.name for folder in damaged] == ["step-00000300", "step-00000200"]
    store.save(*trained, {"step": 150, "best_step": 100})
    assert list_names(store) == ["step-00000100", "step-00000150"]


def test_steps_are_in_order_of_their_numbers(tmp_path: Path, trained: Any) -> None:
    store = CheckpointStore(tmp_path, 5)
    for step in (2, 10, 9):
        store.save(*trained, {"step": step})
    found, _ = store.find_newest()
    assert found is not None
    assert found.state["step"] == 9  # 10 was of an abandoned future
    assert [folder.name for folder in store.list_folders()] == ["step-00000002", "step-00000009"]
    store.save(*trained, {"step": 10})
    assert [folder.name for folder in store.list_folders()][-1] == "step-00000010"


def test_the_manifest_is_written_last_and_all_is_synced(
    store: CheckpointStore, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync: Callable[[int], None] = os.fsync

    def watch(handle: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watch)
    store.save(*trained, {"step": 1})
    assert synced == [
        "weights.safetensors", "optimizer.safetensors", "state.json", "manifest.json", ".step-00000001.tmp",
        "checkpoints",
    ]  # fmt: skip


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


def edit_manifest(folder: Path, change: Callable[[Any], Any]) -> None:
    path = folder / "manifest.json"
    write_json(path, change(json.loads(path.read_text())))


def edit_state(folder: Path, state: Any) -> None:
    """Another state.json, with a manifest that agrees."""
    write_json(folder / "state.json", state)
    write_json(folder / "manifest.json", module.make_manifest(folder))


def flip_bit(folder: Path) -> None:
    path = folder / "optimizer.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def become_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


def become_link(folder: Path) -> None:
    os.rename(folder, folder.with_name("elsewhere"))
    folder.symlink_to(folder.with_name("elsewhere"))


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut": (lambda f: os.truncate(f / "weights.safetensors", 40), "weights.safetensors has 40 bytes instead of 204"),
    "empty": (lambda f: os.truncate(f / "state.json", 0), "state.json has 0 bytes instead of 48"),
    "bit": (flip_bit, "optimizer.safetensors has other content than was written"),
    "gone": (lambda f: (f / "weights.safetensors").unlink(), "weights.safetensors is missing"),
    "without a manifest": (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing"),
    "a manifest of noise": (lambda f: (f / "manifest.json").write_bytes(b"\xff{"), "manifest.json is not JSON"),
    "a manifest cut off": (lambda f: os.truncate(f / "manifest.json", 30), "manifest.json is not JSON"),
    "a manifest that is a list": (lambda f: edit_manifest(f, lambda m: [m]), "manifest.json lists no files"),
    "a manifest that is a number": (lambda f: edit_manifest(f, lambda m: 3), "manifest.json lists no files"),
    "a manifest of a list": (lambda f: edit_manifest(f, lambda m: m | {"files": []}), "manifest.json lists no files"),
    "a manifest of nothing": (
        lambda f: edit_manifest(f, lambda m: m | {"files": {}}), "manifest.json doesn't list optimizer.safetensors"
    ),
    "a manifest of numbers": (
        lambda f: edit_manifest(f, lambda m: m | {"files": dict.fromkeys(m["files"], 1)}),
        "manifest.json doesn't list optimizer.safetensors",
    ),
    "another format": (
        lambda f: edit_manifest(f, lambda m: m | {"format": 7}), "it has the format 7, of another version of afina"
    ),
    "a state without a key": (lambda f: edit_state(f, {"step": 2}), "state.json has no best_step"),
    "a state of another step": (lambda f: edit_state(f, {"step": 9, "best_step": 1}), "state.json is of step 9"),
    "a state of text": (lambda f: edit_state(f, {"step": "2", "best_step": 1}), "state.json is of step 2"),
    "a state that is a list": (lambda f: edit_state(f, [2]), "state.json holds no object"),
    "a folder too many": (lambda f: (f / "more").mkdir(), "more is not one of its files"),
    "a folder for a file": (
        lambda f: ((f / "state.json").unlink(), (f / "state.json").mkdir()), "state.json has 4,096 bytes instead of 48"
    ),
    "a file": (become_file, "it is a file, not a folder"),
    "a link": (become_link, "it is a link, not a folder"),
}  # fmt: skip


def find_missing(state: Mapping[str, Any]) -> str:
    missing = sorted({"step", "best_step"} - state.keys())
    return f"no {', '.join(missing)}" if missing else ""


@pytest.mark.parametrize("name", DAMAGES)
def test_every_damage_is_named_and_the_one_before_is_taken(name: str, tmp_path: Path, trained: Any) -> None:
    damage, said = DAMAGES[name]
    store = CheckpointStore(tmp_path, 3, find_missing)
    for step in (1, 2):
        store.save(*trained, {"step": step, "best_step": 1, "padding": "x"})
    newest = tmp_path / name_step(2)
    assert store.find_damage(newest) == ""
    damage(newest)
    # A clock that was set back: what is older by its date may be newer.
    for path in (*newest.parent.glob("*"), tmp_path):
        os.utime(path, (0, 0), follow_symlinks=False)
    found, damaged = CheckpointStore(tmp_path, 3, find_missing).find_newest()
    assert found is not None
    assert found.folder == tmp_path / name_step(1)
    if said.endswith("bytes instead of 48"):  # a folder has as many bytes as its file system likes
        assert damaged[newest].endswith(" bytes instead of 48")
    else:
        assert damaged == {newest: said}
    # Going on from there, nothing that is whole is removed.
    again = CheckpointStore(tmp_path, 1, find_missing)
    again.save(*trained, {"step": 5, "best_step": 1})
    assert again.find_step(1) == found
    assert again.find_step(5) is not None


def test_a_damaged_one_pushes_no_whole_one_out(tmp_path: Path, trained: Any) -> None:
    store = CheckpointStore(tmp_path, 2)
    for step in (1, 2):
        store.save(*trained, {"step": step})
    flip_bit(tmp_path / name_step(2))
    fresh = CheckpointStore(tmp_path, 2)
    fresh.save(*trained, {"step": 3})
    assert list_names(fresh) == [name_step(1), name_step(3)]


def test_where_the_best_one_is_damaged_the_best_before_it_is_kept(tmp_path: Path, trained: Any) -> None:
    store = CheckpointStore(tmp_path, 1)
    store.save(*trained, {"step": 1, "best_step": 1})
    store.keep = 2
    store.save(*trained, {"step": 2, "best_step": 2})
    flip_bit(tmp_path / name_step(2))
    fresh = CheckpointStore(tmp_path, 1)
    fresh.save(*trained, {"step": 3, "best_step": 2})
    assert list_names(fresh) == [name_step(1), name_step(3)]


def test_a_best_evaluation_that_could_not_be_saved_costs_the_best_before_it_nothing(
    tmp_path: Path, trained: Any
) -> None:
    store = CheckpointStore(tmp_path, 1)
    store.save(*trained, {"step": 1, "best_step": 1})
    with full_disk():
        assert store.try_save(*trained, {"step": 2, "best_step": 2}) is None
    for step in (3, 4):
        assert store.try_save(*trained, {"step": step, "best_step": 2}) == tmp_path / name_step(step)
    assert list_names(store) == [name_step(1), name_step(4)]


def test_older_ones_stay_until_the_new_one_was_read_back(
    tmp_path: Path, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path, 1)
    store.save(*trained, {"step": 1})
    sync = checkpoints.sync_folder

    def lose_the_end(folder: Path) -> None:
        sync(folder)
        if folder == tmp_path:
            os.truncate(tmp_path / name_step(2) / "weights.safetensors", 12)

    monkeypatch.setattr(checkpoints, "sync_folder", lose_the_end)
    with pytest.raises(RunFolderError) as caught:
        store.save(*trained, {"step": 2})
    assert caught.value.problems[0].found == (
        "it was written, but reads back otherwise: weights.safetensors has 12 bytes instead of 204"
    )
    assert store.find_step(1) is not None


def test_what_is_not_a_checkpoint_is_left_alone(tmp_path: Path, trained: Any) -> None:
    store = CheckpointStore(tmp_path, 1)
    for name in ("step-backup", "step-00000001-copy", "step-99", "mine"):
        (tmp_path / name).mkdir()
    for step in (1, 2, 3):
        store.save(*trained, {"step": step})
    assert list_names(store) == ["mine", "step-00000001-copy", name_step(3), "step-99", "step-backup"]
    found, damaged = store.find_newest()
    assert (found and found.state["step"], damaged) == (3, {})


def test_a_folder_that_is_gone_ends_the_run_and_is_not_made_anew(tmp_path: Path, trained: Any) -> None:
    store = CheckpointStore(tmp_path / "run" / "checkpoints", 2)
    with pytest.raises(RunFolderError, match="No such file or directory"):
        store.try_save(*trained, {"step": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_once_and_the_run_goes_on(tmp_path: Path, trained: Any) -> None:
    said: list[str] = []
    store = CheckpointStore(tmp_path / "checkpoints", 2, say=said.append)
    with full_disk():
        assert store.try_save(*trained, {"step": 1}) is None
    assert store.try_save(*trained, {"step": 2}) is not None
    with full_disk():
        assert store.try_save(*trained, {"step": 3}) is None
        assert store.try_save(*trained, {"step": 4}) is None
    assert store.is_failing
    assert store.try_save(*trained, {"step": 5}) is not None
    assert not store.is_failing
    cause = said[0].partition("; the cause: ")[2]
    assert "File too large" in cause
    assert said == [
        "the checkpoint of step 1 can't be written, so the run goes on and tries again at the next one; there is no"
        f" whole one yet; the cause: {cause}",
        "checkpoints can be written again: step 2 is saved",
        "the checkpoint of step 3 can't be written, so the run goes on and tries again at the next one; the newest"
        f" whole one is of step 2; the cause: {cause}",
        "checkpoints can be written again: step 5 is saved",
    ]
    assert list_names(store) == [name_step(2), name_step(5)]


def test_a_step_that_is_saved_again_and_reads_back_otherwise_leaves_the_one_of_before(
    tmp_path: Path, trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    store, state = CheckpointStore(tmp_path / "run" / "checkpoints", keep=1), {"step": 5}
    good = store.save(*trained, state)
    before = (good / module.WEIGHTS).read_bytes()
    put_in_place = store.put_in_place

    def spoil(unfinished: Path, target: Path) -> None:
        put_in_place(unfinished, target)
        weights = bytearray((target / module.WEIGHTS).read_bytes())
        weights[-1] ^= 1
        (target / module.WEIGHTS).write_bytes(weights)

    monkeypatch.setattr(store, "put_in_place", spoil)
    with pytest.raises(RunFolderError, match="reads back otherwise"):
        store.save(*trained, state)
    assert list_names(store) == ["step-00000005"]
    assert (good / module.WEIGHTS).read_bytes() == before
    assert module.find_damage(good, 5) == ""
    monkeypatch.undo()
    store.save(*trained, state)
    assert list_names(store) == ["step-00000005"]


@pytest.mark.parametrize(
    ("manifest", "said"),
    [({"format": "\ud800", "files": {}}, "'\\ud800'"), ({"format": 10**4000, "files": {}}, "0..., of another"),
     ({"format": 1, "files": {"\udcff": 1}}, "")],
)  # fmt: skip
def test_what_is_said_of_a_damaged_manifest_can_be_written(
    manifest: dict[str, Any], said: str, store: CheckpointStore, trained: Any
) -> None:
    folder = store.save(*trained, {"step": 3})
    (folder / module.MANIFEST).write_text(json.dumps(manifest))
    found = module.find_damage(folder, 3)
    assert said in found
    assert 0 < len(found.encode()) < 300


def test_a_file_whose_name_no_text_can_hold_is_spelled_out(store: CheckpointStore, trained: Any) -> None:
    folder = store.save(*trained, {"step": 3})
    with open(os.fsencode(folder) + b"/odd\xff", "wb"):
        pass
    assert module.find_damage(folder, 3) == "'odd\\udcff' is not one of its files"
