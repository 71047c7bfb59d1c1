"""What a scoring run leaves beside its results and in Prefect: a summary, a table of drift, and an event where the reviews have drifted."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Command
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.events.schemas.events import ReceivedEvent

from tasks.summarize import DRIFT_DETECTED

GERMAN = "Das war nicht gut, und die Musik ist mir zu laut gewesen."


@pytest.fixture
def client(prefect_server: None) -> SyncPrefectClient:
    """The tests' own Prefect server."""
    return get_client(sync_client=True)


def _artifacts(client: SyncPrefectClient, key: str) -> list[Artifact]:
    found = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])))
    return sorted(found, key=lambda artifact: str(artifact.created))


def _events(client: SyncPrefectClient, expected: int) -> list[ReceivedEvent]:
    """Return the events of drift once there are as many as expected: they reach the server a moment later."""
    give_up = time.monotonic() + 30
    while True:
        until_now = EventFilter(event=EventNameFilter(name=[DRIFT_DETECTED]))
        events = client.read_events(filter=until_now, limit=50).events
        if len(events) >= expected or time.monotonic() > give_up:
            return list(events)
        time.sleep(0.1)


def _write(path: Path, german: int = 0, own: int = 200) -> Path:
    """Write reviews like those of training, none of which was trained on, among them German ones, with dates."""
    texts = [*(tiny.write_row(number)[1] for number in range(5000, 5000 + own)), *[GERMAN] * german]
    rows = [[f"r{place}", text, f"2024-03-{place % 28 + 1:02d}"] for place, text in enumerate(texts)]
    return tiny.write_reviews(path, rows, ["id", "review", "date"])


def _score(trained: tiny.Trained, *inputs: Path, output: Path) -> dict[str, Any]:
    from flows.scoring import scoring

    return scoring(inputs=[str(path) for path in inputs], artifacts=str(trained.root), output=str(output))


def test_labels_by_the_date_column_that_is_named(trained: tiny.Trained, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """--date-column says which of several columns the labels over time go by; one that is not there is the caller's mistake."""
    rows = [[f"r{place}", tiny.write_row(place)[1], "2024-03-01", f"2025-07-{place % 9 + 1:02d}"] for place in range(60)]
    path = tiny.write_reviews(tmp_path / "in.csv", rows, ["id", "review", "bought", "answered"])
    command = ["score", path, "--artifacts", trained.root, "--output", tmp_path / "out"]

    named, missing = sentiment(*command, "--date-column", "answered"), sentiment(*command, "--date-column", "sold")

    page = Path(named.summary["summary"]).read_text(encoding="utf-8")
    assert "2025-07-09" in page and "2024-03-01" not in page
    assert (missing.exit_code, "--date-column 'sold' is not among the columns" in missing.stderr) == (2, True)


def test_drift_is_told(trained: tiny.Trained, tmp_path: Path, client: SyncPrefectClient) -> None:
    """Two files of which one is half German: page, artifacts and summary say what has drifted, one event does, and none holds text."""
    before = len(_events(client, 0))
    summary = _score(trained, _write(tmp_path / "a.csv"), _write(tmp_path / "b.csv", german=200), output=tmp_path / "out")

    assert (summary["drift"], summary["summary"]) == ("drifted", str(tmp_path / "out" / "summary.html"))
    page = Path(summary["summary"]).read_text(encoding="utf-8")
    (markdown,) = _artifacts(client, "scoring-summary")[-1:]
    (table,) = _artifacts(client, "drift")[-1:]
    events = _events(client, before + 1)
    assert len(events) == before + 1
    event = max(events, key=lambda event: event.occurred)
    for told in (page, str(markdown.data)):
        assert all(words in told for words in ("These reviews are not like those of training", "a.csv", "b.csv", "2024-03-28"))
    assert {row["feature"] for row in json.loads(str(table.data)) if row["verdict"] == "drifted"} >= {"language"}
    assert event.resource.id == f"reviews.model.{summary['model_id']}"
    assert event.payload["rows"] == 600
    assert "language" in {feature["name"] for feature in event.payload["features"]}
    for told in (page, str(markdown.data), str(table.data), json.dumps(event.payload)):
        assert not any(words in told for words in ("Das war", "Musik", "and I saw it twice", "wonderful"))


def test_reviews_like_those_of_training_raise_no_alarm(trained: tiny.Trained, tmp_path: Path, client: SyncPrefectClient) -> None:
    """Other reviews of the same kind have not drifted: no event is emitted, and the page says as much."""
    before = len(_events(client, 0))
    summary = _score(trained, _write(tmp_path / "a.csv"), output=tmp_path / "out")

    assert summary["drift"] in ("as in training", "slightly different")
    assert len(_events(client, 0)) == before
    assert "from 1 file" in Path(summary["summary"]).read_text(encoding="utf-8")


def test_training_rows_are_told_apart(trained: tiny.Trained, tmp_path: Path) -> None:
    """Scoring the very file that the model was trained on is no drift: the page says that the model knows these rows."""
    summary = _score(trained, trained.reviews, output=tmp_path / "out")

    assert summary["drift"] != "drifted"
    assert "of the rows were training rows of this model" in Path(summary["summary"]).read_text(encoding="utf-8")


def test_what_was_told_is_not_told_again(trained: tiny.Trained, tmp_path: Path, client: SyncPrefectClient) -> None:
    """The same reviews once more: the page stays as it is, byte for byte, and Prefect hears nothing new."""
    before, reviews = len(_events(client, 0)), _write(tmp_path / "a.csv", german=200)
    first = _score(trained, reviews, output=tmp_path / "out")
    page = Path(first["summary"]).read_bytes()
    told = len(_artifacts(client, "scoring-summary")), len(_events(client, before + 1))

    again = _score(trained, reviews, output=tmp_path / "out")

    assert (again["status"], again["drift"]) == ("already scored", "drifted")
    assert Path(again["summary"]).read_bytes() == page
    assert (len(_artifacts(client, "scoring-summary")), len(_events(client, 0))) == told
