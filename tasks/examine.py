"""Whether this machine and an artifacts folder are fit for work: one finding a matter, with what was found and what to do about it."""

import os
import platform
import re
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from tasks.login import HOW_TO_LOG_IN, given_login
from tasks.model.registry import champion
from tasks.store import Store
from tasks.upkeep import find_garbage, verify_store

_GB = 1e9
_PYTHONS = ((3, 11), (3, 14))
_DISK_NEEDED, _DISK_WANTED = 0.5 * _GB, 5 * _GB
_MEMORY_WANTED = 2 * _GB
_SHOWN = 5

Verdict = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Examined:
    """One matter: how it stands, what was found, and the remedy if it is not well."""

    matter: str
    verdict: Verdict
    found: str
    remedy: str = ""


def examine(root: Path, lock: Path, api_url: str | None, home: Path, port: int) -> Iterator[Examined]:
    """Yield the findings, the quick ones first.

    Args:
        root: The artifacts folder, which may not be there yet.
        lock: The file that names the packages this version was tested with.
        api_url: Address of the Prefect server that the settings name, if any.
        home: Prefect's own folder, where its temporary server keeps its database.
        port: The port that `sentiment serve` takes.
    """
    yield examine_python()
    yield examine_packages(lock)
    yield examine_processor()
    yield examine_memory()
    yield examine_disk(root)
    yield examine_prefect(api_url, home)
    yield examine_port(port, root)
    if root.is_dir():
        store = Store(root)
        yield examine_locks(store)
        yield examine_leftovers(store)
        yield examine_artifacts(store)
        yield examine_champion(store)
    else:
        yield Examined("artifacts", "ok", f"there is no {root} yet: the first `sentiment train` makes it")


def examine_python(running: tuple[int, int] = (sys.version_info.major, sys.version_info.minor)) -> Examined:
    """Look at Python's version."""
    least, below = _PYTHONS
    found = f"{platform.python_implementation()} {platform.python_version()} in {sys.prefix}"
    if least <= running < below:
        return Examined("python", "ok", found)
    return Examined("python", "problem", found, "Install Python 3.11, 3.12 or 3.13, and make the environment anew with it.")


def examine_packages(lock: Path) -> Examined:
    """Compare the installed packages with the lock file, as far as it speaks of this platform."""
    from packaging.requirements import Requirement

    if not lock.is_file():
        return Examined("packages", "warning", f"there is no {lock.name} beside the code to compare with", "Run from a checkout.")
    wanted = [Requirement(line) for line in re.findall(r"^([A-Za-z0-9][^\\\n]*==[^\\\n]*?)\s*\\?$", lock.read_text(encoding="utf-8"), re.M)]
    wanted = [requirement for requirement in wanted if requirement.marker is None or requirement.marker.evaluate()]
    others = []
    for requirement in wanted:
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            installed = "missing"
        if installed == "missing" or not requirement.specifier.contains(installed, prereleases=True):
            others.append(f"{requirement.name} {installed} instead of {str(requirement.specifier).removeprefix('==')}")
    if not others:
        return Examined("packages", "ok", f"all {len(wanted):,} are as in {lock.name}")
    shown = "; ".join(others[:_SHOWN]) + (f"; … {len(others):,} in all" if len(others) > _SHOWN else "")
    return Examined("packages", "warning", shown, f"pip install -r {lock.name} -c {lock.name}")


