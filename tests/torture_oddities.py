"""Odd files, each by a name that says what is odd, and what must become of every record of it."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
from torture import Case, Row, make_rows, pairs, parquet_bytes, plain, write

Builder = Callable[[Path], Case]
Refused = dict[int, tuple[int | None, str]]
SOUND = pairs(*((str(number), "it was fine") for number in range(10)))
HEAD = "id,review\n" + "".join(f"{number},it was fine\n" for number in range(10))
LONG = 1_000_000


def _file(name: str, content: str | bytes, rows: list[Row], refused: Refused | None = None, **settings: Any) -> Builder:
    """Return what writes a file and says what must come of it."""
    return lambda folder: Case(write(folder / name, content), rows, refused or {}, settings)


def _after(content: str | bytes, *values: tuple[str, str], refused: Refused | None = None) -> Builder:
    """Return what writes ten sound rows and then this; the next record is number 11, on line 12."""
    data = content.encode() if isinstance(content, str) else content
    return _file("export.csv", HEAD.encode() + data, SOUND + pairs(*values), refused)


def _parquet(columns: dict[str, Any], rows: list[Row] | None = None, refused: Refused | None = None, **options: Any) -> Builder:
    table = pa.table(columns)
    return _file("export.parquet", parquet_bytes(table, **options), table.to_pylist() if rows is None else rows, refused)


CSV: dict[str, Builder] = {
    "ragged": _after(
        'a\nb,c,d\n11,"e,f"\n', ("11", "e,f"), refused={11: (12, "1 fields where 2 are"), 12: (13, "3 fields where 2 are expected")}
    ),
    "quote never closed": _after('11,"open\n12,b\n13,c', ("12", "b"), ("13", "c"), refused={11: (12, "broken quoting")}),
    "quote closed rows later": _after(
        '11,"open\n12,it was fine\n13,so so"\n14,d\n',
        *(("12", "it was fine"), ("13", 'so so"'), ("14", "d")),
        refused={11: (12, "would swallow the next 2 lines")},
    ),
    "quote not doubled": _after('11,"she said "no" to me"\n12,b\n', ("12", "b"), refused={11: (12, "broken quoting")}),
    "quote within a value": _after('11,24" wide, 3" deep\n12,5" only\n', ("12", '5" only'), refused={11: (12, "3 fields where 2")}),
    "backslash before a quote": _after('11,"said \\"no\\""\n12,b\n', ("12", "b"), refused={11: (12, "broken quoting")}),
    "undecodable byte": _after(b"11,caf\xe9\n12,na\xc3\xafve\n", ("12", "naïve"), refused={11: (12, "byte 0xE9, which is not utf-8")}),
    "value of over a megabyte": _after(
        "11," + "é" * (LONG // 2 + 1) + "\n12," + "x" * LONG + "\n", ("12", "x" * LONG), refused={11: (12, "more than 1,000,000 bytes")}
    ),
    "line of over eight megabytes": _after("11," + "x" * 9 * LONG + "\n12,b\n", ("12", "b"), refused={11: (12, "more than 8,000,000")}),
    "nul": _after("11,a\0b\n12,\0\n", ("11", "a\0b"), ("12", "\0")),
    "mark within": _after("11,\ufeffa\n\ufeff12,b\n", ("11", "\ufeffa"), ("\ufeff12", "b")),
    "blank lines": _after("\n\n11,a\n\r\n12,b\n\n\n", ("11", "a"), ("12", "b")),
    "no last line end": _after("11,a\n12,b", ("11", "a"), ("12", "b")),
    "line ends of all kinds": _after("11,a\r\n12,b\r13,c\n14,d\r\r\n15,e\n", *((str(n), "abcde"[n - 11]) for n in range(11, 16))),
    "return within a value": _after("11\r,a\n12,b\rc\n", ("11\r", "a"), ("12", "b\rc")),
    "formulas": _after("=1+1,@SUM(A1)\n-1,+1\n", ("=1+1", "@SUM(A1)"), ("-1", "+1")),
    "duplicate names": _file(
        "export.csv",
        "id,review,Review,id,,\n1,a,b,2,c,d\n",
        [{"id": "1", "review": "a", "Review": "b", "id_2": "2", "column_5": "c", "column_6": "d"}],
    ),
    "header only": _file("export.csv", "id,review\n", []),
    "header without a line end": _file("export.csv", "id,review", []),
    "no header": _file("export.csv", "1,good\n2,bad\n", [{"column_1": "1", "column_2": "good"}, {"column_1": "2", "column_2": "bad"}]),
    "one column": _file("export.csv", 'review\nwell, yes; no\n""\n"a\nb"\n', plain("well, yes; no", "", "a\nb")),
    "line that tells the delimiter": _file("export.csv", "sep=;\r\nid;review\r\n1;a, b\r\n", pairs(("1", "a, b"))),
    "delimiter that must be told": _file("export.csv", "id^review\n1^a, b\n", pairs(("1", "a, b")), delimiter="^"),
}


def _pandas_returns(folder: Path) -> Case:
    """pandas writes carriage returns without quotes."""
    rows = pairs(("1", "a\rb"), ("2", "\rc"), ("3", "d\r\re, f"), ("4", "g")) * 5
    pd.DataFrame(rows).to_csv(folder / "export.csv", index=False)
    return Case(folder / "export.csv", rows)


def _workbook(folder: Path) -> Case:
    import openpyxl

    book = openpyxl.Workbook()
    for row in [["id", "review"], ["007", "good, really"], [8, None], [], [9.5, "a\nb"], ["10", "x", "one more"]]:
        book.active.append(row)
    book.save(folder / "export.xlsx")
    rows = pairs(("007", "good, really"), ("8", None), ("9.5", "a\nb"))
    return Case(folder / "export.xlsx", rows, {4: (6, "3 or more cells where 2 are expected")})


def _texts(folder: Path) -> Case:
    texts = {"neg/1.txt": "Bad.\r\nReally.", "pos/2.txt": "Good, “so”.", "pos/10.txt": "", "pos/3.txt": "Fine."}
    for name, text in texts.items():
        write(folder / "texts" / name, text)
    write(folder / "texts" / "pos" / "4.txt", b"caf\xe9")
    rows = [{"file": name, "review": texts[name]} for name in sorted(texts)]
    return Case(folder / "texts", rows, {5: (1, "pos/4.txt: column 'review' holds byte 0xE9")})


NESTED = b"""{"ticket": {"id": 7, "by": {"name": "Ann"}}, "review": "a", "tags": ["x", 1.50]}
{"review": null, "new": true}
"""
FLAT = [
    {"ticket.id": "7", "ticket.by.name": "Ann", "review": "a", "tags": '["x", 1.50]', "new": None},
    {"ticket.id": None, "ticket.by.name": None, "review": None, "tags": None, "new": "true"},
]
BAD_LINES = b"""{"id": "1", "review": "a"}
{broken

"text"
{"review": "\xe9"}
{"review": "\\ud83d"}
{"review": "b"}
"""
REASONS: Refused = {2: (2, "not JSON"), 3: (4, "not a JSON object"), 4: (5, "byte 0xE9"), 5: (6, "half a surrogate pair")}

OTHERS: dict[str, Builder] = {
    "returns as pandas writes them": _pandas_returns,
    "workbook": _workbook,
    "folder of texts": _texts,
    "lines": _file("feed.txt", '"so", he said\n\n[deleted]\r\n<b>bold\nend', plain('"so", he said', "", "[deleted]", "<b>bold", "end")),
    "csv that is parquet": _file("a.csv", parquet_bytes({"review": ["x"]}), plain("x")),
    "parquet that is csv": _file("a.parquet", "id,review\n1,x\n", pairs(("1", "x"))),
    "csv that is json": _file("a.csv", '{"id": "1", "review": "x"}\n', pairs(("1", "x"))),
    "json that is gzipped csv": _file("a.json", gzip.compress(b"id,review\n1,x\n"), pairs(("1", "x"))),
    "nested json": _file("a.jsonl", NESTED, FLAT),
    "json of many digits": _file(
        "a.json",
        '[{"id": 12345678901234567890.10, "review": "a"}, {"id": 1e5, "review": "\\u00e9\\ud83d\\ude00"}]',
        pairs(("12345678901234567890.10", "a"), ("1e5", "é😀")),
    ),
    "json over several lines": _file("a", '{\n"id": "1",\n"review": "a"}\n{"id": "2",\n"review": "b"\n}', pairs(("1", "a"), ("2", "b"))),
    "json in utf-16": _file("a.json", '[{"id": "1", "review": "naïve 😀"}]'.encode("utf-16"), pairs(("1", "naïve 😀"))),
    "json lines with returns": _file(
        "a.jsonl", '\ufeff{"id": "1",\r"review": "a"}\r\n{"id": "2", "review": "b"}\n', pairs(("1", "a"), ("2", "b"))
    ),
    "bad json lines": _file("a.jsonl", BAD_LINES, pairs(("1", "a"), (None, "b")), REASONS),
    "parquet of many types": _parquet(
        {
            "id": pa.array([1, 2, None], pa.int64()),
            "review": pa.array(["a", None, ""], pa.large_string()),
            "shop": pa.array(["x", "x", None]).dictionary_encode(),
            "tags": [["a"], [], None],
        }
    ),
    "parquet of bytes": _parquet({"review": [b"a", b"\xe9", None]}, plain("a", None), {2: (None, "bytes are not utf-8")}),
    "parquet of a long value": _parquet({"review": ["a", "x" * (LONG + 1), "b"]}, plain("a", "b"), {2: (None, "more than 1,000,000")}),
    "parquet of many groups": _parquet(pa.Table.from_pylist(make_rows(500, 3)).to_pydict(), row_group_size=7),
    "parquet of no rows": _parquet({"review": pa.array([], pa.string())}),
}
