import os
import signal
import subprocess
import sys
import threading

import pytest

from flows.temporary_server import start_out_of_reach

ASK = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"


@pytest.mark.skipif(os.name != "posix", reason="signals are blocked on POSIX systems only")
def test_server_does_not_hear_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Prefect starts as its server has SIGINT blocked, while this process itself goes on hearing it."""
    answers: list[str] = []

    def start(*_: object, **__: object) -> None:
        answers.append(subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True).stdout.strip())

    monkeypatch.setattr("prefect.client.orchestration.get_client", start)

    start_out_of_reach()

    assert answers == ["True"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_what_is_done_while_the_server_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is used that a server takes to start, and nothing is done where another answers at once."""
    done: list[str] = []
    going_on = threading.Event()

    def start(*_: object, **__: object) -> None:
        going_on.wait(30)

    def meanwhile() -> None:
        done.append("meanwhile")
        going_on.set()

    monkeypatch.setattr("prefect.client.orchestration.get_client", start)
    start_out_of_reach(meanwhile)
    start_out_of_reach(meanwhile)

    assert done == ["meanwhile"]


def test_failing_server_is_left_to_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not start is no failure here: the run that needs it tells of it."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no port")

    monkeypatch.setattr("prefect.client.orchestration.get_client", fail)

    start_out_of_reach()
