"""Flipped bits and cut-off files, everywhere in a small store and in a model: none is served."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import tiny

from tasks.errors import MachineError
from tasks.model.bundle import check_bundle
from tasks.model.registry import Promotion, promote_model, registry_lock
from tasks.store import Record, Store

SPOTS = 2500  # of the store, and as many of the model


def damages(content: bytes, count: int) -> Iterator[bytes]:
    """Yield a file with one bit flipped, at so many places, and cut off at half as many."""
    step = max(len(content) // count, 1)
    for place in range(0, len(content), step):
        yield content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
    for length in range(0, len(content), 2 * step):
        yield content[:length]


def test_no_damaged_artifact_is_found(trained: tiny.Trained, tmp_path: Path) -> None:
    """Whichever byte of whichever file of an artifact is another, the artifact counts as absent."""
    for step in ("ingest", "clean", "tokenize", "split"):
        shutil.copytree(trained.root / step, tmp_path / step)
    store, tried = Store(tmp_path), 0
    for step in ("ingest", "clean", "tokenize", "split"):
        record = store.records(step)[0]
        recipe = record.recipe
        assert store.find(recipe) == record
        places = [tmp_path / file.path for file in record.files]
        for path in [*places, tmp_path / step / f"{recipe.key}.json"]:
            whole = path.read_bytes()
            for damaged in damages(whole, SPOTS // 10):
                path.write_bytes(damaged)
                found = store.find(recipe)
                assert found is None or (found == record and path.suffix == ".json" and says_the_same(damaged, whole)), path
                tried += 1
            path.write_bytes(whole)
        assert store.find(recipe) == record
    assert tried >= 3000


def says_the_same(text: bytes, other: bytes) -> bool:
    """Return whether two records differ in spaces alone."""
    return Record.from_json(text.decode()) == Record.from_json(other.decode())


def test_no_damaged_model_is_scored_with(trained: tiny.Trained, artifacts: Path) -> None:
    """Whichever byte of a champion's bundle is another, its seal included, the champion is refused."""
    store = Store(artifacts)
    folder = artifacts / "models" / trained.bundle.name
    with registry_lock(store):
        promoted: Promotion = promote_model(store, folder.name, "test")
    tried = 0
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for damaged in damages(whole, SPOTS // 10):
            path.write_bytes(damaged)
            assert is_refused(store, promoted), path
            tried += 1
        path.write_bytes(whole)
    assert check_bundle(folder) == promoted.bundle_sha256
    assert tried >= 2000


def is_refused(store: Store, promoted: Promotion) -> bool:
    """Return whether the champion is refused, or its bundle known to be another than what was promoted."""
    try:
        return check_bundle(store.root / "models" / promoted.model_id) != promoted.bundle_sha256
    except MachineError:
        return True
