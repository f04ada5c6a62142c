"""The techniques by name. A new one is a module and a line here."""

from __future__ import annotations

import importlib.util

from afina.config.techniques import MOVING
from afina.techniques.base import Technique
from afina.techniques.feature_extraction import FeatureExtraction
from afina.techniques.full import Full
from afina.techniques.lora import Lora
from afina.techniques.qlora import QLora

TECHNIQUES: dict[str, type[Technique]] = {kind.name: kind for kind in (FeatureExtraction, Full, Lora, QLora)}


def make_technique(name: str) -> Technique:
    """The technique called `name`."""
    return TECHNIQUES[name]()


def list_moving(task: str) -> list[str]:
    """Names of the techniques that move a backbone for the task, as far as what they need is installed; those that need
    more memory come first."""
    kinds = {name: TECHNIQUES[name] for name in MOVING}
    return [name for name, kind in kinds.items() if task in kind.tasks and is_installed(kind)]


def is_installed(kind: type[Technique]) -> bool:
    """Whether the package is there that only an extra installs."""
    return not kind.needs or importlib.util.find_spec(kind.needs) is not None
