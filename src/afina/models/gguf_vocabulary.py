"""The vocabulary of a GGUF file: its tokens, what kind each is of, and which have a role."""

from __future__ import annotations

from dataclasses import dataclass

from afina.errors import ModelError
from afina.models.gguf_header import GgufHeader, describe_damage

GGML = "tokenizer.ggml."
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4
ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
# Tokens that end a turn or a text whatever the file says of them, as in llama.cpp.
ENDS = frozenset({
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<end_of_turn>", "<turn|>", "<|endoftext|>",
    "<|end_of_text|>", "<|eom_id|>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "</s>",
})  # fmt: skip
# In o200k_harmony <|end|> closes a message, and these two the turn.
HARMONY = frozenset({"<|return|>", "<|call|>"})


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The tokens of one file; a token's place is its id."""

    tokens: list[str]
    kinds: list[int]
    """NORMAL, CONTROL and so on; a token with a role is a control token whatever the file says."""
    roles: dict[str, int]
    """Ids of the bos, eos, unk and pad token, those that the file names."""
    ends: list[int]
    """Ids that end a generation, the eos token first."""


def read_vocabulary(header: GgufHeader) -> Vocabulary:
    """The vocabulary of the file. Raises ModelError: there is none, or one that can't be."""
    tokens = _read_tokens(header)
    kinds = header.find_list(f"{GGML}token_type", int) or [NORMAL] * len(tokens)
    if len(kinds) != len(tokens):
        raise describe_damage(header.path, f"{len(tokens):,} tokens, and kinds of {len(kinds):,}")
    roles = {name: header.find(f"{GGML}{key}_token_id", int) for name, key in ROLES.items()}
    # Converters wrote -1 for none, which reads as 4,294,967,295.
    named = {name: place for name, place in roles.items() if place is not None and 0 <= place < len(tokens)}
    ends = _find_ends(header, tokens)
    special = {*named.values(), *ends}
    return Vocabulary(tokens, [CONTROL if place in special else kind for place, kind in enumerate(kinds)], named, ends)


def _read_tokens(header: GgufHeader) -> list[str]:
    tokens = header.find_list(f"{GGML}tokens", str)
    if not tokens:
        raise ModelError(
            f"{header.path} holds no tokenizer",
            found=f"no {GGML}tokens",
            remedy="--model with a .gguf file that has one, or with the original model",
        )
    named = [token or f"[EMPTY_{place}]" for place, token in enumerate(tokens)]  # as in llama.cpp
    places = {token: place for place, token in enumerate(named)}
    if len(places) < len(named):
        twice = next(token for place, token in enumerate(named) if places[token] != place)
        raise describe_damage(header.path, f"the token {twice[:80]!r} twice in the vocabulary")
    return named


def _find_ends(header: GgufHeader, tokens: list[str]) -> list[int]:
    named = [header.find(f"{GGML}{key}_token_id", int) for key in ("eos", "eot", "eom")]
    ends = ENDS - {"<|end|>"} if set(tokens) >= HARMONY else ENDS
    by_text = [place for place, token in enumerate(tokens) if token in ends]
    return list(dict.fromkeys(place for place in (*named, *by_text) if place is not None and 0 <= place < len(tokens)))
