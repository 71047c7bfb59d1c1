import csv
import gzip
import json
import logging
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.errors import CallerError, DataError
from tasks.ingest import IngestSettings, ingest_artifact
from tasks.reviews.labels import LabelSettings
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.sample import SampleSettings
from tasks.reviews.window import WindowSettings
from tasks.store import Record, Store
from tasks.tables import read_columns

LENIENT = IngestSettings(max_refused_share=1)
SECRET = "my diagnosis is nobody's business"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty artifacts folder."""
    return Store(tmp_path / "artifacts")


def _csv(path: Path, rows: list[tuple[Any, ...]], header: tuple[str, ...] = ("review", "sentiment")) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def _ingest(store: Store, *names: str, settings: IngestSettings = IngestSettings()) -> tuple[Record, pa.Table, list[dict[str, Any]]]:  # noqa: B008
    """Return the record, the accepted rows and the quarantine."""
    record = ingest_artifact(names, settings, store).record
    accepted, quarantine = (read_columns(store.path(file)) for file in record.files)
    return record, accepted, quarantine.to_pylist()


def test_the_promised_columns_come_first(store: Store, tmp_path: Path) -> None:
    """Id, review as given, sentiment, source and row, in their types; then the input's own columns as they were."""
    rows = [("007", " Great\nfilm! ", "Positive", "NA"), ("008", "Dull.", "NEG", "")]
    _, accepted, _ = _ingest(store, _csv(tmp_path / "in.csv", rows, ("id", "Review Text", "Sentiment", "tag")))
    assert accepted.schema.remove_metadata() == pa.schema(
        [
            ("review_id", pa.string()),
            ("review", pa.string()),
            ("sentiment", pa.int8()),
            ("source", pa.string()),
            ("source_row", pa.int64()),
            ("tag", pa.string()),
        ]
    )
    assert [tuple(row.values()) for row in accepted.to_pylist()] == [
        ("007", " Great\nfilm! ", 1, "in.csv", 1, "NA"),
        ("008", "Dull.", 0, "in.csv", 2, ""),
    ]


@pytest.mark.parametrize(
    ("labels", "settings", "expected", "dropped"),
    [
        (["1", "0", "1"], LabelSettings(), [1, 0, 1], 0),
        (["5", "1", "3", "2", "4"], LabelSettings(), [1, 0, 0, 1], 1),
        (["10", "1", "5", "6", "7"], LabelSettings(), [1, 0, 1], 2),
        (["pos", "meh", "neg"], LabelSettings(extra={"meh": "drop"}), [1, 0], 1),
        (["pos", "meh", "neg"], LabelSettings(extra={"meh": "negative"}), [1, 0, 0], 0),
        (["1", "2"], LabelSettings(extra={"1": "negative", "2": "positive"}), [0, 1], 0),
        (["3", "2"], LabelSettings(scale="5", positive_at_least=3), [1, 0], 0),
    ],
)
def test_labels_of_any_kind(
    store: Store, tmp_path: Path, labels: list[str], settings: LabelSettings, expected: list[int], dropped: int
) -> None:
    """Words, bits and stars become 1 and 0; what is dropped knowingly is counted and not refused."""
    path = _csv(tmp_path / "in.csv", [(f"Film {n}.", label) for n, label in enumerate(labels)])
    record, accepted, quarantine = _ingest(store, path, settings=IngestSettings(labels=settings))
    assert accepted["sentiment"].to_pylist() == expected and quarantine == []
    assert (record.facts["rows_read"], record.facts["rows_dropped"], record.facts["rows_refused"]) == (len(labels), dropped, 0)


