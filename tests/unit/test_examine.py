import json
import os
import socket
import sqlite3
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread

import pytest
import tiny

from flows.__main__ import main
from tasks import examine
from tasks.store import Store

LOCK = tiny.PROJECT / "requirements.lock"


def test_python_out_of_range() -> None:
    """A Python that the project does not run on is a problem, with the versions that will do."""
    assert examine.examine_python((3, 12)).verdict == "ok"
    found = examine.examine_python((3, 10))
    assert (found.verdict, "3.11" in found.remedy) == ("problem", True)


def test_packages_against_the_lock(tmp_path: Path) -> None:
    """A package of another version, or missing, is named with what the lock says; one for another platform is not asked for."""
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        f"numpy=={version('numpy')} \\\n    --hash=sha256:00\npyarrow==1.0 \\\n    --hash=sha256:00\n"
        "no-such-package==2.0 \\\n    --hash=sha256:00\nonly-there==1.0 ; sys_platform == 'nowhere' \\\n    --hash=sha256:00\n",
        encoding="utf-8",
    )

    found = examine.examine_packages(lock)

    assert found.verdict == "warning"
    assert found.found == f"pyarrow {version('pyarrow')} instead of 1.0; no-such-package missing instead of 2.0"
    assert "pip install -r requirements.lock" in found.remedy


def test_the_whole_lock_is_read() -> None:
    """Every package of the project's own lock that is for this platform is compared."""
    assert len(LOCK.read_text(encoding="utf-8").split("\n    --hash")) > 100
    told = examine.examine_packages(LOCK)
    assert told.verdict == "ok" or "instead of" in told.found


@pytest.mark.parametrize(
    ("free", "verdict"), [(100_000_000, "problem"), (1_000_000_000, "warning"), (50_000_000_000, "ok")], ids=["full", "narrow", "wide"]
)
def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, verdict: str) -> None:
    """Little space is something to look at, too little a problem; a folder that is not there yet is judged by the one above."""
    monkeypatch.setattr("shutil.disk_usage", lambda place: type("Usage", (), {"free": free}))

    found = examine.examine_disk(tmp_path / "not" / "yet")

    assert (found.verdict, str(tmp_path) in found.found) == (verdict, True)
    assert bool(found.remedy) == (verdict != "ok")


class _Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(b'"0.0.1"')

    def do_POST(self) -> None:
        self._answer(b"0")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_prefect_server(tmp_path: Path) -> None:
    """A server that does not answer is a problem; one of another version is something to look at."""
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/api"

    other = examine.examine_prefect(url, tmp_path)
    server.shutdown()
    server.server_close()
    gone = examine.examine_prefect(url, tmp_path)

    assert (other.verdict, "0.0.1" in other.found) == ("warning", True)
    assert (gone.verdict, "unset PREFECT_API_URL" in gone.remedy) == ("problem", True)


def test_prefect_database(tmp_path: Path) -> None:
    """Without a server, the temporary one's database is looked at, and a damaged one is a problem whose remedy costs no result."""
    assert examine.examine_prefect(None, tmp_path).verdict == "ok"
    database = tmp_path / "prefect.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE run (name TEXT)")
    connection.close()
    sound = examine.examine_prefect(None, tmp_path)
    database.write_bytes(b"not a database" * 1000)
    damaged = examine.examine_prefect(None, tmp_path)

    assert sound.verdict == "ok" and "sound" in sound.found
    assert damaged.verdict == "problem" and "Move that file away" in damaged.remedy


def test_port(tmp_path: Path) -> None:
    """A port that another program has is something to look at."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert examine.examine_port(other.getsockname()[1], tmp_path).verdict == "warning"
    assert examine.examine_port(other_port := 1, tmp_path).verdict == "ok", other_port


def test_locks_and_leftovers(tmp_path: Path) -> None:
    """A lock that is held is named; one whose run has ended is none. What killed runs left is counted, with the command that removes it."""
    store = Store(tmp_path)
    with store.lock("train-12", "training"):
        held = examine.examine_locks(store)
    free = examine.examine_locks(store)
    draft = tmp_path / "tmp" / "999999999-dead"
    draft.mkdir(parents=True)
    (draft / "000").write_bytes(b"x" * 10)

    assert (held.verdict, "train-12" in held.found) == ("warning", True)
    assert free.verdict == "ok"
    assert examine.examine_leftovers(store).remedy == "sentiment gc --delete"
    (tmp_path / "set_aside").mkdir()
    (tmp_path / "set_aside" / "clean-1.parquet").write_bytes(b"x" * 2_000_000)
    found = examine.examine_leftovers(store).found
    assert found == "1 files of killed runs, 0.0 MB; 1 damaged files, set aside, 2.0 MB"


def test_doctor_ends_with_4_where_something_is_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sentiment doctor` prints every finding with its remedy, and its exit code says whether anything is in the way."""
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    words = ["doctor", "--artifacts", str(tmp_path / "none"), "--json"]
    well = main(words)
    summary = json.loads(capsys.readouterr().out)
    (tmp_path / "prefect.db").write_bytes(b"not a database" * 1000)
    ill = main(words)

    assert (well, ill) == (0, 4)
    assert {finding["matter"] for finding in summary["findings"]} >= {"python", "packages", "disk", "prefect", "port"}
    assert "→ Move that file away" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="reads /proc")
def test_machine_is_told() -> None:
    """Processor and memory are told, whatever they are."""
    assert "cores" in examine.examine_processor().found
    assert examine.examine_memory().found
