"""The LSTM: its settings, its network, how it is trained and how it scores.

Two networks. *tutorial* is the article's: one LSTM over the last 100 tokens. *default* cuts a review into chunks that share a batch, so
that a long review costs no padding to a short one and the matrix products are large; vectors of words and of frequent pairs are joined by a
strided convolution, a bidirectional LSTM reads each chunk, and the review is the maximum and the mean over all of its chunks. Beside its
vector each word brings its evidence: what the n-gram part says of the n-grams that end at it.

Source: Hochreiter & Schmidhuber (1997); pooling and region embeddings after Johnson & Zhang (2016), "Supervised and semi-supervised text
categorization using LSTM for region embeddings".
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, model_validator

from tasks.model.forward import DefaultForward, TutorialForward
from tasks.model.linear import LinearSettings
from tasks.model.pairs import NO_PAIR, owned_buckets
from tasks.model.quantisation import PAIR_VECTORS, STEPS, WORD_VECTORS, dequantise_vectors
from tasks.model.runtime import import_tensorflow
from tasks.model.vocabulary import PADDING, UNKNOWN, TokenIds

if TYPE_CHECKING:
    import keras

EVIDENCE_SCALE = 2.5  # an n-gram's log-odds are small beside the entries of a word vector
_SCORING_CHUNKS, _SCORING_REVIEWS = 768, 256  # of one call when scoring: its arrays stay near the processor
OWNERS = "pair_owners"  # the name under which they stand among the weights
Score = Callable[[TokenIds, np.ndarray | None], np.ndarray]


class LstmSettings(BaseModel, frozen=True, extra="forbid"):
    """The network and its training."""

    network: Literal["default", "tutorial"] = Field(
        "default", description="default reads chunks both ways and pools; tutorial is the article's"
    )
    num_words: int = Field(
        30_000,
        ge=10,
        description="the most frequent words have vectors of their own; the rest share the unknown word's",
    )
    sequence_length: int = Field(1024, ge=1, description="tokens of a review that are read; the rest is cut off")
    chunk_length: int = Field(64, ge=4, description="tokens of a chunk (default network)")
    stride: int = Field(8, ge=1, description="tokens from one step of the LSTM to the next (default network)")
    kernel_size: int = Field(12, ge=1, description="tokens that the convolution before a step sees (default network)")
    embedding_size: int = Field(64, ge=1, description="length of a word vector")
    pair_buckets: int = Field(
        1 << 18,
        ge=0,
        description="vectors for word pairs; of those that hash to the same one, the most frequent has it; 0 for none (default network)",
    )
    evidence_size: int = Field(
        3, ge=0, le=3, description="n-gram lengths whose log-odds, by the n-gram part, each word brings along; 0 for none (default network)"
    )
    pretrained: bool = Field(True, description="start vectors of words and pairs from co-occurrences in the text (default network)")
    filters: int = Field(64, ge=1, description="outputs of the strided convolution (default network)")
    units: int = Field(48, ge=1, description="units of the LSTM, each way")
    word_dropout: float = Field(0.3, ge=0, lt=1, description="share of words replaced by the unknown word in training (default network)")
    embedding_dropout: float = Field(0.4, ge=0, lt=1, description="share of vector entries dropped in training (default network)")
    evidence_dropout: float = Field(0.3, ge=0, lt=1, description="share of evidence dropped in training (default network)")
    output_dropout: float = Field(0.5, ge=0, lt=1, description="share of pooled features dropped in training (default network)")
    soft_labels: float = Field(
        0.3, ge=0, le=1, description="weight of a teacher's probability in a training label, where there is a teacher (default network)"
    )
    adversarial: float = Field(
        0.05,
        ge=0,
        description="each batch is learnt once more with its word vectors moved to where the loss is worse, this far by token; "
        "0 for not (default network)",
    )
    learning_rate: float = Field(3e-3, gt=0, le=1, description="Adam's step size at the start")
    decay: bool = Field(True, description="let the learning rate fall to zero along a cosine (default network)")
    clip_norm: float = Field(1.0, gt=0, description="largest norm of a gradient (default network)")
    batch_size: int = Field(64, ge=1, description="reviews of one training step")
    epochs: int = Field(3, ge=1, description="times the training rows are gone through, at most")
    patience: int = Field(2, ge=0, description="epochs without a better validation loss before training stops; 0 never stops early")

    @model_validator(mode="after")
    def _check_lengths(self) -> "LstmSettings":
        if self.network == "default" and (self.chunk_length % self.stride or self.sequence_length % self.chunk_length):
            raise ValueError("sequence_length must be a multiple of chunk_length, and that of stride")
        if self.network == "default" and self.kernel_size < self.stride:
            raise ValueError("kernel_size must be at least stride, or tokens between two steps would be skipped")
        if self.pair_buckets == 1:
            raise ValueError("pair_buckets must be 0 (none) or at least 2")
        return self

    def with_evidence_of(self, linear: LinearSettings | None) -> "LstmSettings":
        """Return the settings, without evidence for n-grams that the n-gram part does not have."""
        return self.model_copy(update={"evidence_size": min(self.evidence_size, linear.max_ngram) if linear else 0})

    @classmethod
    def tutorial(cls) -> "LstmSettings":
        """Return the article's network and training."""
        return cls(
            network="tutorial", num_words=5000, sequence_length=100, embedding_size=128, units=128, pretrained=False, pair_buckets=0,
            evidence_size=0, adversarial=0,
            learning_rate=1e-3, batch_size=64, epochs=5, patience=0,
        )  # fmt: skip

    @classmethod
    def quick(cls) -> "LstmSettings":
        """Return a small network that trains in seconds."""
        return cls(
            num_words=5000,
            sequence_length=128,
            stride=4,
            kernel_size=8,
            embedding_size=32,
            pair_buckets=1 << 14,
            filters=32,
            units=16,
            adversarial=0,
            epochs=2,
        )


