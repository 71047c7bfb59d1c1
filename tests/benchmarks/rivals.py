"""What people would use instead, each written as its own documentation has it: trained where it can be trained, then file to file.

    python tests/benchmarks/rivals.py NAME LABELLED.parquet REVIEWS.csv.gz [--rows N] [--rounds 1] [--output scored.parquet]

NAME is article, tfidf, vader or textblob. LABELLED has the columns review, sentiment and split; what learns does so from its rows of
`train`. REVIEWS has the columns id and review; the first N rows are scored and written as Parquet with a column `positive`. Imports are
not counted. Prints one JSON line: rows, seconds and CPU seconds of training, and of scoring a list, one for each round.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pandas as pd
from clean_and_tokenize import preprocess_text, stop_word_reader, timed

NUM_WORDS, SEQUENCE_LENGTH, UNITS, EPOCHS = 5000, 100, 128, 5

Scorer = Callable[[Sequence[str]], np.ndarray]  # texts → bool, shape (num_texts,): positive


def article(texts: Sequence[str], y: np.ndarray) -> Scorer:
    """The article: regular expressions review by review, Keras' Tokenizer, one LSTM over 100 tokens, five epochs."""
    from tensorflow.keras.layers import LSTM, Dense, Embedding
    from tensorflow.keras.models import Sequential
    from tensorflow.keras.preprocessing.sequence import pad_sequences
    from tensorflow.keras.preprocessing.text import Tokenizer

    read_stop_words = stop_word_reader()
    tokenizer = Tokenizer(num_words=NUM_WORDS)

    def clean(texts: Sequence[str]) -> list[str]:
        return [preprocess_text(text, read_stop_words) for text in texts]

    def pad(cleaned: list[str]) -> np.ndarray:
        return pad_sequences(tokenizer.texts_to_sequences(cleaned), maxlen=SEQUENCE_LENGTH)

    cleaned = clean(texts)
    tokenizer.fit_on_texts(cleaned)
    X = pad(cleaned)
    model = Sequential([Embedding(NUM_WORDS, UNITS), LSTM(UNITS), Dense(1, activation="sigmoid")])
    model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
    fitting["fit_cpu_seconds"] = timed(lambda: model.fit(X, y, epochs=EPOCHS, batch_size=64, validation_split=0.2, verbose=0))[2]
    return lambda texts: model.predict(pad(clean(texts)), verbose=0)[:, 0] > 0.5


def tfidf(texts: Sequence[str], y: np.ndarray) -> Scorer:
    """TF-IDF of words and word pairs under logistic regression, as scikit-learn's guide has it."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True), LogisticRegression(C=10, max_iter=1000))
    pipeline.fit(texts, y)
    return lambda texts: pipeline.predict(texts) == 1


def vader(texts: Sequence[str], y: np.ndarray) -> Scorer:
    """VADER by NLTK: word scores and rules made for short messages; nothing is learnt."""
    import nltk
    from nltk.sentiment.vader import SentimentIntensityAnalyzer

    try:
        analyzer = SentimentIntensityAnalyzer()
    except LookupError:  # the same lexicon comes with its authors' own package
        import vaderSentiment

        lexicon = Path(vaderSentiment.__file__).with_name("vader_lexicon.txt")
        nltk.data.path.insert(0, str(lexicon.parent))
        analyzer = SentimentIntensityAnalyzer(lexicon.name)
    return lambda texts: np.array([analyzer.polarity_scores(text)["compound"] > 0 for text in texts])


def textblob(texts: Sequence[str], y: np.ndarray) -> Scorer:
    """TextBlob: word scores by part of speech; nothing is learnt."""
    from textblob import TextBlob

    return lambda texts: np.array([TextBlob(text).sentiment.polarity > 0 for text in texts])


RIVALS = {"article": article, "tfidf": tfidf, "vader": vader, "textblob": textblob}
fitting: dict[str, float] = {}  # CPU seconds of Keras' `fit` alone, where there is one


def main() -> None:
    """Train, score, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=RIVALS)
    parser.add_argument("labelled", type=Path)
    parser.add_argument("reviews", type=Path)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--output", type=Path, default=Path("scored.parquet"))
    options = parser.parse_args()
    labelled = pd.read_parquet(options.labelled).query("split == 'train'")
    texts, y = labelled["review"].tolist(), (labelled["sentiment"] == "positive").to_numpy().astype(int)
    RIVALS[options.name](["It was good.", "It was bad."] * 10, np.array([1, 0] * 10))(["Nice."])  # imports
    score, *training = timed(lambda: RIVALS[options.name](texts, y))

    def score_file() -> int:
        reviews = pd.read_csv(options.reviews, nrows=options.rows)
        reviews["positive"] = score(reviews["review"].tolist())
        reviews.to_parquet(options.output)
        return len(reviews)

    rounds = [timed(score_file) for _ in range(options.rounds)]
    print(json.dumps({"rows": rounds[0][0], "train": _named(training) | fitting, "score": [_named(seconds) for _, *seconds in rounds]}))


def _named(seconds: Sequence[float]) -> dict[str, float]:
    return dict(zip(("seconds", "cpu_seconds"), seconds, strict=True))


if __name__ == "__main__":
    main()
