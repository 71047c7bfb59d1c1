"""A real Dask cluster, a scheduler and three workers by command: one worker is killed while it scores, and nothing shows of it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
import tiny

NUM_FILES, NUM_ROWS = 4, 18_000  # a chunk holds 16,384
SECOND = "0000-00001.parquet"


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder: Path, environment: dict[str, str], started: ExitStack) -> None:
        self.folder, self.environment, self.started = folder, environment, started
        self.run("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        self.workers = [self.run("worker", "--nthreads", "1", "--no-nanny", "--no-dashboard") for _ in range(3)]

    def run(self, what: str, *words: str) -> subprocess.Popen[bytes]:
        """Start `dask scheduler` or `dask worker`, to be ended with the test; they find each other by a file."""
        command = [sys.executable, "-m", "dask", what, *words, "--scheduler-file", str(self.folder / "scheduler.json")]
        process = subprocess.Popen(command, cwd=tiny.PROJECT, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.started.callback(process.wait)
        self.started.callback(process.kill)
        return process

    def amid_second_chunk(self) -> list[subprocess.Popen[bytes]]:
        """Return the workers that have done a chunk of a file and are writing the next."""
        return [worker for worker in self.workers if any(SECOND in file.path for file in psutil.Process(worker.pid).open_files())]


@pytest.fixture
def cluster(prefect_address: dict[str, str], tmp_path: Path) -> Iterator[Cluster]:
    """A cluster for one test."""
    pytest.importorskip("prefect_dask")
    with ExitStack() as started:
        yield Cluster(tmp_path, os.environ | prefect_address | {"PYTHONPATH": str(tiny.PROJECT)}, started)


@pytest.mark.soak
def test_worker_killed_while_it_scores(cluster: Cluster, trained: tiny.Trained, artifacts: Path, tmp_path: Path) -> None:
    """Files scored on three workers, one killed with kill -9 amid a chunk, give byte for byte what threads of one process give."""
    from distributed import Client

    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for number in range(NUM_FILES):
        rows = [tiny.write_row(number * NUM_ROWS + row) for row in range(NUM_ROWS)]
        tiny.write_reviews(inputs / f"{number}.csv", [*rows, *tiny.BAD_ROWS])
    expected = score(inputs, trained.root, tmp_path / "threads", cluster)
    with Client(scheduler_file=str(tmp_path / "scheduler.json"), timeout=60) as client:
        client.wait_for_workers(3, timeout=60)
        scoring = start_scoring(inputs, artifacts, tmp_path / "dask", cluster, "--runner", "dask", "--scheduler", client.scheduler.address)
        while not (busy := cluster.amid_second_chunk()) and scoring.poll() is None:
            pass
        busy[0].send_signal(signal.SIGKILL)
        told = scoring.communicate(timeout=200)[0].decode()

    assert scoring.returncode == 0, told
    assert busy[0].wait() == -signal.SIGKILL
    assert tiny.digests(tmp_path / "dask") == expected
    assert f"{NUM_FILES * (NUM_ROWS + 3) - NUM_FILES:,} of {NUM_FILES * (NUM_ROWS + 3):,} rows scored" in told


def start_scoring(inputs: Path, root: Path, output: Path, cluster: Cluster, *words: Any) -> subprocess.Popen[bytes]:
    """Start `sentiment score`."""
    command = [sys.executable, "-m", "flows", "score", str(inputs), "--artifacts", str(root), "--output", str(output), *words]
    return subprocess.Popen(command, cwd=tiny.PROJECT, env=cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def score(inputs: Path, root: Path, output: Path, cluster: Cluster) -> dict[str, str]:
    """Score with threads; returns the digests of what is published."""
    scoring = start_scoring(inputs, root, output, cluster)
    told = scoring.communicate(timeout=200)[0].decode()
    assert scoring.returncode == 0, told
    return tiny.digests(output)
