"""The folder of a run that somebody else made: one of its files is the input, and the verbs that read it are called."""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

from target import Target

SETTINGS = {
    "num_train_epochs": 1, "precision": "fp32", "bootstrap_resamples": 10, "baselines": False, "verbose": False,
    "seed": 1,
}  # fmt: skip
OF_LANGUAGE = {"generation_samples": 0, "general_text": False, "chat_template": "chatml"}
KINDS = ("labelled", "language")
TEXTS = ["a text", "another one"]


class Stopped(Exception):
    """What ends a run here before it is finished."""


def make_folder() -> Path:
    """A folder that is there until the process ends."""
    path = Path(tempfile.mkdtemp(prefix="afina-fuzz-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def make_data(kind: str) -> list[dict[str, Any]]:
    from afina.testing.data import make_conversations, make_rows

    return make_rows("multiclass", 24) if kind == "labelled" else make_conversations("messages", 12)


def stop(*_: Any) -> None:
    raise Stopped


@cache
def find_place() -> Path:
    """A folder with models, and runs on them: finished ones, and ones that were stopped when they had learned all."""
    from transformers.utils.logging import disable_progress_bar

    import afina
    from afina.testing.models import save_tiny_model

    disable_progress_bar()
    place = make_folder()
    for kind, family in (("labelled", "bert"), ("language", "llama")):
        model, technique = save_tiny_model(family, place / family), "full" if kind == "labelled" else "lora"
        settings = SETTINGS | (OF_LANGUAGE if kind == "language" else {})
        afina.fit(model, make_data(kind), technique, output=place / kind, **settings)
        with stopping(), contextlib.suppress(Stopped):
            afina.fit(model, make_data(kind), technique, output=place / f"{kind}-stopped", **settings)
    with stopping(), contextlib.suppress(Stopped):
        afina.fit(place / "bert", make_data("labelled"), output=place / "auto-stopped", **SETTINGS)
    return place


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """Runs end when they have learned all, before the model is saved; their folders stay."""
    finishing = ("afina.pipeline.finish.finish_run", "afina.pipeline.language.finish.finish_language")
    with (
        mock.patch(finishing[0], stop),
        mock.patch(finishing[1], stop),
        mock.patch("afina.pipeline.launch.discard"),
    ):
        yield


def make_run_file(name: str, *runs: str) -> Callable[[Path], Sequence[bytes]]:
    return lambda folder: [(find_place() / run / name).read_bytes() for run in runs]


@cache
def find_stage(run: str) -> Path:
    """A copy of a run of which one file after the other is replaced; nothing else of it changes."""
    return Path(shutil.copytree(find_place() / run, make_folder() / "run"))


@contextlib.contextmanager
def replacing(name: str, data: bytes, run: str = "labelled") -> Iterator[Path]:
    """A finished run with another file of this name, put back afterwards."""
    stage = find_stage(run)
    (stage / name).write_bytes(data)
    try:
        yield stage
    finally:
        shutil.copyfile(find_place() / run / name, stage / name)


def call(verb: Callable[..., Any], *given: Any) -> None:
    """A verb of the command line; what it prints must be text."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        verb(*given)
    out.getvalue().encode()


def read_report(data: bytes, folder: Path) -> None:
    """report.json, listed, compared and shown."""
    import afina
    from afina.cli.compare import compare
    from afina.cli.output import print_run
    from afina.cli.runs import runs

    kind = "language" if b'"generation"' in data else "labelled"
    with replacing("report.json", data, kind) as stage:
        run = afina.load(stage)
        assert repr(run)
        assert all(len(bounds) == 2 for bounds in run.intervals.values())
        assert all(each is not None for each in (run.metrics, run.technique, run.reasons, run.baselines))
        for as_json in (False, True):
            call(runs, str(stage.parent), as_json)
            call(compare, [str(stage), str(find_place() / kind)], as_json)
        call(print_run, run.report)


def read_scores(data: bytes, folder: Path) -> None:
    """row_scores.jsonl, compared with those of the run itself."""
    from afina.cli.compare import compare

    kind = "language" if b'"tokens"' in data else "labelled"
    with replacing("row_scores.jsonl", data, kind) as stage:
        call(compare, [str(stage), str(find_place() / kind)], True)


def make_statuses(folder: Path) -> Sequence[bytes]:
    (found,) = make_run_file("status.json", "labelled-stopped")(folder)
    return [json.dumps(json.loads(found) | change).encode() for change in ({}, {"state": "training"}, {"host": "far"})]


def read_status(data: bytes, folder: Path) -> None:
    """status.json of a run that was stopped, listed."""
    from afina.cli.runs import runs

    with replacing("status.json", data, "labelled-stopped") as stage:
        call(runs, str(stage.parent), False)


def read_seen(data: bytes, folder: Path) -> None:
    """seen_texts.npy."""
    import numpy as np

    from afina.runs.folder import RunFolder
    from afina.runs.seen_texts import read_seen_texts

    (folder / "seen_texts.npy").write_bytes(data)
    read_seen_texts(RunFolder(folder)).count(np.arange(3))


def read_description(data: bytes, folder: Path) -> None:
    """config.yaml of a finished run, up to its predictions."""
    import afina

    with replacing("config.yaml", data) as stage:
        afina.load(stage).predict(TEXTS)


def read_beginning(name: str, *runs: str) -> Callable[[bytes, Path], None]:
    """A file of runs that were stopped, which go on up to where they were stopped."""

    def read(data: bytes, folder: Path) -> None:
        import afina

        for run in runs:
            stage = folder / run
            shutil.copytree(find_place() / run, stage)
            (stage / name).write_bytes(data)
            with stopping(), contextlib.suppress(Stopped):
                afina.resume(stage, make_data(run.partition("-")[0].replace("auto", "labelled")), verbose=False)

    return read


def read_history_file(data: bytes, folder: Path) -> None:
    """metrics.jsonl of a run that goes on, and the charts of its report."""
    from afina.evaluation.report import draw_charts
    from afina.training.callbacks.history import HistoryWriter, read_history
    from afina.training.events import TrainingPlan

    path = folder / "metrics.jsonl"
    path.write_bytes(data)
    writer = HistoryWriter(path, 1)
    writer.on_train_begin(TrainingPlan(5, 1, 4))
    writer.on_step_end(5, {"loss": 1.0, "epoch": 1.0, "learning_rate": 0.1})
    report = json.loads((find_place() / "labelled" / "report.json").read_bytes())
    draw_charts(report | {"history": read_history(path)})


RUN_TARGETS = [
    Target("run report.json", make_run_file("report.json", *KINDS), read_report),
    Target("run row_scores.jsonl", make_run_file("row_scores.jsonl", *KINDS), read_scores),
    Target("run status.json", make_statuses, read_status),
    Target("run seen_texts.npy", make_run_file("seen_texts.npy", "labelled"), read_seen),
    Target("run metrics.jsonl", make_run_file("metrics.jsonl", "labelled"), read_history_file),
    Target("run config.yaml", make_run_file("config.yaml", "labelled"), read_description),
    *(
        Target(f"stopped {name}", make_run_file(name, *runs), read_beginning(name, *runs))
        for name, runs in (
            ("config.yaml", ("labelled-stopped",)),
            ("data.json", ("labelled-stopped",)),
            ("origin.json", ("labelled-stopped",)),
            ("choice.json", ("auto-stopped",)),
            ("base.json", ("language-stopped",)),
        )
    ),
]
