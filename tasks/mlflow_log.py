"""Tells MLflow of a training run and registers its model, where MLFLOW_TRACKING_URI is set (extra `mlflow`); nothing of any text."""

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.dotted import flat_settings
from tasks.errors import CallerError
from tasks.outcome import log_step, run_logger

ADDRESS = "MLFLOW_TRACKING_URI"
NAME = "sentiment"  # of the experiment, unless MLFLOW_EXPERIMENT_NAME names another, and of the registered model
_NOT_IN_NAMES = re.compile(r"[^\w\-. /]", re.ASCII)  # such as in a word that --label maps
_LONGEST_VALUE, _PARAMS_AT_ONCE = 500, 100


def check_mlflow() -> None:
    """Check before a run that MLflow can be told, if it is to be.

    Raises:
        CallerError: An address is set, but the library is not installed.
    """
    import importlib.util

    if os.environ.get(ADDRESS) and importlib.util.find_spec("mlflow") is None:
        raise CallerError(f"{ADDRESS} is set, but MLflow is not installed. Install it with pip install mlflow-skinny, or unset {ADDRESS}.")


def log_to_mlflow(summary: Mapping[str, Any], settings: Mapping[str, Any], *, is_champion: bool) -> str | None:
    """Log a run's settings, metrics and bundle, and register the bundle as a version of the model; a run that is there already stays.

    Whatever fails is told and fails nothing: the model is in the store.

    Args:
        summary: The run's summary.
        settings: All its settings, nested.
        is_champion: Whether the model is the champion now; the registered model's alias `champion` follows it.

    Returns:
        The id of MLflow's run, or None where none was made.
    """
    if not os.environ.get(ADDRESS):
        return None
    try:
        run_id = _log(summary, flat_settings(settings), is_champion)
    except Exception as error:  # whatever a server or a library comes up with
        run_logger().error(
            "MLflow was not told of model %s (%s). The model is not lost; the same run again tells it.",
            summary["model_id"], type(error).__name__,
        )  # fmt: skip
        return None
    if run_id:
        log_step("mlflow", f"model {summary['model_id']} is registered as {NAME}")
    return run_id


def _log(summary: Mapping[str, Any], settings: Mapping[str, Any], is_champion: bool) -> str | None:
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # of 7, which are minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException

    client, model_id = MlflowClient(), summary["model_id"]
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or NAME
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    known = client.search_model_versions(f"name='{NAME}' and tags.model_id='{model_id}'")
    if known:
        return None
    told = {name: str(summary[name]) for name in ("model_id", "status", "reason", "sample")}
    run = client.create_run(experiment_id, tags={"mlflow.runName": f"{model_id} {summary['preset']}", **told})
    run_id, began = run.info.run_id, run.info.start_time
    try:
        params = [Param(_NOT_IN_NAMES.sub("_", key), json.dumps(value, default=str)[:_LONGEST_VALUE]) for key, value in settings.items()]
        for first in range(0, len(params), _PARAMS_AT_ONCE):
            client.log_batch(run_id, params=params[first : first + _PARAMS_AT_ONCE])
        client.log_batch(run_id, metrics=[Metric(key, value, began, 0) for key, value in metrics_of(summary).items()])
        client.log_artifacts(run_id, str(Path(summary["bundle"])), "bundle")
        try:
            client.create_registered_model(NAME)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = client.create_model_version(
            NAME, source=f"{run.info.artifact_uri}/bundle", run_id=run_id, tags={"model_id": model_id, "status": summary["status"]}
        )
        if is_champion:
            client.set_registered_model_alias(NAME, "champion", version.version)
    except BaseException:
        client.set_terminated(run_id, "FAILED")
        raise
    client.set_terminated(run_id)
    return run_id


def metrics_of(summary: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a summary by name: of the model on test rows and the golden test set, of its parts, and of the baselines."""
    groups = {"test": summary["test"], "golden": summary.get("golden", {})}
    groups |= {f"{kind}.{name}": scores for kind in ("parts", "baselines") for name, scores in summary[kind].items()}
    return {f"{group}.{name}": float(value) for group, scores in groups.items() for name, value in scores.items()}
