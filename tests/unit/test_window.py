from datetime import date

import pyarrow as pa
import pytest
from pydantic import ValidationError

from tasks.errors import CallerError
from tasks.reviews.window import WindowSettings, sort_by_window

ROWS = pa.record_batch(
    {"body": ["a", "b", "c", "d", "e"], "Created At": ["2026-01-31T23:59:59Z", "2026-02-01", "2026-02-28", "", "3/4/2026"]}
)


@pytest.mark.parametrize(
    ("window", "inside"),
    [
        ({}, [True, True, True, False, False]),
        ({"since": "2026-02-01"}, [False, True, True, False, False]),
        ({"until": "2026-02-01"}, [True, True, False, False, False]),
        ({"since": "2026-02-01", "until": "2026-02-01"}, [False, True, False, False, False]),
        ({"since": "2026-02-01", "column": "created_at"}, [False, True, True, False, False]),
    ],
    ids=str,
)
def test_both_ends_are_inside(window: dict[str, str], inside: list[bool]) -> None:
    """A row on the first or the last day is inside, one a day off is not, one that names no day never; the column is found or named."""
    dated = sort_by_window(ROWS, WindowSettings.model_validate(window))
    assert dated.inside.tolist() == inside
    assert dated.column == "Created At"


@pytest.mark.parametrize(("last", "since"), [("1d", "2026-03-14"), ("90d", "2025-12-15"), ("12w", "2025-12-21")])
def test_last_counts_back_from_today(last: str, since: str) -> None:
    """Days and weeks before today become a first day; the rest of the window stays."""
    window = WindowSettings(last=last, until=date(2026, 3, 20), column="when").resolved(date(2026, 3, 15))
    assert window == WindowSettings(since=date.fromisoformat(since), until=date(2026, 3, 20), column="when")
    assert window.resolved(date(2027, 1, 1)) == window


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ({"last": "90"}, "90d or 12w"),
        ({"last": "3m"}, "90d or 12w"),
        ({"last": "90d", "since": "2026-01-01"}, "stands without since"),
        ({"since": "2026-02-02", "until": "2026-02-01"}, "before it begins"),
        ({"since": "yesterday"}, "since"),
    ],
    ids=str,
)
def test_a_window_that_makes_no_sense_is_refused(window: dict[str, str], words: str) -> None:
    """The message says what was expected."""
    with pytest.raises(ValidationError, match=words):
        WindowSettings.model_validate(window)


def test_no_date_column() -> None:
    """Without a column that says when, the error lists the columns and the option; a name that is not there is refused too."""
    columns = pa.record_batch({"body": ["a"], "stars": ["5"]})
    with pytest.raises(CallerError, match=r"No column looks like the date.*'body', 'stars'.*--date-column"):
        sort_by_window(columns, WindowSettings(since=date(2026, 1, 1)))
    with pytest.raises(CallerError, match=r"--date-column 'when' is not among the columns"):
        sort_by_window(columns, WindowSettings(since=date(2026, 1, 1), column="when"))
