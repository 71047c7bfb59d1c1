"""What kind of file an input is: format, encoding, delimiter and header, told from a sample of its content."""

import codecs
import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

from pydantic import BaseModel, Field, field_validator

from tasks.errors import DataError
from tasks.reviews.columns import is_usual_name, show_name
from tasks.reviews.compression import check_unpacked_size, compression_of_file, is_workbook, open_decompressed, place
from tasks.reviews.records import unique_names

Format = Literal["csv", "tsv", "jsonl", "json", "parquet", "excel", "text", "texts"]

SAMPLE_BYTES = 256 << 10
TEXT_COLUMN = "review"

# Longer values exist in files, but the parser's own limit (131,072 characters) would end the reading there. It is one
# number for the whole process, so it is set to the same largest value always, and the readers keep limits of their own.
CSV_FIELD_LIMIT = 2**31 - 1
_DELIMITERS = (",", ";", "\t", "|")
NO_DELIMITER = "\x1f"  # the parser needs one; a single column must not be split at the commas of its prose
_LONGEST_NAME, _LONGEST_HEADER = 64, 1000
_NUMBER = re.compile(r"\s*[+-]?[0-9][0-9.,:/\s-]*")
_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Letters and signs of Western European text in cp1252, as the characters they decode to there; not ÿ, þ, ð, × or ÷,
# which come from other encodings and from damage.
_WESTERN = frozenset("ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜßàáâãäåæçèéêëìíîïñòóôõöøùúûüŒœŠšŽžŸ€…‘’“”„•–—™\xa0¡£§©«®°´·»¿")


class ReaderSettings(BaseModel, frozen=True, extra="forbid"):
    """How input files are read. What is None is detected on a sample of each file."""

    format: Format | None = Field(None, description="Format of the files: text is a review a line, texts a review a file.")
    encoding: str | None = Field(None, description="Encoding of text files, such as utf-8 or cp1252.")
    delimiter: str | None = Field(None, description="What separates the fields of a delimited file; \\t is a tab.")
    header: bool | None = Field(None, description="Whether the first record of a delimited file names the columns.")
    sheet: str | None = Field(None, description="Worksheet of an Excel workbook; None is the first.")
    max_field_bytes: int = Field(1_000_000, description="Longest value, in bytes of UTF-8.", ge=1, le=100_000_000)

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, name: str | None) -> str | None:
        if name is not None:
            try:
                io.TextIOWrapper(io.BytesIO(), encoding=name)
            except LookupError as error:
                raise ValueError(f"Unknown text encoding {name!r}. Expected one like utf-8, cp1252, utf-16.") from error
        return name

    @field_validator("delimiter")
    @classmethod
    def _check_delimiter(cls, delimiter: str | None) -> str | None:
        if delimiter is None:
            return None
        delimiter = {"\\t": "\t", "tab": "\t"}.get(delimiter, delimiter)
        if len(delimiter) != 1 or delimiter in '"\r\n':
            raise ValueError(f"Delimiter {delimiter!r} must be one character and neither a quote nor a line end.")
        return delimiter


@dataclass(frozen=True)
class FileFormat:
    """What a file is, told from its content. `str()` says it in one line.

    Args:
        delimiter: None also for delimited text of a single column.
        columns: In the file's order; of JSON, those met in the sample.
    """

    format: Format
    compression: str | None
    encoding: str | None
    delimiter: str | None
    header: bool | None
    columns: tuple[str, ...]

    def __str__(self) -> str:
        facts = [self.format, self.compression, self.encoding]
        if self.delimiter is not None:
            facts.append(f"delimiter {self.delimiter!r}")
        if self.header is not None:
            facts.append("header" if self.header else "no header")
        more = f" and {len(self.columns) - 12} more" if len(self.columns) > 12 else ""
        facts.append("columns " + ", ".join(show_name(name) for name in self.columns[:12]) + more)
        return ", ".join(fact for fact in facts if fact)


