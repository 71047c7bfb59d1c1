import gc
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.tables import TableWriter, count_rows, map_in_order, read_batches, read_columns

BATCHES = [pa.record_batch({"id": ["a", "b"], "tokens": pa.array([["x"], []]), "stars": pa.array([1, None], pa.int8())}) for _ in range(3)]


def _written(path: Path, batches: list[pa.RecordBatch], schema: pa.Schema | None = None) -> TableWriter:
    with path.open("wb") as file, TableWriter(file, schema) as writer:
        for batch in batches:
            writer.write(batch)
    return writer


def test_a_batch_is_a_row_group(tmp_path: Path) -> None:
    """Batches come back as they went, one at a time; the writer counts rows; empty ones leave no row group."""
    path = tmp_path / "rows.parquet"
    writer = _written(path, [*BATCHES, BATCHES[0].slice(0, 0), BATCHES[1].slice(1, 1)])
    assert writer.rows == count_rows(path) == 7 and pq.ParquetFile(path).num_row_groups == 4
    assert [batch.to_pydict() for batch in read_batches(path)] == [batch.to_pydict() for batch in [*BATCHES, BATCHES[1].slice(1, 1)]]


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    """In the order they were asked for."""
    path = tmp_path / "rows.parquet"
    _written(path, BATCHES)
    assert [batch.to_pydict() for batch in read_batches(path, ["stars"])] == [{"stars": [1, None]}] * 3
    assert read_columns(path, ["stars", "id"]).to_pydict() == {"stars": [1, None] * 3, "id": ["a", "b"] * 3}


def test_a_file_of_no_rows_has_its_columns(tmp_path: Path) -> None:
    """Given the schema, nothing written is still a table."""
    path = tmp_path / "none.parquet"
    assert _written(path, [], BATCHES[0].schema).rows == 0
    assert read_columns(path).schema == BATCHES[0].schema and list(read_batches(path)) == []


def test_a_table_that_failed_midway_is_none(tmp_path: Path) -> None:
    """Without its end the file is not Parquet, so that half an output can't be taken for a whole one."""
    path = tmp_path / "half.parquet"
    with pytest.raises(KeyError), path.open("wb") as file, TableWriter(file) as writer:
        writer.write(BATCHES[0])
        raise KeyError
    with pytest.raises(pa.ArrowInvalid):
        pq.read_table(path)


def test_results_come_in_order_and_on_several_threads() -> None:
    """The first items wait for each other, so one thread alone would never finish; the results are in the items' order."""
    together = threading.Barrier(3, timeout=60)

    def square(item: int) -> int:
        if item < 3:
            together.wait()
        return item * item

    assert list(map_in_order(square, range(50), threads=3)) == [item * item for item in range(50)]


def test_few_items_wait_in_memory() -> None:
    """Items are taken as results are asked for, no further ahead than the threads can be busy."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = map_in_order(str, items(), threads=2)
    assert [next(results), next(results)] == ["0", "1"] and len(taken) <= 5
    results.close()  # type: ignore[attr-defined]
    assert len(taken) <= 5


def test_an_error_reaches_the_caller() -> None:
    """Results before the failing item arrive; then its own error."""
    results = map_in_order(lambda item: 1 // item, [1, 1, 0, 1], threads=2)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_given_up_table_is_not_written_to() -> None:
    """After an error in its block a writer is done with its file: nothing writes there when the writer is cleared away later."""
    late = []

    class Sink(io.BytesIO):
        given_up = False

        def write(self, data: Any) -> int:
            if self.given_up:
                late.append(len(data))
            return super().write(data)

    sink = Sink()
    with pytest.raises(ZeroDivisionError), TableWriter(sink) as writer:
        writer.write(pa.record_batch({"n": [1]}))
        1 / 0  # noqa: B018
    sink.given_up = True
    del writer
    gc.collect()

    assert late == []
