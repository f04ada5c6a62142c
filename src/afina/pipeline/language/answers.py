"""What a language model answers to prompts, in batches, until it ends its turn.

Letters: B prompts of a batch, T tokens.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from afina.data.chat_template import look_up
from afina.data.encode_conversations import TrainedRows, number_rows, tokenize_row
from afina.errors import ModelError
from afina.models.batched import autocast
from afina.models.load import quiet_transformers
from afina.pipeline.language.decoding import Decoding
from afina.pipeline.language.prompts import find_context_length, plan_batches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from afina.pipeline.language.prepare import PreparedLanguage

# Settings of a model's generation_config.json that are followed, with the least value of each.
FOLLOWED = {"repetition_penalty": 0.01, "no_repeat_ngram_size": 0}

Ints = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Sample:
    """A held-out prompt and the answer that stands in the data."""

    row: int
    """Its number in the user's file."""
    prompt_ids: list[int]
    reference: str


def choose_samples(prepared: PreparedLanguage, part: str) -> list[Sample]:
    """The rows to answer, spread evenly over the part: each up to its last answer, which is the reference, or, of a
    plain text, up to the middle of what is learned."""
    data, most = prepared.parts[part], prepared.config.evaluation.generation_samples
    is_text = prepared.conversations.columns.form == "text"
    rows = np.unique(np.linspace(0, len(data) - 1, min(most, len(data))).astype(np.int64))
    answers = {} if is_text or prepared.encoding.train_on != "all" else mark_answers(prepared, part, rows)
    samples = []
    for row in rows.tolist():
        marks = answers.get(row, data.row_loss_mask(row))
        cut = cut_at_answer(marks) if marks.any() and not is_text else cut_in_middle(data.row_loss_mask(row))
        samples.append(take_sample(data, row, prepared.tokenizer, cut))
    return samples


def mark_answers(prepared: PreparedLanguage, part: str, rows: Ints) -> dict[int, Ints]:
    """By row 1 for each token of an answer, where more than the answers is learned and the marks don't tell them."""
    data, encoding, source = prepared.parts[part], prepared.encoding, prepared.conversations.parts[part]
    places = {int(data.row_numbers[row]): int(row) for row in rows}
    wanted = np.isin(source.row_numbers, list(places))
    few = replace(
        source, indices=source.indices[wanted], hashes=source.hashes[wanted], row_hashes=source.row_hashes[wanted]
    )  # fmt: skip
    return {
        places[number]: np.asarray(tokenize_row(row, prepared.tokenizer, encoding)[0].loss_mask)[
            : encoding.max_seq_length
        ]
        for number, row in number_rows(few)
    }


def cut_at_answer(marks: Ints) -> tuple[int, int]:
    """Where the last marked stretch begins and ends."""
    stop = int(np.flatnonzero(marks)[-1]) + 1
    unmarked = np.flatnonzero(marks[:stop] == 0)
    return (int(unmarked[-1]) + 1 if len(unmarked) else 0), stop


def cut_in_middle(marks: Ints) -> tuple[int, int]:
    """The second half of the last marked stretch: nothing prompts the first."""
    start, stop = cut_at_answer(marks)
    return start + max(1 - start, (stop - start) // 2), stop


def take_sample(data: TrainedRows, row: int, tokenizer: PreTrainedTokenizerBase, cut: tuple[int, int]) -> Sample:
    """One row with its tokens between two places as the answer, and those before as the prompt."""
    ids, (start, stop) = data.tokens.row(row).tolist(), cut
    number = int(data.row_numbers[row])
    # What ends this one answer may be none of the usual ends: some templates end a tool call by a token of its own.
    ends = {ids[stop - 1]} & look_up(tokenizer).special
    return Sample(number, ids[:start], write_answer(tokenizer, ids[start:stop], ends))


def write_answer(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], ends: Collection[int]) -> str:
    """An answer as text, without the tokens that start, end or pad one. Other special tokens are part of what was
    learned, such as Mistral's [TOOL_CALLS]: without them a tool call couldn't be told from a text.
    """
    hidden = list_hidden(tokenizer, ends)
    return str(tokenizer.decode([token for token in ids if token not in hidden])).strip()


def list_hidden(tokenizer: PreTrainedTokenizerBase, ends: Collection[int]) -> set[int]:
    """The tokens of an answer that nobody is shown."""
    marks = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return {*ends, *(token for token in marks if token is not None)}


