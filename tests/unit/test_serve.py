import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from prefect.exceptions import ObjectAlreadyExists

from flows import serving
from flows.__main__ import main
from flows.processes import Companion, ended_by_signals, port_of_ours
from flows.serving import HOST, Place
from tasks.errors import CallerError, MachineError, PipelineError


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Another program that listens on a port, as the same user."""
    with socket.create_server((HOST, 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What `serve` tells its companions by the environment, and its lock, end with the test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with patch.dict(os.environ):
        os.environ.pop("PREFECT_API_URL", None)
        yield


def is_asked(listening: socket.socket) -> bool:
    """Return whether somebody has connected."""
    try:
        listening.accept()
    except BlockingIOError:
        return False
    return True


class _Companion:
    """A server or worker that does nothing but be told."""

    stopped: list[str]

    def __init__(self, name: str, *_: Any) -> None:
        self.name, self.is_running = name, False

    def start(self) -> None:
        """Start."""
        self.is_running = True

    def stop(self) -> None:
        """Keep in mind that it was stopped."""
        self.stopped.append(self.name)


def test_what_to_retrain_on_is_found_wherever_the_worker_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path is made absolute; the sample, the archive and addresses stay; what is not there is refused before anything starts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.csv").touch()

    assert serving._source_of("reviews.csv") == str(tmp_path / "reviews.csv")
    assert serving._source_of("*.csv") == str(tmp_path / "*.csv")
    assert [serving._source_of(name) for name in ("sample", "imdb", "s3://shop/reviews")] == ["sample", "imdb", "s3://shop/reviews"]
    with pytest.raises(CallerError, match="There is no"):
        serving._source_of("")
    assert main(["serve", "--source", "nothing.csv", "--artifacts", str(tmp_path / "artifacts")]) == 2
    assert not (tmp_path / "artifacts").exists()


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Serve with companions of cardboard, up to the moment that the first look at them is a Ctrl-C; keeps who was stopped."""

    def interrupt(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    stopped: list[str] = []
    monkeypatch.setattr(_Companion, "stopped", stopped, raising=False)
    monkeypatch.setattr(serving, "Companion", _Companion)
    monkeypatch.setattr(serving, "_start_server", lambda server, _: server.start())
    monkeypatch.setattr(serving, "set_up", lambda *_: [])
    monkeypatch.setattr(serving, "_wait_for", lambda *_: None)
    monkeypatch.setattr(serving, "_keep_alive", interrupt)
    return stopped


def serve_at(root: Path, port: int, say: Callable[[str], None] = lambda _: None) -> None:
    """Serve on a port, without its lock."""
    (root / "prefect").mkdir(parents=True, exist_ok=True)
    with ended_by_signals():
        serving._serve(Place(root, root / "inbox", f"http://{HOST}:{port}", is_own=True), None, say)


def test_who_holds_the_port_is_sent_nothing(listener: socket.socket, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where another program listens on the port, `serve` says so with exit code 4; that program hears nothing of it, nor the login."""
    port = listener.getsockname()[1]

    code = main(["serve", "--artifacts", str(tmp_path / "artifacts"), "--port", str(port)])

    assert (code, f"Port {port} is in use" in capsys.readouterr().err) == (4, True)
    assert not is_asked(listener)


@pytest.mark.parametrize(
    ("port", "code", "told"),
    [
        ([], 0, "Served already at http://127.0.0.1:5555, by another process"),
        (["--port", "5555"], 0, "Served already at http://127.0.0.1:5555"),
        (["--port", "5556"], 2, "is served already at http://127.0.0.1:5555. Stop that first, or leave out --port"),
    ],
)
def test_folder_is_served_once(port: list[str], code: int, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Who serves a folder that is served is told where; who wants another port is told that it cannot be had."""
    home = Place(tmp_path, tmp_path / "inbox", "http://127.0.0.1:5555", is_own=True).home
    home.mkdir(parents=True)
    with serving._only_one(home, "http://127.0.0.1:5555"):
        found = main(["serve", "--artifacts", str(tmp_path), *port])
    printed = capsys.readouterr()
    assert (found, told in printed.out + printed.err) == (code, True)


@pytest.mark.parametrize("failing", ["_start_server", "set_up"])
def test_failed_start_cancels_nothing(
    failing: str, listener: socket.socket, tmp_path: Path, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until our own server and worker run, nobody is asked to cancel anything; what was started is stopped."""

    def fail(*_: Any) -> None:
        raise MachineError("did not start")

    monkeypatch.setattr(serving, failing, fail)

    with pytest.raises(MachineError, match="did not start"):
        serve_at(tmp_path, listener.getsockname()[1])

    assert not is_asked(listener)
    assert stopped == ["worker", "server"]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
def test_second_signal_leaves_nothing_behind(tmp_path: Path, stopped: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither further signals while runs are cancelled, nor a senseless answer, nor a terminal that is gone keep the stops from running."""

    def cancel(_: Place, tell: Callable[[str], None]) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
        tell("Stopping a run")
        raise KeyError("infrastructure_pid")

    def say(line: str) -> None:
        if "run" in line and "worker " not in line:
            raise OSError(5, "the terminal is gone")

    monkeypatch.setattr(serving, "cancel_runs", cancel)

    with pytest.raises(KeyboardInterrupt):
        serve_at(tmp_path, 9, say)

    assert stopped == ["worker", "server"]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
@pytest.mark.parametrize("number", [signal.SIGTERM, getattr(signal, "SIGHUP", 0)])
def test_first_signal_alone_is_heard(number: int) -> None:
    """SIGTERM and SIGHUP end `serve` like Ctrl-C, and what comes at the same time or later does nothing."""
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), ended_by_signals():
        try:
            signal.raise_signal(number)
        finally:
            signal.raise_signal(signal.SIGINT)

    assert signal.getsignal(number) == before


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
def test_ignored_hang_up_stays_ignored() -> None:
    """Under nohup, the end of the terminal does not end `serve`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_stranger_is_not_taken_for_our_server(tmp_path: Path) -> None:
    """A server that ended has not started, though another answers at its address."""
    companion = Companion("server", [sys.executable, "-c", "print('port in use')"], tmp_path / "server.log")
    companion.start()
    assert companion._process is not None and companion._process.wait(60) == 0

    with pytest.raises(MachineError, match=r"server did not start[^$]*port in use"):
        serving._wait_for(companion, lambda: True)

    assert not companion.is_running


def test_port_is_held_before_anybody_listens() -> None:
    """Of two that are to serve different folders on one port, the second is told before it starts anything; later the port is free."""
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    with port_of_ours(HOST, port), pytest.raises(MachineError, match="another `sentiment serve`"), port_of_ours(HOST, port):
        pass
    with port_of_ours(HOST, port):
        pass


def test_runs_that_do_not_end_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs under way are cancelled, and what has not ended in time is told with its number and name."""
    asked: list[str] = []
    told: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        pending = b"RUNNING" in request.content
        runs = [{"id": name, "name": name, "infrastructure_pid": None} for name in (["calm-owl", "busy-bee"] if pending else ["busy-bee"])]
        return httpx.Response(200, json=runs)

    client = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(httpx, "Client", lambda **_: client)
    monkeypatch.setattr(serving, "_CANCEL_SECONDS", 0.0)

    serving.cancel_runs(Place(tmp_path, tmp_path, f"http://{HOST}:9", is_own=True), told.append)

    assert [path for path in asked if path.endswith("set_state")] == [
        f"/api/flow_runs/{name}/set_state" for name in ("calm-owl", "busy-bee")
    ]
    assert told[1:] == ["1 of 2 did not end within 0 seconds: busy-bee."]


def _status(code: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "http://server/api")
    return httpx.HTTPStatusError("status", request=request, response=httpx.Response(code, request=request))


@pytest.mark.parametrize(
    ("error", "kind", "told"),
    [
        (_status(401), CallerError, "asks for a login.*PREFECT_API_AUTH_STRING"),
        (_status(500), MachineError, "answered 500"),
        (httpx.ReadTimeout("slow"), MachineError, "ReadTimeout"),
        (ObjectAlreadyExists(_status(409)), MachineError, "ObjectAlreadyExists"),
        (RuntimeError("Failed to reach API at http://server/api"), MachineError, "did not do what it was asked"),
    ],
)
def test_what_the_server_answers_is_told(
    error: Exception, kind: type[PipelineError], told: str, tmp_path: Path, stopped: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that refuses, fails or is silent while it is set up ends `serve` with a remedy, not with a traceback."""

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(serving, "set_up", fail)

    with pytest.raises(kind, match=told):
        serve_at(tmp_path, 9)

    assert stopped == ["worker", "server"]


def test_webhook_may_stay_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of alerts comes from the environment, hidden from companions, or from the option; an error does not repeat it."""
    monkeypatch.setenv("SENTIMENT_ALERTS", "https://hooks.example/secret")
    assert serving.alerts_address(None) == "https://hooks.example/secret"
    assert "SENTIMENT_ALERTS" not in os.environ
    assert serving.alerts_address("http://127.0.0.1/other") == "http://127.0.0.1/other"
    assert serving.alerts_address(None) is None
    for wrong in ("hooks.example/secret", "file:///secret", "https://", "http://[secret"):
        with pytest.raises(CallerError, match="Expected http://… or https://…") as refused:
            serving.alerts_address(wrong)
        assert "secret" not in str(refused.value)
