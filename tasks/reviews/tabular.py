"""Binary tables: Parquet with its types kept, and the cells of an Excel worksheet as strings."""

import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time
from itertools import accumulate, islice
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import CallerError, DataError, MachineError, PipelineError
from tasks.reviews.batches import ROWS_PER_BATCH, Batch
from tasks.reviews.columns import is_text_name
from tasks.reviews.compression import check_declared_size, check_ratio, compression_of_file, is_workbook, place, unpacked
from tasks.reviews.formats import FileFormat, ReaderSettings, is_header
from tasks.reviews.records import BYTES_PER_BATCH, Record, assemble, sift, unique_names

_BUFFER_BYTES = 1 << 20
_SAMPLE_ROWS = 50
_ESCAPED = re.compile("_x(?P<code>[0-9A-Fa-f]{4})_")  # how a worksheet writes what XML does not hold: _x000D_ is a carriage return
_ROWS_AT_ONCE = 128


def describe_parquet(path: Path, member: str | None) -> FileFormat:
    """Describe a Parquet file."""
    compression = compression_of_file(path)
    with _open_parquet(path, member) as (file, _):
        return FileFormat("parquet", compression, None, None, None, unique_names(file.schema_arrow.names))


def count_parquet_rows(path: Path) -> int:
    """Return the number of rows that the footer of a Parquet file states."""
    with _open_parquet(path, None) as (file, _):
        return int(file.metadata.num_rows)


def read_parquet(
    path: Path, member: str | None, source: str, settings: ReaderSettings, stretch: tuple[int, int] | None = None
) -> Iterator[Batch]:
    """Yield the rows of a Parquet file: dictionaries decoded, every kind of string as `string`, other types kept.

    One that is compressed as a whole, or a member of an archive, is unpacked to a temporary file first.

    Args:
        path: The file.
        member: As for `read_batches`.
        source: Its name in `RefusedRow`.
        settings: How to read it.
        stretch: Read only the rows from the one number (from 0) up to, without, the other; row groups outside are passed over.

    Raises:
        DataError: The file is damaged, or a bomb.
    """
    with _open_parquet(path, member) as (file, num_rows):
        names = unique_names(file.schema_arrow.names)
        kinds = [_plain_type(kind, name) for kind, name in zip(file.schema_arrow.types, names, strict=True)]
        schema = pa.schema(list(zip(names, kinds, strict=True)))
        start, stop = stretch or (0, file.metadata.num_rows)
        row = start
        raw = _parquet_batches(place(path, member), file, num_rows, start, stop)
        for batch in _gathered(_typed(batch, schema) for batch in raw):
            rows = range(row + 1, row + 1 + batch.num_rows)
            row += batch.num_rows
            yield sift(batch, rows, [None] * len(rows), (), source, settings.max_field_bytes)
        if row == start:
            yield Batch(pa.RecordBatch.from_pylist([], schema), pa.array([], pa.int64()))


def describe_workbook(path: Path, member: str | None, settings: ReaderSettings) -> FileFormat:
    """Describe a worksheet of an Excel workbook.

    Raises:
        CallerError: openpyxl is not installed, or there is no such worksheet.
        DataError: The worksheet is empty, or the workbook damaged.
    """
    with _sheet_rows(path, member, settings) as rows:
        sample = list(islice(rows, _SAMPLE_ROWS))
    if not sample:
        raise DataError(f"The worksheet of {place(path, member)} is empty. Name another with the setting `sheet`.")
    first = [cell or "" for cell in sample[0][1]]
    others = [[cell or "" for cell in cells] for _, cells in sample[1:]]
    header = settings.header if settings.header is not None else is_header(first, others)
    if header:
        return FileFormat("excel", None, None, None, True, unique_names(name.strip() for name in first))
    width = max(len(cells) for _, cells in sample)
    return FileFormat("excel", None, None, None, False, unique_names([""] * width))


