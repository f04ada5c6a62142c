"""Answers: the likeliest ones, or drawn ones that follow the probabilities and the seed, whatever is in their batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GenerationConfig

from afina.data.batches import PROMPTS_AT_ONCE
from afina.errors import ConfigError, DataError, ModelError
from afina.models.load import load_language_model, load_tokenizer
from afina.pipeline.language.answers import Answerer, choose_generation
from afina.pipeline.language.decoding import Decoding, GumbelNoise
from afina.pipeline.language.prompts import PromptReader
from afina.pipeline.language.speaker import Speaker

PROMPTS = [
    "a kettle",
    "the",
    "one and then a late knife near",
    "x",
    "snow",
    "it is",
    "at",
    "w",
    "jazz on a bell",
    "quiz",
]
DRAWN = {"max_new_tokens": 8, "temperature": 1.5}


@pytest.fixture(scope="module")
def speak(tiny_models: Callable[[str], Path]) -> Callable[..., Speaker]:
    """`speak(family="llama")`: a speaker without a template, in fp32."""

    def build(family: str = "llama") -> Speaker:
        folder = tiny_models(family)
        model, tokenizer = load_language_model(folder).model.eval(), load_tokenizer(folder)
        reader = PromptReader("text", {"text": "text"}, has_template=False)
        return Speaker(Answerer(model, tokenizer, [tokenizer.eos_token_id], "cpu", "fp32"), reader)

    return build


def test_the_likeliest_answer_is_the_default(speak: Callable[..., Speaker]) -> None:
    speaker = speak()
    ids = speaker.encode(PROMPTS[0])
    for _ in range(6):
        ids.append(int(speaker.model(torch.tensor([ids])).logits[0, -1].argmax()))
    wanted = speaker.tokenizer.decode(ids[-6:], skip_special_tokens=True).strip()
    assert speaker.answer(PROMPTS[:1], Decoding(6)) == [wanted]
    assert speaker.answer(PROMPTS[:1], Decoding(6, temperature=0, top_p=0.5)) == [wanted]
    assert speaker.answer(PROMPTS[:1], Decoding(6, top_p=1e-6)) == [wanted]


@pytest.mark.parametrize("more", [{}, {"top_p": 0.9}])
def test_drawn_answers_follow_the_seed(speak: Callable[..., Speaker], more: dict[str, Any]) -> None:
    speaker = speak()
    first = speaker.answer(PROMPTS, Decoding(**DRAWN, **more, seed=1))
    assert speaker.answer(PROMPTS, Decoding(**DRAWN, **more, seed=1)) == first
    assert speaker.answer(PROMPTS, Decoding(**DRAWN, **more, seed=2)) != first
    assert speaker.answer(PROMPTS, Decoding(8)) != first
    assert len(set(speaker.answer(["the"] * 9, Decoding(**DRAWN, **more)))) > 1, "equal prompts get different answers"


def test_an_answer_does_not_depend_on_those_beside_it(speak: Callable[..., Speaker]) -> None:
    speaker = speak()
    assert len(PROMPTS) > PROMPTS_AT_ONCE
    together = speaker.answer(PROMPTS, Decoding(**DRAWN, seed=3))
    for number, prompt in enumerate(PROMPTS):
        alone = speaker.answer_batch({number: speaker.encode(prompt)}, Decoding(**DRAWN, seed=3))
        assert alone == {number: together[number]}


def test_draws_follow_the_probabilities() -> None:
    logits_BV = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).expand(2000, 4)
    noisy_BV = GumbelNoise(0, range(2000), torch.device("cpu"))(torch.zeros(0), logits_BV)
    shares_V = torch.bincount(noisy_BV.argmax(dim=1), minlength=4) / 2000
    assert torch.allclose(shares_V, logits_BV[0].softmax(dim=0), atol=0.03)


def test_an_answer_is_told_while_it_comes(speak: Callable[..., Speaker]) -> None:
    speaker, told = speak(), []
    decoding = Decoding(**DRAWN, seed=5)
    answer = speaker.stream(PROMPTS[0], told.append, decoding, number=4)
    assert "".join(told).strip() == answer
    assert answer == speaker.answer(["x"] * 4 + PROMPTS[:1], decoding)[4]
    assert answer != speaker.stream(PROMPTS[0], told.append, decoding, number=5)


def test_special_tokens_inside_an_answer_are_shown(
    speak: Callable[..., Speaker], monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker, told = speak(), []
    call = speaker.tokenizer.convert_tokens_to_ids("t")
    end, start = speaker.tokenizer.eos_token_id, speaker.tokenizer.bos_token_id
    speaker.tokenizer.add_special_tokens({"additional_special_tokens": ["<call>"]})
    given = [start, speaker.tokenizer.convert_tokens_to_ids("<call>"), call, call, end]

    def generate(input_ids: torch.Tensor, streamer: Any = None, **_: Any) -> torch.Tensor:
        for token in (input_ids[0], *torch.tensor(given)[:, None]) if streamer else ():
            streamer.put(token)
        if streamer:
            streamer.end()
        return torch.cat([input_ids, torch.tensor([given])], dim=1)

    monkeypatch.setattr(speaker.model, "generate", generate)
    assert speaker.answer(PROMPTS[:1]) == ["<call>tt"]
    assert speaker.stream(PROMPTS[0], told.append, Decoding(9)) == "".join(told) == "<call>tt"


def test_of_a_model_s_settings_of_generation_few_are_followed(speak: Callable[..., Speaker]) -> None:
    speaker = speak()
    plain = speaker.answer(PROMPTS[:3], Decoding(12))
    stranger = GenerationConfig(
        num_beams=3, num_return_sequences=3, suppress_tokens=[10**9], bad_words_ids=[[10**9]], forced_eos_token_id=5
    )
    speaker.model.generation_config = stranger
    assert speaker.answer(PROMPTS[:3], Decoding(12)) == plain
    assert speaker.model.generation_config is stranger
    speaker.model.generation_config = GenerationConfig(no_repeat_ngram_size=1)
    assert speaker.answer(PROMPTS[:3], Decoding(12)) != plain


def test_settings_of_generation_stay_what_they_were_beside_an_adapter(speak: Callable[..., Speaker]) -> None:
    speaker = speak()
    wanted, plain = speaker.answer(PROMPTS[:1], Decoding(4)), speaker.model.generation_config
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peft
        adapted = get_peft_model(speaker.model, LoraConfig(task_type="CAUSAL_LM"))
    before = adapted.generation_config
    answerer = Answerer(adapted, speaker.tokenizer, speaker.answerer.stops, "cpu", "fp32")
    assert answerer.answer_prompts([speaker.encode(PROMPTS[0])], Decoding(4)) == wanted
    assert adapted.generation_config is before
    assert adapted.base_model.model.generation_config is plain


@pytest.mark.parametrize(
    ("name", "value"),
    [("repetition_penalty", -1.0), ("repetition_penalty", float("nan")), ("no_repeat_ngram_size", 1.5),
     ("no_repeat_ngram_size", -1)],
)  # fmt: skip
def test_settings_of_generation_that_mean_nothing_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ModelError, match=f"{name} in the model's generation_config.json can't be used"):
        choose_generation(SimpleNamespace(**{name: value}))


def test_an_answer_ends_where_the_window_ends(speak: Callable[..., Speaker]) -> None:
    speaker = speak("gpt2")
    window = speaker.model.config.max_position_embeddings
    longest = speaker.encode("x" * (window - 3))
    found = Answerer(speaker.model, speaker.tokenizer, [], "cpu", "fp32").answer_prompts([longest], Decoding(50))
    assert 0 < len(found[0]) <= 3, "GPT-2 has no positions for more"
    with pytest.raises(DataError) as caught:
        speaker.answer(["x", "x" * window, ""], Decoding(2))
    assert str(caught.value) == (
        "2 problems\n"
        "1. prompt 2 is of no use: a prompt that leaves no room for an answer\n"
        f"     found: {window:,} tokens, and the model takes {window:,} with the answer\n"
        "2. prompt 3 is of no use: an empty prompt"
    )


def test_an_answer_is_not_cut_off_by_a_longer_prompt_beside_it(speak: Callable[..., Speaker]) -> None:
    speaker, decoding = speak("gpt2"), Decoding(50)
    window = speaker.model.config.max_position_embeddings
    prompts = ["x" * (window - 3), "y" * (window - 3), *PROMPTS[:3]]
    with pytest.warns(UserWarning, match=f"2 answers ended where .* of {window:,} tokens ends \\(prompts 1, 2\\)"):
        together = speaker.answer(prompts, decoding)
    cut: list[int] = []
    for number, prompt in enumerate(prompts):
        alone = speaker.answer_batch({number: speaker.encode(prompt)}, decoding, cut.append)
        assert alone == {number: together[number]}
    assert cut == [0, 1]


def test_who_listens_is_told_that_the_window_ended(speak: Callable[..., Speaker]) -> None:
    speaker, cut = speak("gpt2"), list[int]()
    window = speaker.model.config.max_position_embeddings
    for prompt in ("x" * (window - 3), "the"):
        speaker.stream(prompt, str, Decoding(8), 7, cut.append)
    assert cut == [7]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Decoding(0, temperature=-1, top_p=1.5)
    assert str(caught.value) == (
        "3 problems\n"
        "1. max_new_tokens can't be used\n     found: 0\n     expected: a whole number from 1\n"
        "     do: max_new_tokens=256\n"
        "2. temperature can't be used\n     found: -1\n     expected: a number from 0 to 100\n"
        "     do: temperature=0.7\n"
        "3. top_p can't be used\n     found: 1.5\n     expected: a number above 0, at most 1\n     do: top_p=0.9"
    )
    with pytest.raises(ConfigError, match="temperature can't be used"):
        Decoding(temperature=float("nan"))
