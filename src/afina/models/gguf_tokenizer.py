"""The tokenizer that a GGUF file describes, as one of transformers, with the very ids of the file.

Byte-level vocabularies (`gpt2`) and sentencepiece ones (`llama`, `gemma4`) are built here from the file's lists.
What transformers 5.23 makes of them is not used, because:

- It cuts text as GPT-2 does wherever it doesn't know `tokenizer.ggml.pre`, `smollm` among them, and says nothing.
- It takes no notice that Llama 3 and Tekken look a whole word up before they merge (`ignore_merges`).
- Control tokens outside the byte alphabet, such as DeepSeek's, are cut into pieces, or get new ids after the
  model's embedding.
- For sentencepiece it puts the leading space only before the first text, not after each control token, and does so
  even where `tokenizer.ggml.add_space_prefix` says no.

Ids were compared with those of llama.cpp over 2,900 texts for each way to cut text, and for sentencepiece. They are the
same but where llama.cpp only comes near the published pattern (one text for those of GPT-4o and Tekken), and where an
accent stands apart from its letter, which Qwen's own tokenizer composes and llama.cpp doesn't.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from afina.errors import ModelError, Problem, describe_cause
from afina.models.gguf_header import GgufHeader
from afina.models.gguf_splitting import SPLITTINGS
from afina.models.gguf_vocabulary import CONTROL, GGML, UNKNOWN, USER_DEFINED, Vocabulary
from afina.models.load import load_tokenizer, quiet_transformers

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

KINDS = ("gpt2", "llama", "gemma4")
SPACE = "\u2581"
# What tokenizers cut in different ways: numbers, short forms, white space, capitals, other scripts, code.
PROBES = (
    "Hello, Ana's 123 cats  are\n\nhere", " 1 22 333 4444", "HELLO'S don't I'LL", "    \t\n x \r\n\n  y",
    "¿Qué tal? ñandú — 漢字かな 한국어 عربي", "def f(x):\n    return x**2  # 10,000.5%",
)  # fmt: skip


def check_tokenizer(header: GgufHeader) -> list[Problem]:
    """Why the tokenizer can't be built, from the settings alone."""
    kind, pre = header.find(f"{GGML}model", str), header.find(f"{GGML}pre", str)
    merges, scores = header.find_list(f"{GGML}merges", str), header.find_list(f"{GGML}scores", float)
    tokens = header.find_list(f"{GGML}tokens", str) or []
    remedy = "--model with the original model, of which the .gguf file was made"
    if kind not in KINDS:
        found = f"{GGML}model: {kind}"
        return [Problem("the tokenizer is of a kind that can't be read", found, f"one of {', '.join(KINDS)}", remedy)]
    if kind == "llama" and not header.architecture.startswith("gemma") and len(scores or ()) != len(tokens):
        found = f"{len(scores or ()):,} scores of {len(tokens):,} tokens"
        return [Problem("the tokenizer can't be built", found, "a score of each token", remedy)]
    problems = []
    if kind == "gpt2" and merges is None:
        problems.append(Problem("the tokenizer can't be built", f"no {GGML}merges", remedy=remedy))
    if kind == "gpt2" and pre not in SPLITTINGS:
        found = f"{GGML}pre: {pre}" if pre else f"no {GGML}pre"
        known = f"one of {', '.join(sorted(SPLITTINGS))}"
        problems.append(Problem("it isn't known how the tokenizer cuts text into words", found, known, remedy))
    return problems


