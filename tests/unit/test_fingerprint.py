import hashlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tasks import fingerprint
from tasks.fingerprint import canonical_json, library_versions, module_digests, sha256_of_file, sha256_of_json
from tasks.store import Recipe

RECIPE = Recipe("clean", {"ingest": "ab" * 32}, {"rules": "default", "share": 0.1}, {"tasks.clean": "cd" * 32}, {"pyarrow": "26.0.1"})
SOURCES = {
    "house/__init__.py": "",
    "house/step.py": '''
"""A step."""
import json
from house.rooms import kitchen
SHARE = 0.1
def cook(eggs):
    """Cook."""
    from house.cellar import fetch
    return kitchen.fry(fetch(eggs)) * SHARE
''',
    "house/rooms/__init__.py": "WINDOWS = 2\n",
    "house/rooms/kitchen.py": "import house.tools.knife\ndef fry(eggs):\n    return [egg * 2 for egg in eggs]\n",
    "house/tools/__init__.py": "",
    "house/tools/knife.py": "from house.step import SHARE\nSHARP = True\nclass Knife:\n    '''Cuts.'''\n    length = 3\n",
    "house/cellar.py": "def fetch(eggs):\n    return sorted(eggs)\n",
    "house/attic.py": "from house.step import cook\n",
}
USED = ["house.cellar", "house.rooms", "house.rooms.kitchen", "house.step", "house.tools.knife"]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a few small modules in place of this one."""
    for name, source in SOURCES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    monkeypatch.setattr(fingerprint, "_ROOT", tmp_path)
    monkeypatch.setattr(fingerprint, "_PROJECT", "house")
    return tmp_path


def _digests() -> dict[str, str]:
    found: dict[str, str] = module_digests.__wrapped__("house.step")
    return found


def _edit(path: Path, old: str, new: str) -> None:
    source = path.read_text(encoding="utf-8")
    assert old in source
    path.write_text(source.replace(old, new), encoding="utf-8")


def test_every_module_a_step_uses_counts(house: Path) -> None:
    """However deep, in a circle, inside a function or as part of a package; libraries and modules it does not use do not."""
    assert list(_digests()) == USED


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("step.py", "SHARE = 0.1", "SHARE = 0.1  # of the eggs\n\n"),
        ("step.py", '"""A step."""', '"""A step that\n\nis described at length."""'),
        ("step.py", '    """Cook."""\n', ""),
        ("rooms/kitchen.py", "[egg * 2 for egg in eggs]", "[\n        egg*2  for egg in eggs\n    ]"),
        ("tools/knife.py", "'''Cuts.'''", '"Cuts well."'),
        ("attic.py", "from", "# moved\nfrom"),
        ("attic.py", "import cook", "import SHARE"),
    ],
)
def test_words_about_the_code_do_not_count(house: Path, name: str, old: str, new: str) -> None:
    """Comments, docstrings, layout and modules that the step does not use change nothing."""
    before = _digests()
    _edit(house / "house" / name, old, new)
    assert _digests() == before


@pytest.mark.parametrize(
    ("name", "old", "new", "module"),
    [
        ("step.py", "SHARE = 0.1", "SHARE = 0.2", "house.step"),
        ("rooms/kitchen.py", "egg * 2", "egg * 3", "house.rooms.kitchen"),
        ("rooms/__init__.py", "WINDOWS = 2", "WINDOWS = 3", "house.rooms"),
        ("cellar.py", "sorted(eggs)", "list(eggs)", "house.cellar"),
        ("tools/knife.py", "length = 3", "length = 4", "house.tools.knife"),
        ("tools/knife.py", "SHARP = True", "SHARP = '''True'''", "house.tools.knife"),
    ],
)
def test_an_edit_of_the_code_counts(house: Path, name: str, old: str, new: str, module: str) -> None:
    """A constant, an expression or a default, in the step or in anything it uses, changes that module's digest and no other."""
    before = _digests()
    _edit(house / "house" / name, old, new)
    after = _digests()
    assert {name for name in USED if before[name] != after[name]} == {module}


