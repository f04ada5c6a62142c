"""The forms of data about people: where such data stands in a text, and how it is shown without being told.

Only what has a form of its own is found; names and addresses are not. Numbers of cards and accounts count only where
their check digits are right.
"""

from __future__ import annotations

import re

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
    """The beginning of it, as long as it is, so that a report can be shown to others."""
    return value[:2] + HIDDEN * (len(value) - 2)


def hide_personal(text: str) -> str:
    """The text with all of them hidden, each in its place."""
    for _, value in find_personal(text):
        text = text.replace(value, hide(value))
    return text
