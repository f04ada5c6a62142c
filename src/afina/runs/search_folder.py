"""The folder of a search: search.json, the study, and one run for each trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from afina.durable import expand_home
from afina.errors import RunFolderError
from afina.runs.creation import make_folder, make_named_folder
from afina.runs.entries import check_entries
from afina.runs.folder import FOR_OWNER, RunFolder
from afina.runs.names import SEARCH, STUDY


class SearchFolder(RunFolder):
    """The paths of one search."""

    @property
    def study(self) -> Path:
        """The SQLite file of the study, where no other storage was named."""
        return self.path / STUDY

    @property
    def rows(self) -> Path:
        """Rows and tokens that the trials share; removed when the search ends."""
        return self.work / "rows"

    def name_trial(self, number: int) -> RunFolder:
        """The run of a trial."""
        trial = RunFolder(self.path / f"trial-{number:03d}")
        trial.allowed_changes = self.allowed_changes
        return trial

    def make_trial(self, number: int) -> RunFolder:
        """The run of a trial, its folder there: a new one, or that of a trial that was stopped."""
        folder = self.name_trial(number)
        folder.path.mkdir(FOR_OWNER, exist_ok=True)
        return folder

    def read(self) -> dict[str, Any]:
        """search.json."""
        return self.read_json(SEARCH)

    def write(self, search: dict[str, Any]) -> None:
        """search.json, whole."""
        self.write_json(SEARCH, search)


def create_search_folder(output: str | None, data_name: str) -> SearchFolder:
    """A new folder, at `output` or under runs/.

    Raises:
        RunFolderError: if it holds something already, or can't be made.
    """
    made = make_folder(Path(output)) if output else make_named_folder("search", data_name)
    return SearchFolder(made.path, made.made)


def open_search(path: str | Path) -> SearchFolder:
    """An existing search.

    Raises:
        RunFolderError: if there is none, or something odd lies in it.
    """
    folder = SearchFolder(expand_home(path))
    if not (folder.path / SEARCH).is_file():
        what = f"is not a search: it has no {SEARCH}" if folder.path.exists() else "doesn't exist"
        raise RunFolderError(f"{path} {what}", expected="the folder that afina search made")
    check_entries(folder.path)
    return folder
