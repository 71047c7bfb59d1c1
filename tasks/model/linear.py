"""The n-gram part: naive-Bayes-weighted, binarised word 1-, 2- and 3-grams, hashed, under a linear classifier.

Source: Wang & Manning (2012), "Baselines and bigrams"; Mesnil et al. (2014) for 3-grams; Weinberger et al. (2009) for hashing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from tasks.errors import DataError
from tasks.model.vocabulary import TokenIds

ROWS_PER_BLOCK = 64  # what is made of a block stays near the processor
_NO_PENALTY = 1e6
_TOLERANCE = 1e-2  # a hundred times closer costs three times as long and moves no accuracy
_SPREAD = np.uint32(0x9E3779B1)
MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


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

    parts = [_distinct_ngrams(block, settings) for block in _hashed_blocks(ids, settings)]
    buckets = np.concatenate([part[0] for part in parts] or [np.empty(0, np.int32)])
    indptr = np.concatenate([[0], np.cumsum(np.concatenate([part[1] for part in parts] or [np.empty(0, np.int64)]))])
    return csr_matrix((np.ones(len(buckets), np.float32), buckets, indptr), (len(ids), 1 << settings.hash_bits))


def ngram_evidence(ids: TokenIds, weights: np.ndarray, settings: LinearSettings) -> np.ndarray:
    """Return what the n-grams that end at each token say of the review's class.

    Args:
        ids: Reviews.
        weights: float, shape (2 ** hash_bits,): the log-odds that each n-gram adds.
        settings: Those that the weights were fitted with.

    Returns:
        float16, shape (num_tokens, max_ngram): a column for each length; 0 where an n-gram would begin in the review before.
    """
    return np.concatenate(
        [_evidence(block, block.weighed(weights)) for block in _hashed_blocks(ids, settings)]
        or [np.zeros((0, settings.max_ngram), np.float16)]
    )


def logits_and_evidence(ids: TokenIds, weights: dict[str, np.ndarray], settings: LinearSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return what `linear_logits` and `ngram_evidence` do, each n-gram looked up once for both."""
    logits, evidence = [np.empty(0)], [np.zeros((0, settings.max_ngram), np.float16)]
    for block in _hashed_blocks(ids, settings):
        weighed = block.weighed(weights["ngrams"])
        logits.append(_sums(block, weighed, settings))
        evidence.append(_evidence(block, weighed))
    return np.concatenate(logits).astype(np.float32) + weights["bias"], np.concatenate(evidence)


def ngram_moves(ids: TokenIds, weights: np.ndarray, settings: LinearSettings) -> np.ndarray:
    """Return the log-odds that the n-grams in which each token stands add to its review's.

    An n-gram counts in full for each of its tokens, as it goes with any of them. One that a review holds several times still adds its
    weight once: each time it stands there is worth its share.

    Args:
        ids: Reviews.
        weights: float, shape (2 ** hash_bits,): the log-odds that each n-gram adds.
        settings: Those that the weights were fitted with.

    Returns:
        float64, shape (num_tokens,).
    """
    parts = [np.zeros(0)]
    for block in _hashed_blocks(ids, settings):
        rows, moves = np.repeat(np.arange(len(block.lengths)), block.lengths), np.zeros(len(block.buckets[0]))
        for n, buckets in enumerate(block.buckets, start=1):
            ends = block.ends(n)
            key = (rows[ends] << settings.hash_bits) | buckets[ends].astype(np.int64)
            _, which, times = np.unique(key, return_inverse=True, return_counts=True)
            share = weights[buckets[ends]] / times[which]
            for behind in range(n):
                moves[ends - behind] += share
        parts.append(moves)
    return np.concatenate(parts)


