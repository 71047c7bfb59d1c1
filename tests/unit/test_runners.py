"""What runs the tasks: what is said when it cannot be had."""

import sys

import pytest

from flows import runners
from flows.runners import result_of, start_runner
from tasks.errors import CallerError, MachineError


def test_no_scheduler_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Dask scheduler that does not answer is the machine's fault; the message names the address and how to start one."""
    pytest.importorskip("prefect_dask")
    monkeypatch.setattr(runners, "_CONNECT_SECONDS", 0.2)

    with (
        pytest.raises(MachineError, match=r"No Dask scheduler answers at tcp://127\.0\.0\.1:9\. Start one with `dask scheduler`"),
        start_runner("dask", "tcp://127.0.0.1:9"),
    ):
        pass


def test_dask_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra the message says how to install it."""
    monkeypatch.setitem(sys.modules, "prefect_dask.task_runners", None)

    with pytest.raises(CallerError, match=r"pip install 'sentiment-pipeline\[dask\]'"), start_runner("dask", None):
        pass


class KilledWorker(Exception):  # noqa: N818  Dask's own name
    """What Dask raises for a task over which several workers died."""


class Given:
    """A task that ended with an error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def result(self) -> None:
        """Raise it."""
        raise self.error


def test_workers_that_die_over_a_task() -> None:
    """A task that Dask gave up says that finished chunks are kept; any other error stays what it is."""
    with pytest.raises(MachineError, match="Finished chunks are kept; run again"):
        result_of(Given(KilledWorker()))  # type: ignore[arg-type]
    with pytest.raises(KeyError):
        result_of(Given(KeyError("other")))  # type: ignore[arg-type]
