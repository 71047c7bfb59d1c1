"""Which rows each part of a model learns from, and what the parts hand each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.model import fitting
from tasks.model.embeddings import fit_embeddings
from tasks.model.fitting import ChosenRows, FittedModel, TrainSettings, fit_model, refit_on_all
from tasks.model.linear import LinearSettings, fit_linear_out_of_fold, linear_logits
from tasks.model.lstm import LstmSettings
from tasks.model.pairs import fit_pair_owners
from tasks.model.vocabulary import TokenIds, VocabularySettings

SETTINGS = TrainSettings(
    vocabulary=VocabularySettings(min_count=1),
    model=LstmSettings(
        num_words=60, sequence_length=16, chunk_length=8, stride=2, kernel_size=4, embedding_size=4, pair_buckets=16, filters=4, units=4,
        epochs=1, batch_size=16,
    ),
    linear=LinearSettings(hash_bits=16),
)  # fmt: skip
PRAISE, BLAME = ("superb", "charming", "brilliant"), ("dull", "wooden", "clumsy")
Calls = list[dict[str, Any]]


def write_rows(path: Path, first: int, count: int, extra: list[str]) -> ChosenRows:
    """Write reviews of a praising or a blaming word, a word of their own, and in praise what else is named; all are chosen."""
    tokens = [[(PRAISE, BLAME)[n % 2][n % 3], "film", f"own{n % 20}", *(extra if n % 2 == 0 else [])] for n in range(first, first + count)]
    columns = {
        "tokens": pa.array(tokens).cast(pa.list_(pa.dictionary(pa.int32(), pa.string()))),
        "sentiment": pa.array([1 - n % 2 for n in range(first, first + count)], pa.int8()),
        "text_hash": pa.array(range(first, first + count), pa.uint64()),
        "source": pa.array(["here"] * count),
    }
    pq.write_table(pa.table(columns), path)
    return ChosenRows(path, np.ones(count, bool))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What the LSTM is given, call by call: reviews, labels, evidence."""
    found: Calls = []
    real = fitting.fit_lstm

    def watched(ids: TokenIds, labels: np.ndarray, *others: Any, **options: Any) -> Any:
        found.append({"ids": ids, "labels": labels, **options})
        return real(ids, labels, *others, **options)

    monkeypatch.setattr(fitting, "fit_lstm", watched)
    return found


def fit(folder: Path, *, unlabelled: bool = False) -> FittedModel:
    """Fit a model; `film secret` stands in validation rows alone, and `secret` elsewhere in no review."""
    training = write_rows(folder / "training.parquet", 0, 120, [])
    validation = write_rows(folder / "validation.parquet", 1000, 40, ["film", "film", "secret"])
    more = write_rows(folder / "more.parquet", 2000, 60, ["charming", "charming"]) if unlabelled else None
    return fit_model(training, validation, SETTINGS, lambda _: None, lambda _: None, unlabelled_rows=more)


def test_the_vocabulary_is_that_of_training_rows(tmp_path: Path) -> None:
    """A word that only validation rows hold, a half of them, has no number."""
    tokens = fit(tmp_path).model.vocabulary.tokens
    assert "secret" not in tokens
    assert {"film", *PRAISE, *BLAME} <= set(tokens)


def test_evidence_and_soft_labels_have_not_seen_their_row(tmp_path: Path, calls: Calls) -> None:
    """The LSTM learns from what n-grams fitted without a row say of it, not from those that know its label."""
    fitted = fit(tmp_path)
    training = fitted.training
    assert SETTINGS.linear is not None
    linear, out_of_fold = fit_linear_out_of_fold(training.ids, training.sentiment, SETTINGS.linear, SETTINGS.seed)
    (call,) = calls
    np.testing.assert_array_equal(call["evidence"].training, out_of_fold.evidence)
    by_teacher = 1 / (1 + np.exp(-out_of_fold.logits.astype(float)))
    share = SETTINGS.model.soft_labels
    np.testing.assert_allclose(call["labels"], (1 - share) * training.sentiment + share * by_teacher, atol=1e-6)
    seen = linear_logits(training.ids, linear.weights, SETTINGS.linear)
    assert np.abs(seen - out_of_fold.logits).max() > 1e-3  # else the test could not tell them apart


def test_the_student_learns_what_the_teacher_says(tmp_path: Path, calls: Calls) -> None:
    """Unlabelled reviews come last, in their order, labelled with the probabilities of the model made before; labels keep their side."""
    fitted = fit(tmp_path, unlabelled=True)
    teacher, student, graduate = calls
    assert len(student["ids"]) == 180
    assert ((student["labels"][:120] > 0.5) == (teacher["labels"] > 0.5)).all()
    praised = np.arange(60) % 2 == 0
    assert (student["labels"][120:][praised] > 0.5).all() and (student["labels"][120:][~praised] < 0.5).all()
    assert len(student["evidence"].training) == len(student["ids"].values)
    assert student["times"].tolist() == [3] * 120 + [1] * 60
    # The last epoch goes on from the student, with the labelled reviews as the student knew them.
    assert graduate["ids"] is teacher["ids"] and "start" not in student
    np.testing.assert_array_equal(graduate["labels"], student["labels"][:120])
    np.testing.assert_array_equal(graduate["evidence"].training, student["evidence"].training[: len(teacher["ids"].values)])
    assert [entry["epoch"] for entry in fitted.lstm.history] == [1, 2, 3] and fitted.lstm.best_epoch == 3


def test_pairs_are_those_of_all_that_is_learnt_from(tmp_path: Path, calls: Calls) -> None:
    """Vectors of pairs, and where they start, are fitted on training and unlabelled reviews, no others, and once for both networks."""
    fitted = fit(tmp_path, unlabelled=True)
    teacher, student, _ = calls
    owners = fit_pair_owners(student["ids"], SETTINGS.model.pair_buckets)
    assert all(call["owners"].tolist() == owners.tolist() for call in calls)
    assert owners.tolist() != fit_pair_owners(teacher["ids"], SETTINGS.model.pair_buckets).tolist()
    size = SETTINGS.model.num_words, SETTINGS.model.embedding_size, SETTINGS.seed
    told = fit_embeddings(student["ids"], *size, owners=owners)
    assert told.pairs.tobytes() == teacher["vectors"].pairs.tobytes() == student["vectors"].pairs.tobytes()
    assert fitted.lstm.weights["pair_owners"].tolist() == owners.tolist()


def test_at_the_end_validation_rows_teach_the_n_grams(tmp_path: Path) -> None:
    """An n-gram that only validation rows hold weighs nothing before, and something after; the LSTM hears it and stays as it is."""
    fitted = fit(tmp_path)
    again = refit_on_all(fitted, SETTINGS)
    assert fitted.linear is not None and again.linear is not None and SETTINGS.linear is not None
    film = fitted.model.vocabulary.encode(pa.array([["film", "film", "film"]]))  # as a 3-gram only there

    def told(part: Any) -> float:
        return float(linear_logits(film, part.weights, SETTINGS.linear)[0] - part.weights["bias"][0])

    assert told(again.linear) != told(fitted.linear)
    assert np.count_nonzero(again.linear.weights["ngrams"]) > np.count_nonzero(fitted.linear.weights["ngrams"])
    assert again.lstm is fitted.lstm
    (before,), (after,) = (part.model.logits(film)["lstm"] for part in (fitted, again))
    assert before != after
