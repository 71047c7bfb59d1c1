"""Word vectors from co-occurrence counts: positive pointwise mutual information, then a truncated singular value decomposition.

Source: Levy & Goldberg (2014), "Neural word embedding as implicit matrix factorization"; Halko et al. (2011) for the decomposition.
"""

from typing import Any

import numpy as np

from tasks.model.vocabulary import TokenIds

WINDOW = 5
POWER_ITERATIONS = 2
OVERSAMPLING = 12


def fit_embeddings(ids: TokenIds, num_words: int, size: int, seed: int) -> np.ndarray:
    """Return a vector for each word, so that words found in the same company lie close together.

    Args:
        ids: Reviews, labelled or not; ids from `num_words` on count as absent but keep their place.
        num_words: Ids that get a vector; id 0 is padding and gets zeros.
        size: Numbers in a vector.
        seed: Of the random projection that starts the decomposition.

    Returns:
        float32, shape (num_words, size), rows of length sqrt(size), so that the mean squared entry is 1; zeros for a word never seen.
        The same bits for the same arguments.
    """
    association = _positive_pmi(_cooccurrences(ids, num_words))
    rank = min(size, num_words - 1)
    basis = np.random.default_rng(seed).standard_normal((num_words, min(rank + OVERSAMPLING, num_words)), np.float32)
    for _ in range(POWER_ITERATIONS + 1):
        basis, _ = np.linalg.qr(association @ basis)
    values, inner = np.linalg.eigh(basis.T @ (association @ basis))
    strongest = np.argsort(-np.abs(values), kind="stable")[:rank]
    vectors = np.zeros((num_words, size), np.float32)
    vectors[:, :rank] = (basis @ inner[:, strongest]) * np.sqrt(np.abs(values[strongest]))
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors * np.float32(np.sqrt(size)), lengths, out=np.zeros_like(vectors), where=lengths > 1e-8)


def _cooccurrences(ids: TokenIds, num_words: int) -> Any:
    """Return how often each two words stand within `WINDOW` of each other, nearer pairs counting more (1 / distance); symmetric."""
    from scipy.sparse import coo_matrix, csr_matrix

    rows = np.repeat(np.arange(len(ids), dtype=np.int32), ids.lengths)
    values = np.where((ids.values > 0) & (ids.values < num_words), ids.values, -1)
    counts = csr_matrix((num_words, num_words), dtype=np.float32)
    for distance in range(1, WINDOW + 1):
        left, right = values[:-distance], values[distance:]
        paired = (rows[:-distance] == rows[distance:]) & (left >= 0) & (right >= 0)
        weight = np.full(int(paired.sum()), 1.0 / distance, np.float32)
        counts = counts + coo_matrix((weight, (left[paired], right[paired])), counts.shape).tocsr()
    return (counts + counts.T).tocsr()


def _positive_pmi(counts: Any) -> Any:
    totals = np.asarray(counts.sum(axis=1)).ravel()
    # Contexts are smoothed (Levy et al. 2015): without it rare words look too closely related.
    contexts = totals**0.75
    pairs = counts.tocoo()
    pmi = np.log(pairs.data * contexts.sum() / (totals[pairs.row] * contexts[pairs.col]))
    association = counts.copy()
    association.data = np.maximum(pmi, 0).astype(np.float32)
    association.eliminate_zeros()
    return (association + association.T) * np.float32(0.5)
