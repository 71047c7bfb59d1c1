"""Processes that stand beside this one, such as Prefect's server and worker: started with a log of their own, started again, ended."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tasks.errors import MachineError

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
            self._process = start_process(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        self._started = time.monotonic()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

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
        if self._process is not None and self.is_running:
            end_process(self._process, self.patience)

    def last_words(self) -> str:
        """Return the last lines of its log."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 4000))
            lines = [line for line in log.read().decode("utf-8", "replace").splitlines() if line.strip()]
        return "\n".join(lines[-_LOG_LINES_TOLD:])


def start_process(command: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process out of the terminal's reach; on Linux it ends when this one is killed. Options are those of `subprocess.Popen`."""
    return subprocess.Popen(command, start_new_session=True, preexec_fn=_end_with_parent if sys.platform == "linux" else None, **options)


def end_process(process: subprocess.Popen[bytes], patience: float) -> None:
    """End a process, and wait until it has ended; it is killed if it takes longer than `patience` seconds."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_with_parent() -> None:
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


@contextmanager
def port_of_ours(host: str, port: int) -> Iterator[None]:
    """Hold a port for a server that is started while the block lasts: of two commands at once, one gets it.

    A server takes seconds to listen, in which the port looks free to others. The lock ends with this process.

    Raises:
        MachineError: Another program listens there, or another command of this user is about to.
    """
    lock = FileLock(_own_folder() / f"port-{port}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MachineError(f"Port {port} is taken by another `sentiment serve`. Name another with --port.") from None
    try:
        if not is_port_free(host, port):
            raise MachineError(f"Port {port} is in use by another program. Name another with --port, or set PREFECT_API_URL to use it.")
        yield
    finally:
        lock.release()


def _own_folder() -> Path:
    """Return a folder of this user on this machine, where nobody else can put a lock.

    Raises:
        MachineError: Somebody else made it.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"  # elsewhere the temporary folder is the user's own
    folder = Path(tempfile.gettempdir()) / f"sentiment-{user}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise MachineError(f"Cannot create the folder {folder}: {error.strerror}. Name another place with TMPDIR.") from error
    if folder.is_symlink() or (hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022)):
        raise MachineError(f"{folder} is not yours alone. Remove it, or name another place with TMPDIR.")
    return folder


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Let SIGTERM, which service managers send, and SIGHUP, of a closed terminal, end this like Ctrl-C; and SIGINT also in the background.

    The first one alone: what is being ended is not interrupted by a second. A SIGHUP that is ignored, as under nohup, stays so.
    """

    def stop(*_: Any) -> None:
        ignore_signals()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in _ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Let nothing but SIGKILL end this process from now on."""
    for number in _ending_signals():
        signal.signal(number, lambda *_: None)  # SIG_IGN would complain of a signal that has come but was not yet handled


def _ending_signals() -> list[signal.Signals]:
    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers
