"""What a person gives of a description: whether all is there that a run needs, and where it lies."""

from __future__ import annotations

from afina.config.run import BUILT_IN_TEMPLATES, RunConfig
from afina.durable import expand_home
from afina.errors import Problem


def list_missing(
    config: RunConfig, in_memory: bool, command: str, call: str, *, needs_model: bool = True
) -> list[Problem]:
    """Problems for a description without data or model.

    Args:
        command: and `call`: ways to give data.
    """
    problems = []
    if config.data.path is None and not in_memory:
        expected = "a file, a folder or a Hub id"
        problems.append(Problem("no data was given", expected=expected, remedy=f"{command}, or {call}"))
    if needs_model and config.model.reference is None:
        expected = "a folder, a Hub id or package:NAME/PATH"
        problems.append(Problem("no model was given", expected=expected, remedy=f"--model REF, or {call}"))
    return problems


def anchor_paths(config: RunConfig) -> RunConfig:
    """The description with whole paths for what lies on this disk, so that it means the same from any folder; `~` is
    the user's home in all of them."""
    files = {"reference": config.model.reference}
    if config.model.chat_template not in BUILT_IN_TEMPLATES:
        files["chat_template"] = config.model.chat_template
    update = {
        "data": config.data.model_copy(update={"path": _anchor(config.data.path)}),
        "model": config.model.model_copy(update={name: _anchor(path) for name, path in files.items()}),
        "output": config.output and str(expand_home(config.output)),
    }
    return config.model_copy(update=update)


def _anchor(path: str | None) -> str | None:
    """The whole path of what is there; anything else, such as a Hub id, as it is."""
    whole = expand_home(path) if path else None
    return str(whole.resolve()) if whole and whole.exists() else path
