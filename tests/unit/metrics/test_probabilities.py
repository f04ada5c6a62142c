"""Probabilities are scipy's, and no logit is too large."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import special

from afina.metrics.probabilities import sigmoid, softmax


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_probabilities_are_those_of_scipy(dtype: type, scale: float) -> None:
    logits_NC = (np.random.default_rng(0).normal(size=(50, 4)) * scale).astype(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = softmax(logits_NC), sigmoid(logits_NC)
    for each, wanted in zip(found, (special.softmax(logits_NC, axis=1), special.expit(logits_NC)), strict=True):
        assert each.dtype == dtype
        np.testing.assert_allclose(each, wanted, rtol=1e-5, atol=1e-25)
