"""The artifact store: content-addressed, verified before use, committed atomically.

A step describes what it would make by a `Recipe`; `Store.make` returns the artifact if a verified one is there, else lets the
step write it into a `Draft` and commits that: every file is written under `tmp/` and hashed on the way, fsynced and renamed;
the record that names the files goes last. A record whose file is missing or whose digest differs counts as absent.
"""

import hashlib
import json
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

from filelock import FileLock, Timeout
from pydantic import BaseModel

from tasks.errors import MachineError
from tasks.fingerprint import library_versions, module_digests, sha256_of_file, sha256_of_json
from tasks.json_text import parse_json

FORMAT = 1
_TMP, _LOCKS, _SET_ASIDE, _RUNS = "tmp", "locks", "set_aside", "runs"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArtifactRef:
    """What tasks hand each other: where an artifact lies and what it must hash to. Never the data itself.

    `path` is relative to the artifacts root, with forward slashes; `sha256` is that of the file's bytes.
    """

    step: str
    key: str
    path: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class Recipe:
    """Everything that can change what a step makes; its digest is the artifact's key."""

    step: str
    inputs: dict[str, str]
    settings: dict[str, Any]
    modules: dict[str, str]
    libraries: dict[str, str]
    format: int = FORMAT

    @classmethod
    def of(
        cls,
        step: str,
        module: str,
        inputs: dict[str, str],
        settings: BaseModel | dict[str, Any],
        libraries: tuple[str, ...],
    ) -> "Recipe":
        """Build a recipe; `module` is the step's own module, whose project imports count with it."""
        plain = settings.model_dump(mode="json") if isinstance(settings, BaseModel) else settings
        return cls(step, inputs, plain, module_digests(module), library_versions(libraries))

    @cached_property
    def key(self) -> str:
        """64 hexadecimal digits."""
        return sha256_of_json(asdict(self))


