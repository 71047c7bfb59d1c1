"""`sentiment serve` as a stranger uses it: one server for all these tests, asked through its own interface."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import matplotlib.image
import psutil
import pyarrow.parquet as pq
import pytest
import served as serving
import tiny
from browser import open_browser
from served import ENDED, Served, wait

from tasks.model.registry import champion, list_models
from tasks.store import Store
from tasks.upkeep import verify_store

pytestmark = pytest.mark.skipif(os.name != "posix", reason="ended by signals of POSIX systems")
heard: list[dict[str, str]] = []
ENDLESS = {"model.epochs": 5000, "model.patience": 5000}


class _Webhook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def webhook() -> Iterator[str]:
    """The address of a webhook, which keeps what it is sent in `heard`."""
    server = HTTPServer(("127.0.0.1", 0), _Webhook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/alerts"
    server.shutdown()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, webhook: str) -> Iterator[Served]:
    """One server with deployments, automations and a worker for all tests."""
    with serving.serve(tmp_path_factory.mktemp("served") / "artifacts", "--alerts", webhook) as running:
        yield running


def parameters(reviews: Path, **changes: Any) -> dict[str, Any]:
    """Return what the form of `retrain` would send for a tiny run."""
    return {"sources": [str(reviews)], "preset": "quick", "overrides": tiny.SETTINGS | changes}


def state_of(served: Served) -> dict[str, Any]:
    """Return all that serving sets up, with ids and times of change."""
    kinds = ("deployments", "automations", "work_pools", "block_documents")
    found = {kind: served.ask(f"{kind}/filter") for kind in kinds}
    shown = ("id", "name", "version", "parameters", "schedules", "trigger", "actions", "enabled", "data")
    return {kind: sorted(_plain({name: entry.get(name) for name in shown}) for entry in entries) for kind, entries in found.items()}


def _plain(value: Any) -> str:
    """Return a value as text in which sets, which the server lists in any order, are sorted."""
    if isinstance(value, dict):
        return json.dumps({name: _plain(entry) for name, entry in value.items()})
    return json.dumps(sorted(map(_plain, value)) if isinstance(value, list) else value)


def test_every_field_of_the_forms_is_described(served: Served) -> None:
    """Every parameter of every deployment says in the form what it is, and so does every setting by its dotted name."""
    schemas = {entry["name"]: entry["parameter_openapi_schema"] for entry in served.ask("deployments/filter")}

    fields = {
        f"{name}.{field}": entry
        for name, schema in schemas.items()
        for field, entry in (schema["properties"] | schema["properties"].get("overrides", {}).get("properties", {})).items()
    }

    assert set(schemas) == {"retrain", "score", "tune"}
    assert len(fields) > 150
    assert [name for name, entry in fields.items() if not entry.get("description")] == []


def test_nobody_is_let_in_without_the_login(served: Served) -> None:
    """The server listens on this machine alone and answers 401 without its login, which only the owner can read; so do its commands."""
    listening = {place.laddr.ip for child in psutil.Process(served.process.pid).children() for place in child.net_connections("tcp")}
    wanted = [(method, path) for method in ("GET", "POST") for path in ("admin/version", "flow_runs/filter", "deployments/filter")]
    answers = {
        httpx.request(method, f"{served.url}/api/{path}", auth=auth).status_code
        for method, path in wanted
        for auth in (None, ("sentiment", "guess"), ("", ""))
    }
    environment = os.environ | {"PREFECT_API_URL": f"{served.url}/api"}
    words = [sys.executable, "-m", "flows", "train", "sample", "--preset", "quick", "--artifacts", str(served.root)]
    refused = subprocess.run(words, cwd=tiny.PROJECT, env=environment, capture_output=True, text=True, timeout=100, check=False)
    place = served.root / "prefect" / "login"

    assert listening == {"127.0.0.1"}
    assert answers == {401}
    assert served.get("admin/version")
    assert (refused.returncode, "asks for a login" in refused.stderr, "PREFECT_API_AUTH_STRING" in refused.stderr) == (2, True, True)
    assert "Traceback" not in refused.stderr
    assert (place.stat().st_mode & 0o777, place.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert served.login not in served.log.read_text(encoding="utf-8")
    assert len(served.login) > 40


@pytest.mark.parametrize(
    ("deployment", "given", "told"),
    [
        ("training/retrain", {"overrides": {"model.epochs": 0}}, "0 is less than the minimum of 1"),
        ("training/retrain", {"overrides": {"model.epoch": 3}}, "'model.epoch' was unexpected"),
        ("training/retrain", {"overrides": {"split.test_share": 2}}, "2 is greater than or equal to the maximum of 1"),
        ("training/retrain", {"folds": 1}, "1 is less than the minimum of 2"),
        ("training/retrain", {"sources": []}, "[] should be non-empty"),
        ("training/retrain", {"settings": {"model.epochs": 3}}, "'settings' was unexpected"),
        ("scoring/score", {"format": "xml"}, "'xml' is not one of ['parquet', 'csv', 'jsonl']"),
        ("scoring/score", {"explain": -1}, "-1 is less than the minimum of 0"),
        ("tuning/tune", {"minutes": 0}, "0 is less than or equal to the minimum of 0"),
    ],
)
def test_the_form_refuses_a_wrong_setting(served: Served, deployment: str, given: dict[str, Any], told: str) -> None:
    """A wrong setting is refused before there is a run, with the field's own message."""
    answer = served.trigger(deployment, **given)

    assert answer.status_code == 409
    assert told in answer.text
    assert not served.runs(deployment.partition("/")[2])


