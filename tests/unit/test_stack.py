import numpy as np
import pytest
from sklearn.metrics import log_loss

from tasks.model.stack import StackWeights, apply_stack, fit_stack


@pytest.fixture
def parts() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two parts that err apart from each other, and the truth."""
    random = np.random.default_rng(0)
    y = random.integers(0, 2, 4000).astype(np.int8)
    signal = 2.0 * y - 1
    return {name: (signal + random.normal(0, 1.2, 4000)).astype(np.float32) for name in ("lstm", "linear")}, y


def test_parts_together_beat_each_alone(parts: tuple[dict[str, np.ndarray], np.ndarray]) -> None:
    """The blend of two independent parts has a lower log loss than either, calibrated or not."""
    logits, y = parts
    both = log_loss(y, apply_stack(logits, fit_stack(logits, y)))
    for name in logits:
        best_scale = min(log_loss(y, apply_stack(logits, StackWeights({name: weight}))) for weight in np.linspace(0.1, 4, 40))
        assert both < best_scale - 0.02


def test_a_misleading_part_gets_no_weight(parts: tuple[dict[str, np.ndarray], np.ndarray]) -> None:
    """A part that points the wrong way is left out, not turned round."""
    logits, y = parts
    stack = fit_stack({**logits, "worse": -logits["lstm"] + logits["linear"] * 0.01}, y)
    assert stack.weights["worse"] == 0
    assert min(stack.weights["lstm"], stack.weights["linear"]) > 0.5


def test_a_part_alone_stays_as_it_is(parts: tuple[dict[str, np.ndarray], np.ndarray]) -> None:
    """One part's probability is the sigmoid of its log-odds."""
    logits, y = parts
    alone = {"lstm": np.array([-2.0, 0.0, 3.0], np.float32)}
    assert fit_stack({"lstm": logits["lstm"]}, y) == StackWeights({"lstm": 1.0})
    assert apply_stack(alone, StackWeights({"lstm": 1.0})) == pytest.approx([0.1192029, 0.5, 0.9525741])


def test_weights_and_bias_are_applied() -> None:
    """Probability = sigmoid(0.5 · 2 - 1 · 1 + 1.0986) = 0.75."""
    stack = StackWeights({"lstm": 0.5, "linear": -1.0}, bias=float(np.log(3)))
    probability = apply_stack({"lstm": np.array([2.0]), "linear": np.array([1.0])}, stack)
    assert probability.dtype == np.float32
    assert probability == pytest.approx([0.75])
