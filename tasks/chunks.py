"""The work that is done on one file of reviews: chunks of scored rows, each whole and recorded, so that a killed run goes on from there.

A chunk is written, fsynced and renamed; then its record is, with the SHA-256 of the chunk and what it holds. A chunk without a record,
or with one that it does not fit, counts as absent. When all are published they go, and `manifest.json` and at last `_SUCCESS` remain.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import DataError, MachineError
from tasks.fingerprint import sha256_of_file, sha256_of_json
from tasks.reviews.batches import Batch, RefusedRow
from tasks.store import HashingFile, atomic_file, make_folder, sync_folder
from tasks.tables import TableWriter, read_batches
from tasks.tallies import Facts, merge_facts

MANIFEST, SUCCESS = "manifest.json", "_SUCCESS"


@dataclass(frozen=True)
class Chunk:
    """What is recorded of a chunk.

    Args:
        shard, number: Its place: the how-many-th shard of the file, the how-many-th chunk of that, both from 0.
        first_row: The number of its first row in the source, from 1.
        rows: Rows read: scored and refused together.
        refused: The rows that could not be read, as `RefusedRow` says them.
        last: Whether the shard ends with it.
        sha256, size: Of the file of scored rows.
    """

    shard: int
    number: int
    first_row: int
    rows: int
    scored: int
    refused: tuple[dict[str, Any], ...]
    facts: Facts
    last: bool
    sha256: str
    size: int


def are_whole(chunks: dict[int, Chunk]) -> bool:
    """Return whether these chunks of a shard, by their numbers, are all of it."""
    numbers = sorted(chunks)
    return bool(numbers) and numbers == list(range(len(numbers))) and [number for number in numbers if chunks[number].last] == numbers[-1:]


@dataclass(frozen=True)
class WorkFolder:
    """The folder that holds one file's chunks. Nothing in it is trusted unread."""

    path: Path

    def chunks(self, shard: int) -> dict[int, Chunk]:
        """Return a shard's whole chunks by their numbers; every one is hashed again."""
        found = (self._read(place) for place in sorted(self.path.glob(f"{shard:04d}-*.json")))
        return {chunk.number: chunk for chunk in found if chunk is not None and self._is_intact(chunk)}

    def whole_shard(self, shard: int) -> list[Chunk]:
        """Return all chunks of a shard in their order.

        Raises:
            MachineError: One is missing or damaged.
        """
        found = self.chunks(shard)
        if not are_whole(found):
            raise MachineError(f"Scored rows in {self.path} are missing or damaged. Run the same command again: the others are kept.")
        return [found[number] for number in sorted(found)]

    def place(self, chunk: Chunk) -> Path:
        """Return where a chunk's scored rows lie."""
        return self.path / f"{chunk.shard:04d}-{chunk.number:05d}.parquet"

    def read(self, chunk: Chunk) -> Iterator[pa.RecordBatch]:
        """Yield a chunk's scored rows, a batch of none where there are none, so that the columns are known."""
        if chunk.scored:
            return read_batches(self.place(chunk))
        return iter([pa.RecordBatch.from_pylist([], pq.read_schema(self.place(chunk)))])

    @contextmanager
    def open(self, shard: int, number: int) -> "Iterator[ChunkDraft]":
        """Write a chunk; it and its record appear when the block ends well."""
        draft = ChunkDraft(Chunk(shard, number, 0, 0, 0, (), {}, False, "", 0))
        place = self.place(draft.chunk)
        with atomic_file(place) as file:
            with TableWriter(file) as draft.writer:
                yield draft
            written = cast(HashingFile, file)
            chunk = replace(draft.finish(), sha256=written.sha256, size=written.size)
        plain = asdict(chunk)
        with atomic_file(place.with_suffix(".json")) as record:
            record.write(json.dumps({"record": plain, "sha256": sha256_of_json(plain)}, ensure_ascii=False).encode())

    def clear(self, keep: tuple[str, ...] = ()) -> None:
        """Remove the folder's files, but for those of the names to keep."""
        for path in list(self.path.iterdir()) if self.path.is_dir() else ():
            if path.name not in keep:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)

    def clear_drafts(self, shard: int) -> None:
        """Remove what killed runs left half written; the caller holds the shard's lock."""
        for path in self.path.glob(f".{shard:04d}-*.part"):
            path.unlink(missing_ok=True)

    def finish(self, manifest: bytes) -> None:
        """Say that all is published: the manifest, then `_SUCCESS`, which holds its SHA-256; then the chunks go."""
        make_folder(self.path)
        with atomic_file(self.path / MANIFEST) as file:
            file.write(manifest)
            sha256 = cast(HashingFile, file).sha256
        with atomic_file(self.path / SUCCESS) as file:
            file.write(sha256.encode())
        self.tidy()

    def tidy(self) -> None:
        """Remove the chunks of what is published; a killed run may have left some."""
        self.clear(keep=(MANIFEST, SUCCESS))
        sync_folder(self.path)

    def manifest(self) -> dict[str, Any] | None:
        """Return the manifest of what was published, or None if that has not happened or the manifest is damaged."""
        try:
            text = (self.path / MANIFEST).read_bytes()
            if (self.path / SUCCESS).read_text(encoding="ascii") == sha256_of_file(self.path / MANIFEST):
                return dict(json.loads(text))
        except (OSError, ValueError):
            pass
        return None

    def _read(self, place: Path) -> Chunk | None:
        try:
            raw = json.loads(place.read_text(encoding="utf-8"))
            record = raw["record"]
            if sha256_of_json(record) != raw["sha256"]:
                return None
            return Chunk(**{**record, "refused": tuple(record["refused"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _is_intact(self, chunk: Chunk) -> bool:
        try:
            return self.place(chunk).stat().st_size == chunk.size and sha256_of_file(self.place(chunk)) == chunk.sha256
        except OSError:
            return False


@dataclass
class ChunkDraft:
    """A chunk being written: every row that was read is added, scored or refused; `last` is set where the shard ends."""

    chunk: Chunk
    last: bool = False
    writer: TableWriter = field(init=False)
    _rows: list[np.ndarray] = field(default_factory=list)
    _refused: list[RefusedRow] = field(default_factory=list)
    _facts: list[Facts] = field(default_factory=list)

    def add(self, batch: Batch, scored: pa.RecordBatch, facts: Facts) -> None:
        """Append the rows of a batch as they were scored, and what it refused."""
        self.writer.write(scored)
        self._rows += [batch.source_row.to_numpy(), np.array([row.row for row in batch.refused], np.int64)]
        self._refused.extend(batch.refused)
        self._facts.append(facts)

    def finish(self) -> Chunk:
        """Return the record.

        Raises:
            DataError: Between its first row and its last, a row is missing or there twice.
        """
        rows = np.sort(np.concatenate(self._rows)) if self._rows else np.empty(0, np.int64)
        if self.writer.rows + len(self._refused) != len(rows) or np.any(np.diff(rows) != 1):
            raise DataError(
                f"Of the rows {rows.min(initial=0):,} to {rows.max(initial=0):,}, {self.writer.rows:,} were scored and "
                f"{len(self._refused):,} refused, which is not each of them once. Nothing was published."
            )
        return replace(
            self.chunk,
            first_row=int(rows[0]) if len(rows) else 0,
            rows=len(rows),
            scored=self.writer.rows,
            refused=tuple(asdict(row) for row in self._refused),
            facts=merge_facts(self._facts),
            last=self.last,
        )
