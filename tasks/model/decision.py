"""From a probability to a word: positive, negative, or uncertain where the model would be wrong too often."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

NEGATIVE, POSITIVE, UNCERTAIN = "negative", "positive", "uncertain"


class DecisionSettings(BaseModel, frozen=True, extra="forbid"):
    """When to say uncertain."""

    max_error: float = Field(
        0.05,
        gt=0,
        le=0.5,
        description="error rate, on validation rows, that the rows outside the uncertain band may have",
    )
    max_uncertain_share: float = Field(0.3, ge=0, lt=1, description="the band never takes more than this share of validation rows")


@dataclass(frozen=True)
class Decision:
    """Probabilities below `negative_below` are negative, from `positive_from` on positive, between them uncertain."""

    negative_below: float
    positive_from: float

    def classes(self, y_score: np.ndarray) -> pa.Array:
        """Return the word for each probability, string, shape (num_rows,)."""
        y_score = np.asarray(y_score, np.float64)  # float32 would round the borders
        codes = (y_score >= self.negative_below).astype(np.int8) + (y_score >= self.positive_from)
        return pa.array([NEGATIVE, UNCERTAIN, POSITIVE]).take(pa.array(codes))


def fit_decision(y_true: np.ndarray, y_score: np.ndarray, settings: DecisionSettings) -> Decision:
    """Return the narrowest band around 0.5 that leaves at most `max_error` among the rest, else the widest that is allowed.

    Args:
        y_true: int8, shape (num_rows,), of validation rows.
        y_score: float, shape (num_rows,): their probabilities.
        settings: The error rate to reach.
    """
    margin = np.abs(np.asarray(y_score, np.float64) - 0.5)
    order = np.argsort(-margin, kind="stable")
    wrong = ((y_score >= 0.5) != (y_true == 1))[order]
    accepted = np.append(np.flatnonzero(np.diff(margin[order])) + 1, len(order))  # equal margins stay on one side of the border
    accepted = accepted[len(order) - accepted <= settings.max_uncertain_share * len(order)]
    good = accepted[np.cumsum(wrong)[accepted - 1] <= settings.max_error * accepted]
    count = int(good[-1] if len(good) else accepted[0])
    if count >= len(order):
        return Decision(0.5, 0.5)
    half_width = float(margin[order[count]])
    return Decision(0.5 - half_width, float(np.nextafter(0.5 + half_width, 1)))
