import bz2
import errno
import gzip
import io
import lzma
import os
import zipfile
from pathlib import Path
from unittest.mock import Mock

import psutil
import pyarrow as pa
import pytest

from tasks.errors import CallerError, DataError, MachineError
from tasks.reviews import compression
from tasks.reviews.compression import check_declared_size, is_workbook, list_members, open_decompressed

CONTENT = b"review,sentiment\n" + b"a film like others,positive\n" * 500
COMPRESSORS = {
    "plain": lambda content: content,
    "gz": gzip.compress,
    "zst": lambda content: pa.compress(content, "zstd", asbytes=True),
    "xz": lzma.compress,
    "bz2": bz2.compress,
}


def _read(path: Path, member: str | None = None) -> bytes:
    with open_decompressed(path, member) as stream:
        return stream.read()


def _zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_reads_every_compression_by_content(tmp_path: Path, kind: str) -> None:
    """The first bytes decide, not the name."""
    path = tmp_path / "reviews.dat"
    path.write_bytes(COMPRESSORS[kind](CONTENT))
    assert _read(path) == CONTENT


@pytest.mark.parametrize("kind", ["gz", "zst", "xz", "bz2"])
def test_reads_several_members_as_one(tmp_path: Path, kind: str) -> None:
    """Compressed files that were concatenated are read to the end."""
    path = tmp_path / "reviews"
    path.write_bytes(COMPRESSORS[kind](CONTENT) + COMPRESSORS[kind](b"more\n"))
    assert _read(path) == CONTENT + b"more\n"


