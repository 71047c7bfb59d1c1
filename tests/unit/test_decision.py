import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.model.decision import Decision, DecisionSettings, fit_decision

CERTAIN = Decision(0.5, 0.5)


def _uncertain(decision: Decision, y_score: np.ndarray) -> np.ndarray:
    return np.array(decision.classes(y_score).to_pylist()) == "uncertain"


def _oracle(y_true: np.ndarray, y_score: np.ndarray, how: DecisionSettings) -> np.ndarray:
    """Try every band around 0.5 that ends at a row, from none to the widest allowed; return which rows the chosen one holds."""
    distance = np.abs(y_score.astype(np.float64) - 0.5)
    bands = [distance <= half for half in (-1.0, *sorted(set(distance.tolist())))]
    allowed = [band for band in bands if band.sum() <= how.max_uncertain_share * len(band)]
    for band in allowed:
        wrong = (y_score >= 0.5) != (y_true == 1)
        if wrong[~band].sum() <= how.max_error * (~band).sum():
            return band
    return allowed[-1]


# Probabilities as models give them, in single precision; some often, so that they tie and mirror each other.
SCORES = (st.sampled_from([0, 0.1, 0.25, 0.49, 0.5, 0.51, 0.75, 0.9, 1]) | st.integers(0, 10**6).map(lambda n: n / 10**6)).map(np.float32)
ROWS = st.lists(st.tuples(st.integers(0, 1), SCORES), min_size=1)


@settings(max_examples=200, deadline=None)
@given(ROWS, st.sampled_from([0.05, 0.2, 0.5]), st.sampled_from([0.0, 0.3, 0.5, 0.9]), st.sampled_from([np.float32, np.float64]))
def test_the_band_is_the_narrowest_that_will_do(rows: list[tuple[int, np.float32]], max_error: float, share: float, kind: type) -> None:
    """Among all bands, ties and single precision included; where none will do, the widest that takes no more than its share."""
    how = DecisionSettings(max_error=max_error, max_uncertain_share=share)
    labels, scores = zip(*rows, strict=True)
    y_true, y_score = np.array(labels, np.int8), np.array(scores).astype(kind)
    band = _uncertain(fit_decision(y_true, y_score, how), y_score)
    assert band.tolist() == _oracle(y_true, y_score, how).tolist()
    assert band.sum() <= share * len(rows)


def test_a_model_that_is_right_enough_is_never_uncertain() -> None:
    """At or below the error asked for, 0.5 is the only border."""
    y_score = np.linspace(0, 1, 100)
    y_true = (y_score >= 0.5).astype(np.int8)
    y_true[50:55] = 0
    assert fit_decision(y_true, y_score, DecisionSettings(max_error=0.05)) == CERTAIN
    assert fit_decision(y_true, y_score, DecisionSettings(max_error=0.04)) != CERTAIN
    assert fit_decision(y_true, y_score, DecisionSettings(max_error=0.01, max_uncertain_share=0)) == CERTAIN


def test_the_middle_is_uncertain_where_the_errors_are() -> None:
    """A worked example: errors at 0.45 and 0.6 put the band's ends there, both ends within it."""
    y_score = np.array([0.02, 0.1, 0.2, 0.4, 0.45, 0.6, 0.62, 0.8, 0.9, 0.97])
    y_true = np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 1])
    decision = fit_decision(y_true, y_score, DecisionSettings(max_error=0.05, max_uncertain_share=0.3))
    assert decision.negative_below == pytest.approx(0.4) and decision.positive_from == pytest.approx(0.6)
    expected = ["negative"] * 3 + ["uncertain"] * 3 + ["positive"] * 4
    assert decision.classes(y_score).to_pylist() == expected


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_borders_belong_to_the_upper_side(kind: type) -> None:
    """A score at a border is what lies above it, in single precision too; without a band, 0.5 is positive."""
    decision = Decision(0.25, 0.75)
    scores = np.array([0, 0.2499, 0.25, 0.5, 0.7499, 0.75, 1]).astype(kind)
    assert decision.classes(scores).to_pylist() == ["negative"] * 2 + ["uncertain"] * 3 + ["positive"] * 2
    assert CERTAIN.classes(np.array([0.4999, 0.5], kind)).to_pylist() == ["negative", "positive"]
    assert decision.classes(np.empty(0, kind)).to_pylist() == []
