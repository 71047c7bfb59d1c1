"""Times scoring a file, from the compressed CSV to Parquet, against the article's own steps over the same file, in one run.

    python tests/benchmarks/end_to_end_scoring.py REVIEWS.csv.gz ARTIFACTS MODEL_ID … [--rounds 1]

The article's steps are written anew below: read with pandas, clean review by review, fit Keras' Tokenizer, pad, `model.predict` with its
Embedding, LSTM and Dense. Weights do not change their speed, so they are not trained. Ours is `sentiment score`, a process of its own,
with each model in turn; `seconds` are those the command tells itself, with the rest of Prefect's start, which begins while we import;
`whole` is all from the first to the last of the process: imports, which are not counted on the article's side, and the end. Set
PREFECT_API_URL to a running server to measure without the start of one. One JSON line a measurement, then one of ratios: rows a second of
ours by the article's, medians over the rounds.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
PROJECT = Path(__file__).parents[2]
sys.path.insert(0, str(PROJECT))

NUM_WORDS, SEQUENCE_LENGTH, UNITS = 5000, 100, 128


def score_as_the_article_does(path: Path) -> None:
    """Run the article's steps and print one JSON line: rows, wall seconds of each step and CPU seconds of all."""
    import pandas as pd
    from clean_and_tokenize import preprocess_text, stop_word_reader
    from tensorflow.keras.layers import LSTM, Dense, Embedding
    from tensorflow.keras.models import Sequential
    from tensorflow.keras.preprocessing.sequence import pad_sequences
    from tensorflow.keras.preprocessing.text import Tokenizer

    read_stop_words = stop_word_reader()
    model = Sequential([Embedding(NUM_WORDS, UNITS), LSTM(UNITS), Dense(1, activation="sigmoid")])
    model.build((None, SEQUENCE_LENGTH))
    steps: dict[str, float] = {}
    cpu = time.process_time()
    mark = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal mark
        now = time.perf_counter()
        steps[name], mark = round(now - mark, 2), now

    reviews = pd.read_csv(path)["review"]
    lap("read")
    texts = reviews.apply(lambda review: preprocess_text(review, read_stop_words))
    lap("clean")
    tokenizer = Tokenizer(num_words=NUM_WORDS)
    tokenizer.fit_on_texts(texts)
    lap("fit")
    ids = pad_sequences(tokenizer.texts_to_sequences(texts), maxlen=SEQUENCE_LENGTH)
    lap("tokenize")
    model.predict(ids, verbose=0)
    lap("predict")
    print(json.dumps({"rows": len(reviews), "steps": steps, "cpu_seconds": round(time.process_time() - cpu, 1)}))


def measure_article(path: Path) -> dict[str, Any]:
    """Run the article's steps in a fresh process."""
    ended = subprocess.run([sys.executable, __file__, str(path), "--article"], check=True, capture_output=True, text=True)
    told = json.loads(ended.stdout.splitlines()[-1])
    return {"who": "article", **told, "seconds": round(sum(told["steps"].values()), 1)}


def measure_ours(path: Path, artifacts: Path, model_id: str) -> dict[str, Any]:
    """Score the file with a command that finds nothing done already."""
    with tempfile.TemporaryDirectory() as output:
        words = ["score", str(path.resolve()), "--artifacts", str(artifacts.resolve()), "--model", model_id, "--output", output, "--json"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        ended = subprocess.run([sys.executable, "-m", "flows", *words], cwd=PROJECT, check=True, capture_output=True, text=True)
        whole = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = json.loads(ended.stdout.splitlines()[-1])
    if told["status"] != "scored" or told["scored"] != told["rows"]:
        raise SystemExit(f"{told['scored']:,} of {told['rows']:,} rows: {told['status']}.")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"who": model_id, "rows": told["rows"], "seconds": told["seconds"], "whole": round(whole, 1), "cpu_seconds": round(cpu, 1)}


def main() -> None:
    """Measure both sides in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("artifacts", type=Path, nargs="?")
    parser.add_argument("models", nargs="*", metavar="MODEL_ID")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--article", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.article:
        score_as_the_article_does(options.reviews)
        return
    found: list[dict[str, Any]] = []
    for _ in range(options.rounds):
        for entry in (
            measure_article(options.reviews),
            *(measure_ours(options.reviews, options.artifacts, name) for name in options.models),
        ):
            found.append(entry)
            print(json.dumps(entry), flush=True)

    def typical(who: str, what: str) -> float:
        return median(entry[what] for entry in found if entry["who"] == who)

    ratios = {
        name: {
            "seconds": round(typical("article", "seconds") / typical(name, "seconds"), 2),
            "whole": round(typical("article", "seconds") / typical(name, "whole"), 2),
            "cpu_seconds": round(typical("article", "cpu_seconds") / typical(name, "cpu_seconds"), 2),
        }
        for name in options.models
    }
    print(json.dumps({"times_as_fast_as_the_article": ratios}))


if __name__ == "__main__":
    main()