@pytest.mark.parametrize("kind", ["gz", "zst", "xz", "bz2"])
def test_a_truncated_file_is_named(tmp_path: Path, kind: str) -> None:
    """A file cut short is an error at its end, never a shorter file."""
    path = tmp_path / "cut.csv"
    path.write_bytes(COMPRESSORS[kind](os.urandom(5000))[:-12])
    with pytest.raises(DataError, match=r"cut\.csv is truncated or damaged"):
        _read(path)


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
def test_a_flipped_byte_is_noticed(tmp_path: Path, kind: str) -> None:
    """Checksums of the compressed formats are checked."""
    content = bytearray(COMPRESSORS[kind](os.urandom(5000)))
    content[len(content) // 2] ^= 1
    path = tmp_path / "flipped"
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        _read(path)


def test_layers_are_unwrapped_up_to_three(tmp_path: Path) -> None:
    """A gzip inside a zip, or twice gzipped, is read; a fourth layer is refused."""
    path = _zipped(tmp_path / "a.zip", {"inner": gzip.compress(lzma.compress(CONTENT))})
    assert _read(path) == CONTENT
    deep = tmp_path / "deep"
    deep.write_bytes(gzip.compress(gzip.compress(gzip.compress(gzip.compress(CONTENT)))))
    with pytest.raises(DataError, match="more than 3 times"):
        _read(deep)


def test_members_of_a_zip_are_sources(tmp_path: Path) -> None:
    """Each file of an archive is listed and read by name; folders and what macOS adds are not."""
    path = _zipped(tmp_path / "all.zip", {"a": b"1", "sub/b": b"2", "__MACOSX/._a": b"3", "sub/": b""})
    assert list_members(path) == ("a", "sub/b")
    assert _read(path, "sub/b") == b"2"
    with pytest.raises(CallerError, match="holds 2 files; name one of them: a, sub/b"):
        _read(path)
    with pytest.raises(CallerError, match="holds no file 'c'"):
        _read(path, "c")


def test_a_zip_of_one_file_is_that_file(tmp_path: Path) -> None:
    """With a single member no name is needed; any other file has no members."""
    assert _read(_zipped(tmp_path / "one.zip", {"only": CONTENT})) == CONTENT
    plain = tmp_path / "plain"
    plain.write_bytes(CONTENT)
    assert list_members(plain) == ()
    with pytest.raises(CallerError, match="not a zip archive"):
        open_decompressed(plain, "a")


def test_broken_archives_say_so(tmp_path: Path) -> None:
    """A cut zip, an empty one, a zip in a zip and an encrypted member are errors with a remedy."""
    cut = tmp_path / "cut.zip"
    cut.write_bytes(_zipped(tmp_path / "whole.zip", {"a": CONTENT}).read_bytes()[:-30])
    with pytest.raises(DataError, match="damaged zip"):
        _read(cut)
    with pytest.raises(DataError, match="empty zip"):
        _read(_zipped(tmp_path / "empty.zip", {}))
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(DataError, match="zip archive inside"):
        _read(_zipped(tmp_path / "nested.zip", {"inner": inner.getvalue()}))
    locked = bytearray((tmp_path / "whole.zip").read_bytes())
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(DataError, match="encrypted"):
        _read(tmp_path / "locked.zip")


def test_a_missing_file_is_the_callers_mistake(tmp_path: Path) -> None:
    """No file, or a folder, is told apart from damage."""
    with pytest.raises(CallerError, match="not there"):
        open_decompressed(tmp_path / "none.csv")
    with pytest.raises(CallerError, match="a folder"):
        open_decompressed(tmp_path)


def test_a_file_that_may_not_be_read_is_the_callers_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told apart from a disk that fails, so that it stops no other file."""
    path = tmp_path / "a.csv"
    path.touch()
    for error, kind, words in (
        (PermissionError(errno.EACCES, "Permission denied"), CallerError, "may not be read by this user. Allow it"),
        (OSError(errno.EIO, "Input/output error"), MachineError, "cannot be opened: Input/output error"),
    ):
        monkeypatch.setattr("tasks.reviews.compression._WatchedFile", Mock(side_effect=error))
        with pytest.raises(kind, match=words):
            open_decompressed(path)


def test_a_bomb_is_stopped_in_flat_memory(tmp_path: Path) -> None:
    """A gigabyte of zeros in a megabyte ends in a clear error without being held."""
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(1 << 20), 9) * 1024)
    before = psutil.Process().memory_info().rss
    with pytest.raises(DataError, match=r"bomb\.gz unpacks to more than 200 times"), open_decompressed(path) as stream:
        while stream.read(1 << 20):
            pass
    assert psutil.Process().memory_info().rss - before < 64 << 20


def test_honest_repetition_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the absolute limit any ratio passes; above it, only up to the ratio."""
    path = tmp_path / "same.gz"
    path.write_bytes(gzip.compress(CONTENT * 100))
    assert len(_read(path)) == 100 * len(CONTENT)
    monkeypatch.setattr(compression, "MAX_UNCHECKED_BYTES", 1000)
    monkeypatch.setattr(compression, "MAX_RATIO", 100 * len(CONTENT) // path.stat().st_size + 1)
    assert len(_read(path)) == 100 * len(CONTENT)
    monkeypatch.setattr(compression, "MAX_RATIO", compression.MAX_RATIO - 2)
    with pytest.raises(DataError, match="bomb"):
        _read(path)


def test_a_workbook_is_one_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An .xlsx is a zip, but has no members to read; its declared sizes are checked."""
    path = _zipped(tmp_path / "book", {"xl/workbook_xml": b""})
    assert not is_workbook(path)
    book = tmp_path / "book.xlsx"
    with zipfile.ZipFile(book, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", bytes(1 << 20))
    assert is_workbook(book) and list_members(book) == ()
    check_declared_size(book, "it")
    monkeypatch.setattr(compression, "MAX_UNCHECKED_BYTES", 1000)
    with pytest.raises(DataError, match="bomb"):
        check_declared_size(book, "it")


def test_closing_the_stream_closes_the_file(tmp_path: Path) -> None:
    """No descriptor is left open, through every layer."""
    path = _zipped(tmp_path / "a.zip", {"inner": gzip.compress(CONTENT)})
    process = psutil.Process()
    before = process.num_fds()
    for _ in range(5):
        with open_decompressed(path) as stream:
            stream.read(10)
    assert process.num_fds() == before
