"""What a model's folder may not hold, whoever made it: a way to make us run code, a way out of the folder, or sizes
that fill the memory.

Every loader is told not to run code and not to unpickle. That isn't enough: libraries have let a config overrule the
caller (CVE-2026-5241, CVE-2026-86169), made source text of its values (CVE-2026-93348), or imported the Python files
beside it (CVE-2026-68770). So a folder that asks for such things is refused before any library sees it. Decisions:

- A request for code is refused even where nothing would answer it: what it would do then is another library's word.
- Symbolic links may point inside the folder, and in the Hub's cache to the files of the same model.
- Looked at is what loaders look at: the folder, and the folders right in it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from afina.errors import ModelError, Problem
from afina.models.limits import find_absurd_sizes
from afina.models.settings import iterate_settings, show_value

MODEL_TYPE = re.compile(r"[a-z0-9_.-]{1,64}")
CLASS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
PLAIN_NAME = re.compile(r"[A-Za-z0-9_]{1,64}")
# Keys whose value is the name of something to be imported.
CLASS_KEYS = frozenset({
    "architectures", "feature_extractor_type", "image_processor_type", "processor_class", "tokenizer_class",
})  # fmt: skip
# Values of these may name a repository of compiled programs instead of a kernel that transformers has.
KERNEL_KEYS = frozenset({
    "_attn_implementation", "_attn_implementation_internal", "_experts_implementation",
    "_experts_implementation_internal", "attn_implementation", "experts_implementation",
})  # fmt: skip
SETTINGS = (
    "adapter_config.json", "config.json", "config_sentence_transformers.json", "generation_config.json", "modules.json",
    "preprocessor_config.json", "processor_config.json", "sentence_bert_config.json", "tokenizer_config.json",
)  # fmt: skip
SENTENCE_SETTINGS = "config_sentence_transformers.json"
PROGRAMS = (".py", ".pyc", ".pyd", ".pyx", ".so")
SENTENCE_CLASS = re.compile(r"sentence_transformers(\.[a-z_]+)+\.([A-Z]\w*)", re.ASCII)
SENTENCE_CLASSES = frozenset({
    "Asym", "BoW", "CLIPModel", "CNN", "Dense", "Dropout", "LSTM", "LayerNorm", "MLMTransformer", "Normalize",
    "Pooling", "Router", "SparseAutoEncoder", "SparseStaticEmbedding", "SpladePooling", "StaticEmbedding",
    "Transformer", "WeightedLayerPooling", "WordEmbeddings", "WordWeights",
})  # fmt: skip
MAX_SETTINGS_BYTES = 256 * 1024 * 1024
ELSEWHERE = "--model with a model from where you trust it, or a copy without this"


def check_trust(folder: Path) -> list[Problem]:
    """What in the folder leads out of it or asks for code, each with its place; nothing of the folder is run."""
    problems = [*find_links(folder), *find_programs(folder)]
    for path in _list_files(folder):
        if path.name in SETTINGS:
            name = path.relative_to(folder).as_posix()
            problems += [problem for check in CHECKS for problem in check(name, _read(path))]
    return problems


def check_saved_model(folder: Path) -> None:
    """Refuse the model of a run that leads out of its folder or asks for code: the run may come from a stranger.

    Raises:
        ModelError: with all that is wrong with it.
    """
    problems = check_trust(folder)
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        problems += check_adapter("adapter_config.json", _read(adapter))
    weights = "adapter_model.safetensors" if adapter.exists() else "model.safetensors"
    if not (folder / weights).is_file() and not (folder / f"{weights}.index.json").is_file():
        problems.append(
            Problem(
                f"there is no {weights} in it, and pickled weights are not read",
                found=", ".join(sorted(path.name for path in folder.iterdir())[:8]),
                expected=weights,
                remedy="copy the folder of the run again",
            )
        )
    if problems:
        raise ModelError(f"the model in {folder} can't be used", problems=problems)


def is_model_type(value: Any) -> bool:
    """Whether this can be the name of an architecture, whether or not transformers knows it."""
    return _is_name(value, MODEL_TYPE)


def find_links(folder: Path) -> Iterator[Problem]:
    """Symbolic links that lead out of the folder."""
    root = folder.resolve()
    # The Hub's cache keeps files as models--ORG--NAME/blobs/HASH, and a folder of links for each commit.
    roots = [root, root.parent.parent / "blobs"] if root.parent.name == "snapshots" else [root]
    for path in _list_entries(folder):
        if path.is_symlink() and not any(path.resolve().is_relative_to(each) for each in roots):
            yield Problem(
                f"{path.relative_to(folder).as_posix()} is a symbolic link that leads out of the model's folder",
                found=show_value(os.readlink(path)),
                expected="files and folders that lie in it",
                remedy="put what is meant in its place",
            )


def find_programs(folder: Path) -> Iterator[Problem]:
    """Programs in the folder; an `__init__.py` makes it a package and is imported by nobody here."""
    names = [
        path.relative_to(folder).as_posix()
        for path in _list_entries(folder)
        if path.name.endswith(PROGRAMS) and path.name != "__init__.py" and path.parent.name != "__pycache__"
    ]
    if names:
        yield Problem(
            "there are programs in the model's folder, and code from a model's folder is never run",
            found=", ".join(names[:8]),
            expected="weights, settings and a tokenizer only",
            remedy="a copy of the folder without them, if transformers has this architecture itself",
        )


def find_code(file: str, settings: Any) -> Iterator[Problem]:
    """An `auto_map`, anywhere among the settings: it names classes in Python files."""
    for key, value in iterate_settings(settings):
        if key == "auto_map" and value:
            yield Problem(
                f"{file} asks for Python code, and code from a model's folder is never run",
                found=f"auto_map: {show_value(value)}",
                expected="an architecture and a tokenizer that transformers has itself",
                remedy=f"if it has them: a copy of the folder with auto_map removed from {file}",
            )


def find_odd_names(file: str, settings: Any) -> Iterator[Problem]:
    """Names of architectures, classes and kernels that are no names."""
    # MPT's part for attention has an empty one.
    is_top_odd = isinstance(settings, Mapping) and settings.get("model_type") == ""
    for key, value in iterate_settings(settings):
        if file.endswith(SENTENCE_SETTINGS) and _is_name(value, CLASS_NAME):
            continue  # a class of sentence-transformers, which nothing imports
        if key == "model_type" and value is not None and not is_model_type(value) and (value or is_top_odd):
            yield Problem(
                f"{file} has a model_type that is no name",
                found=show_value(value),
                expected="small letters, digits, and the signs _ . -",
                remedy=ELSEWHERE,
            )
        names = value if isinstance(value, list) else [value]
        if key in CLASS_KEYS and not all(name is None or _is_name(name, CLASS_NAME) for name in names):
            yield Problem(
                f"{file} names a class in {key} by what is no name",
                found=show_value(value),
                expected="the name of a class of transformers",
                remedy=ELSEWHERE,
            )
        if key in KERNEL_KEYS and value is not None and not _is_name(value, PLAIN_NAME):
            yield Problem(
                f"{file} asks for compiled programs from elsewhere",
                found=f"{key}: {show_value(value)}",
                expected="the name of a kernel that transformers has, such as sdpa",
                remedy=f"a copy of the folder with {key} removed from {file}",
            )


def find_other_weights(file: str, settings: Any) -> Iterator[Problem]:
    """A config that has other files loaded than those we look at, pickled ones among them."""
    for key, value in iterate_settings(settings):
        if key == "transformers_weights" and value is not None:
            yield Problem(
                f"{file} names another file of weights",
                found=f"transformers_weights: {show_value(value)}",
                expected="model.safetensors, or its index",
                remedy=f"a copy of the folder with transformers_weights removed from {file}",
            )


def find_odd_modules(file: str, settings: Any) -> Iterator[Problem]:
    """Modules of sentence-transformers that aren't its own, or lie outside the folder."""
    if file != "modules.json":
        return
    entries = settings if isinstance(settings, list) else [settings]
    for entry in entries:
        kind, path = (entry.get("type"), entry.get("path")) if isinstance(entry, dict) else (None, None)
        match = SENTENCE_CLASS.fullmatch(kind) if isinstance(kind, str) else None
        if match is None or match[2] not in SENTENCE_CLASSES:
            yield Problem(
                "modules.json names a class that isn't one of sentence-transformers' own",
                found=show_value(kind),
                expected="such as sentence_transformers.models.Pooling",
                remedy=ELSEWHERE,
            )
        if not isinstance(path, str) or not _is_inside(path):
            yield Problem(
                "modules.json names a path outside the model's folder",
                found=show_value(path),
                expected="the name of a folder in it, such as 1_Pooling",
                remedy=ELSEWHERE,
            )


