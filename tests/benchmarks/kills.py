"""Kills `sentiment score` with kill -9 at random moments, again and again, and compares what comes out with an unbroken run.

    python tests/benchmarks/kills.py [--rows 200000] [--kills 50] [--artifacts DIR] [--seed 2026]

The rows are generated here; every 997th is broken and has to be refused. The model is the champion of DIR, or a quick one that is trained
first. A killed command is started again, to be killed again after another random time, until it ends; then the next begins in a new
folder. Each result must be the unbroken one's, byte for byte. Prints what was under way at each kill, then one JSON line.
"""

import argparse
import csv
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2]))

from flows.temporary_server import free_port
from tasks.reviews.sample import SampleSettings, generate_reviews

BROKEN_EVERY = 997
PROJECT = Path(__file__).parents[2]
SENTIMENT = [sys.executable, "-m", "flows"]


def write_input(path: Path, num_rows: int) -> None:
    """Write generated reviews as CSV, some rows with a field too many."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "review"])
        for batch in generate_reviews(SampleSettings(rows=num_rows, duplicate_share=0)):
            for name, text, row in zip(
                *(batch.columns[column].to_pylist() for column in (0, 1)), batch.source_row.to_pylist(), strict=True
            ):
                writer.writerow([name, text, "one too many"] if row % BROKEN_EVERY == 0 else [name, text])


@contextmanager
def prefect_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run one Prefect server for all commands, so that little of their time is its start; yields their environment."""
    port = free_port()
    own = {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_LOGGING_LEVEL": "ERROR"}
    environment = {**os.environ, **own, "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{environment['PREFECT_API_URL']}/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield environment
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def score(path: Path, folder: Path, environment: dict[str, str], kill_after: float | None) -> bool:
    """Score a file into a folder; returns whether the command ended before it was killed."""
    words = ["score", str(path), "--artifacts", str(folder / "artifacts"), "--output", str(folder / "out")]
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen([*SENTIMENT, *words], cwd=PROJECT, env=environment, stdout=told, stderr=told, start_new_session=True)
        try:
            code = process.wait(timeout=kill_after)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return False
        if code != 0:
            told.seek(0)
            raise SystemExit(f"The command ended with exit code {code}:\n{told.read()}")
    return True


def under_way(folder: Path) -> str:
    """Return what a killed command was about, by what it left."""
    if any((folder / "out").glob(".*")):
        return "publishing"
    if any((folder / "out").glob("*")):
        return "after publishing"
    return "between or in chunks" if any((folder / "artifacts").glob("score/*/*.parquet")) else "before the first chunk"


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a result, hidden ones too."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_rows(out: Path, num_rows: int) -> tuple[int, int]:
    """Return how many rows of the input are lost, and how many are there twice."""
    rows = Counter(pq.read_table(out / "in.scored.parquet")["source_row"].to_pylist())
    with (out / "in.scored.parquet.quarantine.jsonl").open(encoding="utf-8") as file:
        rows.update(json.loads(line)["row"] for line in file)
    return num_rows - len(rows.keys() & range(1, num_rows + 1)), sum(count - 1 for count in rows.values())


def main() -> None:
    """Score, kill, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--artifacts", type=Path)
    parser.add_argument("--seed", type=int, default=2026)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as name, prefect_server(Path(name) / "prefect") as environment:
        place = Path(name)
        path = place / "in.csv"
        write_input(path, options.rows)
        artifacts = options.artifacts.resolve() if options.artifacts else place / "trained"
        if not options.artifacts:
            words = ["train", "--preset", "quick", "--set", "ingest.sample.rows=4000", "--artifacts", str(artifacts)]
            subprocess.run([*SENTIMENT, *words], cwd=PROJECT, env=environment, check=True, capture_output=True)
        folders = (place / f"run{number}" for number in range(10_000))

        def begin() -> Path:
            folder = next(folders)
            shutil.copytree(artifacts / "models", folder / "artifacts" / "models")
            return folder

        unbroken = begin()
        started = time.monotonic()
        score(path, unbroken, environment, None)
        seconds = time.monotonic() - started
        expected = digests(unbroken / "out")
        print(f"unbroken: {options.rows:,} rows, {seconds:.0f} s", flush=True)
        moments: Counter[str] = Counter()
        results = identical = lost = twice = 0
        while moments.total() < options.kills:
            folder = begin()
            while not score(path, folder, environment, draw.uniform(0, seconds) if moments.total() < options.kills else None):
                moments[under_way(folder)] += 1
                print(f"kill {moments.total()}: {under_way(folder)}", flush=True)
            results += 1
            identical += digests(folder / "out") == expected
            found = check_rows(folder / "out", options.rows)
            lost, twice = lost + found[0], twice + found[1]
            shutil.rmtree(folder)
        told = {"rows": options.rows, "kills": moments.total(), "moments": moments, "results": results, "identical": identical}
        print(json.dumps({**told, "rows_lost": lost, "rows_twice": twice}), flush=True)
        if identical != results or lost or twice:
            raise SystemExit("Not the same.")


if __name__ == "__main__":
    main()
