"""Care of an artifacts folder: hash everything again, and remove what nothing refers to."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import PipelineError
from tasks.model.bundle import check_bundle
from tasks.model.registry import list_models, models_folder
from tasks.schemas import GOLDEN, STEPS
from tasks.store import Record, Store

_DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be, or may go: its path relative to the artifacts root, why, and its size in bytes."""

    path: str
    why: str
    size: int = 0


def verify_store(store: Store) -> tuple[int, list[Finding]]:
    """Hash every recorded file and every sealed bundle again.

    Returns:
        How many files were hashed, and those that are missing or damaged. Nothing is changed.
    """
    checked, found = 0, []
    claimed: set[str] = set()
    for record in _all_records(store):
        latest = [file for file in record.files if file.path not in claimed]  # a model evaluated again has its seal replaced
        claimed.update(file.path for file in latest)
        for file in latest:
            checked += 1
            if not store.is_intact(file):
                found.append(Finding(file.path, f"missing or not what the record of {record.recipe.step} says", file.size))
    for model_id in list_models(store):
        folder = models_folder(store) / model_id
        checked += len(list(folder.iterdir()))
        try:
            check_bundle(folder)
        except PipelineError as error:
            found.append(Finding(f"models/{model_id}", str(error)))
    return checked, list({finding.path: finding for finding in found}.values())


def find_garbage(store: Store) -> list[Finding]:
    """Return the files that nothing refers to.

    Models, what they were made from, and the latest artifact of every step stay; drafts of killed runs, damaged files that were set
    aside, and intermediates of no model go. Drafts of runs under way stay.
    """
    keep: set[str] = set()
    records = _all_records(store)
    for record in records:
        is_root = record.recipe.step in ("train", "evaluate", "promote", "report") or record is _latest(record.recipe.step, records)
        if is_root:
            for kept in store.lineage(record.ref).values():
                keep.update(file.path for file in kept.files)
                keep.add(f"{kept.recipe.step}/{kept.recipe.key}.json")
    garbage = []
    for step in (GOLDEN, *STEPS):
        for path in sorted((store.root / step).rglob("*")):
            name = path.relative_to(store.root).as_posix()
            if path.is_file() and name not in keep:
                garbage.append(Finding(name, "no model stands on it and it is not the latest", path.stat().st_size))
    for folder in ("tmp", "set_aside"):
        for path in sorted((store.root / folder).rglob("*")):
            if path.is_file() and not _is_being_written(path, store):
                garbage.append(Finding(path.relative_to(store.root).as_posix(), f"left in {folder}", path.stat().st_size))
    return garbage


def delete_garbage(store: Store, garbage: list[Finding]) -> None:
    """Remove files that `find_garbage` named, records before what they name, and folders left empty."""
    for finding in sorted(garbage, key=lambda finding: not finding.path.endswith(".json")):
        (store.root / finding.path).unlink(missing_ok=True)
    for folder in (store.root / "tmp").glob("*"):
        if not _is_being_written(folder, store) and not any(path.is_file() for path in folder.rglob("*")):
            shutil.rmtree(folder)


def _is_being_written(path: Path, store: Store) -> bool:
    """Return whether a file is in the draft or workshop, `tmp/<pid>-…`, of a process that is alive (on Windows: is less than a day old)."""
    if os.name != "posix":  # os.kill(pid, 0) would interrupt the process there
        return time.time() - path.stat().st_mtime < _DAY_SECONDS
    pid = path.relative_to(store.root).parts[1].partition("-")[0]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _all_records(store: Store) -> list[Record]:
    return [record for step in (GOLDEN, *STEPS) for record in store.records(step)]


def _latest(step: str, records: list[Record]) -> Record:
    return next(record for record in records if record.recipe.step == step)
