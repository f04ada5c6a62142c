"""What a person gives of a description: whether all is there that a run needs, and where it lies."""

from __future__ import annotations

from pathlib import Path

from afina.config.run import RunConfig
from afina.errors import Problem


def list_missing(config: RunConfig, in_memory: bool, command: str, call: str) -> list[Problem]:
    """Problems for a description without data or model.

    Args:
        command: and `call`: ways to give data.
    """
    problems = []
    if config.data.path is None and not in_memory:
        expected = "a file, a folder or a Hub id"
        problems.append(Problem("no data was given", expected=expected, remedy=f"{command}, or {call}"))
    if config.model.reference is None:
        expected = "a folder, a Hub id or package:NAME/PATH"
        problems.append(Problem("no model was given", expected=expected, remedy=f"--model REF, or {call}"))
    return problems


def anchor_paths(config: RunConfig) -> RunConfig:
    """The description with whole paths for what lies on this disk, so that it means the same from any folder."""
    data, model = config.data, config.model
    if data.path and Path(data.path).exists():
        data = data.model_copy(update={"path": str(Path(data.path).resolve())})
    files = {"reference": model.reference}
    if model.chat_template not in ("auto", "chatml", "none"):
        files["chat_template"] = model.chat_template
    whole = {name: str(Path(path).resolve()) for name, path in files.items() if path and Path(path).exists()}
    model = model.model_copy(update=whole)
    return config.model_copy(update={"data": data, "model": model})
