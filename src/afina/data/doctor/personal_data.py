"""Data about people that had better not be learned: e-mail addresses, phone numbers, bank and card numbers.

Only what has a form of its own is found; names and addresses are not. Numbers of cards and accounts count only where
their check digits are right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from afina.data.doctor.check import Check
from afina.data.doctor.finding import Finding
from afina.data.doctor.found_rows import FoundRows
from afina.data.doctor.subject import Batch, Subject
from afina.data.findings import count

EMAIL = re.compile(r"[\w.+-]{2,64}@[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}\b")
# With a country's code; ten digits in the American way; nine in the Spanish way, by threes or by twos.
PHONE = re.compile(
    r"(?<![\w.+/-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{2,4}(?:[ .-]?\d{2,4}){2,4}"
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}"
    r"|[6-9]\d{2} \d{3} \d{3}|[6-9]\d{2} \d{2} \d{2} \d{2})(?![\w/-]|[.,]\d)"
)
CARD = re.compile(r"(?<![\d.-])(?:\d{4}[ -]){3}\d{4}(?![\d-]|\.\d)|(?<![\d.-])[3-6]\d{14,15}(?![\d-]|\.\d)")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
DIGITS_OF_A_NUMBER = 9
HIDDEN = "•"


class PersonalData(Check):
    """Rows that may be about somebody."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.found = FoundRows(subject)
        self.kinds: Counter[str] = Counter()

    def look(self, batch: Batch) -> None:
        for place, text in enumerate(batch.texts):
            found = find_personal(text)
            if found:
                self.kinds.update({kind for kind, _ in found})
                self.found.add(batch, place, "; ".join(f"{kind} {hide(value)}" for kind, value in found[:3]))

    def findings(self) -> Iterator[Finding]:
        if self.found:
            kinds = ", ".join(f"{kind} in {rows:,}" for kind, rows in self.kinds.most_common())
            yield self.found.describe(
                "personal-data",
                "hint",
                f"{count(len(self.found), 'row')} may hold data about people: {kinds}",
                "a model may repeat what it has learned, and you may not be allowed to use it",
                "replace them by a word such as EMAIL where they don't matter; names are not looked for",
            )


def find_personal(text: str) -> list[tuple[str, str]]:
    """What kind of data, and how it is written, in the order of the kinds."""
    found = [("e-mail", value) for value in EMAIL.findall(text)] if "@" in text else []
    if sum(map(text.count, "0123456789")) < DIGITS_OF_A_NUMBER:
        return found
    cards = [value for value in CARD.findall(text) if is_card(value)]
    found += [("card number", value) for value in cards]
    found += [("IBAN", value) for value in IBAN.findall(text) if is_iban(value)]
    found += [("phone number", value) for value in PHONE.findall(text) if not any(value in card for card in cards)]
    return found


def is_card(number: str) -> bool:
    """Whether the check digit is right, by Luhn's rule, and the digits aren't all the same."""
    digits = [int(digit) for digit in number if digit.isdigit()]
    doubled = [digit if place % 2 == 0 else digit * 2 - 9 * (digit > 4) for place, digit in enumerate(reversed(digits))]
    return len(set(digits)) > 1 and sum(doubled) % 10 == 0


def is_iban(number: str) -> bool:
    """Whether the check digits are right: the number, rearranged and with letters as numbers, is 1 modulo 97."""
    plain = number.replace(" ", "")
    return 15 <= len(plain) <= 34 and int("".join(str(int(sign, 36)) for sign in plain[4:] + plain[:4])) % 97 == 1


def hide(value: str) -> str:
    """The beginning of it, so that a report can be shown to others."""
    return value[:2] + HIDDEN * min(8, max(1, len(value) - 2))
