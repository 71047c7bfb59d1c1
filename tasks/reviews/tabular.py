"""Binary tables: Parquet with its types kept, and the cells of an Excel worksheet as strings."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import CallerError, DataError, MachineError, PipelineError
from tasks.reviews.batches import ROWS_PER_BATCH, Batch
from tasks.reviews.compression import check_declared_size, compression_of_file, is_workbook, place
from tasks.reviews.formats import FileFormat, ReaderSettings, is_header
from tasks.reviews.records import BYTES_PER_BATCH, Record, assemble, sift, unique_names

_BUFFER_BYTES = 1 << 20
_SAMPLE_ROWS = 50


def describe_parquet(path: Path, member: str | None) -> FileFormat:
    """Describe a Parquet file."""
    with _open_parquet(path, member) as file:
        return FileFormat("parquet", None, None, None, None, unique_names(file.schema_arrow.names))


def read_parquet(path: Path, member: str | None, source: str, settings: ReaderSettings) -> Iterator[Batch]:
    """Yield the rows of a Parquet file: dictionaries decoded, every kind of string as `string`, other types kept.

    Raises:
        DataError: The file is damaged, or compressed as a whole.
    """
    with _open_parquet(path, member) as file:
        names = unique_names(file.schema_arrow.names)
        kinds = [_plain_type(kind) for kind in file.schema_arrow.types]
        schema = pa.schema(list(zip(names, kinds, strict=True)))
        row = 0
        for batch in _parquet_batches(path, file):
            columns = [column.cast(kind) for column, kind in zip(batch.columns, kinds, strict=True)]
            rows = range(row + 1, row + 1 + batch.num_rows)
            row += batch.num_rows
            typed = pa.RecordBatch.from_arrays(columns, schema=schema)
            yield sift(typed, rows, [None] * len(rows), (), source, settings.max_field_bytes)
        if row == 0:
            yield Batch(pa.RecordBatch.from_pylist([], schema), pa.array([], pa.int64()))


def describe_workbook(path: Path, settings: ReaderSettings) -> FileFormat:
    """Describe a worksheet of an Excel workbook.

    Raises:
        CallerError: openpyxl is not installed, or there is no such worksheet.
        DataError: The worksheet is empty, or the workbook damaged.
    """
    with _sheet_rows(path, settings) as rows:
        sample = list(islice(rows, _SAMPLE_ROWS))
    if not sample:
        raise DataError(f"The worksheet of {path} is empty. Name another with the setting `sheet`.")
    first = [cell or "" for cell in sample[0][1]]
    others = [[cell or "" for cell in cells] for _, cells in sample[1:]]
    header = settings.header if settings.header is not None else is_header(first, others)
    if header:
        return FileFormat("excel", None, None, None, True, unique_names(name.strip() for name in first))
    width = max(len(cells) for _, cells in sample)
    return FileFormat("excel", None, None, None, False, unique_names([""] * width))


def read_workbook(path: Path, source: str, settings: ReaderSettings) -> Iterator[Batch]:
    """Yield the rows of a worksheet; `line` of a refused row is its row in the worksheet.

    Strings stand as they are, numbers as Excel shows a plain one (4.0 as 4), dates in ISO 8601, an empty cell is null.
    Rows without any value are no records.
    """
    found = describe_workbook(path, settings)
    with _sheet_rows(path, settings) as rows:
        records = _sheet_records(rows, bool(found.header), len(found.columns))
        yield from assemble(records, found.columns, source, settings.max_field_bytes)


def _open_parquet(path: Path, member: str | None) -> Any:
    if member is not None or compression_of_file(path) is not None:
        raise DataError(f"{place(path, member)} is Parquet inside an archive, which cannot be streamed. Unpack it.")
    try:
        # Buffered, and not read ahead: otherwise a row group, which may be the whole file, is held in memory.
        return pq.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _parquet_failure(path, error) from error


def _parquet_batches(path: Path, file: Any) -> Iterator[pa.RecordBatch]:
    groups = [file.metadata.row_group(index) for index in range(file.num_row_groups)]
    bytes_per_row = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    batch_size = max(1, min(ROWS_PER_BATCH, BYTES_PER_BATCH // max(bytes_per_row, 1)))
    try:
        yield from file.iter_batches(batch_size, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _parquet_failure(path, error) from error


def _parquet_failure(path: Path, error: Exception) -> PipelineError:
    if isinstance(error, OSError) and error.errno is not None:
        return MachineError(f"Reading {path} failed: {error}.")
    return DataError(f"{path} is a damaged Parquet file ({error}). Copy or export it again.")


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    return pa.string() if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) else kind


@contextmanager
def _sheet_rows(path: Path, settings: ReaderSettings) -> Iterator[Iterator[tuple[int, list[str | None]]]]:
    """Open a worksheet as (row number from 1, cells as text) of the rows that hold a value."""
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise CallerError(f"{path} is an Excel workbook: install the extra `excel` (pip install openpyxl).") from error
    if not is_workbook(path):
        raise DataError(f"{path} is not an Excel workbook (.xlsx), or a damaged one. Export it again.")
    check_declared_size(path)
    try:
        # An open file, as openpyxl would judge a path by its suffix.
        with path.open("rb") as file:
            yield _rows_of(load_workbook(file, read_only=True, data_only=True), path, settings.sheet)
    except PipelineError:
        raise
    except (zipfile.BadZipFile, ParseError, KeyError, ValueError, TypeError, OSError) as error:
        raise DataError(f"{path} is a damaged Excel workbook ({type(error).__name__}). Export it again.") from error


def _rows_of(workbook: Any, path: Path, name: str | None) -> Iterator[tuple[int, list[str | None]]]:
    if name is not None and name not in workbook.sheetnames:
        raise CallerError(f"{path} has no worksheet {name!r}. It has: {', '.join(workbook.sheetnames)}.")
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
            yield Record(number, size, (), f"{width + len(extra)} or more cells where {width} are expected")
        else:
            yield Record(number, size, (cells + [None] * width)[:width])


def _cell_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value.isoformat() if isinstance(value, date | datetime | time) else str(value)
