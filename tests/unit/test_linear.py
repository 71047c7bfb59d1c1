from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

from tasks.errors import DataError
from tasks.model import linear
from tasks.model.linear import (
    LinearSettings,
    TaughtReviews,
    fit_linear,
    fit_linear_by_teacher,
    fit_linear_out_of_fold,
    linear_logits,
    logits_and_evidence,
    ngram_evidence,
    ngram_matrix,
    ngram_moves,
    refit_linear,
)
from tasks.model.vocabulary import TokenIds

SETTINGS = LinearSettings(hash_bits=20, inverse_regularisation=0.5)
Rows = list[list[int]]


def _ids(rows: Rows) -> TokenIds:
    offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return TokenIds(np.array([token for row in rows for token in row], np.int32), offsets)


def _ngrams(row: list[int], longest: int) -> set[tuple[int, ...]]:
    return {tuple(row[start : start + n]) for n in range(1, longest + 1) for start in range(len(row) - n + 1)}


def _reviews(num_rows: int = 240, seed: int = 0) -> tuple[Rows, np.ndarray]:
    """Return rows of ten words in which single words lean one way and "7 8" against "8 7" says the opposite of what it seems."""
    rng = np.random.default_rng(seed)
    y = (np.arange(num_rows) % 2).astype(np.int8)
    rows = []
    for label in y:
        words = rng.integers(2, 12, rng.integers(0, 12)).tolist()
        if rng.random() < 0.5:
            words += [7, 8] if label else [8, 7]
        if rng.random() < 0.3:
            words += [3] * int(rng.integers(1, 4)) if label else [4]
        rows.append(words)
    return rows, y


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The solver runs until it is right to many digits, so that it can be compared."""
    monkeypatch.setattr(linear, "_TOLERANCE", 1e-9)
    yield


def _oracle_margins(rows: Rows, y: np.ndarray, fitting: np.ndarray, how: LinearSettings) -> np.ndarray:
    """Wang & Manning's NB-SVM over binarised n-grams, from sets of tuples in a dense matrix: fitted on some rows, applied to all."""
    found = [_ngrams(row, how.max_ngram) for row in rows]
    columns = sorted(set().union(*found))
    X = np.array([[float(ngram in ngrams) for ngram in columns] for ngrams in found])
    unseen = (2**how.hash_bits - len(columns)) * how.smoothing
    p, q = (how.smoothing + X[fitting][y[fitting] == label].sum(axis=0) for label in (1, 0))
    weighted = X * np.log((p / (p.sum() + unseen)) / (q / (q.sum() + unseen)))
    svm = LinearSVC(C=how.inverse_regularisation, tol=1e-9, max_iter=100_000, random_state=5).fit(weighted[fitting], y[fitting])
    return np.asarray(svm.decision_function(weighted))


@pytest.mark.parametrize(("longest", "bits"), [(1, 10), (2, 17), (3, 22)])  # so many that no two n-grams share a bucket
@pytest.mark.usefixtures("exact")
def test_log_odds_are_those_of_nb_svm(longest: int, bits: int) -> None:
    """An NB-SVM written out by hand, its margins made log-odds by Platt's regression on folds that it was not fitted on."""
    how = LinearSettings(hash_bits=bits, max_ngram=longest, smoothing=0.7, inverse_regularisation=0.5)
    rows, y = _reviews()
    rows, y = rows[: 2 * 60] + rows[2 * 60 :: 2], np.concatenate([y[: 2 * 60], y[2 * 60 :: 2]])  # two thirds are negative
    first = [number for number, row in enumerate(rows) if row not in rows[:number]]  # copies would share a fold
    rows, y = [rows[number] for number in first], y[first]
    fitted, taken_out = fit_linear_out_of_fold(_ids(rows), y, how, seed=3)
    out_of_fold = taken_out.logits
    weights = fitted.weights

    unseen = np.zeros(len(y))
    for fitting, held_out in StratifiedKFold(how.folds, shuffle=True, random_state=3).split(unseen, y):
        unseen[held_out] = _oracle_margins(rows, y, fitting, how)[held_out]
    platt = LogisticRegression(C=1e6).fit(unseen[:, None], y)
    assert out_of_fold == pytest.approx(platt.decision_function(unseen[:, None]), abs=2e-3)
    margins = _oracle_margins(rows, y, np.arange(len(y)), how)
    assert linear_logits(_ids(rows), weights, how) == pytest.approx(platt.decision_function(margins[:, None]), abs=2e-3)


