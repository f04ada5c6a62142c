"""What a search is to do: the description that its trials share, its techniques, its metric and its limits."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from afina.config.load import build_config, list_problems
from afina.config.run import RunConfig, TechniqueName
from afina.config.techniques import AUTO, IN_4_BITS, MOVING, SOLVED
from afina.config.unread import leave_unread_out
from afina.errors import ConfigError, Problem

if TYPE_CHECKING:
    from afina.pipeline.search.workbench import Workbench

# What is tried beside the default. QLoRA saves memory but brings nothing else, so it is for those who ask, and for
# machines where nothing else fits.
TECHNIQUES = {"labelled": ("feature-extraction", "full", "lora"), "generation": ("lora", "full")}
SCORES = {
    "multiclass": ("accuracy", "f1_macro", "f1_weighted", "mcc", "loss"),
    "multilabel": ("f1_micro", "f1_macro", "subset_accuracy", "hamming_loss", "loss"),
    "regression": ("rmse", "mae", "r2", "pearson", "spearman"),
    "entities": ("f1", "precision", "recall", "accuracy", "loss"),
    "tags": ("accuracy", "f1_macro", "loss"),
    "generation": ("loss", "perplexity", "token_accuracy"),
}
# Neither tells trials apart: baselines and general text are the same for all, and the test part is for the end.
EVALUATION_OF_TRIALS = {"score_test": False, "baselines": False, "generation_samples": 0, "general_text": False}


@dataclass(frozen=True)
class SearchPlan:
    """The wishes of the person who searches, as search.json keeps them."""

    config: RunConfig
    """What all trials share; its technique is that of the first one, once it is known."""
    given: tuple[str, ...]
    """Paths of the settings that were given, which no trial changes."""
    budget_seconds: float
    techniques: tuple[str, ...] = ()
    """In the order of their first trials; empty until the task is known."""
    metric: str = ""
    """Score of the validation part; empty for the task's own."""
    most_trials: int = 0
    """0 for no limit but the budget."""
    storage: str = ""
    """URL of an Optuna storage, as it may be shown; empty for a file in the search's folder."""
    key: str = ""
    """Tells this search's trials from those of others in the same storage."""

    def as_dict(self) -> dict[str, Any]:
        """For search.json."""
        return {**asdict(replace(self, config=RunConfig())), "config": self.config.model_dump(mode="json")}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> SearchPlan:
        """The inverse."""
        lists = {name: tuple(stored[name]) for name in ("given", "techniques")}
        try:
            config = RunConfig.model_validate(stored["config"])
        except ValidationError as error:
            raise ConfigError(problems=list_problems(error)) from None
        return cls(**{**{name: stored[name] for name in cls.__dataclass_fields__}, **lists, "config": config})

    @property
    def first_technique(self) -> str:
        """The technique that the search starts with: `auto` where none was named, as in a run."""
        return self.techniques[0] if self.techniques else self.config.technique

    def shared_config(self) -> RunConfig:
        """The description of the first trial."""
        return self.configure(self.first_technique, {})

    def configure(self, technique: str, settings: dict[str, Any], *, is_trial: bool = True) -> RunConfig:
        """The description of one trial, or of a run that is scored on the test part.

        Args:
            settings: by path, such as `training.learning_rate`.
        """
        tree = leave_unread_out(self.config.model_dump(exclude={"output"}), technique)
        tree["technique"] = technique
        for path, value in settings.items():
            section, name = path.split(".")
            tree[section][name] = value
        if is_trial:
            tree["evaluation"] |= EVALUATION_OF_TRIALS
        return build_config(tree)


def settle_plan(plan: SearchPlan, bench: Workbench) -> SearchPlan:
    """The plan once the task is known: techniques and metric chosen, or those that were given checked.

    Raises:
        ConfigError: with a problem for each that doesn't fit.
    """
    kind, primary_metric = bench.kind, bench.primary_metric
    techniques = settle_techniques(plan, bench)
    metric = plan.metric or primary_metric
    problems = [*list_unfit(techniques, kind), *list_uneven(plan.config)]
    if metric not in SCORES[kind]:
        problems.append(
            Problem(
                f"the metric {metric} can't be searched by",
                expected=f"for this task one of {', '.join(SCORES[kind])}", remedy=f"--metric {primary_metric}",
            )
        )  # fmt: skip
    if problems:
        raise ConfigError(problems=problems)
    return replace(plan, techniques=techniques, metric=metric, key=plan.key or secrets.token_hex(8))


def settle_techniques(plan: SearchPlan, bench: Workbench) -> tuple[str, ...]:
    """The techniques in the order of their first trials: those that were named, or else the one of the description,
    `auto` if it has none, and the usual others as far as they are installed and fit into memory."""
    asked = plan.techniques or (plan.config.technique,)
    named = [bench.first_technique if name == AUTO else name for name in asked]
    if plan.techniques not in ((), (AUTO,)):
        return tuple(dict.fromkeys(named))
    fits = bench.check_techniques()
    usual = [name for name in TECHNIQUES["generation" if bench.kind == "generation" else "labelled"] if fits[name]]
    if not {*MOVING} & {*usual}:
        usual += [name for name in IN_4_BITS if fits.get(name)]
    return tuple(dict.fromkeys((*named, *usual)))


def check_language_model(plan: SearchPlan) -> None:
    """Refuse, before a language model is prepared, techniques that can't learn it.

    Raises:
        ConfigError: naming those that can.
    """
    problems = list_unfit(plan.techniques or (plan.first_technique,), "generation")
    if problems:
        raise ConfigError(problems=problems)


def list_unfit(techniques: Sequence[str], kind: str) -> list[Problem]:
    """A problem for each technique that can't learn the task."""
    unfit = [name for name in techniques if name in SOLVED] if kind == "generation" else []
    return [
        Problem(
            f"{name} has no meaning for a language model, which has no head but its own",
            expected="lora, full, qlora", remedy="--techniques lora,full",
        )
        for name in unfit
    ]  # fmt: skip


def list_uneven(config: RunConfig) -> list[Problem]:
    """A problem for each setting by which trials would not be compared after whole epochs."""
    given = {name: getattr(config.training, name) for name in ("max_steps", "eval_steps")}
    return [
        Problem(
            f"training.{name} has no meaning in a search: it varies the epochs, and compares after each",
            f"{name}={value}", remedy=f"leave {name} out",
        )
        for name, value in given.items() if value
    ]  # fmt: skip


def parse_techniques(text: str | Sequence[str] | None) -> tuple[str, ...]:
    """The techniques of `lora,full`, or of a list.

    Raises:
        ConfigError: for a name that no technique has.
    """
    if not text:
        return ()
    names = [name.strip() for name in text.split(",")] if isinstance(text, str) else list(text)
    known = get_args(TechniqueName)
    if AUTO in names[1:]:
        raise ConfigError(
            "'auto' can only be the first technique of a search: it is the default that the others are held against",
            found=",".join(names), remedy=f"--techniques {','.join([AUTO, *(name for name in names if name != AUTO)])}",
        )  # fmt: skip
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"there is no technique {', '.join(map(repr, unknown))}", expected=", ".join(known),
            remedy="--techniques lora,full",
        )  # fmt: skip
    return tuple(dict.fromkeys(names))
