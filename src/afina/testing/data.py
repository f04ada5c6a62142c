"""Small sets, labelled or of conversations, with a signal that a tiny model can learn from bytes.

A topic has words of its own, and a text mixes words of its topic with words of none. In `pairs` the label
depends on the second text alone, so a model that never reads it can only guess. No two rows of a set are
equal.
"""

from __future__ import annotations

import random
from typing import Any, Literal

Kind = Literal["multiclass", "binary", "multilabel", "regression", "pairs"]
Form = Literal["messages", "completion", "instruction", "text"]
TaggedForm = Literal["words", "plain", "spans"]

TOPICS: dict[str, tuple[str, ...]] = {
    "kitchen": ("kettle", "cook", "knife", "rack", "fork", "oak spoon", "cake", "milk"),
    "music": ("jazz", "quiz", "quartz bell", "jingle", "quintet", "zither", "jukebox", "quaver"),
    "weather": ("warm wind", "wet", "willow", "snow", "dew", "low cloud", "swallow", "western"),
}
FILLERS = ("the", "one", "and", "then", "near", "is", "on", "at", "in", "a", "late", "here")
GOOD, BAD = TOPICS["kitchen"], TOPICS["weather"]


def make_rows(kind: Kind = "multiclass", rows: int = 64, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with `text` and `label`: a name, a list of names (multilabel), or a float in [-1, 1] (regression).

    `pairs` adds `text_pair`. Classes take turns, so they differ by one row at most. The same arguments give
    the same rows.
    """
    source = random.Random(f"{kind}/{seed}")
    build = _BUILDERS[kind]
    made: dict[str, dict[str, Any]] = {}
    while len(made) < rows:
        row = build(source, len(made))
        made.setdefault(str(row), row)
    return list(made.values())


def make_conversations(form: Form = "messages", rows: int = 32, seed: int = 0) -> list[dict[str, Any]]:
    """Rows for a language model, of several lengths: what is asked names a topic, the answer is a word of it.

    No two prompts of a set are equal. The same arguments give the same rows.
    """
    source = random.Random(f"{form}/{seed}")
    made: dict[str, dict[str, Any]] = {}
    while len(made) < rows:
        topic = list(TOPICS)[len(made) % len(TOPICS)]
        asked = _write_text(source, source.choices(TOPICS[topic], k=source.randint(1, 3)))
        answer = " ".join(source.choices(TOPICS[topic], k=source.randint(1, 4)))
        made.setdefault(asked, _FORMS[form](asked, answer))
    return list(made.values())


def make_tagged(form: TaggedForm = "words", rows: int = 32, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of words among which those of a topic are entities of that type, in BIO tags, one or two words long.

    `words` gives `tokens` and `tags`, `plain` gives `tokens` and `pos_tags` without prefixes, `spans` gives `text` and
    `entities`. The same arguments give the same rows.
    """
    source = random.Random(f"tagged/{form}/{seed}")
    made: dict[str, dict[str, Any]] = {}
    while len(made) < rows:
        pieces = [(word, "") for word in source.choices(FILLERS, k=source.randint(2, 5))]
        topics = source.choices(list(TOPICS), k=source.randint(1, 2))
        pieces += [(source.choice(TOPICS[topic]), topic) for topic in topics]
        source.shuffle(pieces)
        made.setdefault(str(pieces), _TAGGED[form](pieces))
    return list(made.values())


def _tag_words(pieces: list[tuple[str, str]]) -> dict[str, Any]:
    words, tags = [], []
    for text, topic in pieces:
        for place, word in enumerate(text.split()):
            words.append(word)
            tags.append(f"{'I' if place else 'B'}-{topic}" if topic else "O")
    return {"tokens": words, "tags": tags}


def _tag_plainly(pieces: list[tuple[str, str]]) -> dict[str, Any]:
    pairs = [(word, topic.upper() or "X") for text, topic in pieces for word in text.split()]
    return {"tokens": [word for word, _ in pairs], "pos_tags": [tag for _, tag in pairs]}


def _mark_spans(pieces: list[tuple[str, str]]) -> dict[str, Any]:
    text, entities = "", []
    for piece, topic in pieces:
        start = len(text)
        text += piece + " "
        if topic:
            entities.append({"start": start, "end": start + len(piece), "label": topic})
    return {"text": text.strip(), "entities": entities}


_TAGGED: dict[str, Any] = {"words": _tag_words, "plain": _tag_plainly, "spans": _mark_spans}


_FORMS: dict[str, Any] = {
    "messages": lambda asked, answer: {
        "messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    },
    "completion": lambda asked, answer: {"prompt": asked, "completion": answer},
    "instruction": lambda asked, answer: {"instruction": "Name the topic.", "input": asked, "output": answer},
    "text": lambda asked, answer: {"text": f"{asked}: {answer}"},
}


def _write_text(source: random.Random, words: list[str]) -> str:
    """The words and three to six fillers, shuffled into one line."""
    mixed = words + source.choices(FILLERS, k=source.randint(3, 6))
    source.shuffle(mixed)
    return " ".join(mixed)


def _draw_words(source: random.Random, topic: str) -> list[str]:
    return source.choices(TOPICS[topic], k=source.randint(3, 5))


def _multiclass(source: random.Random, number: int) -> dict[str, Any]:
    topic = list(TOPICS)[number % len(TOPICS)]
    return {"text": _write_text(source, _draw_words(source, topic)), "label": topic}


def _binary(source: random.Random, number: int) -> dict[str, Any]:
    topic, label = (("music", "yes"), ("weather", "no"))[number % 2]
    return {"text": _write_text(source, _draw_words(source, topic)), "label": label}


def _multilabel(source: random.Random, number: int) -> dict[str, Any]:
    topics = [topic for bit, topic in enumerate(TOPICS) if number >> bit & 1]
    words = [word for topic in topics for word in source.choices(TOPICS[topic], k=2)]
    return {"text": _write_text(source, words), "label": topics}


def _regression(source: random.Random, number: int) -> dict[str, Any]:
    good = number % 7
    words = source.choices(GOOD, k=good) + source.choices(BAD, k=6 - good)
    return {"text": _write_text(source, words), "label": round((2 * good - 6) / 6, 3)}


def _pairs(source: random.Random, number: int) -> dict[str, Any]:
    topic, label = (("music", "yes"), ("weather", "no"))[number % 2]
    first = _write_text(source, _draw_words(source, source.choice(list(TOPICS))))
    return {"text": first, "text_pair": _write_text(source, _draw_words(source, topic)), "label": label}


_BUILDERS = {
    "multiclass": _multiclass,
    "binary": _binary,
    "multilabel": _multilabel,
    "regression": _regression,
    "pairs": _pairs,
}
