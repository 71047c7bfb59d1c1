"""How a step's result and its messages reach Prefect: the state's name, the run's log, and nothing of the data."""

import logging
from typing import Any

from tasks.store import StepResult


def prefect_state(result: StepResult) -> Any:
    """Return the state a task ends in: `Completed`, or `Cached` when the store had the artifact; its data is the reference."""
    from prefect.states import Completed

    made = f"{result.record.rows:,} rows"
    if result.cached:
        log_step(result.record.recipe.step, f"{made}, cached: verified and reused")
        return Completed(name="Cached", data=result.ref, message=f"{made}, verified and reused.")
    log_step(result.record.recipe.step, f"{made} in {result.seconds:.1f} s")
    return Completed(data=result.ref, message=f"{made} in {result.seconds:.1f} s.")


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
