"""Dropout whose mask is a function of a key and a place: nothing of it is kept, and threads share the work.

    y_i = x_i / (1 - p)  where h_i >= p 2^16, else 0
    h_i and h_{i+16} are the lower and the upper half of mix(mix(j ^ key_1) + key_2),  i = 32 (j // 16) + j % 16

with `mix` the last step of MurmurHash3 (Appleby 2011) on 32 bits; p is rounded to a multiple of 2^-16. The gradient is
the same function of the output's gradient. torch draws its mask one number after another in one thread, keeps it, and
multiplies in two more passes. Numbers by place and key as in Salmon et al. 2011, "Parallel random numbers: as easy as
1, 2, 3".

A key is drawn from torch's own generator, so that a run that goes on, and a pass that is computed again, draw the same;
threads that compute side by side have a generator each (`own_keys`), so that it doesn't matter which comes first.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from afina.kernels.native import find_compiled, is_readable, load_layer_kernels

WORD, HALF = 2**32, 2**16
# Numbers of which 16 words of 32 bits are drawn.
STEP = 32


class Keys(local):
    """Where a thread's keys come from."""

    generator: torch.Generator | None = None
    """None for torch's own."""


KEYS = Keys()


class DropoutTable(ctypes.Structure):
    """`struct dropout` of dropout.c."""

    _fields_ = (
        ("input", ctypes.c_void_p), ("output", ctypes.c_void_p),
        *((name, ctypes.c_uint32) for name in ("first_key", "second_key", "least")),
        ("scale", ctypes.c_float), ("is_bf16", ctypes.c_int32), ("adds", ctypes.c_int32),
    )  # fmt: skip


class KeyedDropout(nn.Dropout):
    """A layer of dropout that is computed here, where a kernel does it. `key_dropout` makes it of one."""

    is_compiled = True

    @property
    def draws_keys(self) -> bool:
        """Whether keys are all that it draws on a CPU, by threads that have their own."""
        return load_layer_kernels() is not None

    def forward(self, input: Tensor) -> Tensor:
        is_known = input.device.type == "cpu" and self.draws_keys and (is_readable(input) or KEYS.generator is not None)
        if not self.training or not 0 < self.p < 1 or not is_known:
            return super().forward(input)
        return Drop.apply(input, self.p)  # type: ignore[no-untyped-call]


def key_dropout(layer: nn.Module) -> bool:
    """Make a layer of dropout a `KeyedDropout`, where it stands; gives whether it is one that can be."""
    suits = suits_key(layer)
    if suits:
        layer.__class__ = KeyedDropout
    return suits


def suits_key(layer: nn.Module) -> bool:
    """Whether the layer is torch's dropout of single numbers and makes a tensor of its own."""
    return type(layer) is nn.Dropout and not layer.inplace


class Drop(torch.autograd.Function):
    """Keeps a key."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, share: float) -> Tensor:
        # A plan's tensors have no numbers, and nothing is drawn for them.
        ctx.share, ctx.key = share, 0 if find_compiled(input) is None else draw_key()
        return drop(input, share, ctx.key)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return drop(gradients[0], ctx.share, ctx.key), None


def draw_key() -> int:
    """A key of 62 bits, from this thread's generator or torch's for the CPU."""
    return int(torch.randint(2**62, (), device="cpu", generator=KEYS.generator))


@contextmanager
def own_keys(key: int) -> Iterator[None]:
    """This thread's keys follow from `key` until the context is left. What is computed again within, as checkpoints of
    activations are, would draw others."""
    KEYS.generator = torch.Generator("cpu").manual_seed(key)
    try:
        yield
    finally:
        KEYS.generator = None


def drop(input: Tensor, share: float, key: int) -> Tensor:
    """The tensor with about `share` of its numbers set to 0 and the others scaled up; equal keys drop equal places.

    Takes no gradient by itself: the function that calls it gives the gradient of the output to it, with the same key.
    """
    input = input.contiguous()
    library = find_compiled(input) if is_readable(input) else None
    if library is None:
        return drop_plain(input, share, key)
    output = torch.empty_like(input)
    run_kernel(library, input, output, share, key, adds=False)
    return output


def add_dropped_(sum: Tensor, input: Tensor, share: float, key: int) -> Tensor:
    """Add what `drop` gives to `sum`, which is contiguous and has the shape and format of the input, in place."""
    input = input.contiguous()
    library = find_compiled(sum, input) if is_readable(input) and sum.dtype == input.dtype else None
    if library is None:
        return sum.add_(drop_plain(input, share, key))
    if sum.shape != input.shape or not sum.is_contiguous():
        raise ValueError(f"a contiguous tensor of shape {tuple(input.shape)} is wanted; it is {tuple(sum.shape)}")
    run_kernel(library, input, sum, share, key, adds=True)
    return sum


def run_kernel(library: ctypes.CDLL, input: Tensor, output: Tensor, share: float, key: int, *, adds: bool) -> None:
    """What the kernel makes of the input, written to the output or added to it."""
    least = count_least(share)
    table = DropoutTable(input.data_ptr(), output.data_ptr(), key % WORD, key // WORD, least, scale_kept(least))
    table.is_bf16, table.adds = input.dtype == torch.bfloat16, adds
    library.afina_drop(ctypes.byref(table), ctypes.c_int64(input.numel()), torch.get_num_threads())


def drop_plain(input: Tensor, share: float, key: int) -> Tensor:
    """The same by torch's operations, on 64 bits of which the lower half counts."""
    least = count_least(share)
    words = draw_words(-(-input.numel() // STEP) * STEP // 2, key, input.device).view(-1, STEP // 2)
    numbers = torch.stack([words % HALF, words // HALF], dim=1).flatten()[: input.numel()]
    is_kept = (numbers >= least).view(input.shape)
    wide = input.to(torch.promote_types(input.dtype, torch.float32))
    return torch.where(is_kept, wide * scale_kept(least), 0.0).to(input.dtype)


def draw_words(count: int, key: int, device: torch.device) -> Tensor:
    """So many numbers of 32 bits."""
    places = torch.arange(count, device=device)
    first, second = key % WORD, key // WORD
    numbers = mix((places % WORD) ^ first)
    return mix((numbers + second + (places // WORD) * 0x9E3779B9) % WORD)


def mix(numbers: Tensor) -> Tensor:
    """As in dropout.c."""
    numbers = numbers ^ (numbers >> 16)
    numbers = (numbers * 0x85EBCA6B) % WORD
    numbers = numbers ^ (numbers >> 13)
    numbers = (numbers * 0xC2B2AE35) % WORD
    return numbers ^ (numbers >> 16)


def count_least(share: float) -> int:
    """The smallest number that is kept."""
    return min(HALF - 1, round(share * HALF))


def scale_kept(least: int) -> float:
    """What is kept is multiplied by this, so that the mean stays."""
    return 1 / (1 - least / HALF)
