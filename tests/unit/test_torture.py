"""Every record of every file comes out exactly or is refused with its place; a file that cannot be read says which it is and what to do.

What is expected is known from how the files were written; where they can read a file, Python's csv module and pandas are asked too.
"""

import csv
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
from torture import (
    COMPRESSIONS,
    DELIMITERS,
    ENCODINGS,
    FORMATS,
    LINE_ENDS,
    Case,
    Row,
    archive_case,
    compressed_case,
    matrix_case,
    pairs,
    write,
)
from torture_faults import FAULTS, bomb
from torture_oddities import CSV, OTHERS

from tasks.reviews.batches import Batch
from tasks.reviews.columns import find_text_column, text_of
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.sources import find_files

ODDITIES = CSV | OTHERS


def read(path: Path, settings: ReaderSettings) -> Iterator[list[Batch]]:
    """Yield the batches of every source that a path names."""
    for source in find_files(str(path), reader=settings):
        yield list(source.read(settings))


def check(case: Case) -> None:
    """Read a case and compare: numbers from 1 without a gap, values character by character, refusals with line, reason and remedy."""
    rows: list[Row] = []
    refused: dict[int, tuple[int | None, str]] = {}
    for batches in read(case.path, ReaderSettings.model_validate(case.settings)):
        numbers = [n for batch in batches for n in [*batch.source_row.to_pylist(), *(row.row for row in batch.refused)]]
        assert sorted(numbers) == list(range(1, len(numbers) + 1))
        assert batches and all(len(batch.source_row) == batch.columns.num_rows for batch in batches)
        rows += [row for batch in batches for row in batch.columns.to_pylist()]
        refused |= {row.row: (row.line, row.reason) for batch in batches for row in batch.refused}
    assert rows == case.rows
    assert {row: line for row, (line, _) in refused.items()} == {row: line for row, (line, _) in case.refused.items()}
    for row, (_, reason) in refused.items():
        assert case.refused[row][1] in reason
        assert ";" in reason, "no remedy"


def test_the_set_is_large_enough() -> None:
    """There are at least sixty files, counted by the tests below."""
    assert len(ENCODINGS) * len(DELIMITERS) * len(LINE_ENDS) + len(COMPRESSIONS) * len(FORMATS) + len(ODDITIES) + len(FAULTS) >= 225


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_every_encoding_delimiter_and_line_end(tmp_path: Path, encoding: str, delimiter: str) -> None:
    """What was written comes out, as it does from the csv module and from pandas when they are told everything."""
    codec, mark, _ = ENCODINGS[encoding]
    for end in LINE_ENDS:
        case = matrix_case(tmp_path, encoding, delimiter, end)
        text = case.path.read_bytes()[len(mark) :].decode(codec)
        header, *rows = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[delimiter])
        assert [dict(zip(header, row, strict=True)) for row in rows] == case.rows
        if end != "cr":  # pandas takes the other line ends within its quotes for ends
            asked = pd.read_csv(io.StringIO(text, newline=""), sep=DELIMITERS[delimiter], dtype=str, keep_default_na=False)
            assert asked.to_dict("records") == case.rows
        check(case)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_every_compression_of_every_format(tmp_path: Path, compression: str, form: str) -> None:
    """Files whose names tell nothing come out as written."""
    check(compressed_case(tmp_path, compression, form))


@pytest.mark.parametrize("forms", [("csv",), ("jsonl",), ("parquet",), ("csv", "jsonl", "json", "parquet")], ids=",".join)
def test_archives(tmp_path: Path, forms: tuple[str, ...]) -> None:
    """A zip of one file is that file, of several each of them; what macOS and people add is left out."""
    check(archive_case(tmp_path, *forms))


@pytest.mark.parametrize("name", ODDITIES)
def test_oddities(tmp_path: Path, name: str) -> None:
    """Whatever is odd about a file, its sound rows come out and the others are refused where they stand."""
    check(ODDITIES[name](tmp_path))


@pytest.mark.parametrize("name", FAULTS)
def test_faults(tmp_path: Path, name: str) -> None:
    """A file that cannot be read ends in one error of the right kind that names it and says what to do; nothing else is raised."""
    fault = FAULTS[name](tmp_path)
    with pytest.raises(fault.error, match=fault.pattern):
        for batches in read(fault.path, ReaderSettings()):
            for batch in batches:
                text_of(batch.columns, find_text_column(batch.columns.schema.names, fault.text_column))


def _peak(path: Path) -> dict[str, Any]:
    """Read a file in a process of its own: MB at its peak, rows, what it was told."""
    program = tiny.PROJECT / "tests" / "benchmarks" / "memory_of_readers.py"
    child = subprocess.run([sys.executable, program, "--child", path], check=True, capture_output=True, text=True)
    return dict(json.loads(child.stdout))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no peak to ask for")
def test_a_bomb_of_a_gigabyte_needs_little_memory(tmp_path: Path) -> None:
    """It ends in its error under 500 MB, and in seconds."""
    peak = _peak(bomb(tmp_path / "a.csv.gz", lambda data: gzip.compress(data, 9)))
    assert "like a decompression bomb" in peak["told"]
    assert peak["megabytes"] < 500 and peak["cpu_seconds"] < 20


@pytest.mark.skipif(sys.platform == "win32", reason="there is no peak to ask for")
@pytest.mark.parametrize("form", ["csv.gz", "jsonl", "parquet"])
def test_the_peak_is_that_of_a_tenth_of_the_file(tmp_path: Path, form: str) -> None:
    """Ten times the rows, 7 and 70 MB, and next to nothing more is held."""
    rows = [{"id": str(number), "review": f"{number} " + "it was so good " * 60} for number in range(8000)]
    peaks = []
    for times in (1, 10):
        path = tmp_path / f"a{times}"
        content = FORMATS[form.partition(".")[0]](rows * times)
        peaks.append(_peak(write(path, gzip.compress(content, 1) if form.endswith(".gz") else content)))
    assert [peak["rows"] for peak in peaks] == [8000, 80_000]
    assert peaks[1]["megabytes"] < peaks[0]["megabytes"] + 40


def test_crlf_in_quotes_survives_every_offset_of_a_block(tmp_path: Path) -> None:
    """It stands at each offset of the decoder's 8,192-byte blocks, and across the ends of sample, buffer and batch."""
    rows = pairs(*((str(number), f"{number:04}\r\nb,\r\n\r\n{'c' * (number % 7)}") for number in range(8192)))
    content = "id,review\r\n" + "".join(f'{row["id"]:>5},"{row["review"]:<31}"\r\n' for row in rows)
    starts = {offset % 8192 for offset in range(len(content)) if content.startswith("\r\nb", offset)}
    assert len(starts) == 8192
    check(Case(write(tmp_path / "a.csv", content), pairs(*((f"{row['id']:>5}", f"{row['review']:<31}") for row in rows))))
    for boundary in (256 << 10, 1 << 20):
        for offset in range(boundary - 3, boundary + 3):
            head = "id,review\r\n" + "1,it was fine\r\n" * 1000
            text = "x" * (offset - len(head) - len('2,"')) + "\r\n" + "y" * 100
            rows = pairs(*[("1", "it was fine")] * 1000, ("2", text), ("3", "z"))
            settings = {"max_field_bytes": 4 << 20}
            check(Case(write(tmp_path / "b.csv", f'{head}2,"{text}"\r\n3,z\r\n'), rows, settings=settings))
