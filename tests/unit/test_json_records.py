import json
from pathlib import Path

import pytest

from tasks.errors import DataError
from tasks.reviews import json_records
from tasks.reviews.batches import Batch
from tasks.reviews.readers import ReaderSettings, describe_file, read_batches


def _read(tmp_path: Path, content: str | bytes, name: str = "feed.jsonl", **settings: object) -> list[Batch]:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_batches(path, "feed", ReaderSettings.model_validate(settings)))


ROW = '{"id": 7, "n": 0.10, "big": 12345678901234567890.12, "ok": true, "no": null, "s": "00123", "l": [1.50, "é", {"a": null}]}'


@pytest.mark.parametrize("content", [ROW, f"[{ROW}]"])
def test_values_are_the_files_own_text(tmp_path: Path, content: str) -> None:
    """Strings stay, numbers keep every digit as written, null is null, an array is its JSON text."""
    (batch,) = _read(tmp_path, content, "feed.json")
    assert batch.columns.to_pylist() == [
        {
            "id": "7",
            "n": "0.10",
            "big": "12345678901234567890.12",
            "ok": "true",
            "no": None,
            "s": "00123",
            "l": '[1.50, "é", {"a": null}]',
        }
    ]


def test_nested_objects_are_columns_with_dotted_paths(tmp_path: Path) -> None:
    """Objects are flattened however deep; an empty one keeps a column of its own."""
    (batch,) = _read(tmp_path, '{"user": {"text": "a", "at": {"city": "b"}}, "e": {}}\n{"user": {"text": "c"}}\n')
    assert batch.columns.to_pydict() == {"user.text": ["a", "c"], "user.at.city": ["b", None], "e": ["{}", None]}


def test_all_batches_have_the_columns_of_the_whole_file(tmp_path: Path) -> None:
    """A key that first comes in the last row is a column, null before."""
    batches = _read(tmp_path, '{"a": "1"}\n' * 5000 + '{"b": "2"}\n')
    assert [batch.columns.num_rows for batch in batches] == [4096, 905]
    assert {batch.columns.schema for batch in batches} == {batches[0].columns.schema}
    assert batches[1].columns.to_pylist()[-1] == {"a": None, "b": "2"}
    assert batches[1].source_row.to_pylist()[-1] == 5001


@pytest.mark.parametrize("twice", ['{"a": "1", "a": "2"}', '{"b": {"a": "1", "a": "2"}}', '{"b": [{"a": "1", "a": "2"}]}'])
def test_no_value_is_lost_to_a_key_that_stands_twice(tmp_path: Path, twice: str) -> None:
    """Such a row is refused, wherever in it that is, in lines and in an array; the rows around it are read."""
    for content in (f'{{"a": "0"}}\n{twice}\n{{"a": "3"}}\n', f'[{{"a": "0"}}, {twice}, {{"a": "3"}}]'):
        (batch,) = _read(tmp_path, content, "feed.json")
        assert batch.columns["a"].to_pylist() == ["0", "3"]
        assert [(row.row, "stands twice" in row.reason) for row in batch.refused] == [(2, True)]


def test_bad_lines_are_refused_with_their_numbers(tmp_path: Path) -> None:
    """What is no JSON object is refused; blank lines are no records."""
    deep = "[" * 100_000
    lines = [
        '{"a": "1"}',
        "",
        "{broken",
        '"text"',
        "[1]",
        '{"a": "\\ud83d"}',
        '{"a": {"b": 1}, "a.b": 2}',
        f'{{"a": {deep}',
        '{"a": "2"}',
    ]
    (batch,) = _read(tmp_path, "\r\n".join(lines))
    assert batch.columns["a"].to_pylist() == ["1", "2"] and batch.source_row.to_pylist() == [1, 8]
    assert all(";" in row.reason for row in batch.refused)
    assert [(row.row, row.line, row.reason.split(";")[0]) for row in batch.refused] == [
        (2, 3, "not JSON: Expecting property name enclosed in double quotes"),
        (3, 4, "not a JSON object"),
        (4, 5, "not a JSON object"),
        (5, 6, "column 'a' holds half a surrogate pair"),
        (6, 7, "two values for 'a.b'"),
        (7, 8, "JSON nested too deeply"),
    ]


