"""Files as helpdesks export them, each written here from rows that are known, so that what comes out can be compared.

Nothing here uses the project's own readers. `torture_oddities` has the files that are odd, `torture_faults` those that cannot be read.
"""

import codecs
import csv
import gzip
import io
import json
import lzma
import random
import zipfile
from bz2 import compress as bz2_compress
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
WORDS = (
    *("a", "fine", "film,", "really;", "not", "bad", "7/10", "“so", "so”", "naïve", "déjà vu", "£5", "it's", "<br />", "NA", "None"),
    *("=", "@", "+", "-", "é", "ü", "ß", "ñ", "Ö", "à", "\\n", "|", '"', '""'),
)
WIDE = ("😀😀", "素晴らしい", "Ёлки", "ﬁ", "e\u0301", "\u2028", "\u00a0", "\x0b")
IDS = ("007", "1e5", "NA", "00123", "", "-1", "null", "12345678901234567890", "True", "2024-01-05")
SHOPS = ("Leeds", 'York, "North"', "Bath")


@dataclass(frozen=True)
class Case:
    """A file whose every record is known.

    Args:
        path: What is named on the command line.
        rows: The rows that must come out, in order.
        refused: Number of each record that must be refused → its line (None where there are no lines) and words of the reason.
        settings: What has to be declared, as nothing can tell it.
    """

    path: Path
    rows: list[Row]
    refused: dict[int, tuple[int | None, str]] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


def make_rows(num_rows: int, seed: int, *, wide: bool = True, line_ends: Sequence[str] = ("\n", "\r\n", "\r")) -> list[Row]:
    """Return rows of prose with delimiters, quotes, line ends, odd ids and empty texts; `wide` adds what cp1252 does not hold."""
    draw = random.Random(seed)
    words = [*WORDS, *(WIDE if wide else ())]
    rows = []
    for number in range(num_rows):
        parts = draw.choices(words, k=draw.randrange(3, 30))
        for extra in (*line_ends, "\t", ";", ","):
            if draw.random() < 0.2:
                parts.insert(draw.randrange(len(parts)), extra)
        text = " ".join(parts).strip("\r\n")
        rows.append({"id": draw.choice(IDS), "review": "" if number % 11 == 5 else text, "shop": draw.choice(SHOPS)})
    return rows


def plain(*texts: Any) -> list[Row]:
    """Return rows of one column."""
    return [{"review": text} for text in texts]


def pairs(*values: tuple[Any, Any]) -> list[Row]:
    """Return rows of an id and a review."""
    return [{"id": first, "review": second} for first, second in values]


def write(path: Path, content: str | bytes) -> Path:
    """Write a file, as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    """Write a zip archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def csv_bytes(rows: Sequence[Row], encoding: str = "utf-8", delimiter: str = ",", end: str = "\n", quote_all: bool = True) -> bytes:
    """Return rows as the csv module writes them, header first."""
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return text.getvalue().encode(encoding)


def parquet_bytes(columns: dict[str, Any] | pa.Table, **options: Any) -> bytes:
    """Return a table as Parquet."""
    file = pa.BufferOutputStream()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), file, **options)
    return bytes(file.getvalue())


ENCODINGS = {  # codec, mark before the text, what has to be declared
    "utf-8": ("utf-8", b"", None),
    "utf-8-mark": ("utf-8", codecs.BOM_UTF8, None),
    "utf-16-le-mark": ("utf-16-le", codecs.BOM_UTF16_LE, None),
    "utf-16-be-mark": ("utf-16-be", codecs.BOM_UTF16_BE, None),
    "utf-16-le": ("utf-16-le", b"", None),
    "utf-32-mark": ("utf-32-le", codecs.BOM_UTF32_LE, None),
    "cp1252": ("cp1252", b"", None),
    "cp1252-declared": ("cp1252", b"", "cp1252"),
    "iso-8859-15": ("iso-8859-15", b"", "iso-8859-15"),
}
DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "hive": "\x01"}
LINE_ENDS = {"lf": "\n", "crlf": "\r\n", "cr": "\r"}


def matrix(encoding: str) -> Iterator[tuple[str, str]]:
    """Yield every delimiter with every line end."""
    return ((delimiter, end) for delimiter in DELIMITERS for end in LINE_ENDS)


def matrix_case(folder: Path, encoding: str, delimiter: str, end: str) -> Case:
    """Write a CSV file; with a line feed or both at the ends of lines, quotes stand only where they are needed."""
    codec, mark, declared = ENCODINGS[encoding]
    quote_all = end == "cr"
    seed = 100 * list(ENCODINGS).index(encoding) + 10 * list(DELIMITERS).index(delimiter) + list(LINE_ENDS).index(end)
    line_ends = tuple(LINE_ENDS.values()) if quote_all else (LINE_ENDS[end],)
    rows = make_rows(40, seed, wide=codec.startswith("utf"), line_ends=line_ends)
    if codec.startswith("iso"):
        rows = [{**row, "review": row["review"].replace("“", "'").replace("”", "'")} for row in rows]
    content = mark + csv_bytes(rows, codec, DELIMITERS[delimiter], LINE_ENDS[end], quote_all)
    return Case(write(folder / "export.csv", content), rows, settings={"encoding": declared} if declared else {})


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "gz-of-two": lambda content: gzip.compress(content[:100]) + gzip.compress(content[100:]),
    "zst": lambda content: bytes(pa.compress(content, "zstd", asbytes=True)),
    "xz": lzma.compress,
    "bz2": bz2_compress,
    "gz-twice": lambda content: gzip.compress(gzip.compress(content)),
}
FORMATS: dict[str, Callable[[list[Row]], bytes]] = {
    "csv": csv_bytes,
    "jsonl": lambda rows: "".join(json.dumps(row) + "\n" for row in rows).encode(),
    "json": lambda rows: json.dumps(rows, ensure_ascii=False, indent=1).encode(),
    "parquet": lambda rows: parquet_bytes(pa.Table.from_pylist(rows)),
}


def compressed_case(folder: Path, compression: str, form: str) -> Case:
    """Write a format within a compression, under a name that tells neither."""
    rows = make_rows(60, 7)
    return Case(write(folder / "export", COMPRESSIONS[compression](FORMATS[form](rows))), rows)


def archive_case(folder: Path, *forms: str) -> Case:
    """Write an archive of several formats, with what macOS and people leave in it."""
    rows = {form: make_rows(20, number) for number, form in enumerate(forms)}
    junk = {"__MACOSX/._a": b"x", "README.md": b"about", "sub/": b"", ".hidden": b"x"}
    members = {f"sub/{form}": FORMATS[form](own) for form, own in rows.items()}
    return Case(write_zip(folder / "export.zip", members | junk), [row for form in forms for row in rows[form]])
