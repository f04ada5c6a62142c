"""How much memory a run takes at its peak, in parts that add up to it.

    peak = libraries + weights + optimizer + max(activations + loss, gradients) + min(the same two) / 2

Gradients grow in the backward pass while activations shrink, so on paper only the larger of the two counts. In practice
the places that the one gives back don't all suit the other, which costs about half of the smaller one. Where gradients
are accumulated over several passes both count in full. benchmarks/advice.py compares all of this with real runs.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from afina.advice.outline import BF16_BYTES, FP32_BYTES, Kept, Outline
from afina.kernels.loss import BLOCK_BYTES, CHUNK_BYTES
from afina.techniques.base import Technique

MIB = 2**20
# Resident on a CPU before any weight is there: the interpreter, torch, transformers, scikit-learn.
LIBRARIES_BYTES = 445 * MIB
# A tokenizer's tables for each of its tokens.
TOKEN_BYTES = 1200
# peft and bitsandbytes.
ADAPTER_LIBRARIES_BYTES = 130 * MIB
# What bitsandbytes leaves behind on a CPU: itself, and for each number that it packs and unpacks its bf16 form.
PACKING_BYTES, UNPACKED_BYTES = 60 * MIB, 2
# What the first training steps leave behind on a CPU beside their tensors: compiled products, scratch space, pages.
FIRST_PASS_BYTES = 100 * MIB
# Share of the activations that lies free between them on a CPU. Tensors begin at multiples of 64 bytes, so that glibc
# needs more room for one than one of its size leaves.
SCATTERED = 0.05
# What more lies free where batches differ in length: of each length some blocks that fit none of another one.
RAGGED, RAGGED_BYTES = 0.2, 150 * MIB
# What solving a head leaves behind on a CPU: scikit-learn's products have threads and buffers of their own.
SOLVER_BYTES = 150 * MIB
# A GPU's allocator rounds each block up, and blocks of other sizes don't fit where it lies free.
GPU_ROUNDING = 0.08
# AdamW's two moments.
MOMENTS = 2
OVERLAP = 0.5
# Tensors of the width of the model that a block holds at a time when nothing is kept for a backward pass.
PASSING = 12


@dataclass(frozen=True)
class MemoryCosts:
    """Bytes at the peak, by what they are for; they add up to the total."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    loss: int
    overhead: int
    """Libraries, caches of features, the copy that the saved model is compared with, and what lies between blocks."""
    mapped: int = 0
    """Pages of the model's file beside the weights: resident, but the system takes them back when it needs room."""

    @property
    def total(self) -> int:
        """The peak."""
        return sum(asdict(self).values())

    @property
    def needed(self) -> int:
        """What must be free."""
        return self.total - self.mapped

    def correct(self, factor: float, offset: int) -> MemoryCosts:
        """The costs with what grows with a batch multiplied, and a constant added to the overhead."""
        return replace(
            self, activations=int(self.activations * factor), loss=int(self.loss * factor),
            overhead=max(0, self.overhead + offset),
        )  # fmt: skip


@dataclass(frozen=True)
class Pass:
    """The largest forward and backward pass of a run."""

    rows: int
    tokens: int
    """Of each row, padding included."""
    learned: int
    """Positions whose next token a language model is to predict; 0 for the others."""
    is_accumulated: bool
    """Whether several such passes make one step."""
    is_ragged: bool = False
    """Whether other passes have rows of other lengths."""
    held: int = 0
    """Tokens that activations are kept of, padding included; 0 for rows times tokens."""

    @property
    def held_share(self) -> float:
        """Of rows times tokens."""
        return self.held / (self.rows * self.tokens) if self.held else 1.0


