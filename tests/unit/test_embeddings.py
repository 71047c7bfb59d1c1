from itertools import chain

import numpy as np
import pytest

from tasks.model import embeddings
from tasks.model.embeddings import fit_embeddings
from tasks.model.pairs import fit_pair_owners, owned_buckets
from tasks.model.vocabulary import TokenIds

NUM_WORDS, NUM_BUCKETS = 40, 512


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


def pairs_counted_slowly(ids: TokenIds) -> np.ndarray:
    """Count in whose company the buckets of pairs stand, pair by pair."""
    counts, owners = np.zeros((NUM_BUCKETS, NUM_WORDS)), fit_pair_owners(ids, NUM_BUCKETS)
    for row in range(len(ids)):
        words = ids.values[ids.offsets[row] : ids.offsets[row + 1]]
        for place, (bucket,) in enumerate(zip(owned_buckets(words[:-1], words[1:], owners))):
            for distance in range(1, embeddings.PAIR_WINDOW + 1):
                for other in (place - distance, place + 1 + distance):
                    if bucket and 0 <= other < len(words) and words[other] < NUM_WORDS:
                        counts[bucket, words[other]] += 1 / distance
    return counts


def positive_pmi(counts: np.ndarray) -> np.ndarray:
    """Return what the definition says, contexts smoothed."""
    contexts = counts.sum(axis=0) ** 0.75
    with np.errstate(divide="ignore", invalid="ignore"):
        pmi = np.log(counts * contexts.sum() / np.outer(counts.sum(axis=1), contexts))
    return np.where(counts > 0, np.maximum(pmi, 0), 0)


def decomposed(reviews: TokenIds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return counts of words, and the eigenvalues and -vectors of what they say, all of them."""
    counts = counted_slowly(reviews)
    ppmi = positive_pmi(counts)
    return counts, *np.linalg.eigh((ppmi + ppmi.T) / 2)


def equally_long(vectors: np.ndarray) -> np.ndarray:
    """Return vectors of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_vectors_are_those_of_the_full_decomposition(reviews: TokenIds) -> None:
    """Between any two words, the cosine equals that of a dense eigendecomposition of pair counts written out."""
    counts, values, vectors = decomposed(reviews)
    seen = counts.any(axis=1)
    expected = equally_long((vectors * np.sqrt(np.abs(values)))[seen])

    # size = NUM_WORDS - 1 leaves out one dimension: that of a word that never occurs.
    found = fit_embeddings(reviews, NUM_WORDS, NUM_WORDS - 1, seed=0).words[seen]

    np.testing.assert_allclose(found @ found.T / (NUM_WORDS - 1), expected @ expected.T, atol=2e-4)


@pytest.mark.parametrize("num_contexts", [15, NUM_WORDS])
def test_pairs_are_folded_into_the_decomposition_of_words(reviews: TokenIds, num_contexts: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between any two pairs, and between pairs and words, the cosine equals that of counts and arithmetic written out."""
    monkeypatch.setattr(embeddings, "PAIR_CONTEXTS", num_contexts)
    counts, values, vectors = decomposed(reviews)
    company = positive_pmi(pairs_counted_slowly(reviews) * (np.arange(NUM_WORDS) < num_contexts))
    real = np.abs(values) > embeddings.NEGLIGIBLE * np.abs(values).max()
    root, vectors = np.sqrt(np.abs(values[real])), vectors[:, real]
    pairs, words = company @ (vectors * np.sign(values[real]) / root), vectors * root
    often, seen = company.any(axis=1), counts.any(axis=1)
    expected = equally_long(np.concatenate([pairs[often], words[seen]]))

    made = fit_embeddings(reviews, NUM_WORDS, NUM_WORDS - 1, seed=0, owners=fit_pair_owners(reviews, NUM_BUCKETS))
    found = np.concatenate([made.pairs[often], made.words[seen]])

    assert 20 < often.sum() < NUM_BUCKETS
    assert not made.pairs[~often].any()
    np.testing.assert_allclose(found @ found.T / (NUM_WORDS - 1), expected @ expected.T, atol=5e-3)


def test_pairs_of_one_company_lie_close(reviews: TokenIds) -> None:
    """Of three pairs that never stand together, the two that replace each other in the same sentences are the closer ones."""
    random, texts = np.random.default_rng(0), []
    for _ in range(300):
        pair, company = [((10, 11), (2, 3)), ((12, 13), (2, 3)), ((14, 15), (4, 5))][random.integers(3)]
        texts.append([company[0], *random.integers(6, 9, 1), *pair, company[1], *random.integers(6, 9, 2)])
    ids = TokenIds(np.concatenate(texts).astype(np.int32), np.arange(301) * 7)
    owners = fit_pair_owners(ids, 1 << 12)
    pairs = fit_embeddings(ids, 20, 8, seed=0, owners=owners).pairs
    first, second, other = pairs[owned_buckets(np.array([10, 12, 14]), np.array([11, 13, 15]), owners)]
    assert first @ second / 8 > 0.9 > 0.7 > first @ other / 8


def test_entries_have_unit_mean_square_and_unseen_words_none(reviews: TokenIds) -> None:
    """Padding and words that never occur get zeros; every other vector has length sqrt(size)."""
    vectors = fit_embeddings(reviews, NUM_WORDS, 8, seed=0).words
    assert vectors.dtype == np.float32
    assert not vectors[[0, 39]].any()
    np.testing.assert_allclose(np.mean(vectors[1:39] ** 2, axis=1), 1, rtol=1e-4)


def test_more_numbers_than_words_are_filled_with_zeros(reviews: TokenIds) -> None:
    """A tiny vocabulary still gives vectors of the size asked for."""
    made = fit_embeddings(reviews, 10, 16, seed=0, owners=fit_pair_owners(reviews, 64))
    for vectors in (made.words, made.pairs):
        assert vectors.shape[1] == 16
        assert vectors[:, :9].any()
        assert not vectors[:, 9:].any()


@pytest.mark.parametrize("texts", [[], [[]], [[3]]])
def test_next_to_no_text_gives_vectors_of_zeros(texts: list[list[int]]) -> None:
    """Nothing to count is no failure."""
    ids = TokenIds(np.array(list(chain(*texts)), np.int32), np.cumsum([0, *map(len, texts)]))
    made = fit_embeddings(ids, 10, 4, seed=0, owners=fit_pair_owners(ids, 16))
    assert made.words.shape == (10, 4)
    assert not made.words.any()
    assert made.pairs.shape == (16, 4)
    assert not made.pairs.any()


def test_equal_arguments_give_equal_bits(reviews: TokenIds) -> None:
    """A second fit is the same to the last bit."""
    first, second = (fit_embeddings(reviews, NUM_WORDS, 8, 3, owners=fit_pair_owners(reviews, 64)) for _ in range(2))
    assert first.words.tobytes() == second.words.tobytes()
    assert first.pairs.tobytes() == second.pairs.tobytes()
