"""How good a model is on rows it has not seen, and how sure we can be of that.

Every number is JSON-ready: a value that is undefined (a ranking score with one class only) is None, never NaN.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NotRequired, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, Field, field_validator

from tasks.errors import DataError
from tasks.model.behaviour import FamilyResult
from tasks.model.bootstrap import INTERVAL_METRICS, RowTable, percentile_interval, wilson_interval
from tasks.schemas import CLASS_NAMES

MOST_SOURCES = 20  # with more sources than these, none is looked at by itself
LINEAR_BASELINE = "baseline_linear"  # the baseline's scores, as predictions.parquet names them

_COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)  # shares of the rows, the most certain first
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int8]


class EvaluationSettings(BaseModel, frozen=True, extra="forbid"):
    """How predictions become classes, intervals and slices."""

    threshold: float = Field(0.5, description="A review above this probability is called positive.", gt=0, lt=1)
    bootstrap_samples: int = Field(1000, description="Resamples behind every interval.", ge=100, le=100_000)
    confidence: float = Field(0.95, description="Share of resamples inside an interval.", gt=0.5, lt=1)
    ece_bins: int = Field(15, description="Equal-width probability bins of the calibration error.", ge=2, le=100)
    length_slices: tuple[int, ...] = Field((0, 100, 200, 400, 800), description="Where length slices begin, in tokens.")
    seed: int = Field(7, description="Seed of the resampling.", ge=0)

    @field_validator("length_slices")
    @classmethod
    def _ascending(cls, edges: tuple[int, ...]) -> tuple[int, ...]:
        if not edges or edges[0] != 0 or any(low >= high for low, high in pairwise(edges)):
            raise ValueError(f"length_slices must start at 0 and ascend, such as 0, 100, 200; got {edges}")
        return edges


class ClassScores(TypedDict):
    """One class, or an average of both; `support` counts true rows."""

    precision: float
    recall: float
    f1: float
    support: int


class Scores(TypedDict):
    """One model on one set of rows; `confusion` has a row for each true class, a column for each predicted one."""

    rows: int
    positives: int
    accuracy: float
    log_loss: float
    roc_auc: float | None
    brier: float
    ece: float
    f1_macro: float
    per_class: dict[str, ClassScores]
    macro: ClassScores
    weighted: ClassScores
    confusion: list[list[int]]
    intervals: dict[str, list[float] | None]


class SliceScores(TypedDict):
    """One model on part of the rows; `interval` is that of the accuracy (Wilson)."""

    by: str
    slice: str
    rows: int
    positives: int
    accuracy: float
    interval: list[float]
    log_loss: float
    roc_auc: float | None


class PairedDifference(TypedDict):
    """Accuracy of the first model minus accuracy of the second, on the same rows."""

    rows: int
    difference: float
    interval: list[float]
    p_value: float
    only_first_right: int
    only_second_right: int


class ErrorExample(TypedDict):
    """A review that was misjudged: its id, never its text."""

    review_id: str
    y_true: int
    y_score: float


class CoverageScores(TypedDict):
    """The model on the rows it is most certain of: `coverage` is their share of all rows, `error` the share of them it gets wrong."""

    coverage: float
    rows: int
    error: float


class GoldenScores(TypedDict):
    """The model on the golden test set, which `sha256` names."""

    sha256: str
    scores: Scores


class Evaluation(TypedDict):
    """The content of metrics.json: the promoted model, its parts alone, and what it has to beat.

    `coverage` tells how the error falls as the least certain rows are left aside; `decided` is that of the rows outside the model's own
    uncertain band, None where every row lies inside.
    """

    model: Scores
    coverage: list[CoverageScores]
    decided: CoverageScores | None
    parts: dict[str, Scores]
    baselines: dict[str, Scores]
    slices: list[SliceScores]
    behaviour: list[FamilyResult]
    classification_report: str
    settings: dict[str, Any]
    golden: NotRequired[GoldenScores]


def evaluate_models(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    parts: Mapping[str, ArrayLike],
    baselines: Mapping[str, ArrayLike],
    slices: Sequence[SliceScores],
    settings: EvaluationSettings,
    certain: ArrayLike | None = None,
    behaviour: Sequence[FamilyResult] = (),
) -> Evaluation:
    """Score the model, its parts and its baselines on the same rows and the same resamples.

    Args:
        y_true: int8, shape (num_rows,), 1 = positive.
        y_score: float, shape (num_rows,), the promoted model's probability of positive.
        parts: The same of each part alone, such as `lstm` and `linear`.
        baselines: The same of `majority` (the training prior for every row) and `linear`.
        slices: From `slice_metrics`.
        settings: Threshold, bins, resampling.
        certain: bool, shape (num_rows,): rows outside the model's uncertain band; all of them if not given.
        behaviour: From `check_behaviour`.

    Raises:
        DataError: As `score_predictions`.
    """
    wrong, order = _by_certainty(y_true, y_score, settings.threshold)
    chosen = np.ones(len(wrong), bool) if certain is None else np.asarray(certain, bool)
    return {
        "coverage": [_covered(wrong[order[: round(share * len(wrong))]], len(wrong)) for share in _COVERAGES],
        "decided": _covered(wrong[chosen], len(wrong)) if chosen.any() else None,
        "model": score_predictions(y_true, y_score, settings),
        "parts": {name: score_predictions(y_true, score, settings) for name, score in parts.items()},
        "baselines": {name: score_predictions(y_true, score, settings) for name, score in baselines.items()},
        "slices": list(slices),
        "behaviour": list(behaviour),
        "classification_report": classification_report_text(y_true, y_score, settings.threshold),
        "settings": settings.model_dump(mode="json"),
    }


def score_predictions(y_true: ArrayLike, y_score: ArrayLike, settings: EvaluationSettings) -> Scores:
    """Score probabilities against labels, with percentile bootstrap intervals over rows.

    Precision, recall and F1 of a class that never occurs are 0, as in scikit-learn with `zero_division=0`. The
    calibration error uses equal-width bins of the probability; resampling tends to add to it, so its interval is
    widened to the estimate where it would lie above.

    Args:
        y_true: int8, shape (num_rows,), 1 = positive.
        y_score: float, shape (num_rows,), probability of positive, in [0, 1].
        settings: Threshold, bins, resampling. Equal settings resample the same rows, whatever the model.

    Returns:
        Shares in [0, 1], log loss in nats. `roc_auc` (and its interval) is None where only one class occurs.

    Raises:
        DataError: No rows, lengths that differ, a label other than 0 and 1, or a score outside [0, 1].

    Source: Efron & Tibshirani (1993), ch. 13; Guo et al. (2017), eq. 3 for the calibration error.

    >>> score_predictions([0, 1, 1, 0], [0.2, 0.9, 0.4, 0.6], EvaluationSettings())["accuracy"]
    0.5
    """
    truth, score = _checked(y_true, y_score)
    table = RowTable(truth, score, settings.threshold, settings.ece_bins)
    estimate = table.metrics(np.ones((1, truth.size)))
    resampled = table.resampled_metrics(settings.bootstrap_samples, settings.seed)
    negative, positive = (_class_scores(table.confusion, code) for code in (0, 1))
    value = {name: None if np.isnan(estimate[name][0]) else float(estimate[name][0]) for name in INTERVAL_METRICS}
    return {
        "rows": truth.size,
        "positives": int(truth.sum()),
        **value,  # type: ignore[typeddict-item]
        "per_class": dict(zip(CLASS_NAMES, (negative, positive), strict=True)),
        "macro": _averaged(negative, positive, weights=(0.5, 0.5)),
        "weighted": _averaged(negative, positive, weights=(1 - truth.mean(), truth.mean())),
        "confusion": table.confusion.tolist(),
        "intervals": {name: percentile_interval(resampled[name], value[name], settings.confidence) for name in INTERVAL_METRICS},
    }


def _by_certainty(y_true: ArrayLike, y_score: ArrayLike, threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which rows are misjudged, and the rows' order from the most to the least certain."""
    truth, score = _checked(y_true, y_score)
    return (score > threshold) != truth, np.argsort(-np.abs(score - threshold), kind="stable")


