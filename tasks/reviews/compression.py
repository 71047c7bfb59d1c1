"""A file's bytes, decompressed as a stream: recognised by its first bytes, bounded, never unpacked to disk."""

import bz2
import errno
import gzip
import io
import lzma
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from tasks.errors import CallerError, DataError, MachineError, PipelineError
from tasks.reviews.folders import is_skipped

# DEFLATE reaches 1032:1, bz2, xz and zst far more; people's text reaches 3:1 to 20:1. Ten times that is allowed,
# and below 256 MiB anything is, for small files that repeat one row.
MAX_RATIO = 200
MAX_UNCHECKED_BYTES = 256 << 20

# A smaller file is decompressed once ahead, so that a bomb of short rows is found in seconds, before they are parsed.
# A larger one can only be a bomb beyond a gigabyte, and is stopped on the way.
_AHEAD_BYTES = 5 << 20
_BUFFER_BYTES = 1 << 20
_MAX_LAYERS = 3
_DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, pa.ArrowInvalid)


def open_decompressed(path: Path, member: str | None = None) -> io.BufferedReader:
    """Open a file for reading its plain bytes, whatever it is compressed with (up to three layers deep).

    Args:
        path: A plain, gz (also of several members), zst, xz, bz2 or zip file.
        member: Which file of a zip archive to read; may be left out if it holds only one.

    Returns:
        A buffered stream. Memory stays flat; closing it closes the file.

    Raises:
        CallerError: There is no such file or member, or the archive holds several and none is named.
        DataError: Here or while reading: truncated, damaged, encrypted, or more than `MAX_RATIO` times its
            compressed size once past `MAX_UNCHECKED_BYTES`.
        MachineError: The disk fails or refuses.
    """
    stream, inside = _innermost(path, member)
    if inside == "zip":
        stream.close()
        raise DataError(f"{place(path, member)} holds a zip archive inside. Unpack it and name the inner file.")
    return stream


@contextmanager
def unpacked(path: Path, member: str | None = None) -> Iterator[Path]:
    """Give a place where the plain file can be read from anywhere: the file itself, or a temporary copy of what is compressed.

    Raises:
        CallerError, DataError, MachineError: As `open_decompressed`.
    """
    if member is None and (compression_of_file(path) is None or _is_workbook(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="sentiment-") as folder:
        copy = Path(folder) / "unpacked"
        with _innermost(path, member)[0] as stream, copy.open("wb") as file:
            shutil.copyfileobj(stream, file, _BUFFER_BYTES)
        yield copy


def _innermost(path: Path, member: str | None) -> tuple[io.BufferedReader, str | None]:
    """Open the plain bytes, or those of a zip within other layers; say which of both."""
    where = place(path, member)
    if is_archive(path):
        stream, compressed_bytes = open_member(path, member)
    elif member is None:
        stream = _buffered(open_file(path), None, None, where)
        compressed_bytes = path.stat().st_size
    else:
        raise CallerError(f"{path} is not a zip archive, so it has no member {member!r}.")
    for _ in range(_MAX_LAYERS):
        kind = compression_of(stream.peek(16)[:16])
        if kind in (None, "zip"):
            return stream, kind
        stream = _buffered(_decompressor(kind, stream), stream, compressed_bytes, where)
    stream.close()
    raise DataError(f"{where} is compressed more than {_MAX_LAYERS} times over. Unpack it first.")


def check_unpacked_size(path: Path, member: str | None = None) -> None:
    """Find a small decompression bomb, or a small damaged file, before any of it is used.

    Raises:
        CallerError, DataError, MachineError: As `open_decompressed`.
    """
    if compression_of_file(path) is not None and path.stat().st_size <= _AHEAD_BYTES:
        with open_decompressed(path, member) as stream:
            while stream.read(_BUFFER_BYTES):
                pass


def list_members(path: Path) -> tuple[str, ...]:
    """Return the files of a zip archive in their order: each is a source of its own. Empty for any other file.

    Folders, and what is left out of a folder too, are left out; an Excel workbook is a zip, but one source.

    Raises:
        DataError: The archive is damaged, or holds two files of one name.
    """
    if not is_archive(path):
        return ()
    with _zip_file(path, str(path)) as archive:
        names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if "[Content_Types].xml" in names or "mimetype" in names:
        raise DataError(f"{path} is an office document, but no .xlsx workbook. Save it as .xlsx or .csv.")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path} holds {len(twice)} names twice, the first {twice[0]!r}, and would hide rows. Pack it again.")
    return tuple(name for name in names if not name.startswith("__MACOSX/") and not is_skipped(Path(name)))


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive of sources, which a workbook is not."""
    return compression_of_file(path) == "zip" and not _is_workbook(path)


def is_workbook(path: Path, member: str | None = None) -> bool:
    """Return whether a file is an Excel workbook (.xlsx), compressed or a member of an archive too; false for a damaged one."""
    if member is None and compression_of_file(path) in (None, "zip") and not is_archive(path):
        return _is_workbook(path)
    stream, inside = _innermost(path, member)
    stream.close()
    if inside != "zip":
        return False
    with unpacked(path, member) as copy:
        return _is_workbook(copy)


def _is_workbook(path: Path) -> bool:
    if compression_of_file(path) != "zip":
        return False
    try:
        with _zip_file(path, str(path)) as archive:
            return "xl/workbook.xml" in archive.namelist()
    except DataError:
        return False


def check_declared_size(path: Path, where: str) -> None:
    """Refuse a zip-based file (a workbook) whose members claim to unpack to a bomb.

    Raises:
        DataError: The same limits as `open_decompressed`.
    """
    with _zip_file(path, where) as archive:
        check_ratio(sum(info.file_size for info in archive.infolist()), path.stat().st_size, where)


def compression_of(head: bytes) -> str | None:
    """Return what a file's first 16 bytes say: gz, zst, xz, bz2, zip, or None for plain."""
    if head.startswith(b"\x1f\x8b"):
        return "gz"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zst"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17rE8P\x90"):
        return "bz2"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    return None


