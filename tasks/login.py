"""Who may ask the server that `sentiment serve` keeps: whoever knows its login, which is made once and only its owner can read."""

import os
import secrets
from pathlib import Path

from tasks.store import atomic_file

_USER = "sentiment"
_GIVEN = "PREFECT_API_AUTH_STRING"
HOW_TO_LOG_IN = (
    f"Give its login by {_GIVEN}; that of a server which `sentiment serve` keeps stands in its artifacts folder: "
    f'export {_GIVEN}="$(cat artifacts/prefect/login)".'
)


def login_file(home: Path) -> Path:
    """Return where the login of the server with this home is kept."""
    return home / "login"


def make_login(home: Path) -> str:
    """Return the server's login, `user:password`: what the user has set, or what was made when it was served first."""
    place = login_file(home)
    if given := os.environ.get("PREFECT_SERVER_API_AUTH_STRING"):
        return given
    if place.is_file() and (kept := place.read_text(encoding="utf-8").strip()):
        place.chmod(0o600)
        return kept
    login = f"{_USER}:{secrets.token_urlsafe(24)}"
    with atomic_file(place) as file:
        file.write(login.encode())
    return login


def login_environment(login: str) -> dict[str, str]:
    """Return what a server is told that asks for this login, and the programs that ask it."""
    return {"PREFECT_SERVER_API_AUTH_STRING": login, _GIVEN: login}


def given_login() -> tuple[str, str] | None:
    """Return user and password as httpx takes them; None where no login is set."""
    user, colon, password = os.environ.get(_GIVEN, "").partition(":")
    return (user, password) if colon else None
