import gc
import random
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from tasks.errors import CallerError
from tasks.model import lstm_training
from tasks.model.adam import rows_of_batch
from tasks.model.embeddings import Embeddings, fit_embeddings
from tasks.model.lstm import OWNERS, LstmScorer, LstmSettings, build_network, cut_into_chunks, network_weights, pad_before, weight_shapes
from tasks.model.lstm_training import drop_words, fit_lstm, soften, worst_change
from tasks.model.pairs import fit_pair_owners, pair_buckets
from tasks.model.quantisation import PAIR_VECTORS, STEPS, WORD_VECTORS, dequantise_vectors
from tasks.model.runtime import forget_networks, import_tensorflow
from tasks.model.vocabulary import PADDING, UNKNOWN, TokenIds

TINY = LstmSettings(
    num_words=30, sequence_length=24, chunk_length=8, stride=2, kernel_size=4, embedding_size=8, pair_buckets=64, filters=8, units=6,
    pretrained=False, word_dropout=0, embedding_dropout=0, output_dropout=0, adversarial=0, learning_rate=2e-2, epochs=3,
    patience=1, batch_size=16,
)  # fmt: skip
TINY_TUTORIAL = TINY.model_copy(update={"network": "tutorial", "num_words": 40, "patience": 0})


def token_ids(rows: list[list[int]]) -> TokenIds:
    """Write rows of ids one after the other."""
    return TokenIds(np.array([value for row in rows for value in row], np.int32), np.cumsum([0, *map(len, rows)], dtype=np.int64))


def random_rows(num_rows: int, seed: int) -> list[list[int]]:
    """Rows of ids from 1 to 39, of 0 to 39 tokens."""
    random = np.random.default_rng(seed)
    return [random.integers(1, 40, random.integers(0, 40)).tolist() for _ in range(num_rows)]


def order_task(num_rows: int, seed: int) -> tuple[TokenIds, np.ndarray]:
    """Rows that all hold the words 5 and 6 once; positive where 5 comes right before 6. Words alone can't tell."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, num_rows).astype(np.int8)
    rows = []
    for label in y:
        row = random.integers(7, 30, random.integers(2, 20)).tolist()
        place = random.integers(0, len(row) + 1)
        rows.append([*row[:place], *((5, 6) if label else (6, 5)), *row[place:]])
    return token_ids(rows), y


def random_weights(settings: LstmSettings, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of the right names and shapes, far from their initial values."""
    random = np.random.default_rng(seed)
    shapes = weight_shapes(settings)
    weights = {name: random.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items() if name != OWNERS}
    return weights | ({OWNERS: owners_of_many(settings)} if OWNERS in shapes else {})