def _covered(wrong: NDArray[np.bool_], num_rows: int) -> CoverageScores:
    return {"coverage": wrong.size / num_rows, "rows": wrong.size, "error": float(np.mean(wrong)) if wrong.size else 0.0}


def slice_metrics(
    y_true: ArrayLike,
    y_score: ArrayLike,
    labels: Sequence[str] | NDArray[np.str_],
    settings: EvaluationSettings,
    *,
    by: str,
    order: Sequence[str] | None = None,
) -> list[SliceScores]:
    """Score each part of the rows by itself; a slice without rows is left out.

    Args:
        y_true: int8, shape (num_rows,).
        y_score: float, shape (num_rows,), in [0, 1].
        labels: Shape (num_rows,): the slice each row belongs to.
        settings: Threshold and confidence; the intervals are Wilson's, which hold for a handful of rows too.
        by: What the rows were sliced by, such as `length`.
        order: The slices' order; by name where absent.

    Raises:
        DataError: As `score_predictions`, or a label is not in `order`.
    """
    truth, score = _checked(y_true, y_score)
    names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    if codes.size != truth.size:
        raise DataError(f"Slices by {by}: {codes.size:,} labels for {truth.size:,} rows. Expected one a row.")
    position = {name: place for place, name in enumerate(order if order is not None else names.tolist())}
    if missing := [name for name in names.tolist() if name not in position]:
        raise DataError(f"Slices by {by}: {missing[0]!r} is not among {', '.join(position)}. Add it to the order.")
    rows_by_slice = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    found = []
    for name, rows in sorted(zip(names.tolist(), rows_by_slice, strict=True), key=lambda pair: position[pair[0]]):
        table = RowTable(truth[rows], score[rows], settings.threshold, settings.ece_bins)
        estimate = {metric: float(value[0]) for metric, value in table.metrics(np.ones((1, rows.size))).items()}
        found.append(
            SliceScores(
                by=by,
                slice=name,
                rows=rows.size,
                positives=int(truth[rows].sum()),
                accuracy=estimate["accuracy"],
                interval=wilson_interval(int(np.trace(table.confusion)), rows.size, settings.confidence),
                log_loss=estimate["log_loss"],
                roc_auc=None if np.isnan(estimate["roc_auc"]) else estimate["roc_auc"],
            )
        )
    return found


