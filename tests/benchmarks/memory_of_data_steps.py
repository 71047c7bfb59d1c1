"""Compares the peak memory of ingest, clean, tokenize and split for some reviews and for ten times as many.

    python tests/benchmarks/memory_of_data_steps.py [REVIEWS.csv[.gz]] [--rows N]

Each size runs in a process of its own. Without a file it generates N reviews. Prints one JSON line: MB of both, and their ratio.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tasks.clean import clean_artifact
from tasks.ingest import IngestSettings, ingest_artifact
from tasks.reviews.compression import open_decompressed
from tasks.reviews.sample import SampleSettings
from tasks.reviews.sides import SplitSettings
from tasks.reviews.text import CleanSettings, TokenizeSettings
from tasks.split import split_artifact
from tasks.store import Store
from tasks.tokenize import tokenize_artifact

TIMES = 10


def run_steps(source: str, rows: int, folder: Path) -> None:
    """Run the four steps and print the process's peak memory in MB."""
    store = Store(folder)
    settings = IngestSettings(sample=SampleSettings(rows=rows))
    ingested = ingest_artifact([source], settings, store).ref
    tokenized = tokenize_artifact(clean_artifact(ingested, CleanSettings(), store).ref, TokenizeSettings(), store).ref
    split_artifact(tokenized, SplitSettings(), store)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def repeat_rows(path: Path, repeated: Path) -> None:
    """Write a CSV whose rows are those of another, ten times."""
    with open_decompressed(path) as file, repeated.open("wb") as out:
        out.write(file.readline())
        rows = file.read()
        for _ in range(TIMES):
            out.write(rows if rows.endswith(b"\n") else rows + b"\n")


def peak_memory(source: str, rows: int) -> float:
    """Run the steps in a fresh process; MB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, source, "--rows", str(rows), "--child", folder]
        return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    """Measure both sizes and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", default="sample")
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--child", type=Path)
    options = parser.parse_args()
    if options.child:
        run_steps(options.source, options.rows, options.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        larger = options.source
        if options.source != "sample":
            larger = str(Path(folder) / "repeated.csv")
            repeat_rows(Path(options.source), Path(larger))
        once, ten_times = peak_memory(options.source, options.rows), peak_memory(larger, options.rows * TIMES)
    print(json.dumps({"source": Path(options.source).name, "megabytes": [once, ten_times], "ratio": round(ten_times / once, 3)}))


if __name__ == "__main__":
    main()
