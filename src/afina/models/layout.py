"""Is this folder a model in Hugging Face layout? Each check gives the problems that it finds.

Nothing of the folder is run. Decisions:

- What asks for code or leads out of the folder is found by `trust.py`.
- A folder of an adapter is refused even if it holds a whole model too: transformers would go and load the
  adapter's base from wherever the adapter says.
"""

from __future__ import annotations

import json
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

from afina.errors import ModelError, Problem, describe_cause, find_close
from afina.models.architectures import find_architecture, list_capable_types, list_model_types
from afina.models.trust import MAX_SETTINGS_BYTES, is_model_type

LAYOUT = "a folder in Hugging Face layout: config.json, model.safetensors and the tokenizer's files"
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "bpe.codes", "tekken.json")
TASK_OF_NEED = {
    "sequence-classification": "classifies or scores texts",
    "token-classification": "classifies tokens",
    "causal-lm": "writes text",
}
EXAMPLES = ("bert", "roberta", "modernbert", "deberta-v2", "llama", "qwen3")


def check_folder(folder: Path) -> None:
    """Raise ModelError where the folder is no model: missing, a file, an adapter, a run."""
    if not folder.exists():
        raise ModelError(f"there is no folder {folder}", expected=LAYOUT, remedy="--model with a folder that exists")
    if not folder.is_dir():
        raise ModelError(f"{folder} is not a folder", expected=LAYOUT, remedy=f"--model {folder.parent}")
    if (folder / "adapter_config.json").is_file():
        raise _describe_adapter(folder)
    if (folder / "config.json").is_file():
        return
    if (folder / "config.yaml").is_file() and (folder / "model" / "adapter_config.json").is_file():
        raise _describe_adapter(folder / "model")
    if (folder / "config.yaml").is_file() and (folder / "model").is_dir():
        raise ModelError(
            f"{folder} is the folder of a run, not a model",
            expected=LAYOUT,
            remedy=f"--model {folder / 'model'}",
        )
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    inner = sorted(path.parent for path in folder.glob("*/config.json"))
    raise ModelError(
        f"there is no config.json in {folder}",
        found=", ".join(names[:12]) + (", ..." if len(names) > 12 else "") if names else "an empty folder",
        expected=LAYOUT,
        remedy=f"--model {inner[0]}" if len(inner) == 1 else "--model with the folder that holds config.json",
    )


def _describe_adapter(folder: Path) -> ModelError:
    """The error for an adapter of peft: from a run of ours it can be merged by us, else by peft."""
    base = _find_base(folder)
    if (folder.parent / "config.yaml").is_file():
        remedy = f"afina merge {shlex.quote(str(folder.parent))} --output NEW, and --model NEW"
    else:
        code = f"PeftModel.from_pretrained(model, {str(folder)!r}).merge_and_unload().save_pretrained('NEW')"
        remedy = f"--model {base}, or load that as `model` and merge the two in Python: {code}"
    return ModelError(
        f"{folder} holds an adapter, not a whole model",
        found=f"adapter_config.json, an adapter of the model {base}",
        expected=LAYOUT,
        remedy=remedy,
    )


def _find_base(folder: Path) -> str:
    try:
        base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    except ModelError:
        base = None
    return base if isinstance(base, str) and base else "BASE"


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file of JSON. Raises ModelError where there is none."""
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            raise ValueError(f"more than {MAX_SETTINGS_BYTES // 2**20} MiB of settings")
        found: Any = json.loads(path.read_text(encoding="utf-8"))
        reason = f"{type(found).__name__} at the top"
    except (ValueError, RecursionError, OSError) as error:
        found, reason = None, describe_cause(error)
    if isinstance(found, dict):
        return found
    raise ModelError(
        f"{path} can't be read",
        found=reason,
        expected="a JSON object",
        remedy="download or save the model again",
    )


def note_unread_parts(folder: Path) -> list[str]:
    """Notes on what a folder of sentence-transformers does with its vectors, and a run of ours doesn't."""
    if not (folder / "modules.json").is_file():
        return []
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    kinds = [str(each.get("type", "")).rpartition(".")[2] for each in modules if isinstance(each, dict)]
    others = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
    notes = []
    if others:
        what = " and ".join(others)
        notes.append(
            f"the model's {what} of sentence-transformers isn't used: the head reads its Transformer's vectors"
        )
    settings = folder / "config_sentence_transformers.json"
    prompts = read_json(settings).get("prompts") if settings.is_file() else None
    named = [name for name, text in prompts.items() if text] if isinstance(prompts, dict) else []
    if named:
        notes.append(f"the model's prompts of sentence-transformers ({', '.join(named)}) aren't put before texts")
    return notes