MOST_TARGETS = 1000
UNWRITTEN = (
    "rank_pattern", "alpha_pattern", "exclude_modules", "layers_pattern", "layers_to_transform", "layer_replication",
    "target_parameters", "trainable_token_indices", "alora_invocation_tokens", "use_dora", "use_qalora", "use_bdlora",
    "lora_bias", "ensure_weight_tying",
)  # fmt: skip
ADAPTER_NUMBERS: dict[str, tuple[float, float]] = {"r": (1, 100_000), "lora_alpha": (0, 1e6), "lora_dropout": (0, 1.0)}
"""Least and largest value; a whole number's are whole."""


def check_adapter(file: str, settings: Any) -> Iterator[Problem]:
    """Settings of an adapter beyond what a run of ours writes: some import modules, or read caches by unpickling."""
    settings = settings if isinstance(settings, dict) else {}
    odd = {key: value for key, value in settings.items() if value and key in ("auto_mapping", "megatron_config")}
    odd |= {key: value for key, value in settings.items() if value and key.endswith("_config")}
    if settings.get("peft_type") != "LORA":
        odd["peft_type"] = settings.get("peft_type")
    if not isinstance(settings.get("init_lora_weights", True), bool):
        odd["init_lora_weights"] = settings["init_lora_weights"]
    base = settings.get("base_model_name_or_path")
    if base is not None and not (isinstance(base, str) and base.isprintable()):
        odd["base_model_name_or_path"] = base
    if not _is_list_of_names(settings.get("target_modules")):  # a text would be a pattern, which may take for ever
        odd["target_modules"] = settings.get("target_modules")
    elif len(settings["target_modules"]) > MOST_TARGETS:
        odd["target_modules"] = f"{len(settings['target_modules']):,} names"
    # Patterns for names of layers, layers that are made anew, and ways to train that no run of ours takes.
    odd |= {key: settings[key] for key in UNWRITTEN if settings.get(key)}
    for key, (lowest, highest) in ADAPTER_NUMBERS.items():
        value = settings.get(key, lowest)
        if isinstance(value, bool) or not isinstance(value, int | type(highest)) or not lowest <= value <= highest:
            odd[key] = value
    for key, value in odd.items():
        yield Problem(
            f"{file} holds what no run writes",
            found=f"{key}: {show_value(value)}",
            expected="an adapter of LoRA as afina train saves it",
            remedy="copy the folder of the run again",
        )


CHECKS: tuple[Callable[[str, Any], Iterator[Problem]], ...] = (
    find_code, find_odd_names, find_other_weights, find_odd_modules, find_absurd_sizes,
)  # fmt: skip


def _list_entries(folder: Path) -> list[Path]:
    """What lies in the folder and in the visible folders right in it, sorted; links to folders aren't followed."""
    found = []
    for path in sorted(folder.iterdir()):
        found.append(path)
        if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
            found += sorted(path.iterdir())
    return found


def _list_files(folder: Path) -> list[Path]:
    return [path for path in _list_entries(folder) if path.is_file()]


def _read(path: Path) -> Any:
    """What the JSON holds; None for what is no JSON, which is said where it is needed."""
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _is_name(value: Any, form: re.Pattern[str]) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


def _is_list_of_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) and name.isprintable() for name in value)


def _is_inside(path: str) -> bool:
    """Whether a path in a file of settings stays in the folder of that file."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return not (path.startswith(("/", "~")) or ".." in parts or ":" in path or "\0" in path)
