"""What the bytes of a file say about its format: encodings other than UTF-8, and files that are not text at
all.
"""

from __future__ import annotations

import codecs
import re
import shlex
from pathlib import Path

from afina.errors import DataError

CHUNK_BYTES = 2**20
SNIFFED_BYTES = 4096
LATIN = "WINDOWS-1252"
# Encodings of other alphabets, the letters they are for, and the share of these in a text. Bytes of one are some text
# in others, too.
OTHER_ALPHABETS = {
    "EUC-KR (Korean)": ("[\uac00-\ud7a3]", 0.8), "SHIFT_JIS (Japanese)": ("[\u3040-\u30ff]", 0.2),
    "WINDOWS-1251 (Cyrillic)": ("[\u0430-\u044f]", 0.6), "GB18030 (Chinese)": ("[\u4e00-\u9fff]", 0.6),
    "BIG5 (Chinese)": ("[\u4e00-\u9fff]", 0.6),
}  # fmt: skip
TEXT_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32LE",
    codecs.BOM_UTF32_BE: "UTF-32BE",
    codecs.BOM_UTF16_LE: "UTF-16LE",
    codecs.BOM_UTF16_BE: "UTF-16BE",
}
BINARY_MARKS = {
    b"PK\x03\x04": "a zip archive (an Excel file is one)",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a parquet file",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"%PDF": "a PDF",
    b"SQLite format 3": "an SQLite database",
}


def check_bytes(path: Path) -> None:
    """DataError when the file is empty, is in UTF-16 or UTF-32, or is no text file."""
    with path.open("rb") as file:
        head = file.read(SNIFFED_BYTES)
    if not head.strip(b"\xef\xbb\xbf \t\r\n") and path.stat().st_size <= SNIFFED_BYTES:
        raise DataError(f"{path.name} is empty", expected="a file with at least one row of data")
    for mark, what in BINARY_MARKS.items():
        if head.startswith(mark):
            raise DataError(
                f"{path.name} is not a text file",
                found=what,
                expected=f"text in UTF-8, as {path.suffix} says",
                remedy="unpack it or export it first, or give it the suffix of what it holds",
            )
    encoding = _guess_wide(head)
    if encoding:
        raise DataError(
            f"{path.name} is not UTF-8 text",
            found=f"it looks like {encoding}",
            expected="text in UTF-8",
            remedy=convert_command(path, encoding),
        )


def _guess_wide(head: bytes) -> str | None:
    for mark, encoding in TEXT_MARKS.items():
        if head.startswith(mark):
            return encoding
    even, odd = head[0::2].count(0), head[1::2].count(0)
    half = len(head) // 2
    if half >= 8 and max(even, odd) > 0.4 * half and min(even, odd) < 0.1 * half:
        return "UTF-16BE" if even > odd else "UTF-16LE"
    return None


def explain_bytes(path: Path) -> tuple[str, str]:
    """What is found and what to do, for a file that holds bytes which are not UTF-8."""
    offset, byte = find_bad_byte(path)
    where = f"byte 0x{byte:02x} at offset {offset:,}"
    if others := list_others(path):
        return f"{where}; it may be {' or '.join(others)}", f"if so: {convert_command(path, others[0].split()[0])}"
    # What Windows writes is Latin-1 with quotes and dashes where that has control characters, so it reads both.
    return f"{where}; it may be Latin-1 ({LATIN})", f"if so: {convert_command(path, LATIN)}"


def list_others(path: Path) -> list[str]:
    """Encodings of other alphabets that the first bytes may be in; none where most of them are ASCII, as in Latin-1."""
    with path.open("rb") as file:
        head = file.read(SNIFFED_BYTES)
    letters = [byte for byte in head if byte >= 0x80 or chr(byte).isalpha()]
    if 2 * sum(byte >= 0x80 for byte in letters) <= len(letters):
        return []
    found = []
    for name, (letter, share) in OTHER_ALPHABETS.items():
        decoder = codecs.getincrementaldecoder(name.split()[0])()
        try:
            text = decoder.decode(head)  # a character may be cut at the end
        except UnicodeDecodeError:
            continue
        foreign = sum(not character.isascii() for character in text)
        if len(re.findall(letter, text)) >= share * foreign:
            found.append(name)
    return found


def make_encoding_error(path: Path) -> DataError:
    """The error for a file that can't be read row by row, so that its bytes spoil all of it."""
    found, remedy = explain_bytes(path)
    return DataError(f"{path.name} is not UTF-8 text", found=found, expected="text in UTF-8", remedy=remedy)


def find_bad_byte(path: Path) -> tuple[int, int]:
    """Offset and value of the first byte that can't be UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    with path.open("rb") as file:
        while True:
            chunk = file.read(CHUNK_BYTES)
            held = decoder.getstate()[0]
            try:
                decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                return done - len(held) + error.start, error.object[error.start]
            done += len(chunk)
            if not chunk:
                return done, 0


def convert_command(path: Path, encoding: str) -> str:
    target = path.with_name(f"{path.stem}.utf8{path.suffix}")
    return f"iconv -f {encoding} -t UTF-8 {shlex.quote(str(path))} > {shlex.quote(str(target))}"
