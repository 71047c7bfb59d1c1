import json
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import CallerError
from tasks.mlflow_log import ADDRESS, check_mlflow, log_to_mlflow, metrics_of

SETTINGS = {"seed": 3, "model": {"epochs": 2, "units": 96}, "clean": {"stop_words": ["a"] * 1000}}


def summary_of(bundle: Path, **changes: Any) -> dict[str, Any]:
    """Return a summary as a training run makes it."""
    return {
        "model_id": "m-1",
        "status": "promoted",
        "reason": "there was no champion",
        "preset": "quick",
        "sample": False,
        "test": {"rows": 100, "accuracy": 0.9},
        "parts": {"lstm": {"accuracy": 0.8}},
        "baselines": {"majority": {"accuracy": 0.5}},
        "bundle": str(bundle),
        **changes,
    }


def test_metrics_have_names_that_tell_whose_they_are(tmp_path: Path) -> None:
    """The model's numbers, its parts' and the baselines' are told apart by name."""
    summary = summary_of(tmp_path, golden={"accuracy": 0.7})

    assert metrics_of(summary) == {
        "test.rows": 100,
        "test.accuracy": 0.9,
        "golden.accuracy": 0.7,
        "parts.lstm.accuracy": 0.8,
        "baselines.majority.accuracy": 0.5,
    }


def test_without_an_address_nothing_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no address is set, MLflow is not even looked for."""
    monkeypatch.delenv(ADDRESS, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    check_mlflow()

    assert log_to_mlflow(summary_of(tmp_path), SETTINGS, is_champion=True) is None


def test_missing_library_is_told_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address without the library is a mistake of the caller, with its remedy."""
    monkeypatch.setenv(ADDRESS, "http://127.0.0.1:9")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    with pytest.raises(CallerError, match="pip install mlflow-skinny"):
        check_mlflow()


def test_failure_is_told_and_fails_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What goes wrong with MLflow is an error in the log that names the model, and no exception."""
    monkeypatch.setenv(ADDRESS, "http://127.0.0.1:9")

    def fail(*_: object) -> None:
        raise ConnectionError("secret")

    monkeypatch.setattr("tasks.mlflow_log._log", fail)

    assert log_to_mlflow(summary_of(tmp_path), SETTINGS, is_champion=True) is None
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "not told of model m-1 (ConnectionError)" in record.getMessage()


def test_run_and_model_are_there_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is logged with settings, metrics and bundle; its model is registered once, and `champion` is the one promoted last."""
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(ADDRESS, f"sqlite:///{tmp_path / 'mlflow.db'}")
    bundle = tmp_path / "m-1"
    bundle.mkdir()
    (bundle / "MODEL_CARD.md").write_text("# card", encoding="utf-8")
    many = {f"n{number}": number for number in range(150)} | {"so-so!": "drop"}

    run_id = log_to_mlflow(summary_of(bundle), SETTINGS | many, is_champion=True)
    again = log_to_mlflow(summary_of(bundle, status="unchanged"), SETTINGS | many, is_champion=True)
    refused = log_to_mlflow(summary_of(bundle, model_id="m-2", status="refused"), SETTINGS, is_champion=False)

    client = mlflow.MlflowClient()
    run = client.get_run(run_id)
    assert (run.info.status, run.data.metrics["test.accuracy"], run.data.params["model.epochs"]) == ("FINISHED", 0.9, "2")
    assert len(run.data.params) > 150
    assert [entry.path for entry in client.list_artifacts(run_id, "bundle")] == ["bundle/MODEL_CARD.md"]
    assert again is None and refused is not None
    assert client.get_model_version_by_alias("sentiment", "champion").tags["model_id"] == "m-1"
    assert {version.tags["model_id"] for version in client.search_model_versions("name='sentiment'")} == {"m-1", "m-2"}
    assert json.loads(run.data.params["seed"]) == 3
