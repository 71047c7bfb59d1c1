"""Layers that Keras has not, and some that it has, faster on a processor.

`StridedConvolution` and `BothWays` have the weights, the results and the gradients of Keras' own, and tests hold them to it.
"""

import math
from typing import Any

import keras
import tensorflow as tf


class WordDropout(keras.layers.Layer):  # type: ignore[misc]
    """Replaces a share of the ids by another id, in training only; padding stays. int32 in, int32 out, same shape."""

    def __init__(self, rate: float, replacement: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate
        self.replacement = replacement
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, words: Any, training: bool = False) -> Any:
        """Return words, some of them replaced."""
        if not training or not self.rate:
            return words
        dropped = keras.random.uniform(tf.shape(words), seed=self.seed_generator) < self.rate
        return tf.where(dropped & (words != 0), self.replacement, words)


class ByteDropout(keras.layers.Dropout):  # type: ignore[misc]
    """Keras' Dropout by a random byte for each entry instead of 32 bits, a quarter of the cost; its rate is rounded to 1/256."""

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Return inputs, in training some of them replaced by zeros and the others made larger for it."""
        num_kept = max(256 - round(256 * self.rate), 1)
        if not training or num_kept == 256:
            return inputs
        seed = tf.cast(self.seed_generator.next(), tf.int32)
        words = tf.random.stateless_uniform((tf.size(inputs) // 4 + 1,), seed, None, None, tf.int32)
        kept = tf.reshape(tf.bitcast(words, tf.uint8), (-1,))[: tf.size(inputs)] < num_kept
        return inputs * tf.reshape(tf.cast(kept, inputs.dtype) * (256 / num_kept), tf.shape(inputs))


class WordVectors(keras.layers.Embedding):  # type: ignore[misc]
    """Keras' Embedding, read row by row: its own call reads the whole table, so that sparse updates must copy it at every step."""

    def call(self, ids: Any) -> Any:
        """Return the vectors of ids, float32, shape (*ids.shape, output_dim)."""
        return tf.gather(self._embeddings.value, ids)


class MaskedPooling(keras.layers.Layer):  # type: ignore[misc]
    """Takes the maximum and the mean over all steps of all chunks of a review, padding left out.

    Inputs: features (chunks, steps, num_features), words (chunks, steps * stride), review (chunks,) ascending, num_reviews (1,).
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
        inside = tf.reduce_any(tf.reshape(words != 0, (chunks, steps, self.stride)), axis=2)[:, :, None]  # (chunks, steps, 1)
        weight = tf.cast(inside, features.dtype)
        count = num_reviews[0]
        largest = tf.reduce_max(tf.where(inside, features, features.dtype.min), axis=1)  # (chunks, num_features)
        largest = tf.math.segment_max(largest, review)
        num_steps = tf.math.segment_sum(tf.reduce_sum(weight, axis=1), review)  # (num_reviews, 1)
        mean = tf.math.segment_sum(tf.reduce_sum(features * weight, axis=1), review) / tf.maximum(num_steps, 1.0)
        pooled = tf.concat([tf.where(num_steps > 0, largest, 0.0), mean], axis=1)
        return tf.ensure_shape(tf.reshape(pooled, (count, 2 * features.shape[2])), (None, 2 * features.shape[2]))


class StridedConvolution(keras.layers.Conv1D):  # type: ignore[misc]
    """Keras' Conv1D with padding "same", as products of a few large matrices, forwards and backwards."""

    def call(self, x: Any) -> Any:
        """Return what the filters find, float32: (chunks, length, depth) → (chunks, length / strides, filters)."""
        (stride,), (size,), (_, length, depth) = self.strides, self.kernel_size, x.shape
        steps, piece = length // stride, math.gcd(stride, size)
        stretches, pieces = steps - 1 + -(-size // stride), stride // piece
        before = max((steps - 1) * stride + size - length, 0) // 2
        wide = tf.pad(x, ((0, 0), (before, stretches * stride - length - before), (0, 0)))
        told = tf.split(tf.reshape(wide, (-1, stride * depth)), pieces, 1)
        found = self.bias
        for number, kernel in enumerate(tf.split(self.kernel, size // piece)):
            product = tf.matmul(told[number % pieces], tf.reshape(kernel, (-1, self.filters)))
            product = tf.reshape(product, (-1, stretches, self.filters))
            found += tf.slice(product, (0, number // pieces, 0), (-1, steps, -1))
        return self.activation(found)


class BothWays(keras.layers.Bidirectional):  # type: ignore[misc]
    """Keras' Bidirectional around an LSTM that returns sequences, both ways side by side: half the operations, each twice as large.

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
        (_, steps, depth), units = sequences.shape, self.forward_layer.units
        cells = [layer.cell for layer in (self.forward_layer, self.backward_layer)]
        flat = tf.reshape(tf.transpose(sequences, (1, 0, 2)), (-1, depth))
        brought = [tf.matmul(flat, _sigmoids_first(cell.kernel)) + _sigmoids_first(cell.bias) for cell in cells]
        forward, backward = (tf.split(gates, steps) for gates in brought)  # by step: (chunks, 4 * units)
        recurrent = tf.stack([_sigmoids_first(cell.recurrent_kernel) for cell in cells])
        state = memory = tf.zeros((2, tf.shape(sequences)[0], units))
        states = []  # by step; backwards from the end
        for step in range(steps):
            gates = tf.stack([forward[step], backward[-1 - step]]) + tf.matmul(state, recurrent)
            sigmoids, candidate = tf.split(gates, [3 * units, units], -1)
            into, forget, out = tf.split(tf.sigmoid(sigmoids), 3, -1)
            memory = forget * memory + into * tf.tanh(candidate)
            state = out * tf.tanh(memory)
            states.append(tf.unstack(state))
        forward, backward = (tf.stack(way, 1) for way in zip(*states, strict=True))
        return tf.concat([forward, tf.reverse(backward, [1])], -1)


def _sigmoids_first(weights: Any) -> Any:
    """Take Keras' order of gates (input, forget, candidate, output): the candidate, which alone has no sigmoid, goes last."""
    into, forget, candidate, out = tf.split(weights, 4, -1)
    return tf.concat([into, forget, out, candidate], -1)