def test_undecodable_and_endless_lines_are_refused(tmp_path: Path) -> None:
    """A broken byte in a value or a key, and a line too long to hold, cost their rows only."""
    content = b'{"a": "x"}\n{"a": "\xe9"}\n{"\xe9": "x"}\n{"a": "' + b"y" * 5000 + b'"}\n{"a": "z"}\n'
    (batch,) = _read(tmp_path, content, max_field_bytes=100)
    assert batch.columns.to_pydict() == {"a": ["x", "z"]}
    assert [row.reason.split(";")[0] for row in batch.refused] == [
        "column 'a' holds byte 0xE9, which is not utf-8",
        "a key that cannot be decoded",
        "line of more than 800 characters",
    ]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
def test_an_array_is_read_whatever_the_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, chunk: int) -> None:
    """Elements that end anywhere within what is read at a time come out whole, with their lines."""
    monkeypatch.setattr(json_records, "_CHUNK_CHARS", chunk)
    rows = [{"a": f"{number}]}},\\", "b": number} for number in range(50)]
    (batch,) = _read(tmp_path, json.dumps([*rows, 12345], indent=indent), "feed.json")
    assert batch.columns.to_pylist() == [{"a": row["a"], "b": str(row["b"])} for row in rows]
    (refused,) = batch.refused
    assert (refused.row, refused.line, refused.reason) == (51, 202 if indent else 1, "not a JSON object; write the text under a key")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('[{"a": 1}, {"a": 2', "broken at line 1, element 2"),
        ('[{"a": 1},\n {"a" 2}]', "broken at line 2, element 2: Expecting ':'"),
        ('[{"a": 1} {"a": 2}]', "expected a comma"),
        ('[{"a": 1}] x', "something follows the array"),
        ('[{"a": 1}', "broken"),
        ("[]", "no JSON object"),
        ('{\n"data": [\n1]} 2', "broken at line 3, element 2"),
        ('{\n"a": 1}\n{\n"a" 2}', "broken at line 4, element 2: Expecting ':'"),
        ('{\n"a": 1}\n{\n"a": 2', "broken at line 4, element 2"),
        ("{}\n{}\n", "no JSON object with a key"),
    ],
)
def test_a_broken_array_is_no_shorter_array(tmp_path: Path, content: str, words: str) -> None:
    """Where nothing tells how many rows are lost, the file is refused as a whole."""
    with pytest.raises(DataError, match=words):
        _read(tmp_path, content, "feed.json")
    with pytest.raises(DataError, match="neither an array of objects nor one object a line"):
        _read(tmp_path, "12\n", "feed.json", format="json")


def test_objects_of_several_lines_are_read_one_after_the_other(tmp_path: Path) -> None:
    """What programs print for people to read is no array and no JSON lines, but holds the same objects."""
    rows = [{"id": number, "review": f"a}}{{\n{number}"} for number in range(50)]
    (batch,) = _read(tmp_path, "\n".join(json.dumps(row, indent=2) for row in rows), "feed")
    assert batch.columns.to_pylist() == [{"id": str(row["id"]), "review": row["review"]} for row in rows] and not batch.refused


def test_keys_without_end_are_refused(tmp_path: Path) -> None:
    """Objects that use ids as keys do not become thousands of columns."""
    with pytest.raises(DataError, match="over 1,000 keys"):
        _read(tmp_path, "".join(f'{{"k{number}": 1}}\n' for number in range(1001)))


def test_the_description_knows_the_keys(tmp_path: Path) -> None:
    """Columns can be shown before the file is read."""
    path = tmp_path / "feed"
    path.write_text('{"user": {"text": "a"}}\n{"id": 1}\n')
    assert str(describe_file(path, ReaderSettings())) == "jsonl, utf-8, columns user.text, id"
