"""Files behind an address (`s3://`, `gs://`, `az://`, whatever fsspec reaches), copied here once and read as local ones.

A copy is what makes a remote file safe to score: it cannot change half-way, a run that was killed does not fetch it again, and every
format can be read, also those that need to jump about in it.
"""

import errno
import glob
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.errors import CallerError, DataError, MachineError, PipelineError
from tasks.fingerprint import sha256_of_file, sha256_of_json
from tasks.progress import row_progress
from tasks.reviews.folders import is_skipped
from tasks.store import make_folder

# protocol → the extra of this project, and the package that it installs
_EXTRAS = {
    **dict.fromkeys(("s3", "s3a"), ("s3", "s3fs")),
    **dict.fromkeys(("gs", "gcs"), ("gcs", "gcsfs")),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), ("azure", "adlfs")),
}
# What a store says of a file that changes when its content does; without any of these it is fetched every time.
_MARKS = ("etag", "mtime", "lastmodified", "last_modified", "updated", "created", "generation", "version_id", "md5hash")
_BLOCK_BYTES = 4 << 20


def is_remote(pattern: str) -> bool:
    """Return whether a name is an address and not a path."""
    return re.match(r"[a-z][a-z0-9+.-]+://", pattern, re.IGNORECASE) is not None


def fetch_files(address: str, downloads: Path) -> tuple[Path, dict[Path, str]]:
    """Copy what an address names (a file, all below a folder, a glob) into a folder of its own, what is there unchanged excepted.

    Args:
        address: Such as `s3://bucket/exports/*.csv.gz`.
        downloads: The folder for downloads.

    Returns:
        The folder, and the copies below it under their names as seen from the address, each with the address of its own; what is left
        out of a folder is not fetched.

    Raises:
        CallerError: The address names nothing, or the package that reaches it is missing.
        MachineError: The network, the store or the credentials are in the way.
    """
    system, path = _connect(address)
    with _reaching(address):
        place, listed = _list_files(system, path)
    base = downloads / "remote" / sha256_of_json(address)[:16]
    copies = {}
    for name, info in sorted(listed.items()):
        parts = name.split("/")
        if parts[-1] == "" and not info.get("size"):
            continue  # how some stores keep an empty folder
        if {"", ".", ".."} & set(parts):
            raise DataError(f"{_shown(address)} holds a file named {name!r}, which cannot be copied. Rename it.")
        if len(listed) > 1 and is_skipped(Path(name)):
            continue
        copies[base / name] = f"{address.partition('://')[0]}://{place}/{name}"
        _fetch(system, info, base / name, address)
    for left in base.rglob("*"):
        if left.is_file() and left not in copies and not left.name.startswith("."):
            left.unlink()  # it is not there any more
    return base, copies


def _connect(address: str) -> tuple[Any, str]:
    import fsspec

    protocol = address.partition("://")[0].lower()
    try:
        with _reaching(address):
            system, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
    except ImportError as error:
        extra, package = _EXTRAS.get(protocol, (None, None))
        how = f"install the extra `{extra}` (pip install {package})" if extra else f"{error}"
        raise CallerError(f"{_shown(address)} cannot be read yet: {how}. Or copy the file here and name the copy.") from error
    except ValueError as error:
        raise CallerError(
            f"{_shown(address)} is no address that can be read. Expected s3://, gs:// or az://, or the path of a local file."
        ) from error
    return system, str(path)


def _list_files(system: Any, path: str) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return the place that names are seen from (of a glob, before its first wildcard), and what the store says of each file by name."""
    if glob.has_magic(path) and not system.exists(path):
        found = system.glob(path, detail=True)
        plain = path[: re.search(r"[*?\[]", path).start()]  # type: ignore[union-attr]
        base = plain.rpartition("/")[0]
    elif system.isfile(path):
        found, base = {path: system.info(path)}, path.rpartition("/")[0]
    else:
        found, base = system.find(path, detail=True), path.rstrip("/")
    return base, {name[len(base) :].removeprefix("/"): info for name, info in found.items() if info["type"] == "file"}


def _fetch(system: Any, info: dict[str, Any], copy: Path, address: str) -> None:
    marks = {key: str(value) for key, value in info.items() if key.lower() in _MARKS}
    wanted = {"size": info.get("size"), "marks": marks}
    record = copy.with_name(f".{copy.name}.fetched")
    if marks and _is_fetched(copy, record, wanted):
        return
    make_folder(copy.parent)
    part = copy.with_name(f".{copy.name}.{os.getpid()}.part")
    try:
        with (
            _reaching(address),
            row_progress(f"fetch {copy.name}", info.get("size"), "bytes") as advance,
            system.open(info["name"], "rb") as source,
            part.open("wb") as target,
        ):
            while block := source.read(_BLOCK_BYTES):
                target.write(block)
                advance(len(block))
        if wanted["size"] not in (None, part.stat().st_size):
            raise MachineError(
                f"{copy.name} of {_shown(address)} came with {part.stat().st_size:,} of {wanted['size']:,} bytes. Run again."
            )
        record.unlink(missing_ok=True)
        digest = sha256_of_file(part)
        part.replace(copy)
        record.write_text(json.dumps({**wanted, "sha256": digest}), encoding="utf-8")
    finally:
        part.unlink(missing_ok=True)


def _is_fetched(copy: Path, record: Path, wanted: dict[str, Any]) -> bool:
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        return wanted == {key: known[key] for key in wanted} and known["sha256"] == sha256_of_file(copy)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    """Turn what a store's library raises (each has its own classes) into an error with a remedy, without the library's text."""
    try:
        yield
    except (PipelineError, ImportError, ValueError):
        raise
    except FileNotFoundError as error:
        raise CallerError(f"There is no such file, folder or match: {_shown(address)!r}. Check the address.") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise MachineError(f"The disk is full: {_shown(address)} cannot be copied here. Make room and run again.") from error
        raise MachineError(
            f"{_shown(address)} could not be fetched ({type(error).__name__}). Check the address, the network and the credentials, "
            "or copy the file here and name the copy."
        ) from error


def _shown(address: str) -> str:
    """Return the address as messages may show it: a signed one carries a secret after its question mark."""
    protocol, _, rest = address.partition("://")
    return f"{protocol}://{rest.partition('?')[0].rpartition('@')[2]}" if "http" in protocol else address
