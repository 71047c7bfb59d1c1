"""A run reaches for no machine but those of Prefect's API and of the sources that the user named."""

import sys
from pathlib import Path
from typing import Any

import tiny

HERE = {"127.0.0.1", "::1", "localhost"}
_listening: list[set[str]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _listening or event not in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        return
    address = arguments[-1] if event in ("socket.connect", "socket.sendto") else arguments[0]
    host = address[0] if isinstance(address, tuple) else address
    if host and not str(host).startswith("/"):  # of this machine's own sockets the address is a path
        _listening[-1].add(host.decode() if isinstance(host, bytes) else str(host))


sys.addaudithook(_hear)


def test_nothing_but_prefect_is_reached(trained: tiny.Trained, tmp_path: Path) -> None:
    """While a model is trained, gated, reported and scored with, this process reaches this machine alone, and asks for no other name."""
    from flows.scoring import scoring

    _listening.append(set())
    summary = tiny.train(tmp_path / "artifacts", trained.reviews)
    scored = scoring(inputs=[str(trained.reviews)], artifacts=str(tmp_path / "artifacts"))
    reached = _listening.pop()

    assert (summary["status"], scored["scored"]) == ("promoted", 412)
    assert reached and reached <= HERE