def build_tokenizer(header: GgufHeader, vocabulary: Vocabulary) -> PreTrainedTokenizerBase:
    """The tokenizer, each of whose tokens has the id of the file.

    Raises ModelError: of an unknown kind, with an unknown way to cut text, or with ids that don't come out.
    """
    from transformers import PreTrainedTokenizerFast

    with quiet_transformers():
        try:
            backend = _build_backend(header, vocabulary)
            _mark_tokens(header, vocabulary, backend)
            _add_ends(header, vocabulary, backend)
        except ModelError:
            raise
        except Exception as error:  # the tokenizers library raises plain Exceptions
            raise _refuse(header, "that can't be built", describe_cause(error, "transformers")) from error
        context_length = header.find(f"{header.architecture}.context_length", int)
        tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast(
            tokenizer_object=backend,
            **{f"{role}_token": vocabulary.tokens[place] for role, place in vocabulary.roles.items()},
            **({"model_max_length": context_length} if context_length else {}),
            chat_template=header.find("tokenizer.chat_template", str),
            clean_up_tokenization_spaces=False,
        )
    return tokenizer


def check_reloaded(tokenizer: PreTrainedTokenizerBase, folder: Path, path: Path) -> None:
    """Refuse a folder whose tokenizer transformers reads otherwise: of some architectures (Qwen2) it builds its own,
    which cuts text in one way whatever tokenizer.json says.

    Args:
        tokenizer: what was written.
        folder: where it was, with the model's config.json.
        path: of the GGUF file.
    """
    again = load_tokenizer(folder)
    for text in PROBES:
        wanted, found = (each(text, add_special_tokens=False)["input_ids"] for each in (tokenizer, again))
        if wanted != found:
            raise ModelError(
                f"transformers reads the tokenizer of {path} otherwise than the file describes it",
                found=f"{again.convert_ids_to_tokens(found)[:12]}, by {type(again).__name__}",
                expected=f"{tokenizer.convert_ids_to_tokens(wanted)[:12]}",
                remedy="--model with the original model, of which the .gguf file was made",
            )


def _build_backend(header: GgufHeader, vocabulary: Vocabulary) -> Tokenizer:
    problems = check_tokenizer(header)
    if problems:
        raise ModelError(f"the tokenizer in {header.path} can't be used", problems=problems)
    kind = header.find(f"{GGML}model", str)
    if kind == "gpt2":
        return _build_byte_level(header, vocabulary)
    return _build_sentencepiece(header, vocabulary)


def _build_byte_level(header: GgufHeader, vocabulary: Vocabulary) -> Tokenizer:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    splitting = SPLITTINGS[header.find(f"{GGML}pre", str) or ""]
    places = {token: place for place, token in enumerate(vocabulary.tokens)}
    pairs = [_cut_merge(merge) for merge in header.find_list(f"{GGML}merges", str) or []]
    backend = Tokenizer(models.BPE(places, pairs, ignore_merges=splitting.whole_words))
    if splitting.composes:
        backend.normalizer = normalizers.NFC()
    splits = [pre_tokenizers.Split(Regex(pattern), behavior="isolated") for pattern in splitting.patterns]
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*splits, byte_level])
    backend.decoder = decoders.ByteLevel()
    return backend


def _cut_merge(merge: str) -> tuple[str, str]:
    """Left and right of the space between them."""
    place = merge.index(" ")
    return merge[:place], merge[place + 1 :]


