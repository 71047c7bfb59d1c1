"""`sentiment serve`: a Prefect server, the deployments of prefect.yaml, automations and a worker. Run again, it changes nothing."""

import hashlib
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from flows.options import Outcome, check_files, printer_of
from flows.processes import Companion, ended_by_signals, ignore_signals, port_of_ours
from tasks.errors import CallerError, MachineError, PipelineError
from tasks.login import HOW_TO_LOG_IN, given_login, login_environment, login_file, make_login
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.remote import is_remote
from tasks.reviews.sources import IMDB
from tasks.schemas import SAMPLE
from tasks.store import atomic_file, make_folder

HOST = "127.0.0.1"
DEFAULT_PORT = 4200
POOL = "reviews"
WORKER = "sentiment serve"
PROJECT = Path(__file__).parents[1]
_DEPLOYMENTS = PROJECT / "prefect.yaml"
_START_SECONDS = 180.0
# Runs that are started at once ask Prefect's server for as many transactions at once, and on SQLite a dozen of these wait for each other.
_RUNS_AT_ONCE = 4
_QUERY_SECONDS = 5
_CANCEL_SECONDS = 30.0
_DEPLOY_SECONDS = 300.0
_ALERTS = "SENTIMENT_ALERTS"
_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Place:
    """Where things are: the artifacts folder, the folder that is watched for feedback, the server's address, what to retrain on."""

    root: Path
    inbox: Path
    url: str
    is_own: bool
    source: str = SAMPLE

    @property
    def port(self) -> int:
        """The port of the server that is started here."""
        return int(self.url.rpartition(":")[2])

    @property
    def home(self) -> Path:
        """Prefect's own folder: the database, its settings, the logs."""
        return self.root / "prefect"

    def environment(self, version: str) -> dict[str, str]:
        """Return what the server, the worker and the deployments are told; a user's own Prefect is left alone."""
        told = {
            "PREFECT_API_URL": f"{self.url}/api",
            "PIPELINE_HOME": str(PROJECT),
            "PIPELINE_ARTIFACTS": str(self.root),
            "PIPELINE_INBOX": str(self.inbox),
            "PIPELINE_SOURCE": self.source,
            "PIPELINE_VERSION": version,
        }
        if self.is_own:
            spared = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")  # a proxy cannot reach this machine's own address
            told |= {
                "PREFECT_HOME": str(self.home),
                **login_environment(make_login(self.home)),
                "PREFECT_SERVER_API_HOST": HOST,
                "PREFECT_SERVER_API_PORT": str(self.port),
                **dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(filter(None, (spared, HOST)))),
                "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
                "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            }
        return told


def serve(options: Namespace) -> Outcome:
    """Serve until Ctrl-C or SIGTERM."""
    say = printer_of(options)
    root = Path(options.artifacts).resolve()
    inbox = Path(options.inbox).resolve() if options.inbox else root / "inbox"
    named = os.environ.get("PREFECT_API_URL", "").rstrip("/").removesuffix("/api")
    url = named or f"http://{HOST}:{options.port or DEFAULT_PORT}"
    place = Place(root, inbox, url, is_own=not named, source=_source_of(options.source))
    if not _DEPLOYMENTS.is_file():
        raise CallerError(f"There is no {_DEPLOYMENTS}, which names what to serve. Run this from a checkout of the project.")
    summary = {"command": "serve", "url": place.url}
    alerts = alerts_address(options.alerts)
    try:
        make_folder(place.home)
        make_folder(inbox)
        port = port_of_ours(HOST, place.port) if place.is_own else nullcontext()
        with _only_one(place.home, place.url), port, ended_by_signals():
            _serve(place, alerts, say)
    except _AlreadyServedError as found:
        if options.port and str(found) != url:
            raise CallerError(f"{root} is served already at {found}. Stop that first, or leave out --port.") from None
        say(f"Served already at {found}, by another process. Nothing was changed; stop that one first to serve otherwise.")
        return {**summary, "url": str(found), "status": "served already"}, 0
    except KeyboardInterrupt:
        _to_whom_it_reaches(say)("Stopped. The same command serves again, with all that was.")
    return {**summary, "status": "stopped"}, 0


