"""Joins the parts' log-odds into one probability, with weights fitted on rows that no part was trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

_REGULARISATION = 100.0


@dataclass(frozen=True)
class StackWeights:
    """`weights` of each part's log-odds, and the `bias` that is added."""

    weights: dict[str, float] = field(default_factory=dict)
    bias: float = 0.0


def fit_stack(logits: Mapping[str, np.ndarray], y: np.ndarray) -> StackWeights:
    """Fit a weight for every part by logistic regression, which calibrates the sum as well.

    No weight is negative. A part alone stays as it is.

    Args:
        logits: float, shape (num_rows,) for each part, of validation rows.
        y: int8, shape (num_rows,).

    Source: Wolpert (1992); Ting & Witten (1999) for logistic stacking.
    """
    from sklearn.linear_model import LogisticRegression

    names = list(logits)
    if len(names) == 1:
        return StackWeights({names[0]: 1.0})
    while True:
        X = np.stack([logits[name] for name in names], axis=1)
        fitted = LogisticRegression(C=_REGULARISATION).fit(X, y)
        worst = int(np.argmin(fitted.coef_[0]))
        if fitted.coef_[0][worst] >= 0 or len(names) == 1:
            found = dict(zip(names, map(float, fitted.coef_[0]), strict=True))
            return StackWeights({name: max(found.get(name, 0.0), 0.0) for name in logits}, float(fitted.intercept_[0]))
        names.pop(worst)


def apply_stack(logits: Mapping[str, np.ndarray], stack: StackWeights) -> np.ndarray:
    """Return the probability of positive, float32, shape (num_rows,)."""
    return sigmoid(stacked_log_odds(logits, stack))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probability for log-odds, float32, in the same shape."""
    return np.asarray(1 / (1 + np.exp(-np.asarray(logits, np.float64))), np.float32)


def stacked_log_odds(logits: Mapping[str, np.ndarray], stack: StackWeights) -> np.ndarray:
    """Return the log-odds of positive, float64, shape (num_rows,)."""
    parts = [np.asarray(logits[name], np.float64) * weight for name, weight in stack.weights.items()]
    return np.asarray(sum(parts, np.float64(stack.bias)))
