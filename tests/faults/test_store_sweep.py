"""The store under faults, as storage systems test theirs: killed, refused or cut off at each of its steps, or crowded.

Source: SQLite's crash and fault tests ("How SQLite is tested"). `make soak` takes every point where these take some of them.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="it watches by /proc")

SOAK = bool(os.environ.get("SENTIMENT_SOAK"))
SWEEPS = [
    ("registry", "kill", 1, 40),
    ("registry", "error", 1, 40),
    ("registry", "power", 1, 90),
    ("data", "kill", 2, 110),
    ("data", "error", 2, 110),
    ("data", "power", 2, 110),
    ("data", "crowd", 10, 10),
]


@pytest.mark.parametrize(("scenario", "fault", "every", "points"), SWEEPS, ids=lambda value: str(value))
def test_every_fault_is_mended_by_the_next_run(tmp_path: Path, scenario: str, fault: str, every: int, points: int) -> None:
    """Whatever happens before a step, what was committed is there, the next run ends as an unbroken one, and no error is a stranger's."""
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", [tiny.write_row(number) for number in range(60)])
    (tmp_path / "work").mkdir()
    every = (1 if fault != "crowd" else 200) if SOAK else every
    command = [sys.executable, str(Path(__file__).with_name("sweep.py")), scenario, fault, str(reviews), str(tmp_path / "work"), str(every)]

    swept = subprocess.run(command, capture_output=True, text=True, timeout=3600 if SOAK else 280, check=False)
    told = json.loads(swept.stdout) if swept.stdout else {"failed": [], "survived": 0}

    assert swept.returncode == 0, swept.stderr
    assert told["failed"] == [], swept.stderr
    assert told["survived"] >= points
