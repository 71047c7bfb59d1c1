"""How a step's result and its messages reach Prefect: the state's name, the run's log, and nothing of the data."""

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from tasks.store import ArtifactRef, StepResult

PROMOTED, REFUSED, DRIFT_DETECTED = "reviews.model.promoted", "reviews.model.refused", "reviews.drift.detected"


def prefect_state(result: StepResult, found: str = "") -> Any:
    """Return the state a task ends in: `Completed`, or `Cached` when the store had the artifact; its data is the reference.

    `found` says what there is to tell; how many rows were made, if it is empty.
    """
    from prefect.states import Completed

    made = found or f"{result.record.rows:,} rows"
    if result.cached:
        log_step(result.record.recipe.step, f"{made}, cached: verified and reused")
        return Completed(name="Cached", data=result.ref, message=f"{made}, verified and reused.")
    log_step(result.record.recipe.step, f"{made} in {result.seconds:.1f} s")
    return Completed(data=result.ref, message=f"{made} in {result.seconds:.1f} s.")


def ref_of(outcome: Any) -> ArtifactRef:
    """Return the reference that a task returned: where it reused an artifact, its caller holds the `Cached` state instead."""
    return outcome if isinstance(outcome, ArtifactRef) else outcome.result()


def rename_flow_run(name: str | None = None, tags: Sequence[str] = ()) -> None:
    """Give the flow run under way another name in Prefect's history, and tags besides its own; a lost server costs only this."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import flow_run

    try:
        with get_client(sync_client=True) as client:
            all_tags = sorted({*flow_run.get_tags(), *tags}) if tags else None
            client.update_flow_run(flow_run_id=UUID(str(flow_run.get_id())), name=name, tags=all_tags)
    except Exception as error:  # the history may be lost, never the result
        run_logger().warning("Prefect did not take the run's new name and tags; its history shows the old ones (%s).", type(error).__name__)


def show_table(key: str, description: str, table: list[dict[str, Any]]) -> None:
    """Show a table in the Prefect UI, a timeline over runs under its key; a lost server costs only this."""
    from prefect.artifacts import create_table_artifact

    try:
        create_table_artifact(table, key=key, description=description)
    except Exception as error:  # the history may be lost, never the result
        run_logger().warning("The table %s is not in the Prefect UI: %s.", key, type(error).__name__)


def show_markdown(key: str, description: str, text: str) -> None:
    """Show Markdown in the Prefect UI, a timeline over runs under its key; a lost server costs only this."""
    from prefect.artifacts import create_markdown_artifact

    try:
        create_markdown_artifact(text, key=key, description=description)
    except Exception as error:  # the history may be lost, never the result
        run_logger().warning("The page %s is not in the Prefect UI: %s.", key, type(error).__name__)


def tell_prefect(event: str, model_id: str, payload: dict[str, Any]) -> None:
    """Emit an event about a model, for automations to wait for; never of any text. A lost server costs only this."""
    from prefect.events import emit_event

    try:
        emit_event(event, resource={"prefect.resource.id": f"reviews.model.{model_id}"}, payload={"model_id": model_id, **payload})
    except Exception as error:  # the history may be lost, never the result
        run_logger().warning("Prefect was not told of %s: %s.", event, type(error).__name__)


def log_step(step: str, message: str) -> None:
    """Log one line about a step to the run's log; the command line shows these lines and no others."""
    run_logger().info("%-9s %s", step, message, extra={"step": step})


def run_logger() -> logging.Logger | logging.LoggerAdapter[Any]:
    """Return the Prefect run's logger, or this project's when no run is under way (plain calls, tests)."""
    from prefect.exceptions import MissingContextError
    from prefect.logging import get_run_logger

    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("tasks")
