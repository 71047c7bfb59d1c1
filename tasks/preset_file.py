"""Presets as files: settings by dotted name, and where they come from.

JSON, because its values are those that `--set` reads, it knows null (TOML does not), and Python both reads and writes it.
"""

import json
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field, ValidationError

from tasks.dotted import told_problems
from tasks.errors import CallerError
from tasks.json_text import parse_json
from tasks.store import atomic_file

BuiltIn = Literal["default", "tutorial", "quick"]
BUILT_IN: tuple[str, ...] = get_args(BuiltIn)
_NAME = r"^[\w][\w.-]{0,79}$"


class PresetFile(BaseModel, frozen=True, extra="forbid"):
    """What a preset file says."""

    format: Literal[1] = 1
    name: str = Field("", pattern=rf"^$|{_NAME}", description="what reports call it; the file's own name if not given")
    based_on: BuiltIn = Field(description="the built-in preset that has all settings not named here")
    settings: dict[str, Any] = Field(description='by dotted name, as --set takes them, such as {"model.epochs": 8}')
    provenance: dict[str, Any] = Field({}, description="how the settings were found, for people; changes nothing")


def read_preset(path: Path) -> PresetFile:
    """Read a preset file.

    Raises:
        CallerError: It is not one; the message says what is wrong and how one looks.
    """
    try:
        file = PresetFile.model_validate(parse_json(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problem = told_problems(error)
    except (OSError, ValueError) as error:
        problem = str(error)
    else:
        return file if file.name else file.model_copy(update={"name": path.stem})
    raise CallerError(
        f"{path} is not a preset file: {problem}. "
        'Expected JSON such as {"based_on": "default", "settings": {"model.epochs": 8}}, or what `sentiment tune` wrote.'
    )


def write_preset(path: Path, preset: PresetFile) -> None:
    """Write a preset file that people can read; it appears whole or not at all."""
    with atomic_file(path) as file:
        file.write((json.dumps(preset.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())