@dataclass(frozen=True)
class _HashedNgrams:
    """The n-grams of consecutive reviews.

    Args:
        buckets: uint32, shape (max_ngram, num_tokens): of the n-gram of each length that ends at each token. Where it would begin in
            the review before, that of the word alone: it is there already, so that it adds nothing to what a review holds.
        lengths: int64, shape (num_rows,): tokens of each review.
    """

    buckets: np.ndarray
    lengths: np.ndarray

    def keys(self, settings: LinearSettings) -> np.ndarray:
        """Return each n-gram's row and bucket in one number, uint32, shape (max_ngram * num_tokens,)."""
        row = np.repeat(np.arange(len(self.lengths), dtype=np.uint32) << np.uint32(settings.hash_bits), self.lengths)
        return (self.buckets | row).ravel()

    def weighed(self, weights: np.ndarray) -> np.ndarray:
        """Return the weight of each n-gram, shape (max_ngram, num_tokens)."""
        return weights.take(self.buckets, mode="clip")

    def too_early(self, n: int) -> np.ndarray:
        """Return the tokens at which no n-gram of this length ends, for want of words before them."""
        first = np.cumsum(self.lengths) - self.lengths
        return np.concatenate([first[self.lengths > place] + place for place in range(n - 1)] or [np.empty(0, np.int64)])

    def ends(self, n: int) -> np.ndarray:
        """Return the tokens at which one ends, ascending."""
        there = np.ones(self.buckets.shape[1], bool)
        there[self.too_early(n)] = False
        return np.flatnonzero(there)


def _hashed_blocks(ids: TokenIds, settings: LinearSettings) -> Iterator[_HashedNgrams]:
    """Yield reviews in blocks, so few that a row's number and a bucket fit into 32 bits together."""
    num_rows = min(ROWS_PER_BLOCK, 1 << (32 - settings.hash_bits))
    for start in range(0, len(ids), num_rows):
        stop = min(start + num_rows, len(ids))
        values = ids.values[ids.offsets[start] : ids.offsets[stop]].astype(np.uint64)
        lengths = ids.lengths[start:stop]
        block = _HashedNgrams(np.empty((settings.max_ngram, len(values)), np.uint32), lengths)
        for n, buckets in enumerate(block.buckets, start=1):
            count = max(len(values) - n + 1, 0)
            mixed = np.full(count, np.uint64(n))
            for place in range(n):
                mixed ^= values[place : place + count]
                mixed *= MULTIPLIERS[place]
                mixed ^= mixed >> np.uint64(29)
            mixed *= MULTIPLIERS[0]
            mixed >>= np.uint64(64 - settings.hash_bits)
            buckets[n - 1 :] = mixed
            early = block.too_early(n)
            buckets[early] = block.buckets[0, early]
        yield block


def _distinct_ngrams(block: _HashedNgrams, settings: LinearSettings) -> tuple[np.ndarray, np.ndarray]:
    """Return the buckets of a block's distinct n-grams, row after row and ascending within a row, and how many each row has."""
    keys, bits = np.unique(block.keys(settings)), np.uint32(settings.hash_bits)
    return (keys & ((np.uint32(1) << bits) - np.uint32(1))).astype(np.int32), np.bincount(keys >> bits, minlength=len(block.lengths))


def _sums(block: _HashedNgrams, weighed: np.ndarray, settings: LinearSettings) -> np.ndarray:
    """Return what the distinct n-grams of each review add up to, float64, shape (num_rows,), given what each weighs.

    In which order depends on the review's neighbours: of the 53 bits so many are spared that the 24 of the result do not.
    """
    keys = block.keys(settings)
    place = _places_of_distinct(keys)
    return np.bincount(keys.take(place) >> np.uint32(settings.hash_bits), weighed.ravel().take(place), len(block.lengths))


def _places_of_distinct(keys: np.ndarray) -> np.ndarray:
    """Return for each different one of some keys, uint32, a place where it stands, in no order: to sort them takes twice as long.

    Each key writes its place into a slot of a hash table; the last one there stands for all of its value. What finds another value
    standing in its slot, one key of twenty, is sorted.
    """
    bits = min(len(keys).bit_length() + 3, 32)
    place = np.arange(len(keys), dtype=np.uint32)
    slot = (keys * _SPREAD) >> np.uint32(32 - bits)
    standing = np.empty(1 << bits, np.uint32)
    standing[slot] = place
    found = standing.take(slot, mode="clip")
    crowded_out = np.flatnonzero(keys.take(found, mode="clip") != keys)
    _, first = np.unique(keys[crowded_out], return_index=True)
    return np.concatenate([place[found == place], crowded_out[first]])


def _evidence(block: _HashedNgrams, weighed: np.ndarray) -> np.ndarray:
    """Return a block's evidence, float16, shape (num_tokens, max_ngram), given what each n-gram weighs."""
    evidence = weighed.T.astype(np.float16)
    for n in range(1, len(weighed) + 1):
        evidence[block.too_early(n), n - 1] = 0
    return evidence


