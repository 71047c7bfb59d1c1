"""A word planted in every review stays in the artifacts: it reaches neither Prefect, nor a log, nor a page."""

import csv
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlparse

import pyarrow.parquet as pq
import pytest
import tiny
from conftest import Command

CANARY = "zyxcanary"


@pytest.fixture(scope="module")
def marked(trained: tiny.Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run's reviews with a marker in each text, in refused rows too, and in a label as long as a review."""
    folder = tmp_path_factory.mktemp("marked")
    rows = [[row[0], f"{CANARY} {row[1]} {CANARY}", *row[2:]] for row in tiny.tiny_rows()]
    swapped = ["bad-4", "positive", f"{CANARY} the plot was dull, the cast was wooden", "Leeds"]
    return tiny.write_reviews(folder / "reviews.csv", [*rows, swapped])


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """Everything that is logged anywhere, tracebacks included."""
    found: list[str] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(logging.Formatter().format(record))

    keeper = Keeper(level=0)
    logging.getLogger().addHandler(keeper)
    with caplog.at_level(logging.INFO), caplog.at_level(logging.DEBUG, "tasks"), caplog.at_level(logging.DEBUG, "prefect"):
        yield found
    logging.getLogger().removeHandler(keeper)


def prefect_database() -> Path:
    """Return the path of the test server's SQLite file."""
    from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL

    return Path(urlparse(str(PREFECT_SERVER_DATABASE_CONNECTION_URL.value())).path)


def database_bytes() -> bytes:
    """Return the server's database, its write-ahead log included."""
    place = prefect_database()
    return b"".join(path.read_bytes() for path in place.parent.glob(f"{place.name}*"))


def wait_until_stored(words: str) -> bytes:
    """Return the database once the server has stored a line that was logged last."""
    give_up = time.monotonic() + 30
    while words.encode() not in (data := database_bytes()) and time.monotonic() < give_up:
        time.sleep(0.1)
    return data


def test_no_review_text_leaves_the_artifacts(marked: Path, tmp_path: Path, lines: list[str]) -> None:
    """After training and scoring, the word that stands in every review is in no log, page, metric or record, nor in Prefect's database."""
    from flows.scoring import scoring

    root = tmp_path / "artifacts"
    summary = tiny.train(root, marked)
    scored = scoring(inputs=[str(marked)], artifacts=str(root))
    stored = wait_until_stored("413 of 414 rows scored")

    assert b"test accuracy" in stored and summary["model_id"].encode() in stored
    assert CANARY.encode() not in stored
    assert any("test accuracy" in line for line in lines)
    assert [line for line in lines if CANARY in line] == []
    told = [path for path in tiny.files_of(root) if path.suffix in (".html", ".md", ".json", ".jsonl") and path.name != "vocabulary.json"]
    assert {"metrics.json", "MODEL_CARD.md", "training.json", "golden.json", "profile.json"} <= {path.name for path in told}
    assert [path.name for path in told if CANARY in path.read_text(encoding="utf-8")] == []
    (quarantine,) = root.glob("ingest/*.quarantine.parquet")
    assert CANARY not in str(pq.read_table(quarantine).to_pylist())
    assert CANARY not in str(summary) + str(scored)


def test_failures_tell_no_text(marked: Path, tmp_path: Path, lines: list[str]) -> None:
    """A run that fails over its data says which rows and why, never what stands in them."""
    with marked.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    broken = tiny.write_reviews(tmp_path / "broken.csv", ([row[0], row[2], row[1], row[3]] for row in rows[:400]), header)

    with pytest.raises(ValueError, match=r"400 of 400 rows were refused") as failure:
        tiny.train(tmp_path / "artifacts", broken)

    assert CANARY not in str(failure.value)
    assert [line for line in lines if CANARY in line] == []
    assert CANARY.encode() not in wait_until_stored("400 of 400 rows were refused")


OF_TRAINING = {step: f"tasks.{step}.{step}_artifact" for step in tiny.STEPS}
OF_SCORING = {"score": "tasks.score.score_shard", "summarize": "tasks.summarize.collect_summary"}


def test_errors_that_nobody_foresaw_tell_no_text(
    artifacts: Path,
    trained: tiny.Trained,
    tmp_path: Path,
    lines: list[str],
    sentiment: Callable[..., Command],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where a library quotes a review in its error, in whichever step, only a file of the owner's holds it; where it was is told."""

    def quote(*_: object, **__: object) -> None:
        try:
            raise KeyError(f"{CANARY} the plot was dull")
        except KeyError as error:
            raise ValueError(f"Could not convert '{CANARY} the plot was dull' to a number") from error

    told = ""
    for step, function in (OF_TRAINING | OF_SCORING).items():
        words = ["score", trained.reviews, "--output", tmp_path / step] if step in OF_SCORING else tiny.command_line(trained.reviews)
        with monkeypatch.context() as patch:
            patch.setattr(function, quote)
            failed = sentiment(*words, "--artifacts", artifacts)
        told += failed.stdout + failed.stderr
        assert failed.exit_code in (1, 3), step
        assert f"{step} met an error that nobody foresaw: ValueError" in failed.stderr, failed.stderr

    stored = wait_until_stored("summarize met an error that nobody foresaw")
    kept = [path for path in tiny.files_of(artifacts) if CANARY.encode() in path.read_bytes()]
    assert CANARY not in told
    assert "Traceback" not in told
    assert [line for line in lines if CANARY in line] == []
    assert stored.count(CANARY.encode()) == 0
    assert {path.parent.name for path in kept} == {"errors"} and len(kept) == len(OF_TRAINING | OF_SCORING)
    assert [path.stat().st_mode & 0o077 for path in (*kept, artifacts / "errors")] == [0] * (len(kept) + 1)


def test_artifacts_are_the_owners_alone(artifacts: Path, trained: tiny.Trained, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """No file that holds review text can be read by other users of the machine, and no folder that was made can be entered."""
    root, outputs = tmp_path / "new" / "root", tmp_path / "made" / "outputs"
    tiny.train(root, trained.reviews)
    for format in ("csv", "jsonl", "parquet"):
        sentiment("score", trained.reviews, "--artifacts", root, "--output", outputs, "--format", format)

    files = [path for top in (root, outputs) for path in tiny.files_of(top) if path.suffix != ".lock"]
    folders = [path for top in (root.parent, outputs.parent) for path in (top, *top.rglob("*")) if path.is_dir()]

    holding = {path.suffix for path in files if b"the plot was" in path.read_bytes()}
    assert {".parquet", ".csv", ".jsonl"} <= holding
    assert [path.name for path in files if path.suffix in holding and path.parent.name != "runs" and path.stat().st_mode & 0o077] == []
    assert [path.name for path in folders if path.stat().st_mode & 0o077] == []
