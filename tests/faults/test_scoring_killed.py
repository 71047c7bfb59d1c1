"""kill -9, at every step on the file system and at random moments: the next run goes on, and every row is there once."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

SEED, KILLS, ROWS = 2026, 12, 12_000


class Scorer:
    """A process whose children score files and are killed."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("killable.py"))]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self.process.stdout
        assert self.process.stdout.readline() == "ready\n"

    def score(self, path: Path, root: Path, output: Path, **order: Any) -> int:
        """Let a child score a file, and die at a step or be killed after some seconds; returns how it ended: 0, or minus the signal."""
        assert self.process.stdin and self.process.stdout
        usual = {"rows_per_batch": 8, "rows_per_shard": 65_536, "format": "parquet", "die_at": None, "kill_after": None}
        self.process.stdin.write(json.dumps({**usual, "input": str(path), "root": str(root), "output": str(output), **order}) + "\n")
        return int(self.process.stdout.readline())


@pytest.fixture(scope="module")
def scorer() -> Iterator[Scorer]:
    """One such process for all tests here."""
    scorer = Scorer()
    yield scorer
    assert scorer.process.stdin
    scorer.process.stdin.close()
    assert scorer.process.wait(timeout=60) == 0


def write_input(path: Path, num_rows: int) -> Path:
    """Write reviews with line ends in them, and in CSV some rows that have to be refused."""
    rows = [[f"r{number}", f'review {number}\nsecond line, "quoted"', "web"] for number in range(num_rows)]
    if path.suffix == ".parquet":
        pq.write_table(pa.table(dict(zip(("id", "review", "shop"), map(list, zip(*rows, strict=True)), strict=True))), path)
        return path
    for number in range(0, num_rows, 97):
        rows[number] = [*rows[number], "one too many"]
    return tiny.write_reviews(path, rows, ["id", "review", "shop"])


def published(folder: Path) -> dict[str, str]:
    """Return the digests of everything in the folder of the output, hidden drafts too."""
    return tiny.digests(folder)


@pytest.mark.parametrize(("name", "format"), [("in.csv", "parquet"), ("in.parquet", "csv")])
def test_killed_at_every_step(scorer: Scorer, tmp_path: Path, name: str, format: str) -> None:
    """Whichever rename, fsync or removal it dies before, the next run completes the very bytes of an unbroken one and leaves no litter."""
    path = write_input(tmp_path / name, 40)
    options: dict[str, Any] = {"format": format, "rows_per_shard": 24}
    assert scorer.score(path, tmp_path / "root", tmp_path / "unbroken" / f"out.{format}", **options) == 0
    expected = published(tmp_path / "unbroken")

    for step in range(1000):
        root, output = tmp_path / f"root{step}", tmp_path / f"out{step}"
        ended = scorer.score(path, root, output / f"out.{format}", die_at=step, **options)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        seen = [place for place in tiny.files_of(output) if not place.relative_to(output).parts[0].startswith(".")]
        assert {place.relative_to(output).as_posix() for place in seen} <= set(expected)
        assert published_or_nothing(output / f"out.{format}", tmp_path / "unbroken" / f"out.{format}")
        assert scorer.score(path, root, output / f"out.{format}", **options) == 0
        assert published(output) == expected, step
        assert sorted(place.name for place in tiny.files_of(root / "score")) == ["_SUCCESS", "manifest.json"]

    assert step > 30
    print(f"killed at each of {step} steps")


def published_or_nothing(output: Path, expected: Path) -> bool:
    """Return whether a result is whole, or not there."""
    if not output.exists():
        return True
    return published(output) == published(expected) if output.is_dir() else output.read_bytes() == expected.read_bytes()


def test_killed_at_random_moments(scorer: Scorer, tmp_path: Path) -> None:
    """A run killed again and again at random moments ends with the bytes of an unbroken one: of thousands of rows none lost, none twice."""
    draw = random.Random(SEED)
    path = write_input(tmp_path / "in.csv", ROWS)
    started = time.monotonic()
    assert scorer.score(path, tmp_path / "root", tmp_path / "unbroken" / "out.parquet", rows_per_batch=256) == 0
    seconds = time.monotonic() - started

    kills = runs = 0
    while kills < KILLS:
        runs += 1
        assert runs <= 4 * KILLS, "children end before they can be killed"
        root, output = tmp_path / f"root{runs}", tmp_path / f"out{runs}" / "out.parquet"
        for _ in range(KILLS + 1):
            ended = scorer.score(path, root, output, rows_per_batch=256, kill_after=draw.uniform(0, seconds) if kills < KILLS else None)
            if ended == 0:
                break
            assert ended == -signal.SIGKILL
            kills += 1
        assert published(output.parent) == published(tmp_path / "unbroken")

    table = pq.read_table(output)
    refused = [
        json.loads(line)["row"] for line in output.with_name("out.parquet.quarantine.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert sorted([*table["source_row"].to_pylist(), *refused]) == list(range(1, ROWS + 1))
    assert len(refused) == len(range(0, ROWS, 97))
