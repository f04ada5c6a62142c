"""A byte-level tokenizer, built on the spot: 256 byte tokens and the special ones that a family uses.

A token is a byte of UTF-8, so every text can be encoded and none gives the unknown token. The special tokens,
their ids, the template around a text and the names of the inputs follow what each family publishes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BYTES = 256


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """The special tokens of a family. Their ids come first and in the order of `listed`; the bytes follow."""

    listed: tuple[str, ...]
    roles: dict[str, str]
    """Role in transformers (`cls_token`, `pad_token`, ...) -> token. A role left out is not defined."""
    single: str
    """Template around one text, in the notation of `tokenizers`."""
    pair: str
    """Template around two texts; `:1` marks what gets the token type 1."""
    token_types: bool = False
    """Whether `token_type_ids` are among the model's inputs."""

    @property
    def ids(self) -> dict[str, int]:
        """Token -> id."""
        return {token: number for number, token in enumerate(self.listed)}

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special ones and bytes."""
        return len(self.listed) + BYTES

    def find_id(self, role: str) -> int | None:
        """Id of the token in this role, None if the family doesn't define the role."""
        token = self.roles.get(role)
        return None if token is None else self.ids[token]


def _bert(*, token_types: bool) -> SpecialTokens:
    roles = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    roles["mask_token"] = "[MASK]"
    return SpecialTokens(
        tuple(roles.values()), roles, "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", token_types=token_types
    )


BERT = _bert(token_types=True)
BERT_WITHOUT_TYPES = _bert(token_types=False)
ROBERTA = SpecialTokens(
    ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
    {
        "bos_token": "<s>", "cls_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>",
        "sep_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>",
    },
    "<s> $A </s>", "<s> $A </s> </s> $B </s>",
)  # fmt: skip
LLAMA = SpecialTokens(
    ("<unk>", "<s>", "</s>"),
    {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "<s> $A", "<s> $A <s> $B",
)  # fmt: skip
QWEN = SpecialTokens(
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"},
    "$A", "$A $B",
)  # fmt: skip
GEMMA = SpecialTokens(
    ("<pad>", "<eos>", "<bos>", "<unk>"),
    {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"},
    "<bos> $A", "<bos> $A <bos> $B",
)  # fmt: skip
GPT2 = SpecialTokens(
    ("<|endoftext|>",),
    dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>"),
    "$A", "$A $B",
)  # fmt: skip
PHI3 = SpecialTokens(
    ("<unk>", "<s>", "<|endoftext|>"),
    {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    "$A", "$A $B",
)  # fmt: skip


def build_tokenizer(specials: SpecialTokens, *, model_max_length: int) -> PreTrainedTokenizerFast:
    """Tokenizer of `specials.vocab_size` tokens, one a byte, that cuts at `model_max_length` tokens when
    asked to."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers, processors
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = specials.ids | {letter: len(specials.listed) + i for i, letter in enumerate(letters)}
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=specials.single, pair=specials.pair, special_tokens=list(specials.ids.items())
    )
    inputs = ["input_ids", *(["token_type_ids"] if specials.token_types else []), "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=model_max_length,
        model_input_names=inputs,
        **specials.roles,
    )
