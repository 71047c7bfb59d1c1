"""Our layers against those of Keras whose weights and results they have."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tasks.model.runtime import import_tensorflow

tf = import_tensorflow()

import keras  # noqa: E402

from tasks.model.layers import BothWays, DropoutFromPool, MaskedPooling, StridedConvolution  # noqa: E402

SIZES = [(8, 12, 64), (4, 8, 64), (4, 4, 16), (2, 5, 8), (3, 7, 9), (8, 8, 8), (1, 3, 5), (4, 12, 4), (2, 9, 8)]  # step, kernel, length


def result_and_gradients(layer: Callable[[Any], Any], weights: list[Any], x: np.ndarray) -> list[np.ndarray]:
    """Return what a layer makes of x, and the gradients of the sum of its squares by x and by the weights."""
    given = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(given)
        result = layer(given)
        loss = tf.reduce_sum(result**2)
    return [result.numpy(), *(gradient.numpy() for gradient in tape.gradient(loss, [given, *(weight.value for weight in weights)]))]


class OfOne(StridedConvolution):
    """A convolution over one array, called as Keras' own is."""

    def build(self, input_shape: Any) -> None:
        """Make the weights for that one."""
        super().build([input_shape])

    def call(self, x: Any) -> Any:
        """Return what the filters find."""
        return super().call([x])