def test_a_promotion_starts_scoring(served: Served, tmp_path: Path) -> None:
    """A model that `retrain` promotes is announced, and `score` starts with it within 30 seconds; a damaged or half result is nowhere."""
    feedback = tiny.write_reviews(served.root / "inbox" / "feedback.csv", [tiny.write_row(number) for number in range(1000, 1040)])
    os.utime(feedback, (0, 0))  # not just being written
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", tiny.tiny_rows())
    run_id = served.trigger("training/retrain", **parameters(reviews)).json()["id"]

    wait(lambda: served.run(run_id)["state_type"] in ENDED, 120, "training")
    (scored,) = wait(lambda: [run for run in served.runs("score") if run["state_type"] in ENDED], 90, "scoring")

    assert served.run(run_id)["state_name"] == "Promoted"
    store = Store(served.root)
    model = champion(store)
    assert model is not None and verify_store(store)[1] == []
    assert (scored["state_name"], scored["parameters"]["model"]) == ("Scored", model.model_id)
    waited = (datetime.fromisoformat(scored["start_time"]) - datetime.fromisoformat(model.promoted_at)).total_seconds()
    print(f"promotion to scoring: {waited:.1f} s")
    assert waited < 30
    (table,) = (served.root / "scores" / model.model_id).glob("*.parquet")
    assert set(pq.read_table(table)["model_id"].to_pylist()) == {model.model_id}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_history_in_a_browser(served: Served, tmp_path: Path, scheme: str) -> None:
    """A real browser shows in light and dark what the runs were: names, states, every page that they leave, and the form.

    The screenshots stay in the folder that SENTIMENT_SCREENSHOTS names.
    """
    pictures = Path(os.environ.get("SENTIMENT_SCREENSHOTS") or tmp_path)
    pictures.mkdir(parents=True, exist_ok=True)
    (trained,) = [run for run in served.runs("retrain") if run["state_name"] == "Promoted"]
    (scored,) = served.runs("score")
    model = scored["parameters"]["model"]
    artifact = {entry["key"]: f"artifacts/artifact/{entry['latest_id']}" for entry in served.ask("artifacts/latest/filter")}
    pages = {
        "runs": ("runs", [trained["name"], scored["name"], "Promoted", "Scored"]),
        "run": (f"runs/flow-run/{trained['id']}", [trained["name"], "Promoted", "training", "vocabulary of"]),
        "report-timeline": ("artifacts/key/training-report", [f"{model} promoted: there was no champion"]),
        "report": (artifact["training-report"], ["This model is now the champion", "data:image/png"]),
        "comparison": (artifact["model-comparison"], ["calibration", "passed"]),
        "quality": (artifact["data-quality"], ["refused", "validation"]),
        "scoring": (artifact["scoring-summary"], [f"rows scored with {model}", "data:image/png"]),
        "drift": (artifact["drift"], ["in training", "length"]),
        "form": (f"deployments/deployment/{trained['deployment_id']}/run", ["model.epochs", "times the training rows are gone through"]),
    }
    with open_browser(tmp_path / "browser") as browser:
        browser.log_in(served.login)
        for name, (page, told) in pages.items():
            picture = pictures / f"{name}-{scheme}.png"
            assert browser.show(f"{served.url}/v2/{page}", told, scheme, picture) == [], name
            assert (matplotlib.image.imread(picture)[..., :3].mean() > 0.5) == (scheme == "light"), name


def test_twenty_triggers_at_once_then_cancel(served: Served, tmp_path: Path) -> None:
    """Of 20 triggers one trains and 19 are skipped; cancelled in the middle of training, it ends within seconds, the store clean."""
    wanted = parameters(tiny.write_reviews(tmp_path / "reviews.csv", tiny.tiny_rows()), **ENDLESS)
    asked = {served.trigger("training/retrain", **wanted).json()["id"] for _ in range(20)}
    models = list_models(Store(served.root))

    def skipped() -> list[dict[str, Any]]:
        return [run for run in served.runs("retrain") if run["id"] in asked and run["state_type"] == "CANCELLED"]

    wait(lambda: len(skipped()) == 19, 200, "19 skipped")
    (run_id,) = asked - {run["id"] for run in skipped()}
    running = {"name": {"like_": "train"}, "state": {"type": {"any_": ["RUNNING"]}}}
    wait(lambda: served.ask("task_runs/filter", flow_runs={"id": {"any_": [run_id]}}, task_runs=running), 120, "training")
    assert {run["state"]["message"] for run in skipped()} == {"Deployment concurrency limit reached."}
    cancelled = datetime.now(UTC)
    served.ask(f"flow_runs/{run_id}/set_state", state={"type": "CANCELLING", "name": "Cancelling"}, force=True)
    ended = wait(lambda: (run := served.run(run_id))["state_type"] in ENDED and run, 60, "the end of the run")

    seconds = (datetime.fromisoformat(ended["state"]["timestamp"]) - cancelled).total_seconds()
    print(f"cancelled after {seconds:.1f} s")
    assert ended["state_type"] == "CANCELLED"
    assert seconds < 30  # on a busy machine
    wait(lambda: not list((served.root / "tmp").iterdir()), 10, "no draft left")
    assert verify_store(Store(served.root))[1] == []
    assert list_models(Store(served.root)) == models


