"""A long plain text as windows of tokens, so that all of it is learned.

A conversation that is too long is cut, since its answers make sense only after their questions; a text makes sense
from any place on. Each token is learned exactly once: a window begins with the last token of the one before, which is
only read. Letters: T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator


def cut_windows(ids_T: list[int], most: int, *, has_start: bool) -> Iterator[tuple[list[int], list[int]]]:
    """Tokens and marks (1: learned) of each window, about as many in each.

    Args:
        ids_T: the whole text, of at least one token beside its start token.
        most: tokens that a window may have.
        has_start: whether the first token is the tokenizer's start token; then it stands before each window.
    """
    start = ids_T[:1] if has_start and most > 2 else []
    learned = len(ids_T) - 1
    windows = 1 if len(ids_T) <= most else -(-learned // max(1, most - len(start) - 1))
    for window in range(windows):
        first, end = (1 + learned * edge // windows for edge in (window, window + 1))
        read = [*(start if window else []), ids_T[first - 1]]
        yield [*read, *ids_T[first:end]], [0] * len(read) + [1] * (end - first)
