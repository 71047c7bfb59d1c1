"""A model as one TensorFlow graph: raw reviews in, probabilities out, nothing of this project needed to run it.

Every operation has its twin in the code that scores (`text.py`, `vocabulary.py`, `linear.py`, `lstm.py`, `pairs.py`, `stack.py`), named
beside it. An export is checked against that code before anybody gets it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.model.bundle import LINEAR, LSTM, SentimentModel
from tasks.model.linear import MULTIPLIERS, LinearSettings
from tasks.model.lstm import LstmSettings
from tasks.model.pairs import FIRST_MULTIPLIER, NO_PAIR, PAIR_MIXER, SECOND_MULTIPLIER
from tasks.model.runtime import import_tensorflow
from tasks.model.text_graph import TokenGraph, lookup_table
from tasks.model.vocabulary import PADDING, UNKNOWN

P_POSITIVE, SCORED = "p_positive", "scored"


@dataclass(frozen=True)
class GraphIds:
    """Token ids inside a graph, as `TokenIds` outside: int64 (num_tokens,), int64 (num_rows + 1,), and each token's row, int64."""

    values: Any
    offsets: Any
    rows: Any

    @property
    def lengths(self) -> Any:
        """int64, shape (num_rows,)."""
        return self.offsets[1:] - self.offsets[:-1]