def assert_alike(ours: keras.Layer, theirs: keras.Layer, x: np.ndarray) -> None:
    """Check that two layers with the same weights have the same results and gradients."""
    ours.build(x.shape)
    theirs.build(x.shape)
    draw = np.random.default_rng(1)
    for weight, twin in zip(ours.weights, theirs.weights, strict=True):
        assert weight.path.split("/")[1:] == twin.path.split("/")[1:]
        twin.assign(draw.normal(0, 0.3, twin.shape))
        weight.assign(twin)
    for found, expected in zip(*(result_and_gradients(layer, layer.trainable_weights, x) for layer in (ours, theirs)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("stride", "size", "length"), SIZES)
def test_the_convolution_is_that_of_keras(stride: int, size: int, length: int) -> None:
    """Whether the step divides the kernel or not; results and gradients."""
    x = np.random.default_rng(0).normal(size=(3, length, 6)).astype(np.float32)
    settings = {"strides": stride, "padding": "same", "activation": "relu"}

    assert_alike(OfOne(5, size, **settings), keras.layers.Conv1D(5, size, **settings), x)


def test_the_convolution_reads_arrays_side_by_side() -> None:
    """Their gradients too are those of one array that holds both."""
    draw = np.random.default_rng(0)
    first, second = draw.normal(size=(3, 16, 5)).astype(np.float32), draw.normal(size=(3, 16, 2)).astype(np.float32)
    layer = StridedConvolution(4, 6, strides=4, padding="same")
    layer.build([first.shape, second.shape])
    joined = keras.layers.Conv1D(4, 6, strides=4, padding="same")
    joined.build((3, 16, 7))
    joined.set_weights(layer.get_weights())
    given = [tf.constant(first), tf.constant(second)]
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(given)
        results = layer(given), joined(tf.concat(given, 2))
        losses = [tf.reduce_sum(result**3) for result in results]

    np.testing.assert_allclose(*results, atol=1e-5)
    assert layer.compute_output_shape([first.shape, second.shape]) == results[0].shape
    for found, expected in zip(*(tape.gradient(loss, given) for loss in losses), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize(("size", "length"), [(3, 16), (6, 15)])
def test_a_convolution_that_would_skip_tokens_is_refused(size: int, length: int) -> None:
    """A kernel smaller than a step, or a rest that is no step."""
    with pytest.raises(ValueError, match=f"kernel of {size} over {length} tokens"):
        StridedConvolution(5, size, strides=4, padding="same").build([(None, length, 6)])


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_an_lstm_both_ways_is_that_of_keras(steps: int) -> None:
    """Results and gradients, of chunks of one step too."""
    x = np.random.default_rng(0).normal(size=(3, steps, 6)).astype(np.float32)

    assert_alike(*(way(keras.layers.LSTM(4, return_sequences=True, name="lstm")) for way in (BothWays, keras.layers.Bidirectional)), x)


def test_a_gpu_takes_the_lstm_of_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only that one becomes cuDNN's there."""
    monkeypatch.setattr(keras.layers.Bidirectional, "call", lambda _, sequences: sequences + 1)
    layer, x = BothWays(keras.layers.LSTM(4, return_sequences=True)), np.ones((2, 3, 5), np.float32)
    layer.build(x.shape)

    assert layer.call(x).shape == (2, 3, 8)
    monkeypatch.setattr(tf.config, "list_physical_devices", {"GPU": ["one"]}.get)
    assert (layer.call(x) == 2).all()


def test_pooling_is_maximum_and_mean_of_what_is_no_padding() -> None:
    """The gradients too; a review of padding alone is zeros and moves nothing, and padding never counts, however large its features."""
    draw = np.random.default_rng(0)
    words = np.array([[1, 2, 3, 4], [5, 0, 0, 0], [0, 0, 0, 0], [6, 7, 8, 0]], np.int32)  # steps of two words
    steps_of = [[(0, 0), (0, 1), (1, 0)], [], [(3, 0), (3, 1)]]
    features = draw.uniform(-1, 1, (4, 2, 5)).astype(np.float32)
    features[1, 1] = features[2] = 0.999
    features[0, 0] = features[1, 0]  # a tie
    slopes = draw.normal(size=(3, 10)).astype(np.float32)
    x = tf.constant(features)
    with tf.GradientTape() as tape:
        tape.watch(x)
        pooled = MaskedPooling(2)([x, tf.constant(words), tf.constant([0, 0, 1, 2]), tf.constant([3])])
    gradient = tape.gradient(pooled, x, output_gradients=tf.constant(slopes)).numpy()

    expected, moved = np.zeros((3, 10)), np.zeros_like(features)
    for review, steps in enumerate(steps_of):
        if steps:
            read = np.array([features[step] for step in steps])
            expected[review] = np.concatenate([read.max(axis=0), read.mean(axis=0)])
            for number, step in enumerate(steps):
                has_it = read == read.max(axis=0)
                moved[step] = np.where(has_it[number], slopes[review, :5] / has_it.sum(axis=0), 0) + slopes[review, 5:] / len(steps)
    np.testing.assert_allclose(pooled.numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(gradient, moved, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.4])
def test_dropout_from_a_pool_drops_its_share_and_keeps_the_sum(rate: float) -> None:
    """In training a share is zero and the rest larger for it; otherwise nothing changes. Each call has another mask, its rows too."""
    keras.utils.set_random_seed(3)
    x = np.ones((101, 1001), np.float32)
    layer = DropoutFromPool(rate, x.size)
    first, second = layer(x, training=True).numpy(), layer(x, training=True).numpy()

    assert (layer(x).numpy() == x).all()
    assert np.mean(first == 0) == pytest.approx(rate, abs=0.004)
    assert first.mean() == pytest.approx(1, abs=0.008)
    assert np.mean((first == 0) & (second == 0)) == pytest.approx(rate**2, abs=0.006)
    assert np.mean((first[1:] == 0) & (first[:-1] == 0)) == pytest.approx(rate**2, abs=0.006)
    assert sorted(np.unique(first)) == pytest.approx([0, 1 / (1 - rate)] if rate else [1])


def test_dropout_from_a_pool_is_that_of_its_seed() -> None:
    """Layers of one seed draw the same masks, of another others, whatever others draw; two in one step are not the same."""
    masks = []
    for seed in (1, 1, 2):
        layer = DropoutFromPool(0.5, 512, seed=seed)
        step = tf.function(lambda x, layer=layer: (layer(x, training=True), layer(x, training=True)))
        drawn = []
        for size in (300, 512, 300):
            drawn += [mask.numpy() for mask in step(tf.ones(size))]
            if len(masks) == 1:
                keras.utils.set_random_seed(0)
        masks.append(drawn)

    assert all((one == other).all() for one, other in zip(masks[0], masks[1], strict=True))
    assert not any((one == other).all() for one, other in zip(masks[0], masks[2], strict=True))
    assert (masks[0][0] != masks[0][1]).any() and (masks[0][0] != masks[0][-2]).any()


def test_small_inputs_have_many_masks() -> None:
    """A batch of one review has a mask of two dozen entries: none of them is dropped, or kept, for good."""
    layer = DropoutFromPool(0.5, 24)
    masks = np.array([layer(np.ones(24, np.float32), training=True).numpy() > 0 for _ in range(200)])

    assert len(np.unique(masks, axis=0)) > 190
    np.testing.assert_allclose(masks.mean(axis=0), 0.5, atol=0.2)


def test_dropout_from_a_pool_takes_no_more_than_it_has() -> None:
    """A mask that were cut short would be a quiet mistake."""
    with pytest.raises(tf.errors.InvalidArgumentError):
        DropoutFromPool(0.5, 512)(np.ones(513 + DropoutFromPool.ROOM, np.float32), training=True)
