import asyncio
import logging
from collections.abc import Iterator
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import lost_server
from flows.running import run_flow

ADDRESS = "http://127.0.0.1:9/api"  # nothing listens on the port of this name


class _Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("time.sleep", self.sleep)
        monkeypatch.setattr("anyio.sleep", self.wait)
        monkeypatch.setattr("time.monotonic", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class _Server:
    """Prefect's server as far as a client's transport sees it; it can be killed."""

    def __init__(self) -> None:
        self.is_there = True
        self.asked = 0

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer, or refuse the connection."""
        self.asked += 1
        if not self.is_there:
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(200, json={})


@pytest.fixture
def server() -> Iterator[_Server]:
    """A server whose clients lose patience; in the end all is as if there had been none."""
    owners = {
        PrefectHttpxSyncClient: "_send_with_retry",
        PrefectHttpxAsyncClient: "_send_with_retry",
        EventsWorker: "_handle",
        APILogWorker: "_handle_batch",
    }
    before = [(owner, name, getattr(owner, name)) for owner, name in owners.items()]
    lost_server.silence.broken()
    lost_server.lose_patience_with_it()
    yield _Server()
    lost_server.silence.broken()
    for owner, name, method in before:
        setattr(owner, name, method)


def test_all_requests_share_one_patience(server: _Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A dead server is waited for once, for seconds; what is asked after that fails at once; heard again, all is as before."""
    clock = _Clock(monkeypatch)
    with PrefectHttpxSyncClient(transport=httpx.MockTransport(server.answer), base_url=ADDRESS, enable_csrf_support=False) as client:
        client.get("/first")
        server.is_there = False
        for _ in range(3):
            with pytest.raises(lost_server.ServerLostError):
                client.get("/again")
        waited, asked = clock.now, server.asked
        server.is_there = True
        client.get("/heard")

    assert lost_server.PATIENCE_SECONDS <= waited < 30
    assert asked <= 1 + 4 + 2
    assert (lost_server.silence.since, lost_server.silence.is_long) == (None, False)
    assert caplog.text.count("does not answer any more") == 1


def test_asynchronous_requests_too(server: _Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prefect's asynchronous client, which sends the log, has the same patience."""
    clock = _Clock(monkeypatch)

    async def ask() -> None:
        transport = httpx.MockTransport(server.answer)
        async with PrefectHttpxAsyncClient(transport=transport, base_url=ADDRESS, enable_csrf_support=False) as client:
            await client.get("/first")
            server.is_there = False
            with pytest.raises(lost_server.ServerLostError):
                await client.get("/again")

    asyncio.run(ask())

    assert lost_server.PATIENCE_SECONDS <= clock.now < 30


def test_events_and_logs_do_not_wait(server: _Server, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """While the server is silent, events are dropped without being sent, and lines of the log without a word for each."""
    dropped: list[str] = []

    async def refuse(_: Any) -> None:
        raise httpx.ConnectError("refused")

    lost_server.silence.since, lost_server.silence.is_long, lost_server.silence.num_unheard = 0.0, True, 0
    caplog.set_level(logging.WARNING, "tasks")
    asyncio.run(EventsWorker._handle(SimpleNamespace(_on_item_dropped=dropped.append), "event"))  # type: ignore[arg-type]
    asyncio.run(APILogWorker._handle_batch(SimpleNamespace(_client=SimpleNamespace(create_logs=refuse)), [{}]))  # type: ignore[arg-type]

    assert (dropped, lost_server.num_unheard_events()) == (["event"], 1)
    assert capsys.readouterr().err == caplog.text == ""


def test_hiccup_costs_no_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """After one failed request events are still sent, and one that Prefect cannot send is counted."""
    sent: list[str] = []

    async def send(_: Any, event: str) -> None:
        if event == "refused":
            raise ConnectionError
        sent.append(event)

    monkeypatch.setattr(lost_server, "silence", lost_server.Silence(since=0.0))
    handle = lost_server._drop_events(send)
    asyncio.run(handle(None, "promoted"))
    with pytest.raises(ConnectionError):
        asyncio.run(handle(None, "refused"))

    assert (sent, lost_server.num_unheard_events()) == (["promoted"], 1)


def test_lost_events_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of whose events a server got only some has its results, and says in `history` how many are missing."""
    monkeypatch.setattr("flows.running._show_steps", lambda: None)
    monkeypatch.setattr("flows.temporary_server.prefect_server", lambda _: nullcontext())
    monkeypatch.setattr(lost_server, "server_of_the_run", lambda: nullcontext(None))
    monkeypatch.setattr(lost_server, "num_unheard_events", lambda: 2)

    summary = run_flow(lambda: {"status": "promoted"})

    assert (summary["status"], "2 of the run's events did not reach" in summary["history"]) == ("promoted", True)


@pytest.mark.parametrize(("error", "is_there"), [(httpx.ConnectTimeout, False), (httpx.ReadTimeout, True), (httpx.ConnectError, False)])
def test_who_does_not_take_the_connection_is_not_there(error: type[Exception], is_there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes seconds to answer is busy; an address at which no connection comes about is nobody's."""
    _Clock(monkeypatch)

    def fail(*_: Any, timeout: httpx.Timeout) -> None:
        assert timeout.connect is not None and timeout.connect <= 3
        raise error("failed")

    monkeypatch.setattr(httpx, "get", fail)

    assert lost_server._is_there(ADDRESS) is is_there


def test_server_that_is_not_there_is_replaced(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where nothing answers, the run has a temporary server, is told so, and the caller learns which one is missing."""
    _Clock(monkeypatch)
    with temporary_settings({PREFECT_API_URL: ADDRESS}):
        with lost_server.server_of_the_run() as replaced:
            during = PREFECT_API_URL.value()
        after = PREFECT_API_URL.value()

    assert (replaced, during, after) == (ADDRESS, None, ADDRESS)
    assert "A temporary one takes its place" in caplog.text


def test_without_an_own_server_nothing_changes() -> None:
    """A temporary server is started again where it is killed, and waited for as Prefect does."""
    method = PrefectHttpxSyncClient._send_with_retry
    with temporary_settings(restore_defaults={PREFECT_API_URL}), lost_server.server_of_the_run() as replaced:
        assert replaced is None
        assert PrefectHttpxSyncClient._send_with_retry is method


@pytest.mark.parametrize("name", ["", "prefect._internal"])
def test_what_a_lost_server_does_not_get_is_not_printed(name: str) -> None:
    """Prefect prints every event that it cannot deliver; on the command line's terminal none appears, whichever handler of its it is."""
    from prefect.logging.handlers import PrefectConsoleHandler

    from flows.running import _show_steps

    handler = PrefectConsoleHandler()
    logging.getLogger(name).addHandler(handler)
    try:
        _show_steps()
        for logger in ("prefect.events.clients", "prefect._internal.concurrency"):
            assert not handler.filter(logging.LogRecord(logger, logging.ERROR, "", 0, "Service failed to process an event", None, None))
    finally:
        logging.getLogger(name).removeHandler(handler)
