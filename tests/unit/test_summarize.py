import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from summary_example import draw_tally, example_summary

from tasks.model.profile import FORMAT
from tasks.store import Store
from tasks.summarize import collect_summary, write_summary


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An artifacts folder with what the summary reads of a bundle."""
    folder = tmp_path / "models" / "m-1"
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps({"trained_on": {"preset": "quick", "sample": False}}), encoding="utf-8")
    (folder / "profile.json").write_text(json.dumps({"format": FORMAT, "tally": draw_tally(4000, 0)}), encoding="utf-8")
    return Store(tmp_path)


def _file(seed: int, trained_on: int = 0, **changes: float) -> Any:
    looks = draw_tally(2500, seed, **changes)
    seen = {"looked_up": 50, "trained_on": trained_on}
    facts = {"status": {"ok": 2500}, "predicted": looks["predicted"], "looks": looks, "seen": seen, "undated": 3}
    return SimpleNamespace(source=f"{seed}.csv", rows=2501, scored=2500, quarantined=1, facts=facts)


def test_the_summary_is_of_all_files(store: Store) -> None:
    """Counts, drift and the share of training rows are those of all files together; each file keeps its own counts."""
    facts = collect_summary("m-1", [_file(1, german=0.4), _file(2)], {"c.csv": "It is empty."}, store)
    assert (facts.preset, facts.sample, facts.undated, dict(facts.failed)) == ("quick", False, 6, {"c.csv": "It is empty."})
    assert [(file.source, file.rows, file.quarantined, file.status) for file in facts.files] == [
        ("1.csv", 2501, 1, {"ok": 2500}),
        ("2.csv", 2501, 1, {"ok": 2500}),
    ]
    assert sum(facts.predicted.values()) == 5000
    assert facts.drift is not None
    assert (facts.drift.rows, facts.drift.verdict) == (5000, "drifted")
    assert "language" in {feature.name for feature in facts.drift.drifted}
    half = collect_summary("m-1", [_file(1, trained_on=50), _file(2)], {}, store)
    assert half.drift is not None and half.drift.seen_share == 0.5


def test_a_bundle_of_an_earlier_version_is_not_compared(store: Store) -> None:
    """A profile that counts otherwise, or none of the files' rows counted, leaves the comparison out and nothing else."""
    assert collect_summary("m-1", [], {"a.csv": "why"}, store).drift is None
    (store.root / "models" / "m-1" / "profile.json").write_text(json.dumps({"rows": 4000}), encoding="utf-8")
    facts = collect_summary("m-1", [_file(1)], {}, store)
    assert facts.drift is None
    assert sum(facts.predicted.values()) == 2500


def test_a_summary_that_stands_is_left(tmp_path: Path) -> None:
    """Equal facts are not told twice; other facts replace the page, and the pictures of what has drifted come first."""
    place = tmp_path / "scores" / "summary.html"
    figures = write_summary(example_summary(), place)
    assert figures is not None
    assert list(figures)[-2:] == ["drift-length", "labels-over-time"]
    first = place.read_bytes()
    assert write_summary(example_summary(), place) is None
    assert place.read_bytes() == first
    assert write_summary(example_summary("other"), place) is not None
    assert place.read_bytes() != first
    assert write_summary(example_summary(), place) is not None
    assert place.read_bytes() == first
