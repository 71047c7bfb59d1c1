"""Parquet in and out, one row group at a time, with both cores at work and memory bounded."""

import io
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

T = TypeVar("T")
R = TypeVar("R")


def read_batches(path: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """Yield a Parquet file's row groups, each as one batch; dictionary-encoded columns stay so."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for index in range(file.num_row_groups):
            table = file.read_row_group(index, columns=columns, use_threads=False).combine_chunks()
            yield from table.to_batches()


def read_columns(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Return whole columns; for the narrow ones only (ids, labels, splits)."""
    return pq.read_table(path, columns=columns, use_threads=False, memory_map=False)


def count_rows(path: Path) -> int:
    """Return the number of rows that the file's footer states."""
    return int(pq.read_metadata(path).num_rows)


def map_in_order(function: Callable[[T], R], items: Iterable[T], threads: int | None = None) -> Iterator[R]:
    """Apply a function that releases the GIL to items on several cores; results come in order, few wait in memory."""
    threads = threads or min(os.cpu_count() or 1, 8)
    source = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque(pool.submit(function, item) for item in itertools.islice(source, threads + 1))
        while waiting:
            result = waiting.popleft().result()
            for item in itertools.islice(source, 1):
                waiting.append(pool.submit(function, item))
            yield result


class _Sink(io.RawIOBase):
    """Hands bytes on to a file, until that is given up."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.given_up = False

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data) if self.given_up else self._file.write(data)


class TableWriter:
    """Writes batches to Parquet, a row group a batch, into an open binary file; the first batch decides the schema."""

    def __init__(self, file: BinaryIO, schema: pa.Schema | None = None) -> None:
        self._sink = _Sink(file)
        self._writer: pq.ParquetWriter | None = None
        self.rows = 0
        if schema is not None:
            self._start(schema)

    def _start(self, schema: pa.Schema) -> pq.ParquetWriter:
        # Level 1 of zstd writes as fast as snappy and takes a third less room; plain Parquet types keep the file readable anywhere.
        self._writer = pq.ParquetWriter(self._sink, schema, compression="zstd", compression_level=1)
        return self._writer

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Append rows."""
        writer = self._writer or self._start(batch.schema)
        table = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
        if table.num_rows:
            writer.write_table(table, row_group_size=table.num_rows)
            self.rows += table.num_rows

    def close(self) -> None:
        """Write the footer; the file itself stays open for its owner to close."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        elif self._writer is not None:
            self._sink.given_up = True  # its destructor would write the footer, to a file that is closed by then
            with suppress(Exception):
                self._writer.close()
