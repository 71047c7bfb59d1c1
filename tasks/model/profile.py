"""What the text of training looked like, kept in the bundle so that scoring can tell when its input drifts away from that."""

from typing import Any

import numpy as np

LENGTH_QUANTILES = tuple(round(q / 20, 2) for q in range(21))
SCORE_BINS = 20


def profile_text(num_tokens: np.ndarray, num_unknown: np.ndarray, y_true: np.ndarray, y_score: np.ndarray) -> dict[str, Any]:
    """Describe held-out reviews as scoring will see others.

    Args:
        num_tokens: int, shape (num_rows,): tokens of each review.
        num_unknown: int, shape (num_rows,): those among them that the vocabulary does not hold.
        y_true: int8, shape (num_rows,).
        y_score: float32, shape (num_rows,): probabilities.

    Returns:
        JSON-ready: rows, token-length quantiles, share of unknown tokens, share of positive labels and scores, histogram of scores.
    """
    counts, _ = np.histogram(y_score, bins=SCORE_BINS, range=(0.0, 1.0))
    return {
        "rows": len(num_tokens),
        "length_quantiles": {str(q): float(np.quantile(num_tokens, q)) for q in LENGTH_QUANTILES},
        "unknown_token_share": float(num_unknown.sum() / max(num_tokens.sum(), 1)),
        "positive_label_share": float(np.mean(y_true)),
        "positive_score_share": float(np.mean(y_score > 0.5)),
        "score_histogram": counts.tolist(),
    }
