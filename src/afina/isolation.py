"""What stands around each public function.

Its errors speak to the caller in keywords. And where it loads or trains a model: loading replaces functions of torch
for a while, and training draws from torch's generators; both belong to the process. So calls of several threads wait
for each other, and whatever state the caller had set is there again afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

from afina.errors import AfinaError, Interrupted

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_lock = threading.RLock()


def _renew_lock() -> None:
    """In a forked child the threads that may have held the lock are gone."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def public(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, whose errors are spelled for whoever calls it."""

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except (AfinaError, Interrupted) as error:
            error.suit_reader()
            raise

    return call


def isolated(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """A public function, one call at a time in the process and with the caller's state of torch and numpy kept."""

    @public
    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with isolate():
            return function(*args, **kwargs)

    return call


@contextlib.contextmanager
def isolate() -> Iterator[None]:
    """Wait for the calls of other threads; then the usual state, and the caller's again at the end."""
    with _lock, _keep_random_state(), _use_usual_torch():
        yield


@contextlib.contextmanager
def _keep_random_state() -> Iterator[None]:
    """The states of the generators that belong to the process; of torch and numpy only where the caller has them."""
    torch, numpy, state = _find("torch"), _find("numpy"), random.getstate()
    numpy_state = numpy.random.get_state() if numpy else None
    torch_state = torch.get_rng_state() if torch else None
    is_on_gpu = bool(torch) and torch.cuda.is_initialized()
    gpu_states = torch.cuda.get_rng_state_all() if is_on_gpu else None
    try:
        yield
    finally:
        random.setstate(state)
        if numpy:
            numpy.random.set_state(numpy_state)
        if torch:
            torch.set_rng_state(torch_state)
        elif imported := _find("torch"):  # as where it is imported: by chance, and not by the seed of a run
            imported.seed()
        if is_on_gpu:
            torch.cuda.set_rng_state_all(gpu_states)


@contextlib.contextmanager
def _use_usual_torch() -> Iterator[None]:
    """Gradients, fp32 tensors made on the CPU and no autocast, as where torch was just imported."""
    torch = _find("torch")
    if not torch:
        yield
        return
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.enable_grad(), _leave_autocast(torch), _leave_device(torch):
            yield
    finally:
        torch.set_default_dtype(dtype)


@contextlib.contextmanager
def _leave_autocast(torch: Any) -> Iterator[None]:
    """Outside of every `torch.autocast`, and not within one that is switched off.

    The bf16 copies of weights that autocast makes are dropped at the end of the outermost one alone: within another,
    each step would compute with the copies of the first.
    """
    enabled = {device: torch.is_autocast_enabled(device) for device in ("cpu", "cuda")}
    depth = torch.autocast_increment_nesting() - 1
    for _ in range(depth + 1):
        torch.autocast_decrement_nesting()
    torch.clear_autocast_cache()
    for device in enabled:
        torch.set_autocast_enabled(device, False)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        for device, was in enabled.items():
            torch.set_autocast_enabled(device, was)
        for _ in range(depth):
            torch.autocast_increment_nesting()


@contextlib.contextmanager
def _leave_device(torch: Any) -> Iterator[None]:
    """New tensors on the CPU where none is named, though the caller had `torch.set_default_device`.

    Only where they would not be there anyway: such a context costs time in each call of torch.
    """
    is_elsewhere = torch.get_default_device().type != "cpu"
    with torch.device("cpu") if is_elsewhere else contextlib.nullcontext():
        yield


def _find(name: str) -> Any:
    """The module, where it was imported whole."""
    module = sys.modules.get(name)
    return module if getattr(getattr(module, "__spec__", None), "_initializing", True) is False else None
