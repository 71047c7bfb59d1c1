"""Runs that are killed, run twice at once, or lose Prefect: what is finished is kept, and what is kept is whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from conftest import Command

from tasks.model.registry import history
from tasks.store import Store
from tasks.upkeep import verify_store

KILLED = """
import os, signal, sys
from tasks import store
real = store.{method}
def kill_after(*arguments):
    result = real(*arguments)
    if {name!r} in str(arguments):
        os.kill(os.getpid(), signal.SIGKILL)
    return result
store.{method} = kill_after
from flows.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def run_killed(method: str, name: str, words: list[str], environment: dict[str, str]) -> None:
    """Run a command that kills itself, as `kill -9` would, right after `tasks.store.<method>` was called with `name`."""
    program = KILLED.format(method=method, name=name)
    finished = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=tiny.PROJECT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert finished.returncode == -signal.SIGKILL, finished.stderr


def data_digests(root: Path) -> dict[str, str]:
    """Return the digests of the files that hold no times: tables, weights, vocabulary, profile, scores, metrics.

    The key of `evaluate` hangs on the seconds of each epoch in `training.json`, so it is left out of the names.
    """
    wanted = (
        ".parquet",
        ".safetensors",
        ".npy",
        "vocabulary.json",
        "settings.json",
        "profile.json",
        "golden.json",
        "metrics.json",
        "verdict.json",
    )
    return {name.partition("/")[0] + Path(name).name: digest for name, digest in tiny.digests(root).items() if name.endswith(wanted)}


@pytest.mark.parametrize(
    ("method", "name", "before", "ran"),
    [
        ("Draft.open", "clean/", 0, tiny.STEPS[1:]),  # while a file is written
        ("Store._publish", "weights.safetensors", 4, tiny.STEPS[4:]),  # some files under their names, no record yet
        ("sync_folder", "models')", 6, ("report",)),  # the history is written, `champion.json` is not
    ],
)
def test_killed_run_goes_on(
    trained: tiny.Trained, prefect_address: dict[str, str], tmp_path: Path, method: str, name: str, before: int, ran: tuple[str, ...]
) -> None:
    """After kill -9 in the middle of a step the same command goes on from there, and all comes out as of an unbroken run."""
    root = tmp_path / "artifacts"
    for step in tiny.STEPS[:before]:  # to save time; they are of the unbroken run
        shutil.copytree(trained.root / step, root / step)
    if before > 4:
        shutil.copytree(trained.bundle, root / "models" / trained.bundle.name)
    run_killed(method, name, [*tiny.command_line(trained.reviews), "--artifacts", str(root)], prefect_address)
    damaged = verify_store(Store(root))[1]

    summary = tiny.train(root, trained.reviews)

    assert damaged == []
    assert tuple(tiny.steps_that_ran(summary)) == ran
    assert data_digests(root) == data_digests(trained.root)
    assert summary["status"] == "promoted"
    assert summary["test"] == trained.summary["test"]
    assert verify_store(Store(root))[1] == []


def test_two_runs_at_once(trained: tiny.Trained, prefect_address: dict[str, str], tmp_path: Path) -> None:
    """Two runs on one folder both succeed with one model: each step is made by one of them and reused by the other."""
    root = tmp_path / "artifacts"
    command = [sys.executable, "-m", "flows", *tiny.command_line(trained.reviews), "--artifacts", str(root), "--json"]
    runs = [
        subprocess.Popen(
            command, cwd=tiny.PROJECT, env=os.environ | prefect_address, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ended = [run.communicate(timeout=200) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], [stderr for _, stderr in ended]

    summaries = [json.loads(stdout.splitlines()[-1]) for stdout, _ in ended]

    assert {summary["model_id"] for summary in summaries} == {trained.summary["model_id"]}
    for step in tiny.STEPS:
        assert sorted(summary["steps"][step]["state"] for summary in summaries) == ["cached", "completed"]
    assert verify_store(Store(root))[1] == []
    assert len(history(Store(root))) == 1
    assert data_digests(root) == data_digests(trained.root)
    assert not list(tiny.files_of(root / "tmp"))


def test_prefect_out_of_reach(artifacts: Path, trained: tiny.Trained, tmp_path: Path, prefect_address: dict[str, str]) -> None:
    """Where the Prefect server that the settings name does not answer, a temporary one serves: all is done, exit code 4 tells of it."""
    command = [
        sys.executable,
        "-m",
        "flows",
        "score",
        str(trained.reviews),
        "--artifacts",
        str(artifacts),
        "--output",
        str(tmp_path / "out"),
    ]
    environment = os.environ | prefect_address | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}

    finished = subprocess.run(command, cwd=tiny.PROJECT, env=environment, capture_output=True, text=True, timeout=200, check=False)

    assert finished.returncode == 4
    assert "No Prefect server answers at http://127.0.0.1:9/api. A temporary one takes its place" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert len(list((tmp_path / "out").glob("*.scored.parquet"))) == 1


def test_stopped_by_the_user(
    trained: tiny.Trained, artifacts: Path, sentiment: Callable[..., Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends with code 130, says that finished steps are kept, and the next run reuses them."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tasks.model.fitting.fit_lstm", interrupted)
        stopped = sentiment(*tiny.command_line(trained.reviews), "--set=split.seed=3", "--artifacts", artifacts)
    summary = tiny.train(artifacts, trained.reviews, split__seed=3)

    assert stopped.exit_code == 130
    assert "Finished steps are kept" in stopped.stderr
    assert tiny.steps_that_ran(summary) == ["train", "evaluate", "promote", "report"]
    assert not list(tiny.files_of(artifacts / "tmp"))
