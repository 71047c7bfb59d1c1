"""Where reviews come from: the generated sample, the official IMDB archive, or files. All yield the same batches."""

import glob
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from tasks.errors import CallerError
from tasks.fingerprint import sha256_of_file, sha256_of_json
from tasks.progress import row_progress
from tasks.reviews import imdb
from tasks.reviews.batches import Batch
from tasks.reviews.compression import list_members
from tasks.reviews.readers import ReaderSettings, describe_file, read_batches
from tasks.reviews.sample import SampleSettings, generate_reviews
from tasks.schemas import SAMPLE

IMDB = "imdb"
_NOT_REVIEWS = (".md", ".part", ".scored.csv", ".scored.parquet", ".quarantine.jsonl", ".quarantine.parquet")
logger = logging.getLogger(__name__)


class Source(Protocol):
    """Something that yields batches of reviews and has a name that says what it is."""

    @property
    def name(self) -> str:
        """What people know it by; stands in every row's `source`."""

    def digest(self) -> str:
        """Return the SHA-256 of what it will yield, or of what decides that."""

    def describe(self, settings: ReaderSettings) -> str:
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

    def describe(self, settings: ReaderSettings) -> str:
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

    def describe(self, settings: ReaderSettings) -> str:
        """Return what the archive is."""
        return "the official aclImdb archive, with its own split"

    def read(self, settings: ReaderSettings) -> Iterator[Batch]:
        """Yield its labelled reviews with the official split."""
        return imdb.read_archive(_fetch_imdb(self.folder))


@dataclass(frozen=True)
class FileSource:
    """One file of reviews, or one member of an archive, in any format that the readers know."""

    path: Path
    name: str
    member: str | None = None

    def digest(self) -> str:
        """Return the SHA-256 of the file's bytes."""
        return sha256_of_file(self.path)

    def describe(self, settings: ReaderSettings) -> str:
        """Return the format that was detected or set."""
        return str(describe_file(self.path, settings, self.member))

    def read(self, settings: ReaderSettings) -> Iterator[Batch]:
        """Yield the file's rows."""
        return read_batches(self.path, self.name, settings, self.member)


SourceType = TypeVar("SourceType", bound=Source)


def resolve_sources(names: Sequence[str], downloads: Path, sample: SampleSettings) -> list[Source]:
    """Turn the names a caller gave into sources: `sample`, `imdb`, or files, folders and globs.

    Args:
        names: As given on the command line, in order.
        downloads: Folder for the official archive.
        sample: What to generate for `sample`.

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
            sources.extend(find_files(name))
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
    path = source.path.as_posix()
    return f"{path if '/' in path else f'./{path}'}{f'/{source.member}' if source.member else ''}"


def find_files(pattern: str) -> list[FileSource]:
    """Return the files that a path, a folder (searched through) or a glob names, in the order of their names.

    Raises:
        CallerError: There are none.
    """
    place = Path(pattern)
    if place.is_file():
        return _members(place, place.name)
    if place.is_dir():
        base, paths = place, place.rglob("*")
    else:
        base, paths = _glob_base(pattern), (Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207  Path.glob refuses absolute patterns
    files = sorted(path for path in paths if path.is_file() and not _is_skipped(path.relative_to(base)))
    if not files:
        kind = "The folder holds no files" if place.is_dir() else "There is no such file, folder or match"
        raise CallerError(
            f"{kind}: {pattern!r}. Expected sample, imdb, or the path of reviews (CSV, TSV, JSONL, Parquet; plain or compressed)."
        )
    return [source for path in files for source in _members(path, path.relative_to(base).as_posix())]


def _is_skipped(path: Path) -> bool:
    return path.name.endswith(_NOT_REVIEWS) or any(part.startswith(".") for part in path.parts)


def _members(path: Path, name: str) -> list[FileSource]:
    members = list_members(path)
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
