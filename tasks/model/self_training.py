"""Self-training: a model that has learnt from labelled reviews labels others, and the parts learn once more from both."""

from collections.abc import Callable

import numpy as np
from pydantic import BaseModel, Field

from tasks.model.linear import TaughtReviews
from tasks.model.lstm import FittedLstm, LstmSettings
from tasks.model.lstm_training import Evidence, fit_lstm
from tasks.model.vocabulary import TokenIds


class SelfTrainingSettings(BaseModel, frozen=True, extra="forbid"):
    """What is made of reviews without labels; nothing, where none are given."""

    max_reviews: int = Field(100_000, ge=1, description="unlabelled reviews that are used, at most, chosen by their texts' hashes")
    epochs: int = Field(1, ge=1, description="times the LSTM goes through labelled and unlabelled reviews together")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="Adam's step size at the start of that")
    certain_share: float = Field(0.8, gt=0, le=1, description="share of the unlabelled reviews, the most certain ones, for the n-gram part")
    weight: float = Field(0.5, gt=0, le=1, description="what each of them counts there, a labelled review counting 1")


def taught_reviews(unlabelled: TokenIds, teacher: np.ndarray, settings: SelfTrainingSettings) -> TaughtReviews:
    """Return the reviews of whose class the teacher is most certain.

    Args:
        unlabelled: Reviews without labels.
        teacher: float, shape (num_unlabelled,): their log-odds of positive.
        settings: How many, and what each counts.
    """
    certainty = np.abs(teacher)
    chosen = np.flatnonzero(certainty >= np.quantile(certainty, 1 - settings.certain_share))
    return TaughtReviews(unlabelled.take(chosen), teacher[chosen], settings.weight)


def learn_lstm_from_teacher(
    labelled: TokenIds,
    y: np.ndarray,
    unlabelled: TokenIds,
    teacher: np.ndarray,
    validation: TokenIds,
    y_validation: np.ndarray,
    settings: SelfTrainingSettings,
    lstm: LstmSettings,
    seed: int,
    vectors: np.ndarray | None,
    evidence: Evidence | None,
    on_epoch: Callable[[dict[str, float]], None],
) -> FittedLstm:
    """Train a fresh LSTM on labelled reviews and on unlabelled ones with the teacher's probabilities as labels.

    Args:
        labelled: Training reviews.
        y: float, shape (num_labelled,): probability of positive, as softened for the first LSTM.
        unlabelled: Reviews without labels.
        teacher: float, shape (num_unlabelled,): their log-odds of positive.
        validation: Reviews that guide early stopping.
        y_validation: int8, shape (num_validation,).
        settings: Epochs and learning rate.
        lstm: The network.
        seed: Of initial weights, row order and dropout.
        vectors: Where word vectors start, as `fit_lstm` takes them.
        evidence: Of labelled and unlabelled reviews, in this order, and of the validation reviews.
        on_epoch: Told of every epoch as it ends.

    Source: Xie et al. (2020), "Self-training with noisy student improves ImageNet classification": soft labels, and dropout as the noise.
    """
    return fit_lstm(
        TokenIds.concatenate([labelled, unlabelled]),
        np.concatenate([y, 1 / (1 + np.exp(-teacher))]),
        validation,
        y_validation,
        lstm.model_copy(update={"epochs": settings.epochs, "learning_rate": settings.learning_rate}),
        seed,
        on_epoch,
        vectors=vectors,
        evidence=evidence,
    )
