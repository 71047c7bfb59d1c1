import gzip
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.errors import CallerError, DataError
from tasks.reviews import imdb, sources
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.sample import SampleSettings
from tasks.reviews.sources import FileSource, ImdbSource, SampleSource, find_files, resolve_sources

SAMPLE = SampleSettings(rows=10)
CONTENT = b"review,sentiment\nGood.,pos\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as people have them: files of reviews in subfolders, beside others that are none."""
    folder = tmp_path / "exports"
    for name in ("b.csv", "a/z.csv", "a/deep/y.csv", ".hidden.csv", ".ipynb_checkpoints/b-checkpoint.csv", "README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(CONTENT)
    (folder / "b.csv.quarantine.jsonl").write_bytes(b"{}")
    (folder / "c.csv.gz").write_bytes(gzip.compress(CONTENT))
    return folder


def _names(found: list[FileSource]) -> list[str]:
    return [source.name for source in found]


def test_a_folder_is_searched_through(folder: Path) -> None:
    """Its files in the order of their paths, named by them; hidden files and folders, read-me's and quarantines are left out."""
    assert _names(find_files(str(folder))) == ["a/deep/y.csv", "a/z.csv", "b.csv", "c.csv.gz"]
    assert [source.path for source in find_files(str(folder))][2] == folder / "b.csv"


def test_a_file_goes_by_its_name(folder: Path) -> None:
    """Wherever it lies, and whatever it is called: named by the caller, a hidden file is read."""
    assert find_files(str(folder / "a" / "z.csv")) == [FileSource(folder / "a/z.csv", "z.csv")]
    assert _names(find_files(str(folder / ".hidden.csv"))) == [".hidden.csv"]
    odd = folder / "odd[1]*.csv"
    odd.write_bytes(CONTENT)
    assert _names(find_files(str(odd))) == ["odd[1]*.csv"]


def test_a_glob_names_files_by_what_it_left_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the first part with a wildcard on, so that equal names in different folders stay apart."""
    assert _names(find_files(str(folder / "*.csv"))) == ["b.csv"]
    assert _names(find_files(str(folder / "*" / "*.csv"))) == ["a/z.csv"]
    assert _names(find_files(str(folder / "**" / "*.csv"))) == ["a/deep/y.csv", "a/z.csv", "b.csv"]
    monkeypatch.chdir(folder)
    assert _names(find_files("?/z.csv")) == ["a/z.csv"]


def test_every_file_of_an_archive_is_a_source(folder: Path) -> None:
    """A zip of several files is read file by file, named after archive and file; of one file it is that file."""
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        archive.writestr("one.csv", CONTENT)
        archive.writestr("more/two.csv", CONTENT.replace(b"Good", b"Bad"))
    found = find_files(str(folder / "all.zip"))
    assert _names(found) == ["all.zip/one.csv", "all.zip/more/two.csv"]
    texts = [batch.columns["review"].to_pylist() for source in found for batch in source.read(ReaderSettings())]
    assert texts == [["Good."], ["Bad."]]
    with zipfile.ZipFile(folder / "single.zip", "w") as archive:
        archive.writestr("one.csv", CONTENT)
    assert _names(find_files(str(folder / "single.zip"))) == ["single.zip"]


def test_what_is_not_there_is_the_callers_mistake(folder: Path) -> None:
    """Neither a file that is missing nor a glob without matches nor an empty folder passes in silence."""
    (folder / "none").mkdir()
    (folder / "none" / ".hidden.csv").write_bytes(CONTENT)
    for name in ("missing.csv", "*.tsv"):
        with pytest.raises(CallerError, match=rf"There is no such file, folder or match: .*{name[-4:]}'\. Give the path of reviews"):
            find_files(str(folder / name))
    with pytest.raises(CallerError, match="The folder holds no files"):
        find_files(str(folder / "none"))


def test_sources_come_in_the_order_given(folder: Path, tmp_path: Path) -> None:
    """The sample, files and folders may be mixed; the sample is generated, and a file of that name needs a path."""
    found = resolve_sources([str(folder / "b.csv"), "sample", str(folder / "a")], tmp_path, SAMPLE)
    assert [source.name for source in found] == ["b.csv", "sample", "deep/y.csv", "z.csv"]
    assert found[1] == SampleSource(SAMPLE)
    assert sum(batch.columns.num_rows for batch in found[1].read(ReaderSettings())) == 10


def test_digests_are_of_what_is_read(folder: Path) -> None:
    """Of a file its bytes, wherever it lies; of the sample all its settings."""
    first, second = find_files(str(folder / "b.csv"))[0], find_files(str(folder / "a" / "z.csv"))[0]
    assert first.digest() == second.digest() == hashlib.sha256(CONTENT).hexdigest()
    assert ImdbSource(folder).digest() == imdb.SHA256
    other = [SampleSettings(rows=11), SampleSettings(rows=10, seed=1), SampleSettings(rows=10, label_noise=0.5)]
    assert len({SampleSource(settings).digest() for settings in [SAMPLE, *other]}) == 4


def test_sources_say_what_they_are(folder: Path) -> None:
    """In one line: format and columns of a file, rows and seed of the sample."""
    described = find_files(str(folder / "c.csv.gz"))[0].describe(ReaderSettings())
    assert "csv" in described and "gz" in described and "columns review, sentiment" in described
    assert SampleSource(SampleSettings(rows=12_000, seed=3)).describe(ReaderSettings()) == "12,000 generated reviews, seed 3"


def test_a_folder_of_short_texts_is_one_source(tmp_path: Path) -> None:
    """Where there is nothing but .txt files of a few lines, each is a review; said so, and overruled by the format."""
    for name in ("pos/1", "pos/2", "neg/1"):
        (tmp_path / "reviews" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "reviews" / f"{name}.txt").write_text(f"Film {name}.\nSecond line.")
    (source,) = find_files(str(tmp_path / "reviews"))
    assert (source.name, source.describe(ReaderSettings())) == ("reviews", "texts, columns file, review, text in 'review'")
    (batch,) = source.read(ReaderSettings())
    assert batch.columns["file"].to_pylist() == ["neg/1.txt", "pos/1.txt", "pos/2.txt"]
    assert batch.columns["review"][0].as_py() == "Film neg/1.\nSecond line."

    lines = find_files(str(tmp_path / "reviews"), reader=ReaderSettings(format="text"))
    assert _names(lines) == ["neg/1.txt", "pos/1.txt", "pos/2.txt"]
    assert _names(find_files(str(tmp_path / "reviews" / "pos" / "*.txt"))) == ["1.txt", "2.txt"]


def test_a_folder_of_tables_called_txt_is_none_of_texts(tmp_path: Path) -> None:
    """What the files hold decides: tables and JSON are sources of their own whatever they are called."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("".join(f"sentence {n}\t{n % 2}\n" for n in range(5)))
    assert _names(find_files(str(tmp_path))) == ["a.txt", "b.txt"]


def test_texts_of_many_lines_are_asked_about(tmp_path: Path) -> None:
    """Where a file may be one review or a review a line, nothing is guessed: the message names both options, and each works."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("".join(f"Sentence {n}.\n" for n in range(20)))
    with pytest.raises(CallerError, match=r"2 \.txt files of many lines.*--input-format texts or --input-format text\."):
        find_files(str(tmp_path))
    rows = {
        form: sum(
            batch.columns.num_rows
            for source in find_files(str(tmp_path), reader=ReaderSettings(format=form))
            for batch in source.read(ReaderSettings(format=form))
        )
        for form in ("text", "texts")
    }
    assert rows == {"text": 40, "texts": 2}


def test_a_file_that_cannot_be_looked_into_stops_no_other(folder: Path) -> None:
    """A cut archive, one of two files of one name, and a link to nothing are sources that fail when they are read."""
    (folder / "cut.zip").write_bytes(b"PK\x03\x04 and no more")
    (folder / "gone.csv").symlink_to(folder / "nowhere.csv")
    with zipfile.ZipFile(folder / "twice.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("one.csv", CONTENT)
        archive.writestr("one.csv", CONTENT)
    found = {source.name: source for source in find_files(str(folder))}
    assert set(found) == {"a/deep/y.csv", "a/z.csv", "b.csv", "c.csv.gz", "cut.zip", "gone.csv", "twice.zip"}
    for name, error, words in (
        ("cut.zip", DataError, "damaged zip archive"),
        ("twice.zip", DataError, "1 names twice, the first 'one.csv'"),
        ("gone.csv", CallerError, "is not there"),
    ):
        with pytest.raises(error, match=words):
            list(found[name].read(ReaderSettings()))


def _overwrite(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"Good", b"Evil"))


def _replace_by_its_like(path: Path) -> None:
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


@pytest.mark.parametrize("change", [_overwrite, _replace_by_its_like, Path.unlink, lambda path: path.open("ab").write(b"x")])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_source_that_changes_while_it_is_read_is_noticed(tmp_path: Path, change: Callable[[Path], None], kind: str) -> None:
    """Written over, appended to, removed, or replaced by a copy of itself: its stamp is another one."""
    paths = [tmp_path / "in" / "a.txt", tmp_path / "in" / "b.txt"]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_text("Good.")
    source = FileSource(paths[0], "it") if kind == "file" else FileSource(tmp_path / "in", "it")
    stamp, digest = source.stamp(), source.digest()
    assert (source.stamp(), source.digest()) == (stamp, digest)

    change(paths[0])

    assert source.stamp() != stamp


def test_content_that_changes_unseen_by_the_clock_is_noticed(tmp_path: Path) -> None:
    """Where size and time are put back, the digest tells."""
    path = tmp_path / "a.csv"
    path.write_bytes(CONTENT)
    source = FileSource(path, "it")
    stamp, digest, stat = source.stamp(), source.digest(), path.stat()
    with path.open("r+b") as file:
        file.write(b"REVIEW")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert source.stamp() == stamp and source.digest() != digest


def test_a_member_has_a_digest_of_its_own(folder: Path) -> None:
    """Of a zip archive each file counts by its own content, so that one that was scored stays scored when others come."""
    digests = []
    for name, more in (("one.zip", {}), ("two.zip", {"new.csv": b"review\nNew.\n"})):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for member, content in ({"a.csv": CONTENT, "b.csv": CONTENT + b"x,pos\n"} | more).items():
                archive.writestr(member, content)
        digests.append([source.digest() for source in find_files(str(folder / name))])
    assert digests[0] == digests[1][:2] and len(set(digests[1])) == 3
    assert digests[0][0] == hashlib.sha256(CONTENT).hexdigest()


def test_the_archive_is_fetched_into_its_folder_with_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`imdb` downloads to the folder for downloads, and the bar moves by what has come since, also after a resumed start."""
    steps: list[int] = []

    def download(folder: Path, progress: Callable[[int, int], None]) -> Path:
        for done in (40, 60, 100):
            progress(done, 100)
        return folder / "aclImdb_v1.tar.gz"

    @contextmanager
    def bar(label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        assert total == 84_125_825 and unit == "bytes" and "aclImdb_v1.tar.gz" in label
        yield steps.append

    monkeypatch.setattr(imdb, "download_archive", download)
    monkeypatch.setattr(sources, "row_progress", bar)
    monkeypatch.setattr(imdb, "read_archive", lambda path: iter([path]))
    source = resolve_sources(["imdb"], tmp_path, SAMPLE)[0]
    assert source == ImdbSource(tmp_path) and steps == []
    assert list(source.read(ReaderSettings())) == [tmp_path / "aclImdb_v1.tar.gz"]
    assert steps == [40, 20, 40]
