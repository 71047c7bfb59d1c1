"""Every step that Python code takes on the file system, as it takes it: to die there, to fail there, or to write it down."""

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.store import HashingFile

_BY_PATH = ("unlink", "remove", "rmdir", "mkdir", "open")
_BY_TWO_PATHS = ("replace", "rename")
_BY_DESCRIPTOR = ("fsync", "write", "ftruncate")
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Operation:
    """One step on the file system.

    Args:
        name: The function of `os` it is; `append` for what goes into a file's buffer.
        path: Of the file or folder, absolute.
        target: Where `replace` and `rename` lead.
        writes: Whether an `open` may change the file.
    """

    name: str
    path: str
    target: str = ""
    writes: bool = True


def watch_operations(before: Callable[[Operation], None], after: Callable[[Operation], None] = lambda _: None) -> None:
    """Have `before` called with each operation of this process until it ends, and `after` with those that went well."""

    def watched(real: Callable[..., Any], describe: Callable[..., Operation]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            operation = describe(*arguments, **options)
            before(operation)
            result = real(*arguments, **options)
            after(operation)
            return result

        return call

    def by_path(name: str) -> Callable[..., Operation]:
        def describe(path: Any, flags: Any = 0, *_: Any, dir_fd: int | None = None, **__: Any) -> Operation:
            return Operation(name, _absolute(path, dir_fd), writes=name != "open" or bool(flags & _WRITES))

        return describe

    def by_two_paths(name: str) -> Callable[..., Operation]:
        return lambda source, target: Operation(name, _absolute(source), _absolute(target))

    def by_descriptor(name: str) -> Callable[..., Operation]:
        return lambda descriptor, *_: Operation(name, str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    for names, kind in ((_BY_PATH, by_path), (_BY_TWO_PATHS, by_two_paths), (_BY_DESCRIPTOR, by_descriptor)):
        for name in names:
            setattr(os, name, watched(getattr(os, name), kind(name)))
    real_open = io.open
    io.open = watched(real_open, lambda path, mode="r", *_, **__: Operation("open", _absolute(path), writes=mode[0] in "wax"))  # type: ignore[assignment]
    real_write = HashingFile.write

    def write(self: HashingFile, data: bytes) -> int:
        before(Operation("append", str(Path(f"/proc/self/fd/{self._file.fileno()}").readlink())))
        return real_write(self, data)

    HashingFile.write = write  # type: ignore[method-assign]


def _absolute(path: Any, dir_fd: int | None = None) -> str:
    if isinstance(path, int):
        return str(Path(f"/proc/self/fd/{path}").readlink())
    folder = str(Path(f"/proc/self/fd/{dir_fd}").readlink()) if dir_fd is not None else str(Path.cwd())
    return str(Path(folder) / os.fspath(path))
