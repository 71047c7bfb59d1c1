import random

import numpy as np
import pyarrow as pa
import pytest
import tiny

from flows.settings import compose_settings
from tasks.clean import clean_artifact
from tasks.ingest import ingest_artifact
from tasks.model.bundle import SentimentModel
from tasks.model.explain import TYPE, distinct_words, estimate_effects, explain_reviews, in_words, without_words
from tasks.model.gradients import token_moves
from tasks.model.lstm import OWNERS, LstmScorer, LstmSettings, build_network, network_weights
from tasks.model.pairs import fit_pair_owners
from tasks.model.quantisation import PAIR_VECTORS, STEPS, WORD_VECTORS
from tasks.model.vocabulary import TokenIds
from tasks.split import split_artifact
from tasks.store import Store
from tasks.tokenize import tokenize_artifact
from tasks.train import fit_model, rows_of_side

NETWORK = {"model.units": 8, "model.embedding_size": 8, "model.batch_size": 16, "model.pretrained": False}
CHUNKS = {"model.filters": 8, "model.pair_buckets": 64, "model.chunk_length": 8, "model.sequence_length": 64, "model.learning_rate": 2e-2}
REGULARISED = {
    "model.word_dropout": 0.3,
    "model.embedding_dropout": 0.3,
    "model.output_dropout": 0,
    "model.epochs": 12,
    "model.patience": 0,
}
WHOLE = {"model.word_dropout": 0, "model.embedding_dropout": 0, "model.output_dropout": 0, "model.epochs": 6}
KINDS = {
    "default": ("quick", NETWORK | CHUNKS | WHOLE | {"linear.hash_bits": 12}),
    "LSTM alone": ("quick", NETWORK | CHUNKS | REGULARISED | {"linear": None}),
    "tutorial": ("tutorial", NETWORK | {"model.sequence_length": 20, "model.learning_rate": 3e-3, "model.epochs": 4}),
}
K = 3
PLAIN = [
    "actor",
    "again",
    "bus",
    "city",
    "door",
    "evening",
    "film",
    "garden",
    "house",
    "judge",
    "king",
    "lake",
    "market",
    "night",
    "office",
    "paper",
    "queen",
    "river",
    "street",
    "train",
    "uncle",
    "village",
    "window",
    "year",
]


def write_review(number: int) -> list[str]:
    """Return a review, a word of praise or blame among a score that say nothing, and its label."""
    draw = random.Random(number)
    positive = draw.random() < 0.5
    words = [*draw.sample(PLAIN, 19), draw.choice(tiny.PRAISE if positive else tiny.BLAME)]
    draw.shuffle(words)
    return [" ".join(words), "positive" if positive else "negative"]


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SentimentModel:
    """A small model of each kind that tells praise from blame."""
    folder = tmp_path_factory.mktemp("explained")
    preset, changes = KINDS[request.param]
    settings = compose_settings(preset, list(changes.items()))
    store = Store(folder / "artifacts")
    rows = ([str(number), *write_review(number)] for number in range(800))
    reviews = tiny.write_reviews(folder / "reviews.csv", rows, ("id", "review", "sentiment"))
    cleaned = clean_artifact(ingest_artifact([str(reviews)], settings.ingest, store).ref, settings.clean, store).ref
    path = store.path(split_artifact(tokenize_artifact(cleaned, settings.tokenize, store).ref, settings.split, store).ref)
    sides = rows_of_side(path, "train"), rows_of_side(path, "validation")
    return fit_model(*sides, settings.train, lambda epoch: None, lambda words: None).model


@pytest.fixture(scope="module")
def reviews() -> pa.Array:
    """Reviews that no model here was trained on."""
    return pa.array([write_review(number)[0] for number in range(1000, 1100)])


def explain(model: SentimentModel, reviews: pa.Array, num_words: int = K) -> pa.ListArray:
    """Explain all of the reviews."""
    return explain_reviews(model, reviews, num_words, np.zeros(len(reviews), bool))


def log_odds(model: SentimentModel, rows: list[list[str]]) -> np.ndarray:
    """Score lists of tokens."""
    return model.log_odds(model.vocabulary.encode(pa.array(rows, pa.list_(pa.string()))))


