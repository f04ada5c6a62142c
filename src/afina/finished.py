"""What can be done with a finished run: look at its scores, use its model, score it on other rows, merge it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from afina.config.run import GENERATION
from afina.durable import expand_home
from afina.errors import ConfigError
from afina.isolation import isolate, isolated, public
from afina.pipeline.narrator import make_narrator
from afina.runs.folder import AnyRun, find_path, open_run
from afina.runs.names import REPORT
from afina.summary import summarise_run

if TYPE_CHECKING:
    from afina.pipeline.language.speaker import Speaker
    from afina.pipeline.prediction import PredictedFile
    from afina.pipeline.predictor import Predictor


class Run:
    """A finished run: its scores, and its model for use.

    Args:
        path: the folder that `fit` or `afina train` made.

    Raises:
        RunFolderError: if there is no such run, it isn't finished, or a file of it is damaged.
    """

    @public
    def __init__(self, path: AnyRun) -> None:
        folder = open_run(find_path(path).resolve())
        self.path = folder.path
        self.report: dict[str, Any] = folder.read_json(REPORT)
        self._predictor: Predictor | None = None
        self._speaker: Speaker | None = None

    def __repr__(self) -> str:
        name = f"{self.report.get('scored', 'test')}/{self.report['primary_metric']}"
        return f"Run({str(self.path)!r}, technique={self.technique!r}, {name}={self.metrics[name]:.4f})"

    def __str__(self) -> str:
        return summarise_run(self.report)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path,)  # the model is loaded anew where it is needed

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
    def task(self) -> str:
        """What it was learned for, such as `text-classification`."""
        return str(self.report["task"])

    @property
    def model(self) -> Path:
        """The folder of the model; report.html says how to load it without afina."""
        return self.path / "model"

    @public
    def predict(self, texts: Any, **decoding: Any) -> list[Any]:
        """The class name, the list of names, the number, or the list of words' tags for each text (or pair of texts, or
        list of words), in their order.

        The texts may stand in a list, a series or an array; of mappings or a frame those columns are taken that the
        model has learned from.

        For a language model the answer to each prompt, the likeliest one unless `decoding` says otherwise, see
        `generate`.

        Raises:
            DataError: with what can't be read, or answered, in these texts.
        """
        if self.report["kind"] == "generation":
            return self.generate(texts, **decoding)
        if decoding:
            raise ConfigError(f"{self.path} gives labels, no answers", found=", ".join(decoding))
        return [row["prediction"] for row in self._load().predict(texts)]

    @public
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

    @public
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
        with isolate():
            self._speaker = self._speaker or Speaker.of_run(self.path)
        return self._speaker.answer(prompts, decoding)

    def evaluate(
        self, data: Any, *, on_bad_rows: Literal["fail", "drop"] = "fail", **columns: str | None
    ) -> dict[str, Any]:
        """Scores on labelled rows, see `afina.evaluate`."""
        return evaluate(self, data, on_bad_rows=on_bad_rows, **columns)

    def merge(self, output: str | Path, *, dtype: str = "float32", verbose: bool = True) -> Path:
        """The adapter folded into its base, see `afina.merge`."""
        return merge(self, output, dtype=dtype, verbose=verbose)

    def _load(self) -> Predictor:
        from afina.pipeline.predictor import open_predictor

        with isolate():
            self._predictor = self._predictor or open_predictor(self.path)
        return self._predictor


def load(run: AnyRun) -> Run:
    """A finished run, for its scores and predictions.

    Raises:
        RunFolderError: as `Run`.
    """
    return Run(run)


@isolated
def predict(
    run: AnyRun, data: Any, *, text_column: str | None = None, text_pair_column: str | None = None,
    messages_column: str | None = None, prompt_column: str | None = None, **decoding: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Predictions for all rows of `data`, in their order.

    Each row keeps its columns; `prediction` and, for classes, `confidence` are added, or `model_prediction` and
    `model_confidence` where a column that the run learned from has one of these names. A row without text gets None.
    For tagged words both are lists, with `predicted_entities` beside them and, for texts, `words`.

    Args:
        text_column: name of the texts' column in these rows, where it isn't that of the rows the run learned from; so
            are the three others.
        decoding: for a language model `max_new_tokens`, `temperature`, `top_p` and `seed`, see `Run.generate`.

    Raises:
        DataError: if the data can't be read or has no text column.
        ConfigError: for settings of decoding where no language model was trained, or one that is out of range.
    """
    from afina.pipeline.prediction import predict_rows

    columns = {
        "text_column": text_column, "text_pair_column": text_pair_column, "messages_column": messages_column,
        "prompt_column": prompt_column,
    }  # fmt: skip
    return list(predict_rows(open_run(run), data, decoding, make_narrator(False), columns=columns))


