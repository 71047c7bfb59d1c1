import json

import numpy as np
import pyarrow as pa

from tasks.extremes import LONGEST_ID, MOST_ROWS, Extremes, find_extremes, list_extremes, merge_extremes


def _find(p_positive: np.ndarray, first_row: int = 1, source: str = "a.csv") -> Extremes:
    rows = np.arange(first_row, first_row + len(p_positive))
    return find_extremes(p_positive, source, rows, pa.array([f"id-{row}" for row in rows]))


def test_the_foremost_rows_are_found() -> None:
    """The surest on both sides and the least sure, each with place, id and probability; rows without a score are no candidates."""
    found = list_extremes(_find(np.array([0.9, 0.52, np.nan, 0.1, 0.99, 0.3], np.float32)))
    assert [row.source_row for row in found["positive"]] == [5, 1, 2, 6, 4]
    assert [row.source_row for row in found["negative"]] == [4, 6, 2, 1, 5]
    assert [row.source_row for row in found["uncertain"]] == [2, 6, 1, 4, 5]
    first = found["positive"][0]
    assert (first.source, first.row_id, first.p_positive) == ("a.csv", "id-5", 0.99)


def test_stretches_give_what_all_rows_give() -> None:
    """Found in batches of any size, in any order, through JSON, the rows are those found at once: ties go to the first rows."""
    p_positive = np.random.default_rng(0).integers(0, 40, 5000).astype(np.float32) / 39
    at_once = _find(p_positive)
    for size in (1, 7, 999):
        parts = [_find(p_positive[start : start + size], start + 1) for start in range(0, len(p_positive), size)]
        merged: Extremes = {}
        for part in reversed(parts):
            merged = merge_extremes(json.loads(json.dumps(part)), merged)
        assert merged == at_once
    assert {len(rows) for rows in at_once.values()} == {MOST_ROWS}
    assert [row[2] for row in at_once["positive"]] == sorted(row[2] for row in at_once["positive"])


def test_sources_are_kept_apart() -> None:
    """Of equal rows those of the source that is named first come first, whichever was merged first."""
    a, b = _find(np.ones(6, np.float32)), _find(np.ones(6, np.float32), source="b.csv")
    assert [row[1] for row in merge_extremes(b, a)["positive"]] == ["a.csv"] * 6 + ["b.csv"] * 4


def test_an_id_that_may_be_text_is_not_shown() -> None:
    """An id with spaces or of great length might be the review itself: such a row is known by its place alone."""
    ids = pa.array(["what a film", "x" * (LONGEST_ID + 1), "x" * LONGEST_ID, None, ""])
    found = list_extremes(find_extremes(np.full(5, 0.9), "a.csv", np.arange(1, 6), ids))
    assert [row.row_id for row in found["positive"]] == [None, None, "x" * LONGEST_ID, None, None]
    assert [row.row_id for row in list_extremes(find_extremes(np.full(2, 0.9), "a.csv", np.arange(1, 3), None))["positive"]] == [None, None]
    for kinds in ([b"\xff"], [["a"]], [True]):
        odd = find_extremes(np.full(1, 0.9), "a.csv", np.array([7]), pa.array(kinds))
        assert list_extremes(odd)["positive"][0].row_id is None
    numbers = list_extremes(find_extremes(np.full(1, 0.9), "a.csv", np.array([7]), pa.array([12])))
    assert numbers["negative"][0].row_id == "12"


def test_nothing_scored_is_nothing_to_look_at() -> None:
    """Rows without scores, or no rows, give empty lists."""
    assert list_extremes(_find(np.full(3, np.nan))) == {"positive": [], "negative": [], "uncertain": []}
    assert merge_extremes({}, {}) == {"positive": [], "negative": [], "uncertain": []}