@dataclass(frozen=True)
class FittedLinear:
    """The n-gram part.

    Args:
        weights: `ngrams` float16 (2 ** hash_bits,), the log-odds that each n-gram adds; `bias` float32 (1,).
        slope: What a margin of the classifier is multiplied with to give log-odds.
        offset: What is then added.
    """

    weights: dict[str, np.ndarray]
    slope: float
    offset: float


def fit_linear(ids: TokenIds, y: np.ndarray, settings: LinearSettings, seed: int) -> FittedLinear:
    """Return the n-gram part that `fit_linear_out_of_fold` returns."""
    return fit_linear_out_of_fold(ids, y, settings, seed)[0]


@dataclass(frozen=True)
class OutOfFold:
    """What models that have not seen a training review say of it.

    Args:
        logits: float32, shape (num_rows,): its log-odds of positive.
        evidence: float16, shape (num_tokens, max_ngram): as `ngram_evidence` returns it.
    """

    logits: np.ndarray
    evidence: np.ndarray

    @classmethod
    def of(cls, margins: np.ndarray, evidence: np.ndarray, slope: float, offset: float) -> "OutOfFold":
        """Turn margins, and what n-grams add to them, into log-odds."""
        return cls((slope * margins + offset).astype(np.float32), (slope * evidence).astype(np.float16))


def fit_linear_out_of_fold(ids: TokenIds, y: np.ndarray, settings: LinearSettings, seed: int) -> tuple[FittedLinear, OutOfFold]:
    """Fit the n-gram part and turn its margins into log-odds, by a slope and an offset fitted out of fold.

    Args:
        ids: Training reviews.
        y: int8, shape (num_rows,).
        settings: Counting and weighing.
        seed: Of the folds and of the solver's row order.

    Returns:
        The n-gram part; and what it would say of the training reviews, had it not seen them. Copies of a review are in one fold.

    Raises:
        DataError: There are fewer rows of a class than folds.

    Source: Platt (1999), "Probabilistic outputs for support vector machines".
    """
    first, _ = _distinct_texts(ids)
    num_negative, num_positive = np.bincount(y[first], minlength=2)
    if min(num_negative, num_positive) < settings.folds:
        raise DataError(
            f"The training rows hold {num_positive:,} different positive and {num_negative:,} different negative reviews. "
            f"Expected at least {settings.folds} of each. Give more reviews of the rarer kind."
        )
    X = ngram_matrix(ids, settings)
    margins, evidence = _fit_folds(ids, X, y, settings, seed)
    slope, offset = _fit_scale(margins, y)
    return _scaled(*_fit_margin(X, y, settings, seed), slope, offset), OutOfFold.of(margins, evidence, slope, offset)


def _distinct_texts(ids: TokenIds) -> tuple[np.ndarray, np.ndarray]:
    """Return the first row of each different text, int64, shape (num_texts,), ascending; and for each row the number of its text."""
    numbers: dict[bytes, int] = {}
    ends = pairwise(ids.offsets.tolist())
    text = np.array(
        [numbers.setdefault(blake2b(ids.values[start:stop].tobytes()).digest(), len(numbers)) for start, stop in ends], np.int64
    )
    return np.unique(text, return_index=True)[1], text


@dataclass(frozen=True)
class TaughtReviews:
    """Reviews without labels, and what a teacher says of them.

    Args:
        ids: Their tokens.
        logits: float, shape (num_rows,): log-odds of positive; their sign is taken for the class.
        weight: float, shape (num_rows,): what each counts, a labelled review counting 1; 0 where the teacher is not certain enough.
    """

    ids: TokenIds
    logits: np.ndarray
    weight: np.ndarray

    def beside(self, labelled: TokenIds, y: np.ndarray) -> tuple[TokenIds, np.ndarray, np.ndarray]:
        """Return labelled reviews, then these: ids, classes and what each counts."""
        classes = np.concatenate([y, (self.logits > 0).astype(np.int8)])
        return TokenIds.concatenate([labelled, self.ids]), classes, np.concatenate([np.ones(len(y)), self.weight])


