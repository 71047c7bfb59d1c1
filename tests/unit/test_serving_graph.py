from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.export import ODD_REVIEWS
from tasks.model.bundle import BundleSettings, SentimentModel, assemble
from tasks.model.decision import Decision
from tasks.model.linear import LinearSettings
from tasks.model.lstm import OWNERS, LstmSettings, build_network, network_weights
from tasks.model.pairs import fit_pair_owners
from tasks.model.quantisation import quantise_vectors
from tasks.model.serving_graph import P_POSITIVE, SCORED, score_with, serving_module
from tasks.model.stack import StackWeights
from tasks.model.text_graph import TokenGraph
from tasks.model.vocabulary import VocabularySettings, fit_vocabulary
from tasks.reviews.sample import SampleSettings, generate_reviews
from tasks.reviews.stop_words import ENGLISH_STOP_WORDS
from tasks.reviews.text import CleanSettings, TokenizeSettings, clean_reviews, tokenize_reviews

DEFAULT = (CleanSettings(), TokenizeSettings())
WORDS = (CleanSettings(punctuation=False), TokenizeSettings())
TUTORIAL = (CleanSettings(rules="tutorial", stop_words=ENGLISH_STOP_WORDS), TokenizeSettings(rules="tutorial"))
SMALL = {
    "num_words": 300,
    "embedding_size": 6,
    "filters": 6,
    "units": 4,
    "sequence_length": 64,
    "chunk_length": 16,
    "stride": 4,
    "kernel_size": 8,
}
REVIEWS = [*next(iter(generate_reviews(SampleSettings(rows=150)))).columns["review"].to_pylist(), *ODD_REVIEWS]


def random_model(rules: tuple[CleanSettings, TokenizeSettings], lstm: LstmSettings, linear: LinearSettings | None) -> SentimentModel:
    """Return a model with weights drawn at random, large enough that every operation leaves its mark on the score."""
    words = VocabularySettings.tutorial() if lstm.network == "tutorial" else VocabularySettings()
    vocabulary = fit_vocabulary([tokenize_reviews(clean_reviews(pa.array(REVIEWS[:100]), rules[0]), rules[1])], words)
    rng = np.random.default_rng(3)
    fresh = network_weights(build_network(lstm))
    weights = quantise_vectors({name: rng.normal(0, 0.7, value.shape).astype(np.float32) for name, value in fresh.items()})
    weights = {f"lstm/{name}": value for name, value in weights.items()}
    if lstm.pair_buckets:
        tokens = tokenize_reviews(clean_reviews(pa.array(REVIEWS), rules[0]), rules[1])
        weights[f"lstm/{OWNERS}"] = fit_pair_owners(vocabulary.encode(pa.concat_arrays([tokens, tokens])), lstm.pair_buckets)
        assert (weights[f"lstm/{OWNERS}"] > 0).sum() > lstm.pair_buckets / 2
    parts = {"lstm": 1.0}
    if linear is not None:
        size = 1 << linear.hash_bits
        weights |= {"linear/ngrams": rng.normal(0, 0.3, size).astype(np.float16), "linear/bias": np.array([0.2], np.float32)}
        parts = {"lstm": 0.4, "linear": 0.6}
    settings = BundleSettings(model_id="m-random", clean=rules[0], tokenize=rules[1], lstm=lstm, linear=linear, trained_on={})
    return assemble(settings, vocabulary, weights, StackWeights(parts, -0.1), Decision(0.5, 0.5))


