"""Which side of the split each review stands on, and which are left out because they repeat one that is held out from them.

Near-duplicates are left out rather than moved to the side of their like: a review that joins two of them would move old rows, and
could make test rows of what a champion was trained on.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from tasks.reviews.near_duplicates import NO_ROW, NearDuplicateSettings, ShingleSets, SortedBands, candidate_pairs, jaccard, most_similar

UNDECLARED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
_FOR_VALIDATION = np.uint64(0x5851F42D4C957F2D)  # so that no seed's validation rows are another seed's test rows
_ROWS_COMPARED = 1 << 15  # whose shingles are in memory at a time


class SplitSettings(BaseModel, frozen=True, extra="forbid"):
    """Which reviews train, which validate, which test."""

    test_share: float = Field(0.2, gt=0, lt=1, description="share of all reviews held out for the test, where the source declares none")
    validation_share: float = Field(0.1, gt=0, lt=1, description="share of the training reviews that guide early stopping")
    validation_rows: Literal["hash", "last"] = Field(
        "hash", description="hash picks them by text; last takes the last rows, as the article does"
    )
    honour_declared: bool = Field(True, description="keep the split that a source declares in its own split column")
    near_duplicates: NearDuplicateSettings | None = Field(
        NearDuplicateSettings(),
        description="leave out of training what nearly repeats a test or validation review; null for exact repetitions only",
    )
    seed: int = Field(0, ge=0, description="another seed gives another split of the same reviews")


@dataclass(frozen=True)
class SplitPlan:
    """What becomes of each row.

    Args:
        side: int8, shape (num_rows,): 0 train, 1 validation, 2 test.
        first_row: int64, shape (num_rows,): the first row with the same normalised text; its own index where it is the first.
        repeats: int64, shape (num_rows,): the row on another side for which this one is left out; -1 where it is kept.
        similarity: float64, shape (num_rows,): Jaccard similarity of the two, 1 where they are the same text; 0 where it is kept.
    """

    side: np.ndarray
    first_row: np.ndarray
    repeats: np.ndarray
    similarity: np.ndarray

    @property
    def left_out(self) -> np.ndarray:
        """Rows that are left out, bool, shape (num_rows,)."""
        return self.repeats != NO_ROW


def plan_split(hashes: np.ndarray, declared: np.ndarray, settings: SplitSettings) -> SplitPlan:
    """Decide the side of every row.

    Args:
        hashes: uint64, shape (num_rows,), of the normalised texts.
        declared: int8, shape (num_rows,): the side a source declares (0, 1, 2), or -1.
        settings: Shares, seed and the rule for validation rows.
    """
    _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
    if not honours_declared(declared, settings):
        declared = np.full_like(declared, UNDECLARED)
    declared_in_group = np.full(len(first), UNDECLARED, np.int8)
    np.maximum.at(declared_in_group, group, declared)  # test outranks validation, which outranks train
    held_out = declared_in_group[group]

    by_hash = _fractions(hashes, settings.seed) < settings.test_share
    side = np.where(declared == UNDECLARED, np.where(held_out == UNDECLARED, by_hash * TEST, held_out), declared).astype(np.int8)
    left_out = (side < held_out) & (declared != UNDECLARED)

    first_row = first[group]
    training = (side == TRAIN) & ~left_out
    if not np.any(declared == VALIDATION):
        if settings.validation_rows == "hash":
            chosen = _fractions(hashes ^ _FOR_VALIDATION, settings.seed) < settings.validation_share
        else:
            last = np.flatnonzero(training)
            cut = len(last) - round(len(last) * settings.validation_share)
            late = np.zeros(len(side), bool)
            late[last[cut:]] = True
            chosen = late[first_row]  # a repeated text stays with its first copy
        side[training & chosen] = VALIDATION
    highest = np.flatnonzero((declared == held_out) & (declared != UNDECLARED))
    _, place = np.unique(group[highest], return_index=True)
    first_held_out = np.full(len(first), NO_ROW)
    first_held_out[group[highest[place]]] = highest[place]
    return SplitPlan(side, first_row, np.where(left_out, first_held_out[group], NO_ROW), left_out.astype(np.float64))


def leave_out_near_duplicates(
    plan: SplitPlan,
    hashes: np.ndarray,
    sketches: np.ndarray,
    read_sets: Callable[[np.ndarray], ShingleSets],
    settings: NearDuplicateSettings,
) -> SplitPlan:
    """Leave out training and validation rows that nearly repeat a test row, and training rows that nearly repeat a validation row.

    Args:
        plan: What `plan_split` decided.
        hashes: uint64, shape (num_rows,), of the normalised texts.
        sketches: uint32, shape (num_rows, num_bands), from `sketch_texts`.
        read_sets: Returns the shingles of rows given by number, ascending.
        settings: When two texts count as one.
    """
    kept = np.flatnonzero(~plan.left_out)
    _, first, text = np.unique(hashes[kept], return_index=True, return_inverse=True)
    rows = np.sort(kept[first])  # one of each text, since copies share a side
    repeats, similarity = np.full(len(hashes), NO_ROW), np.zeros(len(hashes))
    for held_out in (TEST, VALIDATION):
        rows = rows[repeats[rows] == NO_ROW]  # what was left out for the test holds nothing out itself
        below, above = rows[plan.side[rows] < held_out], rows[plan.side[rows] == held_out]
        low, high = candidate_pairs(sketches[below], SortedBands.of(sketches[above]))
        low, high = below[low], above[high]
        found, best = most_similar(low, high, _similarity(low, high, read_sets), len(hashes), settings.threshold)
        repeats, similarity = np.maximum(repeats, found), np.maximum(similarity, best)
    repeats[kept], similarity[kept] = repeats[kept[first[text]]], similarity[kept[first[text]]]
    return replace(plan, repeats=np.maximum(plan.repeats, repeats), similarity=np.maximum(plan.similarity, similarity))


def _similarity(low: np.ndarray, high: np.ndarray, read_sets: Callable[[np.ndarray], ShingleSets]) -> np.ndarray:
    """Return the Jaccard similarity of pairs of rows; the shingles of a bounded number of rows are in memory at a time."""
    similarity = np.empty(len(low))
    start, size = 0, len(low)
    while start < len(low):
        while len(rows := np.unique([low[start : start + size], high[start : start + size]])) > _ROWS_COMPARED and size > 1:
            size //= 2
        pairs = slice(start, start + size)
        sets = read_sets(rows)
        similarity[pairs] = jaccard(sets, np.searchsorted(rows, low[pairs]), sets, np.searchsorted(rows, high[pairs]))
        start, size = start + size, 2 * size
    return similarity


def honours_declared(declared: np.ndarray, settings: SplitSettings) -> bool:
    """Return whether declared sides count: only where test rows are among them."""
    return settings.honour_declared and bool(np.any(declared == TEST))


def _fractions(hashes: np.ndarray, seed: int) -> np.ndarray:
    """Spread hashes evenly over [0, 1), another way for every seed. Source: splitmix64, Steele et al. (2014)."""
    with np.errstate(over="ignore"):
        mixed = hashes + np.uint64(0x9E3779B97F4A7C15) * np.uint64(seed + 1)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)) / float(1 << 53)
