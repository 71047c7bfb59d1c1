"""Measures which share of the machine's float32 matrix-product rate training the default LSTM reaches.

    python tests/benchmarks/training_arithmetic.py [--reviews 24000] [--rounds 3]

Counted are the multiplications and additions of the convolution and of the LSTM's gates alone, forwards once and backwards twice, for each
time that a batch is learnt; everything else that a step does (vectors, dropout, pooling, Adam) keeps it from the full rate. A round is an
epoch of one training, the first left out, for it compiles; the rate is that of products of 2048 × 2048 in TensorFlow, measured before and
after each. Both by CPU second, all threads together; an epoch's hold a look at ten validation reviews and a copy of the weights too.
Prints one JSON line.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from tasks.model.lstm import LstmSettings, cut_into_chunks
from tasks.model.lstm_training import Evidence, fit_lstm
from tasks.model.pairs import fit_pair_owners
from tasks.model.runtime import import_tensorflow, num_threads
from tasks.model.vocabulary import TokenIds

MEDIAN_LENGTH, LENGTH_SIGMA = 200, 0.7  # of reviews in tokens, log-normal: about those of IMDB
SIDE = 2048


def random_reviews(number: int, settings: LstmSettings) -> TokenIds:
    """Return reviews of random words, the number of times a word occurs falling with its rank as in English: by Zipf's law."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(np.log(MEDIAN_LENGTH), LENGTH_SIGMA, number), 10, settings.sequence_length).astype(np.int64)
    words = np.exp(draw.uniform(0, np.log(settings.num_words - 2), lengths.sum())).astype(np.int32) + 1
    return TokenIds(words, np.concatenate([[0], np.cumsum(lengths)]))


def operations_of_an_epoch(ids: TokenIds, settings: LstmSettings) -> float:
    """Return the multiplications and additions of convolution and gates while all reviews are learnt once."""
    num_steps = len(cut_into_chunks(ids, settings).words) * settings.chunk_length // settings.stride
    convolution = settings.kernel_size * (settings.embedding_size + settings.evidence_size) * settings.filters
    gates = 2 * 4 * settings.units * (settings.filters + settings.units)  # both ways
    return 2.0 * num_steps * (convolution + gates) * 3 * (2 if settings.adversarial else 1)


def epochs_and_rates(ids: TokenIds, settings: LstmSettings) -> tuple[np.ndarray, np.ndarray]:
    """Train, and measure products before and after every epoch.

    Returns:
        float64, shape (epochs - 1,): CPU seconds of each epoch after the first; and the rate around it, operations a CPU second.
    """
    y, few = np.arange(len(ids)) % 2, ids.between(0, 10)
    evidence = np.zeros((len(ids.values), settings.evidence_size), np.float16)
    ended, begun, rates = [], [], []

    def measure(epoch: dict[str, float]) -> None:
        ended.append(time.process_time())
        rates.append(operations_a_cpu_second())
        begun.append(time.process_time())

    owners = fit_pair_owners(ids, settings.pair_buckets)
    told = Evidence(evidence, evidence[: len(few.values)])
    fit_lstm(ids, y, few, y[:10].astype(np.int8), settings, 0, measure, owners=owners, evidence=told)
    return np.subtract(ended[1:], begun[:-1]), (np.array(rates[1:]) + rates[:-1]) / 2


def operations_a_cpu_second() -> float:
    """Return the rate of large matrix products."""
    tf = import_tensorflow()
    left = tf.random.normal((SIDE, SIDE))
    product = tf.function(lambda: tf.reduce_sum(left @ left))
    product().numpy()
    started, times = time.process_time(), 20
    for _ in range(times):
        product().numpy()
    return 2.0 * SIDE**3 * times / (time.process_time() - started)


def main() -> None:
    """Measure in turns and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reviews", type=int, default=24_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    settings = LstmSettings(epochs=options.rounds + 1, patience=0)
    ids = random_reviews(options.reviews, settings)
    seconds, rates = epochs_and_rates(ids, settings)
    shares = operations_of_an_epoch(ids, settings) / seconds / rates
    print(
        json.dumps(
            {
                "threads": num_threads(),
                "gigaflops_a_cpu_second": round(float(np.median(rates)) / 1e9, 1),
                "share": round(float(np.median(shares)), 3),
                "share_from": round(min(shares), 3),
                "share_to": round(max(shares), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