def test_log_odds_out_of_fold_are_calibrated() -> None:
    """They solve Platt's regression: errors sum to nothing, alone and weighted by the log-odds."""
    rows, y = _reviews(400)
    logits = fit_linear_out_of_fold(_ids(rows), y, SETTINGS, seed=0)[1].logits
    error = 1 / (1 + np.exp(-logits.astype(np.float64))) - y
    assert logits.shape == (400,) and logits.dtype == np.float32
    assert abs(error.mean()) < 1e-3 and abs((error * logits).mean()) < 1e-3
    assert np.mean((logits > 0) == y) > 0.65


@pytest.mark.parametrize("copies", [1, 2])
def test_log_odds_out_of_fold_have_not_seen_their_row(copies: int) -> None:
    """On labels thrown by a coin they know nothing, nor of a copy, though the fitted weights know every row by heart."""
    rows, _ = _reviews(600)
    rows = [[*row, 100 + 2 * n, 101 + 2 * n] for n, row in enumerate(rows)] * copies
    y = np.tile(np.random.default_rng(1).integers(0, 2, 600).astype(np.int8), copies)
    fitted, taken_out = fit_linear_out_of_fold(_ids(rows), y, SETTINGS.model_copy(update={"inverse_regularisation": 10.0}), seed=0)
    weights, logits = fitted.weights, taken_out.logits
    assert 0.42 < np.mean((logits > 0) == y) < 0.58
    margins = linear_logits(_ids(rows), weights, SETTINGS)
    assert max(np.mean((margins > margins.mean()) == y), np.mean((margins < margins.mean()) == y)) > 0.95


@pytest.mark.parametrize("block", [1, 3, 64, 2048])
def test_a_review_scores_the_same_among_any_others(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    """Bit for bit: alone, with all others, in another order, and however blocks are cut."""
    rows, y = _reviews(150)
    weights = fit_linear(_ids(rows), y, SETTINGS, seed=0).weights
    together = linear_logits(_ids(rows), weights, SETTINGS)
    monkeypatch.setattr(linear, "ROWS_PER_BLOCK", block)
    assert together.dtype == np.float32
    assert np.array_equal(linear_logits(_ids(rows), weights, SETTINGS), together)
    assert np.array_equal(linear_logits(_ids(rows[::-1]), weights, SETTINGS), together[::-1])
    assert [linear_logits(_ids([row]), weights, SETTINGS)[0] for row in rows] == together.tolist()


@pytest.mark.parametrize("bits", [10, 26])
def test_log_odds_and_evidence_in_one_pass_are_those_of_two(bits: int) -> None:
    """Bit for bit, for short and empty reviews, for no reviews at all, and however few rows fit beside a bucket into 32 bits."""
    settings = SETTINGS.model_copy(update={"hash_bits": bits})
    weights = {"ngrams": np.random.default_rng(0).normal(size=1 << bits).astype(np.float16), "bias": np.ones(1, np.float32)}
    for rows in ([[], *_reviews(200)[0], [9], [9, 9], []], []):
        logits, evidence = logits_and_evidence(_ids(rows), weights, settings)
        np.testing.assert_array_equal(logits, linear_logits(_ids(rows), weights, settings))
        np.testing.assert_array_equal(evidence, ngram_evidence(_ids(rows), weights["ngrams"], settings))
        assert logits.dtype == np.float32 and evidence.dtype == np.float16
        by_hand = np.array(
            [np.float64(weights["ngrams"][ngram_matrix(_ids([row]), settings).indices].sum(dtype=np.float64)) for row in rows]
        )
        np.testing.assert_allclose(logits, by_hand + 1, rtol=1e-6)


def test_a_review_without_words_gets_the_bias() -> None:
    """So do several of them, at either end and between others; no reviews give no log-odds."""
    rows, y = _reviews(60)
    weights = fit_linear(_ids(rows), y, SETTINGS, seed=0).weights
    logits = linear_logits(_ids([[], [7, 8], [], []]), weights, SETTINGS)
    bias = float(weights["bias"][0])
    assert logits[[0, 2, 3]].tolist() == [bias] * 3 and logits[1] != bias
    assert linear_logits(_ids([[], []]), weights, SETTINGS).tolist() == [bias] * 2
    assert linear_logits(_ids([]), weights, SETTINGS).shape == (0,)


def test_order_counts_and_repetition_does_not() -> None:
    """ "7 8" and "8 7" differ by their pair; a word said thrice is the same word, but for the pairs it makes."""
    rows, y = _reviews()
    weights = fit_linear(_ids(rows), y, SETTINGS, seed=0).weights
    forth, back = linear_logits(_ids([[7, 8], [8, 7]]), weights, SETTINGS)
    assert forth > 0 > back
    words = SETTINGS.model_copy(update={"max_ngram": 1})
    logits = linear_logits(_ids([[7, 8], [8, 7, 8, 8]]), fit_linear(_ids(rows), y, words, seed=0).weights, words)
    assert logits[0] == logits[1]


@pytest.mark.parametrize("longest", [1, 2, 3])
def test_the_matrix_holds_every_ngram_once(longest: int) -> None:
    """As many ones in each row as it has different n-grams, in ascending columns; equal n-grams share a column, others do not."""
    rows, _ = _reviews()
    settings = LinearSettings(hash_bits=26, max_ngram=longest)
    matrix = ngram_matrix(_ids(rows), settings)
    expected = [_ngrams(row, longest) for row in rows]
    assert matrix.shape == (len(rows), 2**26) and matrix.dtype == np.float32
    assert np.diff(matrix.indptr).tolist() == [len(ngrams) for ngrams in expected] and set(matrix.data.tolist()) == {1.0}
    assert len(set(matrix.indices.tolist())) == len(set().union(*expected))
    columns = [matrix.indices[start:stop] for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)]
    assert all(np.all(np.diff(found) > 0) for found in columns)


