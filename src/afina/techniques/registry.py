"""The techniques by name. A new one is a module and a line here."""

from __future__ import annotations

from afina.techniques.base import Technique
from afina.techniques.feature_extraction import FeatureExtraction
from afina.techniques.full import Full
from afina.techniques.lora import Lora
from afina.techniques.qlora import QLora

TECHNIQUES: dict[str, type[Technique]] = {kind.name: kind for kind in (FeatureExtraction, Full, Lora, QLora)}


def make_technique(name: str) -> Technique:
    """The technique called `name`."""
    return TECHNIQUES[name]()