# What these do in transformers, whatever the attention mask says.
READ_PADDING = {
    "convbert": "blends neighbours, padding among them",
    "funnel": "shortens rows by half and half again, so that what a token becomes depends on where the row ends",
    "fnet": "mixes all places of a row, padding among them",
    "xlnet": "reads its answer off the last place of a row, padding or not",
    "yoso": "draws random numbers in each pass",
}


WITHOUT_TABLE = {"canine": "reads characters by hashes and has no vocabulary"}


def check_type(config: dict[str, Any], needs: str) -> list[Problem]:
    """The type is one that transformers knows and that has the class which the task needs."""
    model_type = config.get("model_type")
    if model_type is not None and not is_model_type(model_type):
        return []  # said by check_trust
    if model_type is None:
        return [
            Problem(
                "config.json names no architecture",
                found="model_type: null" if "model_type" in config else "no model_type",
                expected=f"a name such as {', '.join(EXAMPLES)}",
                remedy="copy config.json from where the model was published",
            )
        ]
    if model_type not in list_model_types():
        return [_describe_unknown(model_type)]
    if find_architecture(model_type) == "encoder-decoder":
        return [
            Problem(
                "an encoder-decoder model can't be fine-tuned here",
                found=f"model_type: {model_type}",
                expected="an encoder or a decoder",
                remedy=f"--model with a model of another type, such as {', '.join(EXAMPLES)}",
            )
        ]
    if model_type in READ_PADDING:
        return [
            Problem(
                "models of this architecture give a text other answers in other company, so no score would hold",
                found=f"model_type: {model_type}, which {READ_PADDING[model_type]}",
                expected="one that reads each row by itself",
                remedy=f"--model with a model of another type, such as {', '.join(EXAMPLES)}",
            )
        ]
    if model_type in WITHOUT_TABLE:
        return [
            Problem(
                "models of this architecture can't be fine-tuned here",
                found=f"model_type: {model_type}, which {WITHOUT_TABLE[model_type]}",
                expected="one with a table of token vectors",
                remedy=f"--model with a model of another type, such as {', '.join(EXAMPLES)}",
            )
        ]
    capable = list_capable_types(needs)
    if model_type in capable:
        return []
    near = [name for name in EXAMPLES if name in capable]
    return [
        Problem(
            f"transformers has no class of this architecture that {TASK_OF_NEED[needs]}",
            found=f"model_type: {model_type}",
            expected=f"one that has, such as {', '.join(near)}",
            remedy="--model with a model of such a type",
        )
    ]


def _describe_unknown(model_type: str) -> Problem:
    near = find_close(model_type, list_model_types())
    remedy = f'"model_type": "{near}" in config.json, if that is what it is; ' if near else ""
    return Problem(
        f"transformers {version('transformers')} doesn't know this architecture",
        found=f"model_type: {model_type}",
        expected=f"a name such as {', '.join(EXAMPLES)}",
        remedy=f"{remedy}for a newer architecture: pip install -U transformers",
    )


def check_precision(config: dict[str, Any]) -> list[Problem]:
    """The weights are stored as plain numbers."""
    settings = config.get("quantization_config") or config.get("compression_config")
    if not settings:
        return []
    method = settings.get("quant_method", "unnamed") if isinstance(settings, dict) else "unnamed"
    return [
        Problem(
            "the weights are quantised already, and training starts from full precision",
            found=f"quantization_config in config.json, method {method}",
            expected="weights in float32, bfloat16 or float16",
            remedy="--model with the original model; --technique qlora then stores it in 4 bits",
        )
    ]


def check_tokenizer(folder: Path) -> list[Problem]:
    """There is a vocabulary, and its JSON is whole."""
    problems: list[Problem] = []
    files = sorted({path for pattern in VOCABULARIES for path in folder.glob(pattern) if path.is_file()})
    if not files:
        problems.append(
            Problem(
                "there is no tokenizer",
                found=", ".join(sorted(path.name for path in folder.iterdir())[:12]),
                expected="tokenizer.json and tokenizer_config.json, or a vocabulary such as vocab.txt",
                remedy="copy the tokenizer's files from where the model was published",
            )
        )
    for path in (folder / "tokenizer.json", folder / "tokenizer_config.json"):
        if path.is_file():
            try:
                read_json(path)
            except ModelError as error:
                problems += error.problems
    return problems
