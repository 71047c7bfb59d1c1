"""Trains on labelled reviews with several seeds and prints what each model is worth on the test rows, and what it cost.

    python tests/benchmarks/default_model.py REVIEWS [--unlabelled FILE …] [--preset default] [--set NAME=VALUE]
        [--seeds 0 1 2] [--artifacts DIR]

A line of JSON for each seed, then mean and spread. CPU seconds are those of this process during the train step: everything after
tokenizing and splitting, all threads together. Compare presets in one session on a machine that does nothing else.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from flows.settings import compose_settings, parse_override
from tasks.clean import clean_artifact
from tasks.evaluate import evaluate_artifact
from tasks.ingest import ingest_artifact
from tasks.model.metrics import LINEAR_BASELINE, paired_bootstrap
from tasks.split import split_artifact
from tasks.store import Store
from tasks.tokenize import tokenize_artifact
from tasks.train import train_artifact
from tasks.unlabelled import unlabelled_artifact

PERCENT = ("promoted", "lstm", "linear", "ece", "error_at_90", "ahead_low", "ahead_high")


def measure(options: argparse.Namespace, seed: int, store: Store) -> dict[str, Any]:
    """Train and evaluate with one seed; return what came of it, shares as fractions."""
    settings = compose_settings(options.preset, [("seed", seed), *map(parse_override, options.overrides)])
    ingested = ingest_artifact(options.reviews, settings.ingest, store).ref
    tokenized = tokenize_artifact(clean_artifact(ingested, settings.clean, store).ref, settings.tokenize, store).ref
    rows = split_artifact(tokenized, settings.split, store).ref
    more = unlabelled_artifact(options.unlabelled, rows, settings.unlabelled, store).ref if options.unlabelled else None
    started = time.process_time()
    trained = train_artifact(rows, more, settings.train, store)
    cpu_seconds = time.process_time() - started
    evaluated = evaluate_artifact(trained.ref, rows, settings.evaluate, store)
    evaluation = evaluated.record.facts["evaluation"]
    predictions = pq.read_table(store.path(evaluated.ref))
    y_true, y_score, y_linear = (predictions[name].to_numpy() for name in ("y_true", "y_score", LINEAR_BASELINE))
    ahead = paired_bootstrap(y_true, y_score, y_linear, settings.evaluate)
    certain = np.argsort(-np.abs(y_score - 0.5), kind="stable")[: round(0.9 * len(y_score))]
    return {
        "seed": seed,
        "promoted": evaluation["model"]["accuracy"],
        "lstm": evaluation["parts"]["lstm"]["accuracy"],
        "linear": evaluation["baselines"]["linear"]["accuracy"],
        "ahead_low": ahead["interval"][0],
        "ahead_high": ahead["interval"][1],
        "log_loss": evaluation["model"]["log_loss"],
        "ece": evaluation["model"]["ece"],
        "error_at_90": float(np.mean((y_score[certain] >= 0.5) != (y_true[certain] == 1))),
        "rows": len(y_true),
        "cpu_seconds": None if trained.cached else round(cpu_seconds, 1),
        "model_id": store.path(trained.ref).parent.name,
    }


def main() -> None:
    """Measure every seed; print a line for each, then means and spreads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reviews", nargs="+")
    parser.add_argument("--unlabelled", nargs="+")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--artifacts", default="artifacts")
    options = parser.parse_args()
    store = Store(Path(options.artifacts).resolve())
    measured = []
    for seed in options.seeds:
        measured.append(measure(options, seed, store))
        print(json.dumps(measured[-1]), flush=True)
    for name in ("promoted", "lstm", "linear", "ece", "error_at_90", "log_loss", "cpu_seconds"):
        values = np.array([entry[name] for entry in measured if entry[name] is not None], float)
        if len(values):
            scale = 100 if name in PERCENT else 1
            print(f"{name:<12} mean {scale * values.mean():.3f}  from {scale * values.min():.3f} to {scale * values.max():.3f}")


if __name__ == "__main__":
    main()
