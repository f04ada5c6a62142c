"""A language model in use: of a finished run, or as it was published."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from afina.config.load import load_config
from afina.data.chat import check_messages
from afina.data.chat_template import ChatFaultError, describe_turn_ends
from afina.data.column_names import normalize_name
from afina.data.columns import check_columns
from afina.data.conversation_columns import Form, parse_objects
from afina.data.encode_conversations import ask, join_prompt
from afina.data.rows import RowTable
from afina.errors import ConfigError, DataError, describe_cause
from afina.models.feature_cache import locate_cache
from afina.models.features import autocast
from afina.models.gguf import convert_gguf, is_gguf
from afina.models.inspect import inspect_model
from afina.models.load import load_language_model, load_tokenizer, quiet_transformers
from afina.models.resolve import resolve_model
from afina.pipeline.language.answers import answer_prompts, cached, cut_at
from afina.pipeline.predictor import iterate_chunks, open_rows, open_setup, refuse_problems
from afina.pipeline.source import GENERATION
from afina.runs.folder import open_run
from afina.techniques.registry import make_technique
from afina.training.precision import choose_device, choose_precision

Message = Mapping[str, Any]
Prompt = str | Sequence[Message]
MAX_NEW_TOKENS = 256
# Roles of the columns that an answer needs.
ASKING = ("messages", "prompt", "instruction", "text")
USUAL_PROMPTS = ("prompt", "messages", "instruction", "question", "text", "pregunta", "consulta", "texto")


class Speaker:
    """Answers prompts: a text, or the messages of a conversation.

    Args:
        model: on its device.
        stops: tokens that end an answer.
        has_template: whether a prompt is put into the tokenizer's chat template.
    """

    def __init__(
        self, model: Any, tokenizer: Any, stops: list[int], *, has_template: bool, device: str, precision: str
    ) -> None:
        self.model, self.tokenizer, self.stops = model, tokenizer, stops
        self.has_template, self.device, self.precision = has_template, device, precision
        self.columns: dict[str, str] = {}
        self.form: Form = "messages" if has_template else "text"

    @classmethod
    def of_run(cls, path: Path) -> Speaker:
        """The tuned model of a finished run, with the template and the stop tokens it was tuned with.

        Raises:
            ConfigError: if the run didn't train a language model.
        """
        folder = open_run(path)
        stored = folder.read_json("task.json")
        if stored["task"] != GENERATION:
            raise ConfigError(
                f"{path} gives labels, no answers", found=stored["task"], expected=GENERATION, remedy="afina predict"
            )
        wanted = "fp32" if load_config(folder.config).training.precision == "fp32" else "auto"
        device = choose_device("auto").value
        precision = choose_precision(wanted, device).value
        technique = make_technique(str(load_config(folder.config).technique))
        model = technique.restore(folder.model, open_setup(folder, precision)).to(device)
        tokenizer = load_tokenizer(folder.model)
        speaker = cls(
            model, tokenizer, stored["stop_tokens"], has_template=stored["has_template"], device=device,
            precision=precision,
        )  # fmt: skip
        speaker.columns, speaker.form = stored["columns"], stored["form"]
        return speaker

    @classmethod
    def of_model(cls, reference: str) -> Speaker:
        """A model as it was published: a folder, a Hub id, a GGUF file, or package:NAME/PATH."""
        base = resolve_model(reference, allow_gguf=True)
        base = convert_gguf(base, locate_cache()) if is_gguf(base) else base
        inspect_model(base, "causal-lm")
        device = choose_device("auto").value
        precision = choose_precision("auto", device).value
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        model, tokenizer = load_language_model(base, dtype=dtype).model.to(device).eval(), load_tokenizer(base)
        named = model.generation_config.eos_token_id
        stops = {tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])} - {None}
        if tokenizer.chat_template:
            stops |= set(describe_turn_ends(tokenizer))
        has_template = bool(tokenizer.chat_template)
        return cls(model, tokenizer, sorted(stops), has_template=has_template, device=device, precision=precision)

    def encode(self, prompt: Prompt) -> list[int]:
        """The prompt's tokens, up to where the answer begins.

        Raises:
            DataError: if the prompt is no text and no messages, or the template refuses it.
        """
        if isinstance(prompt, str) and not self.has_template:
            return list(self.tokenizer(prompt)["input_ids"]) or [self.stops[0]]
        if not self.has_template:
            raise DataError("the model has no chat template, so it takes a text", found="messages", expected="a string")
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        try:
            checked = check_messages(list(messages))
            found = self.tokenizer.apply_chat_template(checked, add_generation_prompt=True, tokenize=False)
        except ChatFaultError as fault:
            raise DataError(f"a prompt with {fault}", found=fault.detail) from None
        except Exception as error:  # a template raises whatever it likes
            raise DataError("the chat template refuses a prompt", found=describe_cause(error, "the template")) from None
        return list(self.tokenizer(found, add_special_tokens=False)["input_ids"])

    def answer(self, prompts: Sequence[Prompt], max_new_tokens: int = MAX_NEW_TOKENS) -> list[str]:
        """The likeliest answer to each prompt, in their order."""
        if isinstance(prompts, str):
            raise DataError("generate takes a list of prompts", found="one string", remedy="run.generate([prompt])")
        ids = [self.encode(prompt) for prompt in prompts]
        return answer_prompts(
            self.model, self.tokenizer, ids, self.stops, max_new_tokens=max_new_tokens, device=self.device,
            precision=self.precision,
        )  # fmt: skip

    def stream(self, prompt: Prompt, tell: Callable[[str], None], max_new_tokens: int = MAX_NEW_TOKENS) -> str:
        """The answer to one prompt; its words are told as they come."""
        from transformers import TextStreamer

        class Teller(TextStreamer):  # type: ignore[misc]
            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                tell(text)

        ids_BT = torch.tensor([self.encode(prompt)], device=self.device)
        teller = Teller(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        with torch.inference_mode(), autocast(self.device, self.precision), cached(self.model), quiet_transformers():
            out_BT = self.model.generate(
                input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT), max_new_tokens=max_new_tokens,
                do_sample=False, temperature=None, top_p=None, top_k=None, eos_token_id=self.stops or None,
                pad_token_id=self.tokenizer.pad_token_id, streamer=teller,
            )  # fmt: skip
        ids = cut_at(out_BT[0, ids_BT.shape[1] :].tolist(), self.stops)
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def answer_source(self, source: Any, max_new_tokens: int = MAX_NEW_TOKENS) -> Iterator[dict[str, Any]]:
        """Every row of a file with its columns and `prediction`; a row without a prompt gets None.

        Raises:
            DataError: before the first row, if a row can't be read or the columns of prompts are missing.
        """
        with open_rows(source) as rows:
            self.columns = find_prompt_columns(rows.table, self.columns)
            refuse_problems(rows.table.problems)
            for columns in iterate_chunks(rows.table):
                yield from self._answer_chunk(columns, max_new_tokens)

    def _answer_chunk(self, columns: dict[str, list[Any]], max_new_tokens: int) -> Iterator[dict[str, Any]]:
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        prompts = [self.find_prompt(row) for row in rows]
        usable = [i for i, prompt in enumerate(prompts) if prompt]
        answers = dict(zip(usable, self.answer([prompts[i] or "" for i in usable], max_new_tokens), strict=True))
        for i, row in enumerate(rows):
            yield {**row, "prediction": answers.get(i)}

    def find_prompt(self, row: Mapping[str, Any]) -> Prompt | None:
        """What a row asks: its messages without a last answer, its prompt, or its text; None where there is nothing."""
        cells = {role: row.get(name) for role, name in self.columns.items()}
        if self.form == "messages":
            cell = cells.get("messages", cells.get("prompt"))
            if isinstance(cell, str) and cell.strip() and not cell.lstrip().startswith("["):
                return cell  # a plain text is one turn of the user's
            messages = list(parse_objects(cell, is_json=True) or [])
            while messages and messages[-1].get("role", messages[-1].get("from")) in ("assistant", "gpt"):
                messages = messages[:-1]
            return messages or None
        if self.form == "instruction":
            filled = {role: cells.get(role) or "" for role in ("instruction", "input", "system", "output")}
            return ask(filled) if self.has_template else join_prompt(filled)[0]
        value = cells.get("prompt", cells.get("text"))
        return value if isinstance(value, str) and value.strip() else None


def find_prompt_columns(table: RowTable, columns: dict[str, str]) -> dict[str, str]:
    """The columns by role that hold what is asked: those that were learned from, else one with a usual name.

    Raises:
        DataError: if there is none.
    """
    learned = [name for role, name in columns.items() if role in ASKING]
    if all(name in table.kinds for name in learned):
        return columns
    by_normal = {normalize_name(name): name for name in table.names}
    usual = [by_normal[name] for name in USUAL_PROMPTS if name in by_normal]
    if usual and len(learned) == 1:
        return {next(role for role in columns if role in ASKING): usual[0]}
    check_columns(table, learned)
    return columns
