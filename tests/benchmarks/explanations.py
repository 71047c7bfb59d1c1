"""Measures whether the words that `--explain` names are those that moved the score, and what naming them costs.

    python tests/benchmarks/explanations.py BUNDLE REVIEWS.csv[.gz] [--rows 500] [--words 5] [--skip 0]

Leaves the named words out of each review, and as many random words of it, and compares how far the log-odds move (random: the mean of
ten draws). Does the same for words named by the estimates alone and by leaving out more candidates. Prints one JSON line.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pyarrow as pa

from tasks.model import explain
from tasks.model.bundle import SentimentModel, load_bundle
from tasks.model.explain import Words, distinct_words, estimate_effects, explain_reviews, without_words
from tasks.reviews.columns import find_text_column, text_of
from tasks.reviews.readers import ReaderSettings, read_batches

DRAWS, TIMES_FURTHER = 10, 3


def read_reviews(path: Path, skip: int, rows: int) -> pa.Array:
    """Return the texts of some rows of a file."""
    texts: list[pa.Array] = []
    for batch in read_batches(path, path.name, ReaderSettings()):
        texts.append(text_of(batch.columns, find_text_column(batch.columns.schema.names, None)))
        if sum(map(len, texts)) >= skip + rows:
            break
    return pa.concat_arrays(texts).slice(skip, rows)


def moved_by(model: SentimentModel, words: Words, log_odds: np.ndarray, left_out: list[np.ndarray]) -> np.ndarray:
    """Return how far each review's log-odds move without some of its words."""
    return np.abs(model.log_odds(without_words(words, left_out, np.arange(len(left_out)))) - log_odds)


def named_words(words: Words, explanations: pa.ListArray) -> list[np.ndarray]:
    """Return the numbers of the words that explanations name, row by row."""
    texts = np.array(words.text.to_pylist(), dtype=object)
    named = [{entry["word"] for entry in row} for row in explanations.to_pylist()]
    spans = enumerate(pairwise(np.searchsorted(words.row, np.arange(len(named) + 1))))
    return [first + np.flatnonzero([text in named[row] for text in texts[first:last]]) for row, (first, last) in spans]


def cpu_seconds(call: Callable[[], Any]) -> tuple[Any, float]:
    """Return a call's result and the CPU seconds of all its threads."""
    started = time.process_time()
    return call(), time.process_time() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--words", type=int, default=5)
    parser.add_argument("--skip", type=int, default=0, help="rows at the start of the file to pass over")
    options = parser.parse_args()
    model, k = load_bundle(options.bundle), options.words
    reviews = read_reviews(options.reviews, options.skip, options.rows)
    nothing = np.zeros(len(reviews), bool)
    explain_reviews(model, reviews.slice(0, 20), k, nothing[:20])  # compiles

    _, plain_seconds = cpu_seconds(lambda: model.score_reviews(reviews))
    words = distinct_words(model, reviews)
    log_odds = model.log_odds(words.ids)
    draw = np.random.default_rng(0)
    spans = list(pairwise(np.searchsorted(words.row, np.arange(len(reviews) + 1))))

    def judge(chosen: list[np.ndarray]) -> dict[str, float]:
        at_random = [
            [first + draw.choice(last - first, len(row), replace=False) for (first, last), row in zip(spans, chosen, strict=True)]
            for _ in range(DRAWS)
        ]
        by_chance = np.mean([moved_by(model, words, log_odds, drawn) for drawn in at_random], axis=0)
        moved = moved_by(model, words, log_odds, chosen)
        return {
            "share_of_rows": round(float(np.mean(moved >= TIMES_FURTHER * by_chance)), 4),
            "median_ratio": round(float(np.median(moved / np.maximum(by_chance, 1e-9))), 1),
            "log_odds_moved": round(float(np.mean(moved)), 2),
            "at_random": round(float(np.mean(by_chance)), 2),
        }

    side = np.where(log_odds < 0, -1.0, 1.0)
    found: dict[str, Any] = {}
    estimates, seconds = cpu_seconds(lambda: estimate_effects(model, words, model.logits_and_evidence(words.ids)[1]))
    by_estimate = explain.strongest(estimates * side[words.row], words.row, len(reviews), k)
    found["estimates alone"] = judge([by_estimate[words.row[by_estimate] == row] for row in range(len(reviews))])
    found["estimates alone"]["reviews_a_cpu_second"] = round(len(reviews) / (plain_seconds + seconds))
    for candidates in (1, explain.CANDIDATES, 3):
        explain.CANDIDATES = candidates
        named, seconds = cpu_seconds(lambda: explain_reviews(model, reviews, k, nothing))
        name = f"{candidates} candidates a word"
        found[name] = judge(named_words(words, named))
        found[name]["reviews_a_cpu_second"] = round(len(reviews) / (plain_seconds + seconds))
    print(
        json.dumps(
            {
                "bundle": options.bundle.name,
                "reviews": options.reviews.name,
                "rows": len(reviews),
                "words": k,
                "reviews_a_cpu_second_without": round(len(reviews) / plain_seconds),
                **found,
            }
        )
    )


if __name__ == "__main__":
    main()
