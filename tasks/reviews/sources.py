"""Where reviews come from: the generated sample, the official IMDB archive, or files. All yield the same batches."""

import glob
import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Protocol, TypeVar

from tasks.errors import CallerError, PipelineError
from tasks.fingerprint import sha256_of_json
from tasks.printable import is_utf8, printable
from tasks.progress import row_progress
from tasks.reviews import imdb
from tasks.reviews.batches import Batch
from tasks.reviews.columns import find_text_column, show_name
from tasks.reviews.compression import list_members, open_file, open_member, share_read
from tasks.reviews.encodings import read_sample
from tasks.reviews.folders import is_file, is_skipped, visible_files
from tasks.reviews.readers import ReaderSettings, describe_file, read_batches, stated_num_rows
from tasks.reviews.remote import fetch_files, is_remote
from tasks.reviews.sample import SampleSettings, generate_reviews
from tasks.schemas import SAMPLE

IMDB = "imdb"
DETECT_ALL = ReaderSettings()
_ASKED_FILES, _MOST_LINES = 9, 10
logger = logging.getLogger(__name__)


class Source(Protocol):
    """Something that yields batches of reviews and has a name that says what it is."""

    @property
    def name(self) -> str:
        """What people know it by; stands in every row's `source`."""

    def digest(self) -> str:
        """Return the SHA-256 of what it will yield, or of what decides that."""

    def describe(self, settings: ReaderSettings, text_column: str | None = None) -> str:
        """Return one line about what it is."""

    def read(self, settings: ReaderSettings) -> Iterator[Batch]:
        """Yield the reviews from the first on."""


@dataclass(frozen=True)
class SampleSource:
    """Reviews generated here."""

    settings: SampleSettings
    name: str = SAMPLE

    def digest(self) -> str:
        """Return the digest of the generator's settings; its code counts by the modules of the step."""
        return sha256_of_json(self.settings.model_dump(mode="json"))

    def describe(self, settings: ReaderSettings, text_column: str | None = None) -> str:
        """Return how many reviews, and the seed."""
        return f"{self.settings.rows:,} generated reviews, seed {self.settings.seed}"

    def read(self, settings: ReaderSettings) -> Iterator[Batch]:
        """Yield the generated reviews."""
        return generate_reviews(self.settings)


@dataclass(frozen=True)
class ImdbSource:
    """The official aclImdb archive, kept in a folder, fetched when it is first read."""

    folder: Path
    name: str = IMDB

    def digest(self) -> str:
        """Return the archive's SHA-256, which every read checks."""
        return imdb.SHA256

    def describe(self, settings: ReaderSettings, text_column: str | None = None) -> str:
        """Return what the archive is."""
        return "the official aclImdb archive, with its own split"

    def read(self, settings: ReaderSettings) -> Iterator[Batch]:
        """Yield its labelled reviews with the official split."""
        return imdb.read_archive(_fetch_imdb(self.folder))

    def read_unlabelled(self) -> Iterator[Batch]:
        """Yield its reviews that nobody labelled."""
        return imdb.read_unlabelled(_fetch_imdb(self.folder))


