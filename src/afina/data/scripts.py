"""Scripts that put no spaces between words: what stands for a word in them is a character."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

# Thai and Lao, Myanmar, Khmer, kana, Han.
SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
LETTER = re.compile(r"[^\W\d_]")
TEXTS_LOOKED_AT = 1000


def is_spaceless(texts: Iterable[str]) -> bool:
    """Whether most letters of the first texts are of such a script."""
    looked_at = "".join(islice(texts, TEXTS_LOOKED_AT))
    return 2 * len(SPACELESS.findall(looked_at)) > len(LETTER.findall(looked_at))


def count_words(text: str) -> int:
    """Words between spaces and lines; 1 for an empty text. Each character counts where no spaces part the words."""
    spaced = text.count(" ") + text.count("\n") + 1
    if text.isascii():
        return spaced
    return max(spaced, len(SPACELESS.findall(text)))


def split_words(text: str) -> list[str]:
    """The words of a text; of a word in such a script its characters."""
    words = text.split()
    if text.isascii() or not SPACELESS.search(text):
        return words
    return [piece for word in words for piece in (word if SPACELESS.search(word) else [word])]
