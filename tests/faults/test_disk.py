"""A disk that is full, or a folder that cannot be written: exit code 4, and nothing under a final name that is not whole."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Command

from tasks import store as store_module
from tasks.store import HashingFile, Store
from tasks.upkeep import verify_store


def kept(root: Path) -> dict[str, str]:
    """Return the digests of what stands under final names."""
    return {name: digest for name, digest in tiny.digests(root).items() if not name.startswith("tmp/")}


def no_space(*_: Any) -> None:
    """Fail as a full disk does."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["ingest", "split", "train", "evaluate", "promote", "report"])
def test_full_disk_while_a_step_writes(
    trained: tiny.Trained, artifacts: Path, sentiment: Callable[..., Command], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """When the disk fills up under a step, the command ends with 4 and what to do, all that stood before stands, and it can go on."""
    for record in (artifacts / step).glob("*.json"):
        record.unlink()
    before = kept(artifacts)
    real = HashingFile.write

    def write(self: HashingFile, data: bytes) -> int:
        if self.size + len(memoryview(data).cast("B")) > 100:
            no_space()
        return real(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(HashingFile, "write", write)
        full = sentiment(*tiny.command_line(trained.reviews), "--artifacts", artifacts)
    left = kept(artifacts)
    again = tiny.train(artifacts, trained.reviews)

    assert full.exit_code == 4
    assert "No space left on device" in full.stderr
    assert "run the same command again" in full.stderr
    assert "Traceback" not in full.stderr
    assert left == before
    assert not list((artifacts / "tmp").iterdir())
    assert tiny.steps_that_ran(again)[0] == step
    assert verify_store(Store(artifacts))[1] == []


@pytest.mark.parametrize("name", ["champion.json", "bundle.json", ".html"])
def test_full_disk_at_the_last_moment(
    trained: tiny.Trained, artifacts: Path, sentiment: Callable[..., Command], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """When a rename fails, champion and models stay usable or unsealed, never half; the same command mends it."""
    for step in ("evaluate", "promote", "report"):
        for record in (artifacts / step).glob("*.json"):
            record.unlink()
    (artifacts / "models" / "champion.json").unlink()
    if name == "bundle.json":
        next(artifacts.glob("models/*/bundle.json")).unlink()
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if str(target).endswith(name):
            no_space()
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(store_module.os, "replace", replace)
        full = sentiment(*tiny.command_line(trained.reviews), "--artifacts", artifacts)
    again = tiny.train(artifacts, trained.reviews)

    assert full.exit_code == 4
    assert "No space left on device" in full.stderr
    assert again["test"] == trained.summary["test"]
    assert (artifacts / "models" / "champion.json").is_file()
    assert verify_store(Store(artifacts))[1] == []
    assert not [path for path in tiny.files_of(artifacts) if path.name.endswith(".part")]


def test_full_disk_while_scores_are_written(
    trained: tiny.Trained, sentiment: Callable[..., Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When scores do not fit on the disk there is no result, not a part of one, and the message says what to do."""
    real = HashingFile.write

    def write(self: HashingFile, data: bytes) -> int:
        if self.size + len(memoryview(data).cast("B")) > 5_000:
            no_space()
        return real(self, data)

    monkeypatch.setattr(HashingFile, "write", write)

    full = sentiment("score", trained.reviews, "--artifacts", trained.root, "--output", tmp_path / "out")

    assert full.exit_code == 4
    assert "Free some space" in full.stderr
    assert list(tiny.files_of(tmp_path / "out")) == []


def test_real_limit_of_file_size(trained: tiny.Trained, prefect_address: dict[str, str], tmp_path: Path) -> None:
    """Where the system itself refuses to let a file grow, the command ends with 4 and leaves no file of the step that failed."""
    command = [sys.executable, "-m", "flows", *tiny.command_line(trained.reviews), "--artifacts", str(tmp_path / "artifacts")]

    limited = subprocess.run(
        command, cwd=tiny.PROJECT, env=os.environ | prefect_address, capture_output=True, text=True, timeout=200, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, 8_000)),
    )  # fmt: skip

    assert limited.returncode == 4, limited.stderr
    assert "File too large" in limited.stderr
    assert "Traceback" not in limited.stderr
    assert not list((tmp_path / "artifacts").glob("ingest/*"))


def test_artifacts_folder_that_is_a_file(trained: tiny.Trained, sentiment: Callable[..., Command], tmp_path: Path) -> None:
    """An artifacts folder that cannot be made is told with the option that names another, exit code 4."""
    (tmp_path / "taken").touch()

    result = sentiment(*tiny.command_line(trained.reviews), "--artifacts", tmp_path / "taken")

    assert result.exit_code == 4
    assert "--artifacts" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only for root")
def test_read_only_folder(trained: tiny.Trained, artifacts: Path, sentiment: Callable[..., Command]) -> None:
    """A folder that may not be written to ends with exit code 4 and its name."""
    artifacts.chmod(0o500)
    try:
        result = sentiment(*tiny.command_line(trained.reviews), "--set=split.seed=9", "--artifacts", artifacts)
    finally:
        artifacts.chmod(0o700)

    assert result.exit_code == 4
    assert str(artifacts) in result.stderr
