"""A run from its description to its end, and what becomes of its folder when it is stopped or refused.

Torch is imported once the input was found right, so what is heavy is imported inside functions.
"""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from afina.config.run import RunConfig
from afina.errors import Interrupted, ProofError, ResourceError, RunFolderError, TrainingError
from afina.pipeline.changes import settle_device
from afina.pipeline.description import check_description, check_model_place
from afina.runs.folder import RunFolder
from afina.runs.lock import hold_folder
from afina.runs.names import KEPT_REASONS
from afina.runs.reasons import ReasonsFile

if TYPE_CHECKING:
    from afina.pipeline.narrator import Narrator
    from afina.pipeline.source import Opened


def start_run(config: RunConfig, folder: RunFolder, source: Any, narrator: Narrator) -> None:
    """Go through a new run; one that ends without a result or a checkpoint leaves no folder."""
    with hold_folder(folder.path, "afina train"):
        folder.clear_beginning()
        try:
            run_stages(config, folder, source, narrator)
        except BaseException as error:
            check_there(folder, error)
            is_kept = folder.is_finished or folder.checkpoints.exists() or isinstance(error, TrainingError | ProofError)
            if not is_kept:
                discard(folder, narrator)
            record_end(error, folder, narrator)
            raise_translated(error, folder)


def discard(folder: RunFolder, narrator: Narrator) -> None:
    """Remove the folder, and say so if it was already told where the run is."""
    was_told = folder.config.exists()
    folder.discard()
    if was_told:
        narrator.say(f"there is no checkpoint to go on from, so {folder.path} is removed again")


def resume_run(config: RunConfig, folder: RunFolder, source: Any, narrator: Narrator) -> None:
    """Go on with a run that was stopped; its folder stays whatever happens."""
    with hold_folder(folder.path, "afina resume"):
        if folder.is_finished:  # by the process that has just let go of it
            return
        check_description(folder, config, narrator)
        check_model_place(folder, config)
        config = settle_device(config, folder, narrator)
        try:
            run_stages(config, folder, source, narrator)
        except BaseException as error:
            check_there(folder, error)
            record_end(error, folder, narrator)
            raise_translated(error, folder)


def check_there(folder: RunFolder, error: BaseException) -> None:
    """Say it plainly where an error came of the folder of the run being removed while it was at work.

    Raises:
        RunFolderError: then.
    """
    if isinstance(error, Exception | Interrupted) and not folder.path.is_dir():
        raise RunFolderError(
            f"{folder.path} was removed or renamed while the run was at work in it",
            remedy="a new run with afina train, whose folder stays where it is until the end",
        ) from error


def tidy_finished(folder: RunFolder) -> None:
    """Remove what a run has left that was killed just after it had finished."""
    with hold_folder(folder.path, "afina resume"):
        folder.clear_remains()


def record_end(error: BaseException, folder: RunFolder, narrator: Narrator) -> None:
    """Write into status.json how the run has ended, where there is something to go on with."""
    folder.make_private()
    if narrator.status and folder.is_finished:
        narrator.status.tell("finished", seconds_left=None)
    elif narrator.status and folder.config.exists():
        state = "failed" if isinstance(error, Exception) else "interrupted"
        narrator.status.tell(
            state, resume=f"afina resume {shlex.quote(str(folder.path))}", error=str(error), seconds_left=None
        )


def raise_translated(error: BaseException, folder: RunFolder) -> NoReturn:
    """Raise the error as it is; where memory ran out, one that says so; for a ^C or another signal outside the loop one
    that tells how to resume."""
    if shortage := explain_shortage(error):
        raise shortage from error
    if isinstance(error, Exception | Interrupted):
        raise error
    kept = folder.path if folder.config.exists() else None
    raise Interrupted(getattr(error, "exit_code", 130), kept) from None


def explain_shortage(error: BaseException) -> ResourceError | None:
    """The error where memory ran out in a place that can't do with less, such as loading the model."""
    if not isinstance(error, RuntimeError | MemoryError):
        return None
    from afina.models.shortage import describe_shortage

    shortage = describe_shortage(error)
    if not shortage:
        return None
    remedy = "afina plan DATA --model REF shows which techniques fit, and with which settings"
    return ResourceError("this run doesn't fit into the memory", found=shortage, remedy=remedy)


def run_stages(config: RunConfig, folder: RunFolder, source: Any, narrator: Narrator) -> None:
    """Open, prepare, learn, finish."""
    from afina.pipeline.source import open_source
    from afina.training.memory import reset_peak_memory

    reset_peak_memory()
    narrator.keep_time(folder)
    folder.make_work()
    narrator.keep_reasons(ReasonsFile(folder.work / KEPT_REASONS))
    assert narrator.status
    narrator.status.tell("preparing", started_at=datetime.now(UTC).isoformat(timespec="seconds"))
    opened = open_source(config, folder, source, narrator)
    if opened.is_generation:
        run_language(config, folder, opened, narrator)
    else:
        run_labelled(config, folder, opened, narrator)
    narrator.status.tell("finished", seconds_left=None)


def run_labelled(config: RunConfig, folder: RunFolder, opened: Opened, narrator: Narrator) -> None:
    """The three stages where each row has a label. Torch is imported once the input was found right."""
    from afina.pipeline.prepare import prepare_run

    prepared = prepare_run(config, folder, opened, narrator)
    from afina.pipeline.choosing import is_open, learn_by_choice
    from afina.pipeline.finish import finish_run
    from afina.pipeline.learn import learn

    if is_open(config, folder) and not opened.is_tagging:
        prepared, learned = learn_by_choice(prepared, narrator)
    else:
        narrator.say(f"run: {folder.path}")
        learned = learn(prepared, narrator)
    finish_run(prepared, learned, narrator)


def run_language(config: RunConfig, folder: RunFolder, opened: Opened, narrator: Narrator) -> None:
    """The three stages of a language model."""
    from afina.pipeline.language.prepare import prepare_language

    prepared = prepare_language(config, folder, opened, narrator)
    narrator.say(f"run: {folder.path}")
    from afina.pipeline.language.finish import finish_language
    from afina.pipeline.language.learn import learn_language

    finish_language(prepared, learn_language(prepared, narrator), narrator)
