"""How the LSTM learns: epochs, early stopping on the validation loss, dropped words, harder batches."""

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.errors import CallerError
from tasks.model.adam import adam, rows_of_batch
from tasks.model.embeddings import Embeddings
from tasks.model.lstm import (
    OWNERS,
    Chunks,
    FittedLstm,
    LstmScorer,
    LstmSettings,
    build_network,
    cut_into_chunks,
    network_weights,
    pad_before,
)
from tasks.model.pairs import fit_pair_owners
from tasks.model.quantisation import dequantise_vectors, quantise_vectors
from tasks.model.runtime import import_tensorflow
from tasks.model.vocabulary import PADDING, UNKNOWN, TokenIds

_seeding = threading.Lock()
_VECTOR_SCALE = 0.2  # of pretrained vectors, whose mean squared entry is 1: large enough to outlast the first steps of training


@dataclass(frozen=True)
class Evidence:
    """What n-grams say of each token, float16, shape (num_tokens, at least evidence_size): by weights that have not seen the review."""

    training: np.ndarray
    validation: np.ndarray


def fit_lstm(
    training: TokenIds,
    y_training: np.ndarray,
    validation: TokenIds,
    y_validation: np.ndarray,
    settings: LstmSettings,
    seed: int,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    *,
    owners: np.ndarray | None = None,
    vectors: Embeddings | None = None,
    evidence: Evidence | None = None,
    start: dict[str, np.ndarray] | None = None,
    times: np.ndarray | None = None,
) -> FittedLstm:
    """Train the network and keep the weights of the epoch with the lowest validation loss; of the last where nothing stops early.

    The loss is that of the network in training; its vectors are rounded when they are kept (`tasks.model.quantisation`).

    Args:
        training: Training reviews.
        y_training: float or int, shape (num_training,): 1 positive, 0 negative, or a probability in between.
        validation: Reviews that guide early stopping.
        y_validation: int8, shape (num_validation,).
        settings: Network and training.
        seed: Of initial weights, row order and dropout; equal seeds give equal weights on the same kind of machine.
        on_epoch: Told of every epoch as it ends.
        owners: Which pairs have a vector of their own, from `fit_pair_owners`; by the training reviews if not given (default network).
        vectors: Where the vectors of words and of these owners start; if not given, at random and at zero (default network).
        evidence: What the n-gram part says of every token (default network).
        start: Weights to go on from, which have the same owners; fresh ones if not given.
        times: int, shape (num_training,): how often an epoch goes through each training review; once if not given (default network).

    Raises:
        CallerError: Training diverged, or the vocabulary holds more words than the tutorial network.
        ValueError: There are vectors of pairs without their owners.
    """
    tf = import_tensorflow()
    import keras

    keras.utils.set_random_seed(seed)  # the order in which Keras' `fit` takes the rows of the tutorial network
    with _own_seeds(seed):
        network = build_network(settings)
    fixed: dict[str, np.ndarray] = {}
    if start is not None:
        whole = dequantise_vectors(start)
        for variable in network.trainable_variables:
            variable.assign(whole[variable.path])
    if settings.network == "tutorial":
        largest = int(max(training.values.max(initial=0), validation.values.max(initial=0)))
        if largest >= settings.num_words:
            raise CallerError(
                f"The vocabulary gives ids up to {largest}, the tutorial network has vectors for {settings.num_words}. "
                "Set model.num_words to vocabulary.num_words."
            )
        train_epoch, measure = _article_epochs(network, training, y_training, validation, y_validation, settings)
    else:
        if vectors is not None and start is None:
            if settings.pair_buckets and owners is None:
                raise ValueError("Vectors of pairs are those of certain owners: give these too.")
            network.get_layer("word_vectors").set_weights([_initial_vectors(vectors.words, seed)])
            if settings.pair_buckets:
                network.get_layer("pair_vectors").set_weights([vectors.pairs * _VECTOR_SCALE])
        if settings.pair_buckets:
            owners = fit_pair_owners(training, settings.pair_buckets) if owners is None else owners
            fixed = {OWNERS: owners}
        chunks = cut_into_chunks(training, settings, evidence.training if evidence else None, owners)
        rows = np.repeat(np.arange(chunks.num_reviews), 1 if times is None else times)
        train_epoch = _chunked_epochs(tf, network, chunks, y_training, rows, settings, seed)
        scorer = LstmScorer.of_network(network, settings, owners)
        measure = _measurement(scorer, validation, y_validation, evidence.validation if evidence else None)

    history: list[dict[str, float]] = []
    best: dict[str, np.ndarray] = {}
    best_epoch = 0
    for epoch in range(1, settings.epochs + 1):
        started = time.perf_counter()
        learnt = train_epoch(epoch)
        entry = {"epoch": epoch, **learnt, **measure(), "seconds": round(time.perf_counter() - started, 2)}
        if not np.isfinite([entry["loss"], entry["val_loss"]]).all():
            raise CallerError(f"Training diverged in epoch {epoch}: the loss is not a number. Lower model.learning_rate.")
        history.append(entry)
        if on_epoch:
            on_epoch(entry)
        if settings.patience == 0 or not best or entry["val_loss"] < history[best_epoch - 1]["val_loss"]:
            best, best_epoch = network_weights(network), epoch
        elif epoch - best_epoch >= settings.patience:
            break
    lines: list[str] = []
    network.summary(print_fn=lambda line, **_: lines.append(line), line_length=100)
    return FittedLstm(quantise_vectors(best) | fixed, history, best_epoch, "\n".join(lines))


