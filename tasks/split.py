"""split: adds `split` (train, validation, test), decided by a hash of the normalised text.

Duplicates never straddle, adding reviews moves no old one, and the same texts are test rows under every preset. A split that the
source declares is honoured. A row that repeats one that is held out from it, exactly or nearly, is left out, into a file of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task

from tasks.discreet import discreet
from tasks.errors import DataError
from tasks.outcome import log_step, prefect_state
from tasks.reviews.near_duplicates import NO_ROW, HeldOutReviews, NearDuplicateSettings, ShingleSets, shingle_sets, sketch_texts
from tasks.reviews.sides import (
    TEST,
    TRAIN,
    UNDECLARED,
    VALIDATION,
    SplitPlan,
    SplitSettings,
    honours_declared,
    leave_out_near_duplicates,
    plan_split,
)
from tasks.reviews.text import normalise_text, text_hashes
from tasks.schemas import DUPLICATE_OF, GOLDEN, REVIEW, REVIEW_ID, SENTIMENT, SPLIT, SPLITS, TEXT_HASH, kept_names
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store
from tasks.tables import TableWriter, map_in_order, read_batches

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
        if low < high:
            parts.append(shingle_sets(normalise_text(batch[REVIEW].take(pa.array(rows[low:high] - start))), near))
        if high == len(rows):
            break
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
@discreet
def split(tokenized: ArtifactRef, settings: SplitSettings, store: Store, golden: ArtifactRef | None = None) -> ArtifactRef:
    """Split the reviews into training, validation and test rows."""
    return prefect_state(split_artifact(tokenized, settings, store, golden))
