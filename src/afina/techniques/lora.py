"""LoRA: W stays, and beside it moves a product of two thin matrices, W + (lora_alpha / r) B A.

B starts at 0, so training starts from the untouched model. Paper: Hu et al. 2021, arXiv 2106.09685. Adapters, their
files and the merge are peft's; ours is which layers get one, and that every new module is trained and saved with
them.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.config.reason import Reason
from afina.config.techniques import TRAITS
from afina.errors import ConfigError, ModelError, describe_cause, find_close
from afina.kernels.lora import use_lora_products
from afina.models.completeness import shorten
from afina.models.four_bits import import_bitsandbytes
from afina.models.load import LoadedModel, quiet_transformers
from afina.techniques.base import checkpoint_activations, load_model

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from afina.techniques.base import Setup

# The query and value projections under the names that architectures give them; fused ones hold the key as well.
QUERY_VALUE_NAMES = (
    ("q_proj", "v_proj"), ("query", "value"), ("q_lin", "v_lin"), ("query_proj", "value_proj"), ("q", "v"),
    ("Wqkv",), ("qkv_proj",), ("c_attn",), ("query_key_value",), ("qkv",), ("in_proj",),
)  # fmt: skip
# Types of models whose fused kernels take the weight of `out_proj`, so that peft refuses an adapter there.
# Linear layers by another name: Falcon's adds its bias apart.
SAME_PRODUCTS = frozenset({"FalconLinear"})
WITH_FUSED_OUTPUT = frozenset({"falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h"})


class NoLayersError(ConfigError):
    """A model in which an adapter finds no place, whatever the settings."""


class Lora:
    """See `Technique`. The result is a peft folder: adapter, head and tokenizer, beside the untouched base."""

    name = "lora"
    traits = TRAITS[name]
    needs = ""
    tasks = frozenset({"text-classification", "text-regression", "text-generation", "token-classification"})

    def load(self, setup: Setup) -> LoadedModel:
        loaded = load_model(setup, dropout=setup.config.training.dropout, dtype=setup.frozen_dtype)
        keep_new_modules_fp32(loaded)
        return loaded

    def prepare(self, loaded: LoadedModel, setup: Setup) -> nn.Module:
        peft = import_peft()
        settings = setup.config.lora
        if setup.config.training.gradient_checkpointing:
            checkpoint_activations(loaded.model)
            loaded.model.enable_input_require_grads()
        config = peft.LoraConfig(
            task_type=name_task_type(setup),
            r=settings.r,
            lora_alpha=settings.lora_alpha,
            lora_dropout=float(settings.lora_dropout),
            target_modules=choose_target_modules(loaded, default_targets(setup)).value,
            modules_to_save=list(loaded.new_modules) or None,
            base_model_name_or_path=setup.reference,
        )
        # peft warns of things that are handled here: Conv1D layers, and a head that is trained.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = peft.get_peft_model(loaded.model, config)
        use_lora_products(model)
        return model

    def save(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        model.save_pretrained(folder)  # type: ignore[operator]
        # transformers takes a folder with settings for a whole model, and loads an adapter that has none by its base;
        # those of a classifier name its classes.
        if self.keeps_config(model):
            model.config.save_pretrained(folder)  # type: ignore[union-attr, operator]
        generation = getattr(model, "generation_config", None)
        if generation is not None:  # which tokens end an answer
            generation.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)  # peft's template; the run's own card says more

    @staticmethod
    def keeps_config(model: nn.Module) -> bool:
        """Whether an adapter's folder holds settings of the model beside those of the adapter."""
        return bool(model.peft_config["default"].task_type != "CAUSAL_LM")  # type: ignore[index, union-attr]

    def restore(self, folder: Path, setup: Setup) -> nn.Module:
        return self.attach(self.load(setup), folder)

    def attach(self, loaded: LoadedModel, folder: Path) -> nn.Module:
        """The base with the adapter and the modules that are saved in `folder`.

        Raises:
            ModelError: if they don't fit the base.
        """
        peft = import_peft()
        try:
            with warnings.catch_warnings(), quiet_transformers():
                warnings.simplefilter("ignore")
                model = peft.PeftModel.from_pretrained(loaded.model, folder)
        except Exception as error:  # peft raises whatever its files and their numbers lead to
            raise ModelError(f"the adapter in {folder} can't be loaded", found=describe_cause(error, "peft")) from error
        check_attached(model, folder)
        use_lora_products(model)
        return model

    def merge(self, folder: Path, setup: Setup) -> PreTrainedModel:
        # In fp32, whatever the base was stored in: a sum rounded to bf16 would lose part of the update.
        loaded = load_model(setup)
        return merge_adapter(self.attach(loaded, folder))