def test_the_buckets_are_a_stored_contract() -> None:
    """Models keep a weight a bucket: these n-grams hash to these buckets for ever."""
    assert ngram_matrix(_ids([[2, 3, 4], [5]]), LinearSettings()).indices.tolist() == [
        130002,
        1202449,
        1395877,
        3629194,
        3697000,
        4128263,
        1189673,
    ]


def test_few_buckets_will_do() -> None:
    """N-grams that share a bucket share a weight; nothing overflows."""
    rows, y = _reviews()
    settings = LinearSettings(hash_bits=10)
    weights = fit_linear(_ids(rows), y, settings, seed=0).weights
    assert weights["ngrams"].shape == (1024,) and np.isfinite(linear_logits(_ids(rows), weights, settings)).all()


def test_equal_seeds_give_equal_weights() -> None:
    """Bit for bit, so that a key stands for one model."""
    rows, y = _reviews(100)
    first, second = (fit_linear(_ids(rows), y, SETTINGS, seed=4).weights for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in ("ngrams", "bias"))
    assert (first["ngrams"].dtype, first["bias"].dtype) == (np.float16, np.float32)


def test_too_few_rows_of_a_class_are_the_datas_fault() -> None:
    """The error counts both classes and says how many it takes."""
    rows, y = _reviews(20)
    y[:] = 0
    y[:3] = 1
    with pytest.raises(DataError, match=r"3 different positive and 17 different negative reviews\. Expected at least 4 of each"):
        fit_linear(_ids(rows), y, SETTINGS, seed=0)


def test_unlabelled_reviews_teach_words_that_no_labelled_one_holds() -> None:
    """A word that stands in unlabelled reviews only leans to the side that the teacher gave them; without weight it leans nowhere."""
    rows, y = _reviews()
    unlabelled, teacher = [[20, 5]] * 40 + [[21, 5]] * 40, np.repeat([2.0, -2.0], 40)

    def logits_of_new_words(weight: float) -> np.ndarray:
        taught = TaughtReviews(_ids(unlabelled), teacher, np.full(80, weight))
        fitted, _ = fit_linear_by_teacher(_ids(rows), y, taught, SETTINGS, 0, _ids(rows), y)
        return linear_logits(_ids([[20], [21], []]), fitted.weights, SETTINGS)

    for_positive, for_negative, bias = logits_of_new_words(0.5)
    assert for_positive - bias > 0.1 > -0.1 > for_negative - bias
    for nothing in (1e-9, 0.0):
        for_positive, for_negative, bias = logits_of_new_words(nothing)
        assert abs(for_positive - bias) < 0.1 and abs(for_negative - bias) < 0.1


def test_evidence_by_a_teacher_comes_from_other_reviews() -> None:
    """Of labelled and unlabelled reviews, in this order: a word that a single one holds has none, one that a teacher knows has some."""
    rows, y = _reviews(80)
    rows = [[*row, 1000 + number] for number, row in enumerate(rows)]
    unlabelled = [[20, 5, 2000 + number] for number in range(40)] + [[21, 5, 3000 + number] for number in range(40)]
    taught = TaughtReviews(_ids(unlabelled), np.repeat([2.0, -2.0], 40), np.repeat([0.5, 0.0, 0.5], [40, 1, 39]))
    fitted, taken_out = fit_linear_by_teacher(_ids(rows), y, taught, SETTINGS, 0, _ids(rows), y)
    every = _ids([*rows, *unlabelled])
    last = every.offsets[1:] - 1
    seen = ngram_evidence(every, fitted.weights["ngrams"], SETTINGS)
    assert np.abs(taken_out.evidence[last, 0]).max() < 1e-3 < np.abs(seen[last, 0]).mean()
    by_word = taken_out.evidence[every.offsets[80:160], 0]
    assert by_word[:40].min() > 0 > by_word[40:].max()
    assert taken_out.logits.shape == (160,) and (taken_out.logits[80:120] > taken_out.logits[120:].max()).all()


