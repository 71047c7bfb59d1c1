"""A process that reads damaged Parquet files in children with little memory and time; prints what became of them as a JSON line.

python tests/faults/parquet_mutants.py WORK_FOLDER MUTANTS
"""

import json
import os
import random
import resource
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import pandas  # noqa: F401  Arrow would import it in each child
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import PipelineError
from tasks.reviews.readers import ReaderSettings, describe_file, read_batches, stated_num_rows

ROWS = 60
MEMORY, SECONDS = 1 << 30, 20
OPTIONS: dict[str, dict[str, Any]] = {
    "snappy": {"compression": "snappy"},
    "plain": {"compression": "none", "use_dictionary": False},
    "zstd, page checksums": {"compression": "zstd", "write_page_checksum": True},
    "pages of version 2": {"compression": "gzip", "data_page_version": "2.0", "row_group_size": 20},
    "deltas": {"use_dictionary": False, "column_encoding": {"review": "DELTA_BYTE_ARRAY", "number": "DELTA_BINARY_PACKED"}},
}


def whole_files(folder: Path) -> list[bytes]:
    """Return small sound files, written in different ways."""
    numbers = range(ROWS)
    table = pa.table(
        {
            "id": [f"r{n}" for n in numbers],
            "review": [f"review {n}: the plot was dull, and long" for n in numbers],
            "number": pa.array(numbers, pa.int64()),
            "shop": pa.array([("Leeds", "York")[n % 2] for n in numbers]).dictionary_encode(),
            "when": pa.array(numbers, pa.timestamp("us", "UTC")),
            "words": [["dull", "long"][: n % 3] or None for n in numbers],
        }
    )
    files = []
    for options in OPTIONS.values():
        pq.write_table(table, folder / "whole.parquet", **options)
        files.append((folder / "whole.parquet").read_bytes())
    return files


def damaged(content: bytes, draw: random.Random) -> bytes:
    """Return a file with bits flipped, bytes written over or cut out, or its end gone; half of the time within its footer."""
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(footer if draw.random() < 0.5 else 0, max(len(content), footer + 1))
        match draw.randrange(5):
            case 0 | 1:
                flipped = content[place : place + 1] and bytes([content[place] ^ 1 << draw.randrange(8)])
                content = content[:place] + flipped + content[place + 1 :]
            case 2:
                content = content[:place] + draw.choice([b"\xff" * 4, b"\0" * 4, b"\x7f" * 8, draw.randbytes(3)]) + content[place + 3 :]
            case 3:
                content = content[:place] + content[place + draw.randint(1, 30) :]
            case _ if draw.random() < 0.3:
                content = content[:place]
            case _:
                content = content[:place] + content[place : place + draw.randint(1, 30)] + content[place:]
    return content


def outcome(path: Path) -> str:
    """Read a file; say whether it was refused, or all rows that it states came out or were refused one by one."""
    try:
        describe_file(path, ReaderSettings())
        stated = stated_num_rows(path, ReaderSettings())
        rows: list[int] = []
        for batch in read_batches(path, path.name, ReaderSettings()):
            rows += batch.source_row.to_pylist() + [row.row for row in batch.refused]
            batch.columns.validate(full=True)
    except PipelineError:
        return "refused"
    except Exception:
        traceback.print_exc()
        return "a stranger's error"
    return "read" if sorted(rows) == list(range(1, len(rows) + 1)) and stated in (None, len(rows)) else "rows lost"


def limit_child() -> None:
    """Let this process have little more memory than it has, and end it when it takes too long."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def read_in_child(work: Path, mutant: Callable[[int], bytes], first: int, last: int) -> tuple[list[str], int]:
    """Read mutants in one child until it dies; returns what became of those that it came to, and how it ended."""
    told, told_by = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(told)
        limit_child()
        for number in range(first, last):
            (work / "mutant.parquet").write_bytes(mutant(number))
            signal.alarm(SECONDS)
            os.write(told_by, (outcome(work / "mutant.parquet") + "\n").encode())
        os._exit(0)
    os.close(told_by)
    with os.fdopen(told) as lines:
        found = lines.read().splitlines()
    return found, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(work: str, mutants: str) -> None:
    """Read so many mutants; print the counts, and the numbers of those that ended badly."""
    pa.set_cpu_count(1)
    folder, number, ends, bad = Path(work), 0, Counter[str](), dict[int, str]()
    files = whole_files(folder)

    def mutant(number: int) -> bytes:
        draw = random.Random(number)
        return damaged(files[number % len(files)], draw)

    while number < int(mutants):
        found, ended = read_in_child(folder, mutant, number, int(mutants))
        if ended != 0:
            found.append(f"died of {ended}")
        for number_of_it, end in enumerate(found, number):
            ends[end] += 1
            if end not in ("read", "refused"):
                bad[number_of_it] = end
                (folder / f"bad-{number_of_it}.parquet").write_bytes(mutant(number_of_it))
        number += len(found)
    print(json.dumps({"ends": ends, "bad": bad}))


if __name__ == "__main__":
    main(*sys.argv[1:])
