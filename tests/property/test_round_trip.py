import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.reviews.readers import ReaderSettings, read_batches

TEXT = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(["NA", "007", '"', "\r\n", "\r", "a\nb,c", "\x00", ""])
ROWS = st.integers(1, 4).flatmap(lambda width: st.lists(st.lists(TEXT, min_size=width, max_size=width), min_size=1, max_size=8))
QUICK = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _read(path: Path, **given: object) -> tuple[list[dict[str, str | None]], int]:
    batches = list(read_batches(path, "it", ReaderSettings.model_validate(given)))
    return [row for batch in batches for row in batch.columns.to_pylist()], sum(len(batch.refused) for batch in batches)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@QUICK
@given(rows=ROWS, delimiter=st.sampled_from(",;\t|"), newline=st.sampled_from(["\n", "\r\n", "\r"]))
def test_what_is_written_as_csv_is_read_back(tmp_path: Path, encoding: str, rows: list[list[str]], delimiter: str, newline: str) -> None:
    """Any quoted text in any dialect comes back character by character, all rows and in order."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL)
    names = [f"column {number}" for number in range(len(rows[0]))]
    writer.writerow(names)
    writer.writerows(rows)
    path = tmp_path / "a.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    one_column = {} if len(names) > 1 else {"delimiter": delimiter}
    expected = [dict(zip(names, row, strict=True)) for row in rows]
    assert _read(path, encoding=encoding, header=True, **one_column) == (expected, 0)


@QUICK
@given(texts=st.lists(TEXT, min_size=1, max_size=8), crlf=st.booleans())
def test_what_pandas_writes_by_default_is_read_back(tmp_path: Path, texts: list[str], crlf: bool) -> None:
    """Quotes only where pandas thinks they are needed, which is not at carriage returns: every text comes back among others."""
    sound = [f"it was {word}, really" for word in ("fine", "bad")] * 20
    frame = pd.DataFrame({"id": range(len(sound + texts)), "review": sound + texts, "shop": "Leeds"}).astype(str)
    path = tmp_path / "a.csv"
    frame.to_csv(path, index=False, lineterminator="\r\n" if crlf else "\n")
    assert _read(path) == (frame.to_dict("records"), 0)


@QUICK
@given(
    rows=st.lists(st.fixed_dictionaries({"review": TEXT, "id": TEXT | st.none()}), min_size=1, max_size=8),
    array=st.booleans(),
)
def test_what_is_written_as_json_is_read_back(tmp_path: Path, rows: list[dict[str, str | None]], array: bool) -> None:
    """Any strings and nulls come back from JSON lines and from an array."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows) if array else "\n".join(map(json.dumps, rows)))
    assert _read(path) == (rows, 0)


@QUICK
@given(content=st.binary(min_size=1, max_size=200) | st.text('ab",;\n\r\t', min_size=1, max_size=100).map(str.encode))
def test_any_bytes_give_as_many_records_as_they_hold(tmp_path: Path, content: bytes) -> None:
    """Whatever follows a header, nothing crashes and rows are numbered without a gap."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"review,sentiment\n" + b"fine,positive\n" * 20 + content)
    batches = list(read_batches(path, "it", ReaderSettings(format="csv", encoding="utf-8", delimiter=",", header=True)))
    numbers = [n for batch in batches for n in [*batch.source_row.to_pylist(), *(row.row for row in batch.refused)]]
    assert sorted(numbers) == list(range(1, len(numbers) + 1)) and len(numbers) >= 20
