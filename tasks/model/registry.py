"""Which model is the champion, and every decision about that: `models/champion.json`, swapped atomically, and `models/history.jsonl`."""

import getpass
import json
import os
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from tasks.errors import CallerError, MachineError
from tasks.json_text import parse_json
from tasks.model.bundle import check_bundle
from tasks.model.gate import Ruling
from tasks.model.metrics import PairedDifference
from tasks.store import ArtifactRef, Store, atomic_file, make_folder, sync_folder, writing

_CHAMPION, _HISTORY = "champion.json", "history.jsonl"


Event = Literal["promoted", "forced", "by hand", "rolled back", "refused"]


@dataclass(frozen=True)
class Promotion:
    """One entry of the history: which model became champion, instead of which, when (UTC), by whom and why.

    Args:
        event: How it came about. A refusal is kept too: then nothing was replaced, and `replaced` names the champion that stayed.
        rules: What the gate found, rule by rule; empty where nobody asked it.
        since_better: What this champion and those before it have won or lost in accuracy since the last sure improvement.
        run: The training run that decided; empty where a command did.
    """

    model_id: str
    bundle_sha256: str
    replaced: str | None
    promoted_at: str
    by: str
    reason: str
    event: Event = "promoted"
    rules: list[Ruling] = field(default_factory=list)
    since_better: float = 0.0
    run: str = ""

    @classmethod
    def from_json(cls, raw: Any) -> "Promotion":
        """Read an entry as `asdict` gives it.

        Raises:
            TypeError, AttributeError: It is not one.
        """
        return cls(**{**raw, "rules": [Ruling(**rule) for rule in raw.get("rules", ())]})


@dataclass(frozen=True)
class Verdict:
    """What was decided about a model, against which champion, and why.

    Args:
        comparison: This model minus the champion on the rows that neither was trained on; None where there was nothing to compare.
        rows_seen: Test rows left out of the comparison because the champion was trained on them.
        rules: What the gate found, rule by rule.
        forced: Whether somebody's reason overrode the rules.
        since_better: As in `Promotion`, should the model be promoted.
    """

    model_id: str
    status: Literal["promoted", "refused"]
    reason: str
    champion_id: str | None
    comparison: PairedDifference | None = None
    rows_seen: int = 0
    rules: list[Ruling] = field(default_factory=list)
    forced: bool = False
    since_better: float = 0.0


def models_folder(store: Store) -> Path:
    """Return the folder that holds the bundles and the registry."""
    return store.root / "models"


