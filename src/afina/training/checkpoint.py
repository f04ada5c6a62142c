"""Checkpoints that are whole or not there: a temporary folder, fsync, the manifest last, a rename.

    step-00000120/
        weights.safetensors     what is trainable, fp32
        optimizer.safetensors   AdamW's two moments and step of each of these
        state.json              where the run stands
        manifest.json           size and sha256 of the three; without one that verifies a folder doesn't count

A kill at any instant leaves the older ones untouched. Resuming takes the newest one that verifies, and says which
ones it had to pass over, and why. Older ones are removed once a new one was read back and found whole; the best one
never is.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from afina.durable import sync_folder, write_synced
from afina.errors import RunFolderError, describe_cause
from afina.techniques.base import iterate_trainable
from afina.training import checkpoint_files as files
from afina.training.checkpoint_files import find_damage, read_state

OF_ADAMW = ("exp_avg", "exp_avg_sq", "step")
# `.old` is the same step, saved before, while it is being replaced.
NAME = re.compile(r"step-(\d{8,})(\.old)?")


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint."""

    folder: Path
    state: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run. Whatever else lies in their folder is left alone.

    Args:
        folder: where the `step-...` folders are.
        keep: how many of the newest to keep; the best one is kept beside them.
        find_fault: what is wrong with the state of a checkpoint, which is of no use then.
        say: takes what the person who waits should know.
    """

    def __init__(
        self, folder: Path, keep: int, find_fault: files.FindFault = files.find_nothing,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:  # fmt: skip
        self.folder, self.keep, self.find_fault, self.say = folder, keep, find_fault, say
        self.is_failing = False
        """Whether the latest checkpoint couldn't be written."""
        self.verified: set[Path] = set()
        """Those that were found whole by this process: enough for not hashing them again at each save."""

    def try_save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> Path | None:
        """`save`; where that is impossible it is said, once until it is possible again, and the run may go on.

        Raises:
            RunFolderError: if the folder of the run is no longer there.
        """
        try:
            saved = self.save(model, optimizer, state)
        except RunFolderError as error:
            if not self.folder.parent.is_dir():
                raise
            if not self.is_failing:
                self.say(
                    f"the checkpoint of step {state['step']} can't be written, so the run goes on and tries again at"
                    f" the next one; {self.describe_newest()}; the cause: {error.problems[0].found}"
                )
            self.is_failing = True
            return None
        if self.is_failing:
            self.say(f"checkpoints can be written again: step {state['step']} is saved")
        self.is_failing = False
        return saved

    def save(self, model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> Path:
        """Write the checkpoint of `state["step"]`, read it back, then remove old ones.

        Raises:
            RunFolderError: if the disk is full or can't be written; older checkpoints are untouched.
        """
        from safetensors import SafetensorError

        target = self.folder / name_step(state["step"])
        unfinished = self.folder / f".{target.name}.tmp"
        try:
            shutil.rmtree(unfinished, ignore_errors=True)
            if not self.folder.is_dir():
                self.folder.mkdir(0o700)  # as all of a run, its owner's alone
            unfinished.mkdir()
            files.write_tensors(unfinished / files.WEIGHTS, dict(iterate_trainable(model)))
            files.write_tensors(unfinished / files.MOMENTS, collect_moments(model, optimizer))
            write_synced(unfinished / files.STATE, json.dumps(state, indent=1).encode())
            write_synced(unfinished / files.MANIFEST, json.dumps(files.make_manifest(unfinished)).encode())
            sync_folder(unfinished)
            self.put_in_place(unfinished, target)
        except (OSError, SafetensorError) as error:  # the latter is what safetensors makes of a full disk
            shutil.rmtree(unfinished, ignore_errors=True)
            raise refuse(target, describe_cause(error, "safetensors")) from error
        damage, replaced = find_damage(target, state["step"], self.find_fault), name_replaced(target)
        if damage:
            if replaced.exists():
                shutil.rmtree(target)
                os.rename(replaced, target)
            raise refuse(target, f"it was written, but reads back otherwise: {damage}")
        shutil.rmtree(replaced, ignore_errors=True)
        self.verified.add(target)
        self.prune(state["step"])
        return target

    def put_in_place(self, unfinished: Path, target: Path) -> None:
        """Rename. The same step, saved before, stays under another name until the new one was read back."""
        replaced = name_replaced(target)
        if target.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            os.rename(target, replaced)
        os.rename(unfinished, target)
        sync_folder(self.folder)

    def prune(self, step: int) -> None:
        """Remove all but the newest `keep` whole checkpoints up to `step` and the best one, and what a kill left.

        Later ones are damaged: the run was resumed before them. The best one is the latest that was the best when it
        was written: the best evaluation of all may have met a full disk.
        """
        for unfinished in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(unfinished, ignore_errors=True)
        folders = self.list_folders()
        whole = [each for each in folders if read_step(each) <= step and self.is_whole(each)]
        best = [each for each in whole if is_best(each)][-1:]
        for folder in folders:
            if folder not in whole[-self.keep :] and folder not in best and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)
                self.verified.discard(folder)

    def list_folders(self) -> list[Path]:
        """The checkpoint folders, oldest first, unverified."""
        found = [path for path in self.folder.glob("step-*") if NAME.fullmatch(path.name)]
        return sorted(found, key=lambda folder: (read_step(folder), folder.suffix == ""))

    def find_damage(self, folder: Path) -> str:
        """What is wrong with a checkpoint; an empty string if it is whole."""
        return find_damage(folder, read_step(folder), self.find_fault)

    def is_whole(self, folder: Path) -> bool:
        """Whether a checkpoint verifies now, or did before in this process."""
        if folder not in self.verified and not self.find_damage(folder):
            self.verified.add(folder)
        return folder in self.verified

    def find_newest(self) -> tuple[Checkpoint | None, dict[Path, str]]:
        """The newest checkpoint that verifies, and the damaged ones that are newer, each with what is wrong."""
        damaged: dict[Path, str] = {}
        for folder in reversed(self.list_folders()):
            damage = self.find_damage(folder)
            if not damage:
                return Checkpoint(folder, read_state(folder)), damaged
            damaged[folder] = damage
        return None, damaged

    def describe_newest(self) -> str:
        """Where a resumed run would go on."""
        found, _ = self.find_newest()
        return f"the newest whole one is of step {found.state['step']}" if found else "there is no whole one yet"

    def find_step(self, step: int) -> Checkpoint | None:
        """The checkpoint of one step, if it is there and verifies."""
        for folder in self.list_folders():
            if read_step(folder) == step and not self.find_damage(folder):
                return Checkpoint(folder, read_state(folder))
        return None

    def find_whole(self) -> list[Checkpoint]:
        """All that verify, oldest first."""
        return [Checkpoint(each, read_state(each)) for each in self.list_folders() if not self.find_damage(each)]


