"""Which files of a folder hold which part, by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from afina.errors import DataError
from afina.wording import count

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt", ".conll", ".bio", ".iob", ".iob2")
TEXTS = (".txt", ".md")
"""Of files that are a row each, in a folder that holds nothing but such."""
JOINED = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
"""Of files that may be shards of one table."""
SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")
"""What the Hub puts after the name of a part."""
NUMBER = re.compile(r"[-_. ]?(\d+)$")
"""What other programs put there."""
PART_NAMES = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "dev": "validation",
    "val": "validation",
    "eval": "validation",
    "test": "test",
}
NAMES_SHOWN = 10
ABOUT = {"readme", "license", "licence", "dataset_info", "dataset_infos", "state", "info", "notes", "requirements"}
"""Files about the rows of a folder."""


def name_part(path: Path) -> str | None:
    """The part that a file holds, or a shard of it, by its name; None for any other."""
    stem = SHARD.sub("", path.stem).lower()
    return PART_NAMES.get(stem) if path.suffix.lower() in SUFFIXES else None


def list_files(folder: Path) -> list[Path]:
    """The files of a folder but for hidden ones, sorted by name."""
    return sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))


def find_texts(folder: Path) -> list[Path]:
    """The files of a folder of plain texts, sorted; none where it holds a part's file, files of another kind, or only a
    README."""
    files = list_files(folder)
    if not all(path.suffix.lower() in TEXTS and not name_part(path) for path in files):
        return []
    texts = [path for path in files if path.name.lower() != "readme.md"]
    # Among other documents a README is one; beside plain texts it is about them.
    has_documents = any(path.suffix.lower() == ".md" for path in texts)
    return files if has_documents else texts


def find_part_files(folder: Path, *, trains: bool = True) -> dict[str, list[Path]]:
    """Files of a folder by part, several where they are its shards; `all` where they are numbered and name no part.

    Those of its folder `data` where it has none, as data sets of the Hub have.

    Args:
        trains: whether a training file is wanted; otherwise any part will do.

    Raises:
        DataError: without a training file, and where files for one part aren't all of its shards.
    """
    files = list_files(folder)
    by_part = group_by_part(files) or find_numbered(files)
    if not by_part and (folder / "data").is_dir():
        folder = folder / "data"
        files = list_files(folder)
        by_part = group_by_part(files) or find_numbered(files)
    for part, found in by_part.items():
        check_whole(folder, part, found)
    if not (by_part.keys() & {"train", "all"} if trains else by_part):
        raise make_folder_error(folder, files)
    return by_part


def describe_unread(found: Mapping[str, Sequence[Path]]) -> str:
    """A word on files beside those of the parts that could hold rows, too; an empty string if there are none."""
    read = {path for files in found.values() for path in files}
    others = [
        path.name for path in list_files(next(iter(read)).parent)
        if path not in read and path.suffix.lower() in SUFFIXES and path.stem.lower() not in ABOUT
    ]  # fmt: skip
    if not others:
        return ""
    more = ", ..." if len(others) > NAMES_SHOWN else ""
    return f"not read, since their names are those of no part: {', '.join(others[:NAMES_SHOWN])}{more}"


def group_by_part(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files that name a part, by it: alone, as a shard, or with a number; those with a number in its order."""
    by_part: dict[str, list[Path]] = {}
    for path in sorted(files, key=read_number):
        part = name_part(path)
        if part is None and path.suffix.lower() in JOINED:
            part = PART_NAMES.get(NUMBER.sub("", path.stem).lower())
        if part:
            by_part.setdefault(part, []).append(path)
    return by_part


def find_numbered(files: Sequence[Path]) -> dict[str, list[Path]]:
    """Files that are told apart by a number alone (`rows-0.jsonl`, `rows-1.jsonl`), as one table; none where others of
    their kind lie beside them."""
    tables = sorted((path for path in files if path.suffix.lower() in JOINED), key=read_number)
    return {"all": tables} if len(tables) > 1 and is_one_family(tables, NUMBER) else {}


def read_number(path: Path) -> int:
    """The number at the end of a name, 0 where there is none."""
    found = NUMBER.search(path.stem)
    return int(found[1]) if found and not SHARD.search(path.stem) else 0


def check_whole(folder: Path, part: str, files: Sequence[Path]) -> None:
    """Refuse several files for a part that aren't its shards, and shards of which some are missing."""
    shards = [SHARD.search(path.stem) for path in files]
    names = ", ".join(path.name for path in files[:NAMES_SHOWN]) + (", ..." if len(files) > NAMES_SHOWN else "")
    if any(shards):
        numbers = [(int(match[1]), int(match[2])) for match in shards if match]
        if numbers == [(place, len(files)) for place in range(len(files))] and is_one_family(files, SHARD):
            return
        raise DataError(
            f"{folder} holds {count(len(files), 'file')} for the part {part!r}, and not all of its shards, or others",
            found=names, expected="one file a part, or all its shards (train-00000-of-00002.jsonl, ...)",
            remedy="put the missing ones there and take others away, or name the file itself",
        )  # fmt: skip
    if len(files) > 1 and not is_one_family(files, NUMBER):
        raise DataError(
            f"{folder} holds {len(files)} files for the part {part!r}", found=names,
            expected="one file a part, or its shards (train-00000-of-00002.jsonl, ...)",
            remedy="leave one of them there, or name the file itself",
        )  # fmt: skip


def is_one_family(files: Sequence[Path], ending: re.Pattern[str]) -> bool:
    """Whether files are of one kind and have one name, but for an ending that each has, and may be joined."""
    suffixes = {path.suffix.lower() for path in files}
    stems = {ending.sub("", path.stem).lower() for path in files}
    have_endings = all(ending.search(path.stem) for path in files)
    return have_endings and len(stems) == 1 and len(suffixes) == 1 and (len(files) == 1 or suffixes <= {*JOINED})


def make_folder_error(folder: Path, files: Sequence[Path]) -> DataError:
    """The error for a folder that has no training part, with what is in its way."""
    listed = ", ".join(path.name for path in files[:NAMES_SHOWN]) + (", ..." if len(files) > NAMES_SHOWN else "")
    inside = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    folders = f"folders: {', '.join(inside[:NAMES_SHOWN])}" if inside else ""
    texts = [path for path in files if path.suffix.lower() in TEXTS]
    others = [path.name for path in files if path.suffix.lower() not in TEXTS]
    remedy = "name the file itself, or rename it to train.*"
    if texts and others and len(texts) > len(others):
        remedy = f"take {', '.join(others[:NAMES_SHOWN])} away, and each text is a row; or rename a file to train.*"
    elif inside and not files:
        remedy = f"name one of the folders, such as {folder / inside[0]}; texts have to lie in one folder"
    return DataError(
        f"{folder} holds no training part",
        found="; ".join(filter(None, (listed, folders))) or "no files",
        expected=f"a file train.* ({', '.join(SUFFIXES)}), and maybe validation.* and test.*",
        remedy=remedy,
    )