def serving_module(model: SentimentModel) -> Any:
    """Return a `tf.Module` whose `serve` takes tf.string (num_rows,) and returns `p_positive`, float32, and `scored`, bool.

    `scored` is False where no word of a review is known; its probability then says nothing.
    """
    tf = import_tensorflow()
    settings = model.settings

    class ServingModule(tf.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__(name="sentiment")
            self.text = TokenGraph(settings.clean, settings.tokenize)
            self.text_state = self.text.state
            first = model.vocabulary.first_id
            absent = UNKNOWN if model.vocabulary.unknown == "oov" else -1
            self.vocabulary = lookup_table({token: first + place for place, token in enumerate(model.vocabulary.tokens)}, absent)
            self.is_word = tf.Variable(model.vocabulary.holds_letters, trainable=False, name="is_word")
            self.network = model.lstm.network
            self.owners = None if model.lstm.owners is None else tf.Variable(model.lstm.owners, trainable=False, name="owners")
            if model.linear is not None:
                self.ngrams = tf.Variable(model.linear["ngrams"], trainable=False, name="ngrams")
                self.bias = tf.Variable(model.linear["bias"], trainable=False, name="bias")

        @tf.function(input_signature=[tf.TensorSpec((None,), tf.string, name="reviews")])
        def serve(self, reviews: Any) -> dict[str, Any]:
            ids = self._ids(reviews)
            words = tf.math.unsorted_segment_sum(tf.cast(tf.gather(self.is_word, ids.values), tf.int32), ids.rows, tf.size(reviews))
            total = tf.fill((tf.size(reviews),), tf.constant(model.stack.bias, tf.float64))
            for part, logits in self._logits(ids).items():
                total += tf.cast(logits, tf.float64) * model.stack.weights.get(part, 0.0)
            return {P_POSITIVE: tf.cast(tf.sigmoid(total), tf.float32), SCORED: words > 0}

        def _ids(self, reviews: Any) -> GraphIds:
            tokens = self.text.tokens(reviews)
            ids = tokens.with_flat_values(self.vocabulary.lookup(tokens.flat_values))
            if model.vocabulary.unknown == "drop":
                ids = tf.ragged.boolean_mask(ids, ids >= 0)
            return GraphIds(ids.flat_values, tf.cast(ids.row_splits, tf.int64), tf.cast(ids.value_rowids(), tf.int64))

        def _logits(self, ids: GraphIds) -> dict[str, Any]:
            if settings.lstm.network == "tutorial":
                probability = tf.cast(self.network(pad_before(ids, settings.lstm.sequence_length), training=False)[:, 0], tf.float64)
                probability = tf.clip_by_value(probability, 1e-7, 1 - 1e-7)
                logits = {LSTM: tf.cast(tf.math.log(probability / (1 - probability)), tf.float32)}
            else:
                evidence = token_evidence(ids, self.ngrams, settings.linear) if settings.lstm.evidence_size and settings.linear else None
                logits = {LSTM: self.network(cut_into_chunks(ids, settings.lstm, evidence, self.owners), training=False)[:, 0]}
            if model.linear is not None and settings.linear is not None:
                logits[LINEAR] = ngram_logits(ids, self.ngrams, self.bias, settings.linear)
            return logits

    return ServingModule()


def hashed_ngrams(ids: GraphIds, settings: LinearSettings) -> Iterator[tuple[int, Any, Any, Any]]:
    """Yield length, row, place of the first token and bucket of every n-gram, hashed as `linear._hashed_blocks` does."""
    tf = import_tensorflow()
    values = tf.cast(ids.values, tf.uint64)
    for n in range(1, settings.max_ngram + 1):
        count = tf.maximum(tf.size(values) - n + 1, 0)
        mixed = tf.fill((count,), tf.constant(n, tf.uint64))
        for place in range(n):
            mixed = tf.bitwise.bitwise_xor(mixed, values[place : place + count]) * tf.constant(MULTIPLIERS[place], tf.uint64)
            mixed = tf.bitwise.bitwise_xor(mixed, tf.bitwise.right_shift(mixed, tf.constant(29, tf.uint64)))
        mixed *= tf.constant(MULTIPLIERS[0], tf.uint64)
        whole = tf.where(ids.rows[:count] == ids.rows[n - 1 : n - 1 + count])[:, 0]
        bucket = tf.bitwise.right_shift(tf.gather(mixed, whole), tf.constant(64 - settings.hash_bits, tf.uint64))
        yield n, tf.gather(ids.rows, whole), whole, tf.cast(bucket, tf.int64)


def ngram_logits(ids: GraphIds, ngrams: Any, bias: Any, settings: LinearSettings) -> Any:
    """Return the n-gram part's log-odds, float32, shape (num_rows,), as `linear.linear_logits` does."""
    tf = import_tensorflow()
    bits = settings.hash_bits
    keys = [tf.bitwise.left_shift(row, tf.constant(bits, tf.int64)) + bucket for _, row, _, bucket in hashed_ngrams(ids, settings)]
    distinct, _ = tf.unique(tf.concat(keys, axis=0))
    weights = tf.cast(tf.gather(ngrams, distinct % (1 << bits)), tf.float64)
    rows = tf.bitwise.right_shift(distinct, tf.constant(bits, tf.int64))
    return tf.cast(tf.math.unsorted_segment_sum(weights, rows, tf.size(ids.lengths)), tf.float32) + bias


def token_evidence(ids: GraphIds, weights: Any, settings: LinearSettings) -> Any:
    """Return what the n-grams that end at each token say, float32, as `linear.ngram_evidence` does."""
    tf = import_tensorflow()
    columns = []
    for n, _, place, bucket in hashed_ngrams(ids, settings):
        found = tf.cast(tf.gather(weights, bucket), tf.float32)
        columns.append(tf.scatter_nd((place + n - 1)[:, None], found, tf.shape(ids.values, tf.int64)))
    return tf.stack(columns, axis=1)


def cut_into_chunks(ids: GraphIds, settings: LstmSettings, evidence: Any, owners: Any) -> list[Any]:
    """Return what the network takes: words, pairs, evidence if it takes any, review and num_reviews, as `lstm.cut_into_chunks` does."""
    tf = import_tensorflow()
    length, num_reviews = settings.chunk_length, tf.size(ids.lengths)
    read = tf.minimum(ids.lengths, settings.sequence_length)
    num_chunks = tf.maximum(-(-read // length), 1)
    review = tf.repeat(tf.range(num_reviews), num_chunks)
    first_chunk = tf.gather(tf.cumsum(num_chunks, exclusive=True), review)
    start = tf.gather(ids.offsets[:-1], review) + (tf.range(tf.size(review, tf.int64)) - first_chunk) * length
    place = start[:, None] + tf.range(length + 1, dtype=tf.int64)
    inside = place < tf.gather(ids.offsets[:-1] + read, review)[:, None]
    beyond = tf.size(ids.values, tf.int64)
    place = tf.where(inside, place, beyond)
    words = tf.gather(tf.concat([ids.values, [PADDING]], axis=0), place)
    pairs = owned_buckets(words[:, :-1], words[:, 1:], owners)
    known = tf.where(words[:, :-1] < settings.num_words, words[:, :-1], UNKNOWN)
    inputs = [tf.cast(known, tf.int32), pairs]
    if settings.evidence_size:
        nothing = tf.zeros((tf.size(ids.values), settings.evidence_size), tf.float32)
        brought = nothing if evidence is None else evidence[:, : settings.evidence_size]
        padded = tf.concat([brought, tf.zeros((1, settings.evidence_size), tf.float32)], axis=0)
        inputs.append(tf.gather(padded, place[:, :-1]))
    return [*inputs, review, num_reviews[None]]


def owned_buckets(words: Any, followers: Any, owners: Any) -> Any:
    """Return the bucket of each word with its follower, int32, same shape, as `pairs.owned_buckets` does; 0 without owners."""
    tf = import_tensorflow()
    if owners is None:
        return tf.fill(tf.shape(words), NO_PAIR)

    def shifted(values: Any, bits: int) -> Any:
        return tf.bitwise.right_shift(values, tf.constant(bits, tf.int64))

    def times(values: Any, multiplier: np.uint32) -> Any:  # of 32 bits, as unsigned ones are multiplied
        return tf.bitwise.bitwise_and(values * tf.constant(int(multiplier), tf.int64), tf.constant(0xFFFFFFFF, tf.int64))

    mixed = tf.bitwise.bitwise_xor(times(words, FIRST_MULTIPLIER), times(followers, SECOND_MULTIPLIER))
    mixed = times(tf.bitwise.bitwise_xor(mixed, shifted(mixed, 15)), PAIR_MIXER)
    bucket = shifted(mixed * (tf.size(owners, tf.int64) - 1), 32) + 1
    bucket = tf.where((words == PADDING) | (followers == PADDING), tf.constant(NO_PAIR, tf.int64), bucket)
    name = tf.bitwise.bitwise_or(tf.bitwise.left_shift(words, tf.constant(32, tf.int64)), followers)
    return tf.cast(tf.where(tf.gather(owners, bucket) == name, bucket, tf.constant(NO_PAIR, tf.int64)), tf.int32)


def pad_before(ids: GraphIds, length: int) -> Any:
    """Return the last `length` ids of each review, padded with 0 at the front, int32 (num_rows, length), as `lstm.pad_before` does."""
    tf = import_tensorflow()
    place = ids.offsets[1:, None] - length + tf.range(length, dtype=tf.int64)
    inside = place >= ids.offsets[:-1, None]
    padded = tf.concat([ids.values, tf.constant([PADDING], tf.int64)], axis=0)
    return tf.cast(tf.gather(padded, tf.where(inside, place, tf.size(ids.values, tf.int64))), tf.int32)


def score_with(serve: Any, reviews: list[str], rows_at_once: int = 256) -> np.ndarray:
    """Return what an exported model's `serve` says of reviews, float32, shape (num_reviews,)."""
    tf = import_tensorflow()
    parts = [
        serve(tf.constant(reviews[start : start + rows_at_once]))[P_POSITIVE].numpy() for start in range(0, len(reviews), rows_at_once)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)