def refuse(target: Path, cause: str) -> RunFolderError:
    """The error for a checkpoint that isn't on the disk as it should be."""
    return RunFolderError(
        f"the checkpoint {target} can't be written", found=cause,
        remedy=f"free some space, then afina resume {shlex.quote(str(target.parent.parent))}",
    )  # fmt: skip


def read_step(folder: Path) -> int:
    """The step in a folder's name."""
    return int(folder.name.removeprefix("step-").removesuffix(".old"))


def is_best(folder: Path) -> bool:
    """Whether a checkpoint that was whole was the best one when it was written."""
    try:
        return bool(read_state(folder).get("best_step") == read_step(folder))
    except (OSError, ValueError):
        return False


def name_replaced(target: Path) -> Path:
    """Where a step's folder of before stays until that of now was read back."""
    return target.with_name(f"{target.name}.old")


def name_step(step: int) -> str:
    """The name of a step's folder: names and steps have the same order."""
    return f"step-{step:08d}"


def restore_weights(checkpoint: Checkpoint, model: nn.Module) -> None:
    """Put the checkpoint's weights into the model's trainable parameters, of which none may be missing."""
    stored = files.read_tensors(checkpoint.folder / files.WEIGHTS)
    wanted = dict(iterate_trainable(model))
    shapes = {name: tuple(tensor.shape) for name, tensor in stored.items()}
    if shapes != {name: tuple(parameter.shape) for name, parameter in wanted.items()}:
        raise files.refuse(checkpoint.folder, f"{len(stored)} tensors instead of {len(wanted)}, or of other shapes")
    with torch.no_grad():
        for name, parameter in wanted.items():
            parameter.copy_(stored[name])


def restore_moments(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put the checkpoint's moments into the optimizer."""
    stored = files.read_tensors(checkpoint.folder / files.MOMENTS)
    for name, parameter in iterate_trainable(model):
        if f"{name}.step" not in stored:  # no gradient had reached it: a layer that the objective doesn't read
            continue
        names = [f"{name}.{moment}" for moment in OF_ADAMW]
        shapes = [stored[each].shape if each in stored else None for each in names]
        if shapes != [parameter.shape, parameter.shape, torch.Size()]:
            raise files.refuse(checkpoint.folder, f"moments of {name} that are missing or of another shape")
        moments = dict(zip(OF_ADAMW, map(stored.__getitem__, names), strict=True))
        optimizer.state[parameter] = {
            k: v.to(parameter.device) if k != "step" or parameter.is_cuda else v for k, v in moments.items()
        }


def collect_moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """AdamW's state as named tensors."""
    state = optimizer.state
    return {
        f"{name}.{moment}": state[parameter][moment]
        for name, parameter in iterate_trainable(model) if parameter in state
        for moment in OF_ADAMW
    }  # fmt: skip
