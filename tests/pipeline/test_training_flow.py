"""What one training run leaves behind: its summary, every intermediate, the bundle, the report, and what Prefect shows."""

import csv
import hashlib
import html
import json
import re
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

T = TypeVar("T")

NUMBERS = {"rows": int, "accuracy": float, "log_loss": float, "roc_auc": float, "ece": float}
PROMISED = {
    "command": str,
    "status": str,
    "model_id": str,
    "preset": str,
    "test": NUMBERS,
    "baselines": {"majority": {"accuracy": float}, "linear": {"accuracy": float}},
    "steps": {step: {"state": str, "seconds": float, "rows": int} for step in tiny.STEPS},
    "report": str,
}
BESIDES = {"reason", "rules", "parts", "sample", "bundle"}
BUNDLE = {
    "weights.safetensors",
    "vocabulary.json",
    "settings.json",
    "profile.json",
    "golden.json",
    "training.json",
    "origin.json",
    "seen.npy",
    "metrics.json",
    "MODEL_CARD.md",
}


def shape(value: Any) -> Any:
    """Return a nested mapping with types in place of values."""
    return {name: shape(part) for name, part in value.items()} if isinstance(value, dict) else type(value)


def artifact(trained: tiny.Trained, step: str, ending: str = ".parquet") -> pa.Table:
    """Return the one table of a step."""
    (path,) = (p for p in (trained.root / step).rglob(f"*{ending}") if ending.count(".") > 1 or p.name.count(".") == 1)
    return pq.read_table(path)


def accepted_rows(trained: tiny.Trained) -> list[dict[str, str]]:
    """Return the rows of the input that are fit to train on, as Python's csv reads them."""
    with trained.reviews.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if not row["id"].startswith("bad")]


def test_summary_is_the_contract(trained: tiny.Trained) -> None:
    """The summary has the names and types that `--json` promises, and those beside them that are listed here."""
    summary = trained.summary

    assert shape({name: value for name, value in summary.items() if name not in BESIDES}) == PROMISED
    assert set(summary) == {*PROMISED, *BESIDES}
    assert summary["command"] == "train"
    assert summary["status"] == "promoted"
    assert summary["preset"] == "quick"
    assert list(summary["steps"]) == list(tiny.STEPS)
    assert {step["state"] for step in summary["steps"].values()} == {"completed"}
    json.dumps(summary, allow_nan=False)


def test_ingest_keeps_every_value_as_given(trained: tiny.Trained) -> None:
    """The ingested table holds the file's own ids, texts and other columns in the file's order, as Python's csv reads them."""
    table, expected = artifact(trained, "ingest"), accepted_rows(trained)

    assert table.schema.remove_metadata() == pa.schema(
        [
            ("review_id", pa.string()),
            ("review", pa.string()),
            ("sentiment", pa.int8()),
            ("source", pa.string()),
            ("source_row", pa.int64()),
            ("shop", pa.string()),
        ]
    )
    assert table["review_id"].to_pylist() == [row["id"] for row in expected]
    assert table["review"].to_pylist() == [row["review"] for row in expected]
    assert table["shop"].to_pylist() == [row["shop"] for row in expected]
    assert table["sentiment"].to_pylist() == [int(row["sentiment"] == "positive") for row in expected]
    assert table["source_row"].to_pylist() == list(range(1, len(expected) + 1))
    assert set(table["source"].to_pylist()) == {"reviews.csv"}


def test_refused_rows_are_named_with_their_reason(trained: tiny.Trained) -> None:
    """Every row that was refused stands in the quarantine with source, row, line and reason."""
    table = artifact(trained, "ingest", ".quarantine.parquet")
    last = len(accepted_rows(trained))

    assert table.column_names == ["source", "row", "line", "reason"]
    assert sorted(table["row"].to_pylist()) == [last + 1, last + 2, last + 3]
    reasons = " | ".join(table["reason"].to_pylist())
    assert "empty text" in reasons
    assert "unknown sentiment 'meh'" in reasons
    assert "fields" in reasons


@pytest.mark.parametrize(
    ("step", "before", "added"),
    [("clean", "ingest", ["text"]), ("tokenize", "clean", ["tokens"]), ("split", "tokenize", ["split", "duplicate_of", "text_hash"])],
)
def test_each_step_only_adds(trained: tiny.Trained, step: str, before: str, added: list[str]) -> None:
    """A step keeps the rows, their order and the columns of the one before, and adds its own."""
    earlier, later = artifact(trained, before), artifact(trained, step)

    assert later.column_names == [*earlier.column_names, *added]
    assert later.select(earlier.column_names).to_pylist() == earlier.to_pylist()


