"""What every source of reviews yields: batches of rows, and the rows it had to refuse."""

from dataclasses import dataclass, field

import pyarrow as pa

ROWS_PER_BATCH = 4096


@dataclass(frozen=True)
class RefusedRow:
    """A row that could not be read, with the place and the reason, never the text.

    `row` counts the source's records from 1 (a header is not a record); `line` is the physical line of a text file, from 1.
    """

    source: str
    row: int
    line: int | None
    reason: str


@dataclass(frozen=True)
class Batch:
    """Consecutive rows of one source.

    Args:
        columns: The input's own columns, in their order; text formats give strings.
        source_row: int64, shape (num_rows,), from 1: the record's position in its source.
        refused: Rows of the same stretch that are not among `columns`.
    """

    columns: pa.RecordBatch
    source_row: pa.Int64Array
    refused: tuple[RefusedRow, ...] = field(default=())