MODELS = {
    "default": (DEFAULT, LstmSettings(**SMALL, pair_buckets=64), LinearSettings(hash_bits=12)),
    "alone": (DEFAULT, LstmSettings(**SMALL, pair_buckets=0, evidence_size=0), None),
    "bigrams": (DEFAULT, LstmSettings(**SMALL, pair_buckets=64, evidence_size=2), LinearSettings(hash_bits=10, max_ngram=2)),
    "tutorial": (TUTORIAL, LstmSettings.tutorial().model_copy(update={"units": 4, "embedding_size": 6}), None),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_gives_the_models_scores(name: str) -> None:
    """Cleaning, vocabulary, n-grams, chunks, network and stack: the graph's scores are the model's, for odd reviews too."""
    model = random_model(*MODELS[name])
    expected = model.score_reviews(pa.array(REVIEWS))

    module = serving_module(model)

    assert np.std(expected.p_positive) > 0.02
    np.testing.assert_allclose(score_with(module.serve, REVIEWS), expected.p_positive, atol=1e-6)
    scored = module.serve(REVIEWS)[SCORED].numpy()
    assert scored.tolist() == [status in ("ok", "truncated") or words_known(model, row) for row, status in enumerate(expected.status)]
    assert module.serve(np.array([], object))[P_POSITIVE].shape == (0,)


def words_known(model: SentimentModel, row: int) -> bool:
    """Return whether a review holds a word that the vocabulary has."""
    ids = model.vocabulary.encode(model.tokens(pa.array(REVIEWS[row : row + 1])))
    return bool(model.vocabulary.num_known_words(ids)[0])


@pytest.mark.parametrize("rules", [DEFAULT, WORDS, TUTORIAL], ids=["default", "words", "tutorial"])
def test_tokens_are_those_of_the_text_kernels(rules: tuple[CleanSettings, TokenizeSettings]) -> None:
    """Random strings of letters, marks, tags and of any character at all come apart in the graph as they do in the kernels."""
    rng = np.random.default_rng(5)
    tricky = np.array(list("aAbZ'’_ .,!?<>/b\n\t\r\"()-01²Ⅷéßİςσʰ中好\u0301\ufeff\u200b\u00ad👍"))
    texts = ["".join(rng.choice(tricky, rng.integers(0, 40))) for _ in range(1500)]
    entities = np.array(
        ["don", "t", "&#39;", "&rsquo;", "&lt;", "br/", "&gt;", "&amp;", "#39;", "&#128077;", "&#x2019;", "&xx;", "&", ";", "\0", " "]
    )
    texts += ["".join(rng.choice(entities, rng.integers(0, 12))) for _ in range(500)]
    anything = rng.integers(1, 0x20000, (500, 20))
    texts += ["".join(chr(code) for code in row if not 0xD800 <= code < 0xE000 and code != 0x3A3) for row in anything.tolist()]
    expected = tokenize_reviews(clean_reviews(pa.array(texts), rules[0]), rules[1]).to_pylist()

    found = TokenGraph(*rules).tokens(np.array(texts, object)).to_list()

    assert [[token.decode() for token in tokens] for tokens in found] == expected


def test_a_sigma_that_ends_a_word() -> None:
    """Under the tutorial rules a capital sigma is lowered as Python does it, at a word's end and within."""
    texts = ["ΣΟΦΟΣ ΣΑΣ. Σ ΑΣΑ"]
    expected = tokenize_reviews(clean_reviews(pa.array(texts), TUTORIAL[0]), TUTORIAL[1]).to_pylist()
    assert [[token.decode() for token in tokens] for tokens in TokenGraph(*TUTORIAL).tokens(texts).to_list()] == expected


def test_real_reviews_come_apart_alike(real_reviews: Path) -> None:
    """Two thousand real reviews have the same tokens in the graph."""
    from tasks.reviews.readers import ReaderSettings, read_batches

    texts = next(read_batches(real_reviews, "imdb", ReaderSettings())).columns["review"].slice(0, 2000)
    expected = tokenize_reviews(clean_reviews(texts, DEFAULT[0]), DEFAULT[1]).to_pylist()
    found = TokenGraph(*DEFAULT).tokens(np.array(texts.to_pylist(), object)).to_list()
    assert [[token.decode() for token in tokens] for tokens in found] == expected
