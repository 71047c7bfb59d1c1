"""The one model of a run, to the bit; noted until the run has ended, so that a killed one goes on with the model it began with."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from tasks.store import Store, atomic_file


@dataclass(frozen=True)
class PinnedModel:
    """A model's name, and the SHA-256 of its `bundle.json`."""

    model_id: str
    bundle_sha256: str


def pin(model: PinnedModel, job: str, store: Store) -> PinnedModel:
    """Return the model that an unfinished run of the same job began with; if there is none, note this one.

    Args:
        model: What the run would take.
        job: A digest of what the run is asked to do, whatever the model.
    """
    with store.lock("pins", "the models of unfinished runs"):
        noted = _read(_place(job, store))
        if noted is not None:
            return noted
        with atomic_file(_place(job, store)) as file:
            file.write(json.dumps(asdict(model)).encode())
    return model


def unpin(job: str, store: Store) -> None:
    """Forget a job that has come to its end, good or bad."""
    _place(job, store).unlink(missing_ok=True)


def pinned_models(store: Store) -> list[PinnedModel]:
    """Return the models that unfinished runs began with."""
    found = (_read(place) for place in sorted((store.root / "score").glob("*.pin.json")))
    return [model for model in found if model is not None]


def _place(job: str, store: Store) -> Path:
    return store.root / "score" / f"{job}.pin.json"


def _read(place: Path) -> PinnedModel | None:
    try:
        return PinnedModel(**json.loads(place.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