class Sample(NamedTuple):
    """The first `SAMPLE_BYTES` of a file, decompressed; `complete` if that is all of it."""

    content: bytes
    complete: bool


def is_header(first: Sequence[str], others: Iterable[Sequence[str]]) -> bool:
    """Return whether the first record names the columns: by a usual name, else unless it looks like the data."""
    if any(map(is_usual_name, first)):
        return True
    if any(not name.strip() or len(name) > _LONGEST_NAME or _NUMBER.fullmatch(name) for name in first):
        return False
    return not any(name == value for fields in others for name, value in zip(first, fields, strict=False))


def read_sample(path: Path, member: str | None) -> Sample:
    """Return the beginning of a file.

    Raises:
        DataError: It is empty.
    """
    with open_decompressed(path, member) as stream:
        content = stream.read(SAMPLE_BYTES)
        complete = not stream.peek(1)
    if not content.removeprefix(codecs.BOM_UTF8).strip():
        raise DataError(f"{place(path, member)} is empty. Expected at least one review.")
    return Sample(content, complete)


def open_text(path: Path, member: str | None, encoding: str) -> io.TextIOWrapper:
    """Open a file's plain text with its line ends as they are.

    A byte that the encoding cannot decode becomes the lone surrogate U+DC00 + byte: nothing is lost or replaced, and
    such a value cannot pass for text, as Arrow refuses it.
    """
    codecs.register_error("escape-bytes", _escape_bytes)
    return io.TextIOWrapper(open_decompressed(path, member), encoding, errors="escape-bytes", newline="")


def detect_format(path: Path, member: str | None, settings: ReaderSettings) -> Format | None:
    """Return the format if the file is binary or the settings say it; None for a text file to be looked into.

    Raises:
        DataError: The file is an old Excel file.
    """
    if settings.format is not None:
        return settings.format
    if is_workbook(path):
        return "excel"
    with open_decompressed(path, member) as stream:
        head = stream.peek(8)[:8]
    if head.startswith(b"PAR1"):
        return "parquet"
    if head == b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1":
        raise DataError(f"{place(path, member)} is an Excel file of the old kind. Save it as .xlsx or .csv.")
    return None


def detect_encoding(sample: Sample, settings: ReaderSettings, where: str) -> str:
    """Return the encoding of a text file: by its byte order mark, as declared, UTF-8, or cp1252 if that is certain.

    cp1252 is certain if the sample is not UTF-8, at least three lines hold Western letters or signs in cp1252 and
    nothing else beyond ASCII, and such letters are at most a quarter. In doubt it is UTF-8, and the rows that are not
    are refused.

    Raises:
        DataError: The sample does not look like text.
    """
    for mark, encoding in _BOMS:
        if sample.content.startswith(mark) and (settings.encoding or "utf").lower().startswith("utf"):
            return encoding
    if settings.encoding is not None:
        return settings.encoding
    size = len(sample.content)
    if sample.content.count(0) * 5 > size:
        raise DataError(
            f"{where} is not text, or UTF-16 without a byte order mark. "
            "Give --encoding utf-16-le if it is that, or export it as CSV in UTF-8."
        )
    num_controls = sum(sample.content.count(byte) for byte in (*range(1, 9), *range(14, 26)))
    if num_controls * 20 > size:
        raise DataError(f"{where} is not text. Expected CSV, JSON lines, JSON, Parquet, Excel or plain text.")
    text = decode_sample(sample, "utf-8")
    num_bad = sum("\udc00" <= character <= "\udcff" for character in text)
    num_good = sum(character > "\x7f" for character in text) - num_bad
    return "cp1252" if num_bad and num_good * 20 < num_bad and _is_western(sample.content) else "utf-8"


