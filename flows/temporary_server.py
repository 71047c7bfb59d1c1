"""Prefect's temporary server: started beside this process while that has other work, out of Ctrl-C's reach, and started again if killed.

Prefect starts one of the same kind by itself, but only when it is first asked for something, and imports all of the server into the
process that asks: two seconds in which nothing else happens, and 100 MB.
"""

import atexit
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from flows.processes import end_process, start_process
from tasks.errors import MachineError

_HOST = "127.0.0.1"
_SECONDS_BETWEEN_QUESTIONS = 0.05
_SECONDS_BETWEEN_LOOKS = 1.0
_SECONDS_TO_END = 5.0
_MOST_STARTS = 5  # of one that is killed again and again, or cannot start any more
_PORT_TAKEN = 3  # uvicorn's exit code where it cannot listen
logger = logging.getLogger("tasks")  # whose warnings the command line shows


class TemporaryServer:
    """A Prefect server on a free port of this machine, with the user's own database, that ends with this process.

    A run that loses its server asks for it again and again, for minutes, before it gives up: so Ctrl-C in a terminal does not end the
    server together with the run, and where it is killed it is started again on the same port and database.
    """

    def __init__(self, command: Callable[[int], list[str]], environment: dict[str, str]) -> None:
        self._command, self._environment = command, environment
        self._ending, self._changing = threading.Event(), threading.Lock()
        self.is_up = False
        self.port = free_port()
        self.process = self._start()

    @property
    def api_url(self) -> str:
        """Where it answers."""
        return f"http://{_HOST}:{self.port}/api"

    def wait(self, seconds: float) -> None:
        """Wait until it answers, and keep it alive from then on.

        Raises:
            MachineError: It does not answer in time.
        """
        until = time.monotonic() + seconds
        while self.process.poll() is not None or not self._answers():  # another's server may answer on a port that was taken
            ended = self.process.poll()
            if ended == _PORT_TAKEN:  # by somebody who came in between
                self.port = free_port()
                self.process = self._start()
            elif ended is not None or time.monotonic() > until:
                self.stop()
                raise MachineError(
                    "Prefect's temporary server did not start"
                    + (f" (exit code {ended})." if ended is not None else f" within {seconds:.0f} s.")
                    + " Run the same command again, or set PREFECT_API_URL to a server of yours."
                )
            time.sleep(_SECONDS_BETWEEN_QUESTIONS)
        self.is_up = True
        threading.Thread(target=self._keep_alive, daemon=True).start()

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        with self._changing:
            self._ending.set()
        end_process(self.process, _SECONDS_TO_END)

    def _start(self) -> subprocess.Popen[bytes]:
        return start_process(self._command(self.port), env=self._environment)

    def _answers(self) -> bool:
        connection = HTTPConnection(_HOST, self.port, timeout=10)
        try:
            connection.request("GET", "/api/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _keep_alive(self) -> None:
        for _ in range(_MOST_STARTS):
            while self.process.poll() is None:
                if self._ending.wait(_SECONDS_BETWEEN_LOOKS):
                    return
            with self._changing:
                if self._ending.is_set():
                    return
                logger.warning("Prefect's temporary server was killed and is started again; results do not depend on it.")
                self.process = self._start()
        logger.warning(
            "Prefect's temporary server ended %d times and is not started again; the history of this run ends here.", _MOST_STARTS
        )


def start_early() -> None:
    """Start the server before Prefect is imported, which takes a second, unless the environment names another.

    Where one is named elsewhere, such as in a profile, `prefect_server` ends it again.
    """
    if os.name == "posix" and not os.environ.get("PREFECT_API_URL") and "prefect" not in sys.modules:
        _start()


def _start() -> None:
    if not _servers:
        server = TemporaryServer(_command, _environment())
        atexit.register(server.stop)
        _servers.append(server)


@contextmanager
def prefect_server(meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """See to it that the flows called in the block have a server: the one that the settings name, else a temporary one.

    It is there for all blocks of this process, and ends when that does, as what is still to be logged is sent at the very end.

    Args:
        meanwhile: What to do while it starts, such as to open a model; left undone where there is nothing to wait for.

    Raises:
        MachineError: It does not start.
    """
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS,
        temporary_settings,
    )

    if os.name != "posix" or PREFECT_API_URL.value() or not PREFECT_SERVER_ALLOW_EPHEMERAL_MODE.value():
        while _servers:
            _servers.pop().stop()
        yield
        return
    _start()
    server = _servers[0]
    if not server.is_up:
        meanwhile()
        try:
            server.wait(PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS.value())
        except MachineError:
            _servers.remove(server)
            raise
    settings: dict[Any, Any] = {PREFECT_API_URL: server.api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}  # nobody listens for it
    with temporary_settings(settings):
        yield


_servers: list[TemporaryServer] = []


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _command(port: int) -> list[str]:
    """Return what Prefect itself starts as its temporary server."""
    found = find_spec("prefect")
    place = Path(found.origin).parents[1] if found and found.origin else Path.cwd()
    uvicorn = [sys.executable, "-m", "uvicorn", "--app-dir", str(place), "--factory", "prefect.server.api.server:create_app"]
    return [*uvicorn, "--host", _HOST, "--port", str(port), "--log-level", "error", "--lifespan", "on"]


def _environment() -> dict[str, str]:
    """Return what tells it so; its other settings it finds where this process does."""
    own = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}  # another, that does not answer
    return {**own, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
