"""Labels over time as counts that add up: by day, and by month or year once there are very many."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

PeriodCounts = dict[str, dict[str, int]]  # JSON-ready: rows by label, by day (2024-01-31), month (2024-01) or year (2024)

MOST_PERIODS = 400
MOST_DAYS_SHOWN = 62
_LENGTHS = {"D": 10, "M": 7, "Y": 4}  # of an ISO date cut to a day, a month, a year


@dataclass(frozen=True)
class Period:
    """A stretch of time and the rows by label in it; `start` is its first day, `end` the day after its last, both ISO 8601."""

    name: str
    start: str
    end: str
    predicted: dict[str, int]

    @property
    def rows(self) -> int:
        """Rows with a label."""
        return sum(self.predicted.values())


def count_days(days: np.ndarray, predicted: pa.Array) -> PeriodCounts:
    """Count labels by day.

    Args:
        days: datetime64[D], shape (num_rows,); a row without a day is left out.
        predicted: string, shape (num_rows,); a row without a label is left out.
    """
    kept = ~np.isnat(days) & predicted.is_valid().to_numpy(zero_copy_only=False)
    labels = predicted.filter(pa.array(kept)).dictionary_encode()
    counts: PeriodCounts = {}
    for place, label in enumerate(labels.dictionary.to_pylist()):
        found, rows = np.unique(days[kept][labels.indices.to_numpy() == place], return_counts=True)
        for day, number in zip(np.datetime_as_string(found).tolist(), rows.tolist(), strict=True):
            counts.setdefault(day, {})[label] = number
    return merge_periods({}, counts)


def merge_periods(one: PeriodCounts, other: PeriodCounts) -> PeriodCounts:
    """Return the counts of both; past `MOST_PERIODS` days they are counts of months, past as many months of years.

    In whatever order stretches of rows are merged, the result is that of all rows at once.

    >>> merge_periods({"2024-01-31": {"positive": 1}}, {"2024-01": {"positive": 2}})
    {'2024-01': {'positive': 3}}
    """
    length = min([len(period) for period in (*one, *other)], default=_LENGTHS["D"])
    while len({period[:length] for period in (*one, *other)}) > MOST_PERIODS and length > _LENGTHS["Y"]:
        length -= 3
    merged: dict[str, Counter[str]] = {}
    for counts in (one, other):
        for period, labels in counts.items():
            merged.setdefault(period[:length], Counter()).update(labels)
    return {period: dict(sorted(merged[period].items())) for period in sorted(merged)}


def list_periods(counts: PeriodCounts) -> list[Period]:
    """Return the periods in order: years, months, days, or weeks where days would be too many to show."""
    if not counts:
        return []
    unit = next(unit for unit, length in _LENGTHS.items() if len(next(iter(counts))) == length)
    starts = np.array(list(counts), f"datetime64[{unit}]")
    if unit == "D" and len(starts) > MOST_DAYS_SHOWN:
        monday = starts - ((starts.astype(np.int64) + 3) % 7).astype("timedelta64[D]")  # the first of January 1970 was a Thursday
        weeks: dict[str, Counter[str]] = {}
        for start, labels in zip(np.datetime_as_string(monday).tolist(), counts.values(), strict=True):
            weeks.setdefault(start, Counter()).update(labels)
        return [Period(f"week of {start}", start, str(np.datetime64(start) + 7), dict(labels)) for start, labels in weeks.items()]
    first, after = starts.astype("datetime64[D]"), (starts + 1).astype("datetime64[D]")
    return [Period(name, str(start), str(end), counts[name]) for name, start, end in zip(counts, first, after, strict=True)]
