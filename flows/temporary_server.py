"""Prefect's temporary server, kept out of Ctrl-C's reach."""

import contextvars
import os
import signal
import threading
from collections.abc import Callable

_SECONDS_TO_FIND_ANOTHER = 0.2


def start_out_of_reach(meanwhile: Callable[[], object] = lambda: None) -> None:
    """Start the temporary server, where the settings name no other, so that Ctrl-C in a terminal does not end it together with the run.

    A run that loses its server asks for it again and again, for minutes, before it gives up; with it, a stopped run ends in seconds and
    its history says that it was stopped. The server ends with this process.

    Args:
        meanwhile: What to do while it starts, such as to import TensorFlow; left undone where there is nothing to wait for.
    """
    if os.name != "posix":
        return

    def start() -> None:
        from prefect.client.orchestration import get_client

        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # of this thread alone; the server inherits it
        try:
            get_client(sync_client=True)
        except Exception:  # the run itself meets the same, and says so
            return

    thread = threading.Thread(target=contextvars.copy_context().run, args=(start,), daemon=True)
    thread.start()
    thread.join(_SECONDS_TO_FIND_ANOTHER)
    if thread.is_alive():
        meanwhile()
    thread.join()
