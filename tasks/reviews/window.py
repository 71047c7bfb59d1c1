"""Which rows lie in a window of time: told by the day in their date column; rows without a day are told apart."""

import re
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, model_validator

from tasks.errors import CallerError
from tasks.reviews.columns import show_name
from tasks.reviews.dates import days_of, find_date_column

_LAST = re.compile(r"(\d{1,5})([dw])")
_DAYS = {"d": 1, "w": 7}


class WindowSettings(BaseModel, frozen=True, extra="forbid"):
    """From when to when reviews are used; both days are included."""

    since: date | None = Field(None, description="first day, such as 2026-01-31")
    until: date | None = Field(None, description="last day")
    last: str | None = Field(None, description="instead of since: the days before today, such as 90d or 12w")
    column: str | None = Field(None, description="the column that says when a review was written; found by its name if not given")

    @model_validator(mode="after")
    def _fits(self) -> "WindowSettings":
        if self.last is not None and (self.since is not None or not _LAST.fullmatch(self.last)):
            raise ValueError(f"last is a number of days or weeks, such as 90d or 12w, and stands without since; got {self.last!r}")
        if self.since and self.until and self.since > self.until:
            raise ValueError(f"the window ends ({self.until}) before it begins ({self.since})")
        return self

    @property
    def is_open(self) -> bool:
        """Whether every row lies inside."""
        return self.since is None and self.until is None and self.last is None

    def resolved(self, today: date) -> "WindowSettings":
        """Return the same window with `last` turned into `since`, so that the day it was asked on is part of what was asked.

        >>> WindowSettings(last="2w").resolved(date(2026, 3, 15)).since
        datetime.date(2026, 3, 1)
        """
        found = _LAST.fullmatch(self.last or "")
        if not found:
            return self
        since = today - timedelta(days=int(found[1]) * _DAYS[found[2]])
        return WindowSettings(since=since, until=self.until, column=self.column)

    def describe(self) -> str:
        """Return the window in words."""
        return " ".join([*([f"since {self.since}"] if self.since else []), *([f"until {self.until}"] if self.until else [])])


@dataclass(frozen=True)
class Dated:
    """Rows sorted by their day.

    Args:
        column: Which column said so.
        inside: bool, shape (num_rows,).
        day: datetime64[D], shape (num_rows,): not a time where the row names no day.
    """

    column: str
    inside: np.ndarray
    day: np.ndarray


def sort_by_window(columns: pa.RecordBatch, window: WindowSettings) -> Dated:
    """Tell which rows lie in a window whose `last` was resolved.

    Raises:
        CallerError: No column is known to say when a review was written.
    """
    if window.last:
        raise ValueError("A window that says `last` means nothing before it is resolved to a day.")
    names = columns.schema.names
    column = find_date_column(columns.schema, window.column)
    if column is None:
        shown = ", ".join(repr(show_name(name)) for name in names)
        raise CallerError(
            f"No column looks like the date, which --since, --until and --last need. The columns are: {shown}. "
            "Usual names are date, created_at, timestamp. Name it with --date-column."
        )
    day = days_of(columns[column])
    inside = ~np.isnat(day)
    if window.since:
        inside &= day >= np.datetime64(window.since)
    if window.until:
        inside &= day <= np.datetime64(window.until)
    return Dated(column, inside, day)