def test_an_id_is_kept_or_made(store: Store, tmp_path: Path) -> None:
    """A row without an id of its own is named by its source and its row there."""
    with_ids = _csv(
        tmp_path / "a.csv", [("Good.", "pos", "x1"), ("Bad.", "neg", ""), ("Fine.", "pos", "x3")], ("review", "sentiment", "id")
    )
    without = _csv(tmp_path / "b.csv", [("Good.", "pos"), ("", "neg"), ("Fine.", "pos")])
    pq.write_table(pa.table({"text": ["Good.", "Bad."], "label": [1, 0], "id": [17, None]}), tmp_path / "c.parquet")
    _, accepted, _ = _ingest(store, with_ids, without, str(tmp_path / "c.parquet"), settings=LENIENT)
    assert accepted["review_id"].to_pylist() == ["x1", "a.csv#2", "x3", "b.csv#1", "b.csv#3", "17", "c.parquet#2"]


def test_columns_of_our_names_are_kept_under_others(store: Store, tmp_path: Path) -> None:
    """A column that a step adds itself becomes `input_<name>`; `split`, which a source may declare, stays."""
    header = ("review", "sentiment", "text", "tokens", "source", "input_source", "source_row", "text_hash", "duplicate_of", "split")
    settings = IngestSettings(text_column="review")
    _, accepted, _ = _ingest(store, _csv(tmp_path / "in.csv", [("Good.", "pos", *"abcdefgh")], header), settings=settings)
    own = ["review_id", "review", "sentiment", "source", "source_row"]
    assert accepted.drop(own).to_pylist() == [
        {
            "input_text": "a",
            "input_tokens": "b",
            "input_input_source": "c",
            "input_source": "d",
            "input_source_row": "e",
            "input_text_hash": "f",
            "input_duplicate_of": "g",
            "split": "h",
        }
    ]
    assert accepted["source"].to_pylist() == ["in.csv"]


def test_files_of_different_columns(store: Store, tmp_path: Path) -> None:
    """All columns of all files, null where a file lacks one; one that differs in type becomes text. Order is that of the sources."""
    plain = _csv(tmp_path / "a.csv", [("Good.", "pos", "5"), ("Bad.", "neg", "")], ("review", "sentiment", "votes"))
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "Fine.", "label": "pos", "place": "Oslo"}))
    pq.write_table(pa.table({"label": [True], "votes": [7], "content": ["Great."]}), tmp_path / "c.parquet")
    record, accepted, _ = _ingest(store, plain, str(tmp_path / "b.jsonl"), str(tmp_path / "c.parquet"))
    assert accepted["review"].to_pylist() == ["Good.", "Bad.", "Fine.", "Great."]
    assert accepted["sentiment"].to_pylist() == [1, 0, 1, 1]
    assert accepted["votes"].to_pylist() == ["5", "", None, "7"]
    assert accepted["place"].to_pylist() == [None, None, "Oslo", None]
    assert record.facts["rows_by_source"] == {"a.csv": 2, "b.jsonl": 1, "c.parquet": 1}
    assert (record.facts["positive"], record.facts["negative"], record.facts["sample"]) == (3, 1, False)


def test_columns_keep_their_types(store: Store, tmp_path: Path) -> None:
    """What Parquet says of a column still holds."""
    table = pa.table({"review": ["Good."], "sentiment": ["pos"], "votes": pa.array([3], pa.int16()), "tags": [["a", "b"]]})
    pq.write_table(table, tmp_path / "in.parquet")
    _, accepted, _ = _ingest(store, str(tmp_path / "in.parquet"))
    assert accepted.select(["votes", "tags"]).equals(table.select(["votes", "tags"]))


def test_refused_rows_stand_in_quarantine(store: Store, tmp_path: Path) -> None:
    """Every row that is not accepted has its source, row, line where the reader knows it, and the reason; the others lose nothing."""
    (tmp_path / "in.csv").write_bytes(
        b'review,sentiment\nGood.,pos\nRagged,row,pos\n   ,neg\nFine.,meh\nBad\xff,neg\nNo label,\n"Two\nlines",neg\n'
    )
    record, accepted, quarantine = _ingest(
        store, str(tmp_path / "in.csv"), settings=LENIENT.model_copy(update={"reader": ReaderSettings(encoding="utf-8")})
    )
    assert accepted["review"].to_pylist() == ["Good.", "Two\nlines"] and accepted["source_row"].to_pylist() == [1, 7]
    assert sorted((row["row"], row["line"]) for row in quarantine) == [(2, 3), (3, None), (4, None), (5, 6), (6, None)]
    assert {row["source"] for row in quarantine} == {"in.csv"}
    reasons = {row["row"]: row["reason"] for row in quarantine}
    assert "3" in reasons[2] and reasons[3] == "empty text" and reasons[4] == "unknown sentiment 'meh'"
    assert "0xFF" in reasons[5] and reasons[6] == "unknown sentiment ''"
    assert (record.facts["rows_read"], record.facts["rows_refused"]) == (7, 5)
    assert record.facts["refused_by_reason"]["empty text"] == 1


