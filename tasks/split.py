"""split: adds `split` (train, validation, test), decided by a hash of the normalised text.

Duplicates never straddle, adding reviews moves no old one, and the same texts are test rows under every preset. A split that the
source declares is honoured. A row that repeats one that is held out from it, exactly or nearly, is left out, into a file of its own.
Near-duplicates are left out rather than moved to the side of their like: a review that joins two of them would move old rows, and
could make test rows of what a champion was trained on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from pydantic import BaseModel, Field

from tasks.errors import DataError
from tasks.outcome import log_step, prefect_state
from tasks.reviews.near_duplicates import (
    NO_ROW,
    HeldOutReviews,
    NearDuplicateSettings,
    ShingleSets,
    candidate_pairs,
    jaccard,
    most_similar,
    shingle_sets,
    sketch_texts,
)
from tasks.reviews.text import normalise_text, text_hashes
from tasks.schemas import DUPLICATE_OF, GOLDEN, REVIEW, REVIEW_ID, SENTIMENT, SPLIT, SPLITS, TEXT_HASH, kept_names
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store
from tasks.tables import TableWriter, map_in_order, read_batches

UNDECLARED, TRAIN, VALIDATION, TEST = -1, 0, 1, 2
_DECLARED_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "validation": VALIDATION,
    "valid": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
}
REASON, REPEATS, SIMILARITY = "reason", "repeats", "similarity"  # of a row that was left out
_NAMED_IN_FACTS = 500
_REASONS = tuple(f"{kind} of a {side} review" for side in ("test", "validation") for kind in ("duplicate", "near-duplicate"))
_FOR_VALIDATION = np.uint64(0x5851F42D4C957F2D)  # so that no seed's validation rows are another seed's test rows


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
    rows = kept[first]  # one of each text, since copies share a side
    pairs = []
    for held_out in (TEST, VALIDATION):
        below, above = rows[plan.side[rows] < held_out], rows[plan.side[rows] == held_out]
        low, high = candidate_pairs(sketches[below], sketches[above])
        pairs.append((below[low], above[high]))
    compared = np.unique(np.concatenate([row for pair in pairs for row in pair]))
    sets = read_sets(compared)

    repeats, similarity = np.full(len(hashes), NO_ROW), np.zeros(len(hashes))
    for low, high in pairs:
        present = (repeats[low] == NO_ROW) & (repeats[high] == NO_ROW)  # what was left out for the test holds nothing out itself
        low, high = low[present], high[present]
        similar = jaccard(sets, np.searchsorted(compared, low), sets, np.searchsorted(compared, high))
        found, best = most_similar(low, high, similar, len(hashes), settings.threshold)
        repeats, similarity = np.maximum(repeats, found), np.maximum(similarity, best)
    repeats[kept], similarity[kept] = repeats[rows[text]], similarity[rows[text]]
    return replace(plan, repeats=np.maximum(plan.repeats, repeats), similarity=np.maximum(plan.similarity, similarity))


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


def split_recipe(tokenized: ArtifactRef, settings: SplitSettings, golden: ArtifactRef | None = None) -> Recipe:
    """Describe what splitting would make."""
    inputs = {"tokenize": tokenized.sha256} | ({GOLDEN: golden.sha256} if golden else {})
    return Recipe.of("split", __name__, inputs, settings, ("pyarrow", "numpy"))


def split_artifact(tokenized: ArtifactRef, settings: SplitSettings, store: Store, golden: ArtifactRef | None = None) -> StepResult:
    """Write the tokenized rows with their side; those left out go to `<key>.left_out.parquet`, with the reason.

    Args:
        tokenized: The rows.
        settings: Shares, seed and rules.
        store: Where they are kept.
        golden: The golden test set; rows that repeat one of its reviews, exactly or nearly, are on no side at all.

    Raises:
        DataError: A side would be empty or hold one class only.
    """
    recipe = split_recipe(tokenized, settings, golden)

    def write(draft: Draft) -> None:
        near = settings.near_duplicates
        rows_read = _Rows(store.path(tokenized), _find_golden(store.path(tokenized), store.path(golden), near) if golden else None)
        columns = _read_narrow(rows_read, near)
        plan = plan_split(columns.hashes, columns.declared, settings)
        if near is not None and columns.sketches is not None:
            plan = leave_out_near_duplicates(plan, columns.hashes, columns.sketches, lambda rows: _read_sets(rows_read, rows, near), near)
        why = _left_out_rows(plan, columns)
        facts = {**_facts(plan, columns, why), "declared": honours_declared(columns.declared, settings)}
        facts["in_golden"] = rows_read.num_apart
        _check_sides(facts["rows_by_split"], settings)
        with (
            TableWriter(draft.open(f"split/{recipe.key}.parquet")) as kept,
            TableWriter(draft.open(f"split/{recipe.key}.left_out.parquet")) as left_out,
        ):
            start = 0
            for batch in rows_read.batches():
                rows = slice(start, start + batch.num_rows)
                start += batch.num_rows
                batch = _with_side(batch, plan, columns, rows)
                out = plan.left_out[rows]
                left_out.write(_with_reason(batch.filter(pa.array(out)), why.slice(left_out.rows, int(out.sum()))))
                kept.write(batch.filter(pa.array(~out)) if out.any() else batch)
        draft.rows = kept.rows
        draft.facts.update(facts)
        if rows_read.num_apart:
            log_step("split", f"{rows_read.num_apart:,} rows repeat a review of the golden test set and are on no side")
        if why.num_rows:
            counts = (f"{count:,} {reason}" for reason, count in facts["left_out_by_reason"].items())
            log_step("split", f"{why.num_rows:,} rows left out: {', '.join(counts)}")

    return store.make(recipe, write)


@dataclass(frozen=True)
class _Rows:
    """The tokenized rows, without those set apart; `apart` is bool, shape (num_rows,), or None where none are."""

    path: Path
    apart: np.ndarray | None

    @property
    def num_apart(self) -> int:
        return 0 if self.apart is None else int(self.apart.sum())

    def batches(self, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield row groups, none of them empty."""
        start = 0
        for batch in read_batches(self.path, columns):
            stop = start + batch.num_rows
            kept = batch if self.apart is None else batch.filter(pa.array(~self.apart[start:stop]))
            start = stop
            if kept.num_rows:
                yield kept


