"""What kind of file an input is: format, encoding, delimiter and header, told from a sample of its content."""

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePath
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from tasks.errors import DataError
from tasks.reviews.columns import LONGEST_NAME, is_usual_name, show_name
from tasks.reviews.compression import check_unpacked_size, compression_of_file, is_workbook, open_decompressed, place
from tasks.reviews.encodings import decode_sample, detect_encoding, detect_newline, read_sample
from tasks.reviews.records import unique_names

Format = Literal["csv", "tsv", "jsonl", "json", "parquet", "excel", "text", "texts"]

TEXT_COLUMN = "review"

# Longer values exist in files, but the parser's own limit (131,072 characters) would end the reading there. It is one
# number for the whole process, so it is set to the same largest value always, and the readers keep limits of their own.
CSV_FIELD_LIMIT = 2**31 - 1
_DELIMITERS = (",", ";", "\t", "|", "\x01")
NO_DELIMITER = "\x1f"  # the parser needs one; a single column must not be split at the commas of its prose
_LONGEST_NAME, _LONGEST_HEADER = 64, 1000
# What is mistaken for data or named like it, by its first bytes; none of it is text, or not of reviews.
_FOREIGN = (
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an Excel file of the old kind, or a protected one. Save it as .xlsx without password, or as .csv",
    ),
    (b"%PDF", "a PDF. Export the reviews as CSV"),
    (b"SQLite format 3\0", "an SQLite database. Export the table as CSV"),
    (b"ARROW1", "an Arrow file. Write it as Parquet"),
    (b"FEA1", "a Feather file. Write it as Parquet"),
    (b"ORC", "an ORC file. Write it as Parquet"),
    (b"Obj\x01", "an Avro file. Write it as Parquet or JSON lines"),
    (b"PARE", "an encrypted Parquet file. Write it without encryption"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive. Unpack it and name the folder"),
    (b"Rar!", "a RAR archive. Unpack it and name the folder"),
    (b"\x80\x04\x95", "a Python pickle, which may hold a program and is never opened. Write it as Parquet or CSV"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)
_MARKUP = re.compile(rb"\s*<(!doctype|html|\?xml|head|body|table)\b", re.IGNORECASE)
_TAR = (257, b"ustar")
HIDDEN_RETURN = "\ud800"  # no encoding decodes to it, `escape-bytes` neither
_INNER_RETURN = re.compile(r"\r(?=\r*[^\r\n])")
_TOLD_DELIMITER = re.compile(r"sep=(?P<delimiter>[^\"\r\n])(\r\n?|\n)", re.IGNORECASE)  # what Excel heeds on a file's first line
_NUMBER = re.compile(r"\s*[+-]?[0-9][0-9.,:/\s-]*")


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
        newline: What ends a line, as `open_text` takes it.
        tells_delimiter: Whether the first line is one that says `sep=;`, and no record.
    """

    format: Format
    compression: str | None
    encoding: str | None
    delimiter: str | None
    header: bool | None
    columns: tuple[str, ...]
    newline: str = ""
    tells_delimiter: bool = False

    def __str__(self) -> str:
        facts = [self.format, self.compression, self.encoding]
        if self.delimiter is not None:
            facts.append(f"delimiter {self.delimiter!r}")
        if self.header is not None:
            facts.append("header" if self.header else "no header")
        more = f" and {len(self.columns) - 12} more" if len(self.columns) > 12 else ""
        facts.append("columns " + ", ".join(show_name(name) for name in self.columns[:12]) + more)
        return ", ".join(fact for fact in facts if fact)


def is_header(first: Sequence[str], others: Iterable[Sequence[str]]) -> bool:
    """Return whether the first record names the columns: by a usual name, else unless it looks like the data."""
    if any(map(is_usual_name, first)):
        return True
    if any(not name.strip() or len(name) > _LONGEST_NAME or _NUMBER.fullmatch(name) for name in first):
        return False
    return not any(name == value for fields in others for name, value in zip(first, fields, strict=False))


def detect_format(path: Path, member: str | None, settings: ReaderSettings) -> Format | None:
    """Return the format if the file is binary or the settings say it; None for a text file to be looked into.

    Raises:
        DataError: It is a format that cannot be read; the message says which, and what to write instead.
    """
    if settings.format is not None:
        return settings.format
    if is_workbook(path, member):
        return "excel"
    with open_decompressed(path, member) as stream:
        head = stream.peek(512)[:512]
    if head.startswith(b"PAR1"):
        return "parquet"
    what = next((name for mark, name in _FOREIGN if head.startswith(mark)), None)
    if head[_TAR[0] :].startswith(_TAR[1]):
        what = "a tar archive. Unpack it and name the folder"
    if _MARKUP.match(head.removeprefix(b"\xef\xbb\xbf")):
        what = "a web page or XML, such as a log-in page saved in place of an export. Export the reviews as CSV, or say --input-format"
    if what is not None:
        raise DataError(f"{place(path, member)} is {what}.")
    return None


def describe_text(path: Path, member: str | None, known: Format | None, settings: ReaderSettings) -> FileFormat:
    """Describe a text file: `known` if the caller knows its format, else by its name and content."""
    where = place(path, member)
    check_unpacked_size(path, member)
    sample = read_sample(path, member)
    encoding = detect_encoding(sample, settings.encoding, where)
    text = decode_sample(sample, encoding).removeprefix("\ufeff")
    compression = compression_of_file(path)
    suffixes = [suffix.lower() for suffix in PurePath(member or path.name).suffixes]
    known = known or _guess_json(text, suffixes)
    newline = detect_newline(text)
    if known in ("json", "jsonl"):
        return FileFormat(known, compression, encoding, None, None, (), newline)
    told = _TOLD_DELIMITER.match(text)
    if known is None and not {".csv", ".tsv"} & set(suffixes) and not (settings.delimiter or told) and not _looks_tabular(text, newline):
        known = "text"
    if known == "text":
        return FileFormat("text", compression, encoding, None, None, (TEXT_COLUMN,))
    if told:
        text = text[told.end() :]
    delimiter = settings.delimiter or (told and told["delimiter"]) or ("\t" if known == "tsv" else choose_delimiter(text, newline))
    records = split_sample(text, delimiter or NO_DELIMITER, newline)
    if not records:
        raise DataError(f"{where} is empty. Expected at least one record.")
    first = records[0]
    header = settings.header if settings.header is not None else is_header(first, records[1:])
    if header and any("\ud800" <= character <= "\udfff" for name in first for character in name):
        raise DataError(f"The header of {where} is not {encoding}. Give its --encoding, such as cp1252.")
    if header and max(map(len, first)) > _LONGEST_HEADER:
        raise DataError(f"The header of {where} opens a quote that does not end on its line. Correct line 1.")
    names = unique_names(name.strip() for name in first) if header else unique_names("" for _ in first)
    form: Format = "tsv" if delimiter == "\t" else "csv"
    return FileFormat(form, compression, encoding, delimiter, header, names, newline, told is not None)


def split_sample(text: str, delimiter: str, newline: str = "") -> list[list[str]]:
    """Split sampled text into records, leniently."""
    csv.field_size_limit(CSV_FIELD_LIMIT)
    lines: Iterable[str] = io.StringIO(text, newline=newline)
    if newline == "" or "\r" not in text:
        return [fields for fields in csv.reader(lines, delimiter=delimiter) if fields]
    records = csv.reader(map(hide_returns, lines), delimiter=delimiter)
    return [[field.replace(HIDDEN_RETURN, "\r") for field in fields] for fields in records if fields]


def hide_returns(line: str) -> str:
    """Return a line whose carriage returns, but those at its end, are `HIDDEN_RETURN`: the parser would take them for its end."""
    return _INNER_RETURN.sub(HIDDEN_RETURN, line) if "\r" in line else line


def choose_delimiter(text: str, newline: str) -> str | None:
    """Return the delimiter by which most records have as many fields as the first, or None for a single column.

    The first record must have two fields at least, and half of the records must agree with it unless it is plainly a
    header.
    """
    best, best_share = None, 0.0
    for delimiter in _DELIMITERS:
        records = split_sample(text, delimiter, newline)
        num_fields = len(records[0]) if records else 0
        if num_fields > 1:
            share = sum(len(fields) == num_fields for fields in records) / len(records)
            if share > best_share and (share >= 0.5 or any(map(is_usual_name, records[0]))):
                best, best_share = delimiter, share
    return best


def _guess_json(text: str, suffixes: Sequence[str]) -> Format | None:
    stripped = text.lstrip("\ufeff \t\r\n")
    if stripped.startswith("["):
        rest = stripped[1:].lstrip()
        return "json" if not rest or rest[0] in "{]" or ".json" in suffixes else None
    lines = [line for line in islice(stripped.splitlines(), 20) if line.strip()]
    if {".jsonl", ".ndjson"} & set(suffixes) and any(line.lstrip().startswith("{") for line in lines):
        return "jsonl"
    if not stripped.startswith("{"):
        return None
    if len(lines) > 1 and not any(_is_object(line) for line in lines):
        return "json" if ".json" in suffixes or re.match(r"\{\s*\"", stripped) else None
    return "jsonl"


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _looks_tabular(text: str, newline: str) -> bool:
    """Return whether text of no telling name is a table: a usual column name on top that is not in prose, or tabs in every line."""
    delimiter = choose_delimiter(text, newline)
    if delimiter is None:
        return False
    records = split_sample(text, delimiter, newline)
    regular = sum(len(fields) == len(records[0]) for fields in records) >= 0.9 * len(records)
    named = any(map(is_usual_name, records[0])) and (len(records) > 1 or max(map(len, records[0])) <= LONGEST_NAME)
    return regular and (delimiter == "\t" or named)
