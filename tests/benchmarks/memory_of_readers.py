"""Measures the peak memory of reading files of some rows and of ten times as many, and of meeting a decompression bomb.

    python tests/benchmarks/memory_of_readers.py [--rows N] [--formats csv jsonl …]

Every file is written here, about 300 characters a row, no two rows alike, and read in a process of its own. Prints one JSON line a
format: MB of both sizes, their ratio, rows a CPU second; then one a bomb of a gigabyte: MB, seconds, and what it was told.
"""

import argparse
import bz2
import gzip
import json
import lzma
import random
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2]))

from tasks.errors import DataError
from tasks.reviews.readers import ReaderSettings, read_batches

TIMES = 10
WORDS = [f"{first}{second}" for first in ("good", "bad", "film", "plot", "shop", "late") for second in ("", "s", "ly", "er", "ing", "-ish")]
OPENERS: dict[str, Callable[..., Any]] = {
    "": lambda path: path.open("wb"),
    ".gz": lambda path: gzip.GzipFile(path, "wb", 1),
    ".zst": lambda path: pa.CompressedOutputStream(str(path), "zstd"),
    ".xz": lambda path: lzma.LZMAFile(path, "wb", preset=0),  # noqa: SIM115  whoever opens it closes it
    ".bz2": lambda path: bz2.BZ2File(path, "wb", compresslevel=1),
}
FORMATS = ("csv", "jsonl", "parquet", "csv.gz", "csv.zst", "csv.xz", "csv.bz2", "jsonl.gz", "parquet.gz", "json", "txt", "zip")
BOMB_BLOCK = b"1,so good it hurts\n" * 50_000
NUM_BLOCKS = 1100


def write_rows(num_rows: int) -> Iterator[tuple[str, str]]:
    """Yield an id and a text with quotes, commas and now and then a line end."""
    draw = random.Random(num_rows)
    for number in range(num_rows):
        words = draw.choices(WORDS, k=draw.randrange(20, 80))
        words[5] += ', "so to say"' if number % 3 else ",\nand"
        yield f"{number:08}", " ".join(words)


def write_file(path: Path, form: str, num_rows: int) -> None:
    """Write the rows in a format; a Parquet file is one row group, as pandas writes it."""
    kind, _, compression = form.partition(".")
    if kind == "parquet":
        plain = path.with_name("plain.parquet")
        ids, texts = (pa.chunked_array([column]) for column in zip(*write_rows(num_rows), strict=True))
        pq.write_table(pa.table({"id": ids, "review": texts}), plain, row_group_size=num_rows)
        if not compression:
            plain.replace(path)
            return
        with plain.open("rb") as source, OPENERS[f".{compression}"](path) as file:
            while block := source.read(1 << 20):
                file.write(block)
        plain.unlink()
        return
    if kind == "zip":
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("a.csv", "w", force_zip64=True) as member,
        ):
            member.writelines(_lines("csv", num_rows))
        return
    with OPENERS[f".{compression}" if compression else ""](path) as file:
        for line in _lines(kind, num_rows):
            file.write(line)


def _lines(kind: str, num_rows: int) -> Iterator[bytes]:
    if kind == "csv":
        yield b"id,review\n"
    for position, (number, text) in enumerate(write_rows(num_rows)):
        if kind == "csv":
            quoted = text.replace('"', '""')
            yield f'{number},"{quoted}"\n'.encode()
        elif kind == "txt":
            yield text.replace("\n", " ").encode() + b"\n"
        else:
            start = b"" if kind == "jsonl" else b"[" if position == 0 else b","
            yield start + json.dumps({"id": number, "by": {"name": "x"}, "review": text}).encode() + b"\n"
    if kind == "json":
        yield b"]"


def read_all(path: Path) -> None:
    """Read a file and print one line: rows, what it was told, CPU seconds, peak MB."""
    num_rows, told = 0, ""
    started = time.process_time()
    try:
        for batch in read_batches(path, path.name, ReaderSettings()):
            num_rows += batch.columns.num_rows + len(batch.refused)
    except DataError as error:
        told = str(error)
    print(json.dumps({"rows": num_rows, "told": told, "cpu_seconds": round(time.process_time() - started, 2), "megabytes": peak_memory()}))


def peak_memory() -> float:
    """Return this process's peak memory in MB; Linux's `ru_maxrss` would begin with that of the process which started it."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def measure(path: Path) -> dict[str, Any]:
    """Read a file in a fresh process."""
    started = time.perf_counter()
    child = subprocess.run([sys.executable, __file__, "--child", str(path)], check=True, capture_output=True, text=True)
    return {**json.loads(child.stdout), "seconds": round(time.perf_counter() - started, 1)}


def write_bombs(folder: Path) -> Iterator[Path]:
    """Write a gigabyte of rows in every compression, and a Parquet file whose million rows share one text of 900 kB."""
    for suffix, compress in {
        ".gz": lambda data: gzip.compress(data, 9),
        ".zst": lambda data: bytes(pa.compress(data, "zstd", asbytes=True)),
        ".xz": lzma.compress,
        ".bz2": bz2.compress,
    }.items():
        path = folder / f"bomb.csv{suffix}"
        path.write_bytes(compress(b"id,review\n") + compress(BOMB_BLOCK) * NUM_BLOCKS)
        yield path
    path = folder / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.csv", "w", force_zip64=True) as member:
        for _ in range(NUM_BLOCKS):
            member.write(BOMB_BLOCK)
    yield path
    path = folder / "endless.gz"
    path.write_bytes(gzip.compress(b"id,review\n1,") + gzip.compress(b"x" * (1 << 20), 9) * 1024)
    yield path
    path = folder / "few.parquet"
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2_000, np.int32)), pa.array(["x" * 900_000]))
    pq.write_table(pa.table({"review": texts}), path, store_schema=False)
    yield path


def main() -> None:
    """Write, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=FORMATS, metavar="FORMAT")
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        read_all(options.child)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for form in options.formats:
            found = []
            for num_rows in (options.rows, options.rows * TIMES):
                path = folder / f"reviews.{form}"
                write_file(path, form, num_rows)
                found.append(measure(path))
                path.unlink()
                if found[-1]["rows"] != num_rows:
                    raise SystemExit(f"{form}: {found[-1]['rows']:,} of {num_rows:,} rows came out. {found[-1]['told']}")
            once, ten_times = (entry["megabytes"] for entry in found)
            speed = round(options.rows * TIMES / found[1]["cpu_seconds"])
            print(
                json.dumps(
                    {"format": form, "megabytes": [once, ten_times], "ratio": round(ten_times / once, 3), "rows_per_cpu_second": speed}
                ),
                flush=True,
            )
        for path in write_bombs(folder):
            size, bomb = path.stat().st_size, measure(path)
            told = bomb["told"].replace(f"{folder}/", "") or f"{bomb['rows']:,} rows"
            kept = {name: bomb[name] for name in ("megabytes", "seconds", "cpu_seconds")}
            print(json.dumps({"bomb": path.name, "bytes": size, **kept, "told": told}), flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