@dataclass(frozen=True)
class StoredFile:
    """One committed file: path relative to the artifacts root, SHA-256 of its bytes, size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Record:
    """What stands beside an artifact: how it was made, its files (the main one first) and small facts about it."""

    recipe: Recipe
    files: tuple[StoredFile, ...]
    rows: int
    facts: dict[str, Any]
    seconds: float
    created: str

    @property
    def ref(self) -> ArtifactRef:
        """The reference of the artifact's main file."""
        main = self.files[0]
        return ArtifactRef(self.recipe.step, self.recipe.key, main.path, main.sha256, self.rows)

    @property
    def digest(self) -> str:
        """The SHA-256 of all its files together, by their paths."""
        return sha256_of_json({file.path: file.sha256 for file in self.files})

    def to_json(self) -> str:
        """Return the record as JSON text, with its key for those who read it by eye and a digest of all it says."""
        plain = asdict(self)
        return json.dumps({"key": self.recipe.key, "sha256": sha256_of_json(plain), **plain}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Record":
        """Read what `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: The text is not a record, or not as it was written.
        """
        raw = dict(parse_json(text))
        key, sha256 = raw.pop("key"), raw.pop("sha256")
        if sha256_of_json(raw) != sha256:
            raise ValueError("The record was changed.")
        recipe = Recipe(**raw.pop("recipe"))
        if recipe.key != key:
            raise ValueError("The record's recipe does not give its key.")
        return cls(recipe=recipe, files=tuple(StoredFile(**entry) for entry in raw.pop("files")), **raw)


@dataclass(frozen=True)
class StepResult:
    """What a step made or found."""

    record: Record
    cached: bool
    seconds: float

    @property
    def ref(self) -> ArtifactRef:
        """The reference to hand on."""
        return self.record.ref


class HashingFile:
    """A binary file, open for writing front to back, that knows the SHA-256 of what went through it."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600), "wb")
        self._digest = hashlib.sha256()
        self.size = 0

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._file.closed

    def write(self, data: bytes) -> int:
        """Append bytes."""
        self._digest.update(data)
        self.size += len(memoryview(data).cast("B"))
        return self._file.write(data)

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self.size

    def flush(self) -> None:
        """Hand buffered bytes to the system."""
        self._file.flush()

    def close(self) -> None:
        """Flush to the disk and close."""
        if not self._file.closed:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()

    def readable(self) -> bool:
        """Say no: the digest holds only for one pass of writing."""
        return False

    def writable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say no: the digest holds only for one pass of writing."""
        return False

    @property
    def sha256(self) -> str:
        """The digest of what was written so far."""
        return self._digest.hexdigest()


@dataclass
class Draft:
    """An artifact being written: files under `tmp/`, and where each shall stand in the end, in the order of commit."""

    folder: Path
    rows: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    _open: dict[str, tuple[Path, HashingFile]] = field(default_factory=dict)

    def open(self, path: str) -> BinaryIO:
        """Open the file that shall stand at `path` (relative to the artifacts root) for writing. The first is the main one."""
        place = self.folder / f"{len(self._open):03d}"
        file = HashingFile(place)
        self._open[path] = (place, file)
        return cast(BinaryIO, file)

    def write_bytes(self, path: str, data: bytes) -> str:
        """Write a whole file and return its SHA-256."""
        file = self.open(path)
        file.write(data)
        file.close()
        return self._open[path][1].sha256

    def write_json(self, path: str, value: Any) -> str:
        """Write a JSON file that people can read and return its SHA-256."""
        return self.write_bytes(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())

    def files(self) -> Iterator[tuple[Path, StoredFile]]:
        """Close every file; yield where it lies now and what it will be."""
        for path, (place, file) in self._open.items():
            file.close()
            yield place, StoredFile(path, file.sha256, file.size)


@dataclass(frozen=True)
class Store:
    """An artifacts folder. `run_id` names the run whose journal notes what each step did."""

    root: Path
    run_id: str = ""

    def path(self, ref: ArtifactRef | StoredFile) -> Path:
        """Return where the artifact lies on this machine."""
        return self.root / ref.path

    def find(self, recipe: Recipe) -> Record | None:
        """Return the record of this recipe if all its files are there and hash to what it says. Nothing is changed."""
        try:
            record = Record.from_json(self._record_path(recipe.step, recipe.key).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return record if all(self.is_intact(file) for file in record.files) else None

    def is_intact(self, file: StoredFile) -> bool:
        """Return whether the file is there, whole and unchanged."""
        path = self.root / file.path
        try:
            return path.stat().st_size == file.size and sha256_of_file(path) == file.sha256
        except OSError:
            return False

    def record_of(self, ref: ArtifactRef) -> Record:
        """Return the record of an artifact that a task handed on."""
        try:
            return Record.from_json(self._record_path(ref.step, ref.key).read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise MachineError(
                f"The record of {ref.step} {ref.key[:12]} in {self.root} is gone or damaged ({type(error).__name__}). "
                "Run the command again."
            ) from error

    def records(self, step: str) -> list[Record]:
        """Return a step's readable records, the latest first."""
        found = []
        for place in (self.root / step).glob("[0-9a-f]*.json"):
            try:
                found.append(Record.from_json(place.read_text(encoding="utf-8")))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return sorted(found, key=lambda record: record.created, reverse=True)

    def lineage(self, ref: ArtifactRef) -> dict[str, Record]:
        """Return the records that an artifact stands on, by step, itself included; a step whose record is gone is missing."""
        found: dict[str, Record] = {}
        waiting = [self.record_of(ref)]
        while waiting:
            record = waiting.pop()
            found[record.recipe.step] = record
            for step, digest in record.recipe.inputs.items():
                waiting.extend([other for other in self.records(step) if other.files[0].sha256 == digest][:1])
        return found

    def make(self, recipe: Recipe, write: Callable[[Draft], None]) -> StepResult:
        """Return the recipe's artifact: the verified one that is there, or the one that `write` makes now.

        Raises:
            MachineError: The disk is full or refuses to be written.
        """
        started = time.perf_counter()
        with self.lock(f"{recipe.step}-{recipe.key[:16]}", f"{recipe.step} of the same data and settings"):
            record = self.find(recipe)
            cached = record is not None
            if record is None:
                self._clear_damage(recipe)
                record = self._write(recipe, write, started)
        result = StepResult(record, cached, round(time.perf_counter() - started, 3))
        self.note(recipe.step, result.cached, result.seconds, record.rows)
        return result

    def _write(self, recipe: Recipe, write: Callable[[Draft], None], started: float) -> Record:
        folder = self._folder(_TMP) / f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        try:
            folder.mkdir(mode=0o700)
            draft = Draft(folder)
            write(draft)
            files = list(draft.files())
            for place, file in files:
                self._publish(place, self.root / file.path)
            record = Record(
                recipe,
                tuple(file for _, file in files),
                draft.rows,
                draft.facts,
                round(time.perf_counter() - started, 3),
                datetime.now(UTC).isoformat(timespec="microseconds"),
            )
            with atomic_file(self._record_path(recipe.step, recipe.key)) as place_of_record:
                place_of_record.write(record.to_json().encode())
            return record
        except OSError as error:
            raise MachineError(
                f"Cannot write {recipe.step} to {self.root}, or read what it needs: {error.strerror or error}. "
                "Free some space or choose another folder with --artifacts, and run the same command again."
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _clear_damage(self, recipe: Recipe) -> None:
        """Set aside what stands in the place of an artifact and is not what its record says."""
        place = self._record_path(recipe.step, recipe.key)
        try:
            record = Record.from_json(place.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            self._set_aside(place, "its record is damaged")
            return
        for file in record.files:
            if not self.is_intact(file):
                self._set_aside(self.root / file.path, "it is not what its record says")

    def _publish(self, place: Path, final: Path) -> None:
        make_folder(final.parent)
        place.replace(final)
        sync_folder(final.parent)

    def note(self, step: str, cached: bool, seconds: float, rows: int) -> None:
        """Add a line to the run's journal: what a step did in this run."""
        if not self.run_id:
            return
        line = {"step": step, "state": "cached" if cached else "completed", "seconds": seconds, "rows": rows}
        place = self._folder(_RUNS) / f"{self.run_id}.jsonl"
        with writing(place), place.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def journal(self) -> dict[str, dict[str, Any]]:
        """Return what the steps of this run did: state (completed, cached), seconds and rows by step, in order."""
        try:
            lines = (self.root / _RUNS / f"{self.run_id}.jsonl").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return {}
        entries = [json.loads(line) for line in lines]
        return {entry.pop("step"): entry for entry in entries}

    @contextmanager
    def lock(self, name: str, what: str) -> Iterator[None]:
        """Hold a kernel lock, which ends with its process; say so when another run holds it."""
        place = self._folder(_LOCKS) / f"{name}.lock"
        lock = FileLock(place)
        with writing(place):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                logger.warning("Another run is working on %s in %s; waiting for it.", what, self.root)
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _record_path(self, step: str, key: str) -> Path:
        return self.root / step / f"{key}.json"

    def _folder(self, name: str) -> Path:
        folder = self.root / name
        make_folder(folder)
        return folder

    def _set_aside(self, path: Path, why: str) -> None:
        if path.exists():
            aside = self._folder(_SET_ASIDE) / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{path.name}"
            path.replace(aside)
            logger.warning("Set aside %s: %s. The step runs again.", path.relative_to(self.root), why)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say what the system refuses while a file is written.

    Raises:
        MachineError: The disk is full, or refuses to be written.
    """
    try:
        yield
    except OSError as error:
        raise MachineError(f"Cannot write {path}: {error.strerror or error}. Free some space or choose another folder.") from error


def make_folder(folder: Path) -> None:
    """Create a folder that only its owner may enter, and its parents, safe from a power cut.

    Raises:
        MachineError: It cannot be created.
    """
    if folder.is_dir():
        return
    try:
        made = [parent for parent in folder.parents if not parent.is_dir()]
        for new in [*reversed(made), folder]:
            new.mkdir(mode=0o700, exist_ok=True)
            sync_folder(new.parent)
    except OSError as error:
        raise MachineError(f"Cannot create the folder {folder}: {error.strerror}. Choose another with --artifacts.") from error


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name when the block ends well, whole and safe from a power cut, or not at all.

    Raises:
        MachineError: The disk is full or refuses to be written.
    """
    make_folder(path.parent)
    place = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.part")
    with writing(path):
        try:
            file = HashingFile(place)
            try:
                yield cast(BinaryIO, file)
            finally:
                file.close()
            place.replace(path)
            sync_folder(path.parent)
        finally:
            with suppress(OSError):  # what stopped the writing matters more
                place.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in this folder survive a power cut, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
