"""From a GGUF file to an ordinary folder of a model that can be trained, made once for each content.

transformers reads GGUF, but refuses to train or save what it read, so the numbers are de-quantised into a fresh
model (`gguf_weights`), and the tokenizer is built from the file's lists (`gguf_tokenizer`). The file is read in a
folder of its own, so that transformers takes nothing from files that lie beside it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from afina.errors import MissingExtraError, ModelError, describe_cause
from afina.models.fingerprint import hash_model
from afina.models.gguf_check import GgufFacts, check_gguf
from afina.models.gguf_config import load_config
from afina.models.gguf_header import MAGIC, read_header
from afina.models.gguf_tokenizer import build_tokenizer, check_reloaded
from afina.models.gguf_vocabulary import read_vocabulary
from afina.models.load import quiet_transformers

__all__ = ["GgufFacts", "check_gguf", "convert_gguf", "is_gguf", "outline_gguf"]

SUFFIX = ".gguf"
# Raised when the conversion changes, so that what an older one made is made again.
FORMAT = 2
UNFINISHED = ".unfinished-"
FINGERPRINT = "fingerprint.txt"
"""Of the folder as it was written."""
FLOAT32_BYTES = 4


def is_gguf(path: Path) -> bool:
    """Whether the path is named like a GGUF file, or is a file that begins like one."""
    if path.suffix.lower() == SUFFIX:
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def convert_gguf(path: Path, cache: Path) -> Path:
    """Folder in Hugging Face layout that holds the file's model, made now unless the cache has it.

    It appears whole or not at all: it is made under another name, loaded for a proof, and renamed.

    Args:
        path: of the GGUF file.
        cache: folder of what is kept between runs; the model's folder is found again there by the file's content.

    Raises:
        MissingExtraError: the package `gguf`, which de-quantises, is not installed.
        ModelError: as `check_gguf`; the tokenizer's ids don't come out; no space; the conversion or its proof failed.
    """
    facts = check_gguf(path)
    target = _locate(path, cache)
    if is_whole(target):
        return target
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError("gguf", "gguf", "reading a .gguf file")
    from afina.data.cache import remove_stale

    try:
        if target.is_dir():  # damaged since it was made
            shutil.rmtree(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(target.parent.glob(f"{UNFINISHED}*"))
        _check_space(facts, target.parent)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=UNFINISHED) as unfinished:
            _write_model(path, Path(unfinished))
            _rename(Path(unfinished) / "model", target)
    except OSError as error:
        raise ModelError(
            f"{path} can't be converted into the folder {target}",
            found=describe_cause(error, "transformers"),
            remedy="AFINA_CACHE=FOLDER where there is room, and where you may write",
        ) from error
    return target


def outline_gguf(path: Path, cache: Path, folder: Path) -> Path:
    """Folder of the file's model without its numbers: config, tokenizer, and a file of weights that is a hole.

    Enough to count what the model takes, in a second or two. A conversion that the cache has is given instead.

    Args:
        path: of the GGUF file.
        cache: as for `convert_gguf`.
        folder: a new one.

    Raises:
        MissingExtraError: the package `gguf`, with which transformers reads the file's settings, is not installed.
        ModelError: as `check_gguf`.
    """
    facts = check_gguf(path)
    target = _locate(path, cache)
    if is_whole(target):
        return target
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError("gguf", "gguf", "reading a .gguf file")
    from afina.models.empty import write_hole
    from afina.models.gguf_weights import make_empty

    header = read_header(facts.path)
    vocabulary = read_vocabulary(header)
    alone = _set_apart(path, folder / "source")
    with quiet_transformers():
        build_tokenizer(header, vocabulary).save_pretrained(folder)
        config = load_config(header, vocabulary, alone)
        config.architectures = [type(model := make_empty(config)).__name__]
        config.save_pretrained(folder)
    shutil.rmtree(alone.parent)  # its link to the file leads out of the folder
    write_hole(model, folder)
    return folder


def is_whole(folder: Path) -> bool:
    """Whether a conversion is there, and is what was written: bits flip in a cache, and files get lost."""
    try:
        return (folder / FINGERPRINT).read_text(encoding="ascii") == hash_model(folder)
    except (OSError, ValueError):
        return False


def _locate(path: Path, cache: Path) -> Path:
    """The folder of the file's conversion."""
    return cache / "gguf" / f"{_hash_file(path)[:32]}-{FORMAT}"


def _set_apart(path: Path, folder: Path) -> Path:
    """The file under a plain name in a new folder without others."""
    alone = folder / "model.gguf"
    folder.mkdir(parents=True)
    try:
        alone.symlink_to(path.resolve())
    except OSError:  # Windows asks for a privilege
        shutil.copyfile(path, alone)
    return alone


def _check_space(facts: GgufFacts, folder: Path) -> None:
    needed, free = FLOAT32_BYTES * facts.parameters, shutil.disk_usage(folder).free
    if needed > free:
        raise ModelError(
            f"there is no room to convert {facts.path}",
            found=f"{free / 2**30:.1f} GiB free in {folder}",
            expected=f"{needed / 2**30:.1f} GiB, four bytes for each of {facts.parameters:,} parameters",
            remedy="AFINA_CACHE=FOLDER on a larger disk",
        )


def _write_model(path: Path, unfinished: Path) -> None:
    """Make the folder `model` inside the unfinished one."""
    from afina.models.gguf_weights import convert_weights

    header = read_header(path)
    vocabulary = read_vocabulary(header)
    alone = _set_apart(path, unfinished / "source")
    folder = unfinished / "model"
    tokenizer = build_tokenizer(header, vocabulary)
    with quiet_transformers():
        tokenizer.save_pretrained(folder)
        try:
            convert_weights(header, load_config(header, vocabulary, alone), vocabulary.ends, alone, folder)
            check_reloaded(tokenizer, folder, path)
            (folder / FINGERPRINT).write_text(hash_model(folder), encoding="ascii")
        except ModelError:
            raise
        except Exception as error:  # any error of transformers or gguf means that the file can't be converted
            if isinstance(error, OSError) and error.errno is not None:
                raise  # of the disk; transformers raises OSError without a number for many other things
            raise ModelError(
                f"{path} can't be converted",
                found=describe_cause(error, "transformers"),
                remedy="--model with the original model, of which the .gguf file was made",
            ) from error


def _rename(folder: Path, target: Path) -> None:
    """Put the folder in its place, unless another process was faster."""
    try:
        os.replace(folder, target)
    except OSError:
        if not target.is_dir():
            raise


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