@contextmanager
def _own_seeds(seed: int) -> Iterator[None]:
    """Let Keras draw the seeds of initial weights and dropout from a generator of their own.

    It takes them from Python's, and so do Prefect's threads when they wait for its server: a number that they took between would give
    another network. Keras has no public way to say so.
    """
    from keras.src.random import seed_generator

    with _seeding:
        shared = seed_generator.python_random
        seed_generator.python_random = random.Random(seed)
        try:
            yield
        finally:
            seed_generator.python_random = shared


def soften(y: np.ndarray, teacher: np.ndarray, share: float) -> np.ndarray:
    """Mix labels with the probabilities of a teacher that has not seen these rows.

    Args:
        y: int8, shape (num_rows,): 1 positive, 0 negative.
        teacher: float, shape (num_rows,): log-odds of positive.
        share: Weight of the teacher, 0 to 1.

    Returns:
        float64, shape (num_rows,): probabilities of positive.

    Source: Hinton et al. (2015), "Distilling the knowledge in a neural network".
    """
    return (1 - share) * y + share / (1 + np.exp(-np.asarray(teacher, np.float64)))


def _article_epochs(
    network: Any,
    training: TokenIds,
    y_training: np.ndarray,
    validation: TokenIds,
    y_validation: np.ndarray,
    settings: LstmSettings,
) -> tuple[Callable[[int], dict[str, float]], Callable[[], dict[str, float]]]:
    """Return what trains an epoch by Keras' own `fit`, as the article does, and what measures it."""
    import keras

    network.compile(keras.optimizers.Adam(settings.learning_rate), "binary_crossentropy", metrics=["accuracy"])
    X, X_validation = pad_before(training, settings.sequence_length), pad_before(validation, settings.sequence_length)

    def train_epoch(epoch: int) -> dict[str, float]:
        learnt = network.fit(X, y_training, batch_size=settings.batch_size, epochs=epoch, initial_epoch=epoch - 1, verbose=0).history
        return {"loss": learnt["loss"][-1], "accuracy": learnt["accuracy"][-1], "learning_rate": settings.learning_rate}

    def measure() -> dict[str, float]:
        loss, accuracy = network.evaluate(X_validation, y_validation, batch_size=512, verbose=0)
        return {"val_loss": loss, "val_accuracy": accuracy}

    return train_epoch, measure


def _measurement(scorer: LstmScorer, ids: TokenIds, y: np.ndarray, evidence: np.ndarray | None) -> Callable[[], dict[str, float]]:
    def measure() -> dict[str, float]:
        logits = scorer.logits(ids, evidence).astype(np.float64)
        with np.errstate(invalid="ignore"):  # a loss that is no number is told as an error
            loss = np.mean(np.logaddexp(0, logits) - y * logits)
        return {"val_loss": float(loss), "val_accuracy": float(np.mean((logits > 0) == (y == 1)))}

    return measure


