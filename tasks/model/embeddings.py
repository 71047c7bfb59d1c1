"""Vectors of words and of word pairs from co-occurrence counts: positive pointwise mutual information, then a truncated decomposition.

Source: Levy & Goldberg (2014), "Neural word embedding as implicit matrix factorization"; Halko et al. (2011) for the decomposition;
Deerwester et al. (1990) for folding in what was not decomposed. Vectors of pairs after Johnson & Zhang (2015), "Semi-supervised
convolutional neural networks for text categorization via region embedding", who learn those of longer stretches from their neighbours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.model.pairs import NO_PAIR, owned_buckets
from tasks.model.vocabulary import PADDING, TokenIds

WINDOW = 5
PAIR_WINDOW, PAIR_CONTEXTS = 4, 8_000  # of pairs, the most frequent words alone are company
POWER_ITERATIONS = 2
OVERSAMPLING = 12
NEGLIGIBLE = 1e-4  # of the largest eigenvalue: what lies below is rounding


@dataclass(frozen=True)
class Embeddings:
    """Vectors of words, and of the pairs that own a bucket; those found in the same company lie close together.

    Args:
        words: float32, shape (num_words, size), rows of length sqrt(size), so that the mean squared entry is 1; zeros for padding and
            for a word never seen.
        pairs: The same for pairs, shape (num_buckets, size); zeros for buckets without owner, and for a pair never seen.
    """

    words: np.ndarray
    pairs: np.ndarray


def fit_embeddings(ids: TokenIds, num_words: int, size: int, seed: int, *, owners: np.ndarray | None = None) -> Embeddings:
    """Return vectors of words and of pairs, fitted so that alike are those that stand beside the same words.

    Args:
        ids: Reviews, labelled or not; ids from `num_words` on count as absent but keep their place.
        num_words: Ids that get a vector; id 0 is padding and gets zeros.
        size: Numbers in a vector.
        seed: Of the random projection that starts the decomposition.
        owners: The pairs that get a vector, from `fit_pair_owners`; none if not given.

    Returns:
        The vectors; the same bits for the same arguments.
    """
    association = _positive_pmi(_cooccurrences(ids, num_words))
    association = (association + association.T) * np.float32(0.5)
    rank = min(size, num_words - 1)
    basis = np.random.default_rng(seed).standard_normal((num_words, min(rank + OVERSAMPLING, num_words)), np.float32)
    for _ in range(POWER_ITERATIONS + 1):
        basis, _ = np.linalg.qr(association @ basis)
    values, inner = np.linalg.eigh(basis.T @ (association @ basis))
    strongest = np.argsort(-np.abs(values), kind="stable")[:rank]
    directions, values = basis @ inner[:, strongest], values[strongest]
    words = _equally_long(directions * np.sqrt(np.abs(values)), size)
    if owners is None:
        return Embeddings(words, np.zeros((0, size), np.float32))
    num_contexts = min(num_words, PAIR_CONTEXTS)
    company = _positive_pmi(_pair_cooccurrences(ids, owners, num_contexts))
    # A word's own row of the association, so multiplied, gives its vector: a pair's row is treated alike.
    is_real = np.abs(values) > NEGLIGIBLE * np.abs(values).max(initial=0)
    inverse = np.divide(np.sign(values), np.sqrt(np.abs(values)), out=np.zeros_like(values), where=is_real)
    return Embeddings(words, _equally_long(company @ (directions[:num_contexts] * inverse), size))


def _equally_long(vectors: np.ndarray, size: int) -> np.ndarray:
    """Return vectors of `size` numbers, the missing ones zeros, and of length sqrt(size) each; those without length stay zeros."""
    filled = np.zeros((len(vectors), size), np.float32)
    filled[:, : vectors.shape[1]] = vectors
    lengths = np.linalg.norm(filled, axis=1, keepdims=True)
    return np.divide(filled * np.float32(np.sqrt(size)), lengths, out=np.zeros_like(filled), where=lengths > 1e-8)


def _cooccurrences(ids: TokenIds, num_words: int) -> Any:
    """Return how often each two words stand within `WINDOW` of each other, nearer pairs counting more (1 / distance); symmetric."""
    from scipy.sparse import csr_matrix

    rows, values = ids.rows, np.where((ids.values != PADDING) & (ids.values < num_words), ids.values, -1)
    counts = csr_matrix((num_words, num_words), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        left, right = values[:-distance], values[distance:]
        together = (rows[:-distance] == rows[distance:]) & (left >= 0) & (right >= 0)
        counts = counts + _counted(left[together], right[together], 1 / distance, counts.shape)
    return (counts + counts.T).tocsr()


def _pair_cooccurrences(ids: TokenIds, owners: np.ndarray, num_contexts: int) -> Any:
    """Return how often each pair stands within `PAIR_WINDOW` words of each word, nearer ones counting more (1 / distance).

    Returns:
        scipy.sparse.csr_matrix, float32, shape (num_buckets, num_contexts); ids from `num_contexts` on are no context.
    """
    from scipy.sparse import csr_matrix

    rows = ids.rows
    buckets = np.where(rows[:-1] == rows[1:], owned_buckets(ids.values[:-1], ids.values[1:], owners), NO_PAIR)
    contexts = np.where((ids.values != PADDING) & (ids.values < num_contexts), ids.values, -1)
    counts = csr_matrix((len(owners), num_contexts), dtype=np.float32)
    for distance in range(1, PAIR_WINDOW + 1):
        for offset in (-distance, distance + 1):  # of the word from the pair's first
            first = max(-offset, 0)
            last = max(min(len(buckets), len(contexts) - offset), first)
            pairs, words = slice(first, last), slice(first + offset, last + offset)
            together = (rows[pairs] == rows[words]) & (buckets[pairs] != NO_PAIR) & (contexts[words] >= 0)
            counts = counts + _counted(buckets[pairs][together], contexts[words][together], 1 / distance, counts.shape)
    return counts


def _counted(first: np.ndarray, second: np.ndarray, weight: float, shape: tuple[int, int]) -> Any:
    from scipy.sparse import coo_matrix

    return coo_matrix((np.full(len(first), weight, np.float32), (first, second)), shape).tocsr()


def _positive_pmi(counts: Any) -> Any:
    """Return by how much each count lies above what chance would bring, in logarithms; what lies below counts as not there."""
    totals, contexts = (np.asarray(counts.sum(axis=axis)).ravel() for axis in (1, 0))
    # Contexts are smoothed (Levy et al. 2015): without it rare words look too closely related.
    contexts = contexts**0.75
    pairs = counts.tocoo()
    pmi = np.log(pairs.data * contexts.sum() / (totals[pairs.row] * contexts[pairs.col]))
    association = counts.copy()
    association.data = np.maximum(pmi, 0).astype(np.float32)
    association.eliminate_zeros()
    return association