def _build_sentencepiece(header: GgufHeader, vocabulary: Vocabulary) -> Tokenizer:
    """The tokenizer as Llama 2 published it: spaces become a letter, and one is put before each text."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    tokens = vocabulary.tokens
    # Gemma's merges follow the order of its tokens, and it puts no space first unless told to.
    is_gemma = header.architecture.startswith("gemma")
    scores = header.find_list(f"{GGML}scores", float) or []
    priorities = [float(-place) for place in range(len(tokens))] if is_gemma else scores
    pieces = dict(zip(tokens, priorities, strict=True))
    places = {token: place for place, token in enumerate(tokens)}
    unknown = tokens[vocabulary.roles.get("unk", 0)]
    given = header.find_list(f"{GGML}merges", str)
    merges = [_cut_merge(merge) for merge in given] if given else _derive_merges(pieces, places)
    backend = Tokenizer(models.BPE(places, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    flag = header.find(f"{GGML}add_space_prefix", bool)
    has_prefix = not is_gemma if flag is None else flag
    prefix: list[Any] = [normalizers.Prepend(SPACE)] if has_prefix else []
    strip: list[Any] = [decoders.Strip(" ", 1, 0)] if has_prefix else []
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    backend.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", SPACE)])
    backend.decoder = decoders.Sequence(steps)
    return backend


def _derive_merges(pieces: dict[str, float], places: dict[str, int]) -> list[tuple[str, str]]:
    """The pairs that make up each piece, best score first; equals in the order of transformers' own conversion."""
    merges = []
    for piece, score in pieces.items():
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        pairs = [pair for pair in pairs if pair[0] in pieces and pair[1] in pieces]
        pairs.sort(key=lambda pair: (places[pair[0]], places[pair[1]]))
        merges += [(score, left, right) for left, right in pairs]
    merges.sort(key=lambda merge: (merge[0], len(merge[1]), len(merge[2])), reverse=True)
    return [(left, right) for _, left, right in merges]


def _mark_tokens(header: GgufHeader, vocabulary: Vocabulary, backend: Tokenizer) -> None:
    """Keep control tokens, and those that the makers defined, whole in any text, and prove that they are."""
    from tokenizers import AddedToken

    # Phi-3 swallows the newline after a marker; only its sentencepiece vocabulary does, and no setting says so.
    strips = header.architecture == "phi3" and header.find(f"{GGML}model", str) == "llama"
    special, plain = {}, {}
    for place, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True)):
        if kind not in (UNKNOWN, CONTROL, USER_DEFINED):
            continue
        if kind == USER_DEFINED:
            plain[place] = AddedToken(token, special=False, normalized=False)
        else:
            rstrip = strips and kind == CONTROL and token not in ("<s>", "<|endoftext|>")
            special[place] = AddedToken(token, special=True, normalized=False, rstrip=rstrip)
    backend.add_special_tokens(list(special.values()))
    backend.add_tokens(list(plain.values()))
    tokens = {place: vocabulary.tokens[place] for place in (*special, *plain, *vocabulary.roles.values())}
    wrong = [token for place, token in tokens.items() if backend.encode(token, add_special_tokens=False).ids != [place]]
    if wrong:
        raise _refuse(header, "whose control tokens don't stay whole", ", ".join(map(repr, wrong[:8])))


def _add_ends(header: GgufHeader, vocabulary: Vocabulary, backend: Tokenizer) -> None:
    """Put the bos before and the eos token after each text, if the file or the kind of tokenizer wants it."""
    from tokenizers import processors

    wanted = {"bos": _wants_bos(header), "eos": header.find(f"{GGML}add_eos_token", bool) is True}
    used = {
        role: (vocabulary.tokens[vocabulary.roles[role]], vocabulary.roles[role])
        for role, is_wanted in wanted.items()
        if is_wanted and role in vocabulary.roles
    }
    first, last = ([used[role][0]] if role in used else [] for role in wanted)
    single = [*first, "$A", *last]
    pair = [*single, *(f"{token}:1" for token in first), "$B:1", *(f"{token}:1" for token in last)]
    backend.post_processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=list(used.values()))


def _wants_bos(header: GgufHeader) -> bool:
    kind = header.find(f"{GGML}model", str)
    if kind == "gemma4":
        return False  # its chat template writes the token, and transformers' own tokenizer adds none
    flag = header.find(f"{GGML}add_bos_token", bool)
    if flag is not None:
        return flag
    pre = header.find(f"{GGML}pre", str)
    return kind == "llama" or (pre in SPLITTINGS and SPLITTINGS[pre].adds_bos)


def _refuse(header: GgufHeader, what: str, found: str, expected: str = "") -> ModelError:
    return ModelError(
        f"{header.path} has a tokenizer {what}",
        found=found,
        expected=expected,
        remedy="--model with the original model, of which the .gguf file was made",
    )
