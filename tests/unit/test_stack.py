import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tasks.model.stack import StackWeights, apply_stack, fit_stack


def _parts(num_rows: int = 2000, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return labels and log-odds of them: one part good but twice too sure, one fair, one turned round."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, num_rows).astype(np.int8)
    signal = np.where(y == 1, 1.0, -1.0)
    noise = rng.normal(size=(3, num_rows))
    good, fair, wrong = 2 * (2 * signal + 2 * noise[0]), signal + 2 * noise[1], -0.5 * signal + 2 * noise[2]
    return {"good": good.astype(np.float32), "fair": fair.astype(np.float32), "wrong": wrong.astype(np.float32)}, y


def test_weights_are_those_of_a_logistic_regression() -> None:
    """Of parts that all help, scikit-learn's own coefficients; the joint log loss is below that of each part."""
    parts, y = _parts()
    parts.pop("wrong")
    stack = fit_stack(parts, y)
    expected = LogisticRegression(C=100).fit(np.stack([parts["good"], parts["fair"]], axis=1), y)
    assert [stack.weights["good"], stack.weights["fair"], stack.bias] == pytest.approx([*expected.coef_[0], expected.intercept_[0]])

    def log_loss(probability: np.ndarray) -> float:
        return float(-np.mean(np.log(np.where(y == 1, probability, 1 - probability))))

    joint = apply_stack(parts, stack)
    assert log_loss(joint) < min(log_loss(1 / (1 + np.exp(-part))) for part in parts.values())
    assert joint.mean() == pytest.approx(y.mean(), abs=1e-3)


def test_a_part_that_speaks_against_itself_gets_no_weight() -> None:
    """No part is turned round: it gets zero, and the others the weights they have without it."""
    parts, y = _parts()
    stack = fit_stack(parts, y)
    without = fit_stack({name: parts[name] for name in ("good", "fair")}, y)
    assert stack.weights == {**without.weights, "wrong": 0.0} and stack.bias == without.bias
    assert all(weight >= 0 for weight in fit_stack({"a": -parts["good"], "b": -parts["fair"]}, y).weights.values())


def test_a_part_alone_stays_as_it_is() -> None:
    """Its log-odds are its probability's, however sure it is: the article's model is not calibrated on the quiet."""
    parts, y = _parts()
    stack = fit_stack({"good": parts["good"]}, y)
    assert stack == StackWeights({"good": 1.0}, 0.0)
    assert apply_stack(parts, stack) == pytest.approx(1 / (1 + np.exp(-parts["good"].astype(np.float64))))


def test_log_odds_become_probabilities() -> None:
    """The weighted sum and the bias through the logistic function, float32, to the ends of the scale; no weights, no opinion."""
    logits = {"a": np.array([0.0, np.log(3), -500, 500], np.float32), "b": np.array([0.0, np.log(3), 0, 0], np.float32)}
    y_score = apply_stack(logits, StackWeights({"a": 0.5, "b": 0.5}, 0.0))
    assert y_score.dtype == np.float32 and y_score == pytest.approx([0.5, 0.75, 0, 1])
    assert apply_stack(logits, StackWeights({"b": 2.0}, -np.log(9.0)))[:2] == pytest.approx([0.1, 0.5])
