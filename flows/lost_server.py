"""A Prefect server that somebody else keeps, lost before, during or at the end of a run: the run goes on without it, and ends soon.

Prefect repeats each request for a minute, one after the other, and each event for seconds, though all of them go to the same dead
server. Here its patience is counted over all of them.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import httpx

PATIENCE_SECONDS = 5.0
_PROBES, _SECONDS_BETWEEN_PROBES = 3, 1.0
_CONNECT_SECONDS, _ANSWER_SECONDS = 3.0, 20.0
_DRAIN_SECONDS = 30.0
logger = logging.getLogger("tasks")  # whose warnings the command line shows


class ServerLostError(httpx.NetworkError):
    """The server has not been heard for long enough; Prefect does not ask again after this error."""


@dataclass
class Silence:
    """How long the server has not been heard, over all that it was asked."""

    since: float | None = None
    is_long: bool = False
    num_unheard: int = 0  # events that the server did not get

    def broken(self) -> None:
        """Take note of an answer."""
        self.since, self.is_long = None, False

    def goes_on(self, now: float) -> None:
        """Take note of a request that came to nothing."""
        self.since = now if self.since is None else self.since
        if not self.is_long and now - self.since >= PATIENCE_SECONDS:
            self.is_long = True
            logger.warning("Prefect's server does not answer any more. The run goes on without it; results do not depend on it.")


silence = Silence()


@contextmanager
def server_of_the_run() -> Iterator[str | None]:
    """Use the server that the settings name, or where nothing answers there, a temporary one; yields the address of one so replaced."""
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_SERVER_API_AUTH_STRING, temporary_settings

    address = PREFECT_API_URL.value()
    silence.broken()
    silence.num_unheard = 0
    # A temporary server asks for the login that the environment names for servers, so that is what it has to be told.
    login = {PREFECT_API_AUTH_STRING: PREFECT_SERVER_API_AUTH_STRING.value()}
    if not address:
        with temporary_settings(login):
            yield None
        return
    if _is_there(address):
        lose_patience_with_it()
        yield None
        return
    logger.warning("No Prefect server answers at %s. A temporary one takes its place; results do not depend on it.", address)
    with temporary_settings(login, restore_defaults={PREFECT_API_URL}):
        yield address


def num_unheard_events() -> int:
    """Return how many events of the run a server of one's own did not get, after what is still under way has been sent."""
    from prefect.events.worker import EventsWorker

    if hasattr(EventsWorker._handle, "__wrapped__"):
        EventsWorker.drain_all(timeout=_DRAIN_SECONDS)
    return silence.num_unheard


def _is_there(address: str) -> bool:
    """Return whether anything answers, be it that it is busy or wants a password."""
    for attempt in range(_PROBES):
        if attempt:
            time.sleep(_SECONDS_BETWEEN_PROBES)
        try:
            httpx.get(f"{address}/health", timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS))
            return True
        except httpx.ConnectTimeout:  # nobody is there; a busy server takes the connection
            continue
        except httpx.TimeoutException:
            return True
        except httpx.TransportError:
            continue
    return False


def lose_patience_with_it() -> None:
    """Let requests, logs and events fail at once, when the server has not been heard for seconds, until it is heard again."""
    from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for owner, name, changed in (
        (PrefectHttpxSyncClient, "_send_with_retry", _impatient),
        (PrefectHttpxAsyncClient, "_send_with_retry", _impatient_async),
        (EventsWorker, "_handle", _drop_events),
        (APILogWorker, "_handle_batch", _drop_logs),
    ):
        method = getattr(owner, name)
        if not hasattr(method, "__wrapped__"):
            setattr(owner, name, wraps(method)(changed(method)))


def _impatient(method: Callable[..., Any]) -> Callable[..., Any]:
    def ask(self: Any, request: Any, send: Callable[..., Any], **options: Any) -> Any:
        def send_once(*words: Any, **named: Any) -> Any:
            try:
                answer = send(*words, **named)
            except httpx.TransportError as error:
                raise _as_lost(error) from error
            silence.broken()
            return answer

        return method(self, request=request, send=send_once, **options)

    return ask


def _impatient_async(method: Callable[..., Any]) -> Callable[..., Any]:
    async def ask(self: Any, request: Any, send: Callable[..., Any], **options: Any) -> Any:
        async def send_once(*words: Any, **named: Any) -> Any:
            try:
                answer = await send(*words, **named)
            except httpx.TransportError as error:
                raise _as_lost(error) from error
            silence.broken()
            return answer

        return await method(self, request=request, send=send_once, **options)

    return ask


def _as_lost(error: httpx.TransportError) -> httpx.TransportError:
    silence.goes_on(time.monotonic())
    return ServerLostError(str(error)) if silence.is_long else error


def _drop_events(method: Callable[..., Any]) -> Callable[..., Any]:
    async def handle(self: Any, event: Any) -> None:
        if silence.is_long:
            self._on_item_dropped(event)
            silence.num_unheard += 1
            return
        try:
            await method(self, event)  # which repeats it for seconds
        except Exception:
            silence.num_unheard += 1
            raise

    return handle


def _drop_logs(_: Callable[..., Any]) -> Callable[..., Any]:
    async def handle(self: Any, items: Any) -> None:
        try:
            await self._client.create_logs(items)
        except Exception as error:  # the history may be lost, never the result
            if silence.since is None:
                logger.warning("%s lines of the run's log are not in the Prefect UI: %s.", len(items), type(error).__name__)

    return handle