@dataclass(frozen=True)
class FileSource:
    """One file of reviews, one member of a zip archive, a folder of texts, or a stretch of a Parquet file: so many rows of it.

    Args:
        path: The file, or the copy of a remote one.
        name: What people know it by.
        member: Which file of an archive.
        stretch: The rows from the one number (from 0) up to, without, the other; None for all.
        address: Where a remote file stands.
    """

    path: Path
    name: str
    member: str | None = None
    stretch: tuple[int, int] | None = None
    address: str | None = None

    def digest(self) -> str:
        """Return the SHA-256 of the file's bytes; of a member its own, of a folder of texts all of its files' names and bytes.

        Raises:
            CallerError, DataError, MachineError: It is not there, or cannot be read.
        """
        self._check_name()
        if self.path.is_dir():
            files = {path.relative_to(self.path).as_posix(): _sha256(open_file(path)) for path in self._files()}
            return sha256_of_json(files)
        return _sha256(open_file(self.path) if self.member is None else open_member(self.path, self.member)[0])

    def stamp(self) -> str:
        """Return a digest of inode, size and time of the last change: take it before `digest`, and compare both after reading.

        Only the two together tell that nobody wrote the file meanwhile: a file may be written over without a new time, and one that is
        replaced by its like is short while that is done.

        Raises:
            CallerError: Its name cannot be written down.
        """
        self._check_name()
        stats = [path.stat() for path in self._files() if path.exists()]
        return sha256_of_json([(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats])

    def _check_name(self) -> None:
        if not is_utf8(str(self.path)):
            raise CallerError(f"The name of {self.name} is not UTF-8, so no record could hold it. Rename the file.")

    def shards(self, settings: ReaderSettings, num_rows: int) -> "tuple[FileSource, ...]":
        """Return the stretches, of `num_rows` rows each, in which a Parquet file can be read apart; any other file is one."""
        total = stated_num_rows(self.path, settings, self.member)
        if total is None or total <= num_rows:
            return (self,)
        return tuple(replace(self, stretch=(start, min(start + num_rows, total))) for start in range(0, total, num_rows))

    def size(self) -> int:
        """Return the bytes of the file, or of all files of a folder of texts."""
        return sum(path.stat().st_size for path in self._files() if path.exists())

    def stated_num_rows(self, settings: ReaderSettings) -> int | None:
        """Return how many rows it has, where that is known before they are read."""
        return self.stretch[1] - self.stretch[0] if self.stretch else stated_num_rows(self.path, settings, self.member)

    def share_read(self) -> float | None:
        """Return how far this process has come in reading the file; None if that is not known."""
        return share_read(self.path)

    def describe(self, settings: ReaderSettings, text_column: str | None = None) -> str:
        """Return the format that was detected or set, and which column holds the text."""
        found = describe_file(self.path, settings, self.member)
        try:
            return f"{found}, text in {show_name(find_text_column(found.columns, text_column))!r}"
        except CallerError:  # told when the file is read, with the remedy
            return str(found)

    def read(self, settings: ReaderSettings) -> Iterator[Batch]:
        """Yield the file's rows, or those of its stretch."""
        self._check_name()
        return read_batches(self.path, self.name, settings, self.member, self.stretch)

    def _files(self) -> list[Path]:
        return visible_files(self.path) if self.path.is_dir() else [self.path]


def _sha256(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    with stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


SourceType = TypeVar("SourceType", bound=Source)


def resolve_sources(names: Sequence[str], downloads: Path, sample: SampleSettings, reader: ReaderSettings = DETECT_ALL) -> list[Source]:
    """Turn the names a caller gave into sources: `sample`, `imdb`, or files, folders, globs and addresses.

    Args:
        names: As given on the command line, in order.
        downloads: Folder for the official archive and copies of remote files.
        sample: What to generate for `sample`.
        reader: How files will be read.

    Raises:
        CallerError: A name matches nothing.
    """
    sources: list[Source] = []
    for name in names:
        if name == SAMPLE:
            sources.append(SampleSource(sample))
        elif name == IMDB:
            sources.append(ImdbSource(downloads))
        else:
            sources.extend(find_files(name, downloads, reader))
    return with_own_names(sources)


def with_own_names(sources: Sequence[SourceType]) -> list[SourceType]:
    """Return the sources, files of one name told apart by their paths.

    Raises:
        CallerError: A source was given twice.
    """
    counts = Counter(source.name for source in sources)
    named = [
        replace(source, name=_full_name(source))
        if isinstance(source, FileSource) and (counts[source.name] > 1 or source.name in (SAMPLE, IMDB))
        else source
        for source in sources
    ]
    twice = [name for name, count in Counter(source.name for source in named).items() if count > 1]
    if twice:
        raise CallerError(f"Given twice: {', '.join(twice[:5])}. Name every source once, or its reviews would count twice.")
    return named


def _full_name(source: FileSource) -> str:
    path = source.address or source.path.as_posix()
    return f"{path if '/' in path else f'./{path}'}{f'/{source.member}' if source.member else ''}"


def find_files(pattern: str, downloads: Path | None = None, reader: ReaderSettings = DETECT_ALL) -> list[FileSource]:
    """Return the files that a path, a folder (searched through), a glob or an address names, in the order of their names.

    A folder that holds nothing but .txt files of a few lines each is one source, each file a review. A file that cannot be looked
    into is returned all the same: it fails when it is read, and stops no other.

    Args:
        pattern: The path, glob or address.
        downloads: Where copies of remote files are kept.
        reader: How the files will be read; its format decides what a folder of texts is.

    Raises:
        CallerError: There are none, or a folder of texts may be read in two ways.
        MachineError: A remote file cannot be fetched.
    """
    if is_remote(pattern):
        return _find_remote(pattern, downloads, reader)
    if not is_utf8(pattern):
        raise CallerError(f"The name of {printable(pattern)} is not UTF-8, so no record could hold it. Rename the file or folder.")
    place = Path(pattern)
    if place.is_file():
        return files_in(place, place.name)
    if place.is_dir():
        base, files = place, visible_files(place)
    else:
        base = _glob_base(pattern)
        matches = (Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207  Path.glob refuses absolute patterns
        files = sorted(path for path in matches if is_file(path) and not is_skipped(path.relative_to(base)))
    if not files:
        raise _nothing("The folder holds no files" if place.is_dir() else "There is no such file, folder or match", pattern)
    if place.is_dir() and _are_texts(files, place, reader):
        return [FileSource(place, place.resolve().name)]
    return [source for path in files for source in files_in(path, path.relative_to(base).as_posix())]


def _find_remote(address: str, downloads: Path | None, reader: ReaderSettings) -> list[FileSource]:
    if downloads is None:
        raise CallerError(f"{address!r} is remote. Copy it here and name the copy.")
    base, copies = fetch_files(address, downloads)
    if not copies:
        raise _nothing("There is no such file, folder or match", address)
    if len(copies) > 1 and not glob.has_magic(address) and _are_texts(list(copies), base, reader):
        return [FileSource(base, address.rstrip("/").rpartition("/")[2], address=address)]
    found = [(origin, source) for copy, origin in copies.items() for source in files_in(copy, copy.relative_to(base).as_posix())]
    return [replace(source, address=origin) for origin, source in found]


def _nothing(what: str, pattern: str) -> CallerError:
    return CallerError(
        f"{what}: {pattern!r}. Give the path of reviews (CSV, TSV, JSONL, Parquet; also compressed); training takes sample and imdb too."
    )


def _are_texts(files: Sequence[Path], folder: Path, reader: ReaderSettings) -> bool:
    """Return whether each file of a folder is one review, judged by a few of them.

    Raises:
        CallerError: They are texts of many lines, each of which may be one too.
    """
    if reader.format is not None:
        return reader.format == "texts"
    if len(files) < 2 or any(path.suffix.lower() != ".txt" for path in files):
        return False
    num_lines = []
    for path in files[:: max(1, len(files) // _ASKED_FILES)]:
        try:
            if describe_file(path, reader).format != "text":
                return False
            num_lines.append(sum(1 for line in read_sample(path, None).content.splitlines() if line.strip()))
        except PipelineError:  # empty or damaged; told when it is read
            continue
    if num_lines and sorted(num_lines)[len(num_lines) // 2] > _MOST_LINES:
        raise CallerError(
            f"{folder} holds {len(files):,} .txt files of many lines. Is each file one review, or each line? "
            "Say --input-format texts or --input-format text."
        )
    return True


def files_in(path: Path, name: str) -> list[FileSource]:
    """Return the file, or the files that it holds as an archive; one that cannot be looked into fails when it is read."""
    name = name if is_utf8(name) else printable(name)  # such a file fails when it is looked at
    try:
        members = list_members(path)
    except PipelineError as error:
        logger.debug("%s cannot be looked into: %s", name, error)
        members = ()
    if len(members) < 2:
        return [FileSource(path, name)]
    return [FileSource(path, f"{name}/{member}", member) for member in members]


def _glob_base(pattern: str) -> Path:
    plain: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        plain.append(part)
    return Path(*plain)


def _fetch_imdb(folder: Path) -> Path:
    with row_progress("download aclImdb_v1.tar.gz", imdb.SIZE, "bytes") as advance:
        seen = 0

        def progress(done: int, total: int) -> None:
            nonlocal seen
            advance(done - seen)
            seen = done

        return imdb.download_archive(folder, progress=progress)
