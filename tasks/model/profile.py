"""What reviews look like to a model, as counts that add up: of held-out rows in its bundle, of other rows while they are scored."""

from typing import Any

import numpy as np
import pyarrow as pa

from tasks.model.decision import NEGATIVE, POSITIVE, UNCERTAIN
from tasks.reviews.language import LANGUAGES

CLASSES = (NEGATIVE, UNCERTAIN, POSITIVE)
Tally = dict[str, dict[str, int]]  # JSON-ready: by feature, rows by the group they fall into

FORMAT = 1  # of the groups below: tallies of different formats cannot be compared
LENGTH_QUANTILES = tuple(round(q / 20, 2) for q in range(21))
SCORE_BINS = 20
# Groups finer than anyone compares; comparing joins neighbours. Group i holds values from edge i up to edge i + 1.
LENGTH_EDGES = np.unique(np.rint(2 ** (np.arange(4 * 16) / 4))).astype(np.int64)  # 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 16 … tokens
UNKNOWN_EDGES = np.concatenate([[0.0, 1e-9], 2 ** (np.arange(-36, 1) / 4)])  # none, then shares of a review's tokens up to all
SCORE_EDGES = np.arange(SCORE_BINS) / SCORE_BINS


def tally_reviews(
    num_tokens: np.ndarray,
    num_unknown: np.ndarray,
    languages: np.ndarray,
    y_score: np.ndarray,
    predicted: pa.Array,
) -> Tally:
    """Count reviews by what scoring sees of them; those without a token are left out.

    Args:
        num_tokens: int, shape (num_rows,): tokens of each review.
        num_unknown: int, shape (num_rows,): those among them that the vocabulary does not hold.
        languages: int8, shape (num_rows,), from `guess_languages`.
        y_score: float, shape (num_rows,): probabilities; only looked at where there is a prediction.
        predicted: string, shape (num_rows,): negative, positive, uncertain, or null where no score was given.

    Returns:
        Rows by group for `length`, `unknown_words`, `language`, `score` and `predicted`, and `totals` of reviews, tokens and unknown
        tokens. Tallies of stretches of rows are merged by adding their numbers up.
    """
    full = num_tokens > 0
    num_tokens, num_unknown = num_tokens[full], num_unknown[full]
    judged = predicted.is_valid().to_numpy(zero_copy_only=False) & full
    labels = {entry["values"]: entry["counts"] for entry in predicted.filter(pa.array(judged)).value_counts().to_pylist()}
    return {
        "totals": {"reviews": len(num_tokens), "tokens": int(num_tokens.sum()), "unknown_tokens": int(num_unknown.sum())},
        "length": _count_groups(num_tokens, LENGTH_EDGES),
        "unknown_words": _count_groups(num_unknown / num_tokens, UNKNOWN_EDGES),
        "language": {LANGUAGES[place]: rows for place, rows in enumerate(np.bincount(languages[full]).tolist()) if rows},
        "score": _count_groups(y_score[judged], SCORE_EDGES),
        "predicted": {name: labels[name] for name in CLASSES if name in labels},
    }


def profile_reviews(num_tokens: np.ndarray, y_true: np.ndarray, y_score: np.ndarray, tally: Tally) -> dict[str, Any]:
    """Describe held-out reviews for `profile.json`, as scoring will see others.

    Args:
        num_tokens: int, shape (num_rows,): tokens of each review.
        y_true: int8, shape (num_rows,).
        y_score: float32, shape (num_rows,): probabilities.
        tally: From `tally_reviews`.

    Returns:
        JSON-ready: rows, token-length quantiles, share of unknown tokens, share of positive labels and scores, and the tally.
    """
    return {
        "rows": len(num_tokens),
        "length_quantiles": {str(q): float(np.quantile(num_tokens, q)) for q in LENGTH_QUANTILES},
        "unknown_token_share": tally["totals"]["unknown_tokens"] / max(tally["totals"]["tokens"], 1),
        "positive_label_share": float(np.mean(y_true)),
        "positive_score_share": float(np.mean(y_score > 0.5)),
        "format": FORMAT,
        "tally": tally,
    }


def tally_of(profile: dict[str, Any]) -> Tally | None:
    """Return the tally that a bundle's profile holds, or None if an earlier version wrote it."""
    return profile["tally"] if profile.get("format") == FORMAT else None


def _count_groups(values: np.ndarray, edges: np.ndarray) -> dict[str, int]:
    """Count values by the group they fall into; those past the last edge belong to the last group."""
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 1)
    return {str(place): rows for place, rows in enumerate(np.bincount(places).tolist()) if rows}