def test_an_effect_is_what_leaving_the_word_out_does(model: SentimentModel, reviews: pa.Array) -> None:
    """Each effect is the log-odds of the review less those of the review without the word, and speaks for the score's side."""
    named, rows = explain(model, reviews).to_pylist(), model.tokens(reviews).to_pylist()

    assert max(map(len, named)) == K
    for row, whole, words in zip(rows, log_odds(model, rows), named, strict=True):
        effects = np.array([entry["effect"] for entry in words])
        without = [[token for token in row if token != entry["word"]] for entry in words]
        assert all(len(left) < len(row) for left in without)
        np.testing.assert_allclose(effects, whole - log_odds(model, without) if words else [], atol=1e-4)
        assert (effects * np.sign(whole) > 0).all()
        assert (np.diff(np.abs(effects)) <= 0).all()


def test_named_words_move_the_score(model: SentimentModel, reviews: pa.Array) -> None:
    """Without the named words the score moves at least three times as far as without as many random ones, on four of five reviews."""
    words = distinct_words(model, reviews)
    named, rows = explain(model, reviews).to_pylist(), np.arange(len(reviews))
    texts = words.text.to_pylist()
    own = [np.flatnonzero(words.row == row) for row in rows]
    chosen = [np.array([n for n in own[row] if texts[n] in {entry["word"] for entry in named[row]}], np.int64) for row in rows]
    draw = random.Random(0)
    at_random = [[np.array(draw.sample(own[row].tolist(), len(chosen[row])), np.int64) for row in rows] for _ in range(100)]

    whole = model.log_odds(words.ids)
    moved = np.abs(model.log_odds(without_words(words, chosen, rows)) - whole)
    by_chance = np.mean([np.abs(model.log_odds(without_words(words, drawn, rows)) - whole) for drawn in at_random], axis=0)

    share = float(np.mean(moved >= 3 * by_chance))
    assert share >= 0.8, f"on {share:.0%} of the reviews"


def test_words_of_meaning_are_named(model: SentimentModel, reviews: pa.Array) -> None:
    """The strongest word of nearly every review is one of praise or blame."""
    strongest = [words[0]["word"] for words in explain(model, reviews).to_pylist() if words]

    assert len(strongest) > 90
    assert np.mean([word in {*tiny.PRAISE, *tiny.BLAME} for word in strongest]) > 0.9


