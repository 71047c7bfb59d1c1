"""Layers that Keras has not, and some that it has, faster on a processor.

`StridedConvolution` and `BothWays` have the weights, the results and the gradients of Keras' own, and tests hold them to it.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

_FAR_BELOW = -4.0  # what pooling adds to steps of padding: an LSTM's states are between -1 and 1


def _with_own_gradient(function: Callable[..., tuple[Any, Callable[[Any], Any]]]) -> Callable[..., Any]:
    """TensorFlow's `custom_gradient`, which leaves nothing behind: its own registers each gradient for good, with the whole graph it is of.

    The register is for `tf.gradients`; a tape does not look there.
    """
    from tensorflow.python.framework import ops

    register = ops.gradient_registry

    @functools.wraps(function)
    def call(*inputs: Any) -> Any:
        known = set(register.list())
        try:
            return tf.custom_gradient(function)(*inputs)
        finally:
            for name in set(register.list()) - known:
                register._registry.pop(name, None)

    return call


class DropoutFromPool(keras.layers.Dropout):  # type: ignore[misc]
    """Keras' Dropout of float32 that cuts its mask out of a pool drawn once, from another place each time: a quarter of the cost.

    Keras' `noise_shape` does not count.

    Args:
        rate: Share of the entries that are dropped.
        largest: Entries that the inputs have at most; the pool, 4 bytes an entry, has `ROOM` more.
    """

    ALIGNMENT = 16  # entries; a mask that begins at a multiple of 64 bytes is used where it lies
    ROOM = 1 << 20  # entries, so that the largest mask has 65,536 places to begin at

    def __init__(self, rate: float, largest: int, **kwargs: Any) -> None:
        super().__init__(rate, **kwargs)
        self.pool_size = largest + self.ROOM

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return inputs, in training some of them replaced by zeros and the others made larger for it."""
        if not training or not self.rate:
            return inputs
        if not hasattr(self, "pool"):
            with tf.init_scope():
                seed = int(self.seed_generator.state[0])
                kept = tf.random.stateless_uniform((self.pool_size,), (seed, 0)) >= self.rate
                self.pool = tf.cast(kept, tf.float32) / (1 - self.rate)
                self.places = tf.random.Generator.from_seed(seed)  # has a state of its own, which no other training sets back
        size = tf.size(inputs)
        start = self.ALIGNMENT * self.places.uniform((), 0, (self.pool_size - size) // self.ALIGNMENT, tf.int32)
        return inputs * tf.reshape(self.pool[start : start + size], tf.shape(inputs))


class WordVectors(keras.layers.Embedding):  # type: ignore[misc]
    """Keras' Embedding, read row by row: its own call reads the whole table, so that sparse updates must copy it at every step."""

    def call(self, ids: Any) -> Any:
        """Return the vectors of ids, float32, shape (*ids.shape, output_dim)."""
        return tf.gather(self._embeddings.value, ids)


class MaskedPooling(keras.layers.Layer):  # type: ignore[misc]
    """Takes the maximum and the mean over all steps of all chunks of a review, padding left out.

    Inputs: features (chunks, steps, num_features) between -1 and 1, words (chunks, steps * stride), review (chunks,) ascending,
    num_reviews (1,).
    Output: (num_reviews, 2 * num_features); zeros for a review that is padding alone.
    """

    def __init__(self, stride: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stride = stride

    def compute_output_shape(self, input_shape: Any) -> tuple[None, int]:
        """Return (None, twice the number of features)."""
        return (None, 2 * input_shape[0][2])

    def call(self, inputs: list[Any]) -> Any:
        """Return the pooled features."""
        features, words, review, num_reviews = inputs
        chunks, steps = tf.shape(features)[0], features.shape[1]
        inside = tf.reduce_any(tf.reshape(words != 0, (chunks, steps, self.stride)), axis=2)  # (chunks, steps)
        pooled = _pooled(features, tf.cast(inside, tf.float32), review)
        return tf.ensure_shape(tf.reshape(pooled, (num_reviews[0], 2 * features.shape[2])), (None, 2 * features.shape[2]))


@_with_own_gradient
def _pooled(features: Any, weight: Any, review: Any) -> tuple[Any, Callable[[Any], tuple[Any, None, None]]]:
    """Return maximum and mean, side by side, over the steps of each review whose weight is 1, not 0.

    The gradient is what TensorFlow's own would be, in a third of the operations: that of a maximum is divided among the steps that have it.
    """
    num_steps = tf.math.segment_sum(tf.reduce_sum(weight, axis=1), review)[:, None]  # (num_reviews, 1)
    masked = features + (_FAR_BELOW * (1 - weight))[:, :, None]
    largest = tf.math.segment_max(tf.reduce_max(masked, axis=1), review)  # (num_reviews, num_features)
    mean = tf.math.segment_sum(tf.matmul(weight[:, None, :], features)[:, 0], review) / tf.maximum(num_steps, 1.0)

    def gradients(upstream: Any) -> tuple[Any, None, None]:
        of_largest, of_mean = tf.split(upstream, 2, 1)
        is_largest = tf.cast(tf.equal(masked, tf.gather(largest, review)[:, None, :]), tf.float32)
        times = tf.math.segment_sum(tf.reduce_sum(is_largest, axis=1), review)  # at least 1
        of_largest, of_mean = (tf.gather(slope, review)[:, None, :] for slope in (of_largest / times, of_mean / tf.maximum(num_steps, 1.0)))
        return weight[:, :, None] * (is_largest * of_largest + of_mean), None, None

    return tf.concat([tf.where(num_steps > 0, largest, 0.0), mean], axis=1), gradients


class StridedConvolution(keras.layers.Conv1D):  # type: ignore[misc]
    """Keras' Conv1D with padding "same" over arrays side by side, as if joined in their depth, as products of large matrices.

    A step must not skip tokens, and the last must be whole; of Conv1D's options only strides, activation and initializers count.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.input_spec = None  # Keras' own refuses several arrays

    def build(self, input_shape: Any) -> None:
        """Make the weights of Keras' own for the depths together.

        Raises:
            ValueError: The kernel is smaller than a step, or the length no multiple of one.
        """
        if self.kernel_size[0] < self.strides[0] or input_shape[0][1] % self.strides[0]:
            raise ValueError(f"A kernel of {self.kernel_size[0]} over {input_shape[0][1]} tokens cannot go on by {self.strides[0]}.")
        super().build((*input_shape[0][:2], sum(shape[2] for shape in input_shape)))
        self.input_spec = None

    def compute_output_shape(self, input_shape: Any) -> tuple[Any, ...]:
        """Return (None, steps, filters); Keras' own `build` asks for that of one array."""
        chunks, length, _ = input_shape[0] if isinstance(input_shape, list) else input_shape
        return (chunks, length // self.strides[0], self.filters)

    def call(self, inputs: list[Any]) -> Any:
        """Return what the filters find, float32: arrays of (chunks, length, depth) → (chunks, length / strides, filters)."""
        kernels = tf.split(self.kernel, [array.shape[2] for array in inputs], 1)
        found = self.bias
        for array, kernel in zip(inputs, kernels, strict=True):
            found += _convolve(array, kernel, self.strides[0])
        return self.activation(found)


def _convolve(x: Any, kernel: Any, stride: int) -> Any:
    """Convolve (chunks, length, depth) by (size, depth, filters), zeros around, a step every `stride`: (chunks, steps, filters).

    A step sees a stretch of `stride` whole, which lies in memory as the product needs it, and beside it the ends of its neighbours.
    The gradient is written out, as TensorFlow's own would make a copy of x for each slice of it.
    """
    (_, length, depth), (size, _, filters) = x.shape, kernel.shape
    steps, before = length // stride, (size - stride) // 2
    num_before, num_after = (-(-beside // stride) for beside in (before, size - stride - before))  # stretches that are seen beside the own
    starts = {away: before + stride * away for away in range(-num_before, num_after + 1)}  # where in the kernel each stretch begins

    @_with_own_gradient
    def convolve(x: Any, kernel: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any]]]:
        own = tf.reshape(x, (-1, stride * depth))
        outer = tf.concat([kernel[:before], kernel[before + stride :]], 0)  # what falls on the neighbours
        around = _neighbours(tf.reshape(x, (-1, steps, stride, depth)), starts, size)
        found = own @ _as_matrix(kernel[before : before + stride]) + around @ _as_matrix(outer)

        def gradients(upstream: Any) -> tuple[Any, Any]:
            flat = tf.reshape(upstream, (-1, filters))
            by_own, by_outer = (_by_kernel(seen, flat, depth) for seen in (own, around))
            by_x = []
            for first, last, seen_from in _groups(starts, size, stride):
                slopes = tf.concat([_shifted(upstream, -away) for away in seen_from], 2)
                parts = [kernel[starts[away] + first : starts[away] + last] for away in seen_from]
                turned = tf.concat([tf.transpose(part, (2, 0, 1)) for part in parts], 0)
                by_x.append(tf.reshape(slopes, (-1, turned.shape[0])) @ tf.reshape(turned, (turned.shape[0], -1)))
            return tf.reshape(tf.concat(by_x, 1), tf.shape(x)), tf.concat([by_outer[:before], by_own, by_outer[before:]], 0)

        return tf.reshape(found, (-1, steps, filters)), gradients

    return convolve(x, kernel)


def _neighbours(stretches: Any, starts: dict[int, int], size: int) -> Any:
    """Return what each step sees beside its own stretch: (chunks, steps, stride, depth) → (chunks * steps, (size - stride) * depth)."""
    _, steps, stride, depth = stretches.shape
    if size == stride:
        return tf.zeros((steps * tf.shape(stretches)[0], 0))
    ends = [_shifted(stretches[:, :, max(-start, 0) : size - start], away) for away, start in starts.items() if away]
    rows = tf.concat([tf.reshape(end, (-1, steps, end.shape[2] * depth)) for end in ends], 2)
    return tf.reshape(rows, (-1, (size - stride) * depth))


def _as_matrix(kernel: Any) -> Any:
    return tf.reshape(kernel, (-1, kernel.shape[2]))


def _by_kernel(seen: Any, upstream: Any, depth: int) -> Any:
    """Return the gradient by the part of the kernel that sees this, (tokens, depth, filters); it is the narrow matrix that is turned."""
    return tf.reshape(tf.transpose(tf.matmul(upstream, seen, transpose_a=True)), (-1, depth, upstream.shape[1]))


def _groups(starts: dict[int, int], size: int, stride: int) -> list[tuple[int, int, list[int]]]:
    """Return runs of places in a stretch that are seen by the same steps: first, one after the last, how far these steps are before it."""
    seen = [[away for away, start in starts.items() if 0 <= start + place < size] for place in range(stride)]
    borders = [0, *(place for place in range(1, stride) if seen[place] != seen[place - 1]), stride]
    return [(first, last, seen[first]) for first, last in itertools.pairwise(borders)]


def _shifted(values: Any, by: int) -> Any:
    """Return the values of the step that comes `by` steps later, zeros where there is none: (chunks, steps, …) → the same shape."""
    steps = values.shape[1]
    by = max(-steps, min(by, steps))
    if not by:
        return values
    zeros = tf.zeros_like(values[:, : abs(by)])
    return tf.concat([values[:, by:], zeros] if by > 0 else [zeros, values[:, :by]], 1)


class BothWays(keras.layers.Bidirectional):  # type: ignore[misc]
    """Keras' Bidirectional around an LSTM that returns sequences, each way one operation of TensorFlow instead of thirty a step.

    A GPU takes Keras' own, which is cuDNN's there.
    """

    def build(self, sequences_shape: Any) -> None:
        """Make the weights of both ways; Keras asks that `build` takes what `call` takes, and its own takes initial states too."""
        super().build(sequences_shape)

    def compute_output_shape(self, sequences_shape: Any) -> tuple[Any, ...]:
        """Return (None, steps, 2 * units)."""
        return (*sequences_shape[:2], 2 * self.forward_layer.units)

    def call(self, sequences: Any) -> Any:
        """Return the states of the LSTM each way, float32: (chunks, steps, depth) → (chunks, steps, 2 * units)."""
        if tf.config.list_physical_devices("GPU"):
            return super().call(sequences)
        by_step = tf.transpose(sequences, (1, 0, 2))
        forward = _states(by_step, self.forward_layer.cell)
        backward = tf.reverse(_states(tf.reverse(by_step, [0]), self.backward_layer.cell), [0])
        return tf.transpose(tf.concat([forward, backward], 2), (1, 0, 2))


def _states(by_step: Any, cell: Any) -> Any:
    """Return the states of an LSTM from zeros on: (steps, chunks, depth) → (steps, chunks, units)."""
    steps, chunks, _ = tf.unstack(tf.shape(by_step, tf.int64))
    zeros, no_peephole = tf.zeros((chunks, cell.units)), tf.zeros(cell.units)

    # TensorFlow has given BlockLSTMV2, which has Keras' order of gates, the gradient of BlockLSTM, which has not: it must be named.
    @_with_own_gradient
    def states(x: Any, weights: Any, bias: Any) -> tuple[Any, Callable[[Any], tuple[Any, Any, Any]]]:
        given = {
            "seq_len_max": steps, "x": x, "cs_prev": zeros, "h_prev": zeros, "w": weights, "b": bias, "wci": no_peephole,
            "wcf": no_peephole, "wco": no_peephole, "use_peephole": False,
        }  # fmt: skip
        found = tf.raw_ops.BlockLSTMV2(**given, cell_clip=-1.0)._asdict()  # no clipping

        def gradients(upstream: Any) -> tuple[Any, Any, Any]:
            slopes = tf.raw_ops.BlockLSTMGradV2(**given, **found, cs_grad=tf.zeros_like(found["cs"]), h_grad=upstream)
            return slopes.x_grad, slopes.w_grad, slopes.b_grad

        return found["h"], gradients

    return states(by_step, tf.concat([cell.kernel, cell.recurrent_kernel], 0), tf.convert_to_tensor(cell.bias))
