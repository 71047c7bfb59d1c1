"""Records, as a reader finds them, gathered into batches; those that cannot stand in Arrow are refused here."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.reviews.batches import ROWS_PER_BATCH, Batch, RefusedRow
from tasks.reviews.columns import show_name

BYTES_PER_BATCH = 32 << 20

_BYTES_PER_VALUE = 16  # what even an empty value takes
_SURROGATE = re.compile("[\ud800-\udfff]")


class Record(NamedTuple):
    """One record of a file: its first line, its size in characters, and its values or the reason it is refused."""

    line: int
    size: int
    values: Sequence[str | None]
    reason: str | None = None


def assemble(
    records: Iterable[Record], names: Sequence[str], source: str, max_field_bytes: int, encoding: str = "utf-8", *, guessed: bool = False
) -> Iterator[Batch]:
    """Yield batches of string columns, at least one even of no rows, so that the columns are always known.

    A batch ends after `ROWS_PER_BATCH` records or `BYTES_PER_BATCH` characters. Yielded and refused rows together
    are the records, numbered from 1. A lone surrogate in a value stands for an undecodable byte (`open_text`). Where the
    encoding was guessed to be cp1252, a value that is UTF-8 after all is refused.
    """
    kept: list[Record] = []
    rows: list[int] = []
    refused: list[RefusedRow] = []
    size = 0
    yielded = False
    may_be_utf8 = guessed and encoding == "cp1252"
    for row, record in enumerate(records, 1):
        if may_be_utf8 and record.reason is None:
            record = record._replace(reason=_utf8_reason(record.values, names))
        if record.reason is None:
            kept.append(record)
            rows.append(row)
        else:
            refused.append(RefusedRow(source, row, record.line, record.reason))
        size += record.size + _BYTES_PER_VALUE * len(record.values)
        if len(kept) + len(refused) >= ROWS_PER_BATCH or size >= BYTES_PER_BATCH:
            yield _batch(kept, rows, refused, names, source, max_field_bytes, encoding)
            yielded = True
            kept, rows, refused, size = [], [], [], 0
    if kept or refused or not yielded:
        yield _batch(kept, rows, refused, names, source, max_field_bytes, encoding)


def sift(
    columns: pa.RecordBatch,
    rows: Sequence[int],
    lines: Sequence[int | None],
    refused: Sequence[RefusedRow],
    source: str,
    max_field_bytes: int,
) -> Batch:
    """Return the batch without the rows that hold a string of over `max_field_bytes` bytes or of invalid UTF-8.

    Args:
        columns: Any columns, shape (num_rows, num_columns).
        rows: Each row's number in its source.
        lines: Each row's line, where there are lines.
        refused: Rows of the same stretch that are refused already.
        source: Its name in `RefusedRow`.
        max_field_bytes: The longest string.
    """
    reasons: dict[int, str] = {}
    for name, column in zip(columns.schema.names, columns.columns, strict=True):
        if not pa.types.is_string(column.type):
            continue
        lengths = pc.binary_length(column)
        if (pc.max(lengths).as_py() or 0) > max_field_bytes:
            for index in np.flatnonzero(pc.fill_null(pc.greater(lengths, max_field_bytes), False)).tolist():
                reasons.setdefault(index, f"column {show_name(name)!r} holds more than {max_field_bytes:,} bytes; shorten it")
        for index in _undecodable(column):
            reasons.setdefault(index, f"column {show_name(name)!r} cannot be decoded: its bytes are not utf-8; write it as UTF-8")
    more = [RefusedRow(source, rows[index], lines[index], reason) for index, reason in reasons.items()]
    numbers = pa.array(rows, pa.int64())
    if more:
        sound = np.ones(columns.num_rows, bool)
        sound[list(reasons)] = False
        columns = columns.filter(pa.array(sound))
        numbers = numbers.filter(pa.array(sound))
    return Batch(columns, numbers, tuple(sorted([*refused, *more], key=lambda row: row.row)))


def _undecodable(column: pa.StringArray) -> Iterator[int]:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        for index, content in enumerate(column.cast(pa.binary()).to_pylist()):
            try:
                (content or b"").decode()
            except UnicodeDecodeError:
                yield index


def unique_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return column names made unique: a repeated `text` becomes `text_2`, a nameless third column `column_3`."""
    given = [name or f"column_{number}" for number, name in enumerate(names, 1)]
    taken = set(given)
    seen: set[str] = set()
    unique = []
    for name in given:
        number = 2
        fresh = name
        while fresh in seen or (fresh != name and fresh in taken):
            fresh = f"{name}_{number}"
            number += 1
        seen.add(fresh)
        unique.append(fresh)
    return tuple(unique)


def _batch(
    kept: list[Record],
    rows: list[int],
    refused: list[RefusedRow],
    names: Sequence[str],
    source: str,
    max_field_bytes: int,
    encoding: str,
) -> Batch:
    try:
        columns = _to_arrow(kept, names)
    except UnicodeEncodeError:
        reasons = [undecodable_reason(record.values, names, encoding) for record in kept]
        bad = [(row, record.line, reason) for row, record, reason in zip(rows, kept, reasons, strict=True) if reason]
        refused = refused + [RefusedRow(source, row, line, reason) for row, line, reason in bad]
        rows = [row for row, reason in zip(rows, reasons, strict=True) if not reason]
        kept = [record for record, reason in zip(kept, reasons, strict=True) if not reason]
        columns = _to_arrow(kept, names)
    return sift(columns, rows, [record.line for record in kept], refused, source, max_field_bytes)


def _to_arrow(records: Sequence[Record], names: Sequence[str]) -> pa.RecordBatch:
    columns = zip(*(record.values for record in records), strict=True) if records else ([] for _ in names)
    return pa.RecordBatch.from_arrays([pa.array(column, pa.string()) for column in columns], names=list(names))


def undecodable_reason(values: Sequence[str | None], names: Sequence[str], encoding: str) -> str | None:
    """Return which column holds which byte that could not be decoded, or None."""
    for name, value in zip(names, values, strict=True):
        found = _SURROGATE.search(value or "")
        if found is None:
            continue
        code = ord(found.group())
        if not 0xDC00 <= code <= 0xDCFF:
            return f"column {show_name(name)!r} holds half a surrogate pair; export it again"
        hint = "; if the file is cp1252, give --encoding cp1252" if encoding.startswith("utf-8") else "; give the --encoding it has"
        return f"column {show_name(name)!r} holds byte 0x{code - 0xDC00:02X}, which is not {encoding}{hint}"
    return None


def _utf8_reason(values: Sequence[str | None], names: Sequence[str]) -> str | None:
    """Return which column holds UTF-8 that was read as cp1252 (`Ã©` for `é`), or None."""
    for name, value in zip(names, values, strict=True):
        if value and not value.isascii():
            try:
                value.encode("cp1252").decode("utf-8")
            except UnicodeError:
                continue
            return f"column {show_name(name)!r} holds UTF-8 in a file that looks like cp1252; write all of it as UTF-8, or give --encoding"
    return None
