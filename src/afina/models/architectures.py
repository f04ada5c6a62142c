"""What transformers knows about architectures, read from its source text: importing it would import torch.

`transformers.models.auto` holds the tables as literals. Reading them takes 0.1 s, importing them three
seconds or more, and a user with a mistyped folder should not wait for torch. Where a table is not a literal,
it is imported after all.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

AUTO_CLASSES = "transformers.models.auto"
TABLE_OF_NEED = {
    "sequence-classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "token-classification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "causal-lm": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
}

Architecture = Literal["encoder", "decoder", "encoder-decoder"]


def list_model_types() -> frozenset[str]:
    """Every `model_type` that transformers has a class for."""
    listed = set(_read_table("auto_mappings", "CONFIG_MAPPING_NAMES"))
    for name in TABLE_OF_NEED.values():
        listed |= set(_read_table("modeling_auto", name))
    return frozenset(listed)


def list_capable_types(needs: str) -> frozenset[str]:
    """Every `model_type` that has a class for this need, one of the keys of `TABLE_OF_NEED`."""
    return frozenset(_read_table("modeling_auto", TABLE_OF_NEED[needs]))


def find_architecture(model_type: str) -> Architecture:
    """Whether the model reads both ways, only backwards, or has one part for each.

    A type with a causal language model and no masked one is a decoder: BERT's classes have both.
    """
    if model_type in _read_table("modeling_auto", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"):
        return "encoder-decoder"
    is_masked = model_type in _read_table("modeling_auto", "MODEL_FOR_MASKED_LM_MAPPING_NAMES")
    is_causal = model_type in _read_table("modeling_auto", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES")
    return "decoder" if is_causal and not is_masked else "encoder"


@lru_cache(maxsize=16)
def _read_table(module: str, name: str) -> dict[str, Any]:
    """Table `name` of a module of `transformers.models.auto`: model_type -> name of a class."""
    try:
        return _parse_table(_read_module(module), name)
    except (OSError, LookupError, ValueError):
        imported = importlib.import_module(
            f"{AUTO_CLASSES}.{'configuration_auto' if module == 'auto_mappings' else module}"
        )
        return dict(getattr(imported, name))


@lru_cache(maxsize=2)
def _read_module(module: str) -> ast.Module:
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        raise LookupError(module)
    path = Path(spec.origin).parent / "models" / "auto" / f"{module}.py"
    return ast.parse(path.read_text(encoding="utf-8"))


def _parse_table(tree: ast.Module, name: str) -> dict[str, Any]:
    """The literal in `NAME = OrderedDict([...])`. Raises LookupError or ValueError where there is none."""
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=found)], value=ast.Call(args=[table])) if found == name:
                return dict(cast("list[tuple[str, Any]]", ast.literal_eval(table)))
    raise LookupError(name)
