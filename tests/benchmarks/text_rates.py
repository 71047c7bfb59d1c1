"""Measures how many megabytes of reviews a second become token ids: ours, the article's functions, Keras' and scikit-learn's.

    python tests/benchmarks/text_rates.py REVIEWS [--rounds 3]

Everybody's words are learnt before the clock starts. Ours take all reviews, on all processors; the others, whose rate does not change
with the number, take fewer. Prints one JSON line: for each the megabytes of UTF-8, and its wall and CPU seconds, the fastest of the rounds.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pyarrow as pa
from clean_and_tokenize import preprocess_text, stop_word_reader, timed

from tasks.model.runtime import import_tensorflow
from tasks.model.vocabulary import Vocabulary, VocabularySettings, fit_vocabulary
from tasks.reviews.batches import ROWS_PER_BATCH
from tasks.reviews.columns import find_text_column, text_of
from tasks.reviews.readers import ReaderSettings, read_batches
from tasks.reviews.stop_words import ENGLISH_STOP_WORDS
from tasks.reviews.text import CleanSettings, TokenizeSettings, tokens_of
from tasks.tables import map_in_order

ROWS_OF_THE_SLOW, NUM_WORDS = 5_000, 30_000


def ours(reviews: pa.Array, clean: CleanSettings, tokenize: TokenizeSettings, words: VocabularySettings) -> Callable[[], Any]:
    """Return what turns the reviews into ids as training and scoring do."""
    batches = [reviews.slice(start, ROWS_PER_BATCH) for start in range(0, len(reviews), ROWS_PER_BATCH)]

    vocabulary: Vocabulary = fit_vocabulary((tokens_of(batch, clean, tokenize) for batch in batches), words)
    return lambda: list(map_in_order(lambda batch: vocabulary.encode(tokens_of(batch, clean, tokenize)), batches))


def article(texts: Sequence[str]) -> Callable[[], Any]:
    """Return what does it with the article's functions and Keras' Tokenizer."""
    import_tensorflow()
    from tensorflow.keras.preprocessing.text import Tokenizer

    read_stop_words = stop_word_reader()
    tokenizer = Tokenizer(num_words=5_000)
    tokenizer.fit_on_texts([preprocess_text(text, read_stop_words) for text in texts])
    return lambda: tokenizer.texts_to_sequences([preprocess_text(text, read_stop_words) for text in texts])


def keras_layer(texts: Sequence[str]) -> Callable[[], Any]:
    """Return what does it with Keras' TextVectorization, which drops tags' brackets but not their names."""
    tf = import_tensorflow()
    import keras

    layer = keras.layers.TextVectorization(max_tokens=NUM_WORDS, ragged=True)
    layer.adapt(list(texts))
    call = tf.function(layer)
    given = [tf.constant(texts[start : start + 1000]) for start in range(0, len(texts), 1000)]
    return lambda: [call(part) for part in given]


def scikit_learn(texts: Sequence[str]) -> Callable[[], Any]:
    """Return what counts words with scikit-learn's CountVectorizer."""
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(max_features=NUM_WORDS).fit(texts)
    return lambda: vectorizer.transform(texts)


def fastest(call: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Return the wall and CPU seconds of the fastest of some calls, after one that is not counted."""
    call()
    found = [timed(call)[1:] for _ in range(rounds)]
    return dict(zip(("seconds", "cpu_seconds"), min(found), strict=True))


def main() -> None:
    """Measure all in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    batches = [batch.columns for batch in read_batches(options.reviews, options.reviews.name, ReaderSettings())]
    reviews = pa.concat_arrays([text_of(columns, find_text_column(columns.schema.names)) for columns in batches])
    few = reviews.slice(0, ROWS_OF_THE_SLOW)
    texts = few.to_pylist()
    calls = {
        "ours, default": (ours(reviews, CleanSettings(), TokenizeSettings(), VocabularySettings()), reviews),
        "ours, tutorial": (
            ours(
                reviews,
                CleanSettings(rules="tutorial", stop_words=ENGLISH_STOP_WORDS),
                TokenizeSettings(rules="tutorial"),
                VocabularySettings.tutorial(),
            ),
            reviews,
        ),
        "the article": (article(texts), few),
        "Keras TextVectorization": (keras_layer(texts), few),
        "scikit-learn CountVectorizer": (scikit_learn(texts), few),
    }
    found = {
        name: {"megabytes": sum(map(len, (text.encode() for text in given.to_pylist()))) / 1e6, **fastest(call, options.rounds)}
        for name, (call, given) in calls.items()
    }
    print(json.dumps({name: {key: float(np.round(value, 4)) for key, value in entry.items()} for name, entry in found.items()}))


if __name__ == "__main__":
    main()
