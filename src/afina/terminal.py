"""Text of data, models and files as a terminal may show it.

A terminal obeys what it is sent: a text can move the cursor over what stood there, change the window's title, or put
something into the clipboard. So nothing that comes from outside is printed with its control characters.
"""

from __future__ import annotations

from collections.abc import Sequence

CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
# These turn the direction of what follows, so that it reads as something else.
DIRECTIONS = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
KEPT = (0x09, 0x0A)
"""Tabulator and end of line."""
SHOWN = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*CONTROLS, *DIRECTIONS, *range(0xD800, 0xE000)) if code not in KEPT
}  # fmt: skip
SHOWN_IN_JSON = {code: f"\\u{code:04x}" for code in SHOWN if code >= 0x7F}


def make_printable(text: str) -> str:
    """The text with its control characters spelled out, as in `\\x1b[2J`; ends of lines and tabulators stay."""
    return text.translate(SHOWN)


def make_printable_json(text: str) -> str:
    """The same for JSON, which means what it meant: its writer has spelled out the others already."""
    return text.translate(SHOWN_IN_JSON)


def align_columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, the others to the right, nothing cut."""
    lines = [list(header), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    cells = [[name.ljust(widths[0]), *map(str.rjust, rest, widths[1:])] for name, *rest in lines]
    return [f"  {'   '.join(line)}".rstrip() for line in cells]
