"""The official IMDB archive (Maas et al. 2011): downloaded once, verified, read as a stream, never extracted."""

import hashlib
import logging
import os
import re
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

import httpx
import pyarrow as pa
from filelock import FileLock, Timeout

from tasks.errors import DataError, MachineError
from tasks.reviews.batches import ROWS_PER_BATCH, Batch, RefusedRow
from tasks.reviews.compression import open_decompressed
from tasks.store import make_folder

ADDRESS = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
SIZE = 84_125_825
SHA256 = "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe"

SOURCE = "imdb"
MAX_REVIEW_BYTES = 1_000_000
MAX_BATCH_BYTES = 32_000_000
MAX_MEMBER_BYTES = 1_000_000_000  # the largest real one, a table of word counts, has 41 million
MAX_HEADER_BYTES = 1_000_000  # tar headers between two members and read-ahead; a real header takes 512 bytes
SILENCE_SECONDS = 30.0
_BUFFER_BYTES = 1 << 16

_LABELLED = re.compile(r"aclImdb/((train|test)/(pos|neg)/[0-9]{1,9}_([0-9]{1,2}))\.txt")
_UNLABELLED = re.compile(r"aclImdb/(train/unsup/[0-9]{1,9}_[0-9]{1,2})\.txt")
_SENTIMENTS = {"pos": "positive", "neg": "negative"}
logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


def download_archive(
    folder: Path, *, address: str = ADDRESS, size: int = SIZE, sha256: str = SHA256, progress: Progress | None = None
) -> Path:
    """Return the archive in `folder`, downloaded unless a verified one is there.

    A file with another digest is set aside as `<name>.wrong`. A download that breaks off stays as `<name>.part`, and
    the next call continues it. Of several calls at once one downloads while the others wait.

    Args:
        folder: Where the archive is kept; made if missing.
        address: Where to get it; the last part is the file's name.
        size: Bytes expected.
        sha256: Hexadecimal digest expected.
        progress: Called with (bytes there, bytes expected) while downloading.

    Raises:
        MachineError: No network, a server that refuses, or a folder that cannot be written to.
        DataError: The server has another file, or what arrived is not the archive; the partial file is then removed.
    """
    archive = folder / httpx.URL(address).path.rpartition("/")[2]
    part = archive.with_name(f"{archive.name}.part")
    try:
        if _is_intact(archive, size, sha256):
            return archive
        make_folder(folder)
        with _acquire(FileLock(archive.with_name(f"{archive.name}.lock"))):
            if _is_intact(archive, size, sha256):
                return archive
            if archive.exists():
                wrong = archive.replace(archive.with_name(f"{archive.name}.wrong"))
                logger.warning("%s was not the archive expected: set aside as %s.", archive, wrong.name)
            try:
                _complete(part, address, size, sha256, progress or (lambda done, total: None))
            except httpx.HTTPError as error:
                done = part.stat().st_size
                raise MachineError(
                    f"{address} cannot be reached or broke off, {done:,} of {size:,} bytes are here "
                    f"({type(error).__name__}: {error}). Go online and run again to continue, put the file at "
                    f"{archive} yourself, or train on generated reviews (sentiment train sample) or on your own files."
                ) from error
            return part.replace(archive)
    except OSError as error:
        raise MachineError(
            f"{archive} cannot be kept: {error.strerror or error}. "
            f"Expected a folder that can be written to, with {size / 1e6:,.0f} MB free."
        ) from error


def read_archive(path: Path) -> Iterator[Batch]:
    """Yield the labelled reviews in the archive's order, in memory that does not grow with their number.

    A member that is a link, too large or not UTF-8 is refused; a member with any other name is passed over.

    Yields:
        Batches of at most 4,096 rows with the string columns `review_id` ("train/pos/123_9"), `review`, `sentiment`
        ("positive", "negative"), `split` ("train", "test"), and `rating` (int8, stars out of ten).

    Raises:
        CallerError: There is no such file.
        DataError: It is truncated or damaged (which may show at its end only), a bomb, or without reviews.
    """
    for rows in _read_rows(path, _LABELLED):
        yield rows.batch(
            {
                "sentiment": pa.array([_SENTIMENTS[name[3]] for name in rows.names], pa.string()),
                "split": pa.array([name[2] for name in rows.names], pa.string()),
                "rating": pa.array([int(name[4]) for name in rows.names], pa.int8()),
            }
        )


def read_unlabelled(path: Path) -> Iterator[Batch]:
    """Yield the unlabelled reviews as `read_archive` does, with `review_id` ("train/unsup/123_0") and `review` only."""
    for rows in _read_rows(path, _UNLABELLED):
        yield rows.batch({})


def _is_intact(archive: Path, size: int, sha256: str) -> bool:
    if not archive.is_file() or archive.stat().st_size != size:
        return False
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def _acquire(lock: FileLock) -> AbstractContextManager[object]:
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        logger.info("Waiting for another run that downloads to %s.", Path(lock.lock_file).parent)
        return lock.acquire()


