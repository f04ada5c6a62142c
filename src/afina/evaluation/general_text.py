"""A fixed sample of general text, in English and Spanish: its loss before and after training shows what was forgotten.

Written for this purpose, on matters that few training sets are about.
"""

from __future__ import annotations

from importlib.resources import files


def read_paragraphs() -> list[str]:
    """The sample's paragraphs."""
    return files("afina.evaluation").joinpath("general_text.txt").read_text(encoding="utf-8").splitlines()
