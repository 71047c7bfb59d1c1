"""Prefect's temporary server: kept out of Ctrl-C's reach, and started again where it is killed before the run has ended."""

import atexit
import contextvars
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

_SECONDS_TO_FIND_ANOTHER = 0.2
_SECONDS_BETWEEN_LOOKS = 1.0
logger = logging.getLogger("tasks")  # whose warnings the command line shows


def start_out_of_reach(meanwhile: Callable[[], object] = lambda: None) -> None:
    """Start the temporary server, where the settings name no other, so that Ctrl-C in a terminal does not end it together with the run.

    A run that loses its server asks for it again and again, for minutes, before it gives up; with it, a stopped run ends in seconds and
    its history says that it was stopped. Where the server is killed, it is started again on the same port and database, while the run
    repeats what it asked. The server ends with this process.

    Args:
        meanwhile: What to do while it starts, such as to import TensorFlow; left undone where there is nothing to wait for.
    """
    if os.name != "posix":
        return
    started = threading.Event()

    def start() -> None:
        from prefect.client.orchestration import get_client

        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # of this thread alone; the server inherits it
        try:
            get_client(sync_client=True)
        except Exception:  # the run itself meets the same, and says so
            return
        finally:
            started.set()
        for server in _own_servers():
            keep_alive(server)

    threading.Thread(target=contextvars.copy_context().run, args=(start,), daemon=True).start()
    if not started.wait(_SECONDS_TO_FIND_ANOTHER):
        meanwhile()
    started.wait()


def _own_servers() -> list[Any]:
    module = sys.modules.get("prefect.server.api.server")  # Prefect has imported it if it started one
    return list(module.SubprocessASGIServer._instances.values()) if module else []


def keep_alive(server: Any) -> None:
    """Start one of Prefect's server objects again whenever its process is killed, until it is stopped or this process ends."""
    ending = threading.Event()
    atexit.register(ending.set)  # registered after the server's own end, therefore called before it
    while not ending.wait(_SECONDS_BETWEEN_LOOKS):
        process = server.server_process
        if process is None:
            return
        if process.poll() in (None, 0, -signal.SIGTERM):  # it runs, or is being ended
            continue
        logger.warning("Prefect's temporary server was killed and is started again; results do not depend on it.")
        server.running = False
        try:
            server.start()
        except Exception:  # the run goes on, its history ends here
            return
