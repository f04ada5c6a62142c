"""What becomes of the folder of a run that ends before it has learned anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from afina.config.load import build_config
from afina.errors import Interrupted, ModelError
from afina.pipeline import launch
from afina.pipeline.narrator import Narrator
from afina.runs.folder import RunFolder, create_run_folder


class Listener(Narrator):
    """Keeps what was said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ModelError("no such layer")])
@pytest.mark.parametrize("is_told", [True, False])
def test_a_folder_that_was_told_is_said_to_be_removed(
    error: BaseException, is_told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(config: Any, folder: RunFolder, source: Any, narrator: Narrator) -> None:
        if is_told:
            folder.write_text("config.yaml", "")
            narrator.say(f"run: {folder.path}")
        raise error

    monkeypatch.setattr(launch, "go_through", stop)
    config, path, narrator = (
        build_config({"output": str(tmp_path / "new" / "run")}),
        tmp_path / "new" / "run",
        Listener(),
    )
    with pytest.raises(Interrupted if isinstance(error, KeyboardInterrupt) else ModelError) as caught:
        launch.start_run(config, create_run_folder(config, "x"), None, narrator)
    told = [f"run: {path}", f"nothing was learned yet, so {path} is removed again"]
    assert narrator.said == (told if is_told else [])
    assert "resume" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
