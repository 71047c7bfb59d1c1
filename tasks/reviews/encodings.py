"""How a text file's bytes become characters: its encoding, told from a sample, and its line ends. No byte is dropped or replaced."""

import codecs
import io
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tasks.errors import DataError
from tasks.reviews.compression import open_decompressed, place

SAMPLE_BYTES = 256 << 10

_NOTHING = codecs.BOM_UTF8 + codecs.BOM_UTF16 + b"\0 \t\r\n\x0b\x0c"
_QUOTED = re.compile('"[^"]*"')
_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Letters and signs of Western European text in cp1252, as the characters they decode to there; not ÿ, ý, þ, ð, × or ÷,
# which come from other encodings and from damage.
_LETTERS = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüŒœŠšŽžŸ")
_JOINING = frozenset("‘’–—…·\xa0\xad")  # signs that may stand between two letters
_SIGNS = _JOINING | frozenset("€“”„‚‹›«»•™¡¿£¢¥§©®°´¨¸¯ˆ˜ª²³¹º±µ¶¦¬‰†‡ƒ¼½¾")
_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")
_OF_LATIN_9 = re.compile(r"¤|[^\W\d_][¦¨¸¼½¾][^\W\d_]")  # € and the letters Š š ž Œ œ Ÿ of ISO-8859-15, as cp1252 has them
_STRANGE_SHARE = 0.05  # of what stands beyond ASCII
_WORDS = frozenset("ÀÉÅÖ")  # capitals that are words of their own in Western languages
_SLAVONIC_SHARE = 0.1


class Sample(NamedTuple):
    """The first `SAMPLE_BYTES` of a file, decompressed; `complete` if that is all of it."""

    content: bytes
    complete: bool


def read_sample(path: Path, member: str | None) -> Sample:
    """Return the beginning of a file.

    Raises:
        DataError: It is empty.
    """
    with open_decompressed(path, member) as stream:
        content = stream.read(SAMPLE_BYTES)
        complete = not stream.peek(1)
    if not content.strip(_NOTHING):
        raise DataError(f"{place(path, member)} is empty. Expected at least one review.")
    return Sample(content, complete)


def open_text(path: Path, member: str | None, encoding: str, newline: str = "") -> io.TextIOWrapper:
    """Open a file's plain text with its line ends as they are.

    A byte that the encoding cannot decode becomes the lone surrogate U+DC00 + byte: nothing is lost or replaced, and
    such a value cannot pass for text, as Arrow refuses it.

    Args:
        path: The file.
        member: As for `open_decompressed`.
        encoding: Its encoding.
        newline: What ends a line: "\n" (also after a carriage return), or "" for that or a lone carriage return.
    """
    codecs.register_error("escape-bytes", _escape_bytes)
    return io.TextIOWrapper(open_decompressed(path, member), encoding, errors="escape-bytes", newline=newline)


def detect_encoding(sample: Sample, declared: str | None, where: str) -> str:
    """Return the encoding of a text file: by its byte order mark, as declared, UTF-8, or cp1252 or UTF-16 if that is certain.

    A mark outranks what was declared, as one command may name many files. cp1252 is certain if the sample is not UTF-8, at least three
    lines hold Western letters or signs in cp1252 and nothing else beyond ASCII, such letters are at most a quarter, and they stand where
    they may (`_is_western`). UTF-16 without a mark is certain if half of its characters are ASCII and next to none is a control
    character. In doubt it is UTF-8, and the rows that are not are refused.

    Raises:
        DataError: The sample does not look like text.
    """
    for mark, marked in _BOMS:
        if sample.content.startswith(mark):
            return marked
    if declared is not None:
        return declared
    size = len(sample.content)
    num_controls = sum(sample.content.count(byte) for byte in (*range(2, 9), *range(14, 26)))  # \x01 parts the fields of Hive
    if sample.content.count(0) * 5 > size or num_controls * 20 > size:
        if encoding := _utf16_without_mark(sample.content):
            return encoding
        raise DataError(
            f"{where} is not text, or UTF-16 without a byte order mark. Expected CSV, JSON lines, JSON, Parquet, Excel or plain text. "
            "If it is UTF-16, give --encoding utf-16-le; else export it as CSV in UTF-8."
        )
    text = decode_sample(sample, "utf-8")
    num_bad = sum("\udc00" <= character <= "\udcff" for character in text)
    num_good = sum(character > "\x7f" for character in text) - num_bad
    return "cp1252" if num_bad and num_good * 20 < num_bad and _is_western(sample.content) else "utf-8"