def predict_memory(
    outline: Outline, kept: Kept, largest: Pass, *, device: str, precision: str, technique: Technique, cache_bytes: int,
    tokens_at_once: int, mapped_bytes: int = 0,
) -> MemoryCosts:  # fmt: skip
    """The memory of a run.

    Args:
        kept: by its largest pass.
        largest: the pass.
        cache_bytes: of features of the rows.
        tokens_at_once: of a pass without gradients.
        mapped_bytes: of the model's file that stay resident beside the weights.
    """
    passing = PASSING * outline.hidden_size * tokens_at_once * FP32_BYTES
    overhead = cache_bytes + predict_libraries(outline, technique, device)
    if technique.traits.moves == "head":
        # The saved model is loaded beside the trained one; its weights are rounded for its passes.
        rounded = BF16_BYTES * outline.multiplied if device == "cpu" and precision == "bf16" else 0
        return MemoryCosts(outline.weight_bytes, 0, 0, passing, 0, overhead + outline.weight_bytes + rounded)
    gradients = predict_gradients(outline, largest)
    loss = predict_loss(outline, largest.learned, precision)
    scattered = 0.0 if device != "cpu" else SCATTERED + (RAGGED if largest.is_ragged else 0.0)
    activations = int(kept.total * largest.held_share * (1 + scattered))
    moving = activations + loss
    shared = 0 if largest.is_accumulated else int((1 - OVERLAP) * min(moving, gradients))
    share = shared / moving if moving <= gradients else 0.0
    costs = MemoryCosts(
        weights=outline.weight_bytes + BF16_BYTES * outline.copied,
        gradients=gradients if moving <= gradients else gradients - shared,
        optimizer=MOMENTS * FP32_BYTES * outline.stepped,
        activations=int(activations * (1 - share)),
        loss=int(loss * (1 - share)),
        overhead=overhead + predict_remains(outline, technique, device, is_ragged=largest.is_ragged),
        mapped=mapped_bytes,
    )
    if device != "cpu":
        costs = replace(costs, overhead=costs.overhead + int(GPU_ROUNDING * costs.total))
    return allow_for_proof(costs, 2 * outline.weight_bytes + passing + overhead, outline.reread_bytes)


def predict_gradients(outline: Outline, largest: Pass) -> int:
    """Those of weights with copies are in bf16; where several passes are summed in fp32, for one pass at a time."""
    in_fp32 = outline.stepped if largest.is_accumulated else outline.stepped - outline.copied
    return FP32_BYTES * in_fp32 + BF16_BYTES * outline.copied


def allow_for_proof(costs: MemoryCosts, needed: int, mapped: int) -> MemoryCosts:
    """The costs where the end of a run may be the peak: the saved model is then loaded beside the trained one, and of a
    base that is stored in another dtype the file is mapped meanwhile.
    """
    more = max(0, needed - costs.needed)
    costs = replace(costs, overhead=costs.overhead + more)
    return replace(costs, mapped=costs.mapped + max(0, needed + mapped - costs.total))


def predict_libraries(outline: Outline, technique: Technique, device: str) -> int:
    """Resident bytes of libraries and the tokenizer. A GPU's allocator doesn't see them."""
    if device != "cpu":
        return 0
    adapts = ADAPTER_LIBRARIES_BYTES if technique.traits.moves == "adapter" else 0
    return LIBRARIES_BYTES + adapts + TOKEN_BYTES * outline.vocabulary


def predict_remains(outline: Outline, technique: Technique, device: str, *, is_ragged: bool) -> int:
    """Resident bytes that training leaves between its tensors on a CPU until it ends.

    A gradient as large as a table of token vectors finds its old place taken by activations and gets another.
    """
    if device != "cpu":
        return 0
    packing = PACKING_BYTES + UNPACKED_BYTES * outline.quantised if technique.traits.stored_in_4_bits else 0
    solver = 0 if outline.head else SOLVER_BYTES
    ragged = RAGGED_BYTES if is_ragged else 0
    return FIRST_PASS_BYTES + packing + solver + ragged + FP32_BYTES * outline.largest_stepped


def predict_loss(outline: Outline, learned: int, precision: str) -> int:
    """What the head of a language model takes beside its weight (`kernels/loss.py`): one chunk of logits, one block
    of them in fp32, the gradients of hidden states and, where it is trained, of the weight in fp32, and the copy of the
    weight that autocast makes.
    """
    if not outline.head:
        return 0
    itemsize = 2 if precision == "bf16" else FP32_BYTES
    vocabulary = outline.head // outline.hidden_size
    chunk = min(CHUNK_BYTES, learned * vocabulary * itemsize)
    hidden = learned * outline.hidden_size * FP32_BYTES
    weight = outline.head * (FP32_BYTES + (itemsize if itemsize != FP32_BYTES else 0)) if outline.head_trains else 0
    return chunk + 2 * BLOCK_BYTES + hidden + weight
