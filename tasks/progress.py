"""Progress that people can watch: bars in a terminal, a progress artifact in the Prefect UI. Neither can fail a run."""

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
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


@dataclass
class RowCounter:
    """Rows of a run as they are done, in parts of known sizes that are worked on side by side."""

    show: Callable[[int, float], None]
    sizes: Mapping[str, int]
    _rows: Counter[str] = field(default_factory=Counter)
    _shares: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, part: str, rows: int, share: float | None) -> None:
        """Take note of rows that were done; `share` is how much of the part that makes in all, if it is known."""
        with self._lock:
            self._rows[part] += rows
            self._shares[part] = max(self._shares.get(part, 0.0), min(share or 0.0, 1.0))
            self.show(self._rows.total(), sum(size * self._shares.get(part, 0.0) for part, size in self.sizes.items()))

    def finish(self, part: str, rows: int) -> None:
        """Take note that all rows of a part are done, whoever did them."""
        self.add(part, rows - self._rows[part], 1.0)


@contextmanager
def run_progress(run_id: str, label: str, sizes: Mapping[str, int]) -> Iterator[RowCounter]:
    """Show the rows of a run, rows a second and the time that is left on a terminal's stderr; tasks tell theirs by `count_rows`.

    Args:
        run_id: The run.
        label: What to call it.
        sizes: How large each of its parts is, in any unit.
    """
    with _row_bar(label, sum(sizes.values())) as show:
        _counters[run_id] = counter = RowCounter(show, sizes)
        try:
            yield counter
        finally:
            del _counters[run_id]


def count_rows(run_id: str, part: str, rows: int, share: float | None) -> None:
    """Tell the run, if this is its process, how many more rows of a part are done, and which share of it that makes in all."""
    if run_id in _counters:
        _counters[run_id].add(part, rows, share)


_counters: dict[str, RowCounter] = {}


@contextmanager
def _row_bar(label: str, total: int) -> Iterator[Callable[[int, float], None]]:
    if not sys.stderr.isatty():
        yield lambda rows, done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]:,} rows, {task.fields[rate]:,.0f} rows/s,"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(label, total=total, rows=0, rate=0.0)
        started = time.monotonic()

        def show(rows: int, done: float) -> None:
            progress.update(bar, completed=done, rows=rows, rate=rows / max(time.monotonic() - started, 1e-3))

        yield show


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
