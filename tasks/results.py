"""Scored rows in the forms that people use: a folder of Parquet parts, one CSV, or JSON lines; whole under its name or not there."""

import base64
import json
import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.csv import CSVWriter, WriteOptions

from tasks.errors import CallerError, MachineError
from tasks.fingerprint import sha256_of_file
from tasks.store import HashingFile, make_folder, sync_folder
from tasks.tables import TableWriter

ResultFormat = Literal["parquet", "csv", "jsonl"]

PART_BYTES = 128 << 20
MANIFEST, SUCCESS = "_manifest.json", "_SUCCESS"  # readers of Parquet folders pass over names that begin so

# What a spreadsheet would run as a formula; text that is just a number is none. The full-width signs count in some of them.
_FORMULA = r"^'*[=+\-@\t\r\n＝＋－＠]"
_NUMBER = r"^'*[+\-]?[0-9][0-9.,]*([eE][+\-]?[0-9]+)?%?$"
_SPLITTING = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})  # some readers see line ends in them


@dataclass(frozen=True)
class ResultFile:
    """One file of a result: its path within the folder of the output, the SHA-256 and size of its bytes, its rows."""

    path: str
    sha256: str
    size: int
    rows: int


def write_result(
    output: Path,
    draft_name: str,
    format: ResultFormat,
    groups: Iterable[tuple[int, Iterator[pa.RecordBatch]]],
    refused: Sequence[dict[str, Any]] = (),
) -> "Draft":
    """Write scored rows, and those that were refused, beside where they shall stand; `Draft.publish` puts them there.

    Args:
        output: The file, or of Parquet the folder, that shall stand in the end.
        draft_name: A name that no other run uses at the same time; what a killed run left under it is removed.
        format: What to write.
        groups: Batches by group, each with its size in bytes: a part of Parquet is closed once it holds `PART_BYTES` of them.
        refused: What is to be said of each row that could not be read.

    Raises:
        MachineError: The disk is full or refuses to be written.
    """
    draft = Draft(output, draft_name)
    make_folder(output.parent)
    try:
        draft.discard()
        if format == "parquet":
            draft.place.mkdir(mode=0o700)
            for number, part in enumerate(_parts(groups)):
                draft.files.append(_write_parquet(draft.place / f"part-{number:05d}.parquet", output.name, part))
        else:
            write = _write_csv if format == "csv" else _write_json_lines
            file = HashingFile(draft.place)
            with closing(file):
                rows = write(cast(BinaryIO, file), (batch for _, batches in groups for batch in batches))
            draft.files.append(ResultFile(output.name, file.sha256, file.size, rows))
        if refused:
            with closing(HashingFile(draft.quarantine_place)) as file:
                file.write("".join(f"{_json_text(row)}\n" for row in refused).encode())
            draft.quarantine = ResultFile(draft.quarantine_output.name, file.sha256, file.size, len(refused))
    except OSError as error:
        draft.discard()
        raise _refused(output, error) from error
    except BaseException:
        draft.discard()
        raise
    return draft


class Draft:
    """A result under hidden names."""

    def __init__(self, output: Path, name: str) -> None:
        self.output, self.quarantine_output = output, quarantine_of(output)
        self.place = output.with_name(f".{output.name}.{name}.part")
        self.old = output.with_name(f".{output.name}.{name}.old")
        self.quarantine_place = output.with_name(f".{self.quarantine_output.name}.{name}.part")
        self.files: list[ResultFile] = []
        self.quarantine: ResultFile | None = None

    @property
    def rows(self) -> int:
        """How many scored rows were written."""
        return sum(file.rows for file in self.files)

    def publish(self, manifest: bytes) -> None:
        """Rename first the refused rows, then the result, to their names; a folder gets the manifest and `_SUCCESS` before.

        What stood there before goes.
        """
        try:
            if self.place.is_dir():
                for name, content in ((MANIFEST, manifest), (SUCCESS, b"")):
                    with closing(HashingFile(self.place / name)) as file:
                        file.write(content)
                sync_folder(self.place)
            if self.quarantine is not None:
                self.quarantine_place.replace(self.quarantine_output)
            else:
                self.quarantine_output.unlink(missing_ok=True)
            if self.output.is_dir() or (self.output.exists() and self.place.is_dir()):  # these cannot be replaced in one step
                self.output.replace(self.old)
            self.place.replace(self.output)
            sync_folder(self.output.parent)
        except OSError as error:
            raise _refused(self.output, error) from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove the draft, and what it has replaced; put that back where it was not replaced after all."""
        if self.old.exists() and not self.output.exists():
            self.old.replace(self.output)
        for place in (self.place, self.old, self.quarantine_place):
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)


def quarantine_of(output: Path) -> Path:
    """Return where the refused rows of a result stand, if there are any."""
    return output.with_name(f"{output.name}.quarantine.jsonl")


def check_replaceable(output: Path) -> None:
    """Check that what stands where a result shall stand is an earlier result.

    Raises:
        CallerError: It is a folder of something else.
    """
    if output.is_dir() and not (output / MANIFEST).is_file() and any(output.iterdir()):
        raise CallerError(f"{output} is a folder that is no result of scoring, and is left alone. Choose another with --output.")


def is_intact(folder: Path, files: Iterable[dict[str, Any]]) -> bool:
    """Return whether the files of a result, as its manifest says them, stand in the output's folder, unchanged."""
    try:
        return all((folder / file["path"]).stat().st_size == file["size"] and _sha256(folder, file) == file["sha256"] for file in files)
    except OSError:
        return False