def _mostly_good(tmp_path: Path, num_bad: int, label: str = "meh") -> str:
    rows = [(f"Film {n}. {SECRET}", "pos" if n % 2 else "neg") for n in range(100 - num_bad)]
    return _csv(tmp_path / "in.csv", rows + [(f"Film {n}. {SECRET}", label) for n in range(num_bad)])


def test_too_many_refused_rows_stop_the_run(store: Store, tmp_path: Path) -> None:
    """Above the limit the error counts, names the first place of each reason and says what to do; at the limit the run goes on."""
    assert _ingest(store, _mostly_good(tmp_path, 5))[0].rows == 95
    with pytest.raises(DataError) as caught:
        _ingest(store, _mostly_good(tmp_path, 6))
    assert str(caught.value) == (
        "6 of 100 rows were refused, more than 5%:\n"
        "  6 × unknown sentiment 'meh' (first in in.csv, row 95)\n"
        "Correct the file, map labels with --label WORD=positive|negative|drop, or allow more with --set ingest.max_refused_share=0.2."
    )
    assert caught.value.exit_code == 3
    assert len(list((store.root / "ingest").glob("*.json"))) == 1 and not list((store.root / "tmp").iterdir())
    with pytest.raises(DataError, match=r"(?s)more than 3%.*, line 3\)"):
        (tmp_path / "in.csv").write_text("review,sentiment\ngood,pos\na,b,c\n" + "fine,pos\n" * 9)
        _ingest(store, str(tmp_path / "in.csv"), settings=IngestSettings(max_refused_share=0.03))


