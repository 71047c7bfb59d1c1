"""Who may ask the server that `sentiment serve` keeps: whoever knows its login, which is made once and only its owner can read."""

import os
import secrets
from pathlib import Path

from tasks.errors import CallerError
from tasks.store import atomic_file

_USER = "sentiment"
_GIVEN = "PREFECT_API_AUTH_STRING"
_CHOSEN = "PREFECT_SERVER_API_AUTH_STRING"
HOW_TO_LOG_IN = (
    f"Give its login by {_GIVEN}; that of a server which `sentiment serve` keeps stands in its artifacts folder: "
    f'export {_GIVEN}="$(cat artifacts/prefect/login)".'
)


def login_file(home: Path) -> Path:
    """Return where the login of the server with this home is kept."""
    return home / "login"


def make_login(home: Path) -> str:
    """Return the server's login, `user:password`: what the user has set, or what was made when it was served first.

    The one in force stands in the login's file, which its owner alone can read.

    Raises:
        CallerError: What the user has set, or what stands in the file, is not of this form.
    """
    place = login_file(home)
    kept = place.read_text(encoding="utf-8", errors="replace").strip() if place.is_file() else ""
    if chosen := os.environ.get(_CHOSEN):
        login = _checked(chosen, _CHOSEN)
    else:
        login = _checked(kept, str(place)) if kept else f"{_USER}:{secrets.token_urlsafe(24)}"
    if login == kept:
        place.chmod(0o600)
    else:
        with atomic_file(place) as file:
            file.write(login.encode())
    return login


def _checked(login: str, where: str) -> str:
    """Return a login that every client can send, and a file can hold.

    Raises:
        CallerError: It is not of the form; the message does not tell it.
    """
    user, _, password = login.partition(":")
    if not (user and password and login.isascii() and login.isprintable() and login == login.strip()):
        raise CallerError(
            f"{where} is not a login. Expected user:password, both not empty, in printable ASCII, without spaces around it. "
            "Set another, or unset the variable and remove the file to have one made."
        )
    return login


def login_environment(login: str) -> dict[str, str]:
    """Return what a server is told that asks for this login, and the programs that ask it."""
    return {_CHOSEN: login, _GIVEN: login}


def given_login() -> tuple[str, str] | None:
    """Return user and password as httpx takes them; None where no login is set."""
    user, colon, password = os.environ.get(_GIVEN, "").partition(":")
    return (user, password) if colon else None
