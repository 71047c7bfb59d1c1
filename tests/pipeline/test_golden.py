"""The golden test set: kept apart from training, evaluated by every run, and asked about by the gate."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import tiny
from conftest import Command

from tasks.store import Store
from tasks.upkeep import find_garbage, verify_store

REPEATED, NEW = 12, 28  # golden reviews that stand in the training file too, shouting there, and new ones


def write_golden(path: Path, *more: list[str]) -> Path:
    """Write a golden test set; the first rows repeat reviews of the tiny run."""
    rows = [tiny.write_row(number) for number in [*range(REPEATED), *range(5000, 5000 + NEW)]]
    return tiny.write_reviews(path, [*([row[0], row[1].upper(), *row[2:]] for row in rows), *more])


@pytest.fixture(scope="module")
def golden(trained: tiny.Trained, tmp_path_factory: pytest.TempPathFactory) -> tiny.Trained:
    """A run with a golden test set, in the tiny run's folder."""
    folder = tmp_path_factory.mktemp("golden")
    root = shutil.copytree(trained.root, folder / "artifacts")
    return tiny.Trained(root, trained.reviews, tiny.train(root, trained.reviews, golden_test=write_golden(folder / "golden.csv")))


def test_golden_texts_take_no_part(trained: tiny.Trained, golden: tiny.Trained) -> None:
    """No text of the golden set, however it is written, is in the split; the rest of the reviews is, and what was left out is counted."""
    kept = {trained.root / "split" / path.name for path in (golden.root / "split").glob("*.parquet") if "left_out" not in path.name} - set(
        (trained.root / "split").glob("*")
    )
    (name,) = (path.name for path in kept)
    ids = set(pq.read_table(golden.root / "split" / name, columns=["review_id"])["review_id"].to_pylist())
    (record,) = (record for record in Store(golden.root).records("split") if "golden" in record.recipe.inputs)

    assert not ids & {f"r{number}" for number in range(REPEATED)}
    assert ids >= {f"r{number}" for number in range(REPEATED, 380)}
    assert record.facts["in_golden"] == REPEATED + sum(number < REPEATED for number in tiny.REPEATED)
    assert record.rows + record.facts["in_golden"] + record.facts["left_out"] == trained.summary["steps"]["tokenize"]["rows"]
    page = Path(golden.summary["report"]).read_text(encoding="utf-8")
    assert "they repeat a review of the golden test set" in page
    assert f"On the golden test set, {REPEATED + NEW} reviews kept apart" in page


def test_every_run_is_evaluated_on_it(golden: tiny.Trained) -> None:
    """The summary tells accuracy and rows of the golden set, and the gate has a rule for it, held against the champion's scores."""
    (rule,) = (rule for rule in golden.summary["rules"] if rule["rule"] == "golden test set")

    assert golden.summary["golden"]["rows"] == REPEATED + NEW
    assert f"of {REPEATED + NEW} golden reviews" in rule["words"]
    assert NEW <= rule["numbers"]["rows"] < NEW + REPEATED  # those that the champion was trained on do not count
    assert golden.summary["golden"]["accuracy"] == rule["numbers"]["accuracy"]


def test_again_with_it_is_unchanged(golden: tiny.Trained, tmp_path: Path) -> None:
    """The same run with the same golden set, from another place, reuses every step; its artifacts are verified and never garbage."""
    root = shutil.copytree(golden.root, tmp_path / "artifacts")

    again = tiny.train(root, golden.reviews, golden_test=write_golden(tmp_path / "golden.csv"))

    assert again["status"] == "unchanged"
    assert tiny.steps_that_ran(again) == []
    assert "golden" in again["steps"]
    assert verify_store(Store(root))[1] == []
    assert not [finding for finding in find_garbage(Store(root)) if finding.path.startswith("golden")]


def test_a_golden_set_has_to_be_whole(trained: tiny.Trained, artifacts: Path, sentiment: Callable[..., Command], tmp_path: Path) -> None:
    """One row that cannot be used stops the run before it trains: exit code 3, with the row's reason."""
    path = write_golden(tmp_path / "golden.csv", ["g1", "A fine film.", "meh", "Leeds"])

    result = sentiment(*tiny.command_line(trained.reviews), "--golden-test", path, "--artifacts", artifacts)

    assert result.exit_code == 3
    assert "unknown sentiment 'meh' (first in golden.csv, row 41)" in result.stderr


def test_why_counts_it(golden: tiny.Trained, sentiment: Callable[..., Command], tmp_path: Path) -> None:
    """`sentiment why train` with the golden set finds every step cached; with another set, what stands on it would run."""
    words = ["why", *tiny.command_line(golden.reviews), "--artifacts", golden.root, "--golden-test"]
    same = sentiment(*words, write_golden(tmp_path / "golden.csv")).summary["steps"]
    (tmp_path / "other").mkdir()
    other = sentiment(*words, write_golden(tmp_path / "other" / "golden.csv", tiny.write_row(7777))).summary["steps"]

    assert {step: entry["state"] for step, entry in same.items()} == dict.fromkeys(["golden", *tiny.STEPS], "cached")
    assert [step for step, entry in other.items() if entry["state"] == "run"] == ["golden", *tiny.STEPS[3:]]