def detect_newline(text: str) -> str:
    """Return what ends the lines of a sampled text, as `open_text` takes it.

    Where lines end with a line feed, a carriage return alone is part of a value: pandas writes such values without quotes.
    """
    outside = _QUOTED.sub("", text)
    for part in (outside, text):  # all of it may stand behind a quote that is never closed
        num_returns = part.count("\r") - part.count("\r\n")
        num_feeds = part.count("\n")
        if num_returns or num_feeds:
            return "" if num_returns > num_feeds else "\n"
    return "\n"


def decode_sample(sample: Sample, encoding: str) -> str:
    """Return the sample's text, of a longer file only its whole lines."""
    codecs.register_error("escape-bytes", _escape_bytes)
    text = codecs.getincrementaldecoder(encoding)("escape-bytes").decode(sample.content, sample.complete)
    return text if sample.complete else text[: max(text.rfind("\n"), text.rfind("\r")) + 1] or text


def _escape_bytes(error: UnicodeError) -> tuple[str, int]:
    # "surrogateescape" would do for UTF-8, but fails on the ASCII half of a broken UTF-16 unit.
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


def _utf16_without_mark(content: bytes) -> str | None:
    content = content[: len(content) // 2 * 2]
    for encoding, first in (("utf-16-le", 0), ("utf-16-be", 1)):
        low, high = content[first::2], content[1 - first :: 2]
        if high.count(0) * 2 >= len(high) > 0 and low.count(0) * 20 <= len(low):
            text = content.decode(encoding, "replace")
            num_controls = sum(character < " " and character not in "\t\r\n\x01" for character in text)
            return encoding if num_controls * 50 <= len(text) else None
    return None


def _is_western(content: bytes) -> bool:
    """Return whether bytes are Western text in cp1252, and not text of another encoding that happens to have a meaning there.

    In those, letters become signs or capitals amid words (Mac Roman and DOS; Latin 2), or most letters lie beyond ASCII (Cyrillic, Greek).
    Where letters become other letters, it is told by those that Western languages hardly use, or not together.
    """
    text = content.decode("cp1252", "surrogateescape")
    found = list(_BEYOND_ASCII.finditer(text))
    high = [match[0] for match in found]
    if not (_LETTERS | _SIGNS).issuperset(high) or _OF_LATIN_9.search(text):
        return False
    lines = [line for line in text.splitlines() if not line.isascii()]
    letters = Counter(character for character in high if character in _LETTERS)
    if len(lines) < 3 or letters.total() * 4 > sum(character.isalpha() for line in lines for character in line):
        return False
    if sum(_is_strange(text, match.start()) for match in found) > _STRANGE_SHARE * len(found):
        return False
    slavonic, umlauts, hungarian = (sum(letters[character] for character in few) for few in ("šžŠŽ", "öüÖÜ", "õûÕÛ"))
    if slavonic > _SLAVONIC_SHARE * letters.total():
        return False
    is_romance = any(letters[character] for character in "àãçèê")
    return not (umlauts and hungarian > _STRANGE_SHARE * letters.total() and not is_romance)


def _is_strange(text: str, place: int) -> bool:
    """Return whether a letter or sign stands where writers of Western languages do not put it."""
    character, before, after, behind = text[place], text[place - 1 : place], text[place + 1 : place + 2], text[place + 2 : place + 3]
    if character not in _LETTERS:
        return before.isalpha() and after.isalpha() and character not in _JOINING
    if not character.isupper():
        return False
    return (
        before.islower()
        or (after.isupper() and behind.islower())
        or (character not in _WORDS and not after.isalpha() and not before.isalpha())
    )
