"""Optuna's side of a search: where the study is stored, how trials are proposed and halved, what can go wrong there.

Optuna's own log is silenced: what there is to say, the search says.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from afina.advice.search.entry import Entry
from afina.advice.search.halving import is_in_worse_half, is_rung
from afina.advice.search.space import Proposal, Space
from afina.errors import ConfigError, MissingExtraError, RunFolderError
from afina.training.seed import derive_seed

if TYPE_CHECKING:
    import optuna

SQLITE = "sqlite:///"
KNOWN_STORAGES = "sqlite:///FILE, postgresql://USER@HOST/DATABASE or mysql+pymysql://USER@HOST/DATABASE"
LOCK_SECONDS = 20
# Trials before the sampler follows what it has learned: the defaults, and then neighbours of the best one. Of fewer it
# would learn no more than where the best one lies, and propose that very point again, changed by a hair.
STARTUP_TRIALS = 8
# The share of the trials that count as good ones. Optuna's tenth would be a single one up to twenty trials.
GOOD_SHARE = 0.25
ENTRY = "entry"


def import_optuna() -> Any:
    """optuna, silent.

    Raises:
        MissingExtraError: if it isn't installed.
    """
    try:
        import optuna
    except ImportError:
        raise MissingExtraError("optuna", "search", "afina search") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def hide_password(url: str) -> str:
    """The URL as it may be shown and stored."""
    from sqlalchemy.engine import make_url

    return make_url(url).render_as_string(hide_password=True)


class Ledger:
    """The study: what was tried, on this machine and on others, and what is to be tried next.

    Each trial carries an `entry`, a mapping that says what became of it.

    Args:
        url: of the storage.
        name: of the study; machines that share storage and name share what they learn.
        seed: of the proposals.
        is_shared: whether other machines may be asking, too.

    Raises:
        ConfigError: if the URL is not one of a storage, or its driver is missing.
        RunFolderError: from here on and in every method, if the storage can't be used.
    """

    def __init__(self, url: str, name: str, is_larger_better: bool, seed: int, is_shared: bool = True) -> None:
        library = import_optuna()
        check_url(url)
        self.url, self._seed, self._is_larger_better = url, seed, is_larger_better
        options = {"connect_args": {"timeout": LOCK_SECONDS}} if url.startswith("sqlite") else {"pool_pre_ping": True}
        with guard_storage(url), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study: optuna.Study = library.create_study(
                storage=library.storages.RDBStorage(url, engine_kwargs=options), study_name=name, load_if_exists=True,
                direction="maximize" if is_larger_better else "minimize", pruner=library.pruners.NopPruner(),
            )  # fmt: skip
            self._abandoned = [] if is_shared else self._list_abandoned()

    def ask(self, place: int, fixed: Mapping[str, Any] | None = None) -> optuna.trial.Trial:
        """A new trial. What is proposed depends on the seed, the place and the trials so far alone.

        Args:
            place: how many trials this search has asked for before.
            fixed: the trial's parameters, where they are not to be proposed.
        """
        library = import_optuna()
        with self._guard(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `group` and fixed parameters are marked as experimental
            # One sampler a trial, so that a resumed search proposes what an uninterrupted one would.
            sampler = library.samplers.TPESampler(
                seed=derive_seed(self._seed, "trial", place) % 2**32, n_startup_trials=STARTUP_TRIALS,
                multivariate=True, group=True, warn_independent_sampling=False, gamma=count_good,
            )  # fmt: skip
            self._study.sampler = library.samplers.PartialFixedSampler(dict(fixed), sampler) if fixed else sampler
            return self.reopen(self._abandoned.pop(0)) if self._abandoned else self._study.ask()

    def _list_abandoned(self) -> list[int]:
        """Trials that were asked for and never got an entry: a kill came first. They are given out again."""
        states = import_optuna().trial.TrialState
        running = self._study.get_trials(deepcopy=False, states=(states.RUNNING,))
        return [each.number for each in running if ENTRY not in each.user_attrs]

    def propose(self, space: Space, trial: optuna.trial.Trial) -> Proposal:
        """The trial's point of the space."""
        with self._guard(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return space.suggest(trial)

    def place(self, trial: optuna.trial.Trial, space: Space, parameters: Mapping[str, Any]) -> None:
        """Give a trial that was asked for no parameters those that it turned out to have."""
        samplers = import_optuna().samplers
        with self._guard(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._study.sampler = samplers.PartialFixedSampler(dict(parameters), samplers.RandomSampler(0))
            space.suggest(self.reopen(trial.number))

    def reopen(self, number: int) -> optuna.trial.Trial:
        """A trial that was stopped in the middle."""
        library = import_optuna()
        with self._guard():
            trial_id = self._study._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, number)
            return library.trial.Trial(self._study, trial_id)

    def note(self, trial: optuna.trial.Trial, entry: Mapping[str, Any]) -> None:
        """Store what is known of a trial."""
        with self._guard():
            trial.set_user_attr(ENTRY, dict(entry))

    def report(self, trial: optuna.trial.Trial, score: float, epoch: int) -> bool:
        """Store the score after an epoch; gives whether the trial is in the worse half there and should end.

        Asked twice, as after a kill, it answers the same.
        """
        with self._guard():
            known = {each.number: each.intermediate_values for each in self._study.get_trials(deepcopy=False)}
            if epoch not in known.pop(trial.number):
                trial.report(score, epoch)
        others = [values[epoch] for values in known.values() if epoch in values]
        return is_rung(epoch) and is_in_worse_half(score, others, self._is_larger_better)

    def tell(self, trial: optuna.trial.Trial, state: str, score: float | None = None) -> None:
        """End a trial: `finished` with its score, `stopped` after some epochs, or `failed` before the first one."""
        library = import_optuna()
        states = library.trial.TrialState
        with self._guard():
            if state == "finished":
                self._study.tell(trial, score)
            else:
                self._study.tell(trial, state=states.PRUNED if state == "stopped" else states.FAIL)

    def entries(self) -> list[Entry]:
        """The entries of all trials that have one, with their number (`trial`) and whether they ended (`is_told`)."""
        with self._guard():
            found = self._study.get_trials(deepcopy=False)
        return [
            cast(Entry, {**each.user_attrs[ENTRY], "trial": each.number, "is_told": each.state.is_finished()})
            for each in found
            if ENTRY in each.user_attrs
        ]

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Every access to the storage goes through here."""
        check_storage_exists(self.url)
        with guard_storage(self.url):
            yield


def count_good(trials: int) -> int:
    """How many of so many trials the sampler takes for good ones."""
    return math.ceil(GOOD_SHARE * trials)


def check_url(url: str) -> None:
    """Refuse what no database driver here can open."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(url).get_dialect().import_dbapi()
    except NoSuchModuleError:
        scheme = url.partition(":")[0]
        raise ConfigError(
            f"no storage has the scheme {scheme}", found=hide_password(url), expected=KNOWN_STORAGES
        ) from None
    except ArgumentError:
        raise ConfigError("the storage is not a URL", found=url, expected=KNOWN_STORAGES) from None
    except ImportError as error:
        raise ConfigError(
            f"the storage {hide_password(url)} needs the Python package {error.name}",
            remedy=f"pip install {error.name}",
        ) from None


def find_file(url: str) -> Path | None:
    """The file of an SQLite storage; None for a server."""
    return Path(url.removeprefix(SQLITE)) if url.startswith(SQLITE) else None


def check_storage_exists(url: str) -> None:
    """Refuse to go on where the file of a study was taken away: SQLite would begin an empty one."""
    path = find_file(url)
    if path is not None and not path.is_file():
        raise RunFolderError(
            f"the storage {url} is gone", expected="the file that the search began with",
            remedy="bring it back; the trials so far are ordinary runs: afina compare RUN RUN",
        )  # fmt: skip


@contextlib.contextmanager
def guard_storage(url: str) -> Iterator[None]:
    """Turns what a database raises into an error that says what became of the storage."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    path = find_file(url)
    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as raised:
        error: BaseException = raised
        while error.__cause__ is not None:  # the database's own words, without the statement around them
            error = error.__cause__
        cause = str(error)
        if "locked" in cause:
            what, remedy = "is locked by another program", "end that program"
        elif path is not None and not path.parent.is_dir():
            what, remedy = "can't be made: its folder doesn't exist", "another --storage"
        else:
            what, remedy = "can't be used", "bring it back"
        raise RunFolderError(f"the storage {hide_password(url)} {what}", found=cause, remedy=remedy) from None