def _find_golden(path: Path, golden: Path, near: NearDuplicateSettings | None) -> np.ndarray:
    """Return which rows repeat a golden review, bool, shape (num_rows,)."""
    apart = HeldOutReviews.of((batch[REVIEW] for batch in read_batches(golden, [REVIEW])), near)
    found = map_in_order(lambda batch: apart.repeated_by(batch[REVIEW]) != NO_ROW, read_batches(path, [REVIEW]))
    return np.concatenate(list(found))


@dataclass(frozen=True)
class _NarrowColumns:
    hashes: np.ndarray
    declared: np.ndarray
    sentiment: np.ndarray
    ids: pa.StringArray
    sketches: np.ndarray | None


def _read_narrow(rows: _Rows, near: NearDuplicateSettings | None) -> _NarrowColumns:
    def narrow(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray, pa.Array, np.ndarray | None]:
        text = normalise_text(batch[REVIEW])
        sketches = sketch_texts(text, near) if near is not None else None
        return text_hashes(batch[REVIEW], text), _declared(batch), batch[SENTIMENT].to_numpy(), batch[REVIEW_ID], sketches

    parts = list(map_in_order(narrow, rows.batches()))
    hashes, declared, sentiment, ids, sketches = zip(*parts, strict=True)
    return _NarrowColumns(
        np.concatenate(hashes),
        np.concatenate(declared),
        np.concatenate(sentiment),
        pa.concat_arrays(ids),
        np.concatenate(sketches) if near is not None else None,
    )


def _read_sets(source: _Rows, rows: np.ndarray, near: NearDuplicateSettings) -> ShingleSets:
    """Return the shingles of rows given by number, ascending."""
    parts = []
    start = 0
    for batch in source.batches([REVIEW]) if len(rows) else ():
        low, high = np.searchsorted(rows, (start, start + batch.num_rows))
        parts.append(shingle_sets(normalise_text(batch[REVIEW].take(pa.array(rows[low:high] - start))), near))
        start += batch.num_rows
    return ShingleSets.concatenate(parts)


