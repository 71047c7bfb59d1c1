"""Prefect's server is killed under a run, a temporary one or one's own: what the run was for is there all the same, and soon."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
import tiny
from served import wait

from flows.temporary_server import free_port
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


@pytest.mark.soak
@pytest.mark.skipif(os.name != "posix", reason="kills")
@pytest.mark.parametrize("moment", ["", "split", "report"])
def test_own_server_lost(tmp_path: Path, moment: str) -> None:
    """Gone before a run, killed amid it or at its end, one's own server costs seconds: all is there, and exit code 4 tells."""
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", tiny.tiny_rows())
    command = [sys.executable, "-m", "flows", *tiny.command_line(reviews), "--artifacts", str(tmp_path / "artifacts"), "--json"]
    port = free_port()
    environment = os.environ | {"PREFECT_HOME": str(tmp_path), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api"}
    serve = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    server = subprocess.Popen(serve, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) if moment else None
    told: list[tuple[float, str]] = []
    killed = time.monotonic()
    try:
        if server:
            wait(lambda: answers(port), 120, "the server")
        with subprocess.Popen(command, cwd=tiny.PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
            assert run.stdout is not None and run.stderr is not None
            for line in run.stderr:
                told.append((time.monotonic(), line))
                if server and server.poll() is None and line.startswith(moment):
                    for process in (*psutil.Process(server.pid).children(recursive=True), server):
                        process.kill()
                    killed = time.monotonic()
            summary = json.loads(run.stdout.read().splitlines()[-1])
        ended = time.monotonic()
    finally:
        if server:
            server.kill()
            server.wait()
    without = {name: value for name, value in environment.items() if name != "PREFECT_API_URL"}
    again = subprocess.run(command, cwd=tiny.PROJECT, env=without, capture_output=True, text=True, timeout=200, check=False)

    assert (run.returncode, summary["status"]) == (4, "promoted")
    assert "The results are complete" in told[-1][1]
    assert len(told) < 60  # nothing of what the server did not get is printed
    print(f"{moment or 'before'}: {ended - killed:.0f} s after the server's end")
    assert not moment or ended - killed < 150  # on a busy machine; Prefect itself takes 450
    assert verify_store(Store(tmp_path / "artifacts"))[1] == []
    assert (again.returncode, json.loads(again.stdout.splitlines()[-1])["status"]) == (0, "unchanged")


def answers(port: int) -> bool:
    """Return whether a Prefect server answers there."""
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=5).is_success
    except httpx.HTTPError:
        return False