def owners_of_many(settings: LstmSettings) -> np.ndarray:
    """Owners of the vectors of pairs, where any two words stand together, and more often those with numbers in sequence."""
    words = range(1, 45)
    pairs = [[first, second] for first in words for second in words] * 2
    return fit_pair_owners(token_ids([*pairs, list(words)]), settings.pair_buckets)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x))."""
    return 1 / (1 + np.exp(-x))


def lstm_by_hand(x: np.ndarray, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Hochreiter & Schmidhuber's cell, step by step; gates in the order input, forget, candidate, output. (T, D) → (T, H)."""
    h = c = np.zeros(len(recurrent))
    states = []
    for step in x:
        i, f, g, o = np.split(step @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def test_padding_before_is_that_of_keras() -> None:
    """Short rows are filled and long ones cut at the front, as the article's pad_sequences does."""
    import_tensorflow()
    import keras

    rows = random_rows(200, seed=0)
    assert (pad_before(token_ids(rows), 15) == keras.utils.pad_sequences(rows, maxlen=15)).all()


def test_reviews_are_cut_into_chunks() -> None:
    """A worked example: words beyond num_words become unknown, the rest beyond sequence_length is not read, an empty row is a chunk."""
    settings = TINY.model_copy(update={"chunk_length": 4, "sequence_length": 8})
    ids = token_ids([[2, 3, 4, 5, 99], [], [7] * 11])
    owners = fit_pair_owners(TokenIds.concatenate([ids, ids]), 64)
    chunks = cut_into_chunks(ids, settings, owners=owners)
    assert chunks.words.tolist() == [[2, 3, 4, 5], [1, 0, 0, 0], [0, 0, 0, 0], [7, 7, 7, 7], [7, 7, 7, 7]]
    assert chunks.review.tolist() == [0, 0, 1, 2, 2]
    # Pairs reach over a chunk's border, not over a review's, and know words that the vectors do not.
    assert chunks.pairs[0, 3] == pair_buckets(np.array([5]), np.array([99]), 64)
    assert (chunks.pairs > 0).sum() == 4 + 0 + 0 + 4 + 3
    assert not cut_into_chunks(ids, settings).pairs.any()


def test_the_tutorial_network_is_the_articles() -> None:
    """The parameters are as many as Keras prints for Embedding(5000, 128), LSTM(128), Dense(1): 640,000 + 131,584 + 129."""
    assert [weight.size for weight in network_weights(build_network(LstmSettings.tutorial())).values()] == [
        640_000, 65_536, 65_536, 512, 128, 1,
    ]  # fmt: skip


def test_tutorial_scores_are_those_of_an_lstm_written_out() -> None:
    """The last state of the last tokens, through the last layer, is the review's log-odds."""
    weights = random_weights(TINY_TUTORIAL)
    vectors, kernel, recurrent, bias, output, offset = weights.values()
    rows = [[3, 4, 5], [], list(range(1, 30))]
    padded = pad_before(token_ids(rows), TINY.sequence_length)
    expected = [(lstm_by_hand(vectors[row], kernel, recurrent, bias)[-1] @ output + offset)[0] for row in padded]
    assert LstmScorer(weights, TINY_TUTORIAL).logits(token_ids(rows)) == pytest.approx(expected, abs=1e-4)


def test_default_scores_are_those_of_the_network_written_out() -> None:
    """Vectors of words and pairs, evidence, convolution, an LSTM each way over a chunk, maximum and mean over the review: by hand."""
    weights = random_weights(TINY)
    whole, owners = dequantise_vectors(weights), weights[OWNERS]
    words, pairs, convolution, shift, *lstms, output, offset = (value for name, value in whole.items() if name != OWNERS)
    rows = [[3, 4, 5], list(range(1, 14)), list(range(2, 26))]
    evidence = np.random.default_rng(1).normal(0, 1, (len(token_ids(rows).values), 3)).astype(np.float16)
    chunks = cut_into_chunks(token_ids(rows), TINY, evidence, owners)
    assert (chunks.pairs > 0).sum() > 10
    expected = []
    for review, row in enumerate(rows):
        states = []
        for chunk, pair, brought in zip(*chunks.inputs(chunks.review == review), strict=True):
            told = np.concatenate([words[chunk] + pairs[pair], 2.5 * brought], axis=1)
            seen = np.pad(told, ((1, 1), (0, 0)))  # each step: its own two tokens and one on either side
            x = np.maximum([np.einsum("td,tdf->f", seen[start : start + 4], convolution) + shift for start in range(0, 8, 2)], 0)
            both = np.concatenate([lstm_by_hand(x, *lstms[:3]), lstm_by_hand(x[::-1], *lstms[3:])[::-1]], axis=1)
            states.append(both)
        read = np.concatenate(states)[: -(-len(row) // TINY.stride)]
        expected.append((np.concatenate([read.max(axis=0), read.mean(axis=0)]) @ output + offset)[0])
    assert LstmScorer(weights, TINY).logits(token_ids(rows), evidence) == pytest.approx(expected, abs=1e-4)


def test_evidence_goes_with_its_token() -> None:
    """Cut into chunks, every token of a review that is read brings its own evidence; padding brings none."""
    ids = token_ids([[3] * 10, [], [4] * 30])
    evidence = np.arange(1, 41, dtype=np.float16)[:, None] * np.array([1, 2, 3], np.float16)
    chunks = cut_into_chunks(ids, TINY, evidence)
    assert chunks.evidence[:, :, 0].ravel().tolist() == [*range(1, 11), *[0] * 6, *[0] * 8, *range(11, 35)]
    assert (chunks.evidence[:, :, 2] == 3 * chunks.evidence[:, :, 0]).all()
    assert not cut_into_chunks(ids, TINY).evidence.any()


@pytest.mark.parametrize("settings", [TINY, TINY_TUTORIAL], ids=["default", "tutorial"])
def test_a_score_does_not_depend_on_its_neighbours(settings: LstmSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores commute with shuffling, choosing and grouping rows; empty and very long rows are among them."""
    scorer = LstmScorer(random_weights(settings), settings)
    ids = token_ids([*random_rows(300, seed=1), [], [3] * 500])
    scores = scorer.logits(ids)
    assert scores.dtype == np.float32
    assert np.isfinite(scores).all()
    random = np.random.default_rng(0)
    for rows in (random.permutation(len(ids)), random.choice(len(ids), 40), np.array([300]), np.array([301])):
        np.testing.assert_allclose(scorer.logits(ids.take(rows)), scores[rows], atol=2e-6)
    monkeypatch.setattr("tasks.model.lstm._SCORING_CHUNKS", 5)
    np.testing.assert_allclose(scorer.logits(ids), scores, atol=2e-6)
    assert scorer.logits(ids.take(np.empty(0, np.int64))).shape == (0,)


def test_weights_must_fit_the_network() -> None:
    """Weights of another shape, or under another name, are refused."""
    weights = random_weights(TINY)
    with pytest.raises(ValueError, match="do not fit the network"):
        LstmScorer(weights, TINY.model_copy(update={"units": 7}))
    with pytest.raises(ValueError, match="do not fit the network"):
        LstmScorer({**weights, "more": weights["output/bias"]}, TINY)


@pytest.fixture(scope="module")
def fitted() -> dict[str, Any]:
    """The default network after learning word order, with what it told of its epochs."""
    (train, y), (validation, y_validation) = order_task(800, seed=0), order_task(300, seed=1)
    told: list[dict[str, float]] = []
    model = fit_lstm(train, y, validation, y_validation, TINY, 0, told.append)
    return {"model": model, "told": told, "train": (train, y), "validation": (validation, y_validation)}


def test_the_network_learns_word_order(fitted: dict[str, Any]) -> None:
    """It tells "5 6" from "6 5" on rows it has not seen."""
    ids, y = order_task(300, seed=2)
    assert np.mean((LstmScorer(fitted["model"].weights, TINY).logits(ids) > 0) == y) > 0.95


def test_every_epoch_is_told(fitted: dict[str, Any]) -> None:
    """The history holds loss, accuracy and their validation twins of each epoch, and the callback has heard the same."""
    history = fitted["model"].history
    assert fitted["told"] == history
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    assert set(history[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds", "learning_rate"}
    assert "Total params" in fitted["model"].summary


def unrounded(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Stand in for `quantise_vectors`: every vector is a whole number of its own steps."""
    return weights | {STEPS: np.ones(TINY.embedding_size, np.float32)}


def test_the_best_epoch_comes_back(fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights give the lowest validation loss of the history, be it the last epoch's or, with a contrary training set, the first's."""
    ids, y = fitted["validation"]
    monkeypatch.setattr(lstm_training, "quantise_vectors", unrounded)
    train, y_train = fitted["train"]
    best, contrary = (fit_lstm(train, labels, ids, y, TINY, 0) for labels in (y_train, 1 - y_train))
    assert len(contrary.history) == contrary.best_epoch + 1 < TINY.epochs
    for model in (best, contrary):
        assert model.best_epoch == min(model.history, key=lambda entry: entry["val_loss"])["epoch"]
        logits = LstmScorer(model.weights, TINY).logits(ids).astype(np.float64)
        lowest = min(entry["val_loss"] for entry in model.history)
        assert np.mean(np.logaddexp(0, logits) - y * logits) == pytest.approx(lowest, abs=1e-6)


def test_equal_seeds_give_equal_bits(fitted: dict[str, Any]) -> None:
    """Training again gives the same weights to the last bit, dropout included; another seed gives others."""
    settings = TINY.model_copy(
        update={"word_dropout": 0.2, "embedding_dropout": 0.2, "output_dropout": 0.2, "adversarial": 0.05, "pretrained": True, "epochs": 1}
    )
    train, y = fitted["train"][0].take(np.arange(200)), fitted["train"][1][:200]
    owners = fit_pair_owners(train, TINY.pair_buckets)
    vectors = [fit_embeddings(train, TINY.num_words, TINY.embedding_size, seed, owners=owners) for seed in (3, 3, 4)]
    first, again, other = (
        fit_lstm(train, y, train, y, settings, seed, owners=owners, vectors=start).weights
        for seed, start in zip((3, 3, 4), vectors, strict=True)
    )
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert any(first[name].tobytes() != other[name].tobytes() for name in first)


def test_vectors_of_words_and_pairs_start_where_they_are_told_to(fitted: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With steps that move nothing they stay there, in the scale of fresh vectors; what company tells nothing of starts as without it."""
    train, y = fitted["train"][0].take(np.arange(100)), fitted["train"][1][:100]
    owners = fit_pair_owners(train, TINY.pair_buckets)
    told = fit_embeddings(train, TINY.num_words, TINY.embedding_size, 0, owners=owners)
    settings = TINY.model_copy(update={"learning_rate": 1e-12, "epochs": 1})
    monkeypatch.setattr(lstm_training, "quantise_vectors", unrounded)
    weights = fit_lstm(train, y, train, y, settings, 0, owners=owners, vectors=told).weights
    assert weights[OWNERS].tolist() == owners.tolist()
    is_told = told.words.any(axis=1)
    assert is_told.any()
    assert told.pairs.any()
    np.testing.assert_allclose(weights[WORD_VECTORS][is_told], 0.2 * told.words[is_told], atol=1e-6)
    assert weights[WORD_VECTORS][~is_told].any()
    np.testing.assert_allclose(weights[PAIR_VECTORS], 0.2 * told.pairs, atol=1e-6)
    with pytest.raises(ValueError, match="owners"):
        fit_lstm(train, y, train, y, settings, 0, vectors=told)


def test_training_goes_on_from_weights(fitted: dict[str, Any]) -> None:
    """With steps that move nothing, what comes out is what went in."""
    train, y = fitted["train"][0].take(np.arange(100)), fitted["train"][1][:100]
    settings = TINY.model_copy(update={"learning_rate": 1e-12, "epochs": 1})
    start = fitted["model"].weights
    went_on = fit_lstm(train, y, train, y, settings, 5, owners=start[OWNERS], start=start).weights
    assert all(np.allclose(went_on[name], start[name], atol=1e-6) for name in start)


def test_times_are_as_good_as_copies(fitted: dict[str, Any]) -> None:
    """A review that an epoch goes through three times teaches what three copies of it teach, to the last bit."""
    (train, y), (validation, y_validation) = fitted["train"], fitted["validation"]
    times = np.where(np.arange(100) < 30, 3, 1)
    settings, owners = TINY.model_copy(update={"epochs": 1}), fit_pair_owners(train, TINY.pair_buckets)
    some, copies = np.arange(100), np.repeat(np.arange(100), times)
    counted = fit_lstm(train.take(some), y[some], validation, y_validation, settings, 0, owners=owners, times=times)
    copied = fit_lstm(train.take(copies), y[copies], validation, y_validation, settings, 0, owners=owners)
    assert all(counted.weights[name].tobytes() == copied.weights[name].tobytes() for name in copied.weights)
    assert counted.history[0]["loss"] == copied.history[0]["loss"]


def test_word_vectors_are_changed_to_where_a_review_has_more_loss() -> None:
    """Each review's change lies along its own slope, as long as its tokens want it, however steep; flat ones are left alone."""
    words = np.array([[3, 4, 0], [5, 6, 7], [8, 0, 0], [9, 9, 9]], np.int32)
    slope = np.random.default_rng(0).normal(size=(4, 3, 2)).astype(np.float32) * np.array([1e-3, 1e-3, 50, 0], np.float32)[:, None, None]

    change = worst_change(slope, words, np.array([0, 0, 1, 2], np.int32), 0.5).numpy()

    for rows, num_tokens in (([0, 1], 5), ([2], 1)):
        assert np.linalg.norm(change[rows]) == pytest.approx(0.5 * np.sqrt(num_tokens), rel=1e-5)
        assert np.vdot(change[rows], slope[rows]) == pytest.approx(np.linalg.norm(change[rows]) * np.linalg.norm(slope[rows]), rel=1e-5)
    assert not change[3].any()


def test_a_share_of_the_words_is_dropped_and_no_padding() -> None:
    """The unknown word stands in their place."""
    words = np.tile(np.array([PADDING, 5, 6], np.int32), (20_000, 1))
    dropped = drop_words(words, 0.3, np.random.default_rng(0))

    assert dropped.dtype == np.int32
    assert not dropped[:, 0].any()
    changed = dropped[:, 1:] != words[:, 1:]
    assert (dropped[:, 1:][changed] == UNKNOWN).all()
    assert changed.mean() == pytest.approx(0.3, abs=0.01)
    assert (changed[:, 0] & changed[:, 1]).mean() == pytest.approx(0.09, abs=0.01)
    assert (drop_words(words, 0, np.random.default_rng(0)) == words).all()


def test_vectors_learn_from_both_passes_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked up once for the batch and its harder copy, their gradient is that of two lookups."""
    tf = import_tensorflow()

    def descend(
        by_place: Any, read: list[Any], gradients: list[Any], *_: Any, tables: list[Any], others: list[Any], clip_norm: float
    ) -> None:
        assert clip_norm == 0.75
        for table, (rows, place) in zip(tables, read, strict=True):
            table.scatter_sub(tf.IndexedSlices(tf.math.unsorted_segment_sum(by_place, place, tf.size(rows)), rows))
        for variable, gradient in zip(others, gradients, strict=True):
            variable.assign_sub(gradient)

    monkeypatch.setattr(
        lstm_training, "adam", lambda tables, others, clip_norm: partial(descend, tables=tables, others=others, clip_norm=clip_norm)
    )
    settings = TINY.model_copy(update={"adversarial": 0.5, "clip_norm": 0.75})
    scorer = LstmScorer(random_weights(settings), settings)
    ids = token_ids(random_rows(12, seed=4))
    chunks, y = cut_into_chunks(ids, settings, owners=scorer.owners), (np.arange(12) % 2).astype(np.float32)
    words, pairs, *brought, review = (tf.constant(given) for given in (*chunks.inputs(), chunks.review))
    vectors_of, logits_of = lstm_training._halves(scorer.network)
    variables = [variable.value for half in (vectors_of, logits_of) for variable in half.trainable_variables]

    def loss_of(vectors: Any) -> Any:
        logits = logits_of([vectors, words, *brought, review, tf.constant([12])], training=True)
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=tf.reshape(logits, (-1,))))

    with tf.GradientTape(persistent=True) as tape:
        vectors = vectors_of([words, pairs], training=True)
        loss = loss_of(vectors)
        change = worst_change(tf.stop_gradient(tape.gradient(loss, vectors)), words, review, 0.5)
        both = loss + loss_of(vectors_of([words, pairs], training=True) + tf.stop_gradient(change))
    once, expected = ([tf.convert_to_tensor(slope).numpy() for slope in tape.gradient(value, variables)] for value in (loss, both))
    before = [variable.numpy() for variable in variables]

    read = [*rows_of_batch(chunks.words), *rows_of_batch(chunks.pairs)]
    given = map(tf.constant, [y, np.float32(1), np.float32(1), *read])
    lstm_training._training_step(tf, scorer.network, settings)(words, pairs, *brought, review, *given)

    for variable, old, slope, alone in zip(variables, before, expected, once, strict=True):
        np.testing.assert_allclose(old - variable.numpy(), slope, atol=1e-6)
        assert np.abs(slope - alone).max() > 1e-3  # else the test could not tell them apart


@pytest.mark.parametrize("pair_buckets", [0, TINY.pair_buckets])
def test_a_step_is_told_which_rows_its_dropped_words_are(pair_buckets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its number, from 1, with the learning rate of that."""
    told: list[list[Any]] = []

    def record(*_: Any) -> Any:
        return lambda *given: told.append([value.numpy() for value in given]) or (0.0, 0.0)

    monkeypatch.setattr(lstm_training, "_training_step", record)
    ids = token_ids(random_rows(40, seed=4))
    settings = TINY.model_copy(update={"word_dropout": 0.4, "batch_size": 16, "epochs": 2, "patience": 0, "pair_buckets": pair_buckets})
    fit_lstm(ids, np.arange(40) % 2, ids, np.arange(40) % 2, settings, 0)

    for count, (words, pairs, *_, rate, number, rows, place) in enumerate((given[:-2] if pair_buckets else given for given in told), 1):
        assert (rows[place] == words.reshape(-1)).all()
        assert not pair_buckets or (told[count - 1][-2][told[count - 1][-1]] == pairs.reshape(-1)).all()
        assert number == count
        assert rate == pytest.approx(TINY.learning_rate * 0.5 * (1 + np.cos(np.pi * (count - 1) / 6)))
    known = np.mean(cut_into_chunks(ids, settings).words > UNKNOWN)
    left = np.mean(np.concatenate([given[0] for given in told]) > UNKNOWN)
    assert left / known == pytest.approx(0.6, abs=0.1)


def test_other_threads_that_draw_random_numbers_change_no_network() -> None:
    """Prefect's do, whenever they wait for its server; nor does what a search or another training does meanwhile."""
    ids, y = token_ids(random_rows(12, seed=4)), np.arange(12) % 2
    dropouts = {"word_dropout": 0.2, "embedding_dropout": 0.4, "evidence_dropout": 0.2, "output_dropout": 0.3, "adversarial": 0.05}
    settings = TINY.model_copy(update=dropouts | {"epochs": 3, "patience": 0})
    done = threading.Event()

    def draw() -> None:
        while not done.is_set():
            random.random()

    def weights(meanwhile: Callable[[dict[str, float]], None] | None = None) -> list[bytes]:
        return [value.tobytes() for value in fit_lstm(ids, y, ids, y.astype(np.int8), settings, 0, meanwhile).weights.values()]

    def train_another(_: dict[str, float]) -> None:
        forget_networks()
        fit_lstm(ids, y, ids, y.astype(np.int8), settings, 1)

    alone = weights()
    assert weights(train_another) == alone
    thread = threading.Thread(target=draw)
    thread.start()
    try:
        assert weights() == alone
    finally:
        done.set()
        thread.join()


def test_a_network_that_nobody_needs_is_freed_with_its_graph() -> None:
    """A search trains hundreds, a server one a night."""
    ids, y = token_ids(random_rows(12, seed=4)), np.arange(12) % 2

    def graphs() -> int:
        forget_networks()
        gc.collect()
        return sum(type(each).__name__ == "FuncGraph" for each in gc.get_objects())

    before = graphs()
    fit_lstm(ids, y, ids, y.astype(np.int8), TINY.model_copy(update={"epochs": 1}), 0)

    assert graphs() <= before


def test_training_that_diverges_is_an_error() -> None:
    """It ends in its first epoch, and says what to lower."""
    ids, y = token_ids(random_rows(12, seed=4)), np.arange(12) % 2
    settings = TINY.model_copy(update={"clip_norm": 1e30, "learning_rate": 1.0, "epochs": 2})
    vectors = Embeddings(
        np.full((settings.num_words, settings.embedding_size), np.inf, np.float32),
        np.zeros((settings.pair_buckets, settings.embedding_size), np.float32),
    )

    with pytest.raises(CallerError, match=r"diverged in epoch 1.*Lower model\.learning_rate"):
        fit_lstm(ids, y, ids, y.astype(np.int8), settings, 0, owners=fit_pair_owners(ids, settings.pair_buckets), vectors=vectors)


def test_changes_of_word_vectors_teach_doubt(fitted: dict[str, Any]) -> None:
    """Who learns word order with its vectors moved against it learns it too, and is less sure of what it has seen."""
    (train, y), (validation, y_validation) = fitted["train"], fitted["validation"]
    settings = TINY.model_copy(update={"adversarial": 0.5})

    moved = fit_lstm(train, y, validation, y_validation, settings, 0)

    assert moved.history[-1]["val_accuracy"] > 0.95
    plain, doubting = (LstmScorer(model.weights, TINY).logits(train) for model in (fitted["model"], moved))
    assert np.abs(doubting).mean() < np.abs(plain).mean()


def test_a_teacher_softens_the_labels(fitted: dict[str, Any]) -> None:
    """A teacher that is sure of the opposite cancels the labels; what is left is doubt."""
    train, y = fitted["train"]
    softened = soften(y, 20.0 * (1 - 2 * y), 0.5)
    model = fit_lstm(train, softened, *fitted["validation"], TINY.model_copy(update={"patience": 0}), 0)
    assert np.abs(LstmScorer(model.weights, TINY).logits(train)).max() < 0.5


def test_the_tutorial_trains_as_keras_does() -> None:
    """Keras' own fit with the article's optimizer gives the same weights and the same history."""
    import keras

    (train, y), (validation, y_validation) = order_task(200, seed=0), order_task(100, seed=1)
    settings = TINY_TUTORIAL.model_copy(update={"learning_rate": 1e-3, "epochs": 1})
    model = fit_lstm(train, y, validation, y_validation, settings, seed=5)

    keras.utils.set_random_seed(5)
    article = keras.Sequential([keras.Input((24,)), keras.layers.Embedding(40, 8), keras.layers.LSTM(6), keras.layers.Dense(1, "sigmoid")])
    article.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    history = article.fit(pad_before(train, 24), y, 16, validation_data=(pad_before(validation, 24), y_validation), verbose=0).history

    for ours, theirs in zip(model.weights.values(), article.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert model.history[0][name] == pytest.approx(history[name][0], abs=1e-4)


def test_the_tutorial_refuses_ids_without_a_vector() -> None:
    """A vocabulary larger than the network is the caller's mistake, told before training starts."""
    ids = token_ids([[3, 45], [7]])
    with pytest.raises(CallerError, match=r"ids up to 45.*vectors for 40.*vocabulary\.num_words"):
        fit_lstm(ids, np.array([0, 1]), ids, np.array([0, 1], np.int8), TINY_TUTORIAL, 0)


def test_lengths_must_fit() -> None:
    """A chunk that is no whole number of strides is refused, and a convolution that would skip tokens."""
    with pytest.raises(ValueError, match="must be a multiple"):
        LstmSettings(chunk_length=10, stride=4)
    with pytest.raises(ValueError, match="tokens between two steps would be skipped"):
        LstmSettings(kernel_size=3, stride=4)
