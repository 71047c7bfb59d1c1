import numpy as np
import pyarrow as pa
import pytest
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.svm import LinearSVC

from tasks.errors import DataError
from tasks.model import linear
from tasks.model.linear import LinearSettings, fit_linear, fit_linear_out_of_fold, linear_logits, ngram_matrix
from tasks.model.vocabulary import TokenIds, VocabularySettings, fit_vocabulary

SETTINGS = LinearSettings(hash_bits=20)


def reviews(num_rows: int, seed: int) -> tuple[list[list[str]], np.ndarray]:
    """Reviews of noise words around "good" or "not good"."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 2, num_rows).astype(np.int8)
    noise = np.array([f"w{number}" for number in range(200)])
    rows = []
    for label in y:
        before, after = (random.choice(noise, random.integers(1, 9)).tolist() for _ in range(2))
        rows.append([*before, *(["good"] if label else ["not", "good"]), *after, *(["not"] if label else [])])
    return rows, y


def encode(*parts: list[list[str]]) -> list[TokenIds]:
    arrays = [pa.array(rows, pa.list_(pa.string())) for rows in parts]
    vocabulary = fit_vocabulary([pa.concat_arrays(arrays)], VocabularySettings(min_count=1))
    return [vocabulary.encode(array) for array in arrays]


def test_every_distinct_ngram_of_a_review_counts_once() -> None:
    """Each row holds as many buckets as scikit-learn finds 1- to 3-grams, none across two reviews, equal ones shared."""
    rows, _ = reviews(300, seed=0)
    rows[7] = []
    (ids,) = encode(rows)
    counted = CountVectorizer(analyzer="word", tokenizer=str.split, token_pattern=None, ngram_range=(1, 3), binary=True)
    expected = counted.fit_transform([" ".join(row) for row in rows])
    found = ngram_matrix(ids, LinearSettings(hash_bits=26))
    assert (found.data == 1).all()
    assert np.diff(found.indptr).tolist() == np.diff(expected.indptr).tolist()
    assert (found @ found.T != expected @ expected.T).nnz == 0


def test_log_odds_are_those_of_a_textbook_nbsvm() -> None:
    """On unseen reviews the log-odds are a straight line through the margins of NB-SVM as Wang & Manning (2012) give it."""
    (rows, y), (unseen, _) = reviews(400, seed=1), reviews(100, seed=2)
    counted = CountVectorizer(analyzer="word", tokenizer=str.split, token_pattern=None, ngram_range=(1, 3), binary=True)
    X = counted.fit_transform([" ".join(row) for row in rows])
    p, q = (1 + np.asarray(X[y == label].sum(axis=0)).ravel() for label in (1, 0))
    ratio = np.log(p / p.sum()) - np.log(q / q.sum())
    # Hashing counts the smoothing of empty buckets too: a shift of the ratio that every n-gram shares.
    shift = np.log((p.sum() - len(p) + 2**20) / (q.sum() - len(q) + 2**20)) - np.log(p.sum() / q.sum())
    scale = csr_matrix(np.diag(ratio - shift))
    textbook = LinearSVC(C=SETTINGS.inverse_regularisation, tol=1e-6).fit(X @ scale, y)
    expected = textbook.decision_function(counted.transform([" ".join(row) for row in unseen]) @ scale)

    ids, unseen_ids = encode(rows, unseen)
    logits = linear_logits(unseen_ids, fit_linear(ids, y, SETTINGS, seed=0), SETTINGS)

    assert np.corrcoef(logits, expected)[0, 1] > 0.999


def test_word_order_is_learnt() -> None:
    """Both classes hold the same words; only the n-grams tell "not good" from "good … not"."""
    (rows, y), (unseen, y_unseen) = reviews(600, seed=3), reviews(200, seed=4)
    ids, unseen_ids = encode(rows, unseen)
    settings = LinearSettings(hash_bits=20, max_ngram=2)
    weights = fit_linear(ids, y, settings, seed=0)
    assert np.mean((linear_logits(unseen_ids, weights, settings) > 0) == y_unseen) > 0.95
    words_alone = LinearSettings(hash_bits=20, max_ngram=1)
    blind = linear_logits(unseen_ids, fit_linear(ids, y, words_alone, seed=0), words_alone)
    assert np.mean((blind > 0) == y_unseen) < 0.7


def test_out_of_fold_log_odds_are_honest() -> None:
    """Random labels can't be predicted out of fold, and the log-odds say so by staying near 0."""
    rows, _ = reviews(400, seed=5)
    y = np.random.default_rng(55).integers(0, 2, 400).astype(np.int8)
    weights, out_of_fold = fit_linear_out_of_fold(encode(rows)[0], y, SETTINGS, seed=0)
    assert np.mean((out_of_fold > 0) == y) < 0.6
    assert np.abs(out_of_fold).mean() < 0.5
    assert weights["ngrams"].shape == (2**20,)
    assert {value.dtype.name for value in weights.values()} == {"float32"}


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are scored in blocks, whose borders change no row's n-grams or log-odds; a row without n-grams gets the bias."""
    rows, _ = reviews(40, seed=6)
    rows[11] = []
    (ids,) = encode(rows)
    random = np.random.default_rng(0)
    weights = {"ngrams": random.normal(size=2**20).astype(np.float32), "bias": np.array([0.25], np.float32)}
    whole, matrix = linear_logits(ids, weights, SETTINGS), ngram_matrix(ids, SETTINGS)
    assert whole == pytest.approx(matrix @ weights["ngrams"] + 0.25, rel=1e-4)
    assert whole[11] == np.float32(0.25)
    monkeypatch.setattr(linear, "ROWS_PER_BLOCK", 3)
    assert linear_logits(ids, weights, SETTINGS).tolist() == whole.tolist()
    assert (ngram_matrix(ids, SETTINGS) != matrix).nnz == 0


def test_no_reviews_have_no_log_odds() -> None:
    """Nothing in, nothing out."""
    none = TokenIds(np.empty(0, np.int32), np.zeros(1, np.int64))
    assert ngram_matrix(none, SETTINGS).shape == (0, 2**20)
    weights = {"ngrams": np.zeros(2**20, np.float32), "bias": np.zeros(1, np.float32)}
    assert linear_logits(none, weights, SETTINGS).shape == (0,)


def test_too_few_rows_of_a_class_are_refused() -> None:
    """The error counts both classes and says how many are needed."""
    rows, _ = reviews(10, seed=7)
    y = np.array([1] * 7 + [0] * 3, np.int8)
    with pytest.raises(DataError, match="7 positive and 3 negative reviews. Expected at least 4 of each"):
        fit_linear(encode(rows)[0], y, SETTINGS, seed=0)