def read_workbook(path: Path, member: str | None, source: str, settings: ReaderSettings) -> Iterator[Batch]:
    """Yield the rows of a worksheet; `line` of a refused row is its row in the worksheet.

    Strings stand as they are, numbers as Excel shows a plain one (4.0 as 4), dates in ISO 8601, an empty cell is null.
    Rows without any value are no records.
    """
    found = describe_workbook(path, member, settings)
    with _sheet_rows(path, member, settings) as rows:
        records = _sheet_records(rows, bool(found.header), len(found.columns))
        yield from assemble(records, found.columns, source, settings.max_field_bytes)


@contextmanager
def _open_parquet(path: Path, member: str | None) -> Iterator[tuple[Any, int]]:
    """Open a Parquet file, and say how many of its rows to decode at a time."""
    where = place(path, member)
    with unpacked(path, member) as plain:
        try:
            # Buffered, and not read ahead: otherwise a row group, which may be the whole file, is held in memory.
            file = pq.ParquetFile(plain, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
        except (pa.ArrowException, OSError, ValueError) as error:  # ValueError: a column's name is no UTF-8
            raise _parquet_failure(where, error) from error
        with file:
            groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
            check_ratio(sum(group.total_byte_size for group in groups), plain.stat().st_size, where)
            _check_columns(file, where)
            yield file, _rows_at_once(plain, groups)


def _parquet_batches(where: str, file: Any, num_rows: int, start: int, stop: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows from `start` up to `stop`, `num_rows` at a time; row groups that hold none of them are not read."""
    ends = list(accumulate(file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)))
    wanted = [index for index, end in enumerate(ends) if end > start and (ends[index - 1] if index else 0) < stop]
    if not wanted:
        return
    row = ends[wanted[0] - 1] if wanted[0] else 0
    try:
        for batch in file.iter_batches(num_rows, row_groups=wanted, use_threads=False):
            first, end = max(start - row, 0), min(stop - row, batch.num_rows)
            if first < end:
                yield batch.slice(first, end - first)
            row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _parquet_failure(where, error) from error
    if row != ends[wanted[-1]]:  # as Arrow ends without an error where a column states fewer values than there are rows
        raise DataError(
            f"{where} is a damaged Parquet file (it states {ends[wanted[-1]]:,} rows and holds {row:,}). Copy or export it again."
        )


def _check_columns(file: Any, where: str) -> None:
    """Let Arrow look at every column of every row group while it can tell of errors: `RowGroupMetaData.column` ends the process.

    Raises:
        DataError: What the footer says of a column does not fit together.
    """
    try:
        for index in range(file.num_row_groups):
            next(file.iter_batches(1, row_groups=[index], use_threads=False), None)
    except (pa.ArrowException, OSError) as error:
        raise _parquet_failure(where, error) from error


def _rows_at_once(path: Path, groups: Sequence[Any]) -> int:
    """Return how many rows to decode at a time so that neither long reviews nor a dictionary, repeated row by row, fill the memory.

    A value of a dictionary stands in the file once, however many rows hold it: 44 kB can hold a million reviews of 900 kB.
    """
    largest = 0
    bytes_per_row = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    with path.open("rb") as file:
        for group in groups:
            for column in (group.column(index) for index in range(group.num_columns)):
                if column.physical_type == "BYTE_ARRAY" and column.dictionary_page_offset is not None:
                    file.seek(column.dictionary_page_offset)
                    largest = max(largest, _page_size(file.read(16)))
    return max(1, min(_ROWS_AT_ONCE, BYTES_PER_BATCH // max(largest, bytes_per_row, 1)))


def _page_size(header: bytes) -> int:
    """Return the uncompressed size that a page's header states.

    Source: `PageHeader` of parquet.thrift in the compact protocol: field 1 its type, field 2 its size, both zigzag varints.
    """
    sizes = []
    at = 0
    for _ in range(2):
        at += 1  # the field's own byte
        value = shift = 0
        while at < len(header):
            value |= (header[at] & 0x7F) << shift
            shift += 7
            at += 1
            if header[at - 1] < 0x80:
                break
        sizes.append(value >> 1)
    return sizes[1]


def _typed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    columns = [_cast(column, kind) for column, kind in zip(batch.columns, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if column.type == kind:
        return column
    if _is_bytes(column.type):
        return column.cast(pa.binary()).view(kind)  # what is no UTF-8 is refused row by row
    return column.cast(kind)


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Join batches until one more would be over `ROWS_PER_BATCH` rows or `BYTES_PER_BATCH` bytes."""
    waiting: list[pa.RecordBatch] = []
    num_rows = num_bytes = 0
    for batch in batches:
        if waiting and (num_rows + batch.num_rows > ROWS_PER_BATCH or num_bytes + batch.nbytes > BYTES_PER_BATCH):
            yield pa.concat_batches(waiting)
            waiting, num_rows, num_bytes = [], 0, 0
        waiting.append(batch)
        num_rows += batch.num_rows
        num_bytes += batch.nbytes
    if num_rows:
        yield pa.concat_batches(waiting)


def _parquet_failure(where: str, error: Exception) -> PipelineError:
    if isinstance(error, OSError) and error.errno is not None:
        return MachineError(f"Reading {where} failed: {error}.")
    return DataError(f"{where} is a damaged Parquet file ({error}). Copy or export it again.")


def _plain_type(kind: pa.DataType, name: str) -> pa.DataType:
    """Return the type that a column is given: text of any kind is `string`, also where a program wrote it as bytes."""
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type, name)
    is_text = pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or (_is_bytes(kind) and is_text_name(name))
    return pa.string() if is_text else kind


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


@contextmanager
def _sheet_rows(path: Path, member: str | None, settings: ReaderSettings) -> Iterator[Iterator[tuple[int, list[str | None]]]]:
    """Open a worksheet as (row number from 1, cells as text) of the rows that hold a value."""
    where = place(path, member)
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise CallerError(f"{where} is an Excel workbook: install the extra `excel` (pip install openpyxl).") from error
    if not is_workbook(path, member):
        raise DataError(f"{where} is not an Excel workbook (.xlsx), or a damaged one. Export it again.")
    with unpacked(path, member) as plain:
        check_declared_size(plain, where)
        try:
            # An open file, as openpyxl would judge a path by its suffix.
            with plain.open("rb") as file:
                yield _rows_of(load_workbook(file, read_only=True, data_only=True), where, settings.sheet)
        except PipelineError:
            raise
        except (zipfile.BadZipFile, ParseError, KeyError, ValueError, TypeError, OSError) as error:
            raise DataError(f"{where} is a damaged Excel workbook ({type(error).__name__}). Export it again.") from error


def _rows_of(workbook: Any, where: str, name: str | None) -> Iterator[tuple[int, list[str | None]]]:
    if name is not None and name not in workbook.sheetnames:
        raise CallerError(f"{where} has no worksheet {name!r}. It has: {', '.join(workbook.sheetnames)}.")
    sheet = workbook[name or workbook.sheetnames[0]]
    sheet.reset_dimensions()  # the size a file declares is often wrong
    for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
        if any(value is not None for value in values):
            yield number, [_cell_text(value) for value in values]


def _sheet_records(rows: Iterator[tuple[int, list[str | None]]], header: bool, width: int) -> Iterator[Record]:
    for number, cells in islice(rows, int(header), None):
        extra = [cell for cell in cells[width:] if cell is not None]
        size = sum(len(cell) for cell in cells if cell is not None)
        if extra:
            yield Record(
                number, size, (), f"{width + len(extra)} or more cells where {width} are expected; name their columns in the first row"
            )
        else:
            yield Record(number, size, (cells + [None] * width)[:width])


def _cell_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _ESCAPED.sub(lambda match: chr(int(match["code"], 16)), value) if "_x" in value else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, date | datetime | time) else str(value)
