"""Which files of a folder are reviews: what programs leave there beside them, and our own results, are not."""

import re
from pathlib import Path

_ENDINGS = (".md", ".part", ".crc", ".quarantine.jsonl", ".quarantine.parquet")
_RESULTS = (".scored.csv", ".scored.jsonl", ".scored.parquet")  # a file, or a folder of parts
_PAGE = re.compile(r"summary(-[0-9TZ]+-\w+)?\.html")
# What Spark, Windows and Excel put beside data. By their whole names: a leading underscore alone is no sign.
_NAMES = frozenset({"_SUCCESS", "_metadata", "_common_metadata", "Thumbs.db", "desktop.ini"})


def visible_files(folder: Path) -> list[Path]:
    """Return the files below a folder that may be reviews, in the order of their paths; a dangling link is one, to be named later."""
    found = (path for path in folder.rglob("*") if is_file(path) and not is_skipped(path.relative_to(folder)))
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def is_file(path: Path) -> bool:
    """Return whether a path is a file, or a link to one that is gone."""
    return path.is_file() or (path.is_symlink() and not path.exists())


def is_skipped(path: Path) -> bool:
    """Return whether a relative path is hidden, or none of reviews."""
    name = path.name
    if name.endswith(_ENDINGS) or name in _NAMES or _PAGE.fullmatch(name) or name.startswith("~$"):
        return True
    return any((part.startswith(".") and part != "..") or part.endswith(_RESULTS) for part in path.parts)
