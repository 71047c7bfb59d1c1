import gzip
import hashlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.errors import CallerError
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
        with pytest.raises(
            CallerError, match=rf"There is no such file, folder or match: .*{name[-4:]}'\. Expected sample, imdb, or the path"
        ):
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
