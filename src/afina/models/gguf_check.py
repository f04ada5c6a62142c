"""What a GGUF file holds and whether it can be converted, from its header alone: no tensor is read, no torch needed.

All problems of one file are said at once, before anything is hashed or de-quantised.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from afina.errors import ModelError, Problem
from afina.models.gguf_header import GgufHeader, read_header
from afina.models.gguf_positions import TABLES, check_positions
from afina.models.gguf_tokenizer import check_tokenizer
from afina.models.gguf_vocabulary import GGML, read_vocabulary

SPLIT_NAME = re.compile(r"-\d{5}-of-(\d{5})\.gguf", re.ASCII)
# Where transformers keeps its architectures: file, and table whose keys they are.
ARCHITECTURE_TABLES = (
    ("integrations/ggml.py", "GGUF_CONFIG_MAPPING"),
    ("integrations/gguf/gguf_config_mapping.py", "GGUF_CONFIG_ARCHS"),
)
# Keys of these tables that are no causal language model.
NOT_CAUSAL = frozenset({"general", "tokenizer", "t5", "umt5", "deci"})
EMBEDDING = "token_embd.weight"
BLOCK = re.compile(r"blk\.(\d+)\.", re.ASCII)
# The longest context so far is 10 million tokens; all other sizes are smaller.
LARGEST_SETTING = 1 << 24


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """What is known of a GGUF file without reading a tensor."""

    path: Path
    architecture: str
    """By llama.cpp's name, such as llama or qwen2."""
    parameters: int
    """Numbers in its tensors; tied matrices count once."""
    bytes: int
    """Bytes of these numbers as stored."""
    types: tuple[str, ...]
    """How they are stored, such as F32 or Q4_K, sorted."""
    context_length: int | None
    """Tokens that the model was made for, None where the file doesn't say."""
    vocab_size: int
    has_chat_template: bool


def check_gguf(path: Path) -> GgufFacts:
    """Facts on the file, from its header alone.

    Raises:
        ModelError: no GGUF file, damaged, or a model that can't be converted; all problems of a whole header at once.
    """
    header = read_header(path)
    vocabulary = read_vocabulary(header)
    problems = [
        *_check_kind(header),
        *check_tokenizer(header),
        *_check_length(header),
        *_check_sizes(header, len(vocabulary.tokens)),
    ]
    problems = problems or check_positions(header)  # reads a table, which must be there
    if problems:
        raise ModelError(f"the model in {path} can't be used", problems=problems)
    weights = [tensor for tensor in header.tensors if tensor.name not in TABLES]
    return GgufFacts(
        path=path,
        architecture=header.architecture,
        parameters=sum(tensor.numbers for tensor in weights),
        bytes=sum(tensor.bytes for tensor in weights),
        types=tuple(sorted({tensor.type for tensor in weights})),
        context_length=header.find(f"{header.architecture}.context_length", int),
        vocab_size=len(vocabulary.tokens),
        has_chat_template=bool(header.find("tokenizer.chat_template", str)),
    )


def list_architectures() -> tuple[str, ...]:
    """Names of the architectures that transformers reads from GGUF and that write text, sorted.

    Read from its source text, as in `architectures`: importing it would import torch. None for a version that keeps
    them elsewhere; whether it can read one shows then when it does.
    """
    names = {name for file, table in ARCHITECTURE_TABLES for name in _list_keys(file, table)} - NOT_CAUSAL
    # The tables have transformers' names, the files those of llama.cpp: gpt_oss is gpt-oss, qwen2_moe qwen2moe.
    spellings = {name.replace("_moe", "moe").replace("_", "-") for name in names}
    return tuple(sorted(spellings))


def _list_keys(file: str, table: str) -> list[str]:
    """Keys of a literal table in the source of transformers; none where this version has no such file or table."""
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return []
    try:
        tree = ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8"))
    except OSError:
        return []
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(keys=keys)) if name == table:
                return [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    return []


def _check_kind(header: GgufHeader) -> list[Problem]:
    """Why it isn't the whole model of a known architecture, if it isn't."""
    problems = []
    kind = header.find("general.type", str) or "model"
    if kind != "model":
        problems.append(
            Problem(
                "the file holds no model", f"general.type {kind}", "model", "--model with the .gguf file of a model"
            )
        )
    known = list_architectures()
    if kind == "model" and known and header.architecture not in known:
        problems.append(
            Problem(
                "transformers can't read this architecture from a .gguf file",
                found=header.architecture,
                expected=f"one of {', '.join(known)}",
                remedy="--model with the original model, of which the .gguf file was made",
            )
        )
    parts = header.settings.get("split.count", 1)
    named = SPLIT_NAME.search(header.path.name)
    parts = max(parts if isinstance(parts, int) else 1, int(named[1]) if named else 1)
    if parts > 1:
        problems.append(
            Problem(
                f"the file is one of the {parts} parts of a model",
                found=header.path.name,
                expected="the whole model in one file",
                remedy="join them with llama.cpp: llama-gguf-split --merge FIRST_PART NEW.gguf",
            )
        )
    return problems


def _check_length(header: GgufHeader) -> list[Problem]:
    """Whether all tensors lie inside the file."""
    needed = max((tensor.begin + tensor.bytes for tensor in header.tensors), default=0)
    if needed <= header.size:
        return []
    return [
        Problem(
            "the file is cut short",
            found=f"{header.size:,} bytes, while its header describes {needed:,}",
            remedy="download the file again",
        )
    ]


def _check_sizes(header: GgufHeader, vocab_size: int) -> list[Problem]:
    """Whether settings and tensors tell of the same sizes, so that no model is made of a forged one."""
    remedy = "--model with another .gguf file of this model, or with the original"
    problems: list[Problem] = []
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    rows, columns = (*shapes.get(EMBEDDING, ()), 0, 0)[:2]
    if rows != vocab_size:
        sizes = f"{vocab_size:,} tokens in {GGML}tokens, {rows:,} rows in {EMBEDDING}"
        problem = "the tokenizer and the embedding disagree in size"
        problems.append(Problem(problem, sizes, "one row for each token", remedy))
    prefix = f"{header.architecture}."
    found: list[str] = []
    width = header.find(f"{prefix}embedding_length", int)
    if width != columns:
        found.append(f"embedding_length {width or 0:,}, rows of {columns:,} numbers in {EMBEDDING}")
    layers = header.find(f"{prefix}block_count", int)
    blocks = len({match[1] for name in shapes if (match := BLOCK.match(name))})
    if layers != blocks:
        found.append(f"block_count {layers or 0:,}, tensors of {blocks:,} blocks")
    found += [
        f"{key.removeprefix(prefix)} {value:,}, more than {LARGEST_SETTING:,}"
        for key, value in header.settings.items()
        if key.startswith(prefix) and type(value) is int and value > LARGEST_SETTING
    ]
    if found:
        problems.append(Problem("the settings and the tensors disagree", "; ".join(found), remedy=remedy))
    return problems
