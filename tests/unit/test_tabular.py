import builtins
import datetime
import gzip
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import CallerError, DataError
from tasks.reviews import compression, records, tabular
from tasks.reviews.readers import ReaderSettings, describe_file, read_batches
from tasks.reviews.sources import FileSource

DETECT = ReaderSettings()


def test_parquet_keeps_types_rows_and_order(tmp_path: Path) -> None:
    """Numbers, lists and dates stay typed; every kind of string becomes `string`; values equal Arrow's own reading."""
    table = pa.table(
        {
            "text": pa.array(["a", None, "c"] * 3000, pa.large_string()),
            "kind": pa.array(["x", "y", None] * 3000, pa.large_string()).dictionary_encode(),
            "stars": pa.array([1, 2, None] * 3000, pa.int8()),
            "tags": pa.array([["a"], [], None] * 3000),
            "day": pa.array([datetime.date(2024, 1, 1)] * 9000),
        }
    )
    path = tmp_path / "reviews.bin"
    pq.write_table(table, path, row_group_size=2500)
    batches = list(read_batches(path, "it", DETECT))
    read = pa.Table.from_batches([batch.columns for batch in batches])
    assert [str(kind) for kind in read.schema.types] == [
        "string",
        "string",
        "int8",
        "list<element: string>",
        "date32[day]",
    ]
    assert read.to_pydict() == table.to_pydict()
    assert [n for batch in batches for n in batch.source_row.to_pylist()] == list(range(1, 9001))
    assert max(batch.columns.num_rows for batch in batches) <= 4096
    assert str(describe_file(path, DETECT)) == "parquet, columns text, kind, stars, tags, day"


@pytest.mark.parametrize("group_rows", [1, 7, 100])
def test_stretches_of_parquet_are_all_of_it(tmp_path: Path, group_rows: int) -> None:
    """Read apart, whatever the row groups, they give every row once with the number it has in the file."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"text {n}" for n in range(100)]}), path, row_group_size=group_rows)
    shards = FileSource(path, "it").shards(DETECT, 30)
    assert [shard.stretch for shard in shards] == [(0, 30), (30, 60), (60, 90), (90, 100)]
    rows = [
        row
        for shard in shards
        for batch in shard.read(DETECT)
        for row in zip(batch.source_row.to_pylist(), batch.columns["text"].to_pylist(), strict=True)
    ]
    assert rows == [(n + 1, f"text {n}") for n in range(100)]
    assert FileSource(path, "it").shards(DETECT, 100) == (FileSource(path, "it"),)
    (tmp_path / "a.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert len(FileSource(tmp_path / "a.gz", "it").shards(DETECT, 30)) == 1


def test_parquet_of_no_rows_has_its_columns(tmp_path: Path) -> None:
    """An empty table is one batch of no rows."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    (batch,) = read_batches(path, "it", DETECT)
    assert batch.columns.schema.names == ["text"] and batch.columns.num_rows == len(batch.source_row) == 0


def test_parquet_rows_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """Invalid UTF-8 behind a string type, and a value over the limit, cost their rows."""
    text = pa.array([b"good", b"caf\xe9", b"x" * 200, None]).view(pa.string())
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": text, "n": [1, 2, 3, 4]}), path)
    (batch,) = read_batches(path, "it", ReaderSettings(max_field_bytes=100))
    assert batch.columns.to_pydict() == {"text": ["good", None], "n": [1, 4]}
    assert batch.source_row.to_pylist() == [1, 4]
    assert [(row.row, row.line, row.reason) for row in batch.refused] == [
        (2, None, "column 'text' cannot be decoded: its bytes are not utf-8; write it as UTF-8"),
        (3, None, "column 'text' holds more than 100 bytes; shorten it"),
    ]


def test_parquet_text_that_was_written_as_bytes_is_text(tmp_path: Path) -> None:
    """Programs that know no strings write bytes: under a name for texts they are read as such, row by row; others stay bytes."""
    path = tmp_path / "a.parquet"
    for kind in (pa.binary(), pa.large_binary()):
        pq.write_table(
            pa.table({"Review": pa.array([b"caf\xc3\xa9", b"caf\xe9", None], kind), "hash": pa.array([b"\xff"] * 3, kind)}), path
        )
        (batch,) = read_batches(path, "it", DETECT)
        assert batch.columns.to_pydict() == {"Review": ["café", None], "hash": [b"\xff", b"\xff"]}
        assert batch.columns.schema.field("Review").type == pa.string() and [row.row for row in batch.refused] == [2]