def _serve(place: Place, alerts: str | None, say: Callable[[str], None]) -> None:
    version = _version_of(place)
    os.environ.update(place.environment(version))  # before Prefect is imported, which reads them once
    from flows.automations import HEARTBEAT_SECONDS

    os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", str(HEARTBEAT_SECONDS))
    os.environ.setdefault("PREFECT_WORKER_QUERY_SECONDS", str(_QUERY_SECONDS))
    prefect = [sys.executable, "-m", "prefect"]
    server = Companion("server", [*prefect, "server", "start", "--host", HOST], place.home / "server.log")
    worker = Companion(
        "worker", [*prefect, "worker", "start", "--pool", POOL, "--name", WORKER, "--limit", str(_RUNS_AT_ONCE)], place.home / "worker.log"
    )
    try:
        _start_server(server, place)
        say(f"server    {place.url}" + (f"  (history and logs in {place.home})" if place.is_own else "  (yours: PREFECT_API_URL names it)"))
        with _told_plainly(place):
            for line in set_up(version, alerts):
                say(line)
        worker.start()
        _wait_for(worker, lambda: _worker_is_online(place))
        trained_on = (
            "the generated sample, which proves nothing: name your reviews with --source" if place.source == SAMPLE else place.source
        )
        say(f"retrain   trains on {trained_on}")
        say(f"worker    waits for runs; feedback put into {place.inbox} waits for `score`: started by hand, and by every new champion")
        say(f"          other commands show here too after: export PREFECT_API_URL={place.url}/api")
        if place.is_own:
            say(f"login     the password that the UI asks for is the line in {login_file(place.home)}, which only you can read;")
            say(f'          for other commands: export PREFECT_API_AUTH_STRING="$(cat {shlex.quote(str(login_file(place.home)))})"')
        say("          Ctrl-C stops it all")
        while True:
            for companion in (server, worker):
                _keep_alive(companion, say)
            time.sleep(_LOOK_SECONDS)
    finally:
        ignore_signals()
        tell = _to_whom_it_reaches(say)
        try:
            if worker.is_running and (server.is_running or not place.is_own):  # else it is a stranger who answers there, or nobody
                cancel_runs(place, tell)
        except Exception as error:  # whatever the server answers, nothing is left behind
            tell(f"Runs under way may go on, as the server could not be asked to cancel them ({type(error).__name__}).")
        finally:
            worker.stop()  # a worker that has had runs does not always end when it is asked to
            server.stop()


def _source_of(named: str) -> str:
    """Return what to retrain on as the worker finds it, wherever it runs.

    Raises:
        CallerError: There is nothing there.
    """
    if not named:
        raise CallerError("There is no name of what to retrain on. Name a file, a folder or a glob of labelled reviews with --source.")
    check_files([named], ReaderSettings())
    if named in (SAMPLE, IMDB) or is_remote(named):
        return named
    return str(Path(named).absolute())  # a link such as `latest` is followed by each run