def label_lengths(num_tokens: ArrayLike, settings: EvaluationSettings) -> tuple[NDArray[np.str_], list[str]]:
    """Name the length slice of every row, and the slices in ascending order.

    >>> label_lengths([3, 100, 5000], EvaluationSettings())[0].tolist()
    ['0–99', '100–199', '800+']
    """
    edges = settings.length_slices
    names = [f"{low}–{high - 1}" for low, high in pairwise(edges)] + [f"{edges[-1]}+"]
    return np.array(names)[np.digitize(np.asarray(num_tokens), edges) - 1], names


def paired_bootstrap(
    y_true: ArrayLike, first: ArrayLike, second: ArrayLike, settings: EvaluationSettings, *, added: float = 0.0
) -> PairedDifference:
    """Compare two models' accuracy on the same rows.

    Resampling rows only moves the counts of rows that one model alone gets right, so those are drawn instead of the
    rows: the same distribution at no cost. The p-value is McNemar's exact one, two-sided: how often a coin, thrown once
    for each such row, falls at least as unevenly.

    Args:
        y_true: int8, shape (num_rows,).
        first: float, shape (num_rows,), in [0, 1]: the challenger's scores.
        second: The champion's.
        settings: Threshold, resampling.
        added: Rows added to either side before resampling; half a row keeps a handful of rows from looking like certainty.

    Returns:
        `difference` is positive where the first is better; the interval is the percentile bootstrap's.

    Raises:
        DataError: As `score_predictions`.

    Source: Dietterich (1998), section 3.1; Efron & Tibshirani (1993), ch. 13; Agresti & Min (2005) for `added`.
    """
    from scipy.stats import binomtest

    truth, first_score = _checked(y_true, first)
    _, second_score = _checked(y_true, second)
    first_right = (first_score > settings.threshold) == truth
    second_right = (second_score > settings.threshold) == truth
    wins, losses = int((first_right & ~second_right).sum()), int((second_right & ~first_right).sum())
    rows = truth.size
    counts = np.array([wins + added, losses + added, rows - wins - losses])
    drawn = np.random.default_rng(settings.seed).multinomial(rows, counts / counts.sum(), size=settings.bootstrap_samples)
    difference = (wins - losses) / rows
    return {
        "rows": rows,
        "difference": difference,
        "interval": percentile_interval((drawn[:, 0] - drawn[:, 1]) / rows, difference, settings.confidence) or [],
        "p_value": float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0,
        "only_first_right": wins,
        "only_second_right": losses,
    }


