"""What a prepared run has, whatever it learns: the stages that labels and language models share ask for this."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from afina.advice.costs import Costs
    from afina.config.run import RunConfig
    from afina.models.inspect import ModelFacts
    from afina.runs.folder import RunFolder
    from afina.techniques.base import Setup, Technique


class PreparedRun(Protocol):
    """See `prepare.Prepared` and `language.prepare.PreparedLanguage`."""

    @property
    def config(self) -> RunConfig: ...
    @property
    def folder(self) -> RunFolder: ...
    @property
    def device(self) -> str: ...
    @property
    def pad_id(self) -> int: ...
    @property
    def facts(self) -> ModelFacts: ...
    @property
    def setup(self) -> Setup: ...
    @property
    def technique(self) -> Technique: ...
    @property
    def costs(self) -> Costs | None: ...
