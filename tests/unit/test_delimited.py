import csv
import io
from pathlib import Path

import pandas as pd
import pytest

from tasks.errors import DataError
from tasks.reviews.readers import ReaderSettings, describe_file, read_batches


def _read(path: Path, **settings: object) -> tuple[list[tuple[str, ...]], list[tuple[int, int | None, str]]]:
    rows, refused = [], []
    for batch in read_batches(path, "it", ReaderSettings.model_validate(settings)):
        rows += list(zip(*batch.columns.to_pydict().values(), strict=True))
        refused += [(row.row, row.line, row.reason) for row in batch.refused]
    return rows, refused


def _written(tmp_path: Path, content: str | bytes, name: str = "reviews.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_values_stand_as_given(tmp_path: Path) -> None:
    """Nothing is taken for a number, a null or an index, unlike in pandas by default."""
    path = _written(tmp_path, 'id,review,sentiment\n007,NA,positive\n1e5,"",negative\n,None,1\n')
    expected = pd.read_csv(path, dtype=str, keep_default_na=False)
    rows, refused = _read(path)
    assert rows == list(expected.itertuples(index=False, name=None))
    assert rows[0] == ("007", "NA", "positive") and not refused


def test_ragged_rows_are_refused_with_line_and_reason(tmp_path: Path) -> None:
    """Rows with too few or too many fields are refused where they stand; the others keep their numbers."""
    path = _written(tmp_path, "review,sentiment\ngood,positive\nlonely\n\na,b,c\nbad,negative\n")
    batch = next(read_batches(path, "feed", ReaderSettings()))
    assert batch.columns.to_pydict() == {"review": ["good", "bad"], "sentiment": ["positive", "negative"]}
    assert batch.source_row.to_pylist() == [1, 4]
    assert [(row.source, row.row, row.line, row.reason) for row in batch.refused] == [
        ("feed", 2, 3, "1 fields where 2 are expected (review, sentiment); quote what holds ',' or a line end"),
        ("feed", 3, 5, "3 fields where 2 are expected (review, sentiment); quote what holds ',' or a line end"),
    ]


def test_rows_all_one_field_too_long_are_not_shifted(tmp_path: Path) -> None:
    """The first field does not become an index when every row has one too many."""
    rows, refused = _read(_written(tmp_path, "review,sentiment\na,positive,x\nb,negative,y\n"))
    assert rows == [] and [line for _, line, _ in refused] == [2, 3]


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_line_ends_inside_quotes_are_kept_exactly(tmp_path: Path, newline: str) -> None:
    """Every kind of line end within a quoted field survives, whatever ends the records."""
    path = _written(tmp_path, f'review,sentiment{newline}"a\r\nb\rc\nd",positive{newline}e,negative{newline}')
    assert _read(path) == ([("a\r\nb\rc\nd", "positive"), ("e", "negative")], [])


def test_crlf_survives_every_block_boundary(tmp_path: Path) -> None:
    """A CRLF in quotes is not torn where the decoder's 8,192-byte blocks meet."""
    for offset in range(8186, 8196):
        text = "x" * offset + "\r\n" + "y" * 10
        path = _written(tmp_path, f'review,sentiment\r\n"{text}",positive\r\n'.encode())
        assert _read(path) == ([(text, "positive")], [])


def test_an_unclosed_quote_takes_no_other_row_with_it(tmp_path: Path) -> None:
    """Only the line that opens the quote is refused; the rows up to the end of the file are read."""
    lines = [f"text {number},positive" for number in range(50)]
    lines[20] = '"text 20,positive'
    rows, refused = _read(_written(tmp_path, "review,sentiment\n" + "\n".join(lines) + "\n"))
    assert [row[0] for row in rows] == [f"text {number}" for number in range(50) if number != 20]
    assert refused == [(21, 22, "broken quoting (unexpected end of data); double the quotes inside a quoted field")]


def test_a_quote_closed_rows_later_swallows_nothing(tmp_path: Path) -> None:
    """Two stray quotes, each fitting the other, do not turn the rows between them into one long review."""
    lines = [f"sentence {number}.\t{number % 2}" for number in range(100)]
    lines[30] = '"I loved it.\t1'
    lines[60] = 'It was great."\t1'
    path = _written(tmp_path, "\n".join(lines) + "\n", "labelled.txt")
    assert len(pd.read_csv(path, sep="\t", header=None)) == 70  # what others make of it
    rows, refused = _read(path)
    assert len(rows) == 99 and rows[59] == ('It was great."', "1")
    assert refused == [(31, 31, "a quote that is not closed on its line would swallow the next 30 lines; close or double it")]


def test_swallowed_rows_are_told_by_their_labels_where_prose_has_commas(tmp_path: Path) -> None:
    """In comma-separated text the columns with few kinds of values tell rows from lines of prose."""
    lines = [f"number {number} was fine,{'positive' if number % 2 else 'negative'}" for number in range(20)]
    lines[5] = '"he left,negative'
    lines[9] = 'they said 24",positive'
    rows, refused = _read(_written(tmp_path, "review,sentiment\n" + "\n".join(lines) + "\n"))
    assert len(rows) == 19 and ('they said 24"', "positive") in rows
    assert [line for _, line, _ in refused] == [7]


def test_a_review_of_several_lines_with_commas_is_one_review(tmp_path: Path) -> None:
    """Prose whose lines each hold as many commas as a record is not torn into records."""
    texts = ["Good film, I liked it\nThe cast, too\nWell done", "He said yes,no\nand it went\non and on\nthen ended", "Oh yes,no\nEnd"]
    lines = [f"number {number} was fine,positive\n" for number in range(20)]
    lines += [f'"{text}",positive\n' for text in texts]
    rows, refused = _read(_written(tmp_path, "review,sentiment\n" + "".join(lines)))
    assert rows[-3:] == [(text, "positive") for text in texts] and not refused


def test_a_file_that_quotes_every_field_keeps_tabs_and_lines(tmp_path: Path) -> None:
    """Lines of a quoted field that look like records are none where the other fields are quoted too."""
    expected = [("tab\tand\nend", ""), ("two words", "one"), ("3", "and three words"), ("four. Or", "5, 6")]
    text = "".join(f'"{a}"\t"{b}"\n' for a, b in [("first", "second"), *expected])
    assert _read(_written(tmp_path, text), header=True) == (expected, [])


def test_an_unclosed_quote_is_given_up_at_the_limit(tmp_path: Path) -> None:
    """What a quote may swallow is bounded, so that memory is."""
    content = 'review,sentiment\n"open,positive\n' + "fine,positive\n" * 100
    rows, refused = _read(_written(tmp_path, content), max_field_bytes=50)
    assert len(rows) == 100 and refused == [
        (1, 2, "record of more than 400 characters, or a quote that is never closed; shorten or close it")
    ]


def test_pieces_of_a_broken_record_do_not_pass_for_rows(tmp_path: Path) -> None:
    """The lines after an inner quote that was not doubled are refused until a whole record follows."""
    content = 'review,sentiment\n"fine",positive\n"line one\nhe said "no" and\nline three",positive\n"next\none",negative\n'
    rows, refused = _read(_written(tmp_path, content))
    assert rows == [("fine", "positive"), ("next\none", "negative")]
    assert [(line, reason.split(" (")[0]) for _, line, reason in refused] == [
        (3, "broken quoting"),
        (4, "1 fields where 2 are expected"),
        (5, "looks like the rest of the broken record before it; mend that one"),
    ]


def test_records_and_refusals_add_up(tmp_path: Path) -> None:
    """Every record has a number of its own from 1 on, yielded or refused."""
    lines = ["a,positive", "b", '"c,positive', "d,negative", "e,f,g", "", '"x "y" z",positive', "h,positive"] * 2000
    batches = list(read_batches(_written(tmp_path, "review,sentiment\n" + "\n".join(lines)), "it", ReaderSettings()))
    numbers = [n for batch in batches for n in [*batch.source_row.to_pylist(), *(row.row for row in batch.refused)]]
    assert sorted(numbers) == list(range(1, 7 * 2000 + 1))
    assert max(batch.columns.num_rows + len(batch.refused) for batch in batches) == 4096


def test_nul_is_kept(tmp_path: Path) -> None:
    """A NUL is a character like others."""
    assert _read(_written(tmp_path, "review,sentiment\na\x00b,positive\n" + "c,negative\n" * 5))[0][0] == (
        "a\x00b",
        "positive",
    )


def test_undecodable_bytes_are_refused_never_replaced(tmp_path: Path) -> None:
    """A row with a broken byte is refused with the byte and the column; its neighbours are read."""
    content = b"review,sentiment\ngood,positive\ncaf\xe9,positive\nna\xc3\xafve,negative\n"
    rows, refused = _read(_written(tmp_path, content))
    assert rows == [("good", "positive"), ("naïve", "negative")]
    assert refused == [(2, 3, "column 'review' holds byte 0xE9, which is not utf-8; if the file is cp1252, give --encoding cp1252")]


def test_long_fields_and_endless_lines_are_refused(tmp_path: Path) -> None:
    """A field over the limit costs its row, in bytes and not characters; so does a line too long to hold."""
    lines = ["é" * 60 + ",positive", "x" * 100 + ",positive", "y" * 5000 + ",positive", "fine,negative"]
    rows, refused = _read(_written(tmp_path, "review,sentiment\n" + "\n".join(lines)), max_field_bytes=100)
    assert rows == [("x" * 100, "positive"), ("fine", "negative")]
    assert [(row, line) for row, line, _ in refused] == [(1, 2), (3, 4)]
    assert refused[0][2] == "column 'review' holds more than 100 bytes; shorten it"
    assert refused[1][2].startswith("record of more than 800 characters")


def test_a_line_too_long_inside_quotes_is_refused_by_itself(tmp_path: Path) -> None:
    """An unclosed quote before an endless line costs these two lines, not those after."""
    content = 'review,sentiment\n"open,positive\nbetween,positive\n' + "y" * 5000 + "\nfine,negative\n"
    rows, refused = _read(_written(tmp_path, content), max_field_bytes=100)
    assert rows == [("between", "positive"), ("fine", "negative")]
    assert [line for _, line, _ in refused] == [2, 4]


def test_a_carriage_return_alone_is_part_of_a_value(tmp_path: Path) -> None:
    """pandas writes such values without quotes: what it wrote is read back, though it cannot do so itself."""
    rows = [("a\rb", "positive"), ("\rstart", "x"), ("two\r\rmore, quoted", "y"), ('"\r"', "\rz")] * 3
    path = tmp_path / "reviews.csv"
    pd.DataFrame(rows, columns=["review", "sentiment"]).to_csv(path, index=False)
    assert b"a\rb,positive\n" in path.read_bytes()
    assert _read(path) == (rows, [])


def test_rows_that_end_in_returns_among_others_are_rows(tmp_path: Path) -> None:
    """Files that were joined from several systems keep their rows, each under the line that an editor shows."""
    content = "review,sentiment\na,positive\nb,negative\rc,positive\rd,negative\ne,positive\nf\rg\nh,positive\n"
    rows, refused = _read(_written(tmp_path, content))
    assert [row[0] for row in rows] == ["a", "b", "c", "d", "e", "h"]
    assert [(row, line) for row, line, _ in refused] == [(6, 5)]


def test_line_ends_written_twice_end_one_line(tmp_path: Path) -> None:
    r"""A file whose \r\n became \r\r\n has as many rows as before, and no value gains a character."""
    content = 'review,sentiment\r\r\ngood,positive\r\r\n"two\r\nlines",negative\r\r\n'
    assert _read(_written(tmp_path, content)) == ([("good", "positive"), ("two\r\nlines", "negative")], [])


def test_many_whole_lines_behind_a_quote_are_rows(tmp_path: Path) -> None:
    """Even among prose, eight lines on end with as many commas as a record are no review, and two are one."""
    lines = [f"a title {number},and a text {number}" for number in range(30)]
    rows, refused = _read(
        _written(tmp_path, "title,review\n" + "\n".join([*lines, 'one,"open', *lines, 'two,closed"', "three,more"]) + "\n")
    )
    assert len(rows) == 62 and [line for _, line, _ in refused] == [32]
    rows, refused = _read(_written(tmp_path, "title,review\n" + '"one, two",x\n' * 30 + 'one,"open\ntwo,closed"\n'))
    assert rows[-1] == ("one", "open\ntwo,closed") and not refused


def test_a_first_line_that_tells_the_delimiter_is_heeded(tmp_path: Path) -> None:
    """`sep=;`, as Excel has it, is neither header nor row."""
    path = _written(tmp_path, "sep=;\r\nid;review\r\n1;well, yes, no\r\n2;a;b\r\n")
    rows, refused = _read(path)
    assert rows == [("1", "well, yes, no")] and [(row, line) for row, line, _ in refused] == [(2, 4)]
    assert describe_file(path, ReaderSettings()).columns == ("id", "review")


def test_header_alone_is_no_row(tmp_path: Path) -> None:
    """A file of only a header gives its columns and no rows."""
    (batch,) = read_batches(_written(tmp_path, "review,sentiment\n"), "it", ReaderSettings())
    assert batch.columns.schema.names == ["review", "sentiment"] and batch.columns.num_rows == 0 and not batch.refused


def test_a_broken_header_is_named(tmp_path: Path) -> None:
    """A header with an unclosed quote is an error, as nothing after it could be trusted."""
    with pytest.raises(DataError, match=r"The header.*line 1"):
        _read(_written(tmp_path, 'review,"sentiment\na,positive\nb,negative\n'))


def test_repeated_and_missing_names_are_told_apart(tmp_path: Path) -> None:
    """No column is lost to another of the same name."""
    path = _written(tmp_path, ",text,text,text_2,text\n1,2,3,4,5\n")
    (batch,) = read_batches(path, "it", ReaderSettings())
    assert batch.columns.to_pydict() == {
        "column_1": ["1"],
        "text": ["2"],
        "text_3": ["3"],
        "text_2": ["4"],
        "text_4": ["5"],
    }


def test_agrees_with_pandas_on_many_rows(tmp_path: Path) -> None:
    """Over several batches the values equal those of an independent reader."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["id", "review", "sentiment"])
    writer.writerows((f"{n:05}", f'"{n}", he said,\r\nor "so"' * (n % 3), "pos") for n in range(9000))
    path = _written(tmp_path, text.getvalue())
    rows, refused = _read(path)
    assert rows == list(pd.read_csv(path, dtype=str, keep_default_na=False).itertuples(index=False, name=None))
    assert not refused