def compression_of_file(path: Path) -> str | None:
    """Return the outermost compression of a file, or None."""
    with open_file(path) as file:
        return compression_of(file.read(16))


def place(path: Path, member: str | None) -> str:
    """Return how messages call a file or a member of an archive."""
    return str(path) if member is None else f"{path}:{member}"


class _Bounded(io.RawIOBase):
    """A raw stream that counts what it gives, stops a bomb, and turns a codec's errors into ours."""

    def __init__(self, inner: IO[bytes], below: IO[bytes] | None, compressed_bytes: int | None, where: str) -> None:
        self._inner = inner
        self._below = below
        self._compressed_bytes = compressed_bytes
        self._where = where
        self._total = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._inner.read(len(buffer))
        except _DAMAGED as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise MachineError(f"Reading {self._where} failed: {error}.") from error
            raise DataError(
                f"{self._where} is truncated or damaged after {self._total:,} plain bytes ({error}). Copy or export it again."
            ) from error
        self._total += len(data)
        if self._compressed_bytes is not None:
            check_ratio(self._total, self._compressed_bytes, self._where)
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self._inner.close()
            if self._below is not None:
                self._below.close()
        super().close()


def check_ratio(plain_bytes: int, compressed_bytes: int, where: str) -> None:
    """Refuse what unpacks to a bomb.

    Raises:
        DataError: It is over both limits.
    """
    if plain_bytes > MAX_UNCHECKED_BYTES and plain_bytes > MAX_RATIO * compressed_bytes:
        raise DataError(
            f"{where} unpacks to more than {MAX_RATIO} times its {compressed_bytes:,} bytes and over "
            f"{MAX_UNCHECKED_BYTES >> 20} MiB, like a decompression bomb. If it is sound, unpack it first."
        )


def _buffered(inner: IO[bytes], below: IO[bytes] | None, compressed_bytes: int | None, where: str) -> io.BufferedReader:
    return io.BufferedReader(_Bounded(inner, below, compressed_bytes, where), _BUFFER_BYTES)


def open_file(path: Path) -> IO[bytes]:
    """Open a file's own bytes.

    Raises:
        CallerError: It is a folder, not there, or not to be read by this user.
        MachineError: The disk refuses.
    """
    try:
        return cast(IO[bytes], _WatchedFile(path))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise CallerError(f"{path} is {'a folder' if path.is_dir() else 'not there'}; a file was expected.") from error
    except PermissionError as error:
        raise CallerError(f"{path} may not be read by this user. Allow it, or copy the file and name the copy.") from error
    except OSError as error:
        raise MachineError(f"{path} cannot be opened: {error.strerror}.") from error


def share_read(path: Path) -> float | None:
    """Return how far this process came when it last read a file, 0 to 1; None if it did not."""
    at, size = _positions.get(str(path), (0, 0))
    return at / size if size else None


_positions: dict[str, tuple[int, int]] = {}


class _WatchedFile(io.FileIO):
    """A file's own bytes, and for those who wait for it how far it was read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._size = path.stat().st_size

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(-1 if size is None else size)
        _positions[str(self.name)] = (self.tell(), self._size)
        return content

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(buffer)
        _positions[str(self.name)] = (self.tell(), self._size)
        return count


def open_member(path: Path, member: str | None) -> tuple[io.BufferedReader, int]:
    """Open a file of a zip archive, and say how many bytes it has there.

    Raises:
        CallerError, DataError: As `open_decompressed`.
    """
    members = list_members(path)
    if member is None:
        if not members:
            raise DataError(f"{path} is an empty zip archive.")
        if len(members) > 1:
            raise CallerError(f"{path} holds {len(members)} files; name one of them: {', '.join(members[:5])}…")
        member = members[0]
    where = place(path, member)
    if member not in members:
        raise CallerError(f"{path} holds no file {member!r}. It holds: {', '.join(members[:5])}.")
    with _zip_file(path, where) as archive:
        info = archive.getinfo(member)
        return _buffered(archive.open(info), None, info.compress_size, where), info.compress_size


@contextmanager
def _zip_file(path: Path, where: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive whose directory may be damaged, or made to do harm.

    Raises:
        DataError: It is damaged, encrypted or packed in a way that is unknown here.
        MachineError: The disk refuses.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except PipelineError:
        raise
    except (zipfile.BadZipFile, EOFError, struct.error) as error:
        raise DataError(f"{where} is a damaged zip archive: {error}. Copy or export it again.") from error
    except OSError as error:
        if error.errno == errno.EINVAL:  # an offset that leads before the file's beginning
            raise DataError(f"{where} is a damaged zip archive: {error.strerror}. Copy or export it again.") from error
        raise MachineError(f"Reading {where} failed: {error}.") from error
    except (RuntimeError, ValueError) as error:  # a password, an unknown method, a name that cannot be decoded
        raise DataError(f"{where} cannot be unpacked here: {error}. Unpack it first.") from error


def _decompressor(kind: str, stream: io.BufferedReader) -> IO[bytes]:
    if kind == "gz":
        return gzip.GzipFile(fileobj=stream)  # type: ignore[return-value]
    if kind == "xz":
        return lzma.LZMAFile(stream)
    if kind == "bz2":
        return bz2.BZ2File(stream)
    zst: IO[bytes] = pa.CompressedInputStream(pa.PythonFile(stream, "r"), "zstd")
    return zst
