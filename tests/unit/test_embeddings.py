import numpy as np
import pytest

from tasks.model import embeddings
from tasks.model.embeddings import fit_embeddings
from tasks.model.vocabulary import TokenIds

NUM_WORDS = 40


@pytest.fixture
def reviews() -> TokenIds:
    """Random reviews, some ids beyond NUM_WORDS; 39 never occurs."""
    random = np.random.default_rng(0)
    lengths = random.integers(0, 12, 300)
    values = np.minimum(random.zipf(1.2, lengths.sum()), 60)
    values[values == 39] = 3
    return TokenIds(values.astype(np.int32), np.concatenate([[0], np.cumsum(lengths)]))


def counted_slowly(ids: TokenIds) -> np.ndarray:
    """Count pairs word by word, as the definition says."""
    counts = np.zeros((NUM_WORDS, NUM_WORDS))
    for row in range(len(ids)):
        words = ids.values[ids.offsets[row] : ids.offsets[row + 1]]
        for place, word in enumerate(words):
            for other in range(max(place - embeddings.WINDOW, 0), min(place + embeddings.WINDOW + 1, len(words))):
                if other != place and word < NUM_WORDS and words[other] < NUM_WORDS:
                    counts[word, words[other]] += 1 / abs(other - place)
    return counts


def test_vectors_are_those_of_the_full_decomposition(reviews: TokenIds) -> None:
    """Between any two words, the cosine equals that of a dense eigendecomposition of pair counts written out."""
    counts = counted_slowly(reviews)
    totals = counts.sum(axis=1)
    contexts = totals**0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(counts * contexts.sum() / np.outer(totals, contexts))
    ppmi = np.where(counts > 0, np.maximum(pmi, 0), 0)
    values, vectors = np.linalg.eigh((ppmi + ppmi.T) / 2)
    expected = vectors * np.sqrt(np.abs(values))
    seen = totals > 0
    expected = expected[seen] / np.linalg.norm(expected[seen], axis=1, keepdims=True)

    # size = NUM_WORDS - 1 leaves out one dimension: that of a word that never occurs.
    found = fit_embeddings(reviews, NUM_WORDS, NUM_WORDS - 1, seed=0)[seen]

    np.testing.assert_allclose(found @ found.T / (NUM_WORDS - 1), expected @ expected.T, atol=2e-4)


def test_entries_have_unit_mean_square_and_unseen_words_none(reviews: TokenIds) -> None:
    """Padding and words that never occur get zeros; every other vector has length sqrt(size)."""
    vectors = fit_embeddings(reviews, NUM_WORDS, 8, seed=0)
    assert vectors.dtype == np.float32
    assert not vectors[[0, 39]].any()
    np.testing.assert_allclose(np.mean(vectors[1:39] ** 2, axis=1), 1, rtol=1e-4)


def test_more_numbers_than_words_are_filled_with_zeros(reviews: TokenIds) -> None:
    """A tiny vocabulary still gives vectors of the size asked for."""
    vectors = fit_embeddings(reviews, 10, 16, seed=0)
    assert vectors.shape == (10, 16)
    assert not vectors[:, 9:].any()


def test_equal_arguments_give_equal_bits(reviews: TokenIds) -> None:
    """A second fit is the same to the last bit."""
    assert fit_embeddings(reviews, NUM_WORDS, 8, 3).tobytes() == fit_embeddings(reviews, NUM_WORDS, 8, 3).tobytes()