def test_refitting_learns_from_more_reviews_on_the_same_scale() -> None:
    """Fitted once more on the same reviews, the n-gram part is the same; on more of them, it knows their words."""
    rows, y = _reviews()
    fitted = fit_linear(_ids(rows), y, SETTINGS, seed=0)
    again = refit_linear(fitted, _ids(rows), y, None, SETTINGS, seed=0)
    np.testing.assert_array_equal(again.weights["ngrams"], fitted.weights["ngrams"])
    assert (again.slope, again.offset) == (fitted.slope, fitted.offset)

    more = refit_linear(fitted, _ids([*rows, *[[30]] * 20]), np.concatenate([y, np.ones(20, np.int8)]), None, SETTINGS, seed=0)
    (before,), (after,) = (linear_logits(_ids([[30]]), part.weights, SETTINGS) - part.weights["bias"] for part in (fitted, more))
    assert before == 0 < after


def test_evidence_is_what_the_ngrams_ending_at_a_token_add() -> None:
    """Each token has the log-odds of its 1-, 2- and 3-gram; of distinct n-grams they and the bias add up to the review's own."""
    rows = [[4, 5, 6, 7], [], [8], [9, 4, 5]]
    labels = np.array([1, 0, 0, 1] * 4, np.int8)
    fitted = fit_linear(_ids([[*row, 100 + number] for number in range(4) for row in rows]), labels, SETTINGS, seed=0)
    evidence = ngram_evidence(_ids(rows), fitted.weights["ngrams"], SETTINGS)
    assert evidence.shape == (8, 3) and evidence.dtype == np.float16
    sums = [part.astype(float).sum() for part in np.split(evidence, _ids(rows).offsets[1:-1])]
    np.testing.assert_allclose(sums + fitted.weights["bias"], linear_logits(_ids(rows), fitted.weights, SETTINGS), atol=1e-2)
    assert not evidence[0, 1:].any() and not evidence[1, 2] and not evidence[4, 1:].any()  # where no longer one ends
    assert evidence[0, 0] == evidence[6, 0] and evidence[1, 1] == evidence[7, 1]  # 4, and 4 5, wherever they stand


def test_evidence_out_of_fold_has_not_seen_its_row() -> None:
    """A word that a single review holds has no evidence there, though the fitted weights know it."""
    rows, y = _reviews(40)
    rows = [[*row, 1000 + number] for number, row in enumerate(rows)]
    fitted, taken_out = fit_linear_out_of_fold(_ids(rows), y, SETTINGS, seed=0)
    last = _ids(rows).offsets[1:] - 1
    seen = ngram_evidence(_ids(rows), fitted.weights["ngrams"], SETTINGS)
    assert np.abs(taken_out.evidence[last, 0]).max() < 1e-3 < np.abs(seen[last, 0]).mean()
    assert taken_out.evidence.shape == seen.shape


def test_ngrams_move_by_their_weight_once() -> None:
    """All n-grams that hold a word are worth what the review loses without them; one that stands there twice is worth its weight once."""
    random = np.random.default_rng(0)
    weights = {"ngrams": random.normal(size=1 << SETTINGS.hash_bits).astype(np.float32), "bias": np.zeros(1, np.float32)}
    rows = [[4, 5, 6, 4, 5], [], [7]]

    moves = ngram_moves(_ids(rows), weights["ngrams"], SETTINGS)

    whole = linear_logits(_ids(rows), weights, SETTINGS)
    only_unigrams = SETTINGS.model_copy(update={"max_ngram": 1})
    unigrams = ngram_moves(_ids(rows), weights["ngrams"], only_unigrams)
    assert unigrams[:5].sum() == pytest.approx(linear_logits(_ids(rows), weights, only_unigrams)[0], abs=1e-5)
    assert unigrams[0] == unigrams[3] and unigrams[1] == unigrams[4]
    assert moves[5] == pytest.approx(whole[2], abs=1e-6)
    # Without 6, which stands once, are left: 4, 5 and 4 5.
    assert moves[2] == pytest.approx(whole[0] - linear_logits(_ids([[4, 5]]), weights, SETTINGS)[0], abs=1e-5)
