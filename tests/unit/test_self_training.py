import numpy as np
import pytest

from tasks.model.lstm import LstmScorer, LstmSettings
from tasks.model.lstm_training import fit_lstm
from tasks.model.self_training import SelfTrainingSettings, taught_reviews
from tasks.model.vocabulary import TokenIds

TINY = LstmSettings(
    num_words=40, sequence_length=16, chunk_length=8, stride=2, kernel_size=4, embedding_size=8, pair_buckets=64, filters=8, units=6,
    evidence_size=0, pretrained=False, word_dropout=0, embedding_dropout=0, output_dropout=0, batch_size=16,
)  # fmt: skip


def _single_words(words: np.ndarray) -> TokenIds:
    return TokenIds(words.astype(np.int32), np.arange(len(words) + 1))


def test_the_most_certain_reviews_are_taught() -> None:
    """The share that is asked for counts, from both ends; the others keep what the teacher said of them and count nothing."""
    teacher = np.array([0.1, -3.0, 2.0, -0.2, 4.0])
    taught = taught_reviews(_single_words(np.arange(10, 15)), teacher, SelfTrainingSettings(certain_share=0.6, weight=0.25))
    assert taught.ids.values.tolist() == [10, 11, 12, 13, 14]
    assert taught.logits.tolist() == teacher.tolist()
    assert taught.weight.tolist() == [0, 0.25, 0.25, 0, 0.25]


def test_a_word_that_only_the_teacher_knows_is_learnt() -> None:
    """Words 5 and 6 are labelled, 25 and 26 stand in unlabelled reviews only: the fresh LSTM tells all four apart; history is one epoch."""
    labelled = np.tile([5, 6], 40)
    unlabelled = np.tile([25, 26], 200)
    told: list[dict[str, float]] = []
    fitted = fit_lstm(
        _single_words(np.concatenate([labelled, unlabelled])),
        np.concatenate([labelled == 5, np.where(unlabelled == 25, 0.98, 0.02)]),
        _single_words(labelled[:10]),
        (labelled[:10] == 5).astype(np.int8),
        SelfTrainingSettings(epochs=1, learning_rate=2e-2).student(TINY),
        seed=0,
        on_epoch=told.append,
    )
    logits = LstmScorer(fitted.weights, TINY).logits(_single_words(np.array([5, 6, 25, 26])))
    assert (np.sign(logits) == [1, -1, 1, -1]).all()
    assert [entry["epoch"] for entry in told] == [entry["epoch"] for entry in fitted.history] == [1]
    earlier = fitted.after(fitted)
    assert [entry["epoch"] for entry in earlier.history] == [1, 2]
    assert earlier.best_epoch == 2


def test_the_student_learns_from_harder_batches_and_the_graduate_does_not() -> None:
    """With the LSTM's own; the steps are those of self-training."""
    settings, lstm = SelfTrainingSettings(), TINY.model_copy(update={"adversarial": 0.05})
    student, graduate = settings.student(lstm), settings.graduate(lstm)
    assert (student.adversarial, student.epochs, student.learning_rate) == (0.05, settings.epochs, settings.learning_rate)
    assert (graduate.adversarial, graduate.epochs, graduate.learning_rate) == (0, settings.last_epochs, settings.last_learning_rate)


def test_settings_have_borders() -> None:
    """No share, no weight and no review at all are refused."""
    for wrong in ({"certain_share": 0}, {"weight": 0}, {"max_reviews": 0}, {"epochs": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            SelfTrainingSettings(**wrong)