@isolated
def predict_file(
    run: AnyRun, data: Any, output: str | Path, *, verbose: bool = True, text_column: str | None = None,
    text_pair_column: str | None = None, messages_column: str | None = None, prompt_column: str | None = None,
    **decoding: Any,
) -> PredictedFile:  # fmt: skip
    """`predict` written to the file `output` (jsonl, csv, tsv), which appears whole or not at all.

    A csv of semicolons, tabs or vertical bars stays one. Answers of a language model are kept beside it until then: the
    same call after a ^C or a kill goes on with them.

    Returns:
        a named tuple of `path`, `rows` (how many) and `empty`, the numbers of those with nothing to predict from.

    Raises:
        DataError: if the data can't be read or has no text column.
        RunFolderError: if the output exists already or can't be written.
    """
    from afina.pipeline.prediction import predict_to_file

    columns = {
        "text_column": text_column, "text_pair_column": text_pair_column, "messages_column": messages_column,
        "prompt_column": prompt_column,
    }  # fmt: skip
    return predict_to_file(open_run(run), data, expand_home(output), decoding, make_narrator(verbose), columns)


@isolated
def evaluate(
    run: AnyRun, data: Any, *, on_bad_rows: Literal["fail", "drop"] = "fail", text_column: str | None = None,
    text_pair_column: str | None = None, label_column: str | None = None, messages_column: str | None = None,
    prompt_column: str | None = None, completion_column: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Scores on labelled rows: `metrics`, `intervals`, `rows`, and `rows_seen`: how many of them the model learned from
    (None where the run's folder doesn't say; `notes` tell why). Scores on such rows flatter.

    Args:
        on_bad_rows: `drop` leaves out rows that can't be scored, as those of a class that the model doesn't know, and
            names them in `notes`.
        text_column: name of the texts' column in these rows, where it isn't that of the rows the run learned from; so
            are the five others.

    Raises:
        DataError: if rows have no label, or one that the model doesn't know.
    """
    if on_bad_rows not in ("fail", "drop"):
        raise ConfigError("on_bad_rows doesn't fit", found=repr(on_bad_rows), expected="fail or drop")
    columns = {
        "text_column": text_column, "text_pair_column": text_pair_column, "label_column": label_column,
        "messages_column": messages_column, "prompt_column": prompt_column, "completion_column": completion_column,
    }  # fmt: skip
    folder = open_run(run)
    if folder.read_task()["task"] == GENERATION:
        from afina.pipeline.language.evaluate import evaluate_language

        return evaluate_language(folder, data, on_bad_rows, columns)
    from afina.pipeline.evaluation import evaluate_labelled

    return evaluate_labelled(folder, data, on_bad_rows, columns)


@isolated
def merge(run: AnyRun, output: str | Path, *, dtype: str = "float32", verbose: bool = True) -> Path:
    """The folder `output` with the adapter of a run folded into its base: one ordinary transformers model.

    Args:
        dtype: float32, in which it gives the logits of the unmerged one; or bfloat16 or float16, half as large, with a
            word on stderr on what rounding moves.
        verbose: whether to say that.

    Raises:
        ConfigError: if the technique of the run has no adapter.
        RunFolderError: if the output holds something already.
        ProofError: if the merged model doesn't give the logits of the unmerged one.
    """
    from afina.pipeline.merging import merge_run

    return merge_run(open_run(run), expand_home(output), dtype, make_narrator(verbose))


@isolated
def open_chat(reference: AnyRun, **template: Any) -> Speaker:
    """A language model to talk to: of a finished run, or as it was published.

    Args:
        template: settings of the model's chat template, for one as it was published: `chat_template` and
            `chat_template_kwargs`.

    Raises:
        UserError: if it is neither.
    """
    from afina.pipeline.language.speaker import Speaker

    return Speaker.of(str(find_path(reference)), template)


@public
def list_runs(root: str | Path = "runs") -> list[dict[str, Any]]:
    """The runs under `root`, newest first: path, state, task, technique, model and main score.

    Of one with a damaged file the state is `damaged`, with the `reason`.

    Raises:
        RunFolderError: if there is no such folder.
    """
    from afina.runs.listing import list_runs as list_folder

    return list_folder(expand_home(root))


@public
def compare(*runs: AnyRun) -> dict[str, Any]:
    """Scores of two or more runs side by side, and the settings in which they differ.

    Raises:
        ConfigError: for fewer than two runs, or for runs of different tasks.
        RunFolderError: if one isn't there, isn't finished, or has a damaged file.
    """
    from afina.runs.comparison import compare_runs

    return compare_runs([open_run(run) for run in runs])