def champion(store: Store) -> Promotion | None:
    """Return the promotion that made today's champion, or None where nothing was promoted yet."""
    place = models_folder(store) / _CHAMPION
    try:
        return Promotion.from_json(parse_json(place.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, AttributeError) as error:
        raise MachineError(f"{place} is damaged. Name the champion anew with `sentiment models promote ID`.") from error


def champion_id(store: Store) -> str | None:
    """Return the id of today's champion, or None where there is none that can be told."""
    current = _readable_champion(store)
    return current.model_id if current else None


def is_champion(store: Store, model_id: str) -> bool:
    """Return whether a model is today's champion."""
    current = champion(store)
    return current is not None and current.model_id == model_id


def was_promoted_by_this_run(store: Store, model_id: str) -> bool:
    """Return whether the store's run made the model champion, whoever has become it since."""
    return bool(store.run_id) and any(entry.run == store.run_id and entry.model_id == model_id for entry in history(store))


def registry_lock(store: Store) -> AbstractContextManager[None]:
    """Hold this from looking at the champion until it is changed, so that no two runs decide at once."""
    return store.lock("registry", "the model registry")


def promote_model(store: Store, model_id: str, reason: str, verdict: Verdict | None = None) -> Promotion:
    """Make a sealed model the champion and note it in the history; the caller holds `registry_lock`.

    Args:
        store: The artifacts folder.
        model_id: The model.
        reason: Why; it cannot be blank.
        verdict: What the gate decided; None where somebody promotes by hand.

    Raises:
        CallerError: There is no such sealed bundle, or no reason.
        MachineError: The bundle is damaged.
    """
    check_reason(reason)
    event: Event = "by hand" if verdict is None else "forced" if verdict.forced else "promoted"
    return _promote(store, model_id, _predecessor(store, model_id), reason, event, verdict)


def note_refusal(store: Store, verdict: Verdict) -> None:
    """Keep a refusal in the history; the champion stays."""
    _append_history(store, asdict(_entry(store, verdict.model_id, verdict.champion_id, verdict.reason, "refused", verdict)))


def check_reason(reason: str | None) -> None:
    """Refuse a blank reason: whoever overrides the gate or the champion tells those who come later why.

    Raises:
        CallerError: There are only spaces.
    """
    if reason is not None and not reason.strip():
        raise CallerError("The reason is blank. Say in a few words why: it is kept in the history of the models.")


def _promote(store: Store, model_id: str, replaced: str | None, reason: str, event: Event, verdict: Verdict | None = None) -> Promotion:
    if model_id not in list_models(store):
        known = ", ".join(list_models(store)) or "none yet"
        raise CallerError(f"No model {model_id!r} in {models_folder(store)}. Known models: {known}.")
    entry = _entry(store, model_id, replaced, reason, event, verdict)
    _append_history(store, asdict(entry))
    with atomic_file(models_folder(store) / _CHAMPION) as file:
        file.write((json.dumps(asdict(entry), indent=1, ensure_ascii=False) + "\n").encode())
    return entry


def _entry(store: Store, model_id: str, replaced: str | None, reason: str, event: Event, verdict: Verdict | None) -> Promotion:
    return Promotion(
        model_id,
        check_bundle(models_folder(store) / model_id),
        replaced,
        datetime.now(UTC).isoformat(timespec="seconds"),
        _user_name(),
        reason,
        event,
        verdict.rules if verdict else [],
        verdict.since_better if verdict else 0.0,
        store.run_id,
    )


def roll_back(store: Store, reason: str) -> Promotion:
    """Make the champion's predecessor the champion again; the caller holds `registry_lock`. A second time goes one further back.

    Raises:
        CallerError: There is no predecessor, or no reason.
    """
    check_reason(reason)
    target = rollback_target(store)
    if target is None:
        raise CallerError("There is no earlier champion to roll back to. See `sentiment models list`.")
    its_own = [entry.replaced for entry in history(store) if entry.model_id == target]
    return _promote(store, target, its_own[-1] if its_own else None, reason, "rolled back")


def rollback_target(store: Store) -> str | None:
    """Return the model that `roll_back` would make champion, or None."""
    current = champion(store)
    return current.replaced if current else None


def verdict_of(decided: ArtifactRef, store: Store) -> Verdict:
    """Read what `promote` decided."""
    raw = json.loads(store.path(decided).read_text(encoding="utf-8"))
    return Verdict(**{**raw, "rules": [Ruling(**rule) for rule in raw["rules"]]})


def history(store: Store) -> list[Promotion]:
    """Return every promotion, the first first."""
    return [entry for entry in decisions(store) if entry.event != "refused"]


def decisions(store: Store) -> list[Promotion]:
    """Return every promotion and every refusal, the first first."""
    try:
        lines = (models_folder(store) / _HISTORY).read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        try:
            entries.append(Promotion.from_json(parse_json(line.decode())))
        except (ValueError, TypeError, AttributeError):  # torn by a power cut, or damaged; champion.json is what counts
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
    before = _readable_champion(store)
    if before is not None and before.model_id == model_id:
        return before.replaced
    return before.model_id if before else None


def _readable_champion(store: Store) -> Promotion | None:
    try:
        return champion(store)
    except MachineError:  # promoting is the remedy for a damaged champion.json
        return None


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _append_history(store: Store, entry: dict[str, Any]) -> None:
    folder = models_folder(store)
    make_folder(folder)
    with writing(folder / _HISTORY):
        descriptor = os.open(folder / _HISTORY, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            torn = os.fstat(descriptor).st_size > 0 and os.lseek(descriptor, -1, os.SEEK_END) >= 0 and os.read(descriptor, 1) != b"\n"
            # After a line that a power cut tore, the next begins a line of its own.
            os.write(descriptor, (torn * "\n" + json.dumps(entry, ensure_ascii=False) + "\n").encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(folder)
