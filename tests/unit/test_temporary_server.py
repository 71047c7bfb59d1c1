import os
import signal
import subprocess
import sys
import threading

import pytest

from flows.temporary_server import keep_alive, start_out_of_reach

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


class _Server:
    """Prefect's server object, as far as it is asked: the first process is killed, the second is ended on purpose."""

    def __init__(self) -> None:
        self.server_process: subprocess.Popen[bytes] | None = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        self.running = True
        self.starts = 0

    def start(self) -> None:
        """Start, and stop at once."""
        assert not self.running, "Prefect starts nothing while it believes that its server runs"
        self.starts += 1
        self.server_process = None


@pytest.mark.skipif(os.name != "posix", reason="kills")
def test_killed_server_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that was killed is started again, and one that was stopped is not."""
    monkeypatch.setattr("flows.temporary_server._SECONDS_BETWEEN_LOOKS", 0.01)
    server = _Server()
    assert server.server_process is not None
    server.server_process.kill()
    server.server_process.wait()

    keep_alive(server)

    assert server.starts == 1