def test_an_explanation_does_not_depend_on_its_neighbours(
    model: SentimentModel, reviews: pa.Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows explained alone, in another order or in other blocks have the same words; empty rows and nulls have none."""
    mixed = pa.concat_arrays([pa.array(["", None]), reviews.slice(0, 20)])

    def told(found: pa.ListArray) -> list[dict[str, float]]:
        return [{entry["word"]: pytest.approx(entry["effect"], abs=1e-4) for entry in words} for words in found.to_pylist()]

    whole = told(explain(model, mixed))
    monkeypatch.setattr("tasks.model.explain._REVIEWS_AT_ONCE", 7)

    assert told(explain(model, mixed)) == whole
    assert told(explain(model, mixed[::-1]))[::-1] == whole
    assert told(explain(model, mixed.slice(9, 1))) == [whole[9]]
    assert whole[:2] == [{}, {}]


def test_rows_without_a_score_have_no_explanation(model: SentimentModel, reviews: pa.Array) -> None:
    """A skipped row is null, also as text; an empty batch is an empty column of the type."""
    skipped = np.arange(10) % 3 == 0
    found = explain_reviews(model, reviews.slice(0, 10), K, skipped)

    assert found.type == TYPE
    assert found.is_null().to_pylist() == skipped.tolist() == in_words(found).is_null().to_pylist()
    assert explain(model, reviews.slice(0, 0)).type == TYPE


def test_estimates_find_what_leaving_out_finds(model: SentimentModel, reviews: pa.Array) -> None:
    """What one pass estimates of every word goes with what leaving it out does."""
    words = distinct_words(model, reviews.slice(0, 30))
    every = np.arange(len(words.row))
    left_out = model.log_odds(words.ids)[words.row] - model.log_odds(without_words(words, list(every[:, None]), words.row))

    assert np.corrcoef(estimate_effects(model, words, model.logits_and_evidence(words.ids)[1]), left_out)[0, 1] > 0.5


def test_words_stand_once_in_the_order_of_first_use(model: SentimentModel) -> None:
    """The known words of each review stand once; leaving one out leaves the others in their order."""
    texts = pa.array(["the river was dull, the river", "", "was the street dull"])
    words = distinct_words(model, texts)
    tokens = model.tokens(texts).to_pylist()
    known = [[token for token in row if len(model.vocabulary.encode(pa.array([[token]])).values)] for row in tokens]
    (river,) = np.flatnonzero([word == "river" for word in words.text.to_pylist()])

    left = without_words(words, [np.array([river]), np.array([], np.int64)], np.array([0, 2]))

    assert [(row, word) for row, word in zip(words.row.tolist(), words.text.to_pylist(), strict=True)] == [
        (number, word) for number, row in enumerate(known) for word in dict.fromkeys(row)
    ]
    expected = model.vocabulary.encode(pa.array([[token for token in known[0] if token != "river"], known[2]], pa.list_(pa.string())))
    assert (left.values.tolist(), left.offsets.tolist()) == (expected.values.tolist(), expected.offsets.tolist())


def test_the_gradient_is_compiled_once(model: SentimentModel, reviews: pa.Array, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch after batch uses the same compiled function."""
    explain(model, reviews.slice(0, 3))
    monkeypatch.setattr("tasks.model.explain.token_moves", None)

    assert len(explain(model, reviews.slice(3, 3))) == 3


def test_explanations_read_well() -> None:
    """As text: words with signed effects, the first first."""
    found = pa.array([[{"word": "great", "effect": 0.754}, {"word": "dull", "effect": -0.1}], [], None], TYPE)

    assert in_words(found).to_pylist() == ["great +0.75, dull -0.10", "", None]


SMALL = LstmSettings(
    num_words=30, sequence_length=24, chunk_length=8, stride=2, kernel_size=4, embedding_size=6, pair_buckets=4096, filters=6, units=5,
    evidence_size=2, pretrained=False,
)  # fmt: skip


def random_weights(settings: LstmSettings) -> dict[str, np.ndarray]:
    """Weights far from their initial values."""
    draw = np.random.default_rng(0)
    fresh = network_weights(build_network(settings))
    weights = {name: draw.normal(0, 0.5, value.shape).astype(np.float32) for name, value in fresh.items()}
    if settings.network == "default":
        weights[STEPS] = np.ones(settings.embedding_size, np.float32)
    if not settings.pair_buckets:
        return weights
    row = np.arange(2, 30, dtype=np.int32)
    return weights | {OWNERS: fit_pair_owners(TokenIds(np.tile(row, 2), np.array([0, len(row), 2 * len(row)])), settings.pair_buckets)}


@pytest.mark.parametrize("network", ["default", "tutorial"])
def test_a_move_is_a_slope(network: str) -> None:
    """A token's move is the slope of the log-odds as its vector nears the blank one, found by a small step of the weights."""
    settings = SMALL.model_copy(update={"network": network, "evidence_size": 0, "pair_buckets": 0})
    weights = random_weights(settings)
    ids = TokenIds(np.array([5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 2], np.int32), np.array([0, 3, 3, 11]))  # each word once
    (vectors,) = (name for name in weights if name.endswith("embeddings"))
    blank = weights[vectors][1 if network == "default" else 0]
    step = np.float32(1e-2)

    moves = token_moves(LstmScorer(weights, settings))(ids, None)

    whole = LstmScorer(weights, settings).logits(ids)
    for token, word in enumerate(ids.values):
        table = weights[vectors].copy()
        table[word] -= step * (table[word] - blank)
        slope = (whole - LstmScorer({**weights, vectors: table}, settings).logits(ids)) / step
        assert moves[token] == pytest.approx(slope[0 if token < 3 else 2], abs=2e-2)


def test_pairs_and_evidence_count_for_each_of_their_tokens() -> None:
    """With blank word vectors only pairs and evidence move the score: each for the tokens that it spans, none for those not read."""
    weights = random_weights(SMALL) | {WORD_VECTORS: np.zeros((30, 6), np.float32)}
    ids = TokenIds(np.array([5, 6, 7, 8, *range(2, 30)], np.int32), np.array([0, 4, 32]))
    evidence = np.zeros((32, 3), np.float16)
    evidence[2, 1] = 1  # of the two words that end at the third token
    without_pairs = weights | {PAIR_VECTORS: np.zeros((4096, 6), np.float32)}

    of_evidence = token_moves(LstmScorer(without_pairs, SMALL))(ids, evidence)
    of_pairs = token_moves(LstmScorer(weights, SMALL))(ids, None)

    assert of_evidence[1] == of_evidence[2] != 0
    assert np.flatnonzero(of_evidence).tolist() == [1, 2]
    assert (of_pairs[:28] != 0).all()
    assert (of_pairs[28:] == 0).all()  # beyond sequence_length
