"""Features are those of a live forward of each row alone, and `own` ones give the model's logits through its head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from afina.data.encode import TokenArrays
from afina.errors import ModelError
from afina.models.features import check_finite, extract_features, list_poolings, number_distinct_rows
from afina.models.finite import check_losses
from afina.models.heads import find_head
from afina.models.load import load_classifier, load_tokenizer
from afina.testing.models import DECODERS, FAMILIES

TEXTS = ["kettle and knife", "a", "snow in the west, willow and a low cloud", "jazz", "oak spoon on the rack"]
POOLINGS = ("own", "first", "mean", "last")


@pytest.fixture
def classifier(tiny_models: Callable[[str], Path]) -> Callable[[str], tuple[Any, int]]:
    """`classifier(family)`: a model with a random head, and its padding token."""

    def build(family: str) -> tuple[Any, int]:
        torch.manual_seed(0)
        pad_id = load_tokenizer(tiny_models(family)).pad_token_id
        return load_classifier(tiny_models(family), {"num_labels": 3}, pad_id).model.eval(), pad_id

    return build


def extract(model: Any, tokens: TokenArrays, pad_id: int, rows: Any = None, **options: Any) -> dict[str, Any]:
    settings = {"pad_id": pad_id, "tokens_per_batch": 64, "device": "cpu", "precision": "fp32"} | options
    chosen = np.arange(len(tokens)) if rows is None else np.asarray(rows)
    return extract_features(model, tokens, chosen, POOLINGS, **settings)


def forward_alone(model: Any, tokens: TokenArrays, row: int) -> tuple[Any, Any]:
    """Hidden states (T, H) and logits (C,) of one row, without padding or mask."""
    batch = {"input_ids": torch.from_numpy(tokens.row(row).astype(np.int64))[None]}
    if tokens.type_ids is not None:
        types = tokens.type_ids[tokens.offsets[row] : tokens.offsets[row + 1]].astype(np.int64)
        batch["token_type_ids"] = torch.from_numpy(types)[None]
    with torch.no_grad():
        return model.base_model(**batch)[0][0].numpy(), model(**batch).logits[0].numpy()


def test_a_batch_that_memory_is_too_small_for_is_encoded_in_pieces(
    classifier: Callable[[str], Any], encode: Callable[..., Any]
) -> None:
    model, pad_id = classifier("bert")
    tokens, sizes = encode("bert", TEXTS), list[int]()
    wanted = extract(model, tokens, pad_id, tokens_per_batch=1000)

    def fail_on_many(module: Any, args: Any, given: Any) -> None:
        sizes.append(len(given["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    with model.register_forward_pre_hook(fail_on_many, with_kwargs=True):
        found = extract(model, tokens, pad_id, tokens_per_batch=1000)
    assert max(sizes) > 2
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_each_row_alone(
    family: str, classifier: Callable[[str], Any], encode: Callable[..., Any]
) -> None:
    model, pad_id = classifier(family)
    texts = [(a, b) for a, b in zip(TEXTS, TEXTS[1:] + TEXTS[:1], strict=True)] if family == "bert" else TEXTS
    tokens = encode(family, texts)
    found = extract(model, tokens, pad_id)
    head = find_head(model)
    for row in range(len(tokens)):
        hidden, logits = forward_alone(model, tokens, row)
        wanted = {"first": hidden[0], "mean": hidden.mean(0), "last": hidden[-1]}
        for pooling, vector in wanted.items():
            np.testing.assert_allclose(found[pooling][row], vector, rtol=1e-4, atol=2e-5)
        through = head(torch.from_numpy(found["own"][row])).detach().numpy()
        np.testing.assert_allclose(through, logits, rtol=1e-4, atol=2e-5)
        if family in DECODERS:
            np.testing.assert_allclose(found["own"][row], hidden[-1], rtol=1e-4, atol=2e-5)
    for array in found.values():
        assert array.dtype == np.float32
        assert min(np.abs(array[i] - array[j]).max() for i in range(5) for j in range(i)) > 1e-3 or (
            family in DECODERS and array is found["first"]  # a decoder's first token sees no other
        )


@pytest.mark.parametrize("family", ["gpt2", "qwen2", "llama", "phi3"])
def test_rows_that_end_in_the_padding_token_still_give_the_logits(
    family: str, classifier: Callable[[str], Any]
) -> None:
    model, pad_id = classifier(family)
    rows = [[40, 50, 60, pad_id], [pad_id], [40, pad_id, 50], [70] * 6]
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    tokens = TokenArrays(np.asarray([i for row in rows for i in row], np.int32), offsets, None, 0, 0)
    own = extract(model, tokens, pad_id, tokens_per_batch=1000)["own"]
    head = find_head(model)
    for row in range(len(rows)):
        _, logits = forward_alone(model, tokens, row)
        through = head(torch.from_numpy(own[row])).detach().numpy()
        np.testing.assert_allclose(through, logits, rtol=1e-4, atol=2e-5)


def test_features_come_in_the_order_that_was_asked_for(
    classifier: Callable[[str], Any], encode: Callable[..., Any]
) -> None:
    model, pad_id = classifier("bert")
    tokens = encode("bert", TEXTS)
    everything, some = extract(model, tokens, pad_id), extract(model, tokens, pad_id, rows=[4, 0, 2])
    for pooling in POOLINGS:
        np.testing.assert_allclose(some[pooling], everything[pooling][[4, 0, 2]], rtol=1e-4, atol=2e-5)


def test_each_batch_is_told_and_no_hook_stays(classifier: Callable[[str], Any], encode: Callable[..., Any]) -> None:
    model, pad_id = classifier("bert")
    told: list[int] = []
    extract(model, encode("bert", TEXTS), pad_id, on_batch=told.append, tokens_per_batch=50)
    assert sum(told) == len(TEXTS)
    assert len(told) > 1
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_bf16_products_give_nearly_the_same_fp32_features(
    classifier: Callable[[str], Any], encode: Callable[..., Any]
) -> None:
    model, pad_id = classifier("bert")
    tokens = encode("bert", TEXTS)
    exact, rough = (extract(model, tokens, pad_id, precision=name)["mean"] for name in ("fp32", "bf16"))
    assert rough.dtype == np.float32
    difference = np.abs(exact - rough).max() / np.abs(exact).max()
    assert 0 < difference < 0.05


def test_poolings_worth_comparing() -> None:
    assert list_poolings("encoder") == ("own", "first", "mean")
    assert list_poolings("decoder") == ("own", "mean")
    assert list_poolings("encoder", "longformer") == ("own",), "its classifier runs the backbone in another way"


def test_equal_rows_are_computed_once(encode: Callable[..., Any]) -> None:
    texts = ["b", "a", "b", "cc", "a", "b"]
    tokens = encode("roberta", texts)
    representatives, places, keys = number_distinct_rows(tokens)
    assert len(representatives) == len(keys) == 3
    assert [texts[representatives[place]] for place in places] == texts
    again = number_distinct_rows(encode("roberta", ["cc", "zz", "b"]))
    shared = set(keys.view("S16").tolist()) & set(again[2].view("S16").tolist())
    assert len(shared) == 2


def test_the_same_tokens_with_other_types_are_another_row() -> None:
    ids, offsets = np.asarray([5, 6, 7] * 2, np.int32), np.asarray([0, 3, 6])
    with_types = TokenArrays(ids, offsets, np.asarray([0, 0, 1, 0, 1, 1], np.uint8), 0, 0)
    assert len(number_distinct_rows(with_types)[0]) == 2
    assert len(number_distinct_rows(TokenArrays(ids, offsets, None, 0, 0))[0]) == 1


def test_features_that_are_not_finite_are_refused(classifier: Callable[[str], Any], encode: Callable[..., Any]) -> None:
    model, pad_id = classifier("bert")
    tokens, numbers = encode("bert", TEXTS), np.arange(1, len(TEXTS) + 1)
    check_finite(extract(model, tokens, pad_id), numbers, "train", model)
    with torch.no_grad():
        word = int(tokens.row(3)[1])
        model.bert.embeddings.word_embeddings.weight[word] = torch.inf
    with pytest.raises(ModelError) as caught:
        check_finite(extract(model, tokens, pad_id), numbers, "train", model)
    assert str(caught.value) == (
        "the model gives features that are not finite numbers\n"
        "  found: row 4 (part train); NaN or infinities are in bert.embeddings.word_embeddings.weight\n"
        "  expected: finite numbers for every row\n"
        "  do: copy the model again from where it was published, its config.json too (a layer_norm_eps, say, may be"
        " NaN); if it is a few rows only, look at these, or --set training.precision=fp32"
    )


def test_losses_that_are_not_finite_are_refused_where_weights_are_to_blame(classifier: Callable[[str], Any]) -> None:
    model, _ = classifier("llama")
    losses_N, numbers_N = np.asarray([1.0, np.nan, np.inf]), np.asarray([7, 8, 9])
    check_losses(losses_N, numbers_N, "test", model)  # these rows are odd, and their steps are skipped
    with torch.no_grad():
        model.model.embed_tokens.weight[3] = torch.nan
    check_losses(losses_N[:1], numbers_N[:1], "test", model)
    with pytest.raises(ModelError) as caught:
        check_losses(losses_N, numbers_N, "test", model)
    assert str(caught.value) == (
        "the model gives losses that are not finite numbers\n"
        "  found: rows 8, 9 (part test); NaN or infinities are in model.embed_tokens.weight\n"
        "  expected: finite numbers for every row\n"
        "  do: copy the model again from where it was published, its config.json too (a layer_norm_eps, say, may be"
        " NaN)"
    )
