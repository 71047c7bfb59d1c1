import gzip
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from tasks.errors import CallerError, DataError
from tasks.reviews import compression, records
from tasks.reviews.compression import list_members
from tasks.reviews.readers import ReaderSettings, read_batches, read_text_folder

DETECT = ReaderSettings()
IMDB = Path(__file__).resolve().parents[2] / "../shared/data/imdb.csv.gz"


def test_one_text_a_line(tmp_path: Path) -> None:
    """Every line of a text file is a review, a blank one too, with quotes and commas as they are."""
    path = tmp_path / "feed.txt"
    path.write_bytes(b'"good, he said\r\n\r\nbad\rworse\n\xff\nend')
    (batch,) = read_batches(path, "feed", DETECT)
    assert batch.columns.to_pydict() == {"review": ['"good, he said', "", "bad", "worse", "end"]}
    assert batch.source_row.to_pylist() == [1, 2, 3, 4, 6] and [row.line for row in batch.refused] == [5]


def test_endless_text_lines_are_refused(tmp_path: Path) -> None:
    """A line too long to hold is one record, refused."""
    path = tmp_path / "feed.txt"
    path.write_text("x" * 5000 + "\n" + "y" * 200 + "\nfine\n")
    (batch,) = read_batches(path, "feed", ReaderSettings(max_field_bytes=100))
    assert batch.columns.to_pydict() == {"review": ["fine"]} and [row.row for row in batch.refused] == [1, 2]


def test_a_folder_of_texts_is_one_source(tmp_path: Path) -> None:
    """Each file is a row, in the order of paths, whole and unchanged; what cannot be read is refused by name."""
    for name, content in {
        "pos/b.txt": b"good\r\nfilm\n",
        "pos/a.txt": b" \n",
        "neg/c.txt": b"\xff",
        "d.md": b"no",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "z.txt").write_text("x" * 1000)
    (batch,) = read_text_folder(tmp_path, "folder", ReaderSettings(max_field_bytes=100))
    assert batch.columns.to_pydict() == {"file": ["pos/a.txt", "pos/b.txt"], "review": [" \n", "good\r\nfilm\n"]}
    assert batch.source_row.to_pylist() == [2, 3]
    assert [(row.row, row.reason.split(",")[0].split(";")[0]) for row in batch.refused] == [
        (1, "neg/c.txt: column 'review' holds byte 0xFF"),
        (4, "z.txt has more than 400 bytes"),
    ]
    with pytest.raises(CallerError, match="holds no file"):
        list(read_text_folder(tmp_path / "nothing", "folder", DETECT))


def test_batches_are_bounded_by_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long rows come fewer at a time, and none is lost between."""
    monkeypatch.setattr(records, "BYTES_PER_BATCH", 1000)
    path = tmp_path / "a.csv"
    path.write_text("review\n" + "".join(f"{n:03}{'x' * 300}\n" for n in range(50)))
    batches = list(read_batches(path, "it", DETECT))
    assert [batch.columns.num_rows for batch in batches] == [4] * 12 + [2]
    assert [n for batch in batches for n in batch.source_row.to_pylist()] == list(range(1, 51))


def test_members_of_a_zip_are_read_one_by_one(tmp_path: Path) -> None:
    """An archive of a CSV and gzipped JSON lines is two sources."""
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "id,review\n1,good\n")
        archive.writestr("b.jsonl.gz", gzip.compress(b'{"review": "bad"}\n'))
    columns = [next(read_batches(path, name, DETECT, name)).columns.to_pydict() for name in list_members(path)]
    assert columns == [{"id": ["1"], "review": ["good"]}, {"review": ["bad"]}]


def test_a_cut_file_fails_at_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large file what stands before the damage comes out, then an error that names it; a small one fails at once."""
    path = tmp_path / "a.csv.gz"
    rows = "".join(f"{n},text number {n * 7919}\n" for n in range(60_000))
    path.write_bytes(gzip.compress(f"id,review\n{rows}".encode())[:-500])
    with pytest.raises(DataError, match="truncated"):
        next(read_batches(path, "it", DETECT))
    monkeypatch.setattr(compression, "_AHEAD_BYTES", 1000)
    batches = read_batches(path, "it", DETECT)
    assert next(batches).columns.num_rows == 4096
    with pytest.raises(DataError, match=r"a\.csv\.gz is truncated or damaged"):
        list(batches)


def test_messages_never_hold_a_review(tmp_path: Path) -> None:
    """Reasons and errors name places, not text."""
    secret = "confidential"
    lines = ["review,sentiment", f"{secret}", f'"{secret}" x,1', f"{secret},{secret},{secret}", f'"{secret}']
    path = tmp_path / "a.csv"
    path.write_bytes("\n".join(lines).encode() + b"\xff")
    refused = [row for batch in read_batches(path, "it", DETECT) for row in batch.refused]
    assert len(refused) == 4 and not any(secret in row.reason for row in refused)
    broken = tmp_path / "a.json"
    broken.write_text(f'[{{"review": "{secret}" "{secret}"}}]')
    with pytest.raises(DataError) as error:
        list(read_batches(broken, "it", DETECT))
    assert secret not in str(error.value)


@pytest.mark.skipif(not IMDB.exists(), reason="the IMDB reviews are not part of the project")
def test_reads_the_real_reviews() -> None:
    """All 50,000 reviews come out as Arrow's own parser reads them."""
    from pyarrow import csv

    options = csv.ParseOptions(newlines_in_values=True)
    expected = csv.read_csv(IMDB, parse_options=options)
    read = pa.Table.from_batches([batch.columns for batch in read_batches(IMDB, "imdb", DETECT)])
    assert read.num_rows == 50_000 and read.equals(expected)
