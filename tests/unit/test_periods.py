import json
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from tasks.periods import MOST_DAYS_SHOWN, MOST_PERIODS, PeriodCounts, count_days, list_periods, merge_periods


def _count(days: list[str | None], labels: list[str | None]) -> PeriodCounts:
    return count_days(np.array(days, "datetime64[D]"), pa.array(labels, pa.string()))


def test_labels_are_counted_by_day() -> None:
    """Rows are counted by day and label; those without a day or a label are left out."""
    days = ["2024-02-01", "2024-01-31", "2024-02-01", None, "2024-02-01"]
    assert _count(days, ["positive", "negative", "positive", "positive", None]) == {
        "2024-01-31": {"negative": 1},
        "2024-02-01": {"positive": 2},
    }


def _stretches(num_days: int) -> Iterator[PeriodCounts]:
    days = np.datetime64("2020-02-27") + np.arange(num_days)
    for part in np.array_split(days, 7):
        yield count_days(part, pa.array(["positive"] * len(part)))


@pytest.mark.parametrize(("num_days", "length"), [(MOST_PERIODS, 10), (MOST_PERIODS + 1, 7), (31 * (MOST_PERIODS + 2), 4)])
def test_very_many_days_become_months_and_years(num_days: int, length: int) -> None:
    """The counts never have more periods than are allowed, lose no row, and do not depend on the order of merging."""
    forward: PeriodCounts = {}
    backward: PeriodCounts = {}
    for part in _stretches(num_days):
        forward = merge_periods(forward, json.loads(json.dumps(part)))
    for part in reversed(list(_stretches(num_days))):
        backward = merge_periods(part, backward)
    assert json.dumps(forward) == json.dumps(backward)
    assert {len(period) for period in forward} == {length}
    assert len(forward) <= MOST_PERIODS
    assert sum(labels["positive"] for labels in forward.values()) == num_days


def test_periods_say_when_they_begin_and_end() -> None:
    """Days, months and years in order; the end of each is the day after it."""
    (leap,) = list_periods({"2024-02-29": {"positive": 1}})
    assert (leap.name, leap.start, leap.end, leap.rows) == ("2024-02-29", "2024-02-29", "2024-03-01", 1)
    (february,) = list_periods({"2024-02": {"positive": 1, "negative": 2}})
    assert (february.start, february.end, february.rows) == ("2024-02-01", "2024-03-01", 3)
    (year,) = list_periods({"2024": {"positive": 1}})
    assert (year.start, year.end) == ("2024-01-01", "2025-01-01")
    assert list_periods({}) == []


def test_many_days_are_shown_as_weeks() -> None:
    """More days than can be shown become weeks from Monday to Sunday; no row is lost."""
    days = np.datetime64("2024-01-03") + np.arange(MOST_DAYS_SHOWN + 1)
    periods = list_periods(count_days(days, pa.array(["positive"] * len(days))))
    assert (periods[0].name, periods[0].start, periods[0].end, periods[0].rows) == ("week of 2024-01-01", "2024-01-01", "2024-01-08", 5)
    assert {np.datetime64(period.start).astype(object).weekday() for period in periods} == {0}
    assert sum(period.rows for period in periods) == len(days)
    assert len(list_periods(count_days(days[1:], pa.array(["positive"] * MOST_DAYS_SHOWN)))) == MOST_DAYS_SHOWN
