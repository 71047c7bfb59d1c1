from datetime import UTC, date, datetime, timedelta, timezone

import pyarrow as pa
import pytest

from tasks.errors import CallerError
from tasks.reviews.dates import days_of, find_date_column

DAY = date(2024, 1, 31)


@pytest.mark.parametrize(
    "written",
    [
        "2024-01-31", "2024-01-31T23:59:59.999Z", "2024/1/31 10:00", "2024.01.31", " 2024-01-31 10:00:00 -0800", "31.1.2024",
        "31.01.2024, 10:00",
        "Jan 31, 2024", "January 31, 2024", "31 Jan 2024", "31. January 2024", "31-Jan-2024", "Wed, 31 Jan 2024 10:00:00 +0100",
        "Wednesday, January 31, 2024", "Wed Jan 31 20:19:24 +0000 2024", "1706659200", "1706659200123",
    ],
)  # fmt: skip
def test_dates_are_read_as_people_and_programs_write_them(written: str) -> None:
    """Each usual way of writing a day is understood, among others in one column."""
    assert days_of(pa.array([None, written, "2023-12-24"])).tolist() == [None, DAY, date(2023, 12, 24)]


@pytest.mark.parametrize(
    "written",
    ["1/2/2024", "01-02-2024", "2024-13-01", "2023-02-29", "2024-00-10", "31 Foo 2024", "soon", "", "12", "0001-01-01", "9999-12-31"],
)  # fmt: skip
def test_what_may_be_another_day_is_none(written: str) -> None:
    """A value that names no day, no possible day, or perhaps two, is not guessed."""
    assert days_of(pa.array([written])).tolist() == [None]


def test_typed_columns_are_taken_as_they_are() -> None:
    """Dates and timestamps of any unit, and seconds as numbers, give their day; nulls and other types none."""
    moment = datetime(2024, 1, 31, 22, 30)
    for kind in (pa.timestamp("s"), pa.timestamp("ns"), pa.date32(), pa.date64()):
        assert days_of(pa.array([moment, None]).cast(kind, safe=False)).tolist() == [DAY, None]
    there = moment.replace(tzinfo=timezone(timedelta(hours=-1)))
    assert days_of(pa.array([there.astimezone(UTC)], pa.timestamp("us", "UTC"))).tolist() == [DAY]
    assert days_of(pa.array([1706659200, None])).tolist() == [DAY, None]
    assert days_of(pa.array([True])).tolist() == [None]
    assert days_of(pa.array(["2024-01-31", None]).dictionary_encode()).tolist() == [DAY, None]
    for other in (pa.array([["2024-01-31"]]), pa.array([b"\xff"]), pa.array([1.5]), pa.nulls(1)):
        assert days_of(other).tolist() == [None]
    assert days_of(pa.array([], pa.string())).tolist() == []


def test_the_date_column_is_found() -> None:
    """By its usual name in any spelling, the likeliest first; else the only column of a date's type; else none."""
    text, moment = pa.string(), pa.timestamp("s")
    assert find_date_column(pa.schema({"id": text, "Created_At": text, "review": text})) == "Created_At"
    assert find_date_column(pa.schema({"time": text, "review date": text})) == "review date"
    assert find_date_column(pa.schema({"id": text, "bought": moment})) == "bought"
    assert find_date_column(pa.schema({"bought": moment, "sold": moment})) is None
    assert find_date_column(pa.schema({"id": text, "review": text})) is None


@pytest.mark.parametrize("name", ["Datum", "Erstellt am", "ERSTELLUNGSDATUM", "Fecha de creación", "date de création", "dataOra"])
def test_a_date_column_is_known_in_other_languages(name: str) -> None:
    """The usual names of exports in German, Spanish, French and Italian count too, before names that only end like dates."""
    text = pa.string()
    assert find_date_column(pa.schema({"Bewertung": text, name: text, "paid_on": text})) == name


@pytest.mark.parametrize(
    "name",
    [
        "written_at",
        "order.date",
        "answeredOn",
        "Sent at",
        "ticket.created_at",
        "REVIEW_TIMESTAMP",
        "Kaufdatum",
        "Geschrieben am",
        "fecha_compra",
        "Date d'achat",
    ],
)
def test_a_date_column_is_known_by_the_end_of_its_name(name: str) -> None:
    """The only one that ends as those of dates do is it, where none has a usual name; of two, neither; `format` and `station` do not."""
    text = pa.string()
    assert find_date_column(pa.schema({"id": text, name: text, "format": text, "station": text})) == name
    assert find_date_column(pa.schema({"id": text, name: text, "paid_on": text})) is None


def test_the_date_column_that_is_asked_for() -> None:
    """It is taken, whatever the others are called; one that is not there is refused."""
    schema = pa.schema({"date": pa.string(), "bought": pa.string()})
    assert find_date_column(schema, "Bought") == "bought"
    with pytest.raises(CallerError, match="--date-column 'sold' is not among the columns 'date', 'bought'"):
        find_date_column(schema, "sold")
