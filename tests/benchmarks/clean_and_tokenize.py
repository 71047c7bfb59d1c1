"""Times cleaning and tokenizing under the tutorial settings against the article's own functions, in one run, and compares every result.

    python tests/benchmarks/clean_and_tokenize.py [REVIEWS.csv.gz] [--rows N]

Without a file it generates reviews. Prints one JSON line: seconds (wall, CPU) of both, the ratio, and whether texts and ids are the same.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pyarrow as pa

from tasks.model.lstm import pad_before
from tasks.model.runtime import import_tensorflow
from tasks.model.vocabulary import TokenIds, VocabularySettings, fit_vocabulary
from tasks.reviews.batches import ROWS_PER_BATCH
from tasks.reviews.readers import ReaderSettings, read_batches
from tasks.reviews.sample import SampleSettings, generate_reviews
from tasks.reviews.stop_words import ENGLISH_STOP_WORDS
from tasks.reviews.text import clean_tutorial_text, tokenize_tutorial_text
from tasks.tables import map_in_order

NUM_WORDS, SEQUENCE_LENGTH = 5000, 100


def preprocess_text(text: str, read_stop_words: Callable[[], list[str]]) -> str:
    """Clean one review as the article does, its stop words read anew for every review."""
    text = re.sub(r"\W", " ", text)
    text = re.sub(r"\d", " ", text)
    text = text.lower()
    stop_words = set(read_stop_words())
    return " ".join([word for word in text.split() if word not in stop_words])


def article(reviews: list[str], read_stop_words: Callable[[], list[str]]) -> tuple[list[str], np.ndarray]:
    """Return the article's texts and padded ids."""
    import_tensorflow()
    from tensorflow.keras.preprocessing.sequence import pad_sequences
    from tensorflow.keras.preprocessing.text import Tokenizer

    texts = [preprocess_text(review, read_stop_words) for review in reviews]
    tokenizer = Tokenizer(num_words=NUM_WORDS)
    tokenizer.fit_on_texts(texts)
    return texts, pad_sequences(tokenizer.texts_to_sequences(texts), maxlen=SEQUENCE_LENGTH)


def ours(reviews: pa.Array) -> tuple[pa.ChunkedArray, np.ndarray]:
    """Return our texts and padded ids of the same reviews."""
    batches = [reviews.slice(start, ROWS_PER_BATCH) for start in range(0, len(reviews), ROWS_PER_BATCH)]

    def clean_and_tokenize(batch: pa.Array) -> tuple[pa.Array, pa.ListArray]:
        text = clean_tutorial_text(batch, ENGLISH_STOP_WORDS)
        tokens = tokenize_tutorial_text(text)
        return text, pa.ListArray.from_arrays(tokens.offsets, tokens.values.dictionary_encode())

    texts, tokens = zip(*map_in_order(clean_and_tokenize, batches), strict=True)
    vocabulary = fit_vocabulary(tokens, VocabularySettings.tutorial())

    def encode(batch: pa.ListArray) -> np.ndarray:
        ids: TokenIds = vocabulary.encode(batch)
        return pad_before(ids, SEQUENCE_LENGTH)

    return pa.chunked_array(texts), np.concatenate(list(map_in_order(encode, tokens)))


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """Return a call's result, its wall seconds and its CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def stop_word_reader() -> Callable[[], list[str]]:
    """Return NLTK's own reader where its corpus is installed, as the article uses it; else one that returns our copy of the list."""
    import nltk

    nltk.data.path.insert(0, str(Path(__file__).parents[3] / "shared" / "data" / "nltk_data"))
    try:
        nltk.corpus.stopwords.words("english")
    except LookupError:
        return lambda: list(ENGLISH_STOP_WORDS)
    return lambda: list(nltk.corpus.stopwords.words("english"))


def main() -> None:
    """Run both, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--rows", type=int, default=50_000)
    options = parser.parse_args()
    if options.file:
        batches = read_batches(options.file, options.file.name, ReaderSettings())
    else:
        batches = generate_reviews(SampleSettings(rows=options.rows))
    reviews = pa.concat_arrays([batch.columns["review"] for batch in batches]).slice(0, options.rows)
    plain = reviews.to_pylist()
    read_stop_words = stop_word_reader()

    (our_texts, our_ids), *our_seconds = timed(lambda: ours(reviews))
    (texts, ids), *article_seconds = timed(lambda: article(plain, read_stop_words))
    print(
        json.dumps(
            {
                "reviews": options.file.name if options.file else "generated",
                "rows": len(plain),
                "megabytes": round(reviews.nbytes / 1e6, 1),
                "ours_seconds": {"wall": round(our_seconds[0], 2), "cpu": round(our_seconds[1], 2)},
                "article_seconds": {"wall": round(article_seconds[0], 2), "cpu": round(article_seconds[1], 2)},
                "wall_ratio": round(article_seconds[0] / our_seconds[0], 1),
                "same_texts": our_texts.to_pylist() == texts,
                "same_ids": bool(np.array_equal(our_ids, ids)),
            }
        )
    )


if __name__ == "__main__":
    main()
