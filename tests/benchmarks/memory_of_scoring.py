"""Measures the peak memory of `sentiment score` over some rows and over ten times as many, from start to end.

    python tests/benchmarks/memory_of_scoring.py ARTIFACTS [--rows 100000] [--formats csv jsonl parquet] [--output-format parquet]

ARTIFACTS holds the champion that scores; a quick one does. Every file is written here, as in memory_of_readers.py, and scored by the
command in a process of its own, whose peak includes Prefect. Prints one JSON line a format: MB of both sizes, their ratio.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from memory_of_readers import FORMATS, TIMES, peak_memory, write_file

PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT))


def measure(path: Path, artifacts: Path, output_format: str) -> dict[str, Any]:
    """Score a file in a fresh process; what the command tells, and its peak MB."""
    with tempfile.TemporaryDirectory() as output:
        words = ["score", str(path), "--artifacts", str(artifacts), "--output", output, "--format", output_format, "--json"]
        child = subprocess.run([sys.executable, __file__, "--child", *words], check=True, capture_output=True, text=True)
    summary, megabytes = child.stdout.splitlines()[-2:]
    return {**json.loads(summary), "megabytes": float(megabytes)}


def main() -> None:
    """Write, measure and print."""
    if sys.argv[1:2] == ["--child"]:
        from flows.__main__ import main as run

        code = run(sys.argv[2:])
        print(peak_memory())
        sys.exit(code)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--formats", nargs="*", default=["csv", "jsonl", "parquet"], choices=FORMATS, metavar="FORMAT")
    parser.add_argument("--output-format", default="parquet", choices=["parquet", "csv", "jsonl"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for form in options.formats:
            found = []
            for num_rows in (options.rows, options.rows * TIMES):
                path = Path(name) / f"reviews.{form}"
                write_file(path, form, num_rows)
                started = time.perf_counter()
                found.append(measure(path, options.artifacts.resolve(), options.output_format))
                seconds = round(time.perf_counter() - started)
                if found[-1]["scored"] != num_rows:
                    raise SystemExit(f"{form}: {found[-1]['scored']:,} of {num_rows:,} rows were scored.")
            once, ten_times = (entry["megabytes"] for entry in found)
            told = {"format": form, "megabytes": [round(once), round(ten_times)], "ratio": round(ten_times / once, 3), "seconds": seconds}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
