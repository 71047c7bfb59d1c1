import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tiny import write_reviews, write_row

from tasks.errors import CallerError, DataError
from tasks.ingest import IngestSettings, ingest_artifact
from tasks.model.origin import Machine, Origin, StepOrigin
from tasks.reproduce import Comparison, compare_bundles, copy_artifact, judge, original_sources
from tasks.reviews.readers import ReaderSettings
from tasks.store import Record, Store

READER = ReaderSettings()
WEIGHTS = {"lstm/kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "linear/bias": np.zeros(1, np.float32)}
TRAINING = {"trained_on": {"rows": 9}, "history": [{"loss": 0.5, "seconds": 3.2}], "stack": {"weights": {"lstm": 1.0}}}
SAME, OTHER = Comparison(2, {}, 5, {}), Comparison(2, {"lstm/kernel": "1 of 6 values differ"}, 5, {})


def bundle(folder: Path, **changes: Any) -> Path:
    """Write a folder with the kinds of files that a bundle holds."""
    folder.mkdir()
    save_file(changes.get("weights", WEIGHTS), folder / "weights.safetensors")
    np.save(folder / "seen.npy", changes.get("seen", np.arange(3, dtype=np.uint64)))
    texts = {"training": TRAINING, "vocabulary": {"tokens": ["good", "bad"]}, "settings": {"model_id": folder.name}, "metrics": folder.name}
    for name, value in (texts | changes).items():
        if name not in ("weights", "seen"):
            (folder / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def test_bundles_that_say_the_same_are_identical(tmp_path: Path) -> None:
    """The model's name, what it tells of its sources, how long it took, its metrics, card, origin and seal do not count."""
    original = bundle(tmp_path / "original", origin={"threads": 2}, bundle={"files": {}})
    slower = TRAINING | {"trained_on": {"rows": 10}, "history": [{"loss": 0.5, "seconds": 99.0}]}
    again = bundle(tmp_path / "again", training=slower)
    (original / "MODEL_CARD.md").write_text("good", encoding="utf-8")

    assert compare_bundles(original, again) == Comparison(2, {}, 5, {})
    assert compare_bundles(original, again).identical


def test_every_difference_between_bundles_is_named(tmp_path: Path) -> None:
    """A tensor is told by how many of its values differ and by how much, a file by its entries, and no word of a vocabulary is told."""
    kernel = WEIGHTS["lstm/kernel"].copy()
    kernel[0, 1] = np.nextafter(kernel[0, 1], np.float32(2))
    kernel[1, 2] += 0.5
    other = bundle(
        tmp_path / "other",
        weights={"lstm/kernel": kernel, "linear/bias": np.zeros(2, np.float32), "linear/more": np.zeros(1, np.float32)},
        seen=np.arange(1, 4, dtype=np.uint64),
        training=TRAINING | {"history": [{"loss": 0.75, "seconds": 3.2}]},
        vocabulary={"tokens": ["good", "secret"]},
        profile={},
    )

    found = compare_bundles(bundle(tmp_path / "original"), other)

    assert found.other_tensors == {
        "linear/bias": "float32 (1,) → float32 (2,)",
        "linear/more": "only in the new bundle",
        "lstm/kernel": "2 of 6 values differ, by up to 0.5",
    }
    assert found.other_files == {
        "profile.json": "only in the new bundle",
        "seen.npy": "3 of 3 values differ, by up to 1",
        "training.json": "1 of 2 values differ, by up to 0.25: history.0.loss",
        "vocabulary.json": "1 of 2 values differ: tokens.1",
        "weights.safetensors": "other bytes",
    }
    assert not found.identical


def test_a_sign_of_zero_is_a_bit(tmp_path: Path) -> None:
    """Weights that compare as equal and are not the same bits are told."""
    negative = bundle(tmp_path / "negative", weights=WEIGHTS | {"linear/bias": np.array([-0.0], np.float32)})

    assert compare_bundles(bundle(tmp_path / "original"), negative).other_tensors == {"linear/bias": "0 of 1 values differ, by up to 0"}


@pytest.mark.parametrize(
    ("comparison", "explained", "accuracy", "interval", "status", "told"),
    [
        (SAME, False, None, (0.8, 0.9), "identical", "identical bit for bit"),
        (SAME, True, None, (0.8, 0.9), "identical", "identical bit for bit"),
        (OTHER, False, 0.85, (0.8, 0.9), "different", "nothing that is known to count differs"),
        (OTHER, True, 0.8, (0.8, 0.9), "equivalent", "80.00% is within the original's interval, 80.00% to 90.00%"),
        (OTHER, True, 0.9001, (0.8, 0.9), "different", "90.01% is outside"),
        (OTHER, True, 0.85, None, "different", "no interval"),
    ],
)
def test_judgement(
    comparison: Comparison, explained: bool, accuracy: float | None, interval: tuple[float, float] | None, status: str, told: str
) -> None:
    """Same bits are identical; other bits have to be explained by something that changed, and then the test accuracy decides."""
    judgement = judge(comparison, explained=explained, accuracy=accuracy, interval=interval)

    assert judgement.status == status
    assert told in judgement.reason


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that has read one file of reviews."""
    store = Store(tmp_path / "artifacts")
    ingest_artifact([str(write_reviews(tmp_path / "reviews.csv", map(write_row, range(60))))], IngestSettings(), store)
    return store


@pytest.fixture
def origin(store: Store) -> Origin:
    """What a model says that was trained on it."""
    (record,) = store.records("ingest")
    machine = Machine("", "", "", (), 1, ())
    return Origin({"ingest": StepOrigin.of(record.recipe, record.files[0].sha256)}, None, machine)


def test_sources_are_found_where_they_were(store: Store, origin: Origin, tmp_path: Path) -> None:
    """Without a word from the caller they are where the run was told they are, which the store remembers and the bundle does not."""
    assert original_sources(origin, "ingest", [], READER, store) == [str(tmp_path / "reviews.csv")]


def test_sources_are_found_where_they_moved(store: Store, origin: Origin, tmp_path: Path) -> None:
    """Named by the caller, under another name and without a store, they are known by their digest."""
    moved = (tmp_path / "reviews.csv").rename(tmp_path / "moved.csv")

    assert original_sources(origin, "ingest", [str(moved)], READER, Store(tmp_path / "elsewhere")) == [str(moved)]


@pytest.mark.parametrize("fate", ["gone", "changed"])
def test_rows_stand_in_for_their_sources(store: Store, origin: Origin, tmp_path: Path, fate: str) -> None:
    """Sources that are gone or changed are replaced by their rows in the store, which can be taken over into another one."""
    if fate == "gone":
        (tmp_path / "reviews.csv").unlink()
    else:
        write_reviews(tmp_path / "reviews.csv", map(write_row, range(61)))

    found = original_sources(origin, "ingest", [], READER, store)

    assert isinstance(found, Record)
    apart = Store(tmp_path / "apart")
    copied = copy_artifact(found, store, apart)
    assert (copied, apart.path(copied).read_bytes()) == (found.ref, store.path(found.ref).read_bytes())
    assert apart.record_of(copied).facts == found.facts


def test_other_sources_are_refused_by_their_digest(store: Store, origin: Origin, tmp_path: Path) -> None:
    """Sources that the caller names and that are others are the data's fault, told with the digest found and the one expected."""
    other = write_reviews(tmp_path / "other.csv", map(write_row, range(61)))
    expected = origin.sources("ingest")["reviews.csv"]

    with pytest.raises(DataError, match=rf"found other\.csv with SHA-256 [0-9a-f]{{64}}\. Expected reviews\.csv with SHA-256 {expected}"):
        original_sources(origin, "ingest", [str(other)], READER, store)


def test_sources_and_rows_gone(store: Store, origin: Origin, tmp_path: Path) -> None:
    """Where nothing is left the expected digest is told, and how to name the sources; where they lay is not known without the store."""
    (tmp_path / "reviews.csv").unlink()
    (record,) = store.records("ingest")
    store.path(record.ref).write_bytes(b"damaged")
    digest = origin.sources("ingest")["reviews.csv"]
    expected = rf"Expected reviews\.csv with SHA-256 {digest}\. Say where they lie, in this order: sentiment train SOURCE"

    with pytest.raises(DataError, match=rf"cannot be read: There is no such file.*{expected}"):
        original_sources(origin, "ingest", [], READER, store)
    with pytest.raises(CallerError, match=f"does not tell where the model's sources lie.*{expected}"):
        original_sources(origin, "ingest", [], READER, Store(tmp_path / "elsewhere"))


def test_the_sample_needs_no_path(tmp_path: Path) -> None:
    """A model of the generated sample is made again anywhere, from the sample's own settings."""
    store = Store(tmp_path / "artifacts")
    settings = IngestSettings.model_validate({"sample": {"rows": 50, "seed": 3}})
    record = ingest_artifact(["sample"], settings, store).record
    made_from = {"ingest": StepOrigin.of(record.recipe, record.files[0].sha256)}
    origin = Origin(made_from, settings.sample.model_dump(mode="json"), Machine("", "", "", (), 1, ()))

    assert original_sources(origin, "ingest", [], READER, Store(tmp_path / "elsewhere")) == ["sample"]
    with pytest.raises(DataError, match="sample with SHA-256"):
        original_sources(replace(origin, sample={"rows": 51, "seed": 3}), "ingest", [], READER, Store(tmp_path / "elsewhere"))
