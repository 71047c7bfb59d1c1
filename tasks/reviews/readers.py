"""Any file of reviews as batches of rows in bounded memory, every record of it either yielded or refused with a reason.

CSV, TSV and kin, JSON lines, a JSON array, Parquet, Excel, one text a line, a folder of texts; compressed or not.
Text formats give strings exactly as they stand ("007", "NA" and "" stay), Parquet keeps its types.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks.errors import CallerError, DataError
from tasks.reviews.batches import Batch
from tasks.reviews.compression import compression_of_file, open_decompressed, place
from tasks.reviews.delimited import RECORD_LIMIT_IN_FIELDS, learn_row_shape, read_delimited
from tasks.reviews.encodings import Sample, decode_sample, detect_encoding, open_text, read_sample
from tasks.reviews.folders import visible_files
from tasks.reviews.formats import (
    NO_DELIMITER,
    TEXT_COLUMN,
    FileFormat,
    ReaderSettings,
    describe_text,
    detect_format,
    split_sample,
)
from tasks.reviews.json_records import Flat, column_names, read_json_array, read_json_lines, to_records
from tasks.reviews.records import Record, assemble, undecodable_reason
from tasks.reviews.tabular import count_parquet_rows, describe_parquet, describe_workbook, read_parquet, read_workbook

__all__ = ["FileFormat", "ReaderSettings", "describe_file", "read_batches", "read_text_folder", "stated_num_rows"]

FILE_COLUMN = "file"


def describe_file(path: Path, settings: ReaderSettings, member: str | None = None) -> FileFormat:
    """Tell what a file is, from a sample of its content and, where that leaves a choice, its name.

    Args:
        path: The file.
        settings: What is given there is not detected.
        member: The file of a zip archive to look at (`list_members`); may be left out if it holds only one.

    Returns:
        The format; `str()` of it is one line to show. Columns of a file without header are `column_1`, …; repeated
        names get `_2`, `_3`, and a nameless column the name `column_<number>`.

    Raises:
        CallerError: There is no such file or member, or a setting does not fit it.
        DataError: It is empty, damaged or not text.
    """
    if path.is_dir():
        return FileFormat("texts", None, settings.encoding, None, None, (FILE_COLUMN, TEXT_COLUMN))
    known = detect_format(path, member, settings)
    if known == "texts":
        return FileFormat("texts", None, settings.encoding, None, None, (FILE_COLUMN, TEXT_COLUMN))
    if known == "parquet":
        return describe_parquet(path, member)
    if known == "excel":
        return describe_workbook(path, member, settings)
    found = describe_text(path, member, known, settings)
    if found.format in ("json", "jsonl"):
        found = replace(found, columns=_sampled_keys(path, member, found, settings))
    return found


def stated_num_rows(path: Path, settings: ReaderSettings, member: str | None = None) -> int | None:
    """Return how many rows a file itself says it has, which only plain Parquet does; its rows can be read by stretches."""
    if path.is_dir() or member is not None or compression_of_file(path) is not None:
        return None
    return count_parquet_rows(path) if detect_format(path, member, settings) == "parquet" else None


def read_batches(
    path: Path, source: str, settings: ReaderSettings, member: str | None = None, stretch: tuple[int, int] | None = None
) -> Iterator[Batch]:
    """Yield the rows of a file in its order, at most 4,096 or about 32 MB a batch, all with the same columns.

    Rows yielded and rows refused together are the file's records. Not records: a header, and the blank lines of
    CSV, JSON lines and Excel; a blank line of a text file is one. Refused are ragged rows, broken quoting, bytes that
    the encoding cannot decode, values over `max_field_bytes`, lines that are not JSON objects. JSON columns are the
    keys of all objects in the order they are met, nested ones as dotted paths (`user.text`); that takes a first pass.

    Args:
        path: The file.
        source: Its name in `RefusedRow`.
        settings: How to read it.
        member: As for `describe_file`.
        stretch: Of a Parquet file, read only the rows from the one number (from 0) up to, without, the other.

    Yields:
        At least one batch, even of no rows, so that the columns are known.

    Raises:
        CallerError: As `describe_file`.
        DataError: As `describe_file`; while reading, the file turns out to be truncated, damaged or a bomb.
        MachineError: The disk fails.
    """
    if path.is_dir():
        yield from read_text_folder(path, source, settings)
        return
    known = detect_format(path, member, settings)
    if known == "texts":
        yield from _read_texts([(path, member, member or path.name)], source, settings)
        return
    if known == "parquet":
        yield from read_parquet(path, member, source, settings, stretch)
        return
    if known == "excel":
        yield from read_workbook(path, member, source, settings)
        return
    found = describe_text(path, member, known, settings)
    where = place(path, member)
    encoding = found.encoding or "utf-8"
    names = found.columns
    if found.format in ("json", "jsonl"):
        with open_text(path, member, encoding, found.newline) as stream:
            names = column_names(_json_objects(stream, found, settings, where), where)
    with open_text(path, member, encoding, found.newline) as stream:
        if found.format in ("json", "jsonl"):
            records = to_records(_json_objects(stream, found, settings, where), names, where)
        elif found.format == "text":
            records = _text_lines(stream, settings)
        else:
            delimiter = found.delimiter or NO_DELIMITER
            sampled = split_sample(decode_sample(read_sample(path, member), encoding), delimiter, found.newline)
            shape = learn_row_shape(sampled[int(bool(found.header)) + int(found.tells_delimiter) :], delimiter, len(names))
            records = read_delimited(stream.readline, shape, found, settings.max_field_bytes)
        guessed = settings.encoding is None
        yield from assemble(records, names, source, settings.max_field_bytes, encoding, guessed=guessed)


def read_text_folder(folder: Path, source: str, settings: ReaderSettings) -> Iterator[Batch]:
    """Yield a folder of texts, however deep, as one source with a row a file, in the order of their paths.

    Columns: `file`, the path within the folder with forward slashes; `review`, all of its text, line ends as they are.
    The names of subfolders are no labels. A file that is empty is an empty review.

    Raises:
        CallerError: The folder holds no file.
    """
    files = [(path, None, path.relative_to(folder).as_posix()) for path in visible_files(folder)]
    if not files:
        raise CallerError(f"{folder} holds no file. Expected one review a file.")
    yield from _read_texts(files, source, settings)


def _read_texts(files: Sequence[tuple[Path, str | None, str]], source: str, settings: ReaderSettings) -> Iterator[Batch]:
    records = (_text_file(path, member, name, settings) for path, member, name in files)
    yield from assemble(records, (FILE_COLUMN, TEXT_COLUMN), source, settings.max_field_bytes)


def _text_file(path: Path, member: str | None, name: str, settings: ReaderSettings) -> Record:
    max_bytes = 4 * settings.max_field_bytes
    try:
        with open_decompressed(path, member) as stream:
            content = stream.read(max_bytes + 1)
        if len(content) > max_bytes:
            return Record(1, len(name), (), f"{name} has more than {max_bytes:,} bytes; shorten it")
        sample = Sample(content, complete=True)
        encoding = detect_encoding(sample, settings.encoding, name)
        text = decode_sample(sample, encoding)
        undecodable = undecodable_reason([text], [TEXT_COLUMN], encoding)
    except (DataError, CallerError) as error:
        return Record(1, len(name), (), str(error))
    if undecodable:
        return Record(1, len(name), (), f"{name}: {undecodable}")
    if len(text.encode()) > settings.max_field_bytes:
        return Record(1, len(name), (), f"{name} has more than {settings.max_field_bytes:,} bytes of text; shorten it")
    return Record(1, len(name) + len(text), (name, text))


def _text_lines(stream: Any, settings: ReaderSettings) -> Iterator[Record]:
    max_chars = RECORD_LIMIT_IN_FIELDS * settings.max_field_bytes
    number = 0
    while line := stream.readline(max_chars + 1):
        number += 1
        if len(line) <= max_chars:
            yield Record(number, len(line), (line.rstrip("\r\n"),))
            continue
        while line and not line.endswith(("\n", "\r")):
            line = stream.readline(max_chars + 1)
        yield Record(number, 0, (), f"line of more than {max_chars:,} characters; shorten it")


def _json_objects(stream: Any, found: FileFormat, settings: ReaderSettings, where: str) -> Iterator[Flat]:
    if found.format == "json":
        return read_json_array(stream.read, settings.max_field_bytes, where)
    return read_json_lines(stream.readline, settings.max_field_bytes)


def _sampled_keys(path: Path, member: str | None, found: FileFormat, settings: ReaderSettings) -> tuple[str, ...]:
    names: dict[str, None] = {}
    where = place(path, member)
    with open_text(path, member, found.encoding or "utf-8", found.newline) as stream:
        for _, flat in zip(range(100), _json_objects(stream, found, settings, where), strict=False):
            names.update(dict.fromkeys(flat.values))
    return tuple(names)
