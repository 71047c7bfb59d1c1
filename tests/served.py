"""What tests ask of a Prefect server that `sentiment serve` keeps: its REST interface, and waiting for what it does."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import tiny

from flows.temporary_server import free_port

ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
_BUSY_SECONDS = 120  # README: SQLite may be busy for up to a minute; twice that on a machine whose cores others use too


@dataclass(frozen=True)
class Served:
    """A running `sentiment serve`: its process, its folder, its address and what it printed so far."""

    process: subprocess.Popen[str]
    root: Path
    url: str
    log: Path

    @property
    def login(self) -> str:
        """What the server asks for, `user:password`."""
        return (self.root / "prefect" / "login").read_text(encoding="utf-8")

    def get(self, path: str) -> Any:
        """Return what stands under an address of the server's interface."""
        return httpx.get(f"{self.url}/api/{path}", auth=self._auth, timeout=90).raise_for_status().json()

    @property
    def _auth(self) -> tuple[str, str]:
        user, _, password = self.login.partition(":")
        return user, password

    def ask(self, path: str, **body: Any) -> Any:
        """Post to the server's interface and return its answer."""
        return self.post(path, body).raise_for_status().json()

    def post(self, path: str, body: Any) -> httpx.Response:
        """Post, and again where the server says that it is busy, as Prefect's own client does."""

        def answer() -> httpx.Response | None:
            found = httpx.post(f"{self.url}/api/{path}", json=body, auth=self._auth, timeout=90)
            return found if found.status_code != 503 else None

        return wait(answer, _BUSY_SECONDS, path)

    def trigger(self, deployment: str, **parameters: Any) -> httpx.Response:
        """Ask for a run of a deployment, as the form in the UI does."""
        found = self.get(f"deployments/name/{deployment}")["id"]
        return self.post(f"deployments/{found}/create_flow_run", {"parameters": parameters})

    def runs(self, deployment: str, **having: Any) -> list[dict[str, Any]]:
        """Return the runs of a deployment that were not made by its schedule."""
        wanted = {"deployments": {"name": {"any_": [deployment]}}, **having}
        return [run for run in self.ask("flow_runs/filter", **wanted) if not run["auto_scheduled"]]

    def run(self, run_id: str) -> dict[str, Any]:
        """Return one run."""
        return dict(self.get(f"flow_runs/{run_id}"))


@contextmanager
def serve(root: Path, *words: str, port: int | None = None) -> Iterator[Served]:
    """Serve a folder until the block ends, by Ctrl-C."""
    port = port or free_port()
    log = root.parent / f"serve-{port}.log"
    command = [sys.executable, "-m", "flows", "serve", "--artifacts", str(root), "--port", str(port), *words]
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PREFECT_API_URL", "PREFECT_HOME", "PREFECT_API_AUTH_STRING")
    }
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=tiny.PROJECT, env=environment, stdout=file, stderr=file, text=True)
    served = Served(process, root, f"http://127.0.0.1:{port}", log)
    try:
        wait(lambda: process.poll() is not None or "worker    waits" in log.read_text(encoding="utf-8"), 200, "serving")
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield served
    finally:
        process.send_signal(subprocess.signal.SIGINT)
        process.wait(90)


def wait(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Look again and again until something is so, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} seconds"
        time.sleep(0.2)
    return found
