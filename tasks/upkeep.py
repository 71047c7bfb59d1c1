"""Care of an artifacts folder: hash everything again, and remove what nothing refers to."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import PipelineError
from tasks.model.bundle import MANIFEST, check_bundle
from tasks.model.registry import champion, list_models, models_folder, rollback_target
from tasks.pins import pinned_models
from tasks.schemas import GOLDEN, MEASURE, STEPS
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


def kept_models(store: Store, newest: int | None) -> set[str]:
    """Return the models that stay: all, or with a number the newest ones and those that somebody may need at once.

    Those are the champion, the model that a rollback would bring back, and models that unfinished scoring runs began with.
    """
    records = store.records("train")
    if newest is None:
        return {_model_of(record) for record in records} | set(list_models(store))
    current = champion(store)
    needed = {current.model_id if current else None, rollback_target(store), *(model.model_id for model in pinned_models(store))}
    return {_model_of(record) for record in records[:newest]} | {model_id for model_id in needed if model_id}


def find_garbage(store: Store, newest_models: int | None = None) -> list[Finding]:
    """Return the files that nothing refers to.

    Models that stay (see `kept_models`), what they were made from, and the latest artifact of every step of data stay; drafts of killed
    runs, damaged files that were set aside, and intermediates of no model go. Drafts of runs under way stay, and so do verdicts and pages
    of models that go: they are what is told of them.
    """
    stay = kept_models(store, newest_models)
    keep: set[str] = set()
    records = _all_records(store)
    model_of_train = {record.digest: _model_of(record) for record in records if record.recipe.step == "train"}
    for record in records:
        step = record.recipe.step
        if step in ("train", "evaluate", "promote", "report"):
            model_id = _model_of(record) if step != "evaluate" else model_of_train.get(record.recipe.inputs["train"], "")
            is_root, is_told = model_id in stay, step in ("promote", "report")
        else:
            is_root, is_told = record is _latest(step, records), False
        for kept in store.lineage(record.ref).values() if is_root else [record] if is_told else []:
            keep.update(file.path for file in kept.files)
            keep.add(f"{kept.recipe.step}/{kept.recipe.key}.json")
    garbage = [
        Finding(path.relative_to(store.root).as_posix(), "of a model that is neither needed nor among the newest", path.stat().st_size)
        for model_id in sorted({*list_models(store), *model_of_train.values()} - stay)
        for path in sorted((models_folder(store) / model_id).glob("*"))
    ]
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


def _model_of(record: Record) -> str:
    """Return which model a record of train, promote or report is about."""
    if record.recipe.step == "train":
        return Path(record.files[0].path).parent.name
    return str(record.facts["verdict"]["model_id"]) if record.recipe.step == "promote" else Path(record.files[0].path).stem


def delete_garbage(store: Store, garbage: list[Finding]) -> None:
    """Remove files that `find_garbage` named, seals first, then records, then what they name, and folders left empty."""

    def place(finding: Finding) -> tuple[bool, bool]:
        return Path(finding.path).name != MANIFEST, not finding.path.endswith(".json")

    for finding in sorted(garbage, key=place):
        (store.root / finding.path).unlink(missing_ok=True)
    for parent in {(store.root / finding.path).parent for finding in garbage if finding.path.startswith(("models/", "evaluate/"))}:
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
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
    return [record for step in (GOLDEN, *STEPS, MEASURE) for record in store.records(step)]


def _latest(step: str, records: list[Record]) -> Record:
    return next(record for record in records if record.recipe.step == step)