def test_alerts_reach_a_webhook(served: Served) -> None:
    """A crash, a refusal and drift are told to the webhook, each with what it is about; a crash of somebody else's run is not."""
    flow = served.ask("flows/", name="training")["id"]
    crashed = {"type": "CRASHED", "name": "Crashed", "message": "The process died."}
    run_id, _ = (
        served.ask("flow_runs/", flow_id=flow, name=name, tags=tags, state=crashed)["id"]
        for name, tags in (("retrain reviews.csv", ["sentiment"]), ("not ours", []))
    )
    of_the_run = [{"prefect.resource.id": f"prefect.flow-run.{run_id}", "prefect.resource.role": "flow-run"}]
    payload = {"model_id": "m1", "reason": "worse than the champion", "features": [{"name": "language", "here": "de", "reference": "en"}]}
    events = [
        {
            "event": event,
            "resource": {"prefect.resource.id": "reviews.model.m1"},
            "related": related,
            "payload": payload,
            "id": str(uuid.uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
        }
        for event, related in (("reviews.model.refused", of_the_run), ("reviews.drift.detected", []))
    ]
    served.post("events", events).raise_for_status()

    wait(lambda: len(heard) >= 3, 30, "three alerts")

    told = {alert["title"]: alert["text"] for alert in heard}
    assert "The process died." in told["retrain reviews.csv: Crashed"]
    assert told["model m1 was not promoted"] == f"worse than the champion\n{served.url}/runs/flow-run/{run_id}"
    assert told["reviews differ from what model m1 was trained on"].strip() == "language: de; in training en"
    assert "not ours: Crashed" not in told


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_killed_worker_and_run(served: Served, tmp_path: Path) -> None:
    """A run whose process and worker are killed with -9 is Crashed within 10 minutes; its slot is free, and the next run of it trains."""
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", tiny.tiny_rows())
    run_id = served.trigger("training/retrain", **parameters(reviews, **ENDLESS)).json()["id"]
    pid = wait(lambda: served.run(run_id)["state_type"] == "RUNNING" and served.run(run_id)["infrastructure_pid"], 120, "training")
    engine = psutil.Process(int(pid.rpartition(":")[2]))
    wait(lambda: served.ask("events/filter", filter=heartbeat_of(run_id))["events"], 120, "a heartbeat")
    killed = datetime.now(UTC)
    for process in (engine.parent(), engine):
        process.kill()

    wait(lambda: served.run(run_id)["state_type"] == "CRASHED", 600, "Crashed")

    seconds = (datetime.fromisoformat(served.run(run_id)["state"]["timestamp"]) - killed).total_seconds()
    print(f"crashed after {seconds:.0f} s: {served.run(run_id)['state']['message']}")
    following = served.trigger("training/retrain", **parameters(reviews, **{"split.seed": 5})).json()["id"]
    wait(lambda: served.run(following)["state_type"] == "COMPLETED", 120, "the next run")
    assert verify_store(Store(served.root))[1] == []


def heartbeat_of(run_id: str) -> dict[str, Any]:
    """Return the filter that finds a run's heartbeats."""
    return {"event": {"name": ["prefect.flow-run.heartbeat"]}, "resource": {"id": [f"prefect.flow-run.{run_id}"]}}


def test_serving_twice_changes_nothing(served: Served, webhook: str) -> None:
    """A second `sentiment serve` beside the first says that it is served, and one after it finds all as it was; Ctrl-C ends with code 0."""
    before = state_of(served)
    words = [sys.executable, "-m", "flows", "serve", "--artifacts", str(served.root)]
    beside = subprocess.run(words, cwd=tiny.PROJECT, capture_output=True, text=True, timeout=60, check=False)

    served.process.send_signal(signal.SIGINT)
    first_code = served.process.wait(90)
    with serving.serve(served.root, "--alerts", webhook) as again:
        after = state_of(again)

    assert (beside.returncode, served.url in beside.stdout) == (0, True)
    assert (first_code, again.process.returncode) == (0, 0)
    assert after == before
    assert again.log.read_text(encoding="utf-8").count("as they were") == 2