def as_json(manifest: dict[str, Any]) -> bytes:
    """Return a manifest as JSON that people can read."""
    return (json.dumps(manifest, indent=1, ensure_ascii=False, allow_nan=False, default=asdict) + "\n").encode()


def guard_formulas(text: pa.StringArray) -> pa.StringArray:
    """Return text that no spreadsheet runs: one that begins like a formula gets an apostrophe before it.

    To undo it, take the first apostrophe from what begins with apostrophes and then one of `= + - @`, tab or line end, unless the
    rest is just a number.
    """
    found = pc.and_(pc.match_substring_regex(text, _FORMULA), pc.invert(pc.match_substring_regex(text, _NUMBER)))
    if not pc.any(found).as_py():
        return text
    return pc.if_else(found, pc.binary_join_element_wise("'", text, ""), text)


def _sha256(folder: Path, file: dict[str, Any]) -> str:
    return sha256_of_file(folder / file["path"])


def _parts(groups: Iterable[tuple[int, Iterator[pa.RecordBatch]]]) -> Iterator[Iterator[pa.RecordBatch]]:
    """Yield the batches of each part, to be taken before the next is asked for."""
    source = iter(groups)
    for first in source:

        def part(size: int, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            yield from batches
            while size < PART_BYTES and (following := next(source, None)) is not None:
                size += following[0]
                yield from following[1]

        yield part(*first)


def _write_parquet(place: Path, folder_name: str, batches: Iterator[pa.RecordBatch]) -> ResultFile:
    file = HashingFile(place)
    with closing(file), TableWriter(cast(BinaryIO, file)) as writer:
        for batch in batches:
            writer.write(batch)
    return ResultFile(f"{folder_name}/{place.name}", file.sha256, file.size, writer.rows)


def _write_csv(file: BinaryIO, batches: Iterable[pa.RecordBatch]) -> int:
    """Write RFC 4180 CSV in UTF-8 with a header. Text is quoted always, and guarded; null is an empty field without quotes."""
    rows = 0
    writer: CSVWriter | None = None
    for batch in batches:
        plain = _as_csv_text(batch)
        if writer is None:
            writer = CSVWriter(file, plain.schema, write_options=WriteOptions(quoting_style="needed"))
        writer.write(plain)
        rows += batch.num_rows
    if writer is not None:
        writer.close()
    return rows


def _as_csv_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = []
    for column in batch.columns:
        kind = column.type
        if pa.types.is_string(kind):
            columns.append(guard_formulas(column))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind):
            columns.append(column)
        elif (pa.types.is_temporal(kind) and not pa.types.is_interval(kind)) or pa.types.is_decimal(kind):
            columns.append(column.cast(pa.string()))
        else:
            columns.append(
                guard_formulas(pa.array([None if value is None else _json_text(value) for value in column.to_pylist()], pa.string()))
            )
    return pa.RecordBatch.from_arrays(columns, names=guard_formulas(pa.array(batch.schema.names, pa.string())).to_pylist())


def _write_json_lines(file: BinaryIO, batches: Iterable[pa.RecordBatch]) -> int:
    """Write one object a line, types kept: numbers as numbers, null as null, times in ISO 8601, bytes in base64."""
    rows = 0
    for batch in batches:
        names = batch.schema.names
        columns = [_plain(column) for column in batch.columns]
        lines = [_json_text(dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]
        file.write("".join(f"{line}\n" for line in lines).encode())
        rows += batch.num_rows
    return rows


def _plain(column: pa.Array) -> list[Any]:
    if pa.types.is_float32(column.type):  # 0.1, not the 0.10000000149011612 that is the nearest double
        return [None if value is None else float(value) for value in column.cast(pa.string()).to_pylist()]
    try:
        return cast(list[Any], column.to_pylist())
    except (OverflowError, ValueError):  # a day after the year 9999, as of a time in the wrong unit
        return cast(list[Any], column.cast(pa.string()).to_pylist())


def _json_text(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_in_json)
    except ValueError:  # JSON has no NaN and no infinity
        text = json.dumps(_without_nan(value), ensure_ascii=False, default=_in_json)
    return text.translate(_SPLITTING)


def _in_json(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return str(value) if isinstance(value, Decimal) else repr(value)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refused(output: Path, error: OSError) -> MachineError:
    return MachineError(f"Cannot write {output}: {error.strerror or error}. Free some space or choose another folder with --output.")