def test_parquet_batches_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long reviews come fewer at a time."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"{n:05}" * 200 for n in range(500)]}), path, use_dictionary=False)
    monkeypatch.setattr(tabular, "BYTES_PER_BATCH", 50_000)
    sizes = [batch.columns.num_rows for batch in read_batches(path, "it", DETECT)]
    assert sum(sizes) == 500 and max(sizes) <= 50


def test_repeated_parquet_names_are_told_apart(tmp_path: Path) -> None:
    """Two columns of one name are both kept."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)
    (batch,) = read_batches(path, "it", DETECT)
    assert batch.columns.to_pydict() == {"text": ["a"], "text_2": ["b"]}


def test_damaged_parquet_is_named(tmp_path: Path) -> None:
    """A cut file, and a page whose checksum is wrong, are errors."""
    path = tmp_path / "a.parquet"
    table = pa.table({"text": [f"text {n}" for n in range(1000)]})
    pq.write_table(table, path, write_page_checksum=True, compression="none")
    content = bytearray(path.read_bytes())
    path.write_bytes(content[:-100])
    with pytest.raises(DataError, match=r"a\.parquet is a damaged Parquet file"):
        list(read_batches(path, "it", DETECT))
    content[content.index(b"text 500")] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        list(read_batches(path, "it", DETECT))


def test_parquet_and_workbooks_are_read_inside_other_files(tmp_path: Path) -> None:
    """What cannot be streamed is unpacked to a temporary file, which is gone afterwards."""
    pq.write_table(pa.table({"text": ["a"], "n": [7]}), tmp_path / "a.parquet")
    _workbook(tmp_path / "b.xlsx", {"first": [["text"], ["b"]]})
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        for name in ("a.parquet", "b.xlsx"):
            archive.write(tmp_path / name, name)
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
    before = set(Path(tempfile.gettempdir()).glob("sentiment-*"))
    for path, member in (("a.parquet.gz", None), ("both.zip", "a.parquet")):
        (batch,) = read_batches(tmp_path / path, "it", DETECT, member)
        assert batch.columns.to_pydict() == {"text": ["a"], "n": [7]}
    for path, member in (("b.xlsx.gz", None), ("both.zip", "b.xlsx")):
        (batch,) = read_batches(tmp_path / path, "it", DETECT, member)
        assert batch.columns.to_pydict() == {"text": ["b"]}
    assert set(Path(tempfile.gettempdir()).glob("sentiment-*")) == before
    assert str(describe_file(tmp_path / "both.zip", DETECT, "a.parquet")) == "parquet, zip, columns text, n"


def test_a_dictionary_that_many_rows_repeat_is_decoded_a_few_rows_at_a_time(tmp_path: Path) -> None:
    """44 kB can hold a million reviews of 900 kB: they come out, none is lost, and the memory stays small."""
    path = tmp_path / "a.parquet"
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(1_000_000, np.int32)), pa.array(["x" * 900_000]))
    pq.write_table(pa.table({"review": texts, "n": np.arange(1_000_000)}), path, store_schema=False)
    before = psutil.Process().memory_info().rss
    batches = read_batches(path, "it", DETECT)
    sizes = [next(batches).columns.num_rows for _ in range(5)]
    assert max(sizes) <= 37 and psutil.Process().memory_info().rss - before < 300 << 20


def test_parquet_that_unpacks_to_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that claim far more than the file holds are not unpacked."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"review": ["x" * 10_000_000]}), path, compression="zstd", use_dictionary=False)
    monkeypatch.setattr(compression, "MAX_UNCHECKED_BYTES", 1_000_000)
    with pytest.raises(DataError, match=r"a\.parquet unpacks to more than 200 times"):
        list(read_batches(path, "it", DETECT))


def test_page_sizes_are_read_from_their_headers() -> None:
    """The size that a page states is the one that Arrow wrote."""
    assert tabular._page_size(bytes.fromhex("150415b09ca701159ec834")) == 1_369_880
    assert tabular._page_size(bytes.fromhex("1504152215344c15")) == 17
    assert tabular._page_size(b"") == 0


def _workbook(path: Path, sheets: Mapping[str, list[list[object]]]) -> Path:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def _rewritten(path: Path, target: Path, old: bytes, new: bytes) -> Path:
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w") as archive:
        for info in source.infolist():
            archive.writestr(info.filename, source.read(info).replace(old, new))
    return target


def test_cells_are_text(tmp_path: Path) -> None:
    """Numbers, dates and bools of a worksheet become text as people see it; an empty cell is null."""
    rows: list[list[object]] = [
        ["id", "review", "stars", "day", "ok"],
        ["007", "good, really", 4, datetime.datetime(2024, 1, 5, 12), True],
        [],
        [8.5, None, 4.0, datetime.date(2024, 1, 5), None],
        ["9", "a", 1, None, None, "too many"],
    ]
    path = _workbook(tmp_path / "book.xlsx", {"first": rows, "second": [["text"], ["b"]]})
    path = _rewritten(path, tmp_path / "book.bin", b"<v>4</v>", b"<v>4.0</v>")
    (batch,) = read_batches(path, "it", DETECT)
    assert batch.columns.to_pylist() == [
        {"id": "007", "review": "good, really", "stars": "4", "day": "2024-01-05T12:00:00", "ok": "true"},
        {"id": "8.5", "review": None, "stars": "4", "day": "2024-01-05T00:00:00", "ok": None},
    ]
    assert [(row.row, row.line, row.reason) for row in batch.refused] == [
        (3, 5, "6 or more cells where 5 are expected; name their columns in the first row")
    ]
    assert str(describe_file(path, DETECT)) == "excel, header, columns id, review, stars, day, ok"


def test_escaped_characters_of_a_worksheet_are_themselves(tmp_path: Path) -> None:
    """Excel writes a carriage return as _x000D_, and an underscore that would look like that as _x005F_."""
    path = _workbook(tmp_path / "book.xlsx", {"first": [["id", "review"], ["a_xb", "one_x000D_\ntwo, not _x005F_x000D_"]]})
    (batch,) = read_batches(path, "it", DETECT)
    assert batch.columns.to_pydict() == {"id": ["a_xb"], "review": ["one\r\ntwo, not _x000D_"]}


def test_worksheets_are_named(tmp_path: Path) -> None:
    """Another worksheet is read by name; a wrong name lists what there is."""
    path = _workbook(tmp_path / "book.xlsx", {"first": [["a"]], "second": [["text"], ["b"]], "none": []})
    (batch,) = read_batches(path, "it", ReaderSettings(sheet="second"))
    assert batch.columns.to_pydict() == {"text": ["b"]}
    with pytest.raises(CallerError, match=r"no worksheet 'third'\. It has: first, second, none"):
        describe_file(path, ReaderSettings(sheet="third"))
    with pytest.raises(DataError, match="empty"):
        describe_file(path, ReaderSettings(sheet="none"))


def test_excel_without_its_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing openpyxl is the caller's to install."""
    path = _workbook(tmp_path / "book.xlsx", {"first": [["text"], ["b"]]})
    real = builtins.__import__

    def without(name: str, *rest: object, **more: object) -> object:
        if name.startswith("openpyxl"):
            raise ImportError(name)
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CallerError, match="extra `excel`"):
        list(read_batches(path, "it", DETECT))


def test_a_damaged_workbook_is_named(tmp_path: Path) -> None:
    """A worksheet that is no XML is an error, not a shorter sheet."""
    path = _workbook(tmp_path / "book.xlsx", {"first": [["text"], ["b"]]})
    broken = _rewritten(path, tmp_path / "broken.xlsx", b"</sheetData>", b"</row>")
    with pytest.raises(DataError, match="damaged Excel workbook"):
        list(read_batches(broken, "it", DETECT))


def test_names_are_made_unique_without_clashes() -> None:
    """A made-up name never takes that of another column."""
    assert records.unique_names(["a", "a", "a_2", "", "a"]) == ("a", "a_3", "a_2", "column_4", "a_4")
