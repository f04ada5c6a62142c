"""How long rows are in tokens, from a sample of them: enough to know what a run would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from afina.config.run import GENERATION, RunConfig
from afina.data.batches import Indices
from afina.data.conversations import Conversations
from afina.data.examples import Examples
from afina.data.tagged_rows import TaggedPart
from afina.errors import DataError
from afina.models.inspect import ModelFacts
from afina.models.vocabulary import check_vocabulary
from afina.pipeline.language.prepare import choose_encoding, expects_packing, load_rows, make_empty_problem
from afina.pipeline.narrator import Narrator
from afina.pipeline.source import Opened
from afina.pipeline.tagging.rows import read_examples
from afina.runs.folder import RunFolder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from afina.advice.workload import Workload

SAMPLED_ROWS = 2000


def read_rows(config: RunConfig, opened: Opened) -> tuple[Examples | Conversations, str]:
    """The rows, checked and split, and the task.

    Raises:
        DataError: if they can't be used, with every problem.
    """
    if opened.is_generation:
        return load_rows(config, opened), GENERATION
    examples = read_examples(config, opened)
    return examples, examples.columns.task


def sample_lengths(
    rows: Examples | Conversations, config: RunConfig, tokenizer: PreTrainedTokenizerBase, facts: ModelFacts,
    folder: RunFolder, device: str,
) -> Workload:  # fmt: skip
    """Rows of each part, and the tokens of a sample of the training rows, cut as a run would cut them.

    Rows count as often as they are read in windows, in the mean of the sample.

    Raises:
        DataError: if nothing is left to learn.
        ModelError: if the tokenizer isn't the model's.
    """
    from afina.advice.workload import Workload

    if isinstance(rows, Examples):
        tokens = sample_texts(rows, config, tokenizer, folder)
        check_vocabulary(tokens.ids, facts.vocab_size, facts.folder)
        return Workload.of_parts(scale_parts(rows.parts, len(tokens)), tokens)
    found = sample_conversations(rows, config, tokenizer, folder)
    check_vocabulary(found.tokens.ids, facts.vocab_size, facts.folder)
    share = float(found.loss_mask.mean())
    parts = scale_parts(rows.parts, len(found))
    return Workload.of_parts(parts, found.tokens, share, expects_packing(config, device))


def scale_parts(parts: Mapping[str, Sized], found: int) -> dict[str, range]:
    """What a run goes over in each part, if every row gives as many windows, or answers, as those sampled of `train`.

    Args:
        found: sequences of tokens that the sample gave.
    """
    windows = found / len(choose_places(len(parts["train"])))
    return {name: range(round(len(part) * windows)) for name, part in parts.items()}


def sample_texts(examples: Examples, config: RunConfig, tokenizer: PreTrainedTokenizerBase, folder: RunFolder) -> Any:
    """Token arrays of sampled training rows with labels."""
    from afina.data.encode import encode_texts

    part = examples.parts["train"]
    places = choose_places(len(part))
    part = replace(part, indices=part.indices[places], labels=part.labels[places])
    if isinstance(part, TaggedPart):
        from afina.data.encode_words import encode_words

        length = int(config.model.max_seq_length)
        return encode_words(tokenizer, part.words(), length, folder.work / "tokens").tokens
    return encode_texts(tokenizer, part.texts(), int(config.model.max_seq_length), folder.work / "tokens")


def sample_conversations(
    conversations: Conversations, config: RunConfig, tokenizer: PreTrainedTokenizerBase, folder: RunFolder
) -> Any:
    """Sampled training rows of a language model; those that can't be used are left out, and `train` names them."""
    from afina.data.encode_conversations import encode_conversations

    part = conversations.parts["train"]
    part = replace(part, indices=part.indices[choose_places(len(part))])
    encoding = choose_encoding(config, conversations, tokenizer, Narrator())
    found, tally = encode_conversations(part, tokenizer, encoding, folder.work / "tokens")
    if not len(found):
        raise DataError(problems=[make_empty_problem("train", tally, encoding.max_seq_length)])
    return found


def choose_places(rows: int) -> Indices:
    """Places of the sample among so many rows, evenly spread: files are often sorted."""
    return np.unique(np.linspace(0, rows - 1, min(rows, SAMPLED_ROWS)).astype(np.int64))
