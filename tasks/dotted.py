"""Settings by dotted name, such as `model.epochs`: change some, list all, look one up."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tasks.errors import CallerError

Settings = TypeVar("Settings", bound=BaseModel)


def change_settings(settings: Settings, changes: Iterable[tuple[str, Any]]) -> Settings:
    """Return settings with some of them changed, all checked again.

    Args:
        settings: A frozen model of nested groups.
        changes: Pairs of a dotted name and a plain value, such as ("model.epochs", 8).

    Raises:
        CallerError: A name is unknown or a value does not fit; the message lists what there is.
    """
    changes = list(changes)
    plain = settings.model_dump(mode="json")
    for name, value in changes:
        group, *path = plain, *name.split(".")
        for part in path[:-1]:
            group = _entry(group, part, name)
        _entry(group, path[-1], name)
        group[path[-1]] = value
    try:
        changed = type(settings).model_validate(plain)
    except ValidationError as error:
        given = ", ".join(f"{name}={value}" for name, value in changes)
        raise CallerError(f"A setting does not fit: {told_problems(error)}. Given: {given}.") from None
    for name, value in flat_settings(changed.model_dump()).items():
        if isinstance(value, float) and not math.isfinite(value):  # nothing is above or below NaN, so it would switch rules off unsaid
            raise CallerError(f"A setting does not fit: {name} is {value}. Expected a finite number.")
    _check_text(changed.model_dump(), changes)
    return changed


def _check_text(plain: Any, changes: Iterable[tuple[str, Any]]) -> None:
    """Refuse text that cannot be written down: a word on the command line that is not in the terminal's encoding."""
    try:
        json.dumps(plain, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        names = ", ".join(name.encode(errors="replace").decode() for name, _ in changes)
        raise CallerError(f"A setting does not fit: its text is not UTF-8. Given: {names}.") from None


def told_problems(error: ValidationError) -> str:
    """Return what does not fit where, in a line."""
    found = []
    for problem in error.errors():
        message = problem["msg"].removeprefix("Value error, ").removesuffix(".")
        found.append((".".join(map(str, problem["loc"])) or "the whole", message))
    return "; ".join(f"{place}: {message}" for place, message in found)


def flat_settings(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name; an empty group has none.

    >>> flat_settings({"seed": 0, "model": {"epochs": 3}, "linear": None})
    {'seed': 0, 'model.epochs': 3, 'linear': None}
    """
    flat: dict[str, Any] = {}
    for name, value in plain.items():
        flat |= flat_settings(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def value_of(settings: BaseModel, name: str) -> Any:
    """Return a setting's value; None too where its group is off."""
    value: Any = settings
    for part in name.split("."):
        value = None if value is None else getattr(value, part)
    return value


def field_of(settings: type[BaseModel], name: str) -> FieldInfo:
    """Return what a setting is declared as: its type, bounds and description.

    Raises:
        CallerError: There is no such setting.
    """
    *path, last = name.split(".")
    for part in path:
        field: FieldInfo = _entry(settings.model_fields, part, name)
        annotations = (field.annotation, *get_args(field.annotation))  # of `LinearSettings | None` the model
        settings = next((kind for kind in annotations if isinstance(kind, type) and issubclass(kind, BaseModel)), BaseModel)
    found: FieldInfo = _entry(settings.model_fields, last, name)
    return found


def _entry(group: Any, part: str, name: str) -> Any:
    if not isinstance(group, dict) or part not in group:
        known = ", ".join(group) if isinstance(group, dict) else "none below it"
        raise CallerError(f"There is no setting {name!r}: {part!r} is unknown. Known here: {known}.")
    return group[part]
