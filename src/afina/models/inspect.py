"""What a model is and how large, before torch is imported: from config.json, the tokenizer's settings and the
headers of the weights.

Everything that would fail later is looked at here, and all problems of one folder are said at once. Only
where config.json leaves out a size are the defaults of transformers asked for, which imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from afina.errors import ModelError, Problem, describe_cause
from afina.models.architectures import find_architecture
from afina.models.fingerprint import hash_model
from afina.models.layout import (
    check_folder,
    check_precision,
    check_tokenizer,
    check_type,
    read_json,
)
from afina.models.trust import check_trust
from afina.models.weights import DTYPE_NAMES, BrokenWeightsError, Tensor, find_weights, read_tensors

__all__ = ["ModelFacts", "hash_model", "inspect_model"]

SIZES = {
    "hidden_size": ("hidden_size", "dim", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layers", "n_layer", "num_layers"),
    "vocab_size": ("vocab_size",),
}
POSITIONS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx")
# These count positions from pad_token_id + 1, so that the first rows of their table are never used.
OFFSET_TYPES = frozenset({
    "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm",
    "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
})  # fmt: skip
# transformers writes 1e30 where a tokenizer has no limit.
NO_LIMIT_TOKENS = 10_000_000


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model in a folder without loading it."""

    folder: Path
    model_type: str
    architecture: Literal["encoder", "decoder"]
    parameters: int
    """Numbers in the files that can be trained, heads for other tasks included; tied matrices count once."""
    bytes: int
    """Bytes of these numbers as stored."""
    dtypes: tuple[str, ...]
    """Their formats as torch names them, sorted."""
    hidden_size: int
    layers: int
    vocab_size: int
    """Rows of the table of token vectors."""
    max_positions: int | None
    """Tokens that a row may have, special ones included; None where neither model nor tokenizer sets a
    limit."""
    files: tuple[Path, ...]
    """The files of weights."""


def inspect_model(folder: Path, needs: str = "sequence-classification") -> ModelFacts:
    """Facts on the model in the folder, of which `needs` names the class that the task requires.

    Args:
        folder: in Hugging Face layout, such as `resolve_model` gives it.
        needs: `sequence-classification`, `token-classification` or `causal-lm`.

    Raises:
        ModelError: the folder isn't a model, or one that can't be used; with all problems of the folder.
    """
    check_folder(folder)
    config = read_json(folder / "config.json")
    problems = [
        *check_type(config, needs),
        *check_precision(config),
        *check_trust(folder),
    ]
    files: tuple[Path, ...] = ()
    tensors: list[Tensor] = []
    try:
        files = find_weights(folder)
        tensors = read_tensors(files)
    except BrokenWeightsError as error:
        problems += error.problems
    problems += check_tokenizer(folder)
    if problems:
        raise ModelError(f"the model in {folder} can't be used", problems=problems)
    return _gather_facts(folder, config, files, [tensor for tensor in tensors if tensor.is_parameter])


def _gather_facts(folder: Path, config: dict[str, Any], files: tuple[Path, ...], weights: list[Tensor]) -> ModelFacts:
    model_type = str(config["model_type"])
    sizes, positions = _read_sizes(folder, config)
    return ModelFacts(
        folder=folder,
        model_type=model_type,
        architecture="decoder" if find_architecture(model_type) == "decoder" else "encoder",
        parameters=sum(tensor.numbers for tensor in weights),
        bytes=sum(tensor.bytes for tensor in weights),
        dtypes=tuple(sorted({DTYPE_NAMES.get(tensor.dtype, tensor.dtype) for tensor in weights})),
        max_positions=_limit_positions(folder, config, positions),
        files=files,
        **sizes,
    )


def _read_sizes(folder: Path, config: dict[str, Any]) -> tuple[dict[str, int], int | None]:
    """The three sizes, and the positions of the model's table or training, None without a limit."""
    text = config.get("text_config", config)
    sizes = {name: _read_number(text.get, aliases) for name, aliases in SIZES.items()}
    positions = _read_number(text.get, POSITIONS)
    if positions is None or None in sizes.values():
        whole = load_text_config(folder)
        sizes = {name: _read_number(lambda key: getattr(whole, key, None), aliases) for name, aliases in SIZES.items()}
        positions = _read_number(lambda key: getattr(whole, key, None), POSITIONS)
    known = {name: size for name, size in sizes.items() if size is not None}
    if len(known) < len(sizes):
        missing = [aliases[0] for name, aliases in SIZES.items() if name not in known]
        raise ModelError(
            f"the model in {folder} can't be used",
            problems=[
                Problem(
                    f"config.json lacks {', '.join(missing)}",
                    expected="whole numbers above 0",
                    remedy="copy config.json from where the model was published",
                )
            ],
        )
    return known, positions


def _read_number(get: Callable[[str], Any], aliases: tuple[str, ...]) -> int | None:
    """The first of the aliases that stands for a whole number above 0."""
    for alias in aliases:
        value = get(alias)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def load_text_config(folder: Path) -> Any:
    """The config of the text part, with the defaults of its class.

    Raises:
        ModelError: if it is no JSON, or transformers doesn't accept it.
    """
    from transformers import AutoConfig

    read_json(folder / "config.json")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True).get_text_config()
    except Exception as error:  # the classes of configs raise whatever they like
        raise ModelError(
            f"{folder / 'config.json'} is not accepted by transformers",
            found=describe_cause(error, "transformers"),
            remedy="copy config.json from where the model was published",
        ) from None


def _limit_positions(folder: Path, config: dict[str, Any], positions: int | None) -> int | None:
    """The least of the model's and the tokenizer's limit, None without any."""
    limits = [positions] if positions is not None else []
    if limits and config["model_type"] in OFFSET_TYPES:
        padding = config.get("pad_token_id")
        limits = [limits[0] - (padding if isinstance(padding, int) else 1) - 1]
    path = folder / "tokenizer_config.json"
    tokenizer_limit = read_json(path).get("model_max_length") if path.is_file() else None
    if isinstance(tokenizer_limit, int) and 0 < tokenizer_limit < NO_LIMIT_TOKENS:
        limits.append(tokenizer_limit)
    return min(limits, default=None)
