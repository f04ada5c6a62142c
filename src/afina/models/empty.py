"""Models of which everything is known but the numbers: built from config.json, no weight is read, no memory taken.

Tensors are torch's fake ones. They have shapes, dtypes and a device, so the model's own code runs on them, autocast and
our kernels included, and what it would keep in memory can be counted.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.errors import ModelError, describe_cause
from afina.models.load import (
    SAFE,
    LoadedModel,
    choose_attention,
    dropout_settings,
    keep_head_fp32,
    list_new_modules,
    quiet_transformers,
    use_compiled_layers,
    use_products,
)
from afina.models.weights import DTYPE_NAMES, SINGLE, Tensor

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Blueprint:
    """What a model is built from."""

    config: Any
    """transformers' config with the settings of the run: head, padding, dropout."""
    is_language_model: bool
    of_words: bool
    """Whether the head reads each token."""
    attention: str
    names: frozenset[str]
    """Names of the tensors in the weight files; what the model has beside them is new."""
    stored_dtypes: tuple[str, ...]
    """Formats of these tensors, as torch names them."""
    stored_bytes: int

    @property
    def layers(self) -> int:
        """Blocks of the backbone."""
        return int(self.config.get_text_config().num_hidden_layers)

    @property
    def period(self) -> int:
        """After how many blocks their kinds repeat: 1 where all are alike."""
        kinds = list(getattr(self.config.get_text_config(), "layer_types", None) or [])
        for length in range(1, len(kinds)):
            if all(kind == kinds[place % length] for place, kind in enumerate(kinds)):
                return length
        return max(1, len(kinds)) if kinds else 1

    def with_layers(self, layers: int) -> Blueprint:
        """The same model with fewer blocks."""
        config = copy.deepcopy(self.config)
        text = config.get_text_config()
        kinds = getattr(text, "layer_types", None)
        text.num_hidden_layers = layers
        if kinds:
            text.layer_types = [kinds[place % self.period] for place in range(layers)]
        return replace(self, config=config)


def draw_blueprint(
    folder: Path, tensors: Sequence[Tensor], head: Mapping[str, Any] | None, pad_token_id: int | None,
    *, dropout: float | str, attention: str, of_words: bool = False,
) -> Blueprint:  # fmt: skip
    """The blueprint of the model in the folder, of which only config.json is read.

    Args:
        tensors: of its weight files, as `read_tensors` gives them.
        head: as for `load_classifier`; None for a language model.
        pad_token_id: as for `load_classifier`.
        dropout: as for `load_classifier`.
        attention: as for `load_classifier`.
        of_words: as for `load_classifier`.

    Raises:
        ModelError: if transformers doesn't accept the config.
    """
    from transformers import AutoConfig

    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(folder, **SAFE)
        except Exception as error:  # the classes of configs raise whatever they like
            raise ModelError(
                f"the model in {folder} can't be built", found=describe_cause(error, "transformers")
            ) from error
    config.update(dropout_settings(config, dropout))
    if head is not None:
        config.update({**head, "pad_token_id": pad_token_id})
    dtypes = {DTYPE_NAMES.get(tensor.dtype, tensor.dtype) for tensor in tensors if tensor.is_parameter}
    names = frozenset(tensor.name for tensor in tensors)
    return Blueprint(
        config, head is None, of_words, attention, names, tuple(sorted(dtypes)), sum(t.bytes for t in tensors)
    )  # fmt: skip


def build_empty(blueprint: Blueprint, dtype: torch.dtype, *, compiled: bool = False) -> LoadedModel:
    """What `load_classifier` or `load_language_model` would give, without numbers; use it in `torch`'s fake mode.

    Args:
        compiled: whether its layers keep what they keep where kernels compute them.

    Raises:
        ModelError: if transformers can't build it.
    """
    import transformers
    from transformers.initialization import no_init_weights

    kind: Any = transformers.AutoModelForSequenceClassification
    if blueprint.is_language_model or blueprint.of_words:
        kind = transformers.AutoModelForCausalLM if blueprint.is_language_model else (
            transformers.AutoModelForTokenClassification
        )  # fmt: skip
    with quiet_transformers(), no_init_weights():
        try:
            model = kind.from_config(
                copy.deepcopy(blueprint.config), dtype=dtype, trust_remote_code=False,
                **choose_attention(blueprint.attention),
            )  # fmt: skip
        except Exception as error:
            raise ModelError(
                "the model can't be built from its config.json",
                found=describe_cause(error, "transformers"),
                remedy="copy config.json again from where the model was published",
            ) from error
    model.tie_weights()  # which is left out along with the random numbers
    if blueprint.attention == "auto":
        use_products(model)
    if compiled:
        use_compiled_layers(model)
    if blueprint.is_language_model:
        return LoadedModel(model, ())
    keep_head_fp32(model)
    model.config.use_cache = False
    return LoadedModel(model, list_new_modules(model, list_missing(model, blueprint.names)))


def list_missing(model: PreTrainedModel, names: frozenset[str]) -> set[str]:
    """Weights of modules inside the backbone of which the files hold nothing, such as a pooler.

    Files name a backbone's tensors with or without its prefix, and some by older names (`LayerNorm.gamma`), so it is
    whole modules that are looked for.
    """
    prefix = f"{model.base_model_prefix}."
    held = {f".{name}" for name in names}
    known: dict[str, bool] = {}
    missing = set()
    for key in model.state_dict():
        if not key.startswith(prefix):
            continue
        module = key.removeprefix(prefix).split(".")[0]
        if module not in known:
            known[module] = any(f".{module}." in name for name in held)
        if not known[module]:
            missing.add(key)
    return missing


def keep_new_fp32(loaded: LoadedModel) -> None:
    """Make fp32 what is new in the model: `Module.float` can't exchange parameters without numbers."""
    import torch

    for path in loaded.new_modules:
        for module in loaded.model.get_submodule(path).modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = torch.nn.Parameter(torch.empty_like(parameter, dtype=torch.float32))


def write_hole(model: PreTrainedModel, folder: Path) -> None:
    """model.safetensors with a header for each weight of the model, and nothing after it that takes room on a disk."""
    entries, end = {}, 0
    known: set[int] = set()
    for name, weight in model.state_dict(keep_vars=True).items():
        if id(weight) in known:  # tied ones are stored once
            continue
        known.add(id(weight))
        size = weight.numel() * FLOAT32_BYTES
        entries[name] = {"dtype": "F32", "shape": list(weight.shape), "data_offsets": [end, end + size]}
        end += size
    header = json.dumps(entries).encode()
    with open(folder / SINGLE, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)
