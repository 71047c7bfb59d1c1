"""A small training run, for the tests of everything that tells about one."""

from typing import Any

import numpy as np

from tasks.model.behaviour import check_behaviour
from tasks.model.metrics import (
    Evaluation,
    EvaluationSettings,
    error_examples,
    evaluate_models,
    label_lengths,
    paired_bootstrap,
    slice_metrics,
)
from tasks.report_page import DataFacts, ReportFacts, StepFacts

SETTINGS = EvaluationSettings(bootstrap_samples=100)
NUM_ROWS = 400
HOSTILE = "<script>alert('x')</script> | $a$ `b` $c$"

_rng = np.random.default_rng(0)
Y_TRUE = (_rng.random(NUM_ROWS) < 0.5).astype(np.int8)
Y_SCORE = 1 / (1 + np.exp(-_rng.normal(4 * Y_TRUE - 2, 1.5)))
LSTM_SCORE = 1 / (1 + np.exp(-_rng.normal(3 * Y_TRUE - 1.5, 1.5)))
NUM_TOKENS = _rng.integers(1, 900, NUM_ROWS)
HISTORY = [
    {"epoch": 1, "loss": 0.5, "accuracy": 0.75, "val_loss": 0.35, "val_accuracy": 0.85, "seconds": 31.0},
    {"epoch": 2, "loss": 0.3, "accuracy": 0.88, "val_loss": 0.28, "val_accuracy": 0.89, "seconds": 30.5},
    {"epoch": 3, "loss": 0.2, "accuracy": 0.93, "val_loss": 0.31, "val_accuracy": 0.88, "seconds": 30.2},
]


def example_evaluation(source: str = "reviews.csv") -> Evaluation:
    """Return the evaluation of 400 made-up rows, from two sources of which one can be named."""
    labels, order = label_lengths(NUM_TOKENS, SETTINGS)
    sources = np.where(np.arange(NUM_ROWS) % 3 == 0, "other.csv", source)
    return evaluate_models(
        Y_TRUE,
        Y_SCORE,
        parts={"lstm": LSTM_SCORE, "linear": np.round(Y_SCORE, 1)},
        baselines={"majority": np.full(NUM_ROWS, 0.51), "linear": np.round(LSTM_SCORE, 1)},
        slices=[
            *slice_metrics(Y_TRUE, Y_SCORE, labels, SETTINGS, by="length", order=order),
            *slice_metrics(Y_TRUE, Y_SCORE, sources, SETTINGS, by="source"),
        ],
        settings=SETTINGS,
        behaviour=check_behaviour(lambda texts: np.array([0.25 + 0.5 * ("good" in text) for text in texts])),
    )


def example_facts(text: str = "word", **changes: Any) -> ReportFacts:
    """Return complete facts; `text` stands in every place that holds words from outside."""
    facts: dict[str, Any] = {
        "model_id": f"model-{text}",
        "preset": "default",
        "evaluation": example_evaluation(text),
        "status": "promoted",
        "reason": f"It is better. {text}",
        "created": "2025-03-14 09:26 UTC",
        "champion_id": f"champion-{text}",
        "comparison": paired_bootstrap(Y_TRUE, Y_SCORE, LSTM_SCORE, SETTINGS),
        "data": DataFacts(
            rows_read=2037,
            rows=2000,
            sources={f"source-{text}": 2000},
            refused={f"reason-{text}": 37},
            dropped=5,
            rows_by_split={
                "train": {"negative": 701, "positive": 699},
                "validation": {"negative": 101, "positive": 99},
                "test": {"negative": 203, "positive": 197},
            },
            duplicates=42,
            duplicates_with_other_label=3,
            left_out=11,
            left_out_by_reason={"duplicate of a test review": 10, "near-duplicate of a validation review": 1},
            left_out_rows=[
                {"review_id": f"out-{n}-{text}", "reason": "duplicate of a test review", "repeats": f"in-{n}-{text}", "similarity": 1.0}
                for n in range(3)
            ],
            length_quantiles={"median": 176, "longest": 2512},
        ),
        "history": HISTORY,
        "best_epoch": 2,
        "model_summary": f"summary-{text}",
        "num_parameters": 771_713,
        "errors": error_examples([f"{text}-{row}" for row in range(NUM_ROWS)], Y_TRUE, Y_SCORE, 5),
        "steps": [StepFacts("ingest", "cached", 0.21, 2000), StepFacts("train", "completed", 163.4, 1400)],
        "settings": {"seed": 7, "model": {"epochs": 3, "note": text}},
        "command": f"sentiment train {text}",
        "seed": 7,
        "data_digest": "9f2c" * 16,
        "versions": {"tensorflow": f"2.21-{text}"},
    }
    return ReportFacts(**(facts | changes))
