"""Intervals: how far a metric would move, had other rows of the same kind been drawn."""

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

INTERVAL_METRICS = ("accuracy", "log_loss", "roc_auc", "brier", "ece", "f1_macro")
SMALLEST_PROBABILITY = 1e-7  # Keras' epsilon, so that log loss and Keras' test loss agree; float32 cannot say 1 - 1e-8
RESAMPLES_PER_BLOCK = 32

FloatArray = NDArray[np.float64]


class RowTable:
    """What each row adds to each metric, so that a resample is a vector of row counts and its metrics are products.

    Args:
        truth: int8, shape (num_rows,), 1 = positive.
        score: float64, shape (num_rows,), in [0, 1].
        threshold: A row above it is called positive.
        ece_bins: Equal-width bins of the calibration error.
    """

    def __init__(self, truth: NDArray[np.int8], score: FloatArray, threshold: float, ece_bins: int) -> None:
        ascending = np.argsort(score, kind="stable")
        truth, score = truth[ascending], score[ascending]
        predicted = score > threshold
        clipped = np.clip(score, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
        self.positive = truth.astype(np.float64)
        self.ties = np.flatnonzero(np.diff(score, prepend=-1.0))  # where each run of equal scores begins
        self.contributions = np.column_stack(
            [
                *((truth == true) & (predicted == guess) for true in (0, 1) for guess in (0, 1)),
                -np.log(np.where(truth == 1, clipped, 1 - clipped)),
                (score - truth) ** 2,
            ]
        ).astype(np.float64)
        bins = np.minimum((score * ece_bins).astype(np.int64), ece_bins - 1)
        self.gap = score - truth
        self.bins = np.flatnonzero(np.diff(bins, prepend=-1))
        self.confusion = self.contributions[:, :4].sum(axis=0).astype(np.int64).reshape(2, 2)

    def metrics(self, counts: FloatArray) -> dict[str, FloatArray]:
        """Return INTERVAL_METRICS, shape (num_resamples,) each, for counts of shape (num_resamples, num_rows)."""
        rows = counts.sum(axis=1)
        tn, fp, fn, tp, log_loss, brier = (counts @ self.contributions).T
        f1 = [2 * hits / np.maximum(2 * hits + fp + fn, 1) for hits in (tn, tp)]
        return {
            "accuracy": (tn + tp) / rows,
            "log_loss": log_loss / rows,
            "roc_auc": self._roc_auc(counts),
            "brier": brier / rows,
            "ece": np.abs(np.add.reduceat(counts * self.gap, self.bins, axis=1)).sum(axis=1) / rows,
            "f1_macro": (f1[0] + f1[1]) / 2,
        }

    def _roc_auc(self, counts: FloatArray) -> FloatArray:
        positives = counts * self.positive
        negatives = counts - positives
        if self.ties.size < counts.shape[1]:
            positives = np.add.reduceat(positives, self.ties, axis=1)
            negatives = np.add.reduceat(negatives, self.ties, axis=1)
        below = np.cumsum(negatives, axis=1)
        wins = np.einsum("ij,ij->i", positives, below - negatives / 2)
        pairs = positives.sum(axis=1) * below[:, -1]
        auc: FloatArray = np.divide(wins, pairs, out=np.full(wins.shape, np.nan), where=pairs > 0)
        return auc

    def resampled_metrics(self, num_samples: int, seed: int) -> dict[str, FloatArray]:
        """Return INTERVAL_METRICS, shape (num_samples,) each, of as many rows drawn with replacement."""
        rng = np.random.default_rng(seed)
        num_rows = self.positive.size
        blocks = []
        for start in range(0, num_samples, RESAMPLES_PER_BLOCK):
            counts = np.empty((min(RESAMPLES_PER_BLOCK, num_samples - start), num_rows))
            for row in counts:
                row[:] = np.bincount(rng.integers(0, num_rows, num_rows), minlength=num_rows)
            blocks.append(self.metrics(counts))
        return {name: np.concatenate([block[name] for block in blocks]) for name in INTERVAL_METRICS}


def percentile_interval(resampled: FloatArray, estimate: float | None, confidence: float) -> list[float] | None:
    """Return the interval that holds `confidence` of the resamples, and the estimate; None where nothing is defined."""
    defined = resampled[~np.isnan(resampled)]
    if estimate is None or defined.size == 0:
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return [min(float(low), estimate), max(float(high), estimate)]


def wilson_interval(successes: int, trials: int, confidence: float) -> list[float]:
    """Return the interval of a share that stays honest for few rows and at 0 or 1.

    Source: Wilson (1927), https://doi.org/10.1080/01621459.1927.10502953

    >>> [round(end, 4) for end in wilson_interval(9, 10, 0.95)]
    [0.5958, 0.9821]
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * (share * (1 - share) / trials + z * z / (4 * trials**2)) ** 0.5
    return [max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))]