def test_text_and_tokens_are_those_of_the_review(trained: tiny.Trained) -> None:
    """Text is free of tags, symbols and case, and tokens are its words and its punctuation."""
    table = artifact(trained, "tokenize")

    tokens = [re.findall("[a-z0-9]+|[.,:]", re.sub("<[^>]*>", " ", review.lower())) for review in table["review"].to_pylist()]
    assert table["tokens"].to_pylist() == tokens
    assert table["text"].to_pylist() == [" ".join(review) for review in table["tokens"].to_pylist()]


def test_split_keeps_repeated_texts_together(trained: tiny.Trained) -> None:
    """Every row has a side, every side both classes, and a text that stands in the file twice stands on one side and is marked."""
    rows = artifact(trained, "split").to_pylist()
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(tiny.plain(row["review"]), set()).add(row["split"])

    assert {(row["split"], row["sentiment"]) for row in rows} == {
        (side, label) for side in ("train", "validation", "test") for label in (0, 1)
    }
    assert all(len(found) == 1 for found in sides.values())
    assert {row["review_id"]: row["duplicate_of"] for row in rows if row["duplicate_of"]} == {f"r{n}-again": f"r{n}" for n in tiny.REPEATED}


def test_predictions_are_of_the_test_rows(trained: tiny.Trained) -> None:
    """Predictions hold each test row once, in order, with its label; the summary's accuracy is what they come to."""
    predictions, rows = artifact(trained, "evaluate"), artifact(trained, "split").to_pylist()
    tested = [row for row in rows if row["split"] == "test"]
    y_true, y_score = predictions["y_true"].to_numpy(), predictions["y_score"].to_numpy()

    assert predictions["review_id"].to_pylist() == [row["review_id"] for row in tested]
    assert y_true.tolist() == [row["sentiment"] for row in tested]
    assert y_score.dtype == np.float32
    assert trained.summary["test"]["rows"] == len(tested)
    assert trained.summary["test"]["accuracy"] == np.mean((y_score > 0.5) == (y_true == 1))
    (metrics,) = (trained.root / "evaluate").rglob("metrics.json")
    assert json.loads(metrics.read_text(encoding="utf-8"))["model"]["accuracy"] == trained.summary["test"]["accuracy"]


