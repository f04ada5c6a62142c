"""The head solved on frozen features of words: a technique of its own, and the start of those that move more.

The feature of a word is what the head reads at its first token, so the result is the architecture's own head.
Letters: K words, H width of the features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from afina.config.reason import Reason
from afina.data.batches import Indices, order_evaluation_batches
from afina.data.encode_words import TaggedTokens, WordTokens, collate_words, list_words
from afina.models import probe
from afina.models.batched import compute_batches
from afina.models.features import capture_own, check_finite
from afina.models.heads import find_head, set_head
from afina.models.load import LoadedModel
from afina.pipeline.learned import Learned
from afina.pipeline.narrator import Narrator
from afina.pipeline.prepare import Prepared
from afina.pipeline.solving import WHY_BOTH, find_biasless, may_learn_from_validation
from afina.tasks.base import Floats, TaskState
from afina.techniques.base import describe_parameters
from afina.techniques.feature_extraction import FeatureExtraction


def learn_word_head(
    prepared: Prepared, technique: FeatureExtraction, loaded: LoadedModel, narrator: Narrator
) -> Learned:
    """The result of feature extraction: a head solved on the words of the training part, and again with those of the
    validation part where they were cut from it."""
    technique.prepare(loaded, prepared.setup)
    state = prepared.task.learn_from(prepared.parts["train"].labels, prepared.config.training.class_weight, True)
    has_bias = "own" not in find_biasless(loaded)
    train_KH, tags_K = describe_training(prepared, loaded, narrator)
    problem = pose_problem(prepared, tags_K, state)
    with narrator.stage("solve"):
        solution = probe.solve({"own": train_KH}, problem, find_biasless(loaded))
    narrator.explain(solution.reasons[-1])
    head = solution.head
    validation = get_part(prepared, "validation")
    validation_KH = compute_word_features(prepared, loaded, validation.words, validation, narrator)
    logits = {"validation": head.logits(validation_KH)}
    parts: tuple[str, ...] = ("train",)
    if may_learn_from_validation(prepared):
        parts = ("train", "validation")
        both = pose_problem(prepared, np.concatenate([tags_K, validation.tags.tags]), state)
        with narrator.stage("solve"):
            head = probe.fit_head(np.concatenate([train_KH, validation_KH]), both, solution.inverse_strength, has_bias)
        narrator.explain(Reason("rows of the head", " + ".join(parts), WHY_BOTH))
    if prepared.scored == "test":
        test = get_part(prepared, "test")
        logits["test"] = head.logits(compute_word_features(prepared, loaded, test.words, test, narrator))
    model = technique.install(loaded.model, head, "own")
    parameters = describe_parameters(model)
    narrator.say(parameters)
    return Learned(model, state, logits, parameters, parts)


def start_word_head(prepared: Prepared, loaded: LoadedModel, state: TaskState, narrator: Narrator) -> None:
    """Set the new head to the solution on frozen features."""
    train_KH, tags_K = describe_training(prepared, loaded, narrator)
    with narrator.stage("solve"):
        solution = probe.solve({"own": train_KH}, pose_problem(prepared, tags_K, state), find_biasless(loaded))
    set_head(find_head(loaded.model), solution.head)
    chosen = solution.reasons[-1]
    because = f"a head solved on words' first tokens, C {chosen.value}: {chosen.reason}"
    narrator.explain(Reason("training.head_init", "probe", because))


def get_part(prepared: Prepared, name: str) -> TaggedTokens:
    """A part with its words."""
    part = prepared.parts[name]
    assert isinstance(part, TaggedTokens)
    return part


def describe_training(prepared: Prepared, loaded: LoadedModel, narrator: Narrator) -> tuple[Floats, Indices]:
    """Features (K, H) and tags (K,) of the training part's words, or of a choice of them."""
    train = get_part(prepared, "train")
    words, tags_K = train.words, train.tags.tags.astype(np.int64)
    if len(tags_K) > probe.WORDS_SOLVED:
        windows = choose_windows(words, prepared.config.seed)
        tags_K, words = tags_K[list_words(words, windows)], words.take(windows)
        narrator.note(f"the head is solved on {len(tags_K):,} of {len(train.tags.tags):,} words, a choice of rows")
    return compute_word_features(prepared, loaded, words, train, narrator), tags_K


def choose_windows(words: WordTokens, seed: int) -> Indices:
    """A seeded choice of windows, rising, that hold as many words together as a head is solved on, or just fewer."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(words.tokens))
    totals = np.cumsum(np.diff(words.word_offsets)[order])
    return np.sort(order[: max(1, int(np.searchsorted(totals, probe.WORDS_SOLVED, side="right")))])


def pose_problem(prepared: Prepared, tags_K: Indices, state: TaskState) -> probe.HeadProblem:
    """Words with their tags as a problem for the solver."""
    config = prepared.config
    outputs, folds = prepared.task.head_shape().num_labels, min(config.features.folds, max(2, len(tags_K) // 2))
    return probe.HeadProblem("multiclass", tags_K.astype(np.int64), outputs, state.class_weights, config.seed, folds)


def compute_word_features(
    prepared: Prepared, loaded: LoadedModel, words: WordTokens, part: TaggedTokens, narrator: Narrator
) -> Floats:
    """The features of all words in their order, shape (K, H).

    Raises:
        ModelError: if some aren't finite numbers.
    """
    with narrator.stage("features") as advance:
        total, done = len(words.tokens), 0

        def tell(count: int) -> None:
            nonlocal done
            done += count
            advance(done, total)

        found_KH = extract_word_features(
            loaded.model, words, pad_id=prepared.pad_id, device=prepared.device, precision=prepared.setup.precision,
            tokens_per_batch=int(prepared.config.evaluation.eval_tokens_per_batch), on_batch=tell,
        )  # fmt: skip
    numbers_K = np.repeat(part.row_numbers[words.rows], np.diff(words.word_offsets))
    check_finite({"own": found_KH}, numbers_K, part.name, loaded.model)
    narrator.say(f"features of {part.name}: {len(found_KH):,} words in {total:,} rows")
    return found_KH


def extract_word_features(
    model: Any, words: WordTokens, *, pad_id: int, device: str, precision: str, tokens_per_batch: int,
    on_batch: Callable[[int], None] = lambda count: None,
) -> Floats:  # fmt: skip
    """What the head reads at each word's first token, shape (K, H)."""
    model.eval().to(device)
    found_KH: Floats | None = None
    with capture_own(model) as captured:

        def compute(windows: Indices) -> Floats:
            batch, places_K = collate_words(words, windows, pad_id)
            model(**{name: tensor.to(device) for name, tensor in batch.items()})
            own: Floats = captured["own"].flatten(0, 1)[places_K.to(device)].float().cpu().numpy()
            return own

        batches = order_evaluation_batches(words.tokens.lengths, tokens_per_batch)
        for part, own_KH in compute_batches(compute, batches, model, device=device, precision=precision):
            if found_KH is None:
                found_KH = np.empty((int(words.word_offsets[-1]), own_KH.shape[1]), np.float32)
            found_KH[list_words(words, part)] = own_KH
            on_batch(len(part))
    assert found_KH is not None, "there is at least one word"
    return found_KH
