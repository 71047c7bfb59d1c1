"""reproduce: finds what a model was trained on, and says how a model that was made again differs from the original."""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tasks.errors import CallerError, DataError, PipelineError
from tasks.fingerprint import sha256_of_file
from tasks.model import bundle
from tasks.model.origin import Origin
from tasks.outcome import log_step
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.sample import SampleSettings
from tasks.reviews.sources import IMDB, resolve_sources
from tasks.schemas import GOLDEN, SAMPLE
from tasks.store import ArtifactRef, Draft, Record, Store

# What was found out about a model, and how it came to be: files, and entries of other files.
_NOT_COMPARED = {bundle.METRICS, bundle.CARD, bundle.MANIFEST, bundle.ORIGIN}
_TOLD = {"seconds", "model_id", "trained_on"}
_NAMED = 3
_ABSENT = object()


@dataclass(frozen=True)
class Comparison:
    """How two bundles differ.

    Args:
        tensors: How many weight tensors the original has.
        other_tensors: Those that are not the same bit for bit, by name: how they differ, in words.
        files: How many files were compared, the weights among them.
        other_files: Those that do not say the same, by name: how they differ, in words.
    """

    tensors: int
    other_tensors: dict[str, str]
    files: int
    other_files: dict[str, str]

    @property
    def identical(self) -> bool:
        """Whether it is the same model bit for bit."""
        return not self.other_tensors and not self.other_files


def compare_bundles(original: Path, again: Path) -> Comparison:
    """Compare the files that training writes; the second bundle need not be sealed.

    How long it took, the model's name and what it tells of its sources do not count.
    """
    folders = original, again
    names = sorted({path.name for folder in folders for path in folder.iterdir() if not path.name.startswith(".")} - _NOT_COMPARED)
    other_files = {name: how for name in names if (how := _compare_files(original / name, again / name))}
    mine, others = (_tensors(folder) for folder in folders)
    tensors = sorted(mine.keys() | others.keys())
    other_tensors = {name: how for name in tensors if (how := _compare_arrays(mine.get(name), others.get(name)))}
    return Comparison(len(mine), other_tensors, len(names), other_files)


