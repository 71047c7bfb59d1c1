"""Prefect's temporary server is killed under a run: what the run was for is there all the same, and soon."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import tiny

from tasks.store import Store
from tasks.upkeep import verify_store


@pytest.mark.soak
@pytest.mark.skipif(os.name != "posix", reason="kills")
@pytest.mark.parametrize("moment", ["ingest", "split", "promote"])
def test_server_killed_under_a_run(tmp_path: Path, moment: str) -> None:
    """Killed at the beginning, before training or at the end, the server is started again: exit code 0, all there, and again a no-op."""
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", tiny.tiny_rows())
    command = [sys.executable, "-m", "flows", *tiny.command_line(reviews), "--artifacts", str(tmp_path / "artifacts"), "--json"]
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"} | {"PREFECT_HOME": str(tmp_path)}
    told, killed = [], []
    with subprocess.Popen(command, cwd=tiny.PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None and run.stderr is not None
        for line in run.stderr:
            told.append(line)
            if line.startswith(moment) and not killed:
                killed = [child for child in psutil.Process(run.pid).children() if "uvicorn" in child.cmdline()]
                for server in killed:
                    server.kill()
        summary = json.loads(run.stdout.read().splitlines()[-1])
    again = subprocess.run(command, cwd=tiny.PROJECT, env=environment, capture_output=True, text=True, timeout=200, check=False)

    assert len(killed) == 1 and "started again" in "".join(told)
    assert (run.returncode, summary["status"]) == (0, "promoted")
    assert summary["seconds"] < 200  # half of it the server's start on a busy machine
    assert verify_store(Store(tmp_path / "artifacts"))[1] == []
    assert (again.returncode, json.loads(again.stdout.splitlines()[-1])["status"]) == (0, "unchanged")
