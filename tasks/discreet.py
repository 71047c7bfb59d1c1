"""Errors that nobody foresaw: a library may quote a review in one, so Prefect and the terminal are told where it happened, and no more."""

import functools
import inspect
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from tasks.errors import PipelineError, UnexpectedError
from tasks.store import Store, atomic_file

P = ParamSpec("P")
R = TypeVar("R")

_PROJECT = Path(__file__).parents[1]
_TELL_NO_DATA = ("prefect", "httpx", "httpcore", "anyio", "optuna", "tasks", "flows", "distributed")


def discreet(step: Callable[P, R]) -> Callable[P, R]:
    """Let a task's unforeseen errors become one that holds no data; the whole story goes to a file in `errors`, for its owner alone.

    Errors of this project, of the system (which name files) and of Prefect pass: they are made to be read. Assertions speak of code.
    """

    @functools.wraps(step)
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return step(*arguments, **options)
        except (PipelineError, OSError, AssertionError):
            raise
        except Exception as error:
            if type(error).__module__.partition(".")[0] in _TELL_NO_DATA:
                raise
            store = inspect.signature(step).bind(*arguments, **options).arguments.get("store")
            told = _tell(step.__name__, error, store)
        raise told  # here, where the error is no longer the one that is handled, and therefore not told with it

    return call


def _tell(step: str, error: Exception, store: Store | None) -> UnexpectedError:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(_PROJECT)] or frames
    where = f"{Path(own[-1].filename).name}, line {own[-1].lineno}"
    more = ""
    if store is not None:
        place = store.root / "errors" / f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{step}.txt"
        with suppress(OSError, PipelineError), atomic_file(place) as file:
            file.write("".join(traceback.format_exception(error)).encode(errors="backslashreplace"))
            more = f" What it said may hold review text: it stands in {place}, which only you can read."
    return UnexpectedError(f"{step} met an error that nobody foresaw: {type(error).__name__} in {where}.{more} Please report it.")
