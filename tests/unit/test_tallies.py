import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.model.bundle import ReviewScores
from tasks.reviews.batches import Batch
from tasks.reviews.text import text_hashes
from tasks.tallies import Facts, merge_facts, tally

TEXTS = ["It was good and I liked it", "Das ist nicht gut", "", "zxqv", "It is not for me"]
P_POSITIVE = np.array([0.9, 0.4, 0.5, 0.5, 0.1], np.float32)
STATUS = np.array(["ok", "ok", "empty", "unknown_words", "truncated"], object)
LABELS = ["positive", "uncertain", None, None, "negative"]
DAYS = ["2024-01-31", "soon", "2024-01-31", "2024-01-31", "2024-02-01"]


def _tally(rows: slice = slice(None), seen: tuple[int, ...] = (), **columns: list[Any]) -> Facts:
    texts = pa.array(TEXTS)[rows]
    batch = Batch(pa.RecordBatch.from_pydict({"text": texts, **columns}), pa.array(range(1, 6))[rows])
    num_tokens, num_unknown = np.array([7, 4, 0, 1, 5]), np.array([0, 4, 0, 1, 0])
    scores = ReviewScores(P_POSITIVE[rows], STATUS[rows], num_tokens[rows], num_unknown[rows])
    model: Any = SimpleNamespace(seen=np.sort(text_hashes(pa.array([TEXTS[row] for row in seen], pa.string()))))
    return tally(batch, "a.csv", texts, scores, pa.array(LABELS)[rows], model)


def test_a_batch_is_counted() -> None:
    """Status, labels, what drift is told by, extremes and dates of a batch, without any text."""
    facts = _tally(id=["a", "b", "c", "d", "e"], date=DAYS)
    assert facts["status"] == {"empty": 1, "ok": 2, "truncated": 1, "unknown_words": 1}
    assert facts["predicted"] == {"negative": 1, "positive": 1, "uncertain": 1}
    assert facts["looks"]["language"] == {"English": 2, "German": 1, "unclear": 1}
    assert facts["looks"]["totals"] == {"reviews": 4, "tokens": 17, "unknown_tokens": 5}
    assert facts["looks"]["predicted"] == facts["predicted"]
    assert [row[2:] for row in facts["extremes"]["positive"]] == [[1, "a"], [2, "b"], [5, "e"]]
    assert facts["periods"] == {"2024-01-31": {"positive": 1}, "2024-02-01": {"negative": 1}}
    assert facts["undated"] == 1
    assert not any(word in json.dumps(facts) for text in TEXTS for word in text.split() if len(word) > 3)


def test_facts_add_up() -> None:
    """The facts of all rows are those of their stretches merged, through JSON."""
    parts = [_tally(rows, date=DAYS[rows]) for rows in (slice(0, 2), slice(2, 3), slice(3, 5))]
    assert merge_facts(json.loads(json.dumps(part)) for part in parts) == _tally(date=DAYS)


def test_without_dates_nothing_is_said_of_time() -> None:
    """A file without a column of dates has neither periods nor undated rows; merged with one that has, those of that one remain."""
    assert not {"periods", "undated"} & set(_tally())
    merged = merge_facts([_tally(), _tally(date=DAYS), _tally()])
    assert (merged["periods"], merged["undated"]) == ({"2024-01-31": {"positive": 1}, "2024-02-01": {"negative": 1}}, 1)


@pytest.mark.parametrize(("seen", "trained_on"), [((), 0), ((0, 4), 2), ((0, 1, 3, 4), 4)])
def test_training_rows_are_recognised(seen: tuple[int, ...], trained_on: int) -> None:
    """Of the rows that hold text it is known how many the model was trained on."""
    assert _tally(seen=seen)["seen"] == {"looked_up": 4, "trained_on": trained_on}


def test_odd_columns_do_no_harm() -> None:
    """Several columns that may be ids, nested ones, or a name that stands twice, cost the ids or the dates, never the run."""
    two = _tally(id=list("abcde"), uuid=list("abcde"))
    assert {row[3] for row in two["extremes"]["positive"]} == {None}
    nested = _tally(id=[["a"]] * 5, date=[{"day": 1}] * 5)
    assert ({row[3] for row in nested["extremes"]["positive"]}, nested["periods"], nested["undated"]) == ({None}, {}, 3)
    texts = pa.array(TEXTS)
    batch = Batch(pa.RecordBatch.from_arrays([texts, pa.array(DAYS), pa.array(DAYS)], names=["text", "date", "date"]), pa.array(range(5)))
    scores = ReviewScores(P_POSITIVE, STATUS, np.ones(5, np.int64), np.zeros(5, np.int64))
    model: Any = SimpleNamespace(seen=np.empty(0, np.uint64))
    assert tally(batch, "a.csv", texts, scores, pa.array(LABELS), model)["undated"] == 1
    empty = Batch(pa.RecordBatch.from_arrays([texts[:0]], names=["text"]), pa.array([], pa.int64()))
    nothing = ReviewScores(*(np.empty(0, kind) for kind in (np.float32, object, np.int64, np.int64)))
    assert tally(empty, "a.csv", texts[:0], nothing, pa.array([], pa.string()), model)["seen"] == {"looked_up": 0, "trained_on": 0}
