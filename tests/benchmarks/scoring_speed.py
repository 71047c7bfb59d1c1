"""Compares how fast trained models score: tokens in, probabilities out, reviews a CPU-second.

    python tests/benchmarks/scoring_speed.py REVIEWS MODEL_FOLDER MODEL_FOLDER … [--rows 10000] [--rounds 5]

The models take turns, so that all meet the same neighbours; the first is what the others are compared with. CPU seconds are those of
this process, all threads together. Reading, cleaning and tokenizing are not measured: each model has its own rules for them.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from tasks.model.bundle import SentimentModel, load_bundle
from tasks.reviews.columns import find_text_column, text_of
from tasks.reviews.readers import ReaderSettings, read_batches


def read_reviews(path: Path, rows: int) -> pa.Array:
    """Return the first reviews of a file, string, shape (rows,)."""
    parts: list[pa.Array] = []
    for batch in read_batches(path, path.name, ReaderSettings()):
        parts.append(text_of(batch.columns, find_text_column(batch.columns.schema.names)))
        if sum(map(len, parts)) >= rows:
            break
    return pa.concat_arrays(parts)[:rows]


def cpu_seconds(model: SentimentModel, tokens: pa.Array) -> float:
    """Return what scoring the tokens costs."""
    started = time.process_time()
    model.predict_positive(model.vocabulary.encode(tokens))
    return time.process_time() - started


def main() -> None:
    """Measure all models in turns and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    reviews = read_reviews(options.reviews, options.rows)
    models = [load_bundle(folder) for folder in options.models]
    tokens = [model.tokens(reviews) for model in models]
    for model, own in zip(models, tokens, strict=True):
        cpu_seconds(model, own[:500])  # compiles
    seconds = np.array([[cpu_seconds(*pair) for pair in zip(models, tokens, strict=True)] for _ in range(options.rounds)])
    for place, model in enumerate(models):
        speed, ratio = len(reviews) / seconds[:, place], seconds[:, 0] / seconds[:, place]
        print(
            f"{model.model_id} {model.settings.trained_on['preset']:<9} {np.median(speed):7,.0f} reviews a CPU-second "
            f"({speed.min():,.0f} to {speed.max():,.0f}), {np.median(ratio):.2f} × the first ({ratio.min():.2f} to {ratio.max():.2f})"
        )


if __name__ == "__main__":
    main()
