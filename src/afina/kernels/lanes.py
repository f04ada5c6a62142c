"""Computations side by side on a CPU: each by a thread of its own, with its share of torch's threads.

An operation that two threads share ends when the slower one does, and some products aren't shared at all: oneDNN gives
1,000 rows by 576 columns to one thread. Two batches, or two halves of one, have nothing to wait for until their end.
docs/LOG.md has the figures. Grad mode, autocast and inference mode are a thread's own, so that what is computed must
enter them itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import local
from typing import Any, TypeVar

import torch
from torch import nn

# More of them would each have fewer rows, and take turns at Python's lock.
LANES = 2

Item = TypeVar("Item")
Found = TypeVar("Found")


class Allowed:
    """Whether this process computes side by side."""

    is_on = True


def allow_lanes(is_on: bool) -> None:
    """Compute side by side from here on where it pays, or never (`training.side_by_side`)."""
    Allowed.is_on = is_on


class Lanes:
    """See `open_lanes`."""

    def __init__(self, workers: ThreadPoolExecutor | None, count: int) -> None:
        self.workers, self.count = workers, count

    def map(self, compute: Callable[[Item], Found], items: Iterable[Item]) -> Iterator[Found]:
        """What `compute` gives for each item, in the order of the items.

        An error comes out where the result would; what has begun by then is waited for, so that nothing is computed
        any more when the caller goes on.
        """
        if self.workers is None:
            yield from map(compute, items)
            return
        begun: deque[Future[Found]] = deque()
        try:
            for item in items:
                begun.append(self.workers.submit(compute, item))
                if len(begun) > self.count:  # one stands in line, so that a lane goes on at once
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for each in begun:
                each.cancel()
            wait(begun)


@contextmanager
def open_lanes(count: int) -> Iterator[Lanes]:
    """So many lanes; with one of them everything is computed by the caller's own thread."""
    threads = torch.get_num_threads()
    if count < 2:
        yield Lanes(None, 1)
        return
    share = max(1, threads // count)
    with ThreadPoolExecutor(count, "afina-lane", torch.set_num_threads, (share,)) as workers:
        try:
            yield Lanes(workers, count)
        finally:
            torch.set_num_threads(threads)  # a lane's share is what threads that start later would have


def count_lanes(model: nn.Module, device: str, parts: int) -> int:
    """How many lanes so many batches, or parts of one, are computed in.

    One, if there are fewer parts than lanes or than threads, on a GPU, and for a model that changes itself as it goes.
    """
    has_threads = device == "cpu" and torch.get_num_threads() >= LANES
    return LANES if Allowed.is_on and has_threads and parts >= LANES and not changes_itself(model) else 1


def changes_itself(model: Any) -> bool:
    """Whether a forward pass leaves something for the next one: frequencies of the rotary embedding that follow the
    length of the batch, or statistics of batches."""
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        return True
    return any(is_following(getattr(module, "rope_type", None)) for module in model.modules())


def is_following(rope_type: Any) -> bool:
    """Whether a rotary embedding of this type, or with a layer of it, follows the length of the batch."""
    names = rope_type.values() if isinstance(rope_type, dict) else [rope_type]
    return any(name in ("dynamic", "longrope") for name in names)


class PerThread(local):
    """A mapping of which each thread sees what it has put there itself."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.values[key] = value


def cut_evenly(lengths_B: Sequence[int] | Any, count: int) -> list[Any]:
    """Places of a batch's rows in `count` or fewer parts that take about equally long once they are padded.

    Args:
        lengths_B: tokens of each row.
    """
    import numpy as np

    lengths = np.asarray(lengths_B)
    order = np.argsort(lengths, kind="stable")
    if count < 2 or len(order) < count:
        return [order]
    # Rows up to a place are padded to the one before it, those from it to the longest of all.
    places = np.arange(1, len(order))
    shorter, longer = lengths[order[places - 1]] * places, lengths[order[-1]] * (len(order) - places)
    cut = 1 + int(np.argmin(np.maximum(shorter, longer)))
    return [order[:cut], order[cut:]]
