"""Training on a window of days, as the command line is told it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny
from conftest import Command

TODAY = datetime.now(UTC).date()
RECENT, OLD = TODAY - timedelta(days=30), TODAY - timedelta(days=200)


@pytest.fixture
def dated(tmp_path: Path) -> Path:
    """400 reviews, every other one written long ago."""
    rows = [[*tiny.write_row(number), str(OLD if number % 2 else RECENT)] for number in range(400)]
    return tiny.write_reviews(tmp_path / "dated.csv", rows, [*tiny.COLUMNS, "written"])


def test_the_last_days(dated: Path, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """`--last 90d` trains on what was written since then; the report counts the rest and names the day in the command that repeats it."""
    words = [*tiny.command_line(dated), "--date-column", "written", "--artifacts", tmp_path / "artifacts"]

    result = sentiment(*words, "--last", "90d")
    again = sentiment(*words, "--since", str(TODAY - timedelta(days=90)))

    (path,) = (path for path in (tmp_path / "artifacts" / "ingest").glob("*.parquet") if "quarantine" not in path.name)
    page = Path(result.summary["report"]).read_text(encoding="utf-8")
    assert result.exit_code == 0, result.stderr
    assert set(pq.read_table(path)["written"].to_pylist()) == {str(RECENT)}
    assert result.summary["steps"]["ingest"]["rows"] == 200
    assert "Outside the window" in page
    assert f"ingest.window.since=&#34;{TODAY - timedelta(days=90)}" in page and "window.last=" not in page
    assert again.summary["status"] == "unchanged"


@pytest.mark.parametrize(
    ("options", "exit_code", "words"),
    [
        (["--last", "90"], 2, "90d or 12w"),
        (["--since", "2026-02-30"], 2, "since"),
        (["--since", "2026-02-02", "--until", "2026-02-01"], 2, "before it begins"),
        (["--since", "2026-02-02"], 2, "--date-column"),
        (["--until", "1999-01-01", "--date-column", "written"], 3, f"dated {OLD} to {RECENT}"),
        (["--last", "90d", "--date-column", "written", "--set", "balance.min_train_rows=500"], 3, "rows are left to train on"),
    ],
    ids=str,
)
def test_a_window_that_leaves_nothing(
    dated: Path, tmp_path: Path, sentiment: Callable[..., Command], options: list[str], exit_code: int, words: str
) -> None:
    """A span that cannot be read, ends before it begins or leaves too little stops before anything is trained, and says what to do."""
    result = sentiment(*tiny.command_line(dated), *options, "--artifacts", tmp_path / "artifacts")

    assert result.exit_code == exit_code
    assert words in result.stderr
    assert not (tmp_path / "artifacts" / "models").exists()
