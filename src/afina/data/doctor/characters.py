"""Characters that went wrong on the way: text decoded by the wrong table, control characters, replacement marks."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator

from afina.data.doctor.check import Check
from afina.data.doctor.finding import Finding, Severity, shorten
from afina.data.doctor.found_rows import FoundRows
from afina.data.doctor.subject import Batch, Subject
from afina.wording import count

# Tab, line feed and carriage return have a meaning in texts; C1 stands where Windows' quotes were read as Latin-1.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufeff\ufffe]")
REPLACEMENT = "\ufffd"
# What a byte of a longer UTF-8 character looks like, followed by what the next one does, in Latin-1 and Windows-1252.
SUSPECT = re.compile("[\xc2-\xf4][\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]")
REPAIRS_MOST = 5


def is_mojibake(text: str) -> bool:
    """Whether the text was decoded by the wrong table: `cafÃ©` for `café`."""
    return find_mojibake(text) >= 0


def find_mojibake(text: str) -> int:
    """Where a text begins to differ from what was meant, -1 for one that was decoded by the right table."""
    if text.isascii() or not SUSPECT.search(text):
        return -1
    meant = decode_again(text)
    if meant == text:
        return -1
    return next((i for i, (sign, other) in enumerate(zip(text, meant, strict=False)) if sign != other), len(meant))


def decode_again(text: str) -> str:
    """The text as it was meant, where its bytes in Latin-1, Windows-1252 or the like are UTF-8."""
    from ftfy import fix_encoding

    return fix_encoding(text)


def clean_text(text: str) -> str:
    """The text decoded as it was meant, without control characters. Cleaning twice is cleaning once.

    Where Windows has a quote or a dash and Latin-1 a control character, it is the former that was meant.
    """
    from ftfy.fixes import fix_c1_controls

    for _ in range(REPAIRS_MOST):
        if text.isascii():
            return CONTROL.sub("", text)
        cleaned = decode_again(text) if is_mojibake(text) else text
        cleaned = CONTROL.sub("", fix_c1_controls(cleaned))
        if cleaned == text:
            break
        text = cleaned
    return text


class CharacterCheck(Check, ABC):
    """A check of the characters of each text. A subclass says which texts it means, and in what words."""

    code: str
    severity: Severity = "warning"
    what: str
    meaning: str
    remedy: str

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.found = FoundRows(subject)

    @abstractmethod
    def find(self, text: str) -> int:
        """Where the text is wrong, -1 for one that isn't."""

    def look(self, batch: Batch) -> None:
        for place, text in enumerate(batch.texts):
            if (where := self.find(text)) >= 0:
                self.found.add(batch, place, shorten(text, where))

    def findings(self) -> Iterator[Finding]:
        if self.found:
            title = f"{count(len(self.found), 'row')} with {self.what}"
            yield self.found.describe(self.code, self.severity, title, self.meaning, self.remedy)


class Mojibake(CharacterCheck):
    """Letters with accents that became two others."""

    code = "mojibake"
    what = "text that was decoded by the wrong table, such as 'cafÃ©' for 'café'"
    meaning = "the model sees other words than people wrote, and will not meet them again"
    remedy = "--fix OUT decodes them as they were meant; better, export the file as UTF-8"

    def find(self, text: str) -> int:
        return find_mojibake(text)


class ControlCharacters(CharacterCheck):
    """Characters that nobody sees."""

    code = "control-characters"
    what = "control characters, which nobody sees"
    meaning = "tokenizers drop them or make odd tokens of them"
    remedy = "--fix OUT removes them, and writes the quotes and dashes of Windows where those were meant"

    def find(self, text: str) -> int:
        found = CONTROL.search(text)
        return found.start() if found else -1

    def look(self, batch: Batch) -> None:
        if CONTROL.search("\n".join(batch.texts)):
            super().look(batch)


class ReplacedCharacters(CharacterCheck):
    """Characters that were lost for good."""

    code = "lost-characters"
    what = "'\ufffd' where a character was lost"
    meaning = "what stood there is gone from the file"
    remedy = "export the rows again from where they come from"

    def find(self, text: str) -> int:
        return text.find(REPLACEMENT)
