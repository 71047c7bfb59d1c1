"""Progress that people can watch: bars in a terminal, a progress artifact in the Prefect UI. Neither can fail a run."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

SECONDS_BETWEEN_UPDATES = 3.0
logger = logging.getLogger(__name__)


@contextmanager
def row_progress(label: str, total: int | None = None, unit: str = "rows") -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal's stderr; yields a function that is told how many more are done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed:,.0f}} {unit}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(label, total=total)
        yield lambda done: progress.advance(bar, done)


_listeners: dict[str, Callable[[int], None]] = {}


@contextmanager
def listen(run_id: str, advance: Callable[[int], None]) -> Iterator[None]:
    """Let the tasks of a run, in whichever thread of this process, tell what they have done."""
    _listeners[run_id] = advance
    try:
        yield
    finally:
        del _listeners[run_id]


def advance_run(run_id: str, done: int) -> None:
    """Tell whoever listens to the run how many more are done; in another process nobody does."""
    advance = _listeners.get(run_id)
    if advance is not None:
        advance(done)


class RunProgress:
    """A progress artifact of the current task run, updated every few seconds; does nothing outside a run or without a server."""

    def __init__(self, key: str, description: str) -> None:
        self._id: UUID | None = None
        self._latest = 0.0
        try:
            from prefect.artifacts import create_progress_artifact
            from prefect.context import TaskRunContext

            if TaskRunContext.get() is not None:
                self._id = create_progress_artifact(progress=0.0, key=key, description=description)  # type: ignore[assignment]
        except Exception as error:  # the history may be lost, never the result
            logger.warning("No progress in the Prefect UI: %s.", type(error).__name__)

    def update(self, percent: float) -> None:
        """Show how far the run is, 0 to 100."""
        if self._id is None or (percent < 100 and time.monotonic() - self._latest < SECONDS_BETWEEN_UPDATES):
            return
        self._latest = time.monotonic()
        try:
            from prefect.artifacts import update_progress_artifact

            update_progress_artifact(artifact_id=self._id, progress=percent)
        except Exception as error:
            logger.warning("No more progress in the Prefect UI: %s.", type(error).__name__)
            self._id = None
