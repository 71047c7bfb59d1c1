import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.model.metrics import EvaluationSettings, error_examples, paired_bootstrap, score_predictions

SETTINGS = EvaluationSettings(bootstrap_samples=100)
PREDICTIONS = st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1, allow_subnormal=False, width=32)), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(PREDICTIONS)
def test_whatever_the_predictions_every_number_is_in_range_and_in_its_interval(pairs: list[tuple[int, float]]) -> None:
    """No input gives NaN, a share outside [0, 1] or an interval that misses its estimate."""
    y_true, y_score = zip(*pairs, strict=True)
    scores = score_predictions(y_true, y_score, SETTINGS)
    json.dumps(scores, allow_nan=False)
    for name, interval in scores["intervals"].items():
        value = scores[name]  # type: ignore[literal-required]
        if value is None:
            assert len(set(y_true)) == 1
            continue
        assert interval is not None
        assert 0 <= interval[0] <= value <= interval[1]
        assert name == "log_loss" or interval[1] <= 1


@settings(max_examples=60, deadline=None)
@given(PREDICTIONS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_estimate(pairs: list[tuple[int, float]], random: object) -> None:
    """Scores are those of a set of rows, not of a list."""
    shuffled = pairs[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (score_predictions(*zip(*rows, strict=True), SETTINGS) for rows in (pairs, shuffled))
    for name in ("accuracy", "roc_auc", "log_loss", "brier", "ece", "f1_macro"):
        np.testing.assert_allclose(*(np.array(scores[name], dtype=float) for scores in (first, second)), atol=1e-12)
    assert first["confusion"] == second["confusion"]


@settings(max_examples=60, deadline=None)
@given(PREDICTIONS, st.integers(0, 10))
def test_errors_are_wrong_distinct_and_ever_less_confident(pairs: list[tuple[int, float]], k: int) -> None:
    """Every example is misjudged, none stands twice, the worst is first."""
    y_true, y_score = zip(*pairs, strict=True)
    found = error_examples([f"r{row}" for row in range(len(pairs))], y_true, y_score, k)
    distances = [abs(example["y_score"] - example["y_true"]) for example in found]
    assert distances == sorted(distances, reverse=True)
    assert len({example["review_id"] for example in found}) == len(found) <= k
    assert all((example["y_score"] > 0.5) != example["y_true"] for example in found)


@settings(max_examples=60, deadline=None)
@given(PREDICTIONS)
def test_a_comparison_is_antisymmetric(pairs: list[tuple[int, float]]) -> None:
    """Swapping the models changes the sign of the difference and nothing else."""
    y_true, y_score = (np.array(column) for column in zip(*pairs, strict=True))
    forth = paired_bootstrap(y_true, y_score, 1 - y_score, SETTINGS)
    back = paired_bootstrap(y_true, 1 - y_score, y_score, SETTINGS)
    assert forth["difference"] == -back["difference"]
    assert forth["p_value"] == back["p_value"]
    assert forth["interval"][0] <= forth["difference"] <= forth["interval"][1]
