"""Self-training: a model that has learnt from labelled reviews labels others, and the parts learn once more from both."""

import numpy as np
from pydantic import BaseModel, Field

from tasks.model.linear import TaughtReviews
from tasks.model.lstm import LstmSettings
from tasks.model.vocabulary import TokenIds


class SelfTrainingSettings(BaseModel, frozen=True, extra="forbid"):
    """What is made of reviews without labels; nothing, where none are given."""

    max_reviews: int = Field(100_000, ge=1, description="unlabelled reviews that are used, at most, chosen by their texts' hashes")
    epochs: int = Field(1, ge=1, description="times the LSTM goes through labelled and unlabelled reviews together")
    labelled_times: int = Field(3, ge=1, description="times that each labelled review is among them, an unlabelled one being there once")
    learning_rate: float = Field(3e-3, gt=0, le=1, description="Adam's step size at the start of that")
    last_epochs: int = Field(1, ge=0, description="times it then goes through the labelled reviews alone")
    last_learning_rate: float = Field(3e-4, gt=0, le=1, description="Adam's step size at the start of those")
    certain_share: float = Field(0.8, gt=0, le=1, description="share of the unlabelled reviews, the most certain ones, for the n-gram part")
    weight: float = Field(0.5, gt=0, le=1, description="what each of them counts there, a labelled review counting 1")

    def student(self, lstm: LstmSettings) -> LstmSettings:
        """Return how the LSTM learns the second time: from fresh weights, the teacher's probabilities as labels of the unlabelled reviews.

        Source: Xie et al. (2020), "Self-training with noisy student improves ImageNet classification": soft labels, dropout and harder
        batches as the noise.
        """
        return lstm.model_copy(update={"epochs": self.epochs, "learning_rate": self.learning_rate})

    def times(self, num_labelled: int, num_unlabelled: int) -> np.ndarray:
        """Return how often an epoch of the student goes through each review, labelled ones first; int, shape (num_reviews,)."""
        return np.repeat([self.labelled_times, 1], [num_labelled, num_unlabelled])

    def graduate(self, lstm: LstmSettings) -> LstmSettings:
        """Return how the student goes on, with labelled reviews alone: what people say of them, the teacher did not know.

        Source: Xie et al. (2020), as above; Chen et al. (2020), "Big self-supervised models are strong semi-supervised learners".
        """
        return lstm.model_copy(update={"epochs": self.last_epochs, "learning_rate": self.last_learning_rate, "adversarial": 0.0})


def taught_reviews(unlabelled: TokenIds, teacher: np.ndarray, settings: SelfTrainingSettings) -> TaughtReviews:
    """Return all reviews, those counted of whose class the teacher is most certain.

    Args:
        unlabelled: Reviews without labels.
        teacher: float, shape (num_unlabelled,): their log-odds of positive.
        settings: How many, and what each counts.
    """
    certainty = np.abs(teacher)
    certain = certainty >= np.quantile(certainty, 1 - settings.certain_share)
    return TaughtReviews(unlabelled, teacher, np.where(certain, settings.weight, 0.0))
