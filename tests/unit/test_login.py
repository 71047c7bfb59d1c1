from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, PREFECT_SERVER_API_AUTH_STRING, temporary_settings

from flows.lost_server import server_of_the_run
from flows.serving import HOST, Place
from tasks.errors import CallerError
from tasks.login import given_login, login_file, make_login

CHOSEN = "PREFECT_SERVER_API_AUTH_STRING"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """No login is set outside."""
    monkeypatch.delenv(CHOSEN, raising=False)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)


def mode_of(path: Path) -> int:
    """Return who may do what with a file."""
    return path.stat().st_mode & 0o777


def test_login_is_made_once(tmp_path: Path) -> None:
    """The first start makes a login that nobody can guess; later ones find it, and let its owner alone read it, whatever it was."""
    login = make_login(tmp_path)
    place = login_file(tmp_path)
    assert (mode_of(place), len(login) > 40, ":" in login) == (0o600, True, True)

    place.chmod(0o644)

    assert make_login(tmp_path) == login
    assert mode_of(place) == 0o600
    assert make_login(tmp_path / "another") != login


def test_chosen_login_stands_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user chooses replaces what was made before, also in the file that other commands read, and stays when no longer set."""
    make_login(tmp_path)
    login_file(tmp_path).chmod(0o644)
    monkeypatch.setenv(CHOSEN, "ada:pass:word")

    assert make_login(tmp_path) == login_file(tmp_path).read_text(encoding="utf-8") == "ada:pass:word"
    assert mode_of(login_file(tmp_path)) == 0o600
    monkeypatch.delenv(CHOSEN)
    assert make_login(tmp_path) == "ada:pass:word"


@pytest.mark.parametrize("wrong", ["secret", ":secret", "secret:", "adá:secret", "ada:secret\n", " ada:secret"])
def test_what_is_no_login_is_refused(wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A login without one of its parts, or with letters that clients send differently, is refused with the form, and not repeated."""
    monkeypatch.setenv(CHOSEN, wrong)

    with pytest.raises(CallerError, match=f"^{CHOSEN} is not a login. Expected user:password") as refused:
        make_login(tmp_path)

    assert "secret" not in str(refused.value)
    assert not login_file(tmp_path).exists()


def test_damaged_file_is_named(tmp_path: Path) -> None:
    """A login file that holds something else is not served with, but named."""
    login_file(tmp_path).write_bytes(b"\xff\xfe")
    with pytest.raises(CallerError, match="login is not a login"):
        make_login(tmp_path)


def test_server_and_clients_are_told_the_login(tmp_path: Path) -> None:
    """The server asks for the login that its own clients are given."""
    told = Place(tmp_path, tmp_path, f"http://{HOST}:9", is_own=True).environment("1")
    assert told[CHOSEN] == told["PREFECT_API_AUTH_STRING"] == login_file(tmp_path / "prefect").read_text(encoding="utf-8")


def test_given_login_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password are what stands before and after the first colon."""
    assert given_login() is None
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "ada:pass:word")
    assert given_login() == ("ada", "pass:word")


@pytest.mark.parametrize("server", [None, "ada:hers"])
def test_temporary_server_lets_its_own_client_in(server: str | None) -> None:
    """A login that was left exported does not keep the run from its temporary server: the client says what that server asks for."""
    exported = {PREFECT_API_AUTH_STRING: "ada:of another server", PREFECT_SERVER_API_AUTH_STRING: server}
    with temporary_settings(exported, restore_defaults={PREFECT_API_URL}), server_of_the_run() as replaced:
        assert (replaced, PREFECT_API_AUTH_STRING.value()) == (None, server)
