"""What changed between two sets of named values, in words."""

from collections.abc import Mapping
from typing import Any

from tasks.dotted import flat_settings

_LONGEST_SHOWN = 40


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the values that differ, by dotted name in alphabetical order, before and after; None where there is none.

    >>> changed({"model": {"epochs": 1, "units": 4}}, {"model": {"epochs": 2, "units": 4}})
    {'model.epochs': (1, 2)}
    """
    old, new = flat_settings(before), flat_settings(after)
    return {name: (old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)}


def show_change(before: Any, after: Any) -> str:
    """Return both values, shortened, with an arrow between them.

    >>> show_change(1, None)
    '1 → absent'
    """
    return f"{_short(before)} → {_short(after)}"


def _short(value: Any) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "…"
