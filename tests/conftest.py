"""What every test stands on: settings that keep Prefect and the network out, and small reviews."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis  # noqa: F401  its plugin imports it at the very end otherwise, where Python 3.11 fails after a Prefect server ran
import pytest
import tiny

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"  # as in runs, whichever test imports TensorFlow first
os.environ["PREFECT_SERVER_ANALYTICS_ENABLED"] = "false"

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One temporary Prefect server and database for all tests that run flows."""
    from prefect.settings import (
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_LOCAL_STORAGE_PATH,
        PREFECT_SERVER_ANALYTICS_ENABLED,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness

    storage = tmp_path_factory.mktemp("prefect")
    settings = {
        PREFECT_SERVER_ANALYTICS_ENABLED: False,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_LOCAL_STORAGE_PATH: storage,
    }
    with temporary_settings(settings), prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def prefect_address(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which another process uses the tests' own Prefect server."""
    from prefect.settings import PREFECT_API_URL

    return {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect_home"))}


@pytest.fixture(scope="session")
def real_reviews() -> Path:
    """The 50,000 real reviews, where they are present."""
    path = SHARED_DATA / "imdb.csv.gz"
    if not path.is_file():
        pytest.skip("the real reviews are not here")
    return path


@pytest.fixture(scope="session")
def official_reviews() -> Path:
    """The same reviews with the split that their authors made, where they are present."""
    path = SHARED_DATA / "imdb_official.parquet"
    if not path.is_file():
        pytest.skip("the official split is not here")
    return path


@pytest.fixture(scope="session")
def trained(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> tiny.Trained:
    """One tiny training run for all tests; a test that changes its folder asks for `artifacts`."""
    folder = tmp_path_factory.mktemp("trained")
    reviews = tiny.write_reviews(folder / "reviews.csv", tiny.tiny_rows())
    root = folder / "artifacts"
    return tiny.Trained(root, reviews, tiny.train(root, reviews))


@pytest.fixture
def artifacts(trained: tiny.Trained, tmp_path: Path) -> Path:
    """A copy of the tiny run's artifacts folder, to be changed at will."""
    return Path(shutil.copytree(trained.root, tmp_path / "artifacts"))


@dataclass(frozen=True)
class Command:
    """What a command left behind: exit code, the summary of `--json`, what it wrote to stdout and stderr."""

    exit_code: int
    summary: dict[str, Any]
    stdout: str
    stderr: str


@pytest.fixture
def sentiment(prefect_server: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., Command]:
    """Call the command line in this process, with `--json`."""
    from flows.__main__ import main

    def call(*words: Path | str) -> Command:
        capsys.readouterr()
        exit_code = main([*map(str, words), "--json"])
        stdout, stderr = capsys.readouterr()
        return Command(exit_code, json.loads(stdout.splitlines()[-1]) if stdout else {}, stdout, stderr)

    return call
