"""Models that nobody keeps: a search, an ablation and a cross-validation train, measure, remember, and keep off the test rows."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import Command

from tasks.errors import CallerError
from tasks.measured import Measured, PartScores
from tasks.model.fitting import ChosenRows, TrainSettings
from tasks.store import Store
from tasks.tables import read_columns
from tasks.tune import PrunedError
from tasks.upkeep import Finding, verify_store

SEARCH = ["--search", "model.units=2..6", "--search", "linear.smoothing", "--minutes", "30"]
Sentiment = Callable[..., Command]


def experiment(command: str, trained: tiny.Trained, artifacts: Path, *words: str) -> list[str]:
    """Return the words of a command on the tiny run's reviews and settings."""
    return [command, *tiny.command_line(trained.reviews)[1:], "--artifacts", str(artifacts), *words]


def count_measurements(artifacts: Path) -> int:
    """Return how many models were measured."""
    return len(list(artifacts.glob("measure/*.scores.json")))


@pytest.fixture
def sides_read(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The sides of the split whose tokens were read for training or measuring, from now on."""
    seen: set[str] = set()
    real = ChosenRows.batches

    def batches(rows: ChosenRows, columns: list[str]) -> Any:
        seen.update(np.unique(np.asarray(read_columns(rows.path, ["split"])["split"].to_pylist())[rows.chosen]))
        return real(rows, columns)

    monkeypatch.setattr(ChosenRows, "batches", batches)
    return seen


def refuse_to_train(*_: object, **__: object) -> None:
    """Stand in for training where there must be none."""
    raise AssertionError("a model was trained again")


def test_search_writes_a_preset_that_trains(
    trained: tiny.Trained, artifacts: Path, sentiment: Sentiment, sides_read: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`tune` tries settings without reading a test row and writes the best; `train --preset FILE` and `why` take them as they are."""
    found = sentiment(*experiment("tune", trained, artifacts, *SEARCH, "--trials", "2"))
    elsewhere = artifacts / "mine.json"
    again = sentiment(*experiment("tune", trained, artifacts, *SEARCH, "--trials", "2", "--output", str(elsewhere)))

    assert (found.exit_code, again.exit_code) == (0, 0), found.stderr
    assert sides_read == {"train", "validation"}
    assert count_measurements(artifacts) == 2
    assert {Path(finding.path).parent.name for finding in _damaged_after(artifacts)} == {"measure"}
    assert again.summary["best"] == found.summary["best"]
    assert found.summary["trials"] == {"complete": 2, "pruned": 0, "failed": 0, "stopped": 0}
    assert found.summary["ended"] == "2 trials are done"
    assert found.summary["start"]["trial"] == 0
    assert found.summary["best"]["log_loss"] <= found.summary["start"]["log_loss"]
    preset = json.loads(Path(found.summary["preset"]).read_text(encoding="utf-8"))
    assert json.loads(elsewhere.read_text(encoding="utf-8"))["settings"] == preset["settings"]
    (advice,) = (line for line in found.stderr.splitlines() if "Measure it" in line)
    assert "--set evaluate.bootstrap_samples=100" in advice
    assert "model." not in advice
    best = found.summary["best"]["settings"]
    assert {name: preset["settings"][name] for name in best} == best
    assert preset["provenance"]["data_sha256"] == trained_digest(trained)
    assert preset["provenance"]["validation_log_loss"] == found.summary["best"]["log_loss"]

    words = [str(trained.reviews), "--preset", found.summary["preset"], "--artifacts", str(artifacts)]
    explained = sentiment("why", "train", *words, "--set", "evaluate.bootstrap_samples=100")
    model = sentiment("train", *words, "--set", "evaluate.bootstrap_samples=100")

    assert [name for name, step in explained.summary["steps"].items() if step["state"] == "run"] == list(tiny.STEPS[4:])
    assert (model.exit_code, model.summary["preset"]) == (0, preset["name"]), model.stderr
    kept = json.loads((Path(model.summary["bundle"]) / "settings.json").read_text(encoding="utf-8"))
    assert (kept["lstm"]["units"], kept["linear"]["smoothing"]) == (best["model.units"], best["linear.smoothing"])


def trained_digest(trained: tiny.Trained) -> str:
    """Return the digest of the tiny run's ingested reviews."""
    (record,) = (json.loads(path.read_text(encoding="utf-8")) for path in trained.root.glob("ingest/*.json"))
    return str(record["files"][0]["sha256"])


def _damaged_after(artifacts: Path) -> list[Finding]:
    """Return what `verify` finds once a measurement was changed; put it back."""
    place = next(artifacts.glob("measure/*.scores.json"))
    kept = place.read_bytes()
    place.write_bytes(kept.replace(b"1", b"2"))
    found = verify_store(Store(artifacts))[1]
    place.write_bytes(kept)
    return found


def test_stopped_search_goes_on(trained: tiny.Trained, artifacts: Path, sentiment: Sentiment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a trial ends with code 130; the same command tries those settings first and then goes on; one that fails is passed by."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def diverged(*arguments: Any, **named: Any) -> Any:
        monkeypatch.undo()
        raise CallerError("Training diverged.")

    words = experiment("tune", trained, artifacts, "--search", "model.units=2..6", "--trials", "2")
    with monkeypatch.context() as patch:
        patch.setattr("tasks.model.fitting.fit_lstm", interrupted)
        stopped = sentiment(*words)
    monkeypatch.setattr("tasks.model.fitting.fit_lstm", diverged)
    went_on = sentiment(*words)

    assert stopped.exit_code == 130
    assert "the same command goes on" in stopped.stderr
    assert went_on.summary["trials"] == {"complete": 1, "pruned": 0, "failed": 1, "stopped": 1}
    assert "trial 1: failed: Training diverged. (the settings it started from)" in went_on.stderr
    assert went_on.summary["best"]["trial"] > 1
    assert went_on.summary["start"] is None


def test_trials_are_runs_of_their_own(trained: tiny.Trained, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Prefect every trial is a child run of the search, whose state and name tell what it got, and a table lists them all."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import (
        ArtifactFilter,
        ArtifactFilterFlowRunId,
        FlowRunFilter,
        FlowRunFilterParentFlowRunId,
    )
    from prefect.client.schemas.sorting import FlowRunSort

    from flows.tuning import tuning

    def measure(_: Any, __: Any, settings: TrainSettings, *___: Any, on_epoch: Any) -> Any:
        if settings.model.units == 4:
            return SimpleNamespace(ref=None)
        raise CallerError("Training diverged.") if settings.model.units == 5 else PrunedError

    monkeypatch.setattr("tasks.tune.measure_artifact", measure)
    monkeypatch.setattr("tasks.tune.measured_by", lambda *_: Measured(40, 300, 0.9, 0.25, {"lstm": PartScores(0.8, 0.4)}, 1, 1, 2.0))

    state = tuning(
        [str(trained.reviews)],
        "quick",
        tiny.SETTINGS,
        search=["model.units=[4,5,6]"],
        trials=3,
        artifacts=str(artifacts),
        return_state=True,
    )

    run_id = state.state_details.flow_run_id
    with get_client(sync_client=True) as client:
        children = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run_id])),
            sort=FlowRunSort.EXPECTED_START_TIME_ASC,
        )
        shown = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id])))
    named = {child.name.partition(" (")[0].partition(": ")[2]: child.state_name for child in children}
    assert named == {
        "log loss 0.2500, accuracy 90.00%": "Complete",
        "failed: Training diverged.": "Failed",
        "given up after epoch 0 at loss 0.0000": "Pruned",
    }
    assert children[0].name == "trial 0: log loss 0.2500, accuracy 90.00% (the settings it started from)"
    (table,) = shown
    assert (table.key, len(json.loads(table.data))) == ("tuning-trials", 3)
    assert state.result()["trials"] == {"complete": 1, "pruned": 1, "failed": 1, "stopped": 0}


