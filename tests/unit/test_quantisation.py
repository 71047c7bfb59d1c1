"""Vectors in a byte an entry: how far they move, and what may be done with them."""

import numpy as np
import pytest

from tasks.model.quantisation import MOST_STEPS, PAIR_VECTORS, STEPS, WORD_VECTORS, dequantise_vectors, quantise_vectors


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    """Vectors of words and pairs, columns of unlike sizes, one of them blank and one next to nothing; and a weight that is no vector."""
    draw = np.random.default_rng(0)
    sizes = np.array([0.01, 1, 30, 0, 1e-44], np.float32)
    words, pairs = (draw.normal(0, 1, (rows, 5)).astype(np.float32) * sizes for rows in (50, 200))
    return {WORD_VECTORS: words, PAIR_VECTORS: pairs, "output/bias": np.array([0.123], np.float32)}


def test_no_entry_moves_by_more_than_half_a_step(weights: dict[str, np.ndarray]) -> None:
    """A step is a 63rd of its column's largest entry in both tables; what is no vector stays as it is."""
    stored = quantise_vectors(weights)
    steps = np.max([np.abs(weights[name]).max(axis=0) for name in (WORD_VECTORS, PAIR_VECTORS)], axis=0) / MOST_STEPS
    np.testing.assert_allclose(stored[STEPS][:3], steps[:3], rtol=1e-6)
    whole = dequantise_vectors(stored)
    assert whole.keys() == weights.keys()
    assert whole["output/bias"] is weights["output/bias"]
    for name in (WORD_VECTORS, PAIR_VECTORS):
        assert stored[name].dtype == np.int8
        assert whole[name].dtype == np.float32
        assert (np.abs(whole[name] - weights[name]) <= steps * 0.5001 + 1e-40).all()
    assert not whole[WORD_VECTORS][:, 3:].any()


def test_a_word_and_a_pair_add_up_within_a_byte(weights: dict[str, np.ndarray]) -> None:
    """Wherever the largest entries meet."""
    stored = quantise_vectors(weights)
    sums = stored[WORD_VECTORS][:, None] + stored[PAIR_VECTORS][None]
    assert sums.dtype == np.int8
    assert (sums == stored[WORD_VECTORS][:, None].astype(int) + stored[PAIR_VECTORS][None]).all()
    assert max(np.abs(stored[name]).max() for name in (WORD_VECTORS, PAIR_VECTORS)) == MOST_STEPS


def test_steps_stay_what_they_are(weights: dict[str, np.ndarray]) -> None:
    """Made whole and put into steps again, nothing moves; nor does a network without such vectors."""
    stored = quantise_vectors(weights)
    again = quantise_vectors(dequantise_vectors(stored))
    assert all((again[name] == stored[name]).all() for name in (WORD_VECTORS, PAIR_VECTORS))
    tutorial = {"tutorial/embedding/embeddings": np.ones((3, 2), np.float32)}
    assert quantise_vectors(tutorial) == dequantise_vectors(tutorial) == tutorial