def classification_report_text(y_true: ArrayLike, y_score: ArrayLike, threshold: float) -> str:
    """Return scikit-learn's classification report, as the article prints it, with the classes named."""
    from sklearn.metrics import classification_report

    truth, score = _checked(y_true, y_score)
    text: str = classification_report(truth, score > threshold, labels=[0, 1], target_names=CLASS_NAMES, digits=4, zero_division=0)
    return text


def error_examples(review_ids: Sequence[str], y_true: ArrayLike, y_score: ArrayLike, k: int, threshold: float = 0.5) -> list[ErrorExample]:
    """Return the `k` reviews that were misjudged with the most confidence, worst first, ties by id."""
    truth, score = _checked(y_true, y_score)
    wrong = np.flatnonzero((score > threshold) != truth)
    ids = np.asarray(review_ids, dtype=str)[wrong]
    worst = wrong[np.lexsort((ids, -np.abs(score[wrong] - truth[wrong])))][:k]
    return [{"review_id": str(review_ids[row]), "y_true": int(truth[row]), "y_score": float(score[row])} for row in worst]


def _checked(y_true: ArrayLike, y_score: ArrayLike) -> tuple[IntArray, FloatArray]:
    truth, score = np.asarray(y_true), np.asarray(y_score, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != score.shape or truth.size == 0:
        raise DataError(
            f"Cannot score {score.shape} predictions against {truth.shape} labels. "
            "Expected two columns of equal length with at least one row; check that the test part is not empty."
        )
    if not np.isin(truth, (0, 1)).all():
        raise DataError("Cannot score: a label is neither 0 nor 1. Expected 1 = positive, 0 = negative; see ingest.")
    if outside := int((~((score >= 0) & (score <= 1))).sum()):
        raise DataError(
            f"Cannot score: {outside:,} of {score.size:,} predictions are not probabilities in [0, 1]. "
            "If they are NaN the training diverged: lower the learning rate."
        )
    return truth.astype(np.int8), score


def _class_scores(confusion: NDArray[np.int64], code: int) -> ClassScores:
    hits, predicted, support = int(confusion[code, code]), int(confusion[:, code].sum()), int(confusion[code].sum())
    return {
        "precision": hits / predicted if predicted else 0.0,
        "recall": hits / support if support else 0.0,
        "f1": 2 * hits / (predicted + support) if predicted + support else 0.0,
        "support": support,
    }


def _averaged(negative: ClassScores, positive: ClassScores, weights: tuple[float, float]) -> ClassScores:
    def mean(name: str) -> float:
        return float(weights[0] * negative[name] + weights[1] * positive[name])  # type: ignore[literal-required]

    return {
        "precision": mean("precision"),
        "recall": mean("recall"),
        "f1": mean("f1"),
        "support": negative["support"] + positive["support"],
    }
