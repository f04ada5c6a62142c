"""The files of a checkpoint: written so that they are on the disk, listed in a manifest, and looked at before use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from afina.durable import sync_file
from afina.errors import RunFolderError, describe_cause

FORMAT = 1
MANIFEST, STATE = "manifest.json", "state.json"
WEIGHTS, MOMENTS = "weights.safetensors", "optimizer.safetensors"
FILES = frozenset({WEIGHTS, MOMENTS, STATE})
LONGEST_FOUND = 200

FindFault = Callable[[Mapping[str, Any]], str]
"""Says in a few words what is wrong with the content of state.json; an empty string if nothing is."""


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """A synced safetensors file."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    sync_file(path)


def make_manifest(folder: Path) -> dict[str, Any]:
    """Size and sha256 of every file in the folder."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": hash_file(path)}
        for path in sorted(folder.iterdir()) if path.name != MANIFEST
    }  # fmt: skip
    return {"format": FORMAT, "files": files}


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_state(folder: Path) -> dict[str, Any]:
    """What state.json holds."""
    state: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
    return state


def find_nothing(state: Mapping[str, Any]) -> str:
    """What is wrong with a state of which nothing is known."""
    return ""


def find_damage(folder: Path, step: int, find_fault: FindFault = find_nothing) -> str:
    """What is wrong with the checkpoint of `step` in `folder`, in a few words; an empty string if it is whole.

    Dates don't matter, so a clock that was set back doesn't either.

    Args:
        find_fault: what is wrong with the content of state.json; see `FindFault`.
    """
    if folder.is_symlink() or not folder.is_dir():
        return f"it is a {'link' if folder.is_symlink() else 'file'}, not a folder"
    try:
        return find_damaged_file(folder) or find_wrong_state(read_state(folder), step, find_fault)
    except (ValueError, RecursionError):
        return f"{STATE} is not JSON"
    except OSError as error:
        return f"{Path(error.filename or folder).name} can't be read ({describe_cause(error)})"


def find_damaged_file(folder: Path) -> str:
    """What is wrong with the manifest, or with the first file that isn't as the manifest says."""
    listed = read_manifest(folder)
    if isinstance(listed, str):
        return listed
    there = {path.name for path in folder.iterdir()} - {MANIFEST}
    for name in sorted(FILES | there):
        path, entry = folder / name, listed.get(name)
        if name not in there:
            return f"{name} is missing"
        if name not in FILES or not isinstance(entry, dict):
            return f"{MANIFEST} doesn't list {name}" if name in FILES else f"{show(name)} is not one of its files"
        found, written = path.stat().st_size, entry.get("bytes")
        if found != written:
            return (
                f"{name} has {found:,} bytes instead of {format(written, ',') if is_count(written) else show(written)}"
            )
        if hash_file(path) != entry.get("sha256"):
            return f"{name} has other content than was written"
    return ""


def is_count(value: Any) -> bool:
    """Whether a value of a manifest is a whole number, as a size is."""
    return isinstance(value, int) and not isinstance(value, bool)


def read_manifest(folder: Path) -> dict[str, Any] | str:
    """The files that a manifest lists, or what is wrong with it."""
    path = folder / MANIFEST
    if not path.exists():
        return f"{MANIFEST} is missing"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return f"{MANIFEST} is not JSON"
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        return f"{MANIFEST} lists no files"
    if manifest.get("format") != FORMAT:
        return f"it has the format {show(manifest.get('format'))}, of another version of afina"
    return dict(manifest["files"])


def find_wrong_state(state: Any, step: int, find_fault: FindFault) -> str:
    """What is wrong with the content of state.json."""
    if not isinstance(state, dict):
        return f"{STATE} holds no object"
    fault = find_fault(state)
    if fault:
        return f"{STATE} has {fault}"
    return "" if state.get("step") == step else f"{STATE} is of step {show(state.get('step'))}"


def show(value: Any) -> str:
    """A value of a file, or a name, as it can be written anywhere; not all of a long one."""
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= LONGEST_FOUND else f"{text[:LONGEST_FOUND]}..."


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, fp32 as they were written.

    Raises:
        RunFolderError: if it holds something else; its hash can be right all the same where somebody made it.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise refuse(path.parent, f"{path.name} can't be read: {describe_cause(error, 'safetensors')}") from None
    odd = next((name for name, tensor in tensors.items() if tensor.dtype != torch.float32), None)
    if odd is not None:
        raise refuse(path.parent, f"{odd} in {path.name} is {tensors[odd].dtype}")
    return tensors


def refuse(folder: Path, found: str) -> RunFolderError:
    """The error for a checkpoint that is whole, but not one of this run."""
    return RunFolderError(
        f"the checkpoint {folder} is of another model", found=found[:LONGEST_FOUND],
        expected="tensors of fp32, of the names and shapes of the weights that are trained",
        remedy=f"remove {folder}; the run then goes on from an older one, or begins again",
    )  # fmt: skip
