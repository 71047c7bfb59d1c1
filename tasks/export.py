"""Hands a model out as a TensorFlow SavedModel that takes raw reviews: checked to give the model's own scores, or not handed out at all."""

import json
import shutil
import subprocess
import sys
import uuid
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import CallerError, MachineError
from tasks.fingerprint import sha256_of_file
from tasks.model.bundle import CARD, GOLDEN_REVIEWS, SentimentModel, load_bundle
from tasks.model.registry import models_folder
from tasks.reviews.sample import SampleSettings, generate_reviews
from tasks.schemas import REVIEW, SPLIT
from tasks.store import Store, atomic_file, make_folder
from tasks.tables import read_batches

TOLERANCE = 1e-5
DESCRIPTION = "export.json"
_GENERATED, _REAL = 200, 200
_SECONDS_ALLOWED = 600
# What cleaning and tokenizing could trip over.
ODD_REVIEWS = (
    "", " ", "\n\t", "!!!", "...", "'", "it's 'quoted' rock 'n' roll", "IT’S “GREAT”", "<br /><br />", "a < b > c <b>bold</b> <unclosed",
    "it isn&#39;t &lt;b&gt;bad&lt;/b&gt; &amp; I don&rsquo;t mind", "caf&eacute; &#128077; &no_entity; &#x2019; &;",
    "snake_case_words", "7/10, 1/2 – 50% off", "naïve café, Señor", "İstanbul ΣΟΦΟΣ straße", "很好看的电影", "好 good", "👍👍 loved it",
    "e\u0301 combining", "\ufeffmark first", "zero\u200bwidth", "tab\tand\nnewline", "non\u00a0breaking", "x" * 500, "word " * 3000,
)  # fmt: skip
# Runs where nothing of this project is imported: whoever gets the export has TensorFlow alone.
_PROGRAM = """
import json, sys
import tensorflow as tf
serve = tf.saved_model.load(sys.argv[1]).signatures["serving_default"]
reviews = json.load(sys.stdin)
parts = [serve(tf.constant(reviews[start:start + 64]))["p_positive"].numpy().tolist() for start in range(0, len(reviews), 64)]
print(json.dumps([score for part in parts for score in part]))
"""


@dataclass(frozen=True)
class Exported:
    """What was handed out: the model, where it lies, on how many reviews it was checked, and by how much a score was off at most."""

    model_id: str
    path: str
    reviews: int
    worst: float
    tensorflow: str


def check_format(name: str) -> None:
    """Refuse a format that cannot be made safely.

    Raises:
        CallerError: It is `keras`.
    """
    if name == "keras":
        raise CallerError(
            "A .keras file cannot hold this model: cleaning, the vocabulary and hashed n-grams are no Keras layers. The file would have to "
            "carry Python code, and whoever loads it to allow that (safe_mode=False). Use --format savedmodel, which needs none."
        )


def export_model(store: Store, model_id: str, output: Path | None = None) -> Exported:
    """Write a model as a SavedModel and check it in a process that has TensorFlow alone.

    Args:
        store: The artifacts folder.
        model_id: A sealed model.
        output: The folder to write; `exports/<model_id>` in the artifacts folder if not given. It appears whole or not at all.

    Raises:
        CallerError: There is no such model, or the folder is there already.
        MachineError: The export does not give the model's own scores, or the disk refuses.
    """
    place = output or store.root / "exports" / model_id
    if place.exists():
        raise CallerError(f"{place} is there already. Remove it, or name another folder with --output.")
    model = load_bundle(models_folder(store) / model_id)
    reviews = probe_reviews(store, model_id)
    draft = place.with_name(f".{place.name}.{uuid.uuid4().hex[:12]}.part")
    make_folder(place.parent)
    try:
        _save(model, draft)
        worst = _compare(model, draft, reviews)
        exported = Exported(model_id, str(place), len(reviews), worst, version("tensorflow"))
        shutil.copy(models_folder(store) / model_id / CARD, draft / CARD)
        with atomic_file(draft / DESCRIPTION) as file:
            file.write((json.dumps(_describe(exported, draft), indent=1) + "\n").encode())
        draft.replace(place)
    except OSError as error:
        raise MachineError(f"Cannot write {place}: {error.strerror or error}. Free some space or name another folder.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return exported


def probe_reviews(store: Store, model_id: str) -> list[str]:
    """Return what an export is tried on: the probe texts, odd ones, generated ones, and test reviews of the model's own where they are."""
    generated = next(iter(generate_reviews(SampleSettings(rows=_GENERATED)))).columns[REVIEW].to_pylist()
    return [*GOLDEN_REVIEWS, *ODD_REVIEWS, *generated, *_test_reviews(store, model_id)]


def _test_reviews(store: Store, model_id: str) -> list[str]:
    trained = next((record for record in store.records("train") if Path(record.ref.path).parent.name == model_id), None)
    divided = store.lineage(trained.ref).get("split") if trained else None
    if divided is None or not store.path(divided.ref).is_file():
        return []
    found: list[str] = []
    for batch in read_batches(store.path(divided.ref), [REVIEW, SPLIT]):
        found += batch.filter(pc.equal(batch[SPLIT], "test"))[REVIEW].to_pylist()
        if len(found) >= _REAL:
            break
    return found[:_REAL]


def _save(model: SentimentModel, folder: Path) -> None:
    from tasks.model.runtime import import_tensorflow
    from tasks.model.serving_graph import serving_module

    module = serving_module(model)
    import_tensorflow().saved_model.save(module, str(folder), signatures={"serving_default": module.serve})


def _compare(model: SentimentModel, folder: Path, reviews: list[str]) -> float:
    expected = model.score_reviews(pa.array(reviews, pa.string())).p_positive
    got = _score_elsewhere(folder, reviews)
    if len(got) != len(expected):
        raise MachineError(f"The export of {model.model_id} cannot be opened and used by TensorFlow alone. Nothing was exported.")
    off = np.abs(got - expected)
    worst = float(off.max())
    if not worst <= TOLERANCE:
        raise MachineError(
            f"The export of {model.model_id} gives other scores than the model: {int((off > TOLERANCE).sum())} of {len(reviews)} reviews "
            f"are off, by up to {worst:.1g}; {TOLERANCE:g} is allowed. Nothing was exported. Score with `sentiment score` instead."
        )
    return worst


def _score_elsewhere(folder: Path, reviews: list[str]) -> np.ndarray:
    command = [sys.executable, "-I", "-c", _PROGRAM, str(folder)]
    try:
        done = subprocess.run(command, input=json.dumps(reviews), capture_output=True, encoding="utf-8", timeout=_SECONDS_ALLOWED)
        return np.array(json.loads(done.stdout.splitlines()[-1]), np.float32)
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        return np.empty(0, np.float32)


def _describe(exported: Exported, folder: Path) -> dict[str, object]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        **{name: value for name, value in asdict(exported).items() if name != "path"},
        "input": "serving_default(reviews: string, shape (n,), UTF-8)",
        "output": "p_positive: float32, shape (n,); scored: bool, shape (n,), False where no word is known and p_positive says nothing",
        "files": {path.relative_to(folder).as_posix(): sha256_of_file(path) for path in files},
    }
