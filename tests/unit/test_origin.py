import json
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.errors import MachineError
from tasks.model.origin import Machine, Origin, StepOrigin, origin_changes, read_origin

MACHINE = Machine("Linux x86_64", "3.11.7", "Some Processor", ("AVX2",), 2, ("openblas 0.3.31 Haswell",))
INGEST = StepOrigin(
    {"0:a.csv": "a" * 64, "1:b.csv": "b" * 64}, {"text_column": None}, {"tasks.ingest": "1" * 64}, {"pyarrow": "26.0.1"}, "c" * 64
)
TRAIN = StepOrigin(
    {"split": "d" * 64},
    {"model": {"epochs": 3}, "machine": "x86_64", "threads": 2},
    {"tasks.train": "2" * 64, "tasks.ingest": "1" * 64},
    {"keras": "3.15.1", "pyarrow": "26.0.1"},
    None,
)
ORIGIN = Origin({"ingest": INGEST, "train": TRAIN}, None, MACHINE)


def with_steps(**steps: StepOrigin) -> Origin:
    """Return ORIGIN with other steps."""
    return replace(ORIGIN, steps=ORIGIN.steps | steps)


def test_origin_survives_its_file(tmp_path: Path) -> None:
    """What `to_json` returns is read back as it was."""
    (tmp_path / "origin.json").write_text(json.dumps(ORIGIN.to_json()), encoding="utf-8")

    assert read_origin(tmp_path) == ORIGIN
    assert read_origin(tmp_path).sources("ingest") == {"a.csv": "a" * 64, "b.csv": "b" * 64}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"steps": {"ingest": 3}}'])
def test_origin_that_says_nothing_is_told(tmp_path: Path, text: str) -> None:
    """A bundle without its origin, or with another's, ends in one sentence that names the bundle."""
    with pytest.raises(MachineError, match=f"{tmp_path.name} does not tell what it was made of: an earlier version"):
        read_origin(tmp_path)
    (tmp_path / "origin.json").write_text(text, encoding="utf-8")
    with pytest.raises(MachineError, match=f"{tmp_path.name} does not tell what it was made of in a form"):
        read_origin(tmp_path)


def test_equal_origins_do_not_differ() -> None:
    """Nothing is named where nothing changed."""
    assert not origin_changes(ORIGIN, ORIGIN).any()


def test_every_kind_of_change_is_named() -> None:
    """Each difference stands under its kind once, with what it was and is; the machine's under processor only."""
    other = Origin(
        {
            "ingest": replace(INGEST, inputs={"0:a.csv": "a" * 64, "1:b.csv": "9" * 64}, settings={"text_column": "body"}),
            "train": replace(
                TRAIN,
                settings={"model": {"epochs": 4}, "machine": "arm64", "threads": 8},
                modules={"tasks.train": "3" * 64, "tasks.ingest": "1" * 64},
                libraries={"keras": "3.15.2", "pyarrow": "26.0.1"},
            ),
        },
        None,
        replace(MACHINE, system="Linux arm64", python="3.12.1", vector_units=("NEON", "SVE"), threads=8),
    )

    changes = origin_changes(ORIGIN, other)

    assert changes.data == ("b.csv: SHA-256 bbbbbbbbbbbb → 999999999999",)
    assert changes.code == ("tasks.train",)
    assert changes.settings == ("ingest.text_column: absent → body", "train.model.epochs: 3 → 4")
    assert changes.libraries == ("Python: 3.11.7 → 3.12.1", "keras: 3.15.1 → 3.15.2")
    assert changes.processor == ("system: Linux x86_64 → Linux arm64", "threads: 2 → 8", "vector units: AVX2 → NEON, SVE")


def test_sources_may_have_moved() -> None:
    """The same content under another name is no change; other rows made of the same input are."""
    renamed = replace(INGEST, inputs={"0:x.csv": "a" * 64, "1:y.csv": "b" * 64}, sha256="e" * 64)
    assert not origin_changes(ORIGIN, with_steps(ingest=renamed)).any()

    unstable = replace(INGEST, sha256="e" * 64)
    assert origin_changes(ORIGIN, with_steps(ingest=unstable)).data == ("ingest made other rows of the same input",)
