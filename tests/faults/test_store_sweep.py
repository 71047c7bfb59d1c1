"""The store under faults, as storage systems test theirs: killed, refused or cut off at each of its steps, or crowded.

Source: SQLite's crash and fault tests ("How SQLite is tested"). `make soak` takes every point where these take some of them.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="it watches by /proc")

SWEEPS: list[Any] = [
    ("registry", "kill", 1, 40),
    ("registry", "error", 1, 40),
    ("registry", "power", 1, 90),
    ("data", "kill", 1, 220),
    ("data", "kill_again", 20, 20),
    ("data", "error", 2, 110),
    ("data", "power", 2, 110),
    ("data", "crowd", 10, 10),
    pytest.param("data", "kill_again", 2500, 2500, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
    pytest.param("data", "error", 1, 220, marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
    pytest.param("data", "power", 1, 220, marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
    pytest.param("data", "crowd", 1000, 1000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)]),
]


@pytest.mark.parametrize(("scenario", "fault", "every", "points"), SWEEPS, ids=lambda value: str(value))
def test_every_fault_is_mended_by_the_next_run(tmp_path: Path, scenario: str, fault: str, every: int, points: int) -> None:
    """Whatever happens before a step, what was committed is there, the next run ends as an unbroken one, and no error is a stranger's."""
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", [tiny.write_row(number) for number in range(60)])
    (tmp_path / "work").mkdir()
    command = [sys.executable, str(Path(__file__).with_name("sweep.py")), scenario, fault, str(reviews), str(tmp_path / "work"), str(every)]

    swept = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
    told = json.loads(swept.stdout) if swept.stdout else {"failed": [], "survived": 0}

    assert swept.returncode == 0, swept.stderr
    assert told["failed"] == [], swept.stderr
    assert told["survived"] >= points
    print(f"{scenario}, {fault}: {told['survived']} survived, all of them")
