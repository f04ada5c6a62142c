"""What a person can do, in Python: the only caller of everything below it, and all that the command line calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from afina.config.given import anchor_paths, list_missing
from afina.config.keywords import collect_keywords, name_inputs
from afina.config.load import join_settings, load_config
from afina.config.run import RunConfig
from afina.errors import ConfigError
from afina.pipeline.changes import parse_allowed
from afina.pipeline.description import find_rows
from afina.pipeline.launch import resume_run, start_run, tidy_finished
from afina.runs.creation import create_run_folder
from afina.runs.folder import AnyRun, open_run
from afina.runs.names import REPORT

if TYPE_CHECKING:
    from afina.advice.plan import Plan
    from afina.pipeline.check_report import CheckReport
    from afina.pipeline.language.speaker import Speaker
    from afina.pipeline.narrator import Narrator
    from afina.pipeline.predictor import Predictor


class Run:
    """A finished run: its scores, and its model for use.

    Args:
        path: the folder that `fit` or `afina train` made.

    Raises:
        RunFolderError: if there is no such run, it isn't finished, or a file of it is damaged.
    """

    def __init__(self, path: AnyRun) -> None:
        folder = open_run(path)
        self.path = folder.path
        self.report: dict[str, Any] = folder.read_json(REPORT)
        self._predictor: Predictor | None = None
        self._speaker: Speaker | None = None

    def __repr__(self) -> str:
        name = f"{self.report.get('scored', 'test')}/{self.report['primary_metric']}"
        return f"Run({str(self.path)!r}, technique={self.technique!r}, {name}={self.metrics[name]:.4f})"

    @property
    def metrics(self) -> dict[str, float]:
        """Scores by name, such as `test/accuracy`."""
        return dict(self.report["metrics"])

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """95 % bootstrap intervals of some of the scores."""
        return {name: (low, high) for name, (low, high) in self.report["intervals"].items()}

    @property
    def baselines(self) -> dict[str, Any]:
        """Scores of the plain baselines on the same rows."""
        return dict(self.report["baselines"])

    @property
    def reasons(self) -> list[dict[str, Any]]:
        """Every automatic choice with its reason."""
        return list(self.report["reasons"])

    @property
    def technique(self) -> str:
        """How it was learned."""
        return str(self.report["technique"])

    @property
    def model(self) -> Path:
        """The folder of the model; report.html says how to load it without afina."""
        return self.path / "model"

    def predict(self, texts: Any) -> list[Any]:
        """The class name, the list of names, the number, or the list of words' tags for each text (or pair of texts, or
        list of words), in their order.

        The texts may stand in a list, a series or an array; of mappings or a frame those columns are taken that the
        model has learned from.

        For a language model the likeliest answer to each prompt.

        Raises:
            DataError: with what can't be read, or answered, in these texts.
        """
        if self.report["kind"] == "generation":
            return self.generate(texts)
        return [row["prediction"] for row in self._load().predict(texts)]

    def predict_proba(self, texts: Any) -> list[dict[str, float]]:
        """The probability of each class for each text, in their order.

        Raises:
            ConfigError: for regression and for a language model, which have none.
        """
        if self.report["kind"] == "generation":
            raise ConfigError("a language model has no probabilities of classes", remedy="run.generate(prompts)")
        if self.report["kind"] in ("entities", "tags"):
            raise ConfigError("tags of words have no such table", remedy="afina.predict(run, rows) gives `confidence`")
        rows = self._load().predict(texts)
        if rows and "probabilities" not in rows[0]:
            raise ConfigError("a regression has no probabilities", remedy="run.predict(texts)")
        return [row["probabilities"] for row in rows]

    def generate(
        self, prompts: Any, max_new_tokens: int = 256, *, temperature: float | None = None,
        top_p: float | None = None, seed: int = 0,
    ) -> list[str]:  # fmt: skip
        """The answer of a language model to each prompt: a text, or the messages of a conversation.

        The likeliest one, unless `temperature` or `top_p` is given: then tokens are drawn, the same for the same seed.

        Raises:
            ConfigError: if the run didn't train a language model, or a setting is out of range.
            DataError: with every prompt that can't be answered.
        """
        from afina.pipeline.language.decoding import Decoding
        from afina.pipeline.language.speaker import Speaker

        decoding = Decoding(max_new_tokens, temperature, top_p, seed)
        if self._speaker is None:
            self._speaker = Speaker.of_run(self.path)
        return self._speaker.answer(prompts, decoding)

    def _load(self) -> Predictor:
        from afina.pipeline.predictor import open_predictor

        if self._predictor is None:
            self._predictor = open_predictor(self.path)
        return self._predictor


def fit(
    model: str | Path | None = None,
    data: Any = None,
    technique: str | None = None,
    *,
    config: str | Path | None = None,
    verbose: bool = True,
    **settings: Any,
) -> Run:
    """A model adapted to the data, with its report.

    Args:
        model: folder, Hub id, or package:NAME/PATH.
        data: file, folder, Hub id, datasets.Dataset or DatasetDict, pandas frame, or list of dicts.
        technique: full, feature-extraction, lora, qlora or auto (the default): chosen by evidence, with its reason.
        config: YAML file with the same settings.
        verbose: whether to say on stderr what is going on.
        settings: any setting by its name (`learning_rate=2e-5`, `label_column="stars"`, `seed=1`) or, for those
            of a section, as a mapping (`lora={"r": 8}`).

    Raises:
        UserError: if the settings, the data or the model can't be used; nothing is left behind.
        Interrupted: after ^C while training; `resume` goes on.
    """
    in_memory = data is not None and not isinstance(data, str | Path)
    named = name_inputs(model, data) | ({} if technique is None else {"technique": technique})
    overrides = join_settings([*named.items(), *collect_keywords(settings, fit).items()])
    description = load_config(Path(config) if config else None, overrides)
    check_complete(description, in_memory)
    description = anchor_paths(description)
    return start(description, data if in_memory else description.data.path, make_narrator(verbose))


def check_complete(config: RunConfig, in_memory: bool) -> None:
    """Refuse a description without data or model, both at once."""
    problems = list_missing(config, in_memory, "afina train DATA ...", "afina.fit(model, data)")
    if problems:
        raise ConfigError(problems=problems)


def start(config: RunConfig, source: Any, narrator: Narrator) -> Run:
    """A new run from its description; a run that ends without a result or a checkpoint leaves no folder."""
    data_name = Path(str(config.data.path)).stem if config.data.path else "data"
    folder = create_run_folder(config, data_name)
    start_run(config, folder, source, narrator)
    return Run(folder.path)


def resume(run: AnyRun, data: Any = None, *, allow_changes: str | Sequence[str] = (), verbose: bool = True) -> Run:
    """A run that was stopped, gone on with to its end; a finished run is given as it is.

    Args:
        data: the rows again, for a run whose data was in memory or lies elsewhere now.
        allow_changes: what may have changed since it began: some of config, device, model, versions.

    Raises:
        RunFolderError: if there is no such run, its data has changed, or something else that isn't allowed to.
    """
    folder, narrator = open_run(run), make_narrator(verbose)
    folder.allowed_changes = parse_allowed(allow_changes)
    if folder.is_finished:
        tidy_finished(folder)
        narrator.say(f"{folder.path} is finished: nothing is left to do, the model is in {folder.model}")
        return Run(folder.path)
    config = folder.read_description()
    resume_run(config, folder, find_rows(folder, config, data, "resume"), narrator)
    return Run(folder.path)


def load(run: AnyRun) -> Run:
    """A finished run, for its scores and predictions.

    Raises:
        RunFolderError: as `Run`.
    """
    return Run(run)


def predict(run: AnyRun, data: Any, **decoding: Any) -> list[dict[str, Any]]:
    """Predictions for all rows of `data`, in their order.

    Each row keeps its columns; `prediction` and, for classes, `confidence` are added, or `model_prediction` and
    `model_confidence` where a column that the run learned from has one of these names. A row without text gets None.
    For tagged words both are lists, with `predicted_entities` beside them and, for texts, `words`.

    Args:
        decoding: for a language model `max_new_tokens`, `temperature`, `top_p` and `seed`, see `Run.generate`.

    Raises:
        DataError: if the data can't be read or has no text column.
        ConfigError: for settings of decoding where no language model was trained, or one that is out of range.
    """
    from afina.pipeline.prediction import predict_rows

    return list(predict_rows(open_run(run), data, decoding, make_narrator(False)))


def predict_file(
    run: AnyRun, data: Any, output: str | Path, *, verbose: bool = True, **decoding: Any
) -> tuple[Path, int, list[int]]:
    """`predict` written to the file `output` (jsonl, csv, tsv), which appears whole or not at all.

    A csv of semicolons, tabs or vertical bars stays one. Gives the file, how many rows it has, and the numbers of those
    that have nothing to predict from. Answers of a language model are kept beside it until then: the same call after a
    ^C or a kill goes on with them.

    Raises:
        DataError: if the data can't be read or has no text column.
        RunFolderError: if the output exists already or can't be written.
    """
    from afina.pipeline.prediction import predict_to_file

    return predict_to_file(open_run(run), data, Path(output), decoding, make_narrator(verbose))


def evaluate(run: AnyRun, data: Any, *, on_bad_rows: Literal["fail", "drop"] = "fail") -> dict[str, Any]:
    """Scores on labelled rows: `metrics`, `intervals`, `rows`, and `rows_seen`: how many of them the model learned from
    (None where the run's folder doesn't say; `notes` tell why). Scores on such rows flatter.

    Args:
        on_bad_rows: `drop` leaves out rows that can't be scored, as those of a class that the model doesn't know, and
            names them in `notes`.

    Raises:
        DataError: if rows have no label, or one that the model doesn't know.
    """
    if on_bad_rows not in ("fail", "drop"):
        raise ConfigError("on_bad_rows doesn't fit", found=repr(on_bad_rows), expected="fail or drop")
    folder = open_run(run)
    if folder.read_task()["task"] == "text-generation":
        from afina.pipeline.language.evaluate import evaluate_language

        return evaluate_language(folder, data, on_bad_rows)
    from afina.pipeline.evaluation import evaluate_labelled

    return evaluate_labelled(folder, data, on_bad_rows)


def merge(run: AnyRun, output: str | Path) -> Path:
    """The folder `output` with the adapter of a run folded into its base: one ordinary transformers model.

    Raises:
        ConfigError: if the technique of the run has no adapter.
        RunFolderError: if the output holds something already.
        ProofError: if the merged model doesn't give the logits of the unmerged one.
    """
    from afina.pipeline.merging import merge_run

    return merge_run(open_run(run), Path(output))


def open_chat(reference: str, **template: Any) -> Speaker:
    """A language model to talk to: of a finished run, or as it was published.

    Args:
        template: settings of the model's chat template, for one as it was published: `chat_template` and
            `chat_template_kwargs`.

    Raises:
        UserError: if it is neither.
    """
    from afina.pipeline.language.speaker import Speaker

    return Speaker.of(reference, template)


def check(
    data: Any,
    model: str | Path | None = None,
    *,
    fix: str | Path | None = None,
    html: str | Path | None = None,
    show_mask: int = 0,
    verbose: bool = False,
    **settings: Any,
) -> CheckReport:
    """What is wrong with the data, before anything is trained: `findings`, `facts`, `print()`, `to_dict()`.

    Args:
        data: as for `fit`.
        model: counts its tokens, looks for wrong labels, and shows what would be learned of conversations.
        fix: where a cleaned copy goes; the data itself is never touched.
        html: where the report goes as a page.
        show_mask: how many conversations to show as stretches of text, learned or only read.
        verbose: whether to say on stderr how far it is.
        settings: as for `fit`.

    Raises:
        UserError: if the data can't be read, the model can't be used, or the copy can't be written.
    """
    from afina.pipeline.check import Wanted, check_data

    wanted = Wanted(show_mask, Path(fix) if fix else None, Path(html) if html else None)
    return check_data(describe_question(data, model, settings, check), data, wanted, make_narrator(verbose))


def plan(
    data: Any, model: str | Path, *, device: str | None = None, device_memory: str | None = None,
    measure: bool = False, **settings: Any,
) -> Plan:  # fmt: skip
    """What each technique would cost: peak memory in parts, time, disk, and whether it fits; nothing is trained.

    Args:
        data: as for `fit`.
        model: as for `fit`.
        device: cpu, cuda, mps, or a known GPU such as rtx-4090, for another machine than this one.
        device_memory: memory of that machine with its unit, such as 24GB.
        measure: whether to take a few real steps, in a process of their own, to correct the figures.
        settings: as for `fit`.

    Raises:
        UserError: if the data, the model or the description of the machine can't be used.
    """
    from afina.pipeline.plan import plan_run

    config = describe_question(data, model, settings, plan)
    return plan_run(config, data, device=device, device_memory=device_memory, measure=measure)


def describe_question(
    data: Any, model: str | Path | None, settings: Mapping[str, Any], function: Callable[..., Any]
) -> RunConfig:
    """The description of a run that `function` only asks about."""
    named = name_inputs(model, data)
    return load_config(None, join_settings([*named.items(), *collect_keywords(settings, function).items()]))


def list_runs(root: str | Path = "runs") -> list[dict[str, Any]]:
    """The runs under `root`, newest first: path, state, task, technique, model and main score.

    Of one with a damaged file the state is `damaged`, with the `reason`.

    Raises:
        RunFolderError: if there is no such folder.
    """
    from afina.runs.listing import list_runs as list_folder

    return list_folder(Path(root))


def compare(*runs: AnyRun) -> dict[str, Any]:
    """Scores of two or more runs side by side, and the settings in which they differ.

    Raises:
        ConfigError: for fewer than two runs, or for runs of different tasks.
        RunFolderError: if one isn't there, isn't finished, or has a damaged file.
    """
    from afina.runs.comparison import compare_runs

    return compare_runs([open_run(run) for run in runs])


def make_narrator(verbose: bool) -> Narrator:
    """One that prints, or one that doesn't."""
    from afina.pipeline.narrator import ConsoleNarrator, Narrator

    return ConsoleNarrator() if verbose else Narrator()
