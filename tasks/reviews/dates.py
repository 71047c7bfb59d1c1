"""When a review was written: which column says so, and the day in each of its rows."""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.reviews.columns import named_column, plain_name

_NAMES = ("date", "reviewdate", "datetime", "timestamp", "createdat", "created", "createdon", "createddate", "creationdate", "postedat",
          "postdate", "submittedat", "submissiondate", "receivedat", "publishedat", "tweetcreated", "unixreviewtime", "reviewtime",
          "reviewedat", "time", "day",
          "datum", "erstelltam", "erstellungsdatum", "bewertungsdatum", "eingangsdatum", "zeitstempel", "zeitpunkt", "verfasstam", "dato",
          "datedecréation", "datedecreation", "datecreation", "horodatage", "fecha", "fechadecreación", "fechadecreacion",
          "fechacreacion", "dataora", "datadicreazione", "datahora", "datadecriação", "datacriacao", "datautworzenia", "aangemaaktop",
          "skapad")  # fmt: skip
_LIKE_A_DATE = re.compile(  # written_at, orderDate, Kaufdatum, fecha_compra
    r"(?:[\W_](?i:at|on|date|time|timestamp|am)|[a-z](?:At|On|Date|Time|Timestamp)|(?i:datum|zeitpunkt|zeitstempel))$"
    r"|^(?i:fecha|date)(?:[\W_]|(?=[A-Z]))"
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATES = (
    r"^(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})(?:\D|$)",
    r"^(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})(?:\D|$)",
    r"^(?:[a-z]{3,9},? )?(?P<day>\d{1,2})\.?[ -](?P<month>[a-z]{3})[a-z]{0,6}\.?[ ,-]+(?P<year>\d{4})(?:\D|$)",
    r"^(?:[a-z]{3,9},? )?(?P<month>[a-z]{3})[a-z]{0,6}\.? (?P<day>\d{1,2})(?:,? |,? [\d:]{5,8} [^ ]+ )(?P<year>\d{4})(?:\D|$)",
)
_SINCE_1970 = {"s": r"^\d{9,10}$", "ms": r"^\d{12,13}$"}  # as databases export times
_FIRST_DAY, _LAST_DAY = np.datetime64("1970-01-02"), np.datetime64("2100-01-01")


def find_date_column(schema: pa.Schema, asked: str | None = None) -> str | None:
    """Return the column that says when each review was written, or None.

    It is the one asked for; else one of a usual name, the likeliest first; else the only one of a date's type; else the only one whose
    name is like those of dates.

    Raises:
        CallerError: The column asked for is not there.
    """
    if asked is not None:
        return named_column(schema.names, asked, "--date-column")
    by_name = {plain_name(name): name for name in reversed(schema.names)}
    for name in _NAMES:
        if name in by_name:
            return by_name[name]
    typed = [field.name for field in schema if _is_time(field.type)]
    likely = typed or [name for name in schema.names if _LIKE_A_DATE.search(name)]
    return likely[0] if len(likely) == 1 else None


def days_of(column: pa.Array) -> np.ndarray:
    """Return the day that each value names.

    Read are dates and times as such, `2024-01-31…`, `31.1.2024…`, `Jan 31, 2024`, `31 January 2024`, the dates of mails and tweets, and
    seconds or milliseconds since 1970. Not `1/2/2024`, which is two days.

    Returns:
        datetime64[D], shape (num_rows,): not a time where no day is named for certain, or none between 1970 and 2100.

    >>> days_of(pa.array(["2024-01-31T10:00:00Z", "31.1.2024 10:00", "1/2/2024", None])).tolist()
    [datetime.date(2024, 1, 31), datetime.date(2024, 1, 31), None, None]
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if _is_time(column.type):
        days = column.to_numpy(zero_copy_only=False).astype("datetime64[D]")
    elif _is_written(column.type):
        days = _read_days(pc.utf8_lower(pc.utf8_trim_whitespace(column.cast(pa.string()))))
    else:
        days = np.full(len(column), "NaT", "datetime64[D]")
    return np.where((days >= _FIRST_DAY) & (days < _LAST_DAY), days, np.datetime64("NaT"))


def _read_days(text: pa.Array) -> np.ndarray:
    days = np.full(len(text), "NaT", "datetime64[D]")
    waiting = np.arange(len(text))
    for pattern in _DATES:
        found = pc.extract_regex(text.take(pa.array(waiting)), pattern)
        matched = found.is_valid().to_numpy(zero_copy_only=False)
        year, month, day = (pc.struct_field(found.filter(pa.array(matched)), name) for name in ("year", "month", "day"))
        days[waiting[matched]] = _days_from(year, month, day)
        waiting = waiting[~matched]
    for unit, pattern in _SINCE_1970.items():
        numbers = text.take(pa.array(waiting))
        matched = pc.fill_null(pc.match_substring_regex(numbers, pattern), False).to_numpy(zero_copy_only=False)
        since_1970 = numbers.filter(pa.array(matched)).cast(pa.int64()).to_numpy()
        days[waiting[matched]] = since_1970.astype(f"datetime64[{unit}]").astype("datetime64[D]")
        waiting = waiting[~matched]
    return days


def _days_from(year: pa.Array, month: pa.Array, day: pa.Array) -> np.ndarray:
    """Return days from digits, the month perhaps by its name; not a time where there is no such day."""
    by_name = pc.index_in(month, value_set=pa.array(_MONTHS))
    digits = pc.if_else(pc.match_substring_regex(month, r"^\d+$"), month, None).cast(pa.int64())
    number = pc.fill_null(pc.coalesce(digits, pc.add(by_name, 1).cast(pa.int64())), 0).to_numpy()
    start = ((year.cast(pa.int64()).to_numpy() - 1970) * 12 + np.clip(number, 1, 12) - 1).astype("datetime64[M]")
    found = start.astype("datetime64[D]") + (day.cast(pa.int64()).to_numpy() - 1)
    return np.where((number >= 1) & (number <= 12) & (found.astype("datetime64[M]") == start), found, np.datetime64("NaT"))


def _is_written(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_integer(kind)


def _is_time(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)
