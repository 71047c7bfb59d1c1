"""Results as people get them: parts of Parquet, CSV that spreadsheets do not run, JSON lines."""

import csv
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from tasks import results
from tasks.errors import CallerError
from tasks.results import ResultFormat, check_replaceable, guard_formulas, write_result

TEXTS = ["plain", "", None, 'a "b", c', "x\r\ny", "lone \r", "lone \n", "  spaces  ", "NA", "007", "ünï 日本 \u2028 end", "\x00", ","]


def write(output: Path, format: ResultFormat, *batches: pa.RecordBatch, size: int = 10) -> list[str]:
    """Write and publish batches, each a group of its own; returns the paths of the files."""
    draft = write_result(output, "test", format, ((size, iter([batch])) for batch in batches))
    draft.publish(b"{}")
    return [file.path for file in draft.files]


def test_csv_reads_back(tmp_path: Path) -> None:
    """Python's parser gives back every text whatever stands in it, and Arrow's tells null from empty."""
    batch = pa.record_batch({"id": list(range(len(TEXTS))), "text": TEXTS, "more": ["x"] * len(TEXTS)})
    write(tmp_path / "out.csv", "csv", batch.slice(0, 5), batch.slice(5))

    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    options = pyarrow.csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""])
    again = pyarrow.csv.read_csv(
        tmp_path / "out.csv", parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True), convert_options=options
    )

    assert header == ["id", "text", "more"]
    assert [row[1] for row in rows] == [text or "" for text in TEXTS]
    assert again["text"].to_pylist() == TEXTS


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠", "'=", "''="])
def test_formulas_are_guarded(start: str) -> None:
    """Text that a spreadsheet may run gets an apostrophe before it, and taking one away gives the text back."""
    (guarded,) = guard_formulas(pa.array([f"{start}cmd|' /C calc'!A0"])).to_pylist()

    assert guarded == f"'{start}cmd|' /C calc'!A0"


def test_what_is_no_formula_stays() -> None:
    """Numbers with a sign, words, quotes, null and empty text are left as they are."""
    texts = ["-5", "+3.14", "-1,234.5", "-2e-7", "+12%", "'tis", "'", "", None, "a=b", " =1"]

    assert guard_formulas(pa.array(texts)).to_pylist() == texts
    assert guard_formulas(pa.array(["-5+cmd", "-", "+4 stars"])).to_pylist() == ["'-5+cmd", "'-", "'+4 stars"]


def test_header_is_guarded(tmp_path: Path) -> None:
    """A column's name is guarded like a value."""
    write(tmp_path / "out.csv", "csv", pa.record_batch({"=1+1": ["=2+2"], "n": [-1]}))

    assert (tmp_path / "out.csv").read_text(encoding="utf-8") == '"\'=1+1","n"\n"\'=2+2",-1\n'


def rich() -> pa.RecordBatch:
    """Return a batch of many types."""
    return pa.record_batch(
        {
            "text": pa.array(["a\u2028b", None]),
            "score": pa.array([0.1, None], pa.float32()),
            "big": pa.array([2**53 + 1, -1]),
            "real": pa.array([float("nan"), 1 / 3]),
            "yes": pa.array([True, None]),
            "when": pa.array([datetime(2026, 1, 2, 3, 4, 5, 6, UTC), None], pa.timestamp("us", "UTC")),
            "day": pa.array([date(2026, 1, 2), None]),
            "price": pa.array([Decimal("1.10"), None]),
            "tags": pa.array([["=a", None], []], pa.list_(pa.string())),
            "raw": pa.array([b"\xff", b""]),
            "nothing": pa.nulls(2),
        }
    )


def test_json_lines_keep_types(tmp_path: Path) -> None:
    """Numbers stay numbers (float32 as short as it is), null is null, times are ISO 8601, lists lists; a line is a row to any reader."""
    write(tmp_path / "out.jsonl", "jsonl", rich())

    text = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    first, second = (json.loads(line) for line in text.splitlines())
    assert first == {
        "text": "a\u2028b", "score": 0.1, "big": 2**53 + 1, "real": None, "yes": True, "when": "2026-01-02T03:04:05.000006+00:00",
        "day": "2026-01-02", "price": "1.10", "tags": ["=a", None], "raw": "/w==", "nothing": None,
    }  # fmt: skip
    assert (second["real"], second["big"], second["tags"], second["raw"]) == (1 / 3, -1, [], "")


def test_csv_takes_any_type(tmp_path: Path) -> None:
    """Lists are JSON text, times ISO 8601, and every row has every field."""
    write(tmp_path / "out.csv", "csv", rich())

    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["tags"] == '["=a", null]'
    assert first["when"].startswith("2026-01-02 03:04:05.000006")
    assert (first["score"], first["price"], first["yes"], second["score"]) == ("0.1", "1.10", "true", "")


def test_parquet_parts_have_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part takes groups until it holds enough bytes; together the parts are the rows in their order, to any reader of a folder."""
    monkeypatch.setattr(results, "PART_BYTES", 25)
    groups = [pa.record_batch({"n": [2 * number, 2 * number + 1]}) for number in range(7)]

    paths = write(tmp_path / "out.parquet", "parquet", *groups)

    assert paths == [f"out.parquet/part-0000{number}.parquet" for number in range(3)]
    assert [pq.read_metadata(tmp_path / path).num_rows for path in paths] == [6, 6, 2]
    assert pq.read_table(tmp_path / "out.parquet")["n"].to_pylist() == list(range(14))
    assert {path.name for path in (tmp_path / "out.parquet").iterdir()} >= {"_manifest.json", "_SUCCESS"}


@pytest.mark.parametrize("format", ["parquet", "csv", "jsonl"])
def test_result_replaces_the_one_before(tmp_path: Path, format: ResultFormat) -> None:
    """A new result takes the place of an earlier one, and of nothing that is in its way; no draft is left."""
    output = tmp_path / f"out.{format}"
    for value in (1, 2):
        write(output, format, pa.record_batch({"n": [value]}))

    assert [path.name for path in tmp_path.iterdir()] == [output.name]
    if format == "parquet":
        assert pq.read_table(output)["n"].to_pylist() == [2]


def test_failed_writing_leaves_the_earlier_result(tmp_path: Path) -> None:
    """When rows fail to come while a result is written, the earlier result stands and no draft is left."""
    output = tmp_path / "out.parquet"
    write(output, "parquet", pa.record_batch({"n": [1]}))

    def broken() -> object:
        yield 10, iter([pa.record_batch({"n": [2]})])
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_result(output, "test", "parquet", broken())

    assert pq.read_table(output)["n"].to_pylist() == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    """A folder that is no result of ours is not replaced; the message names --output."""
    (tmp_path / "out.parquet").mkdir()
    (tmp_path / "out.parquet" / "mine.txt").touch()

    with pytest.raises(CallerError, match="--output"):
        check_replaceable(tmp_path / "out.parquet")
