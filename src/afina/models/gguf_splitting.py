r"""How a byte-level vocabulary of a GGUF file wants text to be cut before merging, by the name in
`tokenizer.ggml.pre`.

The names are those of llama.cpp (src/llama-vocab.cpp), the patterns those of the published tokenizers. A name that
is not listed is refused: a wrong cut gives other tokens than the model learned, and nothing would show it.
"""

from __future__ import annotations

from dataclasses import dataclass

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_DIGIT = r"\p{N}"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", _DIGIT)
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
_GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*"
    rf"{_CONTRACTIONS}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}"
)
_TEKKEN = _GPT4O.replace(f"{_CONTRACTIONS}?", "").replace(r"\p{N}{1,3}", _DIGIT)
_BLOOM = " ?[^(\\s|[.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c])]+"


@dataclass(frozen=True, slots=True)
class Splitting:
    """What is done to a text before merging."""

    patterns: tuple[str, ...]
    """The text is cut by each in turn, so that its matches stand alone."""
    whole_words: bool = False
    """A piece that is in the vocabulary is taken as it is, without merging."""
    adds_bos: bool = False
    """Whether a text begins with the bos token where the file doesn't say."""
    composes: bool = False
    """Letters and accents are put together first (NFC), as the published tokenizers of Qwen do."""


def _list_splittings() -> dict[str, Splitting]:
    groups = {
        "gpt-2 phi-2 mpt olmo jais trillion exaone4 gigachat a.x-4.0 mellum granite-docling": Splitting((_GPT2,)),
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2": Splitting((_DIGIT, _GPT2)),
        "llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2": Splitting((_LLAMA3,), True, True),
        "dbrx smaug-bpe": Splitting((_LLAMA3,)),
        "tekken": Splitting((_TEKKEN,), True, True),
        "qwen2": Splitting((_QWEN2,), composes=True),
        "qwen35": Splitting((_QWEN35,), composes=True),
        "deepseek-r1-qwen stablelm2 hunyuan solar-open kormo f2llmv2 megrez grok-2": Splitting((_QWEN2,)),
        "gpt-4o llama4 kanana2 talkie minimax-m2": Splitting((_GPT4O,)),
        "bloom": Splitting((_BLOOM,)),
    }
    return {name: splitting for names, splitting in groups.items() for name in names.split()}


SPLITTINGS = _list_splittings()
