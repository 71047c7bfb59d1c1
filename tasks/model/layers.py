"""The layers that Keras has no twin of."""

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
