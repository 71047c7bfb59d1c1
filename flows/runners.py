"""Where the tasks of a flow run: in threads of this process, or on the workers of a Dask cluster."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from tasks.errors import CallerError, MachineError

RunnerName = Literal["threads", "dask"]

_TASKS_AT_ONCE = 2
_CONNECT_SECONDS = 20


@contextmanager
def start_runner(runner: RunnerName, scheduler: str | None) -> Iterator[TaskRunner[Any]]:
    """Start what runs the tasks, and end it with the block.

    Args:
        runner: Threads, as NumPy and the readers keep the processors busy from one process; or a Dask cluster.
        scheduler: Address of the cluster's scheduler; without it a cluster is started on this machine, a worker a processor.

    Raises:
        CallerError: The extra `dask` is not installed.
        MachineError: No scheduler answers.
    """
    if runner == "threads":
        threads: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=_TASKS_AT_ONCE)
        with threads:
            yield threads
        return
    try:
        from prefect_dask.task_runners import DaskTaskRunner
    except ImportError as error:
        raise CallerError("The runner dask needs the extra `dask`: pip install 'sentiment-pipeline[dask]'.") from error
    logging.getLogger("distributed").setLevel(logging.ERROR)  # a worker that takes its time to end is no news
    local = {"host": "127.0.0.1", "dashboard_address": None, "threads_per_worker": 1, "silence_logs": logging.ERROR}
    cluster = (
        DaskTaskRunner(address=scheduler, client_kwargs={"timeout": _CONNECT_SECONDS})
        if scheduler
        else DaskTaskRunner(cluster_kwargs=local)
    )
    with cluster as workers:
        try:
            workers.client  # noqa: B018  connects
        except (OSError, ValueError) as error:
            raise MachineError(
                f"No Dask scheduler answers at {scheduler or 'this machine'}. Start one with `dask scheduler`, and workers with "
                "`dask worker ADDRESS --nthreads 1`, or leave --runner away."
            ) from error
        yield workers


def result_of(task: PrefectFuture[Any]) -> Any:
    """Return what a task returned, or raise what it raised.

    Raises:
        MachineError: Dask gave it up, as the workers that tried it died.
    """
    try:
        return task.result()
    except Exception as error:
        if type(error).__name__ == "KilledWorker":
            raise MachineError(
                "Several workers of the cluster died over one task, perhaps for want of memory. Finished chunks are kept; run again."
            ) from error
        raise
