"""The n-gram part: naive-Bayes-weighted, binarised word 1-, 2- and 3-grams, hashed, under a linear classifier.

Source: Wang & Manning (2012), "Baselines and bigrams"; Mesnil et al. (2014) for 3-grams; Weinberger et al. (2009) for hashing.
"""

from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from tasks.errors import DataError
from tasks.model.vocabulary import TokenIds

ROWS_PER_BLOCK = 2048
_NO_PENALTY = 1e6
_TOLERANCE = 1e-2  # a hundred times closer costs three times as long and moves no accuracy
_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


class LinearSettings(BaseModel, frozen=True, extra="forbid"):
    """How n-grams are counted and weighed."""

    max_ngram: int = Field(3, ge=1, le=3, description="longest n-gram, in words")
    hash_bits: int = Field(22, ge=10, le=26, description="n-grams share 2 ** hash_bits weights")
    smoothing: float = Field(3.0, gt=0, description="added to every n-gram count in the naive Bayes ratio")
    inverse_regularisation: float = Field(0.01, gt=0, description="the linear classifier's C; smaller is smoother")
    folds: int = Field(4, ge=2, description="folds for the log-odds that no row had a part in")


def ngram_matrix(ids: TokenIds, settings: LinearSettings) -> Any:
    """Return which hashed n-grams each review holds.

    Returns:
        scipy.sparse.csr_matrix, float32 ones, shape (num_rows, 2 ** hash_bits), columns ascending within a row.
    """
    from scipy.sparse import csr_matrix

    parts = [_distinct_ngrams(ids, start, settings) for start in range(0, len(ids), ROWS_PER_BLOCK)]
    buckets = np.concatenate([part[0] for part in parts] or [np.empty(0, np.int32)])
    indptr = np.concatenate([[0], np.cumsum(np.concatenate([part[1] for part in parts] or [np.empty(0, np.int64)]))])
    return csr_matrix((np.ones(len(buckets), np.float32), buckets, indptr), (len(ids), 1 << settings.hash_bits))


def _distinct_ngrams(ids: TokenIds, start: int, settings: LinearSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return the buckets of a block's distinct n-grams, row after row and ascending within a row, and how many each row has."""
    stop = min(start + ROWS_PER_BLOCK, len(ids))
    values = ids.values[ids.offsets[start] : ids.offsets[stop]].astype(np.uint64)
    rows = np.repeat(np.arange(stop - start, dtype=np.uint64), ids.lengths[start:stop])
    bits = np.uint64(settings.hash_bits)
    keys = []
    for n in range(1, settings.max_ngram + 1):
        count = max(len(values) - n + 1, 0)
        mixed = np.full(count, np.uint64(n))
        for place in range(n):
            mixed = (mixed ^ values[place : place + count]) * _MULTIPLIERS[place]
            mixed ^= mixed >> np.uint64(29)
        mixed *= _MULTIPLIERS[0]
        whole = rows[:count] == rows[n - 1 : n - 1 + count]
        keys.append(((rows[:count] << bits) | (mixed >> (np.uint64(64) - bits)))[whole])
    key = np.sort(np.concatenate(keys))
    key = key[np.concatenate([np.ones(min(len(key), 1), bool), key[1:] != key[:-1]])]
    num_distinct = np.bincount((key >> bits).astype(np.int64), minlength=stop - start)
    return (key & np.uint64((1 << settings.hash_bits) - 1)).astype(np.int32), num_distinct


def fit_linear(ids: TokenIds, y: np.ndarray, settings: LinearSettings, seed: int) -> dict[str, np.ndarray]:
    """Return the weights that `fit_linear_out_of_fold` returns."""
    return fit_linear_out_of_fold(ids, y, settings, seed)[0]


def fit_linear_out_of_fold(ids: TokenIds, y: np.ndarray, settings: LinearSettings, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Fit the n-gram part and turn its margins into log-odds, by a slope and an offset fitted out of fold.

    Args:
        ids: Training reviews.
        y: int8, shape (num_rows,).
        settings: Counting and weighing.
        seed: Of the folds and of the solver's row order.

    Returns:
        Weights: `ngrams` float32 (2 ** hash_bits,), the log-odds that each n-gram adds; `bias` float32 (1,).
        Log-odds of the training reviews, float32, shape (num_rows,), each by a model that has not seen it.

    Raises:
        DataError: There are fewer rows of a class than folds.

    Source: Platt (1999), "Probabilistic outputs for support vector machines".
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    num_negative, num_positive = np.bincount(y, minlength=2)
    if min(num_negative, num_positive) < settings.folds:
        raise DataError(
            f"The training rows hold {num_positive:,} positive and {num_negative:,} negative reviews. "
            f"Expected at least {settings.folds} of each. Give more reviews of the rarer kind."
        )
    X = ngram_matrix(ids, settings)
    margins = np.zeros(len(y))
    for fitting, held_out in StratifiedKFold(settings.folds, shuffle=True, random_state=seed).split(margins, y):
        weights, bias = _fit_margin(X[fitting], y[fitting], settings, seed)
        margins[held_out] = X[held_out] @ weights + bias
    platt = LogisticRegression(C=_NO_PENALTY).fit(margins[:, None], y)
    slope, offset = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    weights, bias = _fit_margin(X, y, settings, seed)
    folded = {"ngrams": (slope * weights).astype(np.float32), "bias": np.array([slope * bias + offset], np.float32)}
    return folded, (slope * margins + offset).astype(np.float32)


def _fit_margin(X: Any, y: np.ndarray, settings: LinearSettings, seed: int) -> tuple[np.ndarray, float]:
    from sklearn.svm import LinearSVC

    positive, negative = (settings.smoothing + np.asarray(X[y == label].sum(axis=0)).ravel() for label in (1, 0))
    ratio = np.log(positive / positive.sum()) - np.log(negative / negative.sum())
    weighted = X.copy()
    weighted.data = ratio[weighted.indices].astype(np.float32)
    classifier = LinearSVC(C=settings.inverse_regularisation, tol=_TOLERANCE, random_state=seed).fit(weighted, y)
    return classifier.coef_[0] * ratio, float(classifier.intercept_[0])


def linear_logits(ids: TokenIds, weights: dict[str, np.ndarray], settings: LinearSettings) -> np.ndarray:
    """Return each review's log-odds of positive, float32, shape (num_rows,); a review without n-grams gets the bias."""
    logits = np.empty(len(ids), np.float32)
    for start in range(0, len(ids), ROWS_PER_BLOCK):
        buckets, num_distinct = _distinct_ngrams(ids, start, settings)
        rows = np.repeat(np.arange(len(num_distinct)), num_distinct)
        logits[start : start + len(num_distinct)] = np.bincount(rows, weights["ngrams"][buckets], len(num_distinct))
    return logits + weights["bias"]