def fit_linear_by_teacher(
    labelled: TokenIds,
    y: np.ndarray,
    taught: TaughtReviews,
    settings: LinearSettings,
    seed: int,
    held_out: TokenIds,
    y_held_out: np.ndarray,
) -> tuple[FittedLinear, OutOfFold]:
    """Fit the n-gram part on labelled reviews and, at less weight, on unlabelled ones by a teacher's word.

    Args:
        labelled: Training reviews.
        y: int8, shape (num_labelled,).
        taught: Reviews without labels, and what a model that has learnt from the labelled ones says of them.
        settings: Counting and weighing.
        seed: Of the solver's row order.
        held_out: Reviews that nothing was learnt from: they settle slope and offset.
        y_held_out: int8, shape (num_held_out,).

    Returns:
        The n-gram part; and what it would say of the labelled reviews, then of all the others, had it not learnt from them.

    Source: Yarowsky (1995), "Unsupervised word sense disambiguation rivaling supervised methods", for self-training.
    """
    ids, classes, counted = taught.beside(labelled, y)
    X = ngram_matrix(ids, settings)
    margins, evidence = _fit_folds(ids, X, classes, settings, seed, counted)
    weights, bias = _fit_margin(X, classes, settings, seed, counted)
    slope, offset = _fit_scale(ngram_matrix(held_out, settings) @ weights + bias, y_held_out)
    return _scaled(weights, bias, slope, offset), OutOfFold.of(margins, evidence, slope, offset)


def refit_linear(
    fitted: FittedLinear, labelled: TokenIds, y: np.ndarray, taught: TaughtReviews | None, settings: LinearSettings, seed: int
) -> FittedLinear:
    """Fit the n-gram part once more, on more labelled reviews, and keep its slope and offset."""
    ids, classes, counted = taught.beside(labelled, y) if taught else (labelled, y, None)
    return _scaled(*_fit_margin(ngram_matrix(ids, settings), classes, settings, seed, counted), fitted.slope, fitted.offset)


def _fit_folds(
    ids: TokenIds, X: Any, y: np.ndarray, settings: LinearSettings, seed: int, sample_weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return each review's margin and what its n-grams add to it, by classifiers that have seen neither it nor another of its text."""
    from sklearn.model_selection import StratifiedKFold

    first, text = _distinct_texts(ids)
    margins, evidence = np.zeros(len(y)), np.zeros((len(ids.values), settings.max_ngram), np.float16)
    for _, texts in StratifiedKFold(settings.folds, shuffle=True, random_state=seed).split(first, y[first]):
        is_held_out = np.isin(text, texts)
        fitting, held_out = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
        counted = None if sample_weight is None else sample_weight[fitting]
        weights, bias = _fit_margin(X[fitting], y[fitting], settings, seed, counted)
        margins[held_out] = X[held_out] @ weights + bias
        evidence[ids.places(held_out)] = ngram_evidence(ids.take(held_out), weights, settings)
    return margins, evidence


def _fit_scale(margins: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    platt = LogisticRegression(C=_NO_PENALTY).fit(margins[:, None], y)
    return float(platt.coef_[0, 0]), float(platt.intercept_[0])


def _scaled(weights: np.ndarray, bias: float, slope: float, offset: float) -> FittedLinear:
    ngrams: np.ndarray = (slope * weights).astype(np.float16)
    return FittedLinear({"ngrams": ngrams, "bias": np.array([slope * bias + offset], np.float32)}, slope, offset)


def _fit_margin(
    X: Any, y: np.ndarray, settings: LinearSettings, seed: int, sample_weight: np.ndarray | None = None
) -> tuple[np.ndarray, float]:
    from sklearn.svm import LinearSVC

    if sample_weight is not None and not sample_weight.all():
        known = np.flatnonzero(sample_weight)
        X, y, sample_weight = X[known], y[known], sample_weight[known]
    counted = np.ones(len(y), np.float32) if sample_weight is None else sample_weight.astype(np.float32)
    positive, negative = (settings.smoothing + X.T @ (counted * (y == label)) for label in (1, 0))
    ratio = np.log(positive / positive.sum()) - np.log(negative / negative.sum())
    weighted = X.copy()
    weighted.data = ratio[weighted.indices].astype(np.float32)
    classifier = LinearSVC(C=settings.inverse_regularisation, tol=_TOLERANCE, random_state=seed).fit(weighted, y, sample_weight)
    return classifier.coef_[0] * ratio, float(classifier.intercept_[0])


def linear_logits(ids: TokenIds, weights: dict[str, np.ndarray], settings: LinearSettings) -> np.ndarray:
    """Return each review's log-odds of positive, float32, shape (num_rows,); a review without n-grams gets the bias."""
    sums = [_sums(block, block.weighed(weights["ngrams"]), settings) for block in _hashed_blocks(ids, settings)]
    return np.concatenate(sums or [np.empty(0)]).astype(np.float32) + weights["bias"]
