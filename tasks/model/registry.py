"""Which model is the champion, and every change of that: `models/champion.json`, swapped atomically, and `models/history.jsonl`."""

import getpass
import json
import os
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tasks.errors import CallerError, MachineError
from tasks.model.bundle import check_bundle
from tasks.model.metrics import PairedDifference
from tasks.store import ArtifactRef, Store, atomic_file, make_folder, sync_folder

_CHAMPION, _HISTORY = "champion.json", "history.jsonl"


@dataclass(frozen=True)
class Promotion:
    """One entry of the history: which model became champion, instead of which, when (UTC), by whom and why."""

    model_id: str
    bundle_sha256: str
    replaced: str | None
    promoted_at: str
    by: str
    reason: str


@dataclass(frozen=True)
class Verdict:
    """What was decided about a model, against which champion, and why.

    Args:
        comparison: This model minus the champion on the rows that neither was trained on; None where there was nothing to compare.
        rows_seen: Test rows left out of the comparison because the champion was trained on them.
    """

    model_id: str
    status: Literal["promoted", "refused"]
    reason: str
    champion_id: str | None
    comparison: PairedDifference | None = None
    rows_seen: int = 0


def models_folder(store: Store) -> Path:
    """Return the folder that holds the bundles and the registry."""
    return store.root / "models"


def champion(store: Store) -> Promotion | None:
    """Return the promotion that made today's champion, or None where nothing was promoted yet."""
    place = models_folder(store) / _CHAMPION
    try:
        return Promotion(**json.loads(place.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise MachineError(f"{place} is damaged. Name the champion anew with `sentiment models promote ID`.") from error


def registry_lock(store: Store) -> AbstractContextManager[None]:
    """Hold this from looking at the champion until it is changed, so that no two runs decide at once."""
    return store.lock("registry", "the model registry")


def promote_model(store: Store, model_id: str, reason: str) -> Promotion:
    """Make a sealed model the champion and note it in the history; the caller holds `registry_lock`.

    Raises:
        CallerError: There is no such sealed bundle.
        MachineError: The bundle is damaged.
    """
    return _promote(store, model_id, _predecessor(store, model_id), reason)


def _promote(store: Store, model_id: str, replaced: str | None, reason: str) -> Promotion:
    if model_id not in list_models(store):
        known = ", ".join(list_models(store)) or "none yet"
        raise CallerError(f"No model {model_id!r} in {models_folder(store)}. Known models: {known}.")
    entry = Promotion(
        model_id,
        check_bundle(models_folder(store) / model_id),
        replaced,
        datetime.now(UTC).isoformat(timespec="seconds"),
        _user_name(),
        reason,
    )
    _append_history(store, asdict(entry))
    with atomic_file(models_folder(store) / _CHAMPION) as file:
        file.write((json.dumps(asdict(entry), indent=1, ensure_ascii=False) + "\n").encode())
    return entry


def roll_back(store: Store, reason: str) -> Promotion:
    """Make the champion's predecessor the champion again; the caller holds `registry_lock`. A second time goes one further back.

    Raises:
        CallerError: There is no predecessor.
    """
    current = champion(store)
    if current is None or current.replaced is None:
        raise CallerError("There is no earlier champion to roll back to. See `sentiment models list`.")
    its_own = [entry.replaced for entry in history(store) if entry.model_id == current.replaced]
    return _promote(store, current.replaced, its_own[-1] if its_own else None, reason)


def verdict_of(decided: ArtifactRef, store: Store) -> Verdict:
    """Read what `promote` decided."""
    return Verdict(**json.loads(store.path(decided).read_text(encoding="utf-8")))


def history(store: Store) -> list[Promotion]:
    """Return every promotion, the first first."""
    try:
        lines = (models_folder(store) / _HISTORY).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        try:
            entries.append(Promotion(**json.loads(line)))
        except (ValueError, TypeError):  # torn by a power cut; champion.json is what counts
            continue
    return entries


def was_undone(store: Store, model_id: str, reason: str) -> bool:
    """Return whether a promotion was carried out before and another model made champion since, by `rollback` for one."""
    return any(entry.model_id == model_id and entry.reason == reason for entry in history(store)[:-1])


def list_models(store: Store) -> list[str]:
    """Return the ids of the sealed models, sorted."""
    return sorted(place.parent.name for place in models_folder(store).glob("*/bundle.json"))


def _predecessor(store: Store, model_id: str) -> str | None:
    """Return whose place a model takes: the champion's, or if it is the champion itself, the one that was there before."""
    try:
        before = champion(store)
    except MachineError:  # promoting is the remedy for a damaged champion.json
        return None
    if before is not None and before.model_id == model_id:
        return before.replaced
    return before.model_id if before else None


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _append_history(store: Store, entry: dict[str, Any]) -> None:
    folder = models_folder(store)
    make_folder(folder)
    descriptor = os.open(folder / _HISTORY, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(descriptor, (json.dumps(entry, ensure_ascii=False) + "\n").encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_folder(folder)