def describe_text(path: Path, member: str | None, known: Format | None, settings: ReaderSettings) -> FileFormat:
    """Describe a text file: `known` if the caller knows its format, else by its name and content."""
    where = place(path, member)
    check_unpacked_size(path, member)
    sample = read_sample(path, member)
    encoding = detect_encoding(sample, settings, where)
    text = decode_sample(sample, encoding)
    compression = compression_of_file(path)
    suffixes = [suffix.lower() for suffix in PurePath(member or path.name).suffixes]
    known = known or _guess_json(text, suffixes)
    if known in ("json", "jsonl"):
        return FileFormat(known, compression, encoding, None, None, ())
    if known is None and not {".csv", ".tsv"} & set(suffixes) and not settings.delimiter and not _looks_tabular(text):
        known = "text"
    if known == "text":
        return FileFormat("text", compression, encoding, None, None, (TEXT_COLUMN,))
    delimiter = settings.delimiter or ("\t" if known == "tsv" else choose_delimiter(text))
    records = split_sample(text, delimiter or NO_DELIMITER)
    if not records:
        raise DataError(f"{where} is empty. Expected at least one record.")
    first = records[0]
    header = settings.header if settings.header is not None else is_header(first, records[1:])
    if header and any("\ud800" <= character <= "\udfff" for name in first for character in name):
        raise DataError(f"The header of {where} is not {encoding}. Give its --encoding, such as cp1252.")
    if header and max(map(len, first)) > _LONGEST_HEADER:
        raise DataError(f"The header of {where} opens a quote that does not end on its line. Correct line 1.")
    names = unique_names(name.strip() for name in first) if header else unique_names("" for _ in first)
    return FileFormat("tsv" if delimiter == "\t" else "csv", compression, encoding, delimiter, header, names)


def split_sample(text: str, delimiter: str) -> list[list[str]]:
    """Split sampled text into records, leniently."""
    csv.field_size_limit(CSV_FIELD_LIMIT)
    return [fields for fields in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if fields]


def choose_delimiter(text: str) -> str | None:
    """Return the delimiter by which most records have as many fields as the first, or None for a single column.

    The first record must have two fields at least, and half of the records must agree with it unless it is plainly a
    header.
    """
    best, best_share = None, 0.0
    for delimiter in _DELIMITERS:
        records = split_sample(text, delimiter)
        num_fields = len(records[0]) if records else 0
        if num_fields > 1:
            share = sum(len(fields) == num_fields for fields in records) / len(records)
            if share > best_share and (share >= 0.5 or any(map(is_usual_name, records[0]))):
                best, best_share = delimiter, share
    return best


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


def _is_western(content: bytes) -> bool:
    num_lines = num_high = num_letters = 0
    for line in content.decode("cp1252", "surrogateescape").splitlines():
        high = [character for character in line if character > "\x7f"]
        if high:
            if not _WESTERN.issuperset(high):
                return False
            num_lines += 1
            num_high += sum(map(str.isalpha, high))
            num_letters += sum(map(str.isalpha, line))
    return num_lines >= 3 and num_high * 4 <= num_letters


def _guess_json(text: str, suffixes: Sequence[str]) -> Format | None:
    stripped = text.lstrip("\ufeff \t\r\n")
    if stripped.startswith("["):
        rest = stripped[1:].lstrip()
        return "json" if not rest or rest[0] in "{]" or ".json" in suffixes else None
    if {".jsonl", ".ndjson"} & set(suffixes):
        return "jsonl"
    lines = [line for line in islice(stripped.splitlines(), 20) if line.strip()]
    if not stripped.startswith("{") and ".json" not in suffixes:
        return None
    if len(lines) > 1 and not any(_is_object(line) for line in lines):
        return "json" if ".json" in suffixes else None
    return "jsonl"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _looks_tabular(text: str) -> bool:
    """Return whether text of no telling name is a table: a usual column name on top, or tabs in every line."""
    delimiter = choose_delimiter(text)
    if delimiter is None:
        return False
    records = split_sample(text, delimiter)
    regular = sum(len(fields) == len(records[0]) for fields in records) >= 0.9 * len(records)
    return regular and (delimiter == "\t" or any(map(is_usual_name, records[0])))