def examine_processor() -> Examined:
    """Look at the processor: TensorFlow's wheels for x86 need AVX."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("flags")[2].partition("\n")[0].split())
    except OSError:
        flags = set()
    features = [name for name in ("avx", "avx2", "avx512f") if name in flags]
    found = f"{platform.machine()}, {cores} cores{', ' + ', '.join(features) if features else ''}"
    if flags and "avx" not in flags and platform.machine() in ("x86_64", "AMD64"):
        return Examined("processor", "problem", found, "TensorFlow does not start without AVX. Use another machine, or build TensorFlow.")
    return Examined("processor", "ok", found)


def examine_memory() -> Examined:
    """Look at the memory that is free, where the system tells."""
    try:
        told = dict(re.findall(r"^(\w+):\s+(\d+) kB$", Path("/proc/meminfo").read_text(encoding="utf-8"), re.M))
    except OSError:
        return Examined("memory", "ok", "this system does not tell")
    free, total = int(told["MemAvailable"]) * 1024, int(told["MemTotal"]) * 1024
    found = f"{free / _GB:.1f} of {total / _GB:.1f} GB free"
    if free < _MEMORY_WANTED:
        return Examined(
            "memory", "warning", found, "Training the default model takes about 2 GB. End other programs, or use --preset quick."
        )
    return Examined("memory", "ok", found)


def examine_disk(root: Path) -> Examined:
    """Look whether the artifacts folder, or the nearest one above it that is there, can be written, and how much is free."""
    place = next(folder for folder in (root, *root.parents) if folder.is_dir())
    try:
        with tempfile.TemporaryFile(dir=place) as probe:
            probe.write(b"0")
    except OSError as error:
        return Examined("disk", "problem", f"{place} cannot be written: {error.strerror}", "Mend its permissions, or name --artifacts.")
    free = shutil.disk_usage(place).free
    found = f"{free / _GB:.1f} GB free at {place}"
    remedy = "Free some space (`sentiment gc` names what can go), or name another folder with --artifacts."
    verdict: Verdict = "problem" if free < _DISK_NEEDED else "warning" if free < _DISK_WANTED else "ok"
    return Examined("disk", verdict, found, "" if verdict == "ok" else remedy)


def examine_prefect(api_url: str | None, home: Path) -> Examined:
    """Look whether the Prefect server that is named answers and reaches its database; if none is, at the temporary one's database."""
    import httpx

    if api_url:
        remedy = "Start it, or unset PREFECT_API_URL to use a temporary server."
        try:
            told = httpx.get(f"{api_url}/admin/version", auth=given_login(), timeout=10).raise_for_status().json()
            httpx.post(f"{api_url}/flows/count", json={}, auth=given_login(), timeout=10).raise_for_status()
        except httpx.HTTPStatusError as error:
            if error.response.status_code == httpx.codes.UNAUTHORIZED:
                return Examined("prefect", "problem", f"{api_url} asks for a login", HOW_TO_LOG_IN)
            return Examined("prefect", "problem", f"{api_url} answers {error.response.status_code}", f"See the server's log. {remedy}")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            return Examined("prefect", "problem", f"{api_url} does not answer ({type(error).__name__})", remedy)
        if told != version("prefect"):
            found = f"the server at {api_url} is {told}, this is {version('prefect')}"
            return Examined("prefect", "warning", found, "Use the same version on both sides.")
        return Examined("prefect", "ok", f"{told} at {api_url}, its database answers")
    database = home / "prefect.db"
    if not database.is_file():
        return Examined("prefect", "ok", "no server is named: each command starts a temporary one, the first makes its database")
    try:
        connection = sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=5)
        try:
            (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        state = str(error)
    if state != "ok":
        return Examined("prefect", "problem", f"{database}: {state}", "Move that file away: it holds the history of runs, no result.")
    return Examined("prefect", "ok", f"no server is named: each command starts a temporary one on {database}, which is sound")


def examine_port(port: int, root: Path) -> Examined:
    """Look whether `sentiment serve` could listen, or does already."""
    import socket

    served = root / "prefect" / "serving.json"
    with socket.socket() as probe:
        probe.settimeout(2)
        taken = probe.connect_ex(("127.0.0.1", port)) == 0
    if served.is_file() and _is_held(root / "prefect" / "serving.lock"):
        return Examined("port", "ok", f"`sentiment serve` runs: {served.read_text(encoding='utf-8')}")
    if taken:
        return Examined("port", "warning", f"{port} is in use by another program", "sentiment serve --port N")
    return Examined("port", "ok", f"{port} is free for `sentiment serve`")


def examine_locks(store: Store) -> Examined:
    """Look which locks are held. Each ends with its process, so that none can be left behind: who holds one is at work, or hangs."""
    held = [path.stem for path in sorted((store.root / "locks").glob("*.lock")) if _is_held(path)]
    if held:
        found = f"{len(held)} held by runs under way: {', '.join(held[:_SHOWN])}"
        return Examined("locks", "warning", found, "Wait for these runs, or end their processes; a lock ends with its process.")
    return Examined("locks", "ok", "none is held")


def _is_held(path: Path) -> bool:
    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def examine_leftovers(store: Store) -> Examined:
    """Look for what killed runs left behind."""
    garbage = find_garbage(store)
    kinds = {"files of killed runs": "tmp/", "damaged files, set aside": "set_aside/"}
    left = {kind: [finding.size for finding in garbage if finding.path.startswith(folder)] for kind, folder in kinds.items()}
    told = [f"{len(sizes):,} {kind}, {sum(sizes) / 1e6:,.1f} MB" for kind, sizes in left.items() if sizes]
    if told:
        return Examined("leftovers", "warning", "; ".join(told), "sentiment gc --delete")
    return Examined("leftovers", "ok", "killed runs left nothing")


def examine_artifacts(store: Store) -> Examined:
    """Hash every artifact again."""
    checked, damaged = verify_store(store)
    if damaged:
        found = f"{len(damaged):,} of {checked:,} files are damaged: {', '.join(finding.path for finding in damaged[:_SHOWN])}"
        return Examined(
            "artifacts", "problem", found, "A run of the same data and settings makes them again; `sentiment verify` lists them."
        )
    return Examined("artifacts", "ok", f"{checked:,} files hashed, all as they were written")


def examine_champion(store: Store) -> Examined:
    """Look whether there is a model to score with, and open it."""
    from tasks.errors import PipelineError
    from tasks.model.bundle import load_bundle
    from tasks.model.registry import models_folder

    try:
        current = champion(store)
        if current is None:
            return Examined("champion", "ok", "none yet: `sentiment train` makes one")
        if load_bundle(models_folder(store) / current.model_id).manifest_sha256 == current.bundle_sha256:
            return Examined("champion", "ok", f"{current.model_id}, since {current.promoted_at}")
        found = f"{current.model_id} is not the bundle that was promoted"
    except PipelineError as error:
        found = str(error)
    return Examined("champion", "problem", found, "sentiment models rollback --reason …, or models promote ID --reason …")
