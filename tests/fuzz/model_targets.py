"""The model of a finished run that somebody else made, one of its files changed and task.json made to agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from run_targets import SETTINGS, TEXTS, find_place, make_data, make_run_file, replacing
from target import Target

FILES = {
    "labelled": ("config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"),
    "language": (
        "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja",
        "generation_config.json", "tokenizer.json",
    ),
    "features": ("modules.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors"),
}  # fmt: skip


@cache
def make_features() -> None:
    """A head on mean-pooled features, which is saved as sentence-transformers saves it."""
    import afina

    place = find_place()
    settings = SETTINGS | {"pooling": "mean"}
    afina.fit(place / "bert", make_data("labelled"), "feature-extraction", output=place / "features", **settings)


def make_model_file(run: str, name: str) -> Callable[[Path], Sequence[bytes]]:
    def make(folder: Path) -> Sequence[bytes]:
        if run == "features":
            make_features()
        return make_run_file(f"model/{name}", run)(folder)

    return make


def answer(run: Any) -> None:
    """What a person does with a run."""
    if run.report["task"] == "text-generation":
        run.generate(TEXTS, max_new_tokens=2)
    else:
        run.predict(TEXTS)


def read_model_file(run: str, name: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        import afina
        from afina.runs.folder import RunFolder

        if run == "features":
            make_features()
        with replacing(f"model/{name}", data, run) as stage, replacing("task.json", b"", run):
            task = (find_place() / run / "task.json").read_bytes()
            (stage / "task.json").write_bytes(task)
            opened = RunFolder(stage)
            opened.write_task(opened.read_task())
            answer(afina.load(stage))

    return read


MODEL_TARGETS = [
    Target(f"{run} {name.replace('/', ' ')}", make_model_file(run, name), read_model_file(run, name))
    for run, names in FILES.items()
    for name in names
]