def _declared(batch: pa.RecordBatch) -> np.ndarray:
    if SPLIT not in batch.schema.names:
        return np.full(batch.num_rows, UNDECLARED, np.int8)
    names = pc.utf8_lower(pc.utf8_trim_whitespace(batch[SPLIT].cast(pa.string())))
    known = pa.array(list(_DECLARED_NAMES), pa.string())
    sides = pa.array(list(_DECLARED_NAMES.values()), pa.int8())
    return pc.fill_null(sides.take(pc.index_in(names, value_set=known)), UNDECLARED).to_numpy(zero_copy_only=False)


def _with_side(batch: pa.RecordBatch, plan: SplitPlan, columns: _NarrowColumns, rows: slice) -> pa.RecordBatch:
    first_row = plan.first_row[rows]
    own_row = np.arange(rows.start, rows.stop)
    added = {
        SPLIT: pa.array(SPLITS).take(pa.array(plan.side[rows])),
        DUPLICATE_OF: columns.ids.take(pa.array(first_row, mask=first_row == own_row)),
        TEXT_HASH: pa.array(columns.hashes[rows]),
    }
    kept = [name for name in batch.schema.names if name not in added]
    return pa.RecordBatch.from_arrays([*batch.select(kept).columns, *added.values()], names=[*kept, *added])


def _left_out_rows(plan: SplitPlan, columns: _NarrowColumns) -> pa.Table:
    """List the rows that are left out: which they are, why, for which row, and how alike the two are."""
    rows = np.flatnonzero(plan.left_out)
    others = plan.repeats[rows]
    near = (columns.hashes[rows] != columns.hashes[others]).astype(np.int8)
    validation = (plan.side[others] == VALIDATION).astype(np.int8)
    return pa.table(
        {
            REVIEW_ID: columns.ids.take(pa.array(rows)),
            REASON: pa.array(_REASONS).take(pa.array(2 * validation + near)),
            REPEATS: columns.ids.take(pa.array(others)),
            SIMILARITY: plan.similarity[rows],
        }
    )


def _with_reason(batch: pa.RecordBatch, why: pa.Table) -> pa.Table:
    """Add reasons to rows that are left out; an input's own columns of such names are renamed."""
    names = (REASON, REPEATS, SIMILARITY)
    table = pa.Table.from_batches([batch]).rename_columns(kept_names(batch.schema.names, names))
    for name in names:
        table = table.append_column(name, why[name])
    return table


def _facts(plan: SplitPlan, columns: _NarrowColumns, left_out: pa.Table) -> dict[str, Any]:
    repeated = plan.first_row != np.arange(len(plan.first_row))
    other_label = repeated & (columns.sentiment != columns.sentiment[plan.first_row])
    return {
        "rows_by_split": {
            name: {
                "negative": int(np.sum((plan.side == side) & ~plan.left_out & (columns.sentiment == 0))),
                "positive": int(np.sum((plan.side == side) & ~plan.left_out & (columns.sentiment == 1))),
            }
            for side, name in enumerate(SPLITS)
        },
        "duplicates": int(repeated.sum()),
        "duplicates_with_other_label": int(other_label.sum()),
        "left_out": left_out.num_rows,
        "left_out_by_reason": {name: count for name in _REASONS if (count := pc.sum(pc.equal(left_out[REASON], name)).as_py())},
        "left_out_rows": left_out.sort_by([(SIMILARITY, "descending")]).slice(0, _NAMED_IN_FACTS).to_pylist(),
    }


def _check_sides(rows_by_split: dict[str, dict[str, int]], settings: SplitSettings) -> None:
    lacking = [
        f"{name} ({negative} negative, {positive} positive)"
        for name, (negative, positive) in ((n, tuple(c.values())) for n, c in rows_by_split.items())
        if not negative or not positive
    ]
    if settings.validation_rows == "last" and lacking == [entry for entry in lacking if entry.startswith("validation ")] != []:
        raise DataError(
            f"The last training rows are {lacking[0]}: the reviews seem to be sorted by their labels. "
            "The article takes the last rows for validation; choose them by text instead with --set split.validation_rows=hash."
        )
    if lacking:
        raise DataError(
            f"Too few labelled reviews: after splitting, {', '.join(lacking)} would lack a class. "
            "Every side needs both. Give more reviews, or change split.test_share and split.validation_share."
        )


@task(task_run_name="split")
def split(tokenized: ArtifactRef, settings: SplitSettings, store: Store, golden: ArtifactRef | None = None) -> ArtifactRef:
    """Split the reviews into training, validation and test rows."""
    return prefect_state(split_artifact(tokenized, settings, store, golden))
