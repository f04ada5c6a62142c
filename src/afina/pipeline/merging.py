"""An adapter folded into its base, proven to give the same logits before anybody relies on it.

Letters: B rows of a batch, T tokens.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from afina.advice.plan import format_size
from afina.durable import sync_folder, sync_tree
from afina.errors import ConfigError, ProofError, RunFolderError, describe_cause
from afina.models.load import SAFE, load_tokenizer, quiet_transformers
from afina.pipeline.narrator import Narrator
from afina.pipeline.restoring import make_setup
from afina.runs.folder import RunFolder
from afina.runs.lock import hold_output
from afina.techniques.registry import make_technique

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOLERANCE = 1e-4
ROWS, TOKENS = 4, 24
DTYPES = ("float32", "bfloat16", "float16")


def merge_run(folder: RunFolder, output: Path, dtype: str, narrator: Narrator) -> Path:
    """The folder `output`: base and adapter as one transformers model, with the tokenizer.

    Args:
        dtype: of `DTYPES`, that the weights are stored in; the sum is always taken in float32.
    """
    if dtype not in DTYPES:
        raise ConfigError(
            f"no dtype of a merged model: {dtype!r}", expected=", ".join(DTYPES), remedy="--dtype bfloat16"
        )
    check_output(output)
    folder.check_finished()
    folder.check_model()
    with hold_output(output, "afina merge"):
        check_output(output)  # the process that held it may have written it
        fold_adapter(folder, output, dtype, narrator)
    return output


def check_output(output: Path) -> None:
    """Refuse a folder that holds something, or no folder above it.

    Raises:
        RunFolderError: before anything is computed.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RunFolderError(
            f"{output} is not an empty folder", expected="a new or empty folder", remedy="another --output"
        )


def fold_adapter(folder: RunFolder, output: Path, dtype: str, narrator: Narrator) -> None:
    """Write the merged model, proven."""
    config, stored, tokenizer = folder.read_config(), folder.read_task(), load_tokenizer(folder.model)
    setup = make_setup(folder, config, stored, tokenizer.pad_token_id, "fp32")
    technique = make_technique(str(config.technique))
    merged = technique.merge(folder.model, setup)
    sample = stored.get("sample", [])
    if any(max(ids) >= merged.get_input_embeddings().num_embeddings for ids in sample):
        raise RunFolderError(
            f"{folder.path} holds a sample of other tokens than its model's", remedy="copy the folder of the run again"
        )
    check_merged(technique.restore(folder.model, setup), merged, setup.pad_token_id, sample)
    if dtype != "float32":
        narrator.say(round_weights(merged, dtype, setup.pad_token_id, sample))
    write_merged(merged, tokenizer, output, dtype)


def round_weights(model: Any, dtype: str, pad_token_id: int | None, sample: Sequence[list[int]]) -> str:
    """Round the weights in place; what that does to the logits, in words.

    Raises:
        ProofError: if numbers are too large for the format.
    """
    batches = list_batches(model.config.vocab_size, pad_token_id, sample)
    before = [compute_logits(model, ids_BT) for ids_BT in batches]
    cast_weights(model, getattr(torch, dtype))
    cast_weights(model, torch.float32)  # computed in fp32 both times: what is told is the weights' rounding alone
    after = [compute_logits(model, ids_BT) for ids_BT in batches]
    if not all(bool(logits.isfinite().all()) for logits in after):
        raise ProofError(
            f"the merged model can't be stored in {dtype}", found="logits that are no finite numbers",
            remedy="--dtype bfloat16, or float32",
        )  # fmt: skip
    difference = max(float((b - a).abs().max()) for b, a in zip(before, after, strict=True))
    moved = sum(int((b.argmax(-1) != a.argmax(-1)).sum()) for b, a in zip(before, after, strict=True))
    places = sum(logits.shape[:-1].numel() for logits in before)
    return (
        f"rounded to {dtype}: a logit moves by {difference:.2g} at most, and the likeliest answer is another one at"
        f" {moved:,} of {places:,} places that were looked at"
    )


def cast_weights(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast the weights in place. Buffers stay, such as the frequencies of rotary positions: fp32 when it is loaded."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)


def write_merged(
    merged: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, output: Path, dtype: str = "float32"
) -> None:
    """Write the model and its tokenizer whole or not at all: under another name, read again, then renamed.

    Raises:
        ProofError: if what was written is another model.
        RunFolderError: if the disk is full or can't be written.
    """
    from safetensors import SafetensorError

    unfinished = output.with_name(f".{output.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        cast_weights(merged, getattr(torch, dtype))
        with quiet_transformers():
            merged.save_pretrained(unfinished)
            written = type(merged).from_pretrained(unfinished, dtype=torch.float32, **SAFE)
        cast_weights(merged, torch.float32)
        check_merged(merged, written, tokenizer.pad_token_id)
        tokenizer.save_pretrained(unfinished)
        open_to_others(unfinished)
        sync_tree(unfinished)
        if output.exists():
            output.rmdir()
        os.rename(unfinished, output)
        sync_folder(output.parent)
    except (OSError, SafetensorError) as error:  # the latter is what safetensors makes of a full disk
        raise RunFolderError(
            f"the merged model can't be written to {output}", found=describe_cause(error, "safetensors"),
            expected=f"{format_size(merged.num_parameters() * getattr(torch, dtype).itemsize)} of free space",
            remedy="free some space, or --output on another disk",
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def open_to_others(folder: Path) -> None:
    """Give every file and folder the mode that the umask asks for: safetensors makes its files for the owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    for path in folder.rglob("*"):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def check_merged(unmerged: nn.Module, merged: Any, pad_token_id: int | None, sample: Sequence[list[int]] = ()) -> None:
    """Compare the logits of both on a few rows of random tokens, and on rows that the run has held out.

    Args:
        sample: tokens of the latter; a run with labels keeps none.

    Raises:
        ProofError: if they differ by more than rounding.
    """
    for ids_BT in list_batches(merged.config.vocab_size, pad_token_id, sample):
        wanted, found = (compute_logits(model, ids_BT) for model in (unmerged, merged))
        difference = float((wanted - found).abs().max())
        tolerance = TOLERANCE * max(1.0, float(wanted.abs().max()))
        if not difference <= tolerance:
            raise ProofError(
                "the merged model doesn't give the logits of what it was made of",
                found=f"a largest difference of {difference:.3g}",
                expected=f"at most {tolerance:.3g}",
            )


def list_batches(vocab_size: int, pad_token_id: int | None, sample: Sequence[list[int]]) -> list[torch.Tensor]:
    """Rows of random tokens, then each row of the run."""
    return [draw_tokens(vocab_size, pad_token_id), *(torch.tensor([ids]) for ids in sample)]


def compute_logits(model: nn.Module, ids_BT: torch.Tensor) -> torch.Tensor:
    """Logits as fp32 numbers, shape (B, T, V), or (B, C) of a model with a head."""
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT)).logits
    return logits.float()


def draw_tokens(vocab_size: int, pad_token_id: int | None) -> torch.Tensor:
    """Rows of random tokens, none of which is padding, shape (B, T)."""
    generator = torch.Generator().manual_seed(0)
    ids_BT = torch.randint(0, vocab_size, (ROWS, TOKENS), generator=generator)
    if pad_token_id is not None:
        ids_BT[ids_BT == pad_token_id] = (pad_token_id + 1) % vocab_size
    return ids_BT
