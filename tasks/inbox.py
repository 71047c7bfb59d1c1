"""A folder that feedback keeps arriving in: what is new there is told by content, and nothing is moved."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.errors import CallerError, PipelineError
from tasks.fingerprint import sha256_of_json
from tasks.reviews.folders import visible_files
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.sources import FileSource, find_files
from tasks.store import Store, atomic_file

SETTLED_SECONDS = 5.0  # what was written to more recently may not be whole yet


@dataclass
class Memory:
    """What was scored of an inbox, by the SHA-256 of its content; and the stamps by which a file need not be hashed again.

    Args:
        place: The file that keeps it.
        scored: What became of each content: the file's name then, the model, the result.
        stamps: By path and member: stamp and digest as they were last.
    """

    place: Path
    scored: dict[str, dict[str, Any]] = field(default_factory=dict)
    stamps: dict[str, tuple[str, str]] = field(default_factory=dict)

    def is_new(self, source: FileSource) -> bool:
        """Return whether a file's content was not scored yet; a file that cannot be read is new, and tells why when it is scored."""
        name, stamp = f"{source.path} {source.member or ''}", source.stamp()
        known = self.stamps.get(name)
        if known is None or known[0] != stamp:
            try:
                known = (stamp, source.digest())
            except PipelineError:
                return True
            self.stamps[name] = known
        return known[1] not in self.scored

    def add(self, digest: str, source: str, model_id: str, output: str) -> None:
        """Note that a content was scored, at once, so that a run that is killed later need not come back to it."""
        self.scored[digest] = {"source": source, "model_id": model_id, "output": output}
        self.save()

    def save(self) -> None:
        """Write it down, whole or not at all."""
        with atomic_file(self.place) as file:
            file.write(json.dumps({"scored": self.scored, "stamps": self.stamps}, ensure_ascii=False).encode())


@contextmanager
def open_memory(store: Store, inbox: str, purpose: str) -> Iterator[Memory]:
    """Hold the memory of an inbox, one run at a time, and write down what was added to it, however the block ends.

    Args:
        store: The artifacts folder that keeps it.
        inbox: The folder.
        purpose: What its files are scored for, as a digest: for another purpose all is new.
    """
    key = sha256_of_json([str(Path(inbox).resolve()), purpose])
    place = store.root / "score" / f"{key}.inbox.json"
    with store.lock(f"inbox-{key[:16]}", f"the inbox {inbox}"):
        memory = _read(place)
        before = json.dumps([memory.scored, memory.stamps])
        try:
            yield memory
        finally:
            if json.dumps([memory.scored, memory.stamps]) != before:
                memory.save()


def _read(place: Path) -> Memory:
    try:
        raw = json.loads(place.read_text(encoding="utf-8"))
        return Memory(place, dict(raw["scored"]), {name: (stamp, digest) for name, (stamp, digest) in raw["stamps"].items()})
    except (OSError, ValueError, KeyError, TypeError):
        return Memory(place)


def apart(store: Store, output: str | None) -> list[Path]:
    """Return the folders that are no part of an inbox though they may lie in it: that of the artifacts, and that of the results."""
    return [store.root, *([Path(output).resolve()] if output else [])]


def find_new(inbox: str, memory: Memory, reader: ReaderSettings, leave: list[Path]) -> tuple[list[FileSource], int]:
    """Look into an inbox, but not into the folders to leave.

    Returns:
        The files whose content was not scored yet, of several with one content the first; and how many may still be being written.

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
        if path.exists() and abs(time.time() - path.stat().st_mtime) < SETTLED_SECONDS:
            unsettled += 1
            continue
        prefix = path.relative_to(folder).parent.as_posix()
        for source in find_files(str(path), None, reader):
            name = source.name if prefix == "." else f"{prefix}/{source.name}"
            sources.append(FileSource(source.path, name, source.member))
    new = [source for source in sources if memory.is_new(source)]
    first: dict[str, FileSource] = {}
    for source in new:
        first.setdefault(memory.stamps.get(f"{source.path} {source.member or ''}", ("", source.name))[1], source)
    return list(first.values()), unsettled


def has_news(store: Store, inbox: str, reader: ReaderSettings, purpose: str, output: str | None) -> bool:
    """Return whether a run would find anything to score, so that none need be started."""
    with open_memory(store, inbox, purpose) as memory:
        return bool(find_new(inbox, memory, reader, apart(store, output))[0])
