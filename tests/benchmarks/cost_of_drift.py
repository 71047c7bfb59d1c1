"""Measures what telling drift adds to scoring: CPU seconds of the tally against those of cleaning, tokenizing and scoring the same rows.

    python tests/benchmarks/cost_of_drift.py REVIEWS MODEL_FOLDER [--rows 16384]

Reading the file and writing the result are not counted on either side: with them the share is smaller still.
"""

import argparse
import time
from pathlib import Path

from tasks.model.bundle import load_bundle
from tasks.reviews.columns import find_text_column, text_of
from tasks.reviews.readers import ReaderSettings, read_batches
from tasks.tallies import tally


def main() -> None:
    """Score and count batch by batch; print what each costs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, default=16_384)
    options = parser.parse_args()
    model = load_bundle(options.model)
    scoring = counting = 0.0
    rows = 0
    for number, batch in enumerate(read_batches(options.reviews, options.reviews.name, ReaderSettings())):
        reviews = text_of(batch.columns, find_text_column(batch.columns.schema.names))
        started = time.process_time()
        scores = model.score_reviews(reviews)
        predicted = model.decision.classes(scores.p_positive)
        scored = time.process_time()
        tally(batch, options.reviews.name, reviews, scores, predicted, model)
        if number:  # the first batch compiles and loads
            scoring += scored - started
            counting += time.process_time() - scored
            rows += len(reviews)
        if rows >= options.rows:
            break
    preset = model.settings.trained_on["preset"]
    print(f"{model.model_id} {preset}: scoring {scoring / rows * 1e6:.0f} µs a review, counting {counting / rows * 1e6:.1f} µs", end="")
    print(f", {counting / scoring:.1%} more ({rows:,} reviews)")


if __name__ == "__main__":
    main()
