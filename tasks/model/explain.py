"""Which words moved a score most: those without which it would be further from where it stands.

Gradients and n-gram weights name candidates for all reviews at once; leaving each candidate out of its review and scoring that again
tells what it was worth.

Source: Li et al. (2016), "Understanding neural networks through representation erasure"; DeYoung et al. (2020) for the measure that a
benchmark here takes, how far the score moves without the named words.
"""

import functools
import threading
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.model.bundle import LINEAR, LSTM, SentimentModel
from tasks.model.gradients import TokenMoves, token_moves
from tasks.model.linear import ngram_moves
from tasks.model.lstm import LstmScorer
from tasks.model.stack import stacked_log_odds
from tasks.model.vocabulary import TokenIds

WORD, EFFECT = "word", "effect"
TYPE = pa.list_(pa.struct([(WORD, pa.string()), (EFFECT, pa.float32())]))
CANDIDATES = 2  # for each word that is named; more move the score hardly further, see tests/benchmarks/explanations.py
_REVIEWS_AT_ONCE = 512

_compiling = threading.Lock()


@dataclass(frozen=True)
class Words:
    """The different words of reviews.

    Args:
        ids: The reviews.
        of_token: int64, shape (num_tokens,): which of the words below each token is.
        row: int64, shape (num_words,), ascending: the review that a word stands in; the words of a review in the order of first use.
        text: string, shape (num_words,).
    """

    ids: TokenIds
    of_token: np.ndarray
    row: np.ndarray
    text: pa.Array


def distinct_words(model: SentimentModel, reviews: pa.Array) -> Words:
    """Find the different words of each review, as the model reads them; those that it leaves out are none."""
    tokens = model.tokens(reviews)
    ids = model.vocabulary.encode(tokens)
    encoded = tokens.flatten().dictionary_encode()
    texts, which = encoded.dictionary, encoded.indices.to_numpy()
    if model.vocabulary.unknown == "drop":
        alone = pa.ListArray.from_arrays(pa.array(np.arange(len(texts) + 1, dtype=np.int32)), texts)
        which = which[model.vocabulary.encode(alone).lengths[which] == 1]
    row = np.repeat(np.arange(len(ids)), ids.lengths)
    _, first, group = np.unique(row * np.int64(max(len(texts), 1)) + which, return_index=True, return_inverse=True)
    by_first_use = np.argsort(first, kind="stable")
    rank = np.empty_like(by_first_use)
    rank[by_first_use] = np.arange(len(by_first_use))
    first = first[by_first_use]
    return Words(ids, rank[group], row[first], texts.take(pa.array(which[first])))


def without_words(words: Words, left_out: list[np.ndarray], rows: np.ndarray) -> TokenIds:
    """Return reviews with some of their words left out wherever they stand.

    Args:
        words: Of the reviews.
        left_out: For each review to return, the numbers of the words that go.
        rows: int, shape (len(left_out),): which review that is.
    """
    places, lengths = words.ids.places(rows), words.ids.lengths[rows]
    number = np.repeat(np.arange(len(rows), dtype=np.int64), lengths) * max(len(words.row), 1) + words.of_token[places]
    gone = np.concatenate([index * max(len(words.row), 1) + chosen for index, chosen in enumerate(left_out)] or [np.empty(0, np.int64)])
    kept = ~np.isin(number, gone)
    before = np.concatenate([[0], np.cumsum(kept)])
    return TokenIds(words.ids.values[places][kept], before[np.concatenate([[0], np.cumsum(lengths)])])


def explain_reviews(model: SentimentModel, reviews: pa.Array, num_words: int, skipped: np.ndarray) -> pa.ListArray:
    """Name the words of each review that moved its score most to the side of 0.5 on which it lies.

    Args:
        model: What gave the scores.
        reviews: string, shape (num_rows,).
        num_words: How many words are named; fewer where fewer moved the score that way.
        skipped: bool, shape (num_rows,): reviews that have no score.

    Returns:
        `TYPE`, shape (num_rows,), null where skipped: words, the strongest first, each with the log-odds of positive that the review
        would lose without it; below 0 where it speaks for negative.
    """
    blocks = [
        _explain_block(model, reviews.slice(start, _REVIEWS_AT_ONCE), num_words, skipped[start : start + _REVIEWS_AT_ONCE])
        for start in range(0, len(reviews), _REVIEWS_AT_ONCE)
    ]
    return pa.concat_arrays(blocks) if blocks else pa.array([], TYPE)


def _explain_block(model: SentimentModel, reviews: pa.Array, num_words: int, skipped: np.ndarray) -> pa.ListArray:
    words = distinct_words(model, reviews)
    logits, evidence = model.logits_and_evidence(words.ids)
    log_odds = stacked_log_odds(logits, model.stack)
    side = np.where(log_odds < 0, -1.0, 1.0)
    is_word = pc.match_substring_regex(words.text, r"[\pL\pN]").to_numpy(zero_copy_only=False)
    estimate = estimate_effects(model, words, evidence) * side[words.row] * is_word  # punctuation explains nothing to people
    candidates = strongest(estimate, words.row, len(reviews), CANDIDATES * num_words)
    candidates = candidates[~skipped[words.row[candidates]]]
    rows = words.row[candidates]
    effect = log_odds[rows] - model.log_odds(without_words(words, list(candidates[:, None]), rows))
    named = strongest(effect * side[rows], rows, len(reviews), num_words)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows[named], minlength=len(reviews)))]).astype(np.int32)
    values = [words.text.take(pa.array(candidates[named])), pa.array(effect[named].astype(np.float32))]
    structs = pa.StructArray.from_arrays(values, names=[WORD, EFFECT])
    return pa.ListArray.from_arrays(pa.array(offsets), structs, type=TYPE, mask=pa.array(skipped))


def estimate_effects(model: SentimentModel, words: Words, evidence: np.ndarray | None) -> np.ndarray:
    """Estimate the log-odds that each word adds to its review's, float64, shape (num_words,), in one pass; `evidence` is of the tokens."""
    stack = model.stack.weights
    moves = stack[LSTM] * _moves_of(model.lstm)(words.ids, evidence)
    if model.linear is not None and model.settings.linear is not None:
        moves = moves + stack[LINEAR] * ngram_moves(words.ids, model.linear["ngrams"], model.settings.linear)
    return np.bincount(words.of_token, moves, len(words.row))


def _moves_of(scorer: LstmScorer) -> TokenMoves:
    with _compiling:
        return _compiled(scorer)


@functools.lru_cache(maxsize=1)
def _compiled(scorer: LstmScorer) -> TokenMoves:
    return token_moves(scorer)


def strongest(strength: np.ndarray, row: np.ndarray, num_rows: int, most: int) -> np.ndarray:
    """Return which entries are the strongest of their row, none that is not above 0, row after row and the strongest first.

    Args:
        strength: float, shape (num_entries,).
        row: int, shape (num_entries,), ascending.
        num_rows: How many rows there are.
        most: How many entries of a row are taken at most; of equal ones the first.
    """
    order = np.lexsort((-strength, row))
    place = np.arange(len(order)) - np.searchsorted(row[order], np.arange(num_rows))[row[order]]
    return order[(place < most) & (strength[order] > 0)]


def in_words(explanation: pa.ListArray) -> pa.StringArray:
    """Return explanations as people read them: `great +0.75, wonderful +0.63`; null stays null."""
    rows = explanation.to_pylist()
    told = [None if row is None else ", ".join(f"{word[WORD]} {word[EFFECT]:+.2f}" for word in row) for row in rows]
    return pa.array(told, pa.string())
