"""split: adds `split` (train, validation, test), decided by a hash of the normalised text.

Duplicates never straddle, adding reviews moves no old one, and the same texts are test rows under every preset. A split that the
source declares is honoured; a training row that repeats a test or validation row is left out, into a file of its own.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from pydantic import BaseModel, Field

from tasks.errors import DataError
from tasks.outcome import prefect_state
from tasks.reviews.text import text_hashes
from tasks.schemas import DUPLICATE_OF, REVIEW, REVIEW_ID, SENTIMENT, SPLIT, SPLITS, TEXT_HASH
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
_NAMED_IN_FACTS = 200
_FOR_VALIDATION = np.uint64(0x5851F42D4C957F2D)  # so that no seed's validation rows are another seed's test rows


class SplitSettings(BaseModel, frozen=True, extra="forbid"):
    """Which reviews train, which validate, which test."""

    test_share: float = Field(0.2, gt=0, lt=1, description="share of all reviews held out for the test, where the source declares none")
    validation_share: float = Field(0.1, gt=0, lt=1, description="share of the training reviews that guide early stopping")
    validation_rows: Literal["hash", "last"] = Field(
        "hash", description="hash picks them by text; last takes the last rows, as the article does"
    )
    honour_declared: bool = Field(True, description="keep the split that a source declares in its own split column")
    seed: int = Field(0, ge=0, description="another seed gives another split of the same reviews")


@dataclass(frozen=True)
class SplitPlan:
    """What becomes of each row.

    Args:
        side: int8, shape (num_rows,): 0 train, 1 validation, 2 test.
        left_out: bool, shape (num_rows,): a training row whose text stands on another side.
        first_row: int64, shape (num_rows,): the first row with the same normalised text; its own index where it is the first.
    """

    side: np.ndarray
    left_out: np.ndarray
    first_row: np.ndarray


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
    return SplitPlan(side, left_out, first_row)


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


def split_recipe(tokenized: ArtifactRef, settings: SplitSettings) -> Recipe:
    """Describe what splitting would make."""
    return Recipe.of("split", __name__, {"tokenize": tokenized.sha256}, settings, ("pyarrow", "numpy"))


def split_artifact(tokenized: ArtifactRef, settings: SplitSettings, store: Store) -> StepResult:
    """Write the tokenized rows with their side; training rows left out go to `<key>.left_out.parquet`.

    Raises:
        DataError: A side would be empty or hold one class only.
    """
    recipe = split_recipe(tokenized, settings)
    path = store.path(tokenized)

    def write(draft: Draft) -> None:
        columns = _read_narrow(path)
        plan = plan_split(columns.hashes, columns.declared, settings)
        facts = {**_facts(plan, columns), "declared": honours_declared(columns.declared, settings)}
        _check_sides(facts["rows_by_split"])
        with (
            TableWriter(draft.open(f"split/{recipe.key}.parquet")) as kept,
            TableWriter(draft.open(f"split/{recipe.key}.left_out.parquet")) as left_out,
        ):
            start = 0
            for batch in read_batches(path):
                rows = slice(start, start + batch.num_rows)
                start += batch.num_rows
                batch = _with_side(batch, plan, columns, rows)
                out = plan.left_out[rows]
                left_out.write(batch.filter(pa.array(out)))
                kept.write(batch.filter(pa.array(~out)) if out.any() else batch)
        draft.rows = kept.rows
        draft.facts.update(facts)

    return store.make(recipe, write)


@dataclass(frozen=True)
class _NarrowColumns:
    hashes: np.ndarray
    declared: np.ndarray
    sentiment: np.ndarray
    ids: pa.StringArray


def _read_narrow(path: Any) -> _NarrowColumns:
    def narrow(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray, pa.Array]:
        return text_hashes(batch[REVIEW]), _declared(batch), batch[SENTIMENT].to_numpy(), batch[REVIEW_ID]

    parts = list(map_in_order(narrow, read_batches(path)))
    hashes, declared, sentiment, ids = zip(*parts, strict=True)
    return _NarrowColumns(np.concatenate(hashes), np.concatenate(declared), np.concatenate(sentiment), pa.concat_arrays(ids))


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


def _facts(plan: SplitPlan, columns: _NarrowColumns) -> dict[str, Any]:
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
        "left_out": int(plan.left_out.sum()),
        "left_out_ids": columns.ids.filter(pa.array(plan.left_out)).slice(0, _NAMED_IN_FACTS).to_pylist(),
    }


def _check_sides(rows_by_split: dict[str, dict[str, int]]) -> None:
    lacking = [
        f"{name} ({negative} negative, {positive} positive)"
        for name, (negative, positive) in ((n, tuple(c.values())) for n, c in rows_by_split.items())
        if not negative or not positive
    ]
    if lacking:
        raise DataError(
            f"Too few labelled reviews: after splitting, {', '.join(lacking)} would lack a class. "
            "Every side needs both. Give more reviews, or change split.test_share and split.validation_share."
        )


@task(task_run_name="split")
def split(tokenized: ArtifactRef, settings: SplitSettings, store: Store) -> ArtifactRef:
    """Split the reviews into training, validation and test rows."""
    return prefect_state(split_artifact(tokenized, settings, store))
