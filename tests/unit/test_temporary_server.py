import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings

from flows import temporary_server
from flows.temporary_server import TemporaryServer, prefect_server
from tasks.errors import MachineError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="on other systems Prefect starts its server itself")

# Answers whatever is asked, and says whether it hears Ctrl-C: a process group of its own does not.
ANSWERS = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(str(os.getpgid(0)).encode())
    def log_message(self, *given): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def answering(port: int) -> list[str]:
    """A stand-in for Prefect's server."""
    return [sys.executable, "-S", "-E", "-c", ANSWERS, str(port)]


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that knows no server yet, with the stand-in for Prefect's; what was started is ended."""
    servers: list[TemporaryServer] = []
    monkeypatch.setattr(temporary_server, "_servers", servers)
    monkeypatch.setattr(temporary_server, "_command", answering)
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        yield
    for server in servers:
        server.stop()


@pytest.mark.usefixtures("no_server")
def test_what_is_done_while_the_server_starts() -> None:
    """The time is used that a server takes to start; it answers in the block, does not hear Ctrl-C, and serves the next block too."""
    done: list[str] = []
    urls = []
    for _ in range(2):
        with prefect_server(lambda: done.append("meanwhile")):
            urls.append(PREFECT_API_URL.value())
    assert done == ["meanwhile"]
    assert urls[0] == urls[1] == temporary_server._servers[0].api_url
    assert os.getpgid(temporary_server._servers[0].process.pid) != os.getpgid(0)
    assert PREFECT_API_URL.value() is None


@pytest.mark.usefixtures("no_server")
def test_a_server_that_was_started_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is started before Prefect is imported is used; it ends at once where a profile names another."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    temporary_server.start_early()
    assert not temporary_server._servers, "Prefect is imported here, and knows better than the environment"
    with monkeypatch.context() as fresh:
        fresh.setattr(sys, "modules", {})
        temporary_server.start_early()
    early = temporary_server._servers[0]
    with prefect_server():
        assert PREFECT_API_URL.value() == early.api_url
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}), prefect_server():
        pass
    assert early.process.poll() is not None and not temporary_server._servers


@pytest.mark.usefixtures("no_server")
def test_a_server_that_is_named_is_used() -> None:
    """Where the settings name a server, none is started and nothing is done meanwhile."""
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}),
        prefect_server(lambda: pytest.fail("There is nothing to wait for.")),
    ):
        assert PREFECT_API_URL.value() == "http://127.0.0.1:1/api"
    assert not temporary_server._servers


@pytest.mark.usefixtures("no_server")
@pytest.mark.parametrize(("program", "seconds", "told"), [("raise SystemExit(7)", 60, "exit code 7"), ("input()", 0, "within 0 s")])
def test_a_server_that_does_not_start(monkeypatch: pytest.MonkeyPatch, program: str, seconds: int, told: str) -> None:
    """One that ends, or does not answer in time, is an error of the machine that says what to do; no process is left."""
    made: list[TemporaryServer] = []
    start = TemporaryServer.wait
    monkeypatch.setattr(TemporaryServer, "wait", lambda self, seconds: (made.append(self), start(self, seconds))[1])
    monkeypatch.setattr(temporary_server, "_command", lambda port: [sys.executable, "-S", "-E", "-c", program])
    with (
        temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: seconds}),
        pytest.raises(MachineError, match=f"{told}.*PREFECT_API_URL"),
        prefect_server(),
    ):
        pass
    assert made[0].process.poll() is not None


def test_a_port_that_was_taken_meanwhile_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody else takes the port between looking and listening, another is taken."""
    taken: list[int] = []

    def command(port: int) -> list[str]:
        taken.append(port)
        return answering(port) if len(taken) > 1 else [sys.executable, "-S", "-E", "-c", "raise SystemExit(3)"]

    server = TemporaryServer(command, dict(os.environ))
    server.wait(60)
    server.stop()
    assert server.port == taken[1] != taken[0]


def test_killed_server_is_started_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A server that was killed is started again on its port, and one that was stopped is not."""
    monkeypatch.setattr(temporary_server, "_SECONDS_BETWEEN_LOOKS", 0.01)
    server = TemporaryServer(answering, dict(os.environ))
    server.wait(60)
    first = server.process
    again = threading.Event()
    start = server._start
    monkeypatch.setattr(server, "_start", lambda: (start(), again.set())[0])
    first.send_signal(signal.SIGKILL)
    assert again.wait(60)
    while server.process is first:
        pass
    second: subprocess.Popen[bytes] = server.process
    server.stop()
    assert second.pid != first.pid and second.poll() is not None
    assert "started again" in caplog.text
