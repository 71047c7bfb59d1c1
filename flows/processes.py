"""Processes that stand beside this one, such as Prefect's server and worker: started with a log of their own, started again, ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_SHORT_LIFE_SECONDS = 20.0
_SHORT_LIVES = 3
_LOG_BYTES = 20_000_000
_LOG_LINES_TOLD = 5


@dataclass
class Companion:
    """A process that is to run as long as this one.

    Args:
        name: What to call it.
        command: Its words.
        log: Where its output goes; what went there before is kept, up to 20 MB.
        patience: Seconds that it gets to end by itself before it is killed.
    """

    name: str
    command: Sequence[str]
    log: Path
    patience: float = 10.0
    _process: subprocess.Popen[bytes] | None = None
    _started: float = 0.0
    _short_lives: int = field(default=0, repr=False)

    def start(self) -> None:
        """Start it, out of the terminal's reach: Ctrl-C goes to this process alone, which ends the others in their order."""
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".old.log"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )
        self._started = time.monotonic()

    @property
    def ended(self) -> int | None:
        """Its exit code if it has ended."""
        return self._process.poll() if self._process else None

    @property
    def is_hopeless(self) -> bool:
        """Whether it ended soon after its start, several times in a row."""
        short = time.monotonic() - self._started < _SHORT_LIFE_SECONDS
        self._short_lives = self._short_lives + 1 if short else 0
        return self._short_lives >= _SHORT_LIVES

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(self.patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_words(self) -> str:
        """Return the last lines of its log."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 4000))
            lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return "\n".join(lines[-_LOG_LINES_TOLD:])


def end_with_parent() -> None:
    """Ask the kernel to end this process when its parent is killed: nothing is left that holds the port."""
    import ctypes

    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


def is_port_free(host: str, port: int) -> bool:
    """Return whether a server could listen there."""
    import socket

    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do; a port that was just left is free
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
