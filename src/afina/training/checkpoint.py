"""Checkpoints that are whole or not there: a temporary folder, fsync, the manifest last, a rename.

    step-00000120/
        weights.safetensors     what is trainable, fp32
        optimizer.safetensors   AdamW's two moments and step of each of these
        state.json              where the run stands
        manifest.json           size and sha256 of the three; without one that verifies a folder doesn't count

A kill at any instant leaves the older ones untouched. Resuming takes the newest one that verifies, and says which
ones it had to pass over.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from afina.errors import RunFolderError, describe_cause
from afina.techniques.base import iterate_trainable

FORMAT = 1
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint."""

    folder: Path
    state: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        folder: where the `step-...` folders are.
        keep: how many of the newest to keep; the best one is kept beside them.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder
        self.keep = keep

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> Path:
        """Write the checkpoint of `state["step"]`; then remove old ones, the one of `state["best_step"]` excepted.

        Raises:
            RunFolderError: if the disk is full or can't be written; older checkpoints are untouched.
        """
        from safetensors import SafetensorError

        target = self.folder / name_step(state["step"])
        replaced = self.folder / f"{target.name}.old"
        unfinished = self.folder / f".{target.name}.tmp"
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            write_tensors(unfinished / "weights.safetensors", dict(iterate_trainable(model)))
            write_tensors(unfinished / "optimizer.safetensors", collect_moments(model, optimizer))
            write_synced(unfinished / "state.json", json.dumps(state, indent=1).encode())
            write_synced(unfinished / "manifest.json", json.dumps(make_manifest(unfinished)).encode())
            sync_folder(unfinished)
            if target.exists():  # the same step, saved before: it counts until the new one is there
                shutil.rmtree(replaced, ignore_errors=True)
                os.rename(target, replaced)
            os.rename(unfinished, target)
            sync_folder(self.folder)
            shutil.rmtree(replaced, ignore_errors=True)
        except (OSError, SafetensorError) as error:  # the latter is what safetensors makes of a full disk
            shutil.rmtree(unfinished, ignore_errors=True)
            raise RunFolderError(
                f"the checkpoint {target} can't be written",
                found=describe_cause(error, "safetensors"),
                remedy=f"free some space, then afina resume {self.folder.parent}",
            ) from error
        self.prune(state["step"], state.get("best_step"))
        return target

    def prune(self, step: int, best_step: int | None) -> None:
        """Remove all but the newest `keep` checkpoints up to `step` and the best one, and what a kill left unfinished.

        Later ones are damaged: the run was resumed before them.
        """
        for unfinished in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(unfinished, ignore_errors=True)
        folders = self.list_folders()
        newest = [folder for folder in folders if folder.stem <= name_step(step)][-self.keep :]
        for folder in folders:
            if folder not in newest and folder.stem != name_step(best_step or 0):
                shutil.rmtree(folder, ignore_errors=True)

    def list_folders(self) -> list[Path]:
        """The checkpoint folders, oldest first, unverified."""
        return sorted(self.folder.glob("step-*"), key=lambda folder: (folder.stem, folder.suffix == ""))

    def find_newest(self) -> tuple[Checkpoint | None, list[Path]]:
        """The newest checkpoint that verifies, and the damaged ones that are newer."""
        damaged: list[Path] = []
        for folder in reversed(self.list_folders()):
            if is_whole(folder):
                return Checkpoint(folder, json.loads((folder / "state.json").read_text())), damaged
            damaged.append(folder)
        return None, damaged

    def find_step(self, step: int) -> Checkpoint | None:
        """The checkpoint of one step, if it is there and verifies."""
        for folder in self.list_folders():
            if folder.stem == name_step(step) and is_whole(folder):
                return Checkpoint(folder, json.loads((folder / "state.json").read_text()))
        return None


def name_step(step: int) -> str:
    """The name of a step's folder: names and steps have the same order."""
    return f"step-{step:08d}"


def restore_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Put the checkpoint's weights into the model's trainable parameters, of which none may be missing."""
    from safetensors.torch import load_file

    stored = load_file(checkpoint.folder / "weights.safetensors")
    wanted = dict(iterate_trainable(model))
    if stored.keys() != wanted.keys():
        raise RunFolderError(
            f"the checkpoint {checkpoint.folder} is of another model",
            found=f"{len(stored)} tensors",
            expected=f"{len(wanted)} tensors of the same names",
        )
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(stored[name])


def restore_moments(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the checkpoint's moments into the optimizer."""
    from safetensors.torch import load_file

    stored = load_file(checkpoint.folder / "optimizer.safetensors")
    for name, parameter in iterate_trainable(model):
        if f"{name}.step" in stored:
            moments = {moment: stored[f"{name}.{moment}"] for moment in MOMENTS}
            optimizer.state[parameter] = {
                k: v.to(parameter.device) if k != "step" or parameter.is_cuda else v for k, v in moments.items()
            }


def collect_moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """AdamW's state as named tensors."""
    state = optimizer.state
    return {
        f"{name}.{moment}": state[parameter][moment]
        for name, parameter in iterate_trainable(model) if parameter in state
        for moment in MOMENTS
    }  # fmt: skip


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """A synced safetensors file."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def write_synced(path: Path, content: bytes) -> None:
    """Write and fsync."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make the names in the folder durable (systems that can't open a folder have no such call)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_manifest(folder: Path) -> dict[str, Any]:
    """Size and sha256 of every file in the folder."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hash_file(path)}
        for path in sorted(folder.iterdir()) if path.name != "manifest.json"
    }  # fmt: skip
    return {"format": FORMAT, "files": files}


def is_whole(folder: Path) -> bool:
    """Whether the folder's manifest is there and every file is as it says."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return bool(manifest == make_manifest(folder))
    except (OSError, ValueError):
        return False


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
