import json
from pathlib import Path
from typing import Any

import pytest

from flows.settings import built_in_settings, compose_settings, root_of
from tasks.errors import CallerError
from tasks.preset_file import PresetFile, write_preset


def write(path: Path, **content: Any) -> str:
    """Write a preset file by hand; return its path as a command gives it."""
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def test_preset_written_is_the_preset_read(tmp_path: Path) -> None:
    """A preset file gives the settings of its base with the named ones changed, under its own name; provenance changes nothing."""
    changes = {"model.units": 64, "model.learning_rate": 0.0021, "linear": None, "split.seed": 3}
    place = tmp_path / "folder" / "best.json"

    write_preset(place, PresetFile(name="mine-t3", based_on="quick", settings=changes, provenance={"trial": 3}))

    expected = compose_settings("quick", list(changes.items())).model_copy(update={"preset": "mine-t3"})
    assert compose_settings(str(place), []) == expected
    assert compose_settings(str(place), [("model.units", 8)]).model.units == 8
    assert root_of(str(place)) == "quick"


def test_preset_written_by_hand(tmp_path: Path) -> None:
    """Two lines are a preset file; it is called as its file is."""
    preset = write(tmp_path / "longer.json", based_on="default", settings={"model.epochs": 5})

    settings = compose_settings(preset, [])

    assert settings.preset == "longer"
    assert settings.model == built_in_settings("default").model.model_copy(update={"epochs": 5})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            {"based_on": "default", "settings": {"model.unit": 3}},
            "There is no setting 'model.unit': 'unit' is unknown. Known here: network",
        ),
        ({"based_on": "default", "settings": {"model.units": 0}}, "model.units: Input should be greater"),
        ({"based_on": "default", "settings": {"preset": "best"}}, "named with --preset"),
        ({"based_on": "best", "settings": {}}, "based_on: Input should be 'default', 'tutorial' or 'quick'"),
        ({"based_on": "default", "settings": {}, "setings": {}}, "setings: Extra inputs"),
        ({"based_on": "default", "settings": {}, "name": "a/../b"}, "name: String should match"),
        ({"based_on": "default", "settings": {}, "name": "tutorial"}, "a name of its own"),
        ({"based_on": "default", "settings": {}, "format": 2}, "format: Input should be 1"),
        ([1], "Input should be a valid dictionary"),
    ],
    ids=str,
)
def test_what_is_no_preset_file_is_refused(tmp_path: Path, content: Any, told: str) -> None:
    """A file that does not fit is refused with its name and what is wrong."""
    place = tmp_path / "best.json"
    place.write_text(json.dumps(content), encoding="utf-8")

    with pytest.raises(CallerError) as caught:
        compose_settings(str(place), [])

    assert told in str(caught.value)
    assert "best.json" in str(caught.value)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    """A file of something else is told apart from a name that nobody knows; both messages say what is expected."""
    (tmp_path / "best.json").write_bytes(b"\xff\xfe epochs: 3")

    with pytest.raises(CallerError, match=r"is not a preset file.*Expected JSON such as"):
        compose_settings(str(tmp_path / "best.json"), [])
    with pytest.raises(CallerError, match=r"There is no preset 'defualt'. Expected default, tutorial, quick, or the path"):
        compose_settings("defualt", [])
