"""Files that cannot be read at all, each by a name that says why, and what the one error must say: which file, what, what to do."""

import codecs
import gzip
import lzma
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from torture import parquet_bytes, write, write_zip
from torture_oddities import HEAD

from tasks.errors import CallerError, DataError


@dataclass(frozen=True)
class Fault:
    """A file that cannot be read: the kind of error, and the parts of its message in their order, among them the remedy."""

    path: Path
    error: type[Exception]
    words: tuple[str, ...]
    text_column: str | None = None

    @property
    def pattern(self) -> str:
        """The message as a regular expression."""
        return "(?s)" + ".*".join(map(re.escape, self.words))


Builder = Callable[[Path], Fault]
COPY = "Copy or export it again"
PAGE = "<!DOCTYPE html><p>Log in</p>"
ROWS_OF_BOMB = b"1,so good it hurts\n" * 50_000
BOMB_BLOCKS = 1100  # more than a gigabyte in all


def _file(name: str, content: str | bytes, *words: str, error: type[Exception] = DataError, text_column: str | None = None) -> Builder:
    return lambda folder: Fault(write(folder / name, content), error, (name, *words) if error is DataError else words, text_column)


def _zip(members: dict[str, bytes], *words: str, cut: int = 0, name: str = "a.zip") -> Builder:
    def build(folder: Path) -> Fault:
        path = write_zip(folder / name, members)
        return Fault(write(path, path.read_bytes()[: -cut or None]), DataError, (name, *words))

    return build


def _parquet(columns: dict[str, object], *words: str, cut: int = 0) -> Builder:
    return lambda folder: Fault(write(folder / "a.parquet", parquet_bytes(columns)[: -cut or None]), DataError, words)


def bomb(path: Path, compress: Callable[[bytes], bytes]) -> Path:
    """Write a gigabyte of sound rows in a megabyte or less, as blocks that were compressed one by one."""
    block = compress(ROWS_OF_BOMB)
    return write(path, compress(b"id,review\n") + block * BOMB_BLOCKS)


def _bomb(name: str, compress: Callable[[bytes], bytes]) -> Builder:
    words = (name, "unpacks to more than 200 times", "like a decompression bomb. If it is sound, unpack it first")
    return lambda folder: Fault(bomb(folder / name, compress), DataError, words)


FAULTS: dict[str, Builder] = {
    "empty": _file("a.csv", "", "is empty. Expected at least one review"),
    "blank": _file("a.csv", codecs.BOM_UTF8 + b" \r\n\n", "is empty. Expected at least one review"),
    "mark only": _file("a.csv", codecs.BOM_UTF16_LE, "is empty. Expected at least one review"),
    "empty gzip": _file("a.csv.gz", gzip.compress(b""), "is empty"),
    "cut gzip": _file("a.csv.gz", gzip.compress(HEAD.encode() * 99)[:-20], "is truncated or damaged after", "plain bytes", COPY),
    "cut xz": _file("a.xz", lzma.compress(HEAD.encode())[:-9], "is truncated or damaged", COPY),
    "gzip with something after it": _file("a.gz", gzip.compress(HEAD.encode()) + b"garbage", "is truncated or damaged", COPY),
    "gzip bomb": _bomb("a.csv.gz", lambda data: gzip.compress(data, 9)),
    "zstd bomb": _bomb("a.csv.zst", lambda data: bytes(pa.compress(data, "zstd", asbytes=True))),
    "zip of nothing": _zip({}, "is an empty zip archive"),
    "cut zip": _zip({"a": HEAD.encode()}, "is a damaged zip archive", COPY, cut=30),
    "office document": _zip({"mimetype": b"x", "content.xml": b"<x/>"}, "is an office document", "Save it as .xlsx or .csv", name="a.ods"),
    "damaged workbook": _zip({"xl/workbook.xml": b"<"}, "is a damaged Excel workbook", "Export it again", name="a.xlsx"),
    "old workbook": _file("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"x" * 99, "is an Excel file of the old kind", "Save it as .xlsx"),
    "header undecodable": _file("a.csv", b"r\xe9view,id\nx,1\n", "is not utf-8. Give its --encoding"),
    "header with an open quote": _file("a.csv", 'review,"id\n' + "x,1\n" * 900, "opens a quote", "Correct line 1"),
    "not text": _file("a.csv", bytes(range(1, 32)) * 20, "is not text", "Expected CSV", "export it as CSV"),
    "web page": _file("a.csv", PAGE, "is a web page", "Export the reviews"),
    "pdf": _file("a.csv", "%PDF-1.7", "is a PDF. Export"),
    "broken array": _file("a.json", '[{"review": "a"},\n {"review" "b"}]', "is broken at line 2, element 2", "Correct it"),
    "cut array": _file("a.json", '[{"review": "a"},', "is broken at line 1, element 2", "Correct it"),
    "keys without end": _file(
        "a.jsonl", "".join(f'{{"k{n}": 1}}\n' for n in range(1001)), "over 1,000 keys by line 1001", "ids used as keys"
    ),
    "cut parquet": _parquet({"review": ["x"] * 99}, "a.parquet is a damaged Parquet file", COPY, cut=9),
    "list-typed text": _parquet(
        {"review": [["a"]]}, "'review' holds list", "expected text. Name another column, or write its values as text"
    ),
    "several texts": _file(
        "a.csv",
        "comment,body\na,b\n",
        "Several columns may be the text: 'comment', 'body'. Choose one with --text-column",
        error=CallerError,
    ),
    "no text": _file("a.csv", "colour,size\nred,1\n", "The columns are: 'colour', 'size'", "--text-column", error=CallerError),
    "misspelt column": _file(
        "a.csv", "id,review\n1,x\n", "'reveiw' is not among", "Did you mean 'review'", error=CallerError, text_column="reveiw"
    ),
    "nothing there": lambda folder: Fault(folder / "none.csv", CallerError, ("no such file, folder or match", "none.csv", "Give the path")),
}
