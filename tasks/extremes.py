"""The rows to look at: those a model is surest of and those it cannot decide, by place and id, as lists that can be merged."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from tasks.model.decision import NEGATIVE, POSITIVE, UNCERTAIN

Extremes = dict[str, list[list[Any]]]  # JSON-ready: by kind, rows of [probability, source, row, id or null], the foremost first

KINDS = (POSITIVE, NEGATIVE, UNCERTAIN)
MOST_ROWS = 10
DECIMALS = 6  # before rows are ranked: ranking must not depend on how they were batched
LONGEST_ID = 40  # what is longer, or holds spaces, may be text


@dataclass(frozen=True)
class ScoredRow:
    """A row by its place, and by its own id where the input has one that is no text."""

    p_positive: float
    source: str
    source_row: int
    row_id: str | None


def find_extremes(p_positive: np.ndarray, source: str, source_row: np.ndarray, ids: pa.Array | None) -> Extremes:
    """Return the rows of a source that are most certainly positive, most certainly negative, and the most uncertain.

    Args:
        p_positive: float32, shape (num_rows,); not a number where no score was given.
        source: Of all rows.
        source_row: int64, shape (num_rows,).
        ids: Any values, shape (num_rows,), if the input has ids.
    """
    scored = np.flatnonzero(~np.isnan(p_positive))
    p_positive, source_row = np.round(p_positive[scored].astype(np.float64), DECIMALS), source_row[scored]
    extremes: Extremes = {}
    for kind in KINDS:
        order = np.lexsort((source_row, _distance(kind, p_positive)))[:MOST_ROWS]
        names = [None] * len(order) if ids is None else ids.take(pa.array(scored[order])).to_pylist()
        extremes[kind] = [
            [float(p_positive[place]), source, int(source_row[place]), _shown(name)] for place, name in zip(order, names, strict=True)
        ]
    return extremes


def merge_extremes(one: Extremes, other: Extremes) -> Extremes:
    """Return the foremost rows of both; of equal ones those of the source and row that come first."""
    merged: Extremes = {}
    for kind in KINDS:
        rows = [*one.get(kind, []), *other.get(kind, [])]
        merged[kind] = sorted(rows, key=lambda row: (_distance(kind, row[0]), row[1], row[2]))[:MOST_ROWS]
    return merged


def list_extremes(extremes: Extremes) -> dict[str, list[ScoredRow]]:
    """Return the rows by kind."""
    return {kind: [ScoredRow(*row) for row in extremes.get(kind, [])] for kind in KINDS}


def _distance(kind: str, p_positive: Any) -> Any:
    return {POSITIVE: -p_positive, NEGATIVE: p_positive, UNCERTAIN: abs(p_positive - 0.5)}[kind]


def _shown(value: Any) -> str | None:
    """Return an id in words, if it is a plain value that cannot be a text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal | UUID):
        return None
    name = str(value)
    return name if name and len(name) <= LONGEST_ID and not any(map(str.isspace, name)) else None
