"""Features of a run's rows: each distinct row goes through the frozen backbone once, or is found in the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from afina.data.cache import locate_cache
from afina.models.feature_cache import FeatureCache
from afina.models.features import check_finite, extract_features, number_distinct_rows
from afina.models.heads import find_head_path
from afina.models.load import LoadedModel
from afina.pipeline.narrator import Narrator
from afina.tasks.base import Floats

if TYPE_CHECKING:
    from collections.abc import Iterable

    from afina.config.run import RunConfig
    from afina.data.encoded import EncodedPart
    from afina.techniques.base import Setup, Technique


MADE_BY = ("afina", "torch", "transformers", "tokenizers")
"""Packages another version of which may compute otherwise."""


class FeatureSetup(Protocol):
    """What features depend on, beside the rows: a prepared run has all of it."""

    @property
    def config(self) -> RunConfig: ...
    @property
    def setup(self) -> Setup: ...
    @property
    def technique(self) -> Technique: ...
    @property
    def pad_id(self) -> int: ...
    @property
    def device(self) -> str: ...


def compute_features(
    prepared: FeatureSetup,
    loaded: LoadedModel,
    parts: Iterable[EncodedPart],
    poolings: tuple[str, ...],
    narrator: Narrator,
) -> dict[str, dict[str, Floats]]:  # fmt: skip
    """Features of the parts' rows by part and pooling; each distinct row is computed once, or found in the cache."""
    cache = make_cache(prepared, loaded)
    found: dict[str, dict[str, Floats]] = {}
    for part in parts:
        with narrator.stage("features") as advance:
            rows, places, keys = number_distinct_rows(part.tokens)
            known, known_D = cache.find(keys, poolings) if cache else ({}, np.zeros(len(rows), bool))
            new = np.flatnonzero(~known_D)
            if len(new):
                done = 0

                def tell(count: int, total: int = len(new), advance: Any = advance) -> None:
                    nonlocal done
                    done += count
                    advance(done, total)

                fresh = extract_features(
                    loaded.model, part.tokens, rows[new], poolings, pad_id=prepared.pad_id,
                    tokens_per_batch=int(prepared.config.evaluation.eval_tokens_per_batch), device=prepared.device,
                    precision=prepared.setup.precision, on_batch=tell,
                )  # fmt: skip
                check_finite(fresh, part.row_numbers[rows[new]], part.name, loaded.model)
                if cache:
                    cache.add(keys[new], fresh)
                for name, array in fresh.items():
                    known.setdefault(name, np.empty((len(rows), array.shape[1]), np.float32))[new] = array
            narrator.say(
                f"features of {part.name}: {len(part):,} rows, {len(rows):,} distinct,"
                f" {len(rows) - len(new):,} from the cache"
            )
            found[part.name] = {name: array[places] for name, array in known.items()}
    return found


def make_cache(prepared: FeatureSetup, loaded: LoadedModel) -> FeatureCache | None:
    """The cache of this model's features, unless it is switched off.

    What is found there must be what would be computed, to the last bit: else a run would depend on those before it.
    """
    from importlib import metadata

    import torch

    from afina.advice.machine import describe_processor
    from afina.data.batches import LENGTHS_IN_OCTAVE
    from afina.kernels.native import hash_sources, load_layer_kernels
    from afina.models.fingerprint import hash_model
    from afina.training.precision import list_cpu_units

    if not prepared.config.features.cache:
        return None
    made_of = {
        "model": hash_model(prepared.setup.base),
        "new": hash_new_modules(loaded),
        "precision": prepared.setup.precision,
        # LoRA stores frozen weights in the format that it computes in, the others in fp32.
        "dtypes": sorted({str(parameter.dtype) for parameter in loaded.model.parameters()}),
        "device": prepared.device,
        # Libraries compute with what the processor has: a home folder may be shared by several machines.
        "processor": describe_processor(prepared.device),
        "units": list_cpu_units(),
        "lengths": LENGTHS_IN_OCTAVE,
        "threads": torch.get_num_threads(),
        "side_by_side": prepared.config.training.side_by_side,
        "kernels": hash_sources() if load_layer_kernels() else "none",
        "attention": prepared.config.model.attn_implementation,
        "versions": [metadata.version(package) for package in MADE_BY],
        "tokens_at_once": prepared.config.evaluation.eval_tokens_per_batch,
        "storage": prepared.technique.traits.stored_in_4_bits and prepared.config.quantization.model_dump(),
        "max_seq_length": prepared.config.model.max_seq_length,
    }
    return FeatureCache(locate_cache(), made_of)


def hash_new_modules(loaded: LoadedModel) -> str:
    """A hash of the random weights that features pass through: a pooler or dense layer that the folder didn't hold."""
    import hashlib

    head_path = find_head_path(loaded.model)
    digest = hashlib.sha256()
    for name in loaded.new_modules:
        for key, tensor in sorted(loaded.model.get_submodule(name).state_dict().items()):
            if not f"{name}.{key}".startswith(f"{head_path}."):
                digest.update(key.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()