def _initial_vectors(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Scale pretrained vectors to what a fresh layer has; padding, the unknown word and words without neighbours start at random."""
    fresh = np.random.default_rng(seed).uniform(-_VECTOR_SCALE, _VECTOR_SCALE, vectors.shape).astype(np.float32)
    return np.where(np.any(vectors, axis=1, keepdims=True), vectors * _VECTOR_SCALE, fresh)


def _chunked_epochs(
    tf: Any, network: Any, chunks: Chunks, y: np.ndarray, rows: np.ndarray, settings: LstmSettings, seed: int
) -> Callable[[int], dict[str, float]]:
    step = _training_step(tf, network, settings)
    draw = np.random.default_rng(seed)
    steps_in_all = settings.epochs * -(-len(rows) // settings.batch_size)
    done = 0

    def train_epoch(epoch: int) -> dict[str, float]:
        nonlocal done
        loss = right = 0.0
        rate = settings.learning_rate
        for words, pairs, *others, labels in _batches(chunks, y, draw.permutation(rows), settings.batch_size):
            if settings.decay:
                rate = settings.learning_rate * 0.5 * (1 + np.cos(np.pi * done / steps_in_all))
            done += 1
            words = drop_words(words, settings.word_dropout, draw)
            read = itertools.chain.from_iterable(map(rows_of_batch, [words, pairs] if settings.pair_buckets else [words]))
            given = words, pairs, *others, labels, np.float32(rate), np.float32(done), *read
            batch_loss, batch_right = step(*map(tf.constant, given))
            loss += float(batch_loss) * len(labels)
            right += float(batch_right)
        return {"loss": loss / len(rows), "accuracy": right / len(rows), "learning_rate": float(rate)}

    return train_epoch


def _batches(chunks: Chunks, y: np.ndarray, in_order: np.ndarray, batch_size: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield reviews in this order, a batch at a time: what the network takes of their chunks, and their labels."""
    first = np.searchsorted(chunks.review, np.arange(chunks.num_reviews + 1))
    lengths = np.diff(first)
    for start in range(0, len(in_order), batch_size):
        rows = in_order[start : start + batch_size]
        counts = lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        place = np.arange(offsets[-1]) + np.repeat(first[rows] - offsets[:-1], counts)
        yield (
            *chunks.inputs(place),
            np.repeat(np.arange(len(rows), dtype=np.int32), counts),
            y[rows].astype(np.float32),
        )


def drop_words(words: np.ndarray, share: float, draw: np.random.Generator) -> np.ndarray:
    """Put the unknown word in place of a share of the words, int32, any shape; padding stays."""
    if not share:
        return words
    return np.where((draw.random(words.shape, np.float32) < share) & (words != PADDING), np.int32(UNKNOWN), words)


def _training_step(tf: Any, network: Any, settings: LstmSettings) -> Callable[..., tuple[Any, Any]]:
    """Return one step of training: on a batch as it is and, where settings say so, on what its word vectors are changed to as well.

    Of tensors it takes what `_batches` yields, the learning rate, the number of this step from 1, and what `rows_of_batch` tells of words
    and, if these have vectors, of pairs. It returns the batch's loss and how many reviews are right.
    """
    vectors_of, logits_of = _halves(network)
    tables, others = ([variable.value for variable in half.trainable_variables] for half in (vectors_of, logits_of))
    move = adam(tables, others, settings.clip_norm)
    ids = tf.TensorSpec((None, settings.chunk_length), tf.int32)
    evidence = [tf.TensorSpec((None, settings.chunk_length, settings.evidence_size), tf.float32)] if settings.evidence_size else []
    scalar, integers = tf.TensorSpec((), tf.float32), tf.TensorSpec((None,), tf.int32)
    read_of_tables = [integers, integers] * len(tables)

    @tf.function(input_signature=[ids, ids, *evidence, integers, tf.TensorSpec((None,), tf.float32), scalar, scalar, *read_of_tables])
    def step(*given: Any) -> tuple[Any, Any]:
        read = given[len(given) - len(read_of_tables) :]
        words, pairs, *brought, review, labels, rate, count = given[: len(given) - len(read_of_tables)]
        num_reviews = tf.reshape(tf.shape(labels)[0], (1,))

        def learn(vectors: Any) -> tuple[Any, Any, list[Any], Any]:
            with tf.GradientTape() as tape:
                tape.watch(vectors)
                logits = tf.reshape(logits_of([vectors, words, *brought, review, num_reviews], training=True), (-1,))
                loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits))
            *gradients, slope = tape.gradient(loss, [*others, vectors])
            return loss, logits, gradients, slope

        vectors = vectors_of([words, pairs], training=True)
        loss, logits, gradients, slope = learn(vectors)
        if settings.adversarial:
            _, _, more, more_slope = learn(vectors + worst_change(slope, words, review, settings.adversarial))
            gradients, slope = [first + second for first, second in zip(gradients, more, strict=True)], slope + more_slope
        by_place = tf.reshape(slope, (-1, settings.embedding_size))
        move(by_place, list(zip(read[::2], read[1::2], strict=True)), gradients, rate, count)
        right = tf.reduce_sum(tf.cast((logits > 0) == (labels > 0.5), tf.float32))
        return loss, right

    return step.get_concrete_function()  # a call of the function itself looks for it each time, which costs 1.5 ms


def _halves(network: Any) -> tuple[Any, Any]:
    """Return the network up to its word vectors, and from there on: (words, pairs) → vectors, (vectors, all inputs but pairs) → logits."""
    import keras

    vectors = network.get_layer("embedding_dropout").input
    words, pairs, *others = network.inputs
    return keras.Model([words, pairs], vectors), keras.Model([vectors, words, *others], network.output)


def worst_change(slope: Any, words: Any, review: Any, size: float) -> Any:
    """Return the change of its word vectors that raises the loss of a review most, as far as its slope tells.

    Args:
        slope: float32, shape (num_chunks, chunk_length, embedding_size): gradient of the loss by the word vectors.
        words: int32, shape (num_chunks, chunk_length), 0 = padding.
        review: int32, shape (num_chunks,), ascending: the review each chunk belongs to.
        size: The change has this length, times the square root of the review's tokens.

    Returns:
        float32, in the shape of `slope`; zeros where that is.

    Source: Miyato et al. (2017), "Adversarial training methods for semi-supervised text classification", equation 5.
    """
    import tensorflow as tf

    flat = tf.reshape(slope, (tf.shape(slope)[0], 1, -1))
    squares = tf.math.segment_sum(tf.reshape(tf.matmul(flat, flat, transpose_b=True), (-1,)), review)  # slope**2 would be written out
    num_tokens = tf.math.segment_sum(tf.reduce_sum(tf.cast(words != 0, tf.float32), axis=1), review)
    factor = tf.math.divide_no_nan(size * tf.sqrt(num_tokens), tf.sqrt(squares))
    return slope * tf.gather(factor, review)[:, None, None]