def _to_whom_it_reaches(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return a print that does not mind that nobody reads it: after SIGHUP the terminal is gone."""

    def tell(line: str) -> None:
        with suppress(OSError):
            say(line)

    return tell


def _start_server(server: Companion, place: Place) -> None:
    if not place.is_own:
        if not _answers(place):
            raise MachineError(f"No Prefect server answers at {place.url}. Start it, or unset PREFECT_API_URL to have one started here.")
        with _told_plainly(place):
            _get(place, "admin/version").raise_for_status()
        return
    server.start()
    _wait_for(server, lambda: _answers(place))


def _wait_for(companion: Companion, is_ready: Callable[[], bool]) -> None:
    """Wait until a companion is ready, which it is not where it has ended and another answers in its place.

    Raises:
        MachineError: It ended, or takes too long.
    """
    deadline = time.monotonic() + _START_SECONDS
    while companion.ended is None and time.monotonic() < deadline:
        if is_ready() and companion.ended is None:
            return
        time.sleep(_LOOK_SECONDS)
    raise MachineError(f"Prefect's {companion.name} did not start. The end of {companion.log}:\n{companion.last_words()}")


def _worker_is_online(place: Place) -> bool:
    """Return whether the server knows of the worker. Runs that are asked for in the moment it starts can lock an SQLite database."""
    import httpx

    try:
        with httpx.Client(auth=given_login(), timeout=10, trust_env=not place.is_own) as client:
            found = client.post(f"{place.url}/api/work_pools/{POOL}/workers/filter", json={})
    except httpx.HTTPError:
        return False
    return found.is_success and any(worker["name"] == WORKER and worker["status"] == "ONLINE" for worker in found.json())


def _keep_alive(companion: Companion, say: Callable[[str], None]) -> None:
    """Start a companion again that has ended.

    Raises:
        MachineError: It ends every time.
    """
    if companion.ended is None:
        return
    say(f"The {companion.name} ended (exit code {companion.ended}) and is started again; its log is {companion.log}.")
    if companion.is_hopeless:
        raise MachineError(f"The {companion.name} ends every time. The end of {companion.log}:\n{companion.last_words()}")
    companion.start()


def set_up(version: str, alerts: str | None) -> Iterator[str]:
    """Bring the server to what prefect.yaml and `flows.automations` say; yields what was done, or that it was so already."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName
    from prefect.exceptions import ObjectNotFound

    from flows import automations

    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(POOL)
            yield f"pool      {POOL}: is there"
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
            yield f"pool      {POOL}: made"
        names = DeploymentFilter(name=DeploymentFilterName(any_=sorted(_names_of_deployments())))
        deployed = {found.name for found in client.read_deployments(deployment_filter=names) if found.version == version}
        changed = not deployed >= _names_of_deployments()
        if changed:
            _deploy()
        for found in client.read_deployments(deployment_filter=names):
            if found.version == version:
                _refuse_unknown_parameters(client, found)
        yield f"deployed  {', '.join(sorted(_names_of_deployments()))}" + ("" if changed else ": as they were")
        if alerts:
            automations.make_alerts_block(alerts)
        block = automations.find_alerts_block(client)
        wanted = [automations.mark_dead_runs(), *(automations.alerts(block) if block else [])]
        changes = [automations.put_automation(client, automation) for automation in wanted]
        yield "rules     dead runs become Crashed; a promoted model starts `score`" + ("" if any(changes) else ": as they were")
        if block:
            yield f"alerts    on crash, refusal and drift, through the notification block {automations.ALERTS_BLOCK}"
        else:
            yield f"alerts    none: set {_ALERTS} to a webhook's address, or make a notification block {automations.ALERTS_BLOCK} in the UI"


def _refuse_unknown_parameters(client: Any, deployment: Any) -> None:
    """Let the server refuse a parameter that there is not; by itself Prefect would start a run, which then fails for it."""
    from prefect.client.schemas.actions import DeploymentUpdate

    schema = deployment.parameter_openapi_schema or {}
    if schema.get("additionalProperties") is not False:
        client.update_deployment(deployment.id, DeploymentUpdate(parameter_openapi_schema={**schema, "additionalProperties": False}))


def cancel_runs(place: Place, say: Callable[[str], None]) -> None:
    """Cancel the runs under way that this machine's worker started, as they would go on without it; says which, and how many do not end."""
    import httpx

    def ask(path: str, body: dict[str, Any]) -> Any:
        return client.post(f"{place.url}/api/{path}", json=body).raise_for_status().json()

    def under_way(of: dict[str, Any]) -> list[dict[str, Any]]:
        found = ask("flow_runs/filter", {"flow_runs": of | {"tags": {"all_": ["sentiment"]}}, "work_pools": {"name": {"any_": [POOL]}}})
        return [run for run in found if place.is_own or (run["infrastructure_pid"] or "").startswith(f"{socket.gethostname()}:")]

    with httpx.Client(auth=given_login(), timeout=10, trust_env=not place.is_own) as client:
        runs = under_way({"state": {"type": {"any_": ["PENDING", "RUNNING"]}}})
        if not runs:
            return
        say(f"Stopping {', '.join(run['name'] for run in runs)}: finished steps are kept; triggered again, they go on from there.")
        for run in runs:
            ask(f"flow_runs/{run['id']}/set_state", {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": True})
        deadline = time.monotonic() + _CANCEL_SECONDS
        while (left := under_way({"state": {"type": {"any_": ["CANCELLING"]}}})) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
    if left:
        say(f"{len(left)} of {len(runs)} did not end within {_CANCEL_SECONDS:.0f} seconds: {', '.join(run['name'] for run in left)}.")


def _deploy() -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    try:
        done = subprocess.run(
            command, cwd=PROJECT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_DEPLOY_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise MachineError(f"Prefect did not deploy {_DEPLOYMENTS} within {_DEPLOY_SECONDS:.0f} seconds. Serve again.") from error
    if done.returncode:
        raise MachineError(f"Prefect could not deploy {_DEPLOYMENTS}:\n{(done.stderr or done.stdout)[-2000:]}")


def _names_of_deployments() -> set[str]:
    import yaml

    return {entry["name"] for entry in yaml.safe_load(_DEPLOYMENTS.read_text(encoding="utf-8"))["deployments"]}


def _version_of(place: Place) -> str:
    """Return a digest of all that deployments are made of, so that they are made again only when something has changed."""
    digest = hashlib.sha256("\0".join((str(PROJECT), str(place.root), str(place.inbox), place.source)).encode())
    for file in (_DEPLOYMENTS, *sorted((PROJECT / "flows").glob("*.py")), *sorted((PROJECT / "tasks").rglob("*.py"))):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def alerts_address(named: str | None) -> str | None:
    """Return the webhook's address that alerts go to: the option's, or the environment's, which companions are not told.

    Raises:
        CallerError: It is no address of the web. The message does not tell it, as who knows it may post there.
    """
    given = os.environ.pop(_ALERTS, None)
    address = named or given or None
    if address is None:
        return None
    try:
        parts = urlsplit(address)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_web = False
    if not is_web:
        raise CallerError(f"What {'--alerts' if named else _ALERTS} names is not a webhook's address. Expected http://… or https://….")
    return address


def _get(place: Place, path: str) -> Any:
    import httpx

    with httpx.Client(auth=given_login(), timeout=10, trust_env=not place.is_own) as client:
        return client.get(f"{place.url}/api/{path}")


def _answers(place: Place) -> bool:
    import httpx

    try:
        with httpx.Client(timeout=5, trust_env=not place.is_own) as client:
            return client.get(f"{place.url}/api/health").is_success
    except httpx.HTTPError:
        return False


@contextmanager
def _told_plainly(place: Place) -> Iterator[None]:
    """Name the remedy where the server refuses, fails or does not answer.

    Raises:
        CallerError: It asks for a login.
        MachineError: It answers something else, or nothing.
    """
    import httpx
    from prefect.exceptions import PrefectException

    try:
        yield
    except PipelineError:
        raise
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        if type(error) is RuntimeError and "Failed to reach API" not in str(error):
            raise
        cause = error.__cause__ if type(error) is RuntimeError else error
        status = cause.response.status_code if isinstance(cause, httpx.HTTPStatusError) else None
        if status == httpx.codes.UNAUTHORIZED:
            raise CallerError(f"The Prefect server at {place.url} asks for a login. {HOW_TO_LOG_IN}") from error
        answered = f"answered {status}" if status else f"did not do what it was asked ({type(cause).__name__})"
        log = f" Its log is {place.home / 'server.log'}." if place.is_own else ""
        raise MachineError(f"The Prefect server at {place.url} {answered}. Serve again when it is well.{log}") from error


class _AlreadyServedError(Exception):
    """Another process serves this folder, at the address that is the message."""


@contextmanager
def _only_one(home: Path, url: str) -> Iterator[None]:
    """Hold the folder's lock, which ends with this process.

    Raises:
        _AlreadyServedError: Another process holds it.
    """
    note = home / "serving.json"
    lock = FileLock(home / "serving.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _AlreadyServedError(json.loads(note.read_text(encoding="utf-8"))["url"] if note.is_file() else home) from None
    with atomic_file(note) as file:
        file.write(json.dumps({"url": url, "pid": os.getpid()}).encode())
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()