@dataclass(frozen=True)
class FittedLstm:
    """A trained network.

    Args:
        weights: Arrays by the names of `weight_shapes`; `LstmScorer` takes them.
        history: An entry an epoch: epoch (from 1), loss, accuracy, val_loss, val_accuracy, seconds, learning_rate.
        best_epoch: The epoch whose weights these are.
        summary: Keras' summary of the network.
    """

    weights: dict[str, np.ndarray]
    history: list[dict[str, float]]
    best_epoch: int
    summary: str

    def after(self, earlier: "FittedLstm") -> "FittedLstm":
        """Return this network with the history of the one that was trained before it put first."""
        done = len(earlier.history)
        history = [*earlier.history, *({**entry, "epoch": entry["epoch"] + done} for entry in self.history)]
        return replace(self, history=history, best_epoch=self.best_epoch + done)


@dataclass(frozen=True)
class Chunks:
    """Reviews cut into chunks.

    Args:
        words: int32, shape (num_chunks, chunk_length), 0 = padding.
        pairs: int32, shape (num_chunks, chunk_length): bucket of each word with its follower; 0 if they own none.
        evidence: float16, shape (num_chunks, chunk_length, evidence_size), 0 at padding.
        review: int32, shape (num_chunks,), ascending: the review each chunk belongs to.
        num_reviews: Reviews in all; each has a chunk at least.
    """

    words: np.ndarray
    pairs: np.ndarray
    evidence: np.ndarray
    review: np.ndarray
    num_reviews: int

    def inputs(self, chosen: Any = slice(None)) -> list[np.ndarray]:
        """Return what the network takes of the chosen chunks, all but which review they belong to."""
        evidence = [self.evidence[chosen].astype(np.float32)] if self.evidence.shape[2] else []
        return [self.words[chosen], self.pairs[chosen], *evidence]