def _tensors(folder: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(folder / bundle.WEIGHTS)


def _compare_files(original: Path, again: Path) -> str:
    """Return how two files differ, in words; nothing if they say the same."""
    if not original.is_file() or not again.is_file():
        return f"only in the {'original' if original.is_file() else 'new'} bundle"
    if sha256_of_file(original) == sha256_of_file(again):
        return ""
    if original.suffix == ".json":
        return _compare_json(*(json.loads(path.read_text(encoding="utf-8")) for path in (original, again)))
    if original.suffix == ".npy":
        return _compare_arrays(*(np.load(path, allow_pickle=False) for path in (original, again)))
    return "other bytes"


def _compare_arrays(original: np.ndarray | None, again: np.ndarray | None) -> str:
    if original is None or again is None:
        return f"only in the {'original' if original is not None else 'new'} bundle"
    if original.shape != again.shape or original.dtype != again.dtype:
        return f"{original.dtype} {original.shape} → {again.dtype} {again.shape}"
    if original.tobytes() == again.tobytes():
        return ""
    other = original != again
    difference = np.abs(original.astype(np.float64) - again.astype(np.float64))
    return f"{other.sum():,} of {other.size:,} values differ, by up to {np.max(difference):.2g}"


def _compare_json(original: Any, again: Any) -> str:
    """Say where two files differ, and by how much where that is a number; never what words they hold."""
    mine, others = dict(_leaves(original)), dict(_leaves(again))
    other = [name for name in mine | others if mine.get(name, _ABSENT) != others.get(name, _ABSENT)]
    if not other:
        return ""
    numbers = [abs(mine[name] - others[name]) for name in other if _is_number(mine.get(name)) and _is_number(others.get(name))]
    by = f", by up to {max(numbers):.2g}" if len(numbers) == len(other) else ""
    return f"{len(other):,} of {len(mine):,} values differ{by}: {', '.join(other[:_NAMED])}{', …' if len(other) > _NAMED else ''}"


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        entries: Sequence[tuple[Any, Any]] = [(key, child) for key, child in value.items() if key not in _TOLD]
    elif isinstance(value, list):
        entries = list(enumerate(value))
    else:
        yield place, value
        return
    for key, child in entries:
        yield from _leaves(child, f"{place}.{key}" if place else str(key))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def judge(comparison: Comparison, *, explained: bool, accuracy: float | None, interval: Sequence[float] | None) -> "Judgement":
    """Say what a comparison comes to.

    Args:
        comparison: Of the two bundles.
        explained: Whether code, settings, libraries, processor or data differ, so that other bits were to be expected.
        accuracy: Of the new model on the test rows; None if it was not measured.
        interval: The original's confidence interval of that; None if it has none.
    """
    if comparison.identical:
        return Judgement("identical", "the model was made again, identical bit for bit")
    if not explained:
        return Judgement("different", "nothing that is known to count differs, and yet the bits do")
    if accuracy is None or interval is None:
        return Judgement("different", "other bits, and no interval to judge the test accuracy by")
    low, high = interval
    within = low <= accuracy <= high
    where = f"test accuracy {accuracy:.2%} is {'within' if within else 'outside'} the original's interval, {low:.2%} to {high:.2%}"
    return Judgement("equivalent" if within else "different", f"other bits, as could be expected; {where}")


@dataclass(frozen=True)
class Judgement:
    """Identical (every bit), equivalent (other bits, as good) or different, and why."""

    status: Literal["identical", "equivalent", "different"]
    reason: str


def original_sources(origin: Origin, step: str, given: Sequence[str], reader: ReaderSettings, store: Store) -> list[str] | Record:
    """Return the names of the sources that a step read for a model, or the record of its rows where the store still has those.

    Args:
        origin: What made the model.
        step: One that reads sources.
        given: Where the caller says they are; where the original run was told they are if empty.
        reader: How files are read.
        store: Where the original run was.

    Raises:
        CallerError: It is not known where they are.
        DataError: They are gone or changed, and so are their rows.
    """
    expected = origin.sources(step)
    record = next((record for record in store.records(step) if record.files[0].sha256 == origin.steps[step].sha256), None)
    names = list(given) or (record.facts["given"] if record else [])
    if not names and set(expected) <= {SAMPLE, IMDB}:
        names = list(expected)
    problem = _what_is_wrong(names, expected, origin.sample, reader, store)
    if not problem:
        return names
    problem = f"{problem} Expected {_with_digests(expected)}."
    if record and not given and all(store.is_intact(file) for file in record.files):
        log_step(step, f"{problem} Their rows are still in the store, and whole: going on from those")
        return record
    where = {"ingest": "train SOURCE …", GOLDEN: "train --golden-test FILE", "unlabelled": "train --unlabelled SOURCE …"}[step]
    remedy = f"Say where they lie, in this order: sentiment {where} --reproduce MODEL_ID."
    raise DataError(f"{problem} {remedy}") if names else CallerError(f"{problem} {remedy}")


def _what_is_wrong(
    names: Sequence[str], expected: Mapping[str, str], sample: Mapping[str, Any] | None, reader: ReaderSettings, store: Store
) -> str:
    """Return what keeps the named sources from being the original ones, in words; nothing if they are."""
    if not names:
        return "The bundle does not tell where the model's sources lie, and the store does not either."
    generated = SampleSettings(**sample) if sample else SampleSettings()
    try:
        found = {source.name: source.digest() for source in resolve_sources(names, store.root / "downloads", generated, reader)}
    except PipelineError as error:
        return f"The sources cannot be read: {error}"
    if list(found.values()) == list(expected.values()):
        return ""
    return f"The sources are not those that the model was trained on: found {_with_digests(found)}."


def _with_digests(sources: Mapping[str, str]) -> str:
    return "; ".join(f"{name} with SHA-256 {sha256}" for name, sha256 in sources.items())


def copy_artifact(record: Record, source: Store, target: Store) -> ArtifactRef:
    """Take an artifact over into another store."""

    def write(draft: Draft) -> None:
        for stored in record.files:
            with source.path(stored).open("rb") as file:
                shutil.copyfileobj(file, draft.open(stored.path))
        draft.rows = record.rows
        draft.facts.update(record.facts)

    return target.make(record.recipe, write).ref