def test_a_review_is_never_in_an_error_a_log_or_the_quarantine(store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Even where a review stands in the label's place, only its length is told."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(DataError, match=r"10 × unknown sentiment \(a text of 33 characters\) \(first in in\.csv, row 91\)") as caught:
        _ingest(store, _mostly_good(tmp_path, 10, label=SECRET))
    _, _, quarantine = _ingest(store, str(tmp_path / "in.csv"), settings=LENIENT)
    told = f"{caught.value} {caplog.text} {quarantine}"
    assert len(quarantine) == 10 and "diagnosis" not in told and "business" not in told


def test_nothing_to_learn_from_is_an_error(store: Store, tmp_path: Path) -> None:
    """A file all of whose rows are dropped or refused, within the limit, is no training data."""
    path = _csv(tmp_path / "in.csv", [("Good.", "meh"), ("", "pos")])
    settings = IngestSettings(labels=LabelSettings(extra={"meh": "drop"}), max_refused_share=1)
    with pytest.raises(DataError, match=r"No labelled reviews were found\. Expected rows with a text and a sentiment"):
        _ingest(store, path, settings=settings)


def test_a_column_that_is_not_found_names_its_file(store: Store, tmp_path: Path) -> None:
    """Of several files, the error says which one lacks the column, what there is and which option helps."""
    good = _csv(tmp_path / "good.csv", [("Good.", "pos")])
    with pytest.raises(
        CallerError, match=r"^bad\.csv: No column looks like the label\. The columns are: 'review', 'mood'\..*--label-column"
    ):
        _ingest(store, good, _csv(tmp_path / "bad.csv", [("Good.", "pos")], ("review", "mood")))
    with pytest.raises(CallerError, match=r"^both\.csv: Several columns may be the text: 'review', 'text'\. Choose one with --text-column"):
        _ingest(store, good, _csv(tmp_path / "both.csv", [("Good.", "Gut.", "pos")], ("review", "text", "label")))
    with pytest.raises(CallerError, match=r"^twice\.csv: Several columns may be the text: 'review', 'review_2'\. Choose one"):
        _ingest(store, good, _csv(tmp_path / "twice.csv", [("2026-01-31", "Good.", "pos")], ("review", "review", "label")))
    with pytest.raises(CallerError, match=r"^good\.csv: --id-column 'key' is not among the columns"):
        _ingest(store, good, settings=IngestSettings(id_column="key"))


def test_named_columns_win(store: Store, tmp_path: Path) -> None:
    """Columns of any name can be named, also where usual names are there."""
    header = ("review", "sentiment", "id", "remark", "mood", "key")
    settings = IngestSettings(text_column="remark", label_column="mood", id_column="key")
    _, accepted, _ = _ingest(store, _csv(tmp_path / "in.csv", [("A", "B", "C", "Good.", "pos", "k1")], header), settings=settings)
    assert accepted.drop(["source", "source_row"]).to_pylist() == [
        {"review_id": "k1", "review": "Good.", "sentiment": 1, "input_review": "A", "input_sentiment": "B", "id": "C"}
    ]


def test_numbers_that_can_be_misread_are_asked_about(store: Store, tmp_path: Path) -> None:
    """The error names the file and the options."""
    with pytest.raises(CallerError, match=r"^yelp\.csv: The labels 1, 2 can be read in more than one way.*--label 1=negative"):
        _ingest(store, _csv(tmp_path / "yelp.csv", [("Bad.", "1"), ("Good.", "2")]))


def test_the_scale_is_the_whole_files(store: Store, tmp_path: Path) -> None:
    """Stars are read by all labels of a file, not by those of its first rows; each file has its own scale."""
    stars = _csv(tmp_path / "stars.csv", [(f"Film {n}.", "1" if n < 5000 else "5") for n in range(5001)])
    bits = _csv(tmp_path / "bits.csv", [("Good.", "1"), ("Bad.", "0")])
    _, accepted, _ = _ingest(store, stars, bits)
    assert accepted["sentiment"].to_pylist() == [0] * 5000 + [1, 1, 0]


@pytest.mark.parametrize(("late", "error"), [(("1", "5"), DataError), (("1", "2"), CallerError)])
def test_words_first_and_stars_later_are_refused(store: Store, tmp_path: Path, late: tuple[str, str], error: type[Exception]) -> None:
    """Where stars begin after thousands of words, no meaning is guessed."""
    path = _csv(tmp_path / "mixed.csv", [(f"Film {n}.", "pos") for n in range(5000)] + [("Late.", label) for label in late])
    with pytest.raises(error, match=r"^mixed\.csv"):
        _ingest(store, path)


def test_words_and_bits_agree(store: Store, tmp_path: Path) -> None:
    """0 and 1 among words mean what they always mean, however late they come."""
    path = _csv(tmp_path / "mixed.csv", [(f"Film {n}.", "neg") for n in range(5000)] + [("Late.", "1"), ("Later.", "0")])
    assert _ingest(store, path)[1]["sentiment"].to_pylist() == [0] * 5000 + [1, 0]


def test_only_the_window_is_ingested(store: Store, tmp_path: Path) -> None:
    """Rows outside are counted, not refused, whatever is wrong with them; a row that names no day is refused; the window is in the key."""
    days = ["2026-01-31", "2026-02-01", "2026-02-02", "some day", "2026-03-01"]
    rows = [(f"Review {number}", "meh" if day == "2026-03-01" else "positive", day) for number, day in enumerate([*days[1:3] * 20, *days])]
    path = _csv(tmp_path / "dated.csv", rows, ("review", "sentiment", "date"))
    window = WindowSettings(since=date(2026, 2, 1), until=date(2026, 2, 2))

    record, accepted, refused = _ingest(store, path, settings=IngestSettings(window=window, max_refused_share=0.1))

    assert set(accepted["date"].to_pylist()) == {"2026-02-01", "2026-02-02"}
    assert (record.rows, record.facts["rows_outside_window"], record.facts["rows_read"]) == (42, 2, 45)
    assert [(row["row"], row["reason"]) for row in refused] == [(44, "no day that can be read in column 'date'")]
    other = IngestSettings(window=WindowSettings(since=date(2026, 2, 2), until=date(2026, 2, 2)))
    assert _ingest(store, path, settings=other)[0].recipe.key != record.recipe.key


def test_an_empty_window_names_the_days_there_are(store: Store, tmp_path: Path) -> None:
    """Where no row lies in the window, the error says which days the rows are of."""
    path = _csv(
        tmp_path / "dated.csv", [("Good", "positive", "2019-05-01"), ("Bad", "negative", "2020-06-30")], ("review", "sentiment", "date")
    )
    with pytest.raises(DataError, match=r"in the window since 2026-01-01: the 2 rows outside are dated 2019-05-01 to 2020-06-30\. Widen"):
        _ingest(store, path, settings=IngestSettings(window=WindowSettings(since=date(2026, 1, 1))))


def test_rows_are_written_in_bounded_groups(store: Store, tmp_path: Path) -> None:
    """A large file becomes row groups of at most 4,096 rows, in order, all of them."""
    path = _csv(tmp_path / "big.csv", [(f"Film {n}.", "pos" if n % 3 else "neg") for n in range(9000)])
    record, accepted, _ = _ingest(store, path)
    groups = pq.ParquetFile(store.path(record.ref)).metadata
    assert [groups.row_group(n).num_rows for n in range(groups.num_row_groups)] == [4096, 4096, 808] and record.rows == 9000
    assert accepted["source_row"].to_pylist() == list(range(1, 9001))
    assert accepted["review"].to_pylist() == [f"Film {n}." for n in range(9000)]


def test_what_was_read_before_is_reused(store: Store, tmp_path: Path) -> None:
    """The same bytes are cached; other bytes, another name, another order or another setting are not; settings of no concern are."""
    a, b = _csv(tmp_path / "a.csv", [("Good.", "pos")]), _csv(tmp_path / "b.csv", [("Bad.", "neg")])

    def cached(*names: str, settings: IngestSettings = LENIENT) -> bool:
        return ingest_artifact(names, settings, store).cached

    assert not cached(a, b) and cached(a, b)
    assert cached(a, b, settings=LENIENT.model_copy(update={"sample": SampleSettings(rows=5)}))
    assert not cached(b, a) and not cached(a)
    assert not cached(a, b, settings=LENIENT.model_copy(update={"max_refused_share": 0.5}))
    _csv(tmp_path / "b.csv", [("Bad!", "neg")])
    assert not cached(a, b)


def test_the_sample_says_that_it_is_one(store: Store) -> None:
    """Generated reviews are marked in the facts, also beside real ones, and depend on their settings."""
    settings = IngestSettings(sample=SampleSettings(rows=30))
    record, accepted, quarantine = _ingest(store, "sample", settings=settings)
    assert record.facts["sample"] is True and accepted.num_rows == 30 and quarantine == []
    assert set(accepted["source"].to_pylist()) == {"sample"} and accepted["review_id"][0].as_py() == "sample-0000001"
    assert ingest_artifact(["sample"], settings, store).cached
    assert not ingest_artifact(["sample"], IngestSettings(sample=SampleSettings(rows=31)), store).cached


def test_a_folder_of_compressed_files(store: Store, tmp_path: Path) -> None:
    """A folder is read through in the order of its names, and each row says which file it came from."""
    folder = tmp_path / "exports"
    _csv(folder / "2024" / "b.csv", [("Bad.", "neg")])
    with gzip.open(folder / "a.csv.gz", "wt") as file:
        file.write("review,sentiment\nGood.,pos\n")
    _, accepted, _ = _ingest(store, str(folder))
    assert accepted["source"].to_pylist() == ["2024/b.csv", "a.csv.gz"]
