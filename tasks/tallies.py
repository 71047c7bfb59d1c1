"""Facts about scored rows that can be added up: taken a batch at a time, kept with every chunk, merged over chunks and files."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import CallerError
from tasks.extremes import find_extremes, merge_extremes
from tasks.model.bundle import ReviewScores, SentimentModel
from tasks.model.profile import tally_reviews
from tasks.periods import count_days, merge_periods
from tasks.reviews.batches import Batch
from tasks.reviews.columns import find_id_column
from tasks.reviews.dates import days_of, find_date_column
from tasks.reviews.language import guess_languages
from tasks.reviews.text import text_hashes

Facts = dict[str, Any]

_ROWS_LOOKED_UP = 16  # of a batch: looking a text up costs more than scoring may lose


def tally(
    batch: Batch,
    source: str,
    reviews: pa.Array,
    scores: ReviewScores,
    predicted: pa.Array,
    model: SentimentModel,
    id_column: str | None = None,
    date_column: str | None = None,
) -> Facts:
    """Count what a batch of scored rows looks like.

    Args:
        batch: The rows as they were read, shape (num_rows,).
        source: Their file.
        reviews: Their texts.
        scores: What the model says of them.
        predicted: string, their labels; null where no score was given.
        model: The model.
        id_column: The column that identifies a review; found by its name if not given.
        date_column: The column that says when it was written; likewise.

    Returns:
        JSON-ready, to be merged by `merge_facts`: rows by `status` and by `predicted`; `looks`, the tally that drift is told by; how many
        of the rows `looked_up` the model was `trained_on`; the `extremes`; and where a column says dates, labels by `periods` and rows
        `undated`. No text.

    Raises:
        CallerError: A column that was given is not there.
    """
    facts: Facts = {
        "status": _counts(pa.array(scores.status, pa.string())),
        "predicted": _counts(predicted),
        "looks": tally_reviews(scores.num_tokens, scores.num_unknown, guess_languages(reviews), scores.p_positive, predicted),
        "seen": _count_seen(reviews, model),
        "extremes": _extremes(batch, source, scores, predicted, id_column),
    }
    dated_by = find_date_column(batch.columns.schema, date_column)
    if dated_by is not None:
        days = days_of(_column(batch, dated_by))
        facts["periods"] = count_days(days, predicted)
        facts["undated"] = int(np.sum(np.isnat(days) & predicted.is_valid().to_numpy(zero_copy_only=False)))
    return facts


def merge_facts(facts: Iterable[Facts]) -> Facts:
    """Return the facts of several stretches of rows as those of all of them: numbers are added, dicts merged by their keys.

    >>> merge_facts([{"status": {"ok": 2}}, {"status": {"ok": 1, "empty": 1}}])
    {'status': {'ok': 3, 'empty': 1}}
    """
    merged: Facts = {}
    for one in facts:
        merged = merged | {name: _MERGED.get(name, _add)(merged[name], value) if name in merged else value for name, value in one.items()}
    return merged


def _add(one: Any, other: Any) -> Any:
    if isinstance(one, dict):
        return one | {key: _add(one[key], value) if key in one else value for key, value in other.items()}
    return one + other


_MERGED: dict[str, Callable[[Any, Any], Any]] = {"extremes": merge_extremes, "periods": merge_periods}


def _counts(column: pa.Array) -> dict[str, int]:
    counted = {entry["values"]: entry["counts"] for entry in column.value_counts().to_pylist()}
    return {value: counted[value] for value in sorted(name for name in counted if name is not None)}


def _count_seen(reviews: pa.Array, model: SentimentModel) -> dict[str, int]:
    """Look up some reviews, spread over the batch, among those that the model was trained on."""
    full = np.flatnonzero(pc.fill_null(pc.greater(pc.binary_length(reviews), 0), False).to_numpy(zero_copy_only=False))
    chosen = full[np.unique(np.linspace(0, len(full) - 1, min(len(full), _ROWS_LOOKED_UP)).astype(np.int64))] if len(full) else full
    hashes = text_hashes(reviews.take(pa.array(chosen)))
    after, before = (np.searchsorted(model.seen, hashes, side) for side in ("right", "left"))  # `np.isin` would sort them each time
    return {"looked_up": len(chosen), "trained_on": int(np.sum(after > before))}


def _extremes(batch: Batch, source: str, scores: ReviewScores, predicted: pa.Array, asked: str | None) -> Any:
    try:
        id_column = find_id_column(batch.columns.schema.names, asked)
    except CallerError:
        if asked is not None:
            raise
        id_column = None  # several are as likely: the place tells a row as well
    ids = _column(batch, id_column) if id_column is not None else None
    p_positive = np.where(predicted.is_valid().to_numpy(zero_copy_only=False), scores.p_positive, np.nan)
    return find_extremes(p_positive, source, batch.source_row.to_numpy(), ids)


def _column(batch: Batch, name: str) -> pa.Array:
    return batch.columns.column(batch.columns.schema.names.index(name))  # names may stand twice
