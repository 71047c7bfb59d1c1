"""Handing a model out: a SavedModel that takes raw reviews and gives the model's scores, or nothing."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import tiny
from conftest import Command

from tasks.errors import MachineError
from tasks.export import export_model, probe_reviews
from tasks.model import serving_graph
from tasks.model.bundle import GOLDEN_REVIEWS, load_bundle
from tasks.store import Store


def test_an_export_gives_the_models_scores(
    trained: tiny.Trained, artifacts: Path, tmp_path: Path, sentiment: Callable[..., Command]
) -> None:
    """`models export` writes a folder that TensorFlow alone opens: raw reviews in, the model's own probabilities out, digests beside."""
    import tensorflow as tf

    model_id, place = trained.summary["model_id"], tmp_path / "handed out"
    result = sentiment("models", "export", model_id, "--output", place, "--artifacts", artifacts)
    again = sentiment("models", "export", model_id, "--output", place, "--artifacts", artifacts)

    serve = tf.saved_model.load(str(place)).signatures["serving_default"]
    got = serve(tf.constant(GOLDEN_REVIEWS))["p_positive"].numpy()
    expected = load_bundle(artifacts / "models" / model_id).score_reviews(pa.array(GOLDEN_REVIEWS)).p_positive
    told = json.loads((place / "export.json").read_text(encoding="utf-8"))
    probes = probe_reviews(Store(artifacts), model_id)
    assert result.exit_code == 0, result.stderr
    assert result.summary["worst"] <= 1e-5
    np.testing.assert_allclose(got, expected, atol=1e-5)
    assert told["model_id"] == model_id and "saved_model.pb" in told["files"] and (place / "MODEL_CARD.md").is_file()
    assert told["reviews"] == len(probes) and len(probes) > 250 and set(GOLDEN_REVIEWS) <= set(probes)
    assert any("Film " in review for review in probes)  # test reviews of the model's own
    assert again.exit_code == 2 and "is there already" in again.stderr


def test_an_export_with_other_scores_is_not_handed_out(trained: tiny.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the graph and the model disagree, the error says on how many reviews and by how much, and no folder is left."""
    monkeypatch.setattr(serving_graph, "MULTIPLIERS", serving_graph.MULTIPLIERS + np.uint64(2))

    with pytest.raises(MachineError, match=r"gives other scores than the model: \d+ of \d+ reviews .*Nothing was exported"):
        export_model(Store(trained.root), trained.summary["model_id"], tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_keras_file_is_refused_with_the_reason(trained: tiny.Trained, sentiment: Callable[..., Command]) -> None:
    """A .keras file would need its reader to run code from it: refused, with what to use instead; an unknown model is refused too."""
    keras = sentiment("models", "export", trained.summary["model_id"], "--format", "keras", "--artifacts", trained.root)
    unknown = sentiment("models", "export", "m-none", "--artifacts", trained.root)

    assert (keras.exit_code, unknown.exit_code) == (2, 2)
    assert "safe_mode=False" in keras.stderr and "savedmodel" in keras.stderr
    assert not (trained.root / "exports").exists()