def test_a_new_import_counts(house: Path) -> None:
    """A module that a step begins to use is among its modules from then on."""
    _edit(house / "house" / "cellar.py", "def fetch", "from house import attic\ndef fetch")
    assert set(_digests()) == {*USED, "house.attic"} | {"house"}


@pytest.mark.parametrize(
    ("module", "uses", "does_not_use"),
    [
        (
            "tasks.clean",
            {"tasks.clean", "tasks.reviews.text", "tasks.store", "tasks.tables"},
            {"tasks.ingest", "tasks.reviews.readers", "tasks.train"},
        ),
        (
            "tasks.ingest",
            {"tasks.reviews.sources", "tasks.reviews.grammar", "tasks.reviews.delimited"},
            {"tasks.reviews.text", "tasks.split"},
        ),
        ("tasks.split", {"tasks.reviews.text"}, {"tasks.clean", "tasks.model.linear"}),
        (
            "tasks.train",
            {"tasks.model.lstm", "tasks.model.layers", "tasks.model.vocabulary"},
            {"tasks.figures", "tasks.evaluate", "tasks.ingest"},
        ),
    ],
)
def test_the_steps_own_modules(module: str, uses: set[str], does_not_use: set[str]) -> None:
    """An edited kernel reruns the steps that use it; what a later step uses reruns no earlier one."""
    digests = module_digests(module)
    assert uses <= set(digests) and not does_not_use & set(digests)
    assert not any(name.startswith("flows") for name in digests)


def test_files_are_hashed_whole(tmp_path: Path) -> None:
    """SHA-256 as hashlib computes it, of an empty file too and of one larger than any buffer."""
    for content in (b"", b"abc", bytes(3_000_001)):
        (tmp_path / "file").write_bytes(content)
        assert sha256_of_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_equal_settings_have_one_json() -> None:
    """Order of entries and kind of sequence do not count, values and their kind do; NaN has no JSON."""
    assert canonical_json({"b": (1, 2), "a": "é"}) == canonical_json({"a": "é", "b": [1, 2]}) == '{"a":"é","b":[1,2]}'
    assert len({sha256_of_json(value) for value in (1, 1.5, "1", True, None, [1], {"1": 1})}) == 7
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


@pytest.mark.parametrize("order", [sorted, lambda names: sorted(names, reverse=True)])
def test_versions_are_the_installed_ones(order: Callable[[list[str]], list[str]]) -> None:
    """Of the libraries named, in one order whatever order they are named in."""
    versions = library_versions(order(["pyarrow", "numpy"]))
    assert list(versions.items()) == [(name, importlib.metadata.version(name)) for name in ("numpy", "pyarrow")]


def test_every_part_of_a_recipe_counts() -> None:
    """Another step, input, setting, module, library or format is another key; the order of entries is not."""
    changed: list[dict[str, Any]] = [
        {"step": "tokenize"},
        {"inputs": {"ingest": "00" * 32}},
        {"inputs": {"other": "ab" * 32}},
        {"settings": {**RECIPE.settings, "share": 0.2}},
        {"modules": {"tasks.clean": "00" * 32}},
        {"libraries": {"pyarrow": "26.0.2"}},
        {"format": 2},
    ]
    keys = {replace(RECIPE, **change).key for change in changed} | {RECIPE.key}
    assert len(keys) == len(changed) + 1 and all(len(key) == 64 for key in keys)
    assert replace(RECIPE, settings=dict(reversed(RECIPE.settings.items()))).key == RECIPE.key


def test_a_recipe_takes_settings_code_and_versions() -> None:
    """`Recipe.of` writes settings out in full, defaults too, and looks code and versions up by name."""

    class Settings(BaseModel):
        share: float = 0.1
        words: tuple[str, ...] = ("not",)

    recipe = Recipe.of("clean", "tasks.errors", {"ingest": "00"}, Settings(), ("pydantic",))
    assert recipe.settings == {"share": 0.1, "words": ["not"]}
    assert list(recipe.modules) == ["tasks.errors"] and list(recipe.libraries) == ["pydantic"]
    assert recipe == Recipe.of("clean", "tasks.errors", {"ingest": "00"}, {"share": 0.1, "words": ["not"]}, ("pydantic",))
