"""Runs, kills, damage, garbage collection, promotions, rollbacks and scoring in any order: whatever happened before, the promises hold."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="it watches by /proc")
STORIES: list[Any] = [30, pytest.param(2000, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])]


@pytest.mark.parametrize("stories", STORIES)
def test_promises_hold_in_any_order(tmp_path: Path, stories: int) -> None:
    """Through 25 acts a story, runs make what they always make, rows are all there, the champion is who was promoted, all else is whole."""
    files = [
        tiny.write_reviews(tmp_path / f"{first}.csv", [*(tiny.write_row(first + n) for n in range(60)), *tiny.BAD_ROWS])
        for first in (0, 500)
    ]
    command = [sys.executable, str(Path(__file__).with_name("machine.py")), *map(str, files), str(stories)]

    told = subprocess.run(command, capture_output=True, text=True, timeout=7200, check=False)

    assert told.returncode == 0, told.stderr[-8000:]
    counted = json.loads(told.stdout)
    print(f"{stories} stories, {sum(counted.values()):,} acts: {counted}")
    wanted = ("run: well", "run: killed", "promote: killed", "rollback: well", "score: well", "score: killed", "score: refused", "gc: well")
    assert all(counted.get(name, 0) > 0 for name in wanted), counted