def find_stop_tokens(model: Any, data: TrainedRows, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end an answer: those that the model's settings name, and those that end what was learned."""
    found = model.generation_config.eos_token_id
    stops = {tokenizer.eos_token_id, *(found if isinstance(found, list) else [found])}
    special = look_up(tokenizer).special
    # A window in the middle of a text ends anywhere.
    ends = np.flatnonzero(np.diff(data.row_numbers, append=-1))[:100]
    for row in ends.tolist():
        last = int(data.tokens.row(row)[np.flatnonzero(data.row_loss_mask(row))[-1]])
        stops |= {last} & special
    return sorted(int(token) for token in stops if token is not None)


def ignore(number: int) -> None:
    """What is told of an answer and nobody asks for."""


@dataclass(frozen=True)
class Answerer:
    """A language model that answers encoded prompts."""

    model: Any
    """On the device."""
    tokenizer: PreTrainedTokenizerBase
    stops: Sequence[int]
    """Tokens that end an answer."""
    device: str
    precision: str

    @property
    def context_length(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return find_context_length(self.model.config.get_text_config())

    def answer_prompts(
        self, prompts: Sequence[list[int]], decoding: Decoding, on_cut: Callable[[int], object] = ignore
    ) -> list[str]:
        """The answer to each prompt, see `write_answer`.

        Args:
            on_cut: told the place of each answer that goes on where the model's window ends.
        """
        answers = [""] * len(prompts)
        for places in plan_batches([len(prompt) for prompt in prompts], self.context_length, decoding.max_new_tokens):
            batch = {place: prompts[place] for place in places}
            for place, answer in self.answer_batch(batch, decoding, on_cut=on_cut).items():
                answers[place] = answer
        return answers

    def answer_batch(
        self, prompts: Mapping[int, list[int]], decoding: Decoding, *, streamer: Any = None,
        on_cut: Callable[[int], object] = ignore,
    ) -> dict[int, str]:  # fmt: skip
        """The answers to the prompts of one batch by their numbers, which also tell their draws apart.

        Args:
            prompts: with the same room for an answer, see `plan_batches`.
            streamer: of transformers, told each token as it comes; for one prompt alone.
            on_cut: told the number of each answer that goes on where the model's window ends.
        """
        ids_BT, mask_BT = pad_left(list(prompts.values()), int(self.tokenizer.pad_token_id))
        width = ids_BT.shape[1]
        room = self.context_length - width
        self.model.eval()
        with (
            torch.inference_mode(),
            autocast(self.device, self.precision),
            generating(self.model),
            quiet_transformers(),
        ):
            out_BT = self.model.generate(
                input_ids=ids_BT.to(self.device), attention_mask=mask_BT.to(self.device), do_sample=False,
                temperature=None, top_p=None, top_k=None, max_new_tokens=min(decoding.max_new_tokens, room),
                logits_processor=decoding.list_processors(list(prompts), torch.device(self.device)), streamer=streamer,
                eos_token_id=list(self.stops) or None, pad_token_id=self.tokenizer.pad_token_id,
            )  # fmt: skip
        told = out_BT[:, width:].tolist()
        answers = {number: cut_at(ids_T, self.stops) for number, ids_T in zip(prompts, told, strict=True)}
        for number, ids in answers.items():
            if room < decoding.max_new_tokens and len(ids) >= room:
                on_cut(number)
        return {number: write_answer(self.tokenizer, ids, self.stops) for number, ids in answers.items()}


def cut_at(ids: list[int], stops: Sequence[int]) -> list[int]:
    """The tokens before the first that ends the answer."""
    return ids[: next((i for i, token in enumerate(ids) if token in stops), len(ids))]


def pad_left(prompts: Sequence[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask, shape (B, T), each prompt ending where the answer begins."""
    width = max(map(len, prompts))
    ids_BT = torch.full((len(prompts), width), pad_id)
    mask_BT = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids_BT[row, width - len(prompt) :] = torch.tensor(prompt)
        mask_BT[row, width - len(prompt) :] = 1
    return ids_BT, mask_BT


@contextlib.contextmanager
def generating(model: Any) -> Iterator[None]:
    """Keys and values are kept while tokens are made, whatever training has set; of the model's own settings only
    `FOLLOWED` are followed. The others come with its folder, maybe a stranger's: beams and several answers take as many
    times the memory, and lists of tokens may name some that it lacks.
    """
    config, before = model.config, getattr(model.config, "use_cache", True)
    # peft hands the settings of its wrapper on to the model inside, and leaves them there.
    owners = {each: each.generation_config for each in model.modules() if "generation_config" in vars(each)}
    config.use_cache, model.generation_config = True, choose_generation(model.generation_config)
    try:
        yield
    finally:
        config.use_cache = before
        for each in model.modules():
            if each in owners:
                each.generation_config = owners[each]
            elif "generation_config" in vars(each):  # the wrapper had those of the model inside
                del each.generation_config


def choose_generation(settings: Any) -> Any:
    """Those settings of a model that answers follow.

    Raises:
        ModelError: for a value that nothing can be done with.
    """
    from transformers import GenerationConfig

    kept = {name: value for name in FOLLOWED if (value := getattr(settings, name, None)) is not None}
    for name, value in kept.items():
        lowest = FOLLOWED[name]
        if isinstance(value, bool) or not isinstance(value, int | type(lowest)) or not lowest <= value < math.inf:
            raise ModelError(
                f"{name} in the model's generation_config.json can't be used", found=repr(value)[:60],
                expected=f"a number from {lowest} on", remedy="a copy of the model without it",
            )  # fmt: skip
    return GenerationConfig(**kept)
