"""TF-IDF and a linear model: the baseline that a fine-tuned model has to beat to be worth its cost.

Not a straw man: single words and pairs of neighbours, one-letter words included, sublinear counts, and the
strength of the model as people set it by hand (C = 10) or by held-out rows (ridge, thresholds). Texts without
spaces between words, such as Chinese or Japanese, are cut into runs of one to three characters instead.

Bounded: it learns from at most 50,000 rows and three million words, fewer where there are very many classes,
drawn with the seed; the note says so. That keeps it within about a minute whatever the size of the data.

Shapes: N rows, V terms, C classes or labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afina.data.scripts import is_spaceless
from afina.evaluation.prediction import Kind, Prediction, UntrainableError
from afina.metrics.multilabel import DEFAULT_THRESHOLD, tune_thresholds

MAX_ROWS = 50_000
MAX_WORDS = 3_000_000
MAX_WORDS_TIMES_CLASSES = 60_000_000
MAX_WEIGHTS = 20_000_000
"""Terms times classes: 160 MB of weights."""
RARE_TERMS_FROM_WORDS = 250_000
"""Words of the training part from which on terms of a single row are left out: costly, and of little use."""
LONGEST_MEAN_WORD = 15
"""Characters of a mean word above which a script without spaces is assumed."""
HELD_OUT_FRACTION = 0.2
FEWEST_HELD_OUT_ROWS = 20
RIDGE_STRENGTHS = (0.3, 1.0, 3.0, 10.0)
INVERSE_STRENGTH = 10.0
MAX_ITERATIONS = 50

Floats = NDArray[np.float64]


def fit_linear(
    kind: Kind,
    train_texts: Sequence[str],
    train: NDArray[Any],
    test_texts: Sequence[str],
    classes: int,
    seed: int,
) -> Prediction:
    """Probabilities (N, C) or numbers (N,) for the test rows, thresholds of labels, and what was capped.

    Raises UntrainableError where the training part has one class only, or no words at all.
    """
    if kind == "multiclass" and len(np.unique(train)) < 2:
        raise UntrainableError("not trained: the training part holds one class only")
    generator = np.random.default_rng(seed)
    words = sum(text.count(" ") + 1 for text in train_texts)
    kept = _draw_rows(len(train_texts), words, max(1, classes), generator)
    notes = []
    if len(kept) < len(train_texts):
        notes.append(f"trained on {len(kept):,} of {len(train_texts):,} rows, drawn with the seed")
        train_texts, train = [train_texts[row] for row in kept], train[kept]
        words = sum(text.count(" ") + 1 for text in train_texts)
    train_NV, test_NV = _count_terms(train_texts, test_texts, words, max(1, classes))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        values, thresholds_C = _FITS[kind](train_NV, train, test_NV, classes, generator)
    if any("converge" in str(warning.message) for warning in caught):
        notes.append(f"stopped after {MAX_ITERATIONS} iterations")
    return Prediction(values, thresholds_C, "; ".join(notes))


def _draw_rows(rows: int, words: int, classes: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Row indices to learn from, in order: all of them, or a seeded sample within the three caps."""
    most_words = min(MAX_WORDS, MAX_WORDS_TIMES_CLASSES // classes)
    most_rows = min(MAX_ROWS, rows * most_words // max(1, words))
    if rows <= max(1, most_rows):
        return np.arange(rows)
    return np.sort(generator.permutation(rows)[: max(1, most_rows)])


def _count_terms(train_texts: Sequence[str], test_texts: Sequence[str], words: int, classes: int) -> tuple[Any, Any]:
    """Sparse matrices (N, V) of the two parts; the terms are those of the training part."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    spaceless = is_spaceless(train_texts) or sum(map(len, train_texts)) > LONGEST_MEAN_WORD * words
    vectorizer = TfidfVectorizer(
        analyzer="char" if spaceless else "word",
        ngram_range=(1, 3) if spaceless else (1, 2),
        token_pattern=None if spaceless else r"(?u)\b\w+\b",
        min_df=2 if words >= RARE_TERMS_FROM_WORDS else 1,
        max_features=max(1000, MAX_WEIGHTS // classes),
        sublinear_tf=True,
    )
    try:
        train_NV = vectorizer.fit_transform(train_texts)
    except ValueError as error:
        if "vocabulary" not in str(error) and "no terms remain" not in str(error):
            raise
        raise UntrainableError("not trained: the texts of the training part hold no words") from error
    return train_NV, vectorizer.transform(test_texts)


def _fit_classes(
    train_NV: Any, train_N: NDArray[Any], test_NV: Any, classes: int, _: np.random.Generator
) -> tuple[Floats, None]:
    """Probabilities of a multinomial logistic regression; 0 for a class that training never saw."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=INVERSE_STRENGTH, max_iter=MAX_ITERATIONS, tol=5e-4).fit(train_NV, train_N)
    probabilities_NC = np.zeros((test_NV.shape[0], classes))
    probabilities_NC[:, model.classes_] = model.predict_proba(test_NV)
    return probabilities_NC, None


def _fit_labels(
    train_NV: Any, train_NC: NDArray[Any], test_NV: Any, classes: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Probabilities of one logistic regression a label, and thresholds tuned on held-out training rows."""
    fitted, held_out = _split_rows(len(train_NC), generator)
    thresholds_C = np.full(classes, DEFAULT_THRESHOLD)
    if len(held_out):
        held_out_NC = _predict_each_label(train_NV[fitted], train_NC[fitted], train_NV[held_out])
        thresholds_C = tune_thresholds(held_out_NC, train_NC[held_out])
    return _predict_each_label(train_NV, train_NC, test_NV), thresholds_C


def _predict_each_label(train_NV: Any, train_NC: NDArray[Any], test_NV: Any) -> Floats:
    from sklearn.linear_model import LogisticRegression

    # A label that all rows share, or none, keeps its share: there is nothing to separate.
    probabilities_NC = np.tile(train_NC.mean(axis=0), (test_NV.shape[0], 1))
    for label in np.flatnonzero((train_NC.min(axis=0) == 0) & (train_NC.max(axis=0) == 1)):
        model = LogisticRegression(
            C=INVERSE_STRENGTH,
            solver="liblinear",
            dual=True,
            max_iter=MAX_ITERATIONS,
            tol=1e-2,
            random_state=0,
        )
        model.fit(train_NV, train_NC[:, label])
        probabilities_NC[:, label] = model.predict_proba(test_NV)[:, 1]
    return probabilities_NC


def _fit_numbers(
    train_NV: Any, train_N: NDArray[Any], test_NV: Any, _: int, generator: np.random.Generator
) -> tuple[Floats, None]:
    """Numbers of a ridge regression whose strength has the least squared error on held-out training rows."""
    from sklearn.linear_model import Ridge

    def predict(strength: float, rows: NDArray[np.int64], matrix: Any) -> Floats:
        model = Ridge(alpha=strength, solver="sparse_cg", tol=1e-3).fit(train_NV[rows], train_N[rows])
        return np.asarray(model.predict(matrix), np.float64)

    strength = 1.0
    fitted, held_out = _split_rows(len(train_N), generator)
    if len(held_out):
        errors = [
            np.square(predict(candidate, fitted, train_NV[held_out]) - train_N[held_out]).mean()
            for candidate in RIDGE_STRENGTHS
        ]
        strength = RIDGE_STRENGTHS[int(np.argmin(errors))]
    return predict(strength, np.arange(len(train_N)), test_NV), None


def _split_rows(rows: int, generator: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices to fit on and indices held out; nothing is held out where it would be fewer than 20 rows."""
    held_out = int(rows * HELD_OUT_FRACTION)
    order = generator.permutation(rows)
    if held_out < FEWEST_HELD_OUT_ROWS:
        return np.sort(order), order[:0]
    return np.sort(order[held_out:]), np.sort(order[:held_out])


_FITS = {"multiclass": _fit_classes, "multilabel": _fit_labels, "regression": _fit_numbers}
