"""Calls a flow from the command line: shows its steps on the terminal and names the remedy when Prefect is in the way."""

import gc
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.errors import CallerError, MachineError, PipelineError
from tasks.login import HOW_TO_LOG_IN
from tasks.printable import printable

_OWN_CODE = (Path(__file__).parent, Path(__file__).parents[1] / "tasks")
_DELIVERY_LOGGERS = ("prefect.events", "prefect._internal")  # print each event that a lost server does not get
_RUN_LOGGERS = ("prefect.task_runs", "prefect.flow_runs", "tasks")


def run_flow(call: Callable[[], dict[str, Any]], meanwhile: Callable[[], object] = lambda: None) -> dict[str, Any]:
    """Call a flow, show its steps on the terminal, and name the remedy when Prefect is in the way.

    Args:
        call: Calls the flow and returns its summary.
        meanwhile: What to do while Prefect's temporary server starts, if one has to.

    Returns:
        The summary; where Prefect's server was lost, `history` says so.

    Raises:
        MachineError: Prefect is in the way of the results.
    """
    from httpx import HTTPError, HTTPStatusError, codes
    from prefect.exceptions import PrefectException

    from flows.ending import take_kept
    from flows.lost_server import num_unheard_events, server_of_the_run
    from flows.temporary_server import prefect_server

    gc.enable()
    _show_steps()
    started = time.perf_counter()
    take_kept()
    with server_of_the_run() as replaced:
        try:
            with prefect_server(meanwhile):
                summary = call()
        except PipelineError:
            raise
        except (PrefectException, HTTPError, RuntimeError) as error:
            if type(error) is RuntimeError and "Failed to reach API" not in str(error):
                raise
            if isinstance(error, HTTPStatusError) and error.response.status_code == codes.UNAUTHORIZED:
                raise CallerError(f"The Prefect server that PREFECT_API_URL names asks for a login. {HOW_TO_LOG_IN}") from error
            kept = take_kept()
            if kept is None:
                raise MachineError(
                    f"Prefect did not answer ({type(error).__name__}). Finished steps are kept; unset PREFECT_API_URL to use a "
                    "temporary server, or start yours, and run again."
                ) from error
            summary = kept | {"history": "The results are complete, but Prefect's server was lost: the run's history there has no end."}
        if "history" not in summary and (unheard := num_unheard_events()):
            told = (
                f"The results are complete, but {unheard} of the run's events did not reach Prefect's server: what waits for them "
                "there, such as `score` for a promoted model, may not have started."
            )
            summary = summary | {"history": told}
    if replaced:
        told = (
            f"The results are complete, but no Prefect server answered at {replaced}: the run's history is in the temporary one's database."
        )
        summary = summary | {"history": told}
    return {**summary, "seconds": round(time.perf_counter() - started, 1)}


class _StepLines(logging.Handler):
    """Prints what this project logs in a run: the lines of steps about themselves, and warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "step"):
            print(printable(record.getMessage()), file=sys.stderr, flush=True)
        elif record.levelno >= logging.WARNING and any(Path(record.pathname).is_relative_to(folder) for folder in _OWN_CODE):
            print(f"{'':<9} {printable(record.getMessage())}", file=sys.stderr, flush=True)


def _is_not_of_a_run(record: logging.LogRecord) -> bool:
    """Keep a run's records off Prefect's console: a failure is told once, by its message, not three times by its traceback."""
    return not record.name.startswith((*_RUN_LOGGERS, *_DELIVERY_LOGGERS))


def _show_steps() -> None:
    import prefect.logging  # noqa: F401  its set-up would replace handlers that are added before

    for name in _RUN_LOGGERS:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _StepLines) for handler in logger.handlers):
            logger.addHandler(_StepLines())
    for handler in [handler for name in ("", "prefect", *_DELIVERY_LOGGERS) for handler in logging.getLogger(name).handlers]:
        if type(handler).__module__.startswith("prefect."):
            handler.addFilter(_is_not_of_a_run)