def test_ablation_measures_once_and_keeps_off_the_test(
    trained: tiny.Trained, artifacts: Path, sentiment: Sentiment, sides_read: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ablate` measures the whole model and what it is without an ingredient, on validation rows; what is there is not trained again."""
    words = experiment("ablate", trained, artifacts, "--seeds", "1")

    found = sentiment(*words, "--only", "pair-vectors")
    tried = sentiment(*words, "--try", "model.units=3", "--try", "model.units=5")
    with monkeypatch.context() as patch:
        patch.setattr("tasks.model.fitting.fit_lstm", refuse_to_train)
        again = sentiment(*words, "--only", "pair vectors")
        with pytest.raises(AssertionError) as other:
            sentiment(*words, "--only", "soft labels")

    assert found.exit_code == again.exit_code == 0, found.stderr
    assert "trained again" in str(other.value)
    assert sides_read == {"train", "validation"}
    assert [line["variant"]["name"] for line in tried.summary["lines"]] == ["nothing", "with model.units=3", "with model.units=5"]
    assert count_measurements(artifacts) == 4
    assert [line["variant"]["name"] for line in found.summary["lines"]] == ["nothing", "pair vectors"]
    assert again.summary["lines"] == found.summary["lines"]
    whole, without = found.summary["lines"]
    assert without["log_loss_difference"]["mean"] == pytest.approx(without["log_loss"]["mean"] - whole["log_loss"]["mean"])
    assert "| pair vectors | " in found.summary["markdown"]
    assert found.summary["markdown"] in found.stderr
    assert sum(found.summary["rows"].values()) == rows_of(trained, "train") + rows_of(trained, "validation")
    assert found.summary["rows"]["validation"] > 1.5 * rows_of(trained, "validation")


def test_unlabelled_reviews_are_an_ingredient(trained: tiny.Trained, artifacts: Path, sentiment: Sentiment, tmp_path: Path) -> None:
    """With --unlabelled the whole model learns from those reviews too, and one line of the table says what they are worth."""
    more = tiny.write_reviews(tmp_path / "more.csv", (tiny.write_row(number)[:2] for number in range(900, 950)), ["id", "review"])
    words = experiment("ablate", trained, artifacts, "--seeds", "1", "--only", "unlabelled reviews", "--unlabelled", str(more))

    found = sentiment(*words)
    (epochs, more_epochs) = (
        json.loads(path.read_text(encoding="utf-8"))["epochs"]
        for path in sorted(artifacts.glob("measure/*.scores.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    )

    assert found.exit_code == 0, found.stderr
    assert [line["variant"]["name"] for line in found.summary["lines"]] == ["nothing", "unlabelled reviews"]
    assert (epochs, more_epochs) == (1, 3)
    assert "--unlabelled" in found.summary["markdown"]


def rows_of(trained: tiny.Trained, side: str) -> int:
    """Return how many rows of the tiny run stand on a side."""
    (path,) = (path for path in trained.root.glob("split/*.parquet") if path.name.count(".") == 1)
    return read_columns(path, ["split"])["split"].to_pylist().count(side)


def test_cross_validation_is_told_and_kept(trained: tiny.Trained, artifacts: Path, sentiment: Sentiment, sides_read: set[str]) -> None:
    """`train --folds 2` measures on all rows but the test's, tells mean and spread in the summary and on the page, and changes no model."""
    words = ["train", *tiny.command_line(trained.reviews)[1:], "--folds", "2", "--artifacts", str(artifacts)]

    found = sentiment(*words)
    again = sentiment(*words)

    assert found.exit_code == 0, found.stderr
    folds = found.summary["cross_validation"]
    assert sides_read == {"train", "validation"}
    assert folds["folds"] == 2
    assert folds["rows"] == rows_of(trained, "train") + rows_of(trained, "validation")
    assert folds["accuracy"]["mean"] == pytest.approx(np.mean(folds["accuracy"]["values"]))
    assert folds["accuracy"]["deviation"] == pytest.approx(np.std(folds["accuracy"]["values"], ddof=1))
    assert set(folds["parts"]) == {"lstm", "linear"}
    assert (found.summary["model_id"], found.summary["test"]) == (trained.summary["model_id"], trained.summary["test"])
    assert tiny.steps_that_ran(found.summary) == ["report"]
    assert again.summary["cross_validation"] == folds
    assert tiny.steps_that_ran(again.summary) == []
    page = Path(found.summary["report"]).read_text(encoding="utf-8")
    assert "Cross-validation" in page and "--folds 2" in page
    assert f"{folds['log_loss']['mean']:.4f}" in page
    assert "over 2 folds" in found.stderr


def test_too_few_rows_for_the_folds(trained: tiny.Trained, artifacts: Path, sentiment: Sentiment) -> None:
    """Folds that would lack a class end with exit code 3 and say so, before anything is trained."""
    words = [*tiny.command_line(trained.reviews)[1:], "--set=seed=9", "--folds", "200", "--artifacts", str(artifacts)]
    models = sorted((artifacts / "models").iterdir())

    found = sentiment("train", *words)

    assert found.exit_code == 3
    assert "Too few labelled reviews for 200 folds" in found.stderr
    assert sorted((artifacts / "models").iterdir()) == models
