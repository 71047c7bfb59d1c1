"""A small scoring run, for the tests of everything that tells about one."""

from typing import Any

import numpy as np
import pyarrow as pa

from tasks.extremes import find_extremes, list_extremes
from tasks.model.drift import Drift, compare_tallies
from tasks.model.profile import Tally, tally_reviews
from tasks.periods import count_days, list_periods
from tasks.reviews.language import LANGUAGES
from tasks.summary_page import FileFacts, SummaryFacts

ENGLISH, GERMAN = LANGUAGES.index("English"), LANGUAGES.index("German")


def draw_tally(rows: int, seed: int, *, german: float = 0.0, length: float = 100, unknown: float = 0.01, positive: float = 0.5) -> Tally:
    """Return the tally of made-up rows: German ones are strange to the model, so it is unsure of them."""
    random = np.random.default_rng(seed)
    foreign = random.random(rows) < german
    num_tokens = np.maximum(random.lognormal(np.log(length), 0.7, rows), 1).astype(np.int64)
    num_unknown = random.binomial(num_tokens, np.where(foreign, 0.6, unknown))
    logits = np.where(foreign, 0.3, 4.0) * np.where(random.random(rows) < positive, 1, -1) + random.normal(0, 1.5, rows)
    y_score = 1 / (1 + np.exp(-logits))
    predicted = np.where(np.abs(y_score - 0.5) < 0.1, "uncertain", np.where(y_score > 0.5, "positive", "negative"))
    return tally_reviews(num_tokens, num_unknown, np.where(foreign, GERMAN, ENGLISH).astype(np.int8), y_score, pa.array(predicted))


def example_drift(rows: int = 5000, **changes: float) -> Drift:
    """Return the comparison of made-up rows with 4,000 others; a fifth is German if nothing else is asked for."""
    return compare_tallies(draw_tally(4000, 0), draw_tally(rows, 1, **(changes or {"german": 0.2})))


def example_summary(text: str = "word", **changes: Any) -> SummaryFacts:
    """Return complete facts; `text` stands in every place that holds words from outside."""
    random = np.random.default_rng(2)
    p_positive = random.random(3000).astype(np.float32)
    labels = np.where(p_positive > 0.55, "positive", np.where(p_positive < 0.45, "negative", "uncertain"))
    days = np.datetime64("2024-01-01") + random.integers(0, 300, 3000)
    ids = pa.array([f"{text.replace(' ', '')[:20]}-{row}" for row in range(3000)])
    facts: dict[str, Any] = {
        "model_id": f"model-{text}",
        "preset": f"preset-{text}",
        "files": [
            FileFacts(f"{text}.csv", 2510, 2503, 7, {"positive": 1200, "negative": 1000, "uncertain": 280}, {"ok": 2400, "truncated": 80, "empty": 23}),  # noqa: E501
            FileFacts("other.jsonl", 500, 500, 0, {"positive": 200, "negative": 300}, {"ok": 490, "unknown_words": 10}),
        ],
        "failed": {f"broken-{text}.csv": f"It holds no table: {text}."},
        "periods": list_periods(count_days(days, pa.array(labels))),
        "undated": 17,
        "extremes": list_extremes(find_extremes(p_positive, f"{text}.csv", np.arange(1, 3001), ids)),
        "drift": example_drift(),
    }  # fmt: skip
    return SummaryFacts(**(facts | changes))