def check_attached(model: Any, folder: Path) -> None:
    """Refuse an adapter that lacks weights, which peft fills with numbers of its own, or whose weights aren't numbers.

    Raises:
        ModelError: naming them.
    """
    from safetensors import safe_open

    peft = import_peft()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        found = set(file.keys())
    lacking = sorted(wanted.keys() - found)
    odd = sorted(name for name, tensor in wanted.items() if not bool(tensor.isfinite().all()))
    if lacking or odd:
        what = "lacks weights" if lacking else "holds weights that are not finite numbers"
        raise ModelError(
            f"the adapter in {folder} {what}", found=shorten(lacking or odd), remedy="copy the folder of the run again"
        )


def import_peft() -> Any:
    """peft, after what it imports by itself."""
    import_bitsandbytes()
    import peft

    return peft


def merge_adapter(model: Any) -> PreTrainedModel:
    """The base with the adapter's update added to its weights; refuses to give weights that aren't finite."""
    merged = model.merge_and_unload(safe_merge=True)
    merged.config.use_cache = True
    return merged


def name_task_type(setup: Setup) -> str:
    """What peft calls the class of the model."""
    if setup.head is None:
        return "CAUSAL_LM"
    return "TOKEN_CLS" if setup.of_words else "SEQ_CLS"


def default_targets(setup: Setup) -> tuple[str, ...] | str:
    """What the user asked for; by itself a language model adapts every linear layer, which its loss needs."""
    wanted = setup.config.lora.target_modules
    return "all-linear" if wanted == "auto" and setup.head is None else wanted


def keep_new_modules_fp32(loaded: LoadedModel) -> None:
    """Modules that will be trained are fp32, however the rest is stored."""
    for name in loaded.new_modules:
        loaded.model.get_submodule(name).float()


def choose_target_modules(loaded: LoadedModel, wanted: tuple[str, ...] | str) -> Reason:
    """Names of the layers that get an adapter, with the reason.

    Raises:
        ConfigError: if a name is given that no layer has, or there are no linear layers.
    """
    layers, model = list_adaptable_layers(loaded), type(loaded.model).__name__
    names = sorted({path.rsplit(".", 1)[-1] for path in layers})
    if not layers:
        raise NoLayersError(
            f"{model} has no linear layers that an adapter could stand beside", remedy="--technique full"
        )
    if wanted == "all-linear":
        everything = name_exactly(loaded, layers)
        return Reason("lora.target_modules", everything, "every linear layer of the backbone that can have one")
    if wanted == "auto":
        for pair in QUERY_VALUE_NAMES:
            if set(pair) <= set(names):
                return Reason("lora.target_modules", list(pair), f"query and value of {model}")
        why = f"every linear layer: no query and value projections were found in {model}"
        return Reason("lora.target_modules", name_exactly(loaded, layers), why)
    check_target_names(wanted, layers, names)
    return Reason("lora.target_modules", list(wanted), "as given")


def check_target_names(wanted: Iterable[str], layers: list[str], names: list[str]) -> None:
    """Refuse names that end no layer's path."""
    unknown = [name for name in wanted if not any(path == name or path.endswith(f".{name}") for path in layers)]
    if not unknown:
        return
    near = [match for name in unknown if (match := find_close(name, names))]
    raise ConfigError(
        f"lora.target_modules names layers that the model doesn't have: {', '.join(unknown)}",
        found=", ".join(names),
        remedy=f"did you mean {', '.join(near)}?" if near else "--set lora.target_modules=auto",
    )


def name_exactly(loaded: LoadedModel, layers: Iterable[str]) -> list[str]:
    """The last names of some layers, by which peft finds them; whole paths where such a name is another module's too,
    as that of a layer in a list is: `mixer.0` and `layers.0`."""
    wanted, new = set(layers), tuple(f"{name}." for name in loaded.new_modules)
    paths = (path for path, _ in loaded.model.named_modules() if path not in wanted)
    others = {path.rsplit(".", 1)[-1] for path in paths if not f"{path}.".startswith(new)}
    names = ((path, path.rsplit(".", 1)[-1]) for path in wanted)
    return sorted({path if name in others else name for path, name in names})


def list_adaptable_layers(loaded: LoadedModel) -> list[str]:
    """Paths of the linear layers inside the backbone that aren't trained whole anyway.

    Left out are those that compute something else, such as a router, and what peft refuses in state-space models: their
    kernels read the weight and not the layer's output.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    def is_plain(module: Any) -> bool:
        computes_otherwise = type(module).forward is not nn.Linear.forward
        if type(module).__name__ in SAME_PRODUCTS:
            return True
        return not (computes_otherwise and type(module).__module__.startswith("transformers.models."))

    is_mamba = getattr(getattr(loaded.model, "config", None), "model_type", "") in WITH_FUSED_OUTPUT
    head = getattr(loaded.model, "get_output_embeddings", lambda: None)()
    new = tuple(f"{name}." for name in loaded.new_modules)
    return [
        path for path, module in loaded.model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and is_plain(module) and module is not head
        and not f"{path}.".startswith(new) and not (is_mamba and f".{path}".endswith(".out_proj"))
    ]  # fmt: skip
