"""What all trials of a search share, and how one of them becomes a run: the same for every kind of task."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from afina.config.reason import Reason
from afina.config.resolve import Sizes
from afina.config.run import RunConfig
from afina.pipeline.narrator import Narrator
from afina.pipeline.search.plan import SearchPlan, check_language_model
from afina.pipeline.source import open_source
from afina.runs.folder import RunFolder


class Workbench(Protocol):
    """Rows, tokens and model, prepared once."""

    kind: str
    """multiclass, multilabel, regression, entities, tags or generation."""
    task: str
    primary_metric: str
    first_technique: str
    """What a run without a technique begins with: `auto`, or where its choice takes no training, what it chose."""
    sizes: Sizes
    """What a technique's defaults depend on."""
    poolings: tuple[str, ...]
    """Those that the architecture offers."""
    base: Path
    """Folder of the model."""
    device: str
    data_hash: str
    test_rows: int

    def check_techniques(self) -> dict[str, bool]:
        """Whether each technique that suits the task and is installed fits into the memory of this machine."""
        ...

    def run(self, config: RunConfig, folder: RunFolder, narrator: Narrator) -> dict[str, Any]:
        """A run of one configuration, from its newest checkpoint if there is one; gives its report."""
        ...

    def score_test(self, config: RunConfig, folder: RunFolder, narrator: Narrator) -> dict[str, Any]:
        """A finished run scored on the test part, which is read for the first time; gives the report rewritten."""
        ...


class TrialNarrator(Narrator):
    """Says nothing; knows what was said of the rows that all trials share. A reason replaces an older one."""

    def __init__(self, shared: Narrator, *callbacks: Any) -> None:
        super().__init__()
        self.reasons = list(shared.reasons)
        self.notes = list(shared.notes)
        self._callbacks = callbacks

    def explain(self, reason: Reason) -> None:
        self.reasons = [each for each in self.reasons if each.setting != reason.setting]
        super().explain(reason)

    def callbacks(self) -> Any:
        return self._callbacks


def open_workbench(plan: SearchPlan, folder: Path, source: Any, narrator: Narrator) -> Workbench:
    """The user's data and model, read, checked and tokenised; the test part is only checked.

    Raises:
        UserError: if one of them can't be used.
    """
    config, shared = plan.shared_config(), RunFolder(folder)
    shared.path.mkdir(parents=True)
    # As the user gave it: what every trial is told besides, so as to leave the test part alone, is nobody's mistake.
    opened = open_source(plan.configure(config.technique, {}, is_trial=False), shared, source, narrator)
    if opened.is_generation:
        check_language_model(plan)
        from afina.pipeline.language.prepare import prepare_language

        language = prepare_language(config, shared, opened, narrator)
        from afina.pipeline.search.language import LanguageWorkbench  # imports torch: once the rows were found right

        return LanguageWorkbench(language)
    from afina.pipeline.prepare import prepare_run

    labelled = prepare_run(config, shared, opened, narrator)
    from afina.pipeline.search.labelled import LabelledWorkbench

    return LabelledWorkbench(labelled)