def cut_into_chunks(ids: TokenIds, settings: LstmSettings, evidence: np.ndarray | None = None, owners: np.ndarray | None = None) -> Chunks:
    """Cut reviews into chunks, the last of each filled up with padding; a review without tokens is one chunk of padding.

    Args:
        ids: Reviews.
        settings: How long a chunk is, and how many a review has at most.
        evidence: float16, shape (num_tokens, at least evidence_size), of each token; zeros if not given.
        owners: Which pairs have a vector of their own, from `fit_pair_owners`; none if not given.
    """
    length, tokens = settings.chunk_length, ids.values
    read = np.minimum(ids.lengths, settings.sequence_length)
    num_chunks = np.maximum(-(-read // length), 1)
    review = np.repeat(np.arange(len(ids), dtype=np.int32), num_chunks)
    is_read = np.arange(len(tokens)) < np.repeat(ids.offsets[:-1] + read, ids.lengths)
    read_tokens = np.flatnonzero(is_read)
    first_place = (np.cumsum(num_chunks) - num_chunks) * length
    token = np.full(len(review) * length, len(tokens))  # that stands at each place of the chunks; the one behind the last is none
    token[read_tokens + np.repeat(first_place - ids.offsets[:-1], read)] = read_tokens

    def spread(values: np.ndarray, nothing: int) -> np.ndarray:
        with_nothing = np.concatenate([values, np.full((1, *values.shape[1:]), nothing, values.dtype)])
        return with_nothing.take(token, axis=0, mode="clip").reshape(len(review), length, *values.shape[1:])

    pairs = np.full(len(tokens), NO_PAIR, np.int32)
    if owners is not None and len(tokens):
        pairs[:-1] = owned_buckets(tokens[:-1], tokens[1:], owners)
        pairs[(ids.offsets[:-1] + read - 1)[read > 0]] = NO_PAIR  # the last token of a review has no follower
    known = np.where(tokens < settings.num_words, tokens, np.int32(UNKNOWN))
    brought = np.zeros((len(tokens), settings.evidence_size), np.float16) if evidence is None else evidence[:, : settings.evidence_size]
    return Chunks(spread(known, PADDING), spread(pairs, NO_PAIR), spread(brought, 0), review, len(ids))


def pad_before(ids: TokenIds, length: int) -> np.ndarray:
    """Return the last `length` ids of each review, padded with 0 at the front: Keras' `pad_sequences` by default.

    Returns:
        int32, shape (num_rows, length).
    """
    place = ids.offsets[1:, None] - length + np.arange(length)
    inside = place >= ids.offsets[:-1, None]
    values = ids.values if len(ids.values) else np.zeros(1, np.int32)
    return np.where(inside, values[np.clip(place, 0, len(values) - 1)], PADDING).astype(np.int32)


def build_network(settings: LstmSettings) -> "keras.Model":
    """Build the network, with fresh weights.

    Returns:
        *tutorial*: int32 (batch, sequence_length) → probability (batch, 1). *default*: words and pairs, int32 (chunks, chunk_length),
        evidence float32 (chunks, chunk_length, evidence_size) unless that is 0, review int32 (chunks,) and num_reviews int32 (1,)
        → log-odds (num_reviews, 1).
    """
    import_tensorflow()
    import keras

    if settings.network == "tutorial":
        return keras.Sequential(
            [
                keras.Input((settings.sequence_length,), dtype="int32"),
                keras.layers.Embedding(settings.num_words, settings.embedding_size, name="embedding"),
                keras.layers.LSTM(settings.units, name="lstm"),
                keras.layers.Dense(1, activation="sigmoid", name="output"),
            ],
            name="tutorial",
        )
    from tasks.model.layers import BothWays, DropoutFromPool, MaskedPooling, StridedConvolution, WordVectors

    most_tokens = settings.batch_size * settings.sequence_length  # of a batch in training
    words = keras.Input((settings.chunk_length,), dtype="int32", name="words")
    pairs = keras.Input((settings.chunk_length,), dtype="int32", name="pairs")
    review = keras.Input((), dtype="int32", name="review")
    num_reviews = keras.Input(batch_shape=(1,), dtype="int32", name="num_reviews")
    x = WordVectors(settings.num_words, settings.embedding_size, name="word_vectors")(words)
    if settings.pair_buckets:
        pair_vectors = WordVectors(settings.pair_buckets, settings.embedding_size, embeddings_initializer="zeros", name="pair_vectors")
        x = keras.layers.Add(name="words_and_pairs")([x, pair_vectors(pairs)])
    x = DropoutFromPool(settings.embedding_dropout, most_tokens * settings.embedding_size, name="embedding_dropout")(x)
    evidence, brought = [], [x]
    if settings.evidence_size:
        evidence = [keras.Input((settings.chunk_length, settings.evidence_size), name="evidence")]
        scaled = keras.layers.Rescaling(EVIDENCE_SCALE, name="evidence_scale")(evidence[0])
        brought.append(DropoutFromPool(settings.evidence_dropout, most_tokens * settings.evidence_size, name="evidence_dropout")(scaled))
    x = StridedConvolution(
        settings.filters, settings.kernel_size, strides=settings.stride, padding="same", activation="relu", name="convolution"
    )(brought)
    x = BothWays(keras.layers.LSTM(settings.units, return_sequences=True, name="lstm"), name="bidirectional")(x)
    x = MaskedPooling(settings.stride, name="pooling")([x, words, review, num_reviews])
    x = DropoutFromPool(settings.output_dropout, settings.batch_size * 4 * settings.units, name="output_dropout")(x)
    logits = keras.layers.Dense(1, name="output")(x)
    return keras.Model([words, pairs, *evidence, review, num_reviews], keras.layers.Flatten(name="log_odds")(logits), name="default")


def network_weights(network: "keras.Model") -> dict[str, np.ndarray]:
    """Return a copy of a network's weights, float32 arrays by layer and variable name."""
    return {variable.path: np.asarray(variable.numpy(), np.float32) for variable in network.trainable_variables}


class LstmScorer:
    """A network with its weights, ready for any number of reviews; the neighbours of one change no more than how its sums are rounded."""

    def __init__(self, weights: dict[str, np.ndarray], settings: LstmSettings) -> None:
        """Take weights by the names of `weight_shapes`: float32, but the owners int64; vectors may be int8, as they stand in steps.

        Raises:
            ValueError: The names or shapes of the weights are not those of the network.
        """
        expected, given = weight_shapes(settings), {name: value.shape for name, value in weights.items()}
        if expected != given:
            raise ValueError(f"The weights do not fit the network: expected {expected}, given {given}.")
        self.settings, self.owners = settings, weights.get(OWNERS)
        self._weights = weights
        self._score = _in_numpy(weights, settings)

    @classmethod
    def of_network(cls, network: "keras.Model", settings: LstmSettings, owners: np.ndarray | None = None) -> "LstmScorer":
        """Score with a Keras network that is still being trained, always by its present weights."""
        scorer = cls.__new__(cls)
        scorer.settings, scorer.owners = settings, owners
        scorer._score = _compiled(network, settings, owners)
        return scorer

    @cached_property
    def network(self) -> "keras.Model":
        """The Keras network with these weights, for what needs gradients or a graph."""
        network, weights = build_network(self.settings), dequantise_vectors(self._weights)
        for variable in network.trainable_variables:
            variable.assign(weights[variable.path])
        return network

    def logits(self, ids: TokenIds, evidence: np.ndarray | None = None) -> np.ndarray:
        """Return each review's log-odds of positive.

        Args:
            ids: Reviews.
            evidence: float16, shape (num_tokens, at least evidence_size), of each token; zeros if not given.

        Returns:
            float32, shape (num_rows,), in input order.
        """
        parts = [
            self._score(ids.between(start, stop), None if evidence is None else evidence[ids.offsets[start] : ids.offsets[stop]])
            for start, stop in self.groups(ids)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.float32)

    def groups(self, ids: TokenIds) -> Iterator[tuple[int, int]]:
        """Yield the first row, and the one after the last, of consecutive rows that together make a call of bounded size."""
        read = np.minimum(ids.lengths, self.settings.sequence_length)
        chunks = (
            np.ones(len(ids), np.int64) if self.settings.network == "tutorial" else np.maximum(-(-read // self.settings.chunk_length), 1)
        )
        group = (np.cumsum(chunks) - 1) // (_SCORING_REVIEWS if self.settings.network == "tutorial" else _SCORING_CHUNKS)
        borders = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(ids)] if len(ids) else []
        yield from itertools.pairwise(borders)


def weight_shapes(settings: LstmSettings) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of what a network scores with.

    They are those of `network_weights`, and beside them the steps of its vectors and the owners of its pairs' vectors.
    """

    def lstm(prefix: str, depth: int) -> dict[str, tuple[int, ...]]:
        gates = 4 * settings.units
        cell = {"kernel": (depth, gates), "recurrent_kernel": (settings.units, gates), "bias": (gates,)}
        return {f"{prefix}lstm/lstm_cell/{name}": shape for name, shape in cell.items()}

    size = settings.embedding_size
    if settings.network == "tutorial":
        return {
            "tutorial/embedding/embeddings": (settings.num_words, size),
            **lstm("tutorial/", size),
            "tutorial/output/kernel": (settings.units, 1),
            "tutorial/output/bias": (1,),
        }
    return {
        WORD_VECTORS: (settings.num_words, size),
        **({PAIR_VECTORS: (settings.pair_buckets, size), OWNERS: (settings.pair_buckets,)} if settings.pair_buckets else {}),
        STEPS: (size,),
        "convolution/kernel": (settings.kernel_size, size + settings.evidence_size, settings.filters),
        "convolution/bias": (settings.filters,),
        **lstm("bidirectional/forward_", settings.filters),
        **lstm("bidirectional/backward_", settings.filters),
        "output/kernel": (4 * settings.units, 1),
        "output/bias": (1,),
    }


def _in_numpy(weights: dict[str, np.ndarray], settings: LstmSettings) -> Score:
    """Arrange weights so that NumPy can score with them."""
    if settings.network == "tutorial":
        tutorial = TutorialForward(weights, settings)
        return lambda ids, evidence: tutorial(pad_before(ids, settings.sequence_length))
    default = DefaultForward(weights, settings, EVIDENCE_SCALE)
    return lambda ids, evidence: default(cut_into_chunks(ids, settings, evidence, weights.get(OWNERS)))


def _compiled(network: "keras.Model", settings: LstmSettings, owners: np.ndarray | None) -> Score:
    """Compile a Keras network once for any number of reviews."""
    tf = import_tensorflow()
    ids = tf.TensorSpec((None, settings.sequence_length if settings.network == "tutorial" else settings.chunk_length), tf.int32)
    if settings.network == "tutorial":

        @tf.function(input_signature=[ids])
        def call(words: Any) -> Any:
            return network(words, training=False)

        def score_tutorial(ids: TokenIds, evidence: np.ndarray | None) -> np.ndarray:
            probability = call(pad_before(ids, settings.sequence_length)).numpy()[:, 0].astype(np.float64)
            probability = np.clip(probability, 1e-7, 1 - 1e-7)
            return np.asarray(np.log(probability / (1 - probability)), np.float32)

        return score_tutorial
    evidence = tf.TensorSpec((None, settings.chunk_length, settings.evidence_size), tf.float32)
    inputs = [ids, ids, evidence] if settings.evidence_size else [ids, ids]

    @tf.function(input_signature=[*inputs, tf.TensorSpec((None,), tf.int32), tf.TensorSpec((1,), tf.int32)])
    def call_default(*given: Any) -> Any:
        return network(list(given), training=False)

    def score(ids: TokenIds, evidence: np.ndarray | None) -> np.ndarray:
        chunks = cut_into_chunks(ids, settings, evidence, owners)
        logits = call_default(*chunks.inputs(), chunks.review, np.array([chunks.num_reviews], np.int32))
        return np.asarray(logits.numpy()[:, 0], np.float32)

    return score