def test_behaviour_is_that_of_the_model(trained: tiny.Trained) -> None:
    """The metrics hold what the bundle's own model does on the texts of every family; report and card show each."""
    from tasks.model.behaviour import check_behaviour
    from tasks.model.bundle import load_bundle

    model = load_bundle(trained.bundle)
    told = json.loads((trained.bundle / "metrics.json").read_text(encoding="utf-8"))["behaviour"]
    card = (trained.bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    page = html.unescape(Path(trained.summary["report"]).read_text(encoding="utf-8"))

    assert told == check_behaviour(lambda texts: model.score_reviews(pa.array(texts)).p_positive)
    for row in told:
        assert f"| {row['family']} | {row['kind']} | {row['criterion']} | {row['passed']} of {row['cases']} |" in card
        assert row["criterion"] in page and f"{row['passed']} of {row['cases']}" in page


def test_bundle_is_whole_and_sealed(trained: tiny.Trained) -> None:
    """The bundle holds the files of the contract and no others, and `bundle.json` their SHA-256 and sizes."""
    sealed = json.loads((trained.bundle / "bundle.json").read_text(encoding="utf-8"))
    contents = {path.name: path.read_bytes() for path in trained.bundle.iterdir() if path.name != "bundle.json"}

    assert set(contents) == BUNDLE
    assert sealed["model_id"] == trained.bundle.name
    assert sealed["files"] == {name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in contents.items()}


def test_bundle_remembers_its_training_rows(trained: tiny.Trained) -> None:
    """`seen.npy` holds the text hash of every training and validation row and of no test row, without pickle."""
    rows = artifact(trained, "split").to_pylist()

    seen = np.load(trained.bundle / "seen.npy", allow_pickle=False)

    assert set(seen.tolist()) == {row["text_hash"] for row in rows if row["split"] != "test"}


def test_bundle_tells_what_it_was_made_of(trained: tiny.Trained) -> None:
    """`origin.json` holds the recipe of every step from the sources' digests to the model's name, what each made, and no path."""
    text = (trained.bundle / "origin.json").read_text(encoding="utf-8")
    origin = json.loads(text)
    steps = origin["steps"]
    records = {step: json.loads(next((trained.root / step).glob("*.json")).read_text(encoding="utf-8")) for step in tiny.STEPS[:5]}

    assert list(steps) == list(tiny.STEPS[:5])
    assert steps["ingest"]["inputs"] == {"0:reviews.csv": hashlib.sha256(trained.reviews.read_bytes()).hexdigest()}
    for step, made_from in steps.items():
        assert {name: made_from[name] for name in ("inputs", "settings", "modules", "libraries")} == {
            name: records[step]["recipe"][name] for name in ("inputs", "settings", "modules", "libraries")
        }
    assert [steps[step]["sha256"] for step in tiny.STEPS[:4]] == [records[step]["files"][0]["sha256"] for step in tiny.STEPS[:4]]
    assert trained.bundle.name == f"m-{records['train']['key'][:12]}"
    assert steps["train"]["settings"]["threads"] == origin["machine"]["threads"] > 0
    assert origin["sample"] is None
    assert str(trained.reviews.parent) not in text


def test_first_model_is_champion(trained: tiny.Trained) -> None:
    """Where there was no champion the new model becomes it, with the digest of its seal and the reason in the history."""
    champion = json.loads((trained.root / "models" / "champion.json").read_text(encoding="utf-8"))
    history = [json.loads(line) for line in (trained.root / "models" / "history.jsonl").read_text(encoding="utf-8").splitlines()]

    assert champion["model_id"] == trained.summary["model_id"]
    assert champion["bundle_sha256"] == hashlib.sha256((trained.bundle / "bundle.json").read_bytes()).hexdigest()
    assert champion["reason"] == "there was no champion"
    assert history == [champion]


class _References(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = ("src", "href", "srcset", "data", "action", "poster", "background", "xlink:href")
        self.found += [value or "" for name, value in attrs if name in names]
        if tag in ("link", "base", "iframe", "object", "embed"):
            self.found.append(tag)


def test_report_needs_no_network(trained: tiny.Trained) -> None:
    """The report is one HTML page that refers to nothing outside itself."""
    page = Path(trained.summary["report"]).read_text(encoding="utf-8")
    references = _References()
    references.feed(page)
    styled = re.findall(r"url\(\s*['\"]?([^)'\"]*)", page)

    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "@import" not in page
    assert [found for found in references.found + styled if not found.startswith(("#", "data:"))] == []
    assert page.count("<svg") >= 6


def test_report_tells_the_run(trained: tiny.Trained) -> None:
    """The report names the model, its accuracy, the verdict, the refused rows, every earlier step and the command."""
    page = Path(trained.summary["report"]).read_text(encoding="utf-8")

    assert trained.summary["model_id"] in page
    assert f"{trained.summary['test']['accuracy']:.2%}"[:-2] in page
    assert "is now the champion" in page
    assert "unknown sentiment" in page
    assert "sentiment train" in page
    assert all(step in page for step in tiny.STEPS[:-1])
    assert "generated sample" not in page


def wait_for(probe: Callable[[], T], wanted: Callable[[T], bool]) -> T:
    """Ask until the server has caught up: it hears of task runs and logs a moment after the run has ended."""
    give_up = time.monotonic() + 30
    while not wanted(found := probe()) and time.monotonic() < give_up:
        time.sleep(0.1)
    return found


def test_prefect_shows_the_run(trained: tiny.Trained, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that reuses everything ends with every task in the state Cached, its report under the promised keys, and MLflow is told."""
    told: list[tuple[str, bool]] = []
    monkeypatch.setattr("flows.training.log_to_mlflow", lambda summary, _, is_champion: told.append((summary["model_id"], is_champion)))
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId

    from flows.training import training

    state = training(sources=[str(trained.reviews)], preset="quick", overrides=tiny.SETTINGS, artifacts=str(artifacts), return_state=True)
    run_id = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        runs = wait_for(
            lambda: client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id]))),
            lambda found: len(found) == len(tiny.STEPS) and all(run.state and run.state.is_final() for run in found),
        )
        shown = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id])))
        flow_run = client.read_flow_run(run_id)

    assert [run.state_name for run in runs] == ["Cached"] * len(tiny.STEPS)
    assert {entry.key: entry.type for entry in shown} == {
        "training-report": "markdown",
        "model-comparison": "markdown",
        "report-page": "markdown",
        "data-quality": "table",
    }
    assert flow_run.name == "retrain reviews.csv 410 rows quick"
    assert told == [(trained.summary["model_id"], True)]
    assert sorted(flow_run.tags) == sorted(["files", "quick", trained.summary["model_id"]])
    assert state.is_completed()
    assert state.result()["status"] == "unchanged"
