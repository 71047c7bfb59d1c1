"""What a disk may hold after the power failed: a model of what is safe, fed with the operations of a run.

A file's bytes are safe once it was fsynced, a name once its folder was. What was not may be there or not: both ends are tried.

Source: Pillai et al. (2014), "All file systems are not created equal", on what POSIX leaves open.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

State = Literal["names lost", "bytes lost", "torn"]
STATES: tuple[State, ...] = ("names lost", "bytes lost", "torn")


@dataclass(eq=False)
class _File:
    safe: bytes = b""
    now: bytes = b""


@dataclass(eq=False)
class _Folder:
    now: dict[str, "_Folder | _File"] = field(default_factory=dict)
    safe: dict[str, "_Folder | _File"] = field(default_factory=dict)


@dataclass(frozen=True)
class Logged:
    """An operation that was carried out: its name, its paths relative to the disk's root, and after `fsync` or `write` the file's bytes."""

    name: str
    path: str
    target: str = ""
    content: bytes | None = None


class CrashedDisk:
    """A folder as it may be found after a power cut."""

    def __init__(self, root: Path) -> None:
        """Begin with what stands in a folder now, all of it safe."""
        self._root = _Folder()
        for place in sorted(root.rglob("*")):
            parent, name = self._parent(place.relative_to(root).as_posix())
            content = b"" if place.is_dir() else place.read_bytes()
            parent.now[name] = parent.safe[name] = _Folder() if place.is_dir() else _File(content, content)

    def apply(self, done: Logged) -> None:
        """Carry out one operation."""
        if done.path == "." or ((node := self._find(done.path)) is not None and isinstance(node, _Folder)):
            folder = self._root if done.path == "." else node
            assert isinstance(folder, _Folder)
            if done.name == "fsync":
                folder.safe = dict(folder.now)
            if done.name != "rmdir" and done.name not in ("replace", "rename"):
                return
        parent, name = self._parent(done.path)
        match done.name:
            case "mkdir":
                parent.now[name] = _Folder()
            case "open":
                parent.now.setdefault(name, _File())
            case "unlink" | "remove" | "rmdir":
                parent.now.pop(name, None)
            case "replace" | "rename":
                new_parent, new_name = self._parent(done.target)
                new_parent.now[new_name] = parent.now.pop(name)
            case "fsync" | "write":
                file = parent.now[name]
                assert isinstance(file, _File)
                file.now = done.content or b""
                if done.name == "fsync":
                    file.safe = file.now

    def write_to(self, folder: Path, state: State) -> None:
        """Write one of the ways in which the disk may be found.

        Args:
            folder: Where to.
            state: `names lost`: nothing but what is safe; `bytes lost`: all names, of the bytes those that are safe; `torn`: and half of
                what was written since.
        """
        _write(self._root, folder, state)

    def _find(self, path: str) -> "_Folder | _File | None":
        parent, name = self._parent(path)
        return parent.now.get(name)

    def _parent(self, path: str) -> tuple[_Folder, str]:
        *folders, name = path.split("/")
        node = self._root
        for part in folders:
            node = node.now[part]  # type: ignore[assignment]
            assert isinstance(node, _Folder)
        return node, name


def _write(folder: _Folder, place: Path, state: State) -> None:
    place.mkdir()
    for name, node in (folder.safe if state == "names lost" else folder.now).items():
        if isinstance(node, _Folder):
            _write(node, place / name, state)
        else:
            unsafe = node.now[len(node.safe) :] if node.now.startswith(node.safe) else b""
            (place / name).write_bytes(node.safe + (unsafe[: len(unsafe) // 2] if state == "torn" else b""))


def logged(name: str, path: str, target: str, root: Path) -> Logged | None:
    """Return an operation as the disk's own, right after it was carried out; None if it is not on this disk."""
    inside = os.path.relpath(path, root)
    if inside.startswith(".."):
        return None
    place = Path(path)
    content = place.read_bytes() if name in ("fsync", "write") and place.is_file() else None
    return Logged(name, inside, os.path.relpath(target, root) if target else "", content)
