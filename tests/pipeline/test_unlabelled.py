import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny

from tasks.errors import DataError
from tasks.model.bundle import seen_hashes
from tasks.reviews.text import text_hashes
from tasks.store import ArtifactRef, Store
from tasks.unlabelled import UnlabelledSettings, unlabelled_artifact

FEEDBACK = [[f"Ticket {number}: {tiny.write_row(10_000 + number)[1]}"] for number in range(60)]


@pytest.fixture
def store(artifacts: Path) -> Store:
    """A copy of the tiny run's store."""
    return Store(artifacts)


@pytest.fixture
def rows(store: Store) -> ArtifactRef:
    """Its split artifact."""
    return store.records("split")[0].ref


def texts_of(store: Store, rows: ArtifactRef, side: str) -> list[str]:
    """Return the reviews of one side."""
    table = pq.read_table(store.path(rows), columns=["review", "split"])
    return [row["review"] for row in table.to_pylist() if row["split"] == side]


def test_what_repeats_a_labelled_review_is_left_out(store: Store, rows: ArtifactRef, tmp_path: Path) -> None:
    """Test reviews shouted, test reviews with a word changed, training reviews, copies and blanks are counted and not learnt from."""
    held_out = [review for review in texts_of(store, rows, "test") if len(review.split()) > 60][:3]
    assert len(held_out) == 3
    shouted = [[review.upper()] for review in held_out]
    changed = [[review.replace("saw", "watched", 1)] for review in held_out]
    known = [[review] for review in texts_of(store, rows, "train")[:5]]
    path = tiny.write_reviews(
        tmp_path / "feedback.csv", [*FEEDBACK, *shouted, *changed, *known, *FEEDBACK[:4], [" "], ["<br />"]], ["text"]
    )

    result = unlabelled_artifact([str(path)], rows, UnlabelledSettings(), store)

    assert result.record.facts["counts"] == {
        "kept": 60,
        "repeats a held-out review": 6,
        "repeats a training review": 5,
        "repeats another": 4,
        "empty": 2,
    }
    table = pq.read_table(store.path(result.ref))
    assert table["source_row"].to_pylist() == list(range(1, 61))
    assert table["tokens"].to_pylist()[0][:3] == ["ticket", "0", ":"]
    assert "review" not in table.column_names


def test_nothing_left_to_learn_from_is_an_error(store: Store, rows: ArtifactRef, tmp_path: Path) -> None:
    """A file of test reviews alone teaches nothing, and the message says what became of them."""
    path = tiny.write_reviews(tmp_path / "leak.csv", [[review] for review in texts_of(store, rows, "test")], ["review"])
    with pytest.raises(DataError, match=r"No unlabelled review is left.*0 of \d+ reviews kept, \d+ repeats a held-out review"):
        unlabelled_artifact([str(path)], rows, UnlabelledSettings(), store)


@pytest.mark.usefixtures("prefect_server")
def test_training_learns_from_unlabelled_reviews(trained: tiny.Trained, artifacts: Path, tmp_path: Path) -> None:
    """The run has one more step and two more epochs, makes another model, says what it read, and is cached the second time."""
    path = tiny.write_reviews(tmp_path / "feedback.csv", FEEDBACK, ["text"])

    summary = tiny.train(artifacts, trained.reviews, unlabelled=path)

    assert list(summary["steps"]) == [*tiny.STEPS[:4], "unlabelled", *tiny.STEPS[4:]]
    assert tiny.steps_that_ran(summary)[0] == "unlabelled"
    assert summary["model_id"] != trained.summary["model_id"]
    training = json.loads((Path(summary["bundle"]) / "training.json").read_text(encoding="utf-8"))
    assert [entry["epoch"] for entry in training["history"]] == [1, 2, 3]
    assert training["trained_on"]["unlabelled"] == {"feedback.csv": 60}
    assert np.isin(text_hashes(pa.array([review for (review,) in FEEDBACK])), seen_hashes(Path(summary["bundle"]))).all()
    again = tiny.train(artifacts, trained.reviews, unlabelled=path)
    assert not tiny.steps_that_ran(again)