def _complete(part: Path, address: str, size: int, sha256: str, progress: Progress) -> None:
    """Append to the partial file what it lacks, then verify the whole."""
    with part.open("a+b") as file:
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256")
        done = file.tell()
        if done < size:
            headers = {"Accept-Encoding": "identity", "Range": f"bytes={done}-"}
            with httpx.stream("GET", address, headers=headers, follow_redirects=True, timeout=SILENCE_SECONDS) as response:
                _check_answer(response, done, size)
                if response.status_code != httpx.codes.PARTIAL_CONTENT:
                    file.truncate(0)
                    digest, done = hashlib.sha256(), 0
                progress(done, size)
                for chunk in response.iter_raw():
                    file.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    progress(done, size)
                    if done > size:
                        break
            file.flush()
            os.fsync(file.fileno())
    if done < size:
        raise httpx.RemoteProtocolError("the answer ended early")
    if done > size or digest.hexdigest() != sha256:
        part.unlink()
        raise DataError(
            f"What arrived from {address} is not the archive expected: {done:,} bytes, SHA-256 {digest.hexdigest()}; "
            f"expected {size:,} bytes, {sha256}. It was removed; run again to start over, and if that fails too, "
            "the file on the server has changed."
        )


def _check_answer(response: httpx.Response, done: int, size: int) -> None:
    if response.status_code in (httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
        offered = response.headers.get("Content-Range", "")
        fits = offered.startswith(f"bytes {done}-{size - 1}/")
    elif response.status_code == httpx.codes.OK:
        offered = response.headers.get("Content-Length", "")
        fits = offered in ("", str(size))
    else:
        raise httpx.HTTPStatusError(
            f"the server answers {response.status_code} {response.reason_phrase}",
            request=response.request,
            response=response,
        )
    if not fits:
        raise DataError(
            f"{response.url} offers another file (length or range {offered!r}). Expected {size:,} bytes, from {done:,} "
            "on. If this network asks for a sign-in, do so and run again; otherwise the file on the server has changed."
        )


@dataclass
class _Rows:
    """What becomes one batch: reviews, their matched names and positions, and the refused ones."""

    names: list[re.Match[str]] = field(default_factory=list)
    reviews: list[str] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)
    num_bytes: int = 0

    def is_full(self) -> bool:
        return len(self.names) + len(self.refused) >= ROWS_PER_BATCH or self.num_bytes >= MAX_BATCH_BYTES

    def batch(self, columns: dict[str, pa.Array]) -> Batch:
        review_id = pa.array([name[1] for name in self.names], pa.string())
        review = pa.array(self.reviews, pa.string())
        rows = pa.RecordBatch.from_pydict({"review_id": review_id, "review": review, **columns})
        return Batch(rows, pa.array(self.positions, pa.int64()), tuple(self.refused))


def _read_rows(path: Path, pattern: re.Pattern[str]) -> Iterator[_Rows]:
    rows, position = _Rows(), 0
    for position, (name, review, reason) in enumerate(_read_members(path, pattern), start=1):
        if review is None:
            rows.refused.append(RefusedRow(SOURCE, position, None, reason))
        else:
            rows.names.append(name)
            rows.reviews.append(review)
            rows.positions.append(position)
            rows.num_bytes += len(review)
        if rows.is_full():
            yield rows
            rows = _Rows()
    if rows.names or rows.refused:
        yield rows
    if not position:
        raise DataError(f"{path} holds no reviews. Expected the official archive, with members like {pattern.pattern}")


def _read_members(path: Path, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], str | None, str]]:
    """Yield the members whose names match: the name's match, the review, and if that is None why it is refused."""
    with open_decompressed(path) as plain:
        stream = _Rationed(plain, path)
        try:
            with tarfile.open(fileobj=stream, mode="r|", bufsize=_BUFFER_BYTES) as tar:  # type: ignore[call-overload]
                while (member := tar.next()) is not None:
                    if member.size > MAX_MEMBER_BYTES:  # tarfile would skip a false size block by block, for ever
                        raise stream.damage(f"a member of {member.size:,} bytes")
                    stream.ration = max(member.size, 0) + MAX_HEADER_BYTES
                    if name := pattern.fullmatch(member.name):
                        yield name, *_read_review(tar, member)
                    tar.members.clear()  # a stream never goes back to them, and there are 100,000
                stream.check_end(tar)
        except tarfile.TarError as error:
            raise stream.damage(str(error)) from error


def _read_review(tar: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[str | None, str]:
    if member.size > MAX_REVIEW_BYTES:
        return None, f"larger than {MAX_REVIEW_BYTES:,} bytes"
    content = tar.extractfile(member) if member.isreg() else None
    if content is None:
        return None, "not a regular file"
    try:
        return content.read().decode("utf-8"), ""
    except UnicodeDecodeError:
        return None, "not UTF-8"


class _Rationed:
    """A stream that tarfile cannot make read a header of any length into memory.

    Args:
        ration: Bytes that may be read until it is set again.
    """

    def __init__(self, plain: BufferedReader, path: Path) -> None:
        self.ration = MAX_HEADER_BYTES
        self._plain = plain
        self._path = path
        self._tail = b""

    def read(self, size: int) -> bytes:
        data = self._plain.read(size)
        self.ration -= len(data)
        if self.ration < 0:
            raise self.damage(f"a header of more than {MAX_HEADER_BYTES:,} bytes")
        self._tail = data[-tarfile.BLOCKSIZE :] or self._tail
        return data

    def check_end(self, tar: tarfile.TarFile) -> None:
        """Read what is left, which verifies the checksum; tarfile takes a damaged header or a cut for the end."""
        while rest := tar.fileobj.read(_BUFFER_BYTES):
            if rest.strip(b"\0"):
                raise self.damage("a damaged header")
        if self._tail.strip(b"\0"):
            raise self.damage("no end mark")

    def damage(self, what: str) -> DataError:
        return DataError(f"{self._path} is truncated, damaged or not a tar archive ({what}). Delete it and download it again.")
