"""A folder that feedback keeps arriving in: what is new there is told by content, and nothing is moved."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.errors import CallerError, PipelineError
from tasks.fingerprint import sha256_of_json
from tasks.reviews.folders import visible_files
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.sources import FileSource, files_in
from tasks.store import Store, atomic_file, make_folder, writing

_MOST_STALE = 1000
SETTLED_SECONDS = 5.0  # what was written to more recently may not be whole yet


@dataclass(frozen=True)
class Purpose:
    """What the files of an inbox are scored for: with which settings, to which place, with which model.

    Args:
        name: All of that, as a digest.
        other_name: The same under the model's other name: the champion's by its id, one named by its id as champion.
        model_id: The model.
    """

    name: str
    other_name: str
    model_id: str


@dataclass
class Memory:
    """What became of the files of an inbox, by the SHA-256 of their content; and the stamps by which a file need not be hashed again.

    It is kept as lines of JSON, one for each thing learnt, the later the truer; a line that a killed run left half written is none.

    Args:
        place: The file that keeps it.
        scored: By content: the file's name then, the model, the result.
        failed: By content that could not be scored: the file's name then, and why.
        stamps: By path and member: stamp and digest as they were last.
    """

    place: Path
    scored: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, dict[str, Any]] = field(default_factory=dict)
    stamps: dict[str, list[str]] = field(default_factory=dict)
    num_lines: int = 0
    _learnt: list[bytes] = field(default_factory=list)

    def digest_of(self, source: FileSource) -> str | None:
        """Return the digest of a file's content, or None if it cannot be read or has a name that cannot be kept."""
        name = _place(source)
        known = self.stamps.get(name)
        try:
            stamp = source.stamp()
            if known is None or known[0] != stamp:
                known = self.stamps[name] = [stamp, source.digest()]
                self._learnt.append(_line("stamps", {name: known}))
        except PipelineError:
            return None
        return known[1]

    def is_new(self, digest: str | None) -> bool:
        """Return whether a content was not met yet; a file that cannot be read is new, and tells why when it is scored."""
        return digest is None or (digest not in self.scored and digest not in self.failed)

    def add(self, digest: str, source: str, model_id: str, output: str) -> None:
        """Note that a content was scored, at once, so that a run that is killed later need not come back to it."""
        self.scored[digest] = {"source": source, "model_id": model_id, "output": output}
        self._learnt.append(_line("scored", {digest: self.scored[digest]}))
        self.save()

    def add_failed(self, source: FileSource, why: str) -> None:
        """Note that what the file held when it was found could not be scored, unless it has changed since: then it is new."""
        stamp, digest = self.stamps.get(_place(source), (None, None))
        if digest and stamp == source.stamp():
            self.failed[digest] = {"source": source.name, "why": why}
            self._learnt.append(_line("failed", {digest: self.failed[digest]}))

    def save(self) -> None:
        """Append what was learnt since it was last saved; write all anew, whole or not at all, once most of it is superseded."""
        if not self._learnt:
            return
        self.num_lines += len(self._learnt)
        held: dict[str, dict[str, Any]] = {"scored": self.scored, "failed": self.failed, "stamps": dict(self.stamps)}
        if self.num_lines > _MOST_STALE + 2 * sum(len(entries) for entries in held.values()):
            lines = [_line(what, {key: value}) for what, entries in held.items() for key, value in entries.items()]
            with atomic_file(self.place) as file:
                file.write(b"".join(lines))
            self.num_lines = len(lines)
        else:
            make_folder(self.place.parent)
            with writing(self.place), self.place.open("ab") as file:
                file.write(b"".join(self._learnt))
                file.flush()
                os.fsync(file.fileno())
        self._learnt.clear()


def _place(source: FileSource) -> str:
    return f"{source.path} {source.member or ''}"


def _line(what: str, learnt: dict[str, Any]) -> bytes:
    """Return a line; its end comes first, as what was half written before may have none."""
    return f"\n{json.dumps({what: learnt}, ensure_ascii=False)}".encode()


@contextmanager
def open_memory(store: Store, inbox: str, purpose: Purpose) -> Iterator[Memory]:
    """Hold the memory of an inbox, one run at a time, and save what was learnt, however the block ends.

    Args:
        store: The artifacts folder that keeps it.
        inbox: The folder.
        purpose: What its files are scored for: for another purpose all is new.
    """
    folder = str(Path(inbox).resolve())
    key, other = (sha256_of_json([folder, name]) for name in (purpose.name, purpose.other_name))
    with store.lock(f"inbox-{sha256_of_json(folder)[:16]}", f"the inbox {inbox}"):
        memory = _read(_place_of_memory(store, key))
        for digest, entry in _read(_place_of_memory(store, other)).scored.items():
            if digest not in memory.scored and entry["model_id"] == purpose.model_id:
                memory.scored[digest] = entry
                memory._learnt.append(_line("scored", {digest: entry}))
        try:
            yield memory
        finally:
            memory.save()


def _place_of_memory(store: Store, key: str) -> Path:
    return store.root / "score" / f"{key}.inbox.jsonl"


def _read(place: Path) -> Memory:
    memory = Memory(place)
    try:
        lines = place.read_bytes().splitlines()
    except FileNotFoundError:
        return memory
    for line in filter(None, lines):
        memory.num_lines += 1
        with suppress(ValueError, TypeError, AttributeError):  # half a line
            for what, learnt in json.loads(line).items():
                getattr(memory, what).update(learnt)
    return memory


def apart(store: Store, output: str | None) -> list[Path]:
    """Return the folders that are no part of an inbox though they may lie in it: that of the artifacts, and that of the results."""
    return [store.root, *([Path(output).resolve()] if output else [])]


def find_new(inbox: str, memory: Memory, reader: ReaderSettings, leave: list[Path]) -> tuple[list[FileSource], int, int]:
    """Look into an inbox, but not into the folders to leave.

    Returns:
        The files whose content was not met yet, of several with one content the first; how many may still be being written; and how
        many could not be scored before and have not changed since.

    Raises:
        CallerError: There is no such folder.
    """
    folder = Path(inbox)
    if not folder.is_dir():
        raise CallerError(f"There is no folder {inbox!r} to watch. Create it, or name another with --inbox.")
    sources: list[FileSource] = []
    unsettled = 0
    left = [place for place in leave if not folder.resolve().is_relative_to(place)]  # an inbox that lies in one is meant
    for path in visible_files(folder):
        if any(path.absolute().resolve().is_relative_to(place) for place in left):
            continue
        try:
            if abs(time.time() - path.stat().st_mtime) < SETTLED_SECONDS:
                unsettled += 1
                continue
        except OSError:  # gone again, or a link to nothing
            continue
        sources += files_in(path, path.relative_to(folder).as_posix())
    digests = [memory.digest_of(source) for source in sources]
    first: dict[str, FileSource] = {}
    for source, digest in zip(sources, digests, strict=True):
        if memory.is_new(digest):
            first.setdefault(digest or source.name, source)
    return list(first.values()), unsettled, sum(digest in memory.failed for digest in digests)


def has_news(store: Store, inbox: str, reader: ReaderSettings, purpose: Purpose, output: str | None) -> bool:
    """Return whether a run would find anything to score, so that none need be started."""
    with open_memory(store, inbox, purpose) as memory:
        return bool(find_new(inbox, memory, reader, apart(store, output))[0])
