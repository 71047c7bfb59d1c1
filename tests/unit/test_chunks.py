"""Chunks of scored rows: whole and recorded, or absent."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.chunks import WorkFolder, are_whole
from tasks.errors import DataError, MachineError
from tasks.reviews.batches import Batch, RefusedRow


def batch(first: int, count: int, refused: tuple[int, ...] = ()) -> Batch:
    """Return rows `first` … of which some are refused."""
    rows = [row for row in range(first, first + count) if row not in refused]
    columns = pa.record_batch({"row": pa.array(rows, pa.int64())})
    return Batch(columns, pa.array(rows, pa.int64()), tuple(RefusedRow("in.csv", row, row + 1, "ragged") for row in refused))


def write(folder: WorkFolder, number: int, rows: Batch, *, last: bool = False, shard: int = 0) -> None:
    """Write a chunk of one batch."""
    with folder.open(shard, number) as draft:
        draft.add(rows, rows.columns, {"status": {"ok": rows.columns.num_rows}})
        draft.last = last


def test_chunk_is_found_again(tmp_path: Path) -> None:
    """A chunk comes back with its rows, its refused rows, its tallies and its place in the source."""
    folder = WorkFolder(tmp_path / "work")

    write(folder, 0, batch(11, 5, refused=(13,)), last=True)
    (chunk,) = folder.whole_shard(0)

    assert (chunk.first_row, chunk.rows, chunk.scored, chunk.last) == (11, 5, 4, True)
    assert chunk.refused == ({"source": "in.csv", "row": 13, "line": 14, "reason": "ragged"},)
    assert chunk.facts == {"status": {"ok": 4}}
    assert [row for part in folder.read(chunk) for row in part["row"].to_pylist()] == [11, 12, 14, 15]


@pytest.mark.parametrize("damage", ["flip", "cut", "record", "no record", "no rows"])
def test_damaged_chunk_counts_as_absent(tmp_path: Path, damage: str) -> None:
    """A chunk whose bytes or record changed, or of which one half is gone, is not there; its neighbours are."""
    folder = WorkFolder(tmp_path)
    for number in range(3):
        write(folder, number, batch(1 + 4 * number, 4), last=number == 2)
    rows, record = tmp_path / "0000-00001.parquet", tmp_path / "0000-00001.json"
    if damage == "flip":
        content = bytearray(rows.read_bytes())
        content[30] ^= 1
        rows.write_bytes(content)
    elif damage == "cut":
        rows.write_bytes(rows.read_bytes()[:-1])
    elif damage == "record":
        changed = json.loads(record.read_text(encoding="utf-8"))
        changed["record"]["scored"] = 3
        record.write_text(json.dumps(changed), encoding="utf-8")
    else:
        (rows if damage == "no rows" else record).unlink()

    assert sorted(folder.chunks(0)) == [0, 2]
    with pytest.raises(MachineError, match="missing or damaged"):
        folder.whole_shard(0)


def test_shard_is_whole_with_its_last_chunk_only(tmp_path: Path) -> None:
    """A shard is whole when its chunks are there from the first to the one that was the last, and not before."""
    folder = WorkFolder(tmp_path)
    seen = []
    for number in range(3):
        seen.append(are_whole(folder.chunks(0)))
        write(folder, number, batch(1 + 4 * number, 4), last=number == 2)

    assert seen == [False] * 3
    assert are_whole(folder.chunks(0))
    assert not are_whole(folder.chunks(1))


@pytest.mark.parametrize(
    "rows",
    [
        [batch(1, 4), batch(6, 4)],  # row 5 is missing
        [batch(1, 4), batch(4, 4)],  # row 4 is there twice
        [Batch(batch(1, 4).columns, pa.array(np.arange(1, 5)), (RefusedRow("in.csv", 3, 4, "ragged"),))],  # scored and refused
    ],
    ids=["missing", "twice", "both"],
)
def test_lost_or_doubled_rows_are_refused(tmp_path: Path, rows: list[Batch]) -> None:
    """A chunk in which a row is missing, or there twice, is an error and leaves nothing behind."""
    folder = WorkFolder(tmp_path)

    with pytest.raises(DataError, match="not each of them once"), folder.open(0, 0) as draft:
        for part in rows:
            draft.add(part, part.columns, {})

    assert list(tmp_path.iterdir()) == []


def test_finished_work_leaves_its_manifest(tmp_path: Path) -> None:
    """When all is published the chunks go; the manifest stays and counts only with the `_SUCCESS` that belongs to it."""
    folder = WorkFolder(tmp_path)
    write(folder, 0, batch(1, 4), last=True)
    before = folder.manifest()

    folder.finish(b'{"rows": 4}')
    after = folder.manifest()
    (tmp_path / "manifest.json").write_bytes(b'{"rows": 5}')

    assert (before, after, folder.manifest()) == (None, {"rows": 4}, None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_SUCCESS", "manifest.json"]
