"""A language model in use: of a finished run, or as it was published."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from afina.config.load import load_config
from afina.config.run import GENERATION, ModelConfig
from afina.data.cache import locate_cache
from afina.data.chat_template import ChatFaultError, choose_template, describe_turn_ends
from afina.data.conversation_columns import Form
from afina.data.conversation_rows import ConversationFaultError
from afina.errors import ConfigError, DataError, Problem, describe_rows
from afina.models.gguf import convert_gguf, is_gguf
from afina.models.inspect import inspect_model
from afina.models.load import load_language_model, load_tokenizer
from afina.models.resolve import resolve_model
from afina.models.vocabulary import count_vectors
from afina.pipeline.given_texts import list_given
from afina.pipeline.language.answers import Answerer, ignore, list_hidden
from afina.pipeline.language.decoding import Decoding
from afina.pipeline.language.prompts import (
    EMPTY_PROMPT,
    Prompt,
    PromptEncoder,
    PromptReader,
    describe_cut,
)
from afina.pipeline.restoring import restore_run
from afina.pipeline.source import check_writes
from afina.runs.folder import open_run
from afina.runs.names import CONFIG
from afina.training.precision import choose_device, choose_precision

TEMPLATE_SETTINGS = {"chat_template", "chat_template_kwargs"}


class Speaker:
    """Answers prompts: a text, or the messages of a conversation.

    Args:
        answerer: the model with its tokenizer.
        reader: of prompts in rows; it knows whether they are put into the tokenizer's chat template.
    """

    def __init__(self, answerer: Answerer, reader: PromptReader) -> None:
        self.answerer, self.reader = answerer, reader
        self.model, self.tokenizer = answerer.model, answerer.tokenizer
        self.encoder = PromptEncoder(
            answerer.tokenizer, reader, answerer.context_length, count_vectors(self.model.config)
        )

    @classmethod
    def of(cls, reference: str, template: Mapping[str, Any]) -> Speaker:
        """The model of a finished run, or one as it was published.

        Args:
            template: the settings `chat_template` and `chat_template_kwargs`.

        Raises:
            ConfigError: for other settings, or another template than a run was tuned with.
        """
        if not template.keys() <= TEMPLATE_SETTINGS:
            raise ConfigError(
                "a chat takes no such setting", found=", ".join(template.keys() - TEMPLATE_SETTINGS),
                expected=", ".join(sorted(TEMPLATE_SETTINGS)),
            )  # fmt: skip
        if not (Path(reference) / CONFIG).is_file():
            return cls.of_model(reference, load_config(None, template).model)
        if template:
            raise ConfigError(
                "a tuned model keeps the chat template that it was tuned with", found=", ".join(template),
                remedy=f"afina chat {shlex.quote(reference)}, or the model's own folder, {Path(reference) / 'model'}",
            )  # fmt: skip
        return cls.of_run(Path(reference))

    @classmethod
    def of_run(cls, path: Path) -> Speaker:
        """The tuned model of a finished run, with the template and the stop tokens it was tuned with.

        Raises:
            ConfigError: if the run didn't train a language model.
        """
        folder = open_run(path)
        stored = folder.read_task()
        if stored["task"] != GENERATION:
            raise ConfigError(
                f"{path} gives labels, no answers", found=stored["task"], expected=GENERATION, remedy="afina predict"
            )
        restored = restore_run(folder, stored)
        reader = PromptReader(stored["form"], stored["columns"], stored["has_template"])
        answerer = Answerer(
            restored.model, restored.tokenizer, stored["stop_tokens"], restored.device, restored.setup.precision
        )
        return cls(answerer, reader)

    @classmethod
    def of_model(cls, reference: str, settings: ModelConfig) -> Speaker:
        """A model as it was published: a folder, a Hub id, a GGUF file, or package:NAME/PATH.

        Args:
            settings: of them those of the chat template are read.
        """
        base = resolve_model(reference, allow_gguf=True)
        base = convert_gguf(base, locate_cache()) if is_gguf(base) else base
        check_writes(inspect_model(base, "causal-lm"), reference, "name a language model, or a run that tuned one")
        device = choose_device("auto").value
        precision = choose_precision("auto", device).value
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        model, tokenizer = load_language_model(base, dtype=dtype).model.to(device).eval(), load_tokenizer(base)
        set_template(tokenizer, settings)
        named = model.generation_config.eos_token_id
        stops = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None}
        if tokenizer.chat_template:
            stops |= set(describe_turn_ends(tokenizer))
        has_template = bool(tokenizer.chat_template)
        form: Form = "messages" if has_template else "text"
        reader = PromptReader(form, {form: form}, has_template)
        return cls(Answerer(model, tokenizer, sorted(stops), device, precision), reader)

    @property
    def has_template(self) -> bool:
        """Whether prompts are put into the tokenizer's chat template."""
        return self.reader.has_template

    def encode(self, prompt: Prompt, tools: Any = None) -> list[int]:
        """The prompt's tokens, up to where the answer begins.

        Raises:
            ChatFaultError: if the prompt is no text and no messages, is too long, or the template refuses it.
        """
        return self.encoder.encode(prompt, tools)

    def encode_row(self, row: Mapping[str, Any]) -> list[int]:
        """The tokens of the prompt that a row holds.

        Raises:
            ChatFaultError: if it holds none.
        """
        try:
            asked = self.reader.read(row)
        except ConversationFaultError as fault:
            raise ChatFaultError(str(fault), str(row)[:60]) from None
        if asked is None:
            raise ChatFaultError(EMPTY_PROMPT, str(row)[:60])
        return self.encode(*asked)

    def answer(self, given: Any, decoding: Decoding | None = None) -> list[str]:
        """The answer to each prompt, in their order.

        Args:
            given: prompts, rows that hold them in the columns the model has learned from, or the messages of one
                conversation.
            decoding: by default the likeliest answer.

        Raises:
            DataError: with every prompt that can't be answered.
        """
        decoding = decoding or Decoding()
        prompts, ids, faults = list_given(given, "generate", "prompt"), [], []
        if is_conversation(prompts):
            prompts = [prompts]
        for number, prompt in enumerate(prompts, 1):
            try:
                ids.append(self.encode_row(prompt) if isinstance(prompt, Mapping) else self.encode(prompt))
            except ChatFaultError as fault:
                faults.append(Problem(f"prompt {number} is of no use: {fault}", found=fault.detail))
        if faults:
            raise DataError(problems=faults)
        cut: list[int] = []
        answers = self.answerer.answer_prompts(ids, decoding, cut.append)
        if cut:
            named = describe_rows([place + 1 for place in sorted(cut)], "prompt")
            warnings.warn(describe_cut(len(cut), self.encoder.context_length, named), stacklevel=3)
        return answers

    def answer_batch(
        self, prompts: dict[int, list[int]], decoding: Decoding, on_cut: Callable[[int], object] = ignore
    ) -> dict[int, str]:
        """The answers to the encoded prompts of one batch by their numbers, see `Answerer.answer_batch`."""
        return self.answerer.answer_batch(prompts, decoding, on_cut=on_cut)

    def stream(
        self, prompt: Prompt, tell: Callable[[str], None], decoding: Decoding, number: int = 0,
        on_cut: Callable[[int], object] = ignore,
    ) -> str:  # fmt: skip
        """The answer to one prompt; its words are told as they come.

        Args:
            number: tells the draws of this answer from those of others with the same seed.
            on_cut: told this number if the answer goes on where the model's window ends.
        """
        from transformers import TextStreamer

        hidden = list_hidden(self.tokenizer, self.answerer.stops)

        class Teller(TextStreamer):  # type: ignore[misc]
            def put(self, value: torch.Tensor) -> None:
                if self.next_tokens_are_prompt or int(value) not in hidden:
                    super().put(value)

            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                tell(text)

        try:
            ids = self.encode(prompt)
        except ChatFaultError as fault:
            raise DataError(f"the prompt is of no use: {fault}", found=fault.detail) from None
        teller = Teller(self.tokenizer, skip_prompt=True)
        return self.answerer.answer_batch({number: ids}, decoding, streamer=teller, on_cut=on_cut)[number]


def is_conversation(prompts: Sequence[Any]) -> bool:
    """Whether these are the messages of one conversation, as transformers' pipelines take it, and no prompts."""
    return bool(prompts) and all(isinstance(each, Mapping) and {"role", "content"} <= each.keys() for each in prompts)


def set_template(tokenizer: Any, settings: ModelConfig) -> None:
    """Set the chat template that the settings ask for; a model that brings none talks without, unless they name one.

    Raises:
        ModelError: if it can't be used.
    """
    wanted, arguments = settings.chat_template, settings.chat_template_kwargs
    if wanted == "none":
        tokenizer.chat_template = None
    elif wanted != "auto" or arguments:
        choose_template(tokenizer, wanted, **arguments)
