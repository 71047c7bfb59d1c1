"""evaluate: scores the model, its parts and its baselines on the test rows, once, and seals the bundle with what it found."""

import functools
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task

from tasks.discreet import discreet
from tasks.facts import collect_facts
from tasks.model import bundle
from tasks.model.behaviour import check_behaviour
from tasks.model.decision import UNCERTAIN
from tasks.model.linear import LinearSettings, fit_linear, linear_logits, refit_linear
from tasks.model.metrics import (
    LINEAR_BASELINE,
    MOST_SOURCES,
    Evaluation,
    EvaluationSettings,
    GoldenScores,
    evaluate_models,
    label_lengths,
    score_predictions,
    slice_metrics,
)
from tasks.model.stack import sigmoid
from tasks.model.vocabulary import TokenIds, VocabularySettings, fit_vocabulary
from tasks.model_card import render_model_card
from tasks.outcome import log_step, prefect_state
from tasks.reviews.text import CleanSettings, TokenizeSettings, tokens_of
from tasks.schemas import GOLDEN, GOLDEN_PREDICTIONS, REVIEW, REVIEW_ID, SENTIMENT, SOURCE, SPLIT, TOKENS
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store, atomic_file
from tasks.tables import TableWriter, read_batches

PREDICTIONS, METRICS = "predictions.parquet", "metrics.json"
LIBRARIES = ("numpy", "pyarrow", "scikit-learn", "scipy")


@dataclass(frozen=True)
class TestScores:
    """What the test rows are and what each model says of them; arrays of shape (num_test_rows,).

    Args:
        review_id: string.
        source: string.
        num_tokens: int64.
        y_true: int8.
        y_score: float32, probability of positive, of the model.
        parts: The same, of each part alone.
    """

    review_id: pa.Array
    source: pa.Array
    num_tokens: np.ndarray
    y_true: np.ndarray
    y_score: np.ndarray
    parts: dict[str, np.ndarray]


def evaluate_recipe(
    model: ArtifactRef, rows: ArtifactRef, settings: EvaluationSettings, store: Store, golden: ArtifactRef | None = None
) -> Recipe:
    """Describe what evaluating would make."""
    inputs = {"train": store.record_of(model).digest, "split": rows.sha256} | ({GOLDEN: golden.sha256} if golden else {})
    return Recipe.of("evaluate", __name__, inputs, settings, LIBRARIES)


def evaluate_artifact(
    model: ArtifactRef, rows: ArtifactRef, settings: EvaluationSettings, store: Store, golden: ArtifactRef | None = None
) -> StepResult:
    """Write `predictions.parquet` and `metrics.json`; then seal the model's bundle, if it is not sealed yet.

    With a golden test set, its reviews are scored as `score` would, into `golden.parquet`.
    """
    recipe = evaluate_recipe(model, rows, settings, store, golden)

    def write(draft: Draft) -> None:
        folder = store.path(model).parent
        sentiment_model = bundle.load_core(folder)
        scores = score_test_rows(sentiment_model, rows, store)
        trained = store.record_of(model).recipe
        linear = scores.parts[bundle.LINEAR] if has_default_linear_part(trained) else linear_baseline(rows, store)
        evaluation = _evaluate(sentiment_model, scores, linear, rows, settings, store)
        log_step("evaluate", _headline(evaluation))
        with TableWriter(draft.open(f"evaluate/{recipe.key}/{PREDICTIONS}")) as writer:
            writer.write(_predictions(scores, linear))
        if golden:
            predicted = score_golden(sentiment_model, golden, store)
            with TableWriter(draft.open(f"evaluate/{recipe.key}/{GOLDEN_PREDICTIONS}")) as writer:
                writer.write(predicted)
            evaluation["golden"] = _golden_scores(predicted, golden, settings)
            log_step("evaluate", f"golden test set: accuracy {evaluation['golden']['scores']['accuracy']:.2%}, {golden.rows:,} rows")
        draft.write_json(f"evaluate/{recipe.key}/{METRICS}", evaluation)
        draft.rows = len(scores.y_true)
        draft.facts["evaluation"] = evaluation

    result = store.make(recipe, write)
    seal_bundle(model, result.record.facts["evaluation"], store)
    return result


def score_test_rows(model: bundle.SentimentModel, rows: ArtifactRef, store: Store) -> TestScores:
    """Score the test rows from their stored tokens, a row group at a time."""
    parts: list[TestScores] = []
    for batch in read_batches(store.path(rows), [REVIEW_ID, SENTIMENT, SOURCE, TOKENS, SPLIT]):
        batch = batch.filter(pc.equal(batch[SPLIT], "test"))
        if batch.num_rows:
            ids = model.vocabulary.encode(batch[TOKENS])
            logits = model.logits(ids)
            parts.append(
                TestScores(
                    batch[REVIEW_ID],
                    batch[SOURCE],
                    pc.list_value_length(batch[TOKENS]).to_numpy(),
                    batch[SENTIMENT].to_numpy(),
                    model.join(logits),
                    {name: sigmoid(value) for name, value in logits.items()},
                )
            )
    return TestScores(
        review_id=pa.concat_arrays([part.review_id for part in parts]),
        source=pa.concat_arrays([part.source for part in parts]),
        num_tokens=np.concatenate([part.num_tokens for part in parts]),
        y_true=np.concatenate([part.y_true for part in parts]),
        y_score=np.concatenate([part.y_score for part in parts]),
        parts={name: np.concatenate([part.parts[name] for part in parts]) for name in parts[0].parts},
    )


def score_golden(model: bundle.SentimentModel, golden: ArtifactRef, store: Store) -> pa.Table:
    """Score the golden test set from its reviews, as scoring does: review_id, y_true, y_score."""
    batches = read_batches(store.path(golden), [REVIEW_ID, SENTIMENT, REVIEW])
    parts = [
        pa.table({REVIEW_ID: batch[REVIEW_ID], "y_true": batch[SENTIMENT], "y_score": model.score_reviews(batch[REVIEW]).p_positive})
        for batch in batches
    ]
    return pa.concat_tables(parts).combine_chunks()


def _golden_scores(predicted: pa.Table, golden: ArtifactRef, settings: EvaluationSettings) -> GoldenScores:
    scores = score_predictions(predicted["y_true"].to_numpy(), predicted["y_score"].to_numpy(), settings)
    return {"sha256": golden.sha256, "scores": scores}


def linear_baseline(rows: ArtifactRef, store: Store) -> np.ndarray:
    """Train the n-gram baseline on all rows but the test rows, by the default rules whatever the model's, and score the test rows.

    Returns:
        float32, shape (num_test_rows,): probability of positive.
    """
    read = functools.partial(tokens_of, clean=CleanSettings(), tokenize=TokenizeSettings())

    def ids_of(side: str) -> TokenIds:
        return vocabulary.encode(pa.chunked_array([read(reviews) for reviews in _columns_of(side, REVIEW, rows, store)]))

    settings = LinearSettings()
    vocabulary = fit_vocabulary(map(read, _columns_of("train", REVIEW, rows, store)), VocabularySettings())
    training, validation = ((ids_of(side), labels_of(side, rows, store)) for side in ("train", "validation"))
    fitted = fit_linear(*training, settings, seed=0)
    ids, y = TokenIds.concatenate([training[0], validation[0]]), np.concatenate([training[1], validation[1]])
    return sigmoid(linear_logits(ids_of("test"), refit_linear(fitted, ids, y, None, settings, seed=0).weights, settings))


def has_default_linear_part(recipe: Recipe) -> bool:
    """Return whether a model's own n-gram part is what `linear_baseline` would train; `recipe` is the train step's."""
    trained = recipe.settings
    default = {"clean": CleanSettings(), "tokenize": TokenizeSettings(), "vocabulary": VocabularySettings(), "linear": LinearSettings()}
    alike = trained["seed"] == 0 and "unlabelled" not in recipe.inputs
    return alike and all(trained[name] == settings.model_dump(mode="json") for name, settings in default.items())


def _columns_of(side: str, column: str, rows: ArtifactRef, store: Store) -> Iterator[pa.Array]:
    """Yield a column of one side of the split artifact, a row group at a time."""
    for batch in read_batches(store.path(rows), [column, SPLIT]):
        yield batch.filter(pc.equal(batch[SPLIT], side))[column]


def labels_of(side: str, rows: ArtifactRef, store: Store) -> np.ndarray:
    """Return the labels of one side of the split artifact, int8, shape (num_rows,)."""
    return np.concatenate([labels.to_numpy() for labels in _columns_of(side, SENTIMENT, rows, store)])


def _evaluate(
    model: bundle.SentimentModel, scores: TestScores, linear: np.ndarray, rows: ArtifactRef, settings: EvaluationSettings, store: Store
) -> Evaluation:
    prior = float(np.mean(labels_of("train", rows, store)))
    lengths, order = label_lengths(scores.num_tokens, settings)
    slices = slice_metrics(scores.y_true, scores.y_score, lengths, settings, by="length", order=order)
    if 1 < len(scores.source.unique()) <= MOST_SOURCES:
        slices += slice_metrics(scores.y_true, scores.y_score, scores.source.to_pylist(), settings, by="source")
    return evaluate_models(
        scores.y_true,
        scores.y_score,
        parts=scores.parts,
        baselines={"majority": np.full(len(scores.y_true), prior), "linear": linear},
        slices=slices,
        settings=settings,
        certain=pc.not_equal(model.decision.classes(scores.y_score), UNCERTAIN).to_numpy(zero_copy_only=False),
        behaviour=check_behaviour(lambda texts: model.score_reviews(pa.array(texts)).p_positive, settings.threshold),
    )


def _headline(evaluation: Evaluation) -> str:
    model, linear = evaluation["model"], evaluation["baselines"]["linear"]
    low, high = model["intervals"]["accuracy"] or (float("nan"), float("nan"))
    return (
        f"test accuracy {model['accuracy']:.2%} ({evaluation['settings']['confidence'] * 100:.4g} % interval {low:.2%} to {high:.2%}), "
        f"linear baseline {linear['accuracy']:.2%}, {model['rows']:,} rows"
    )


def _predictions(scores: TestScores, linear: np.ndarray) -> pa.Table:
    columns: dict[str, Any] = {
        REVIEW_ID: scores.review_id,
        "y_true": scores.y_true,
        "y_score": scores.y_score,
        **{f"y_score_{name}": score for name, score in scores.parts.items()},
        LINEAR_BASELINE: linear,
        "num_tokens": scores.num_tokens,
        SOURCE: scores.source,
    }
    return pa.table(columns)


def seal_bundle(model: ArtifactRef, evaluation: Evaluation, store: Store) -> None:
    """Add a bundle's metrics and card, and `bundle.json` last: without it nothing scores with the model.

    A sealed and undamaged bundle is left as it is, whatever it was evaluated with later.
    """
    folder = store.path(model).parent
    with store.lock(f"seal-{folder.name}", f"the bundle {folder.name}"):
        if bundle.is_sealed(folder):
            return
        added = {
            bundle.METRICS: (json.dumps(evaluation, indent=1, allow_nan=False) + "\n").encode(),
            bundle.CARD: render_model_card(collect_facts(model, evaluation, store)).encode(),
        }
        listed = {Path(file.path).name: {"sha256": file.sha256, "size": file.size} for file in store.record_of(model).files}
        (folder / bundle.MANIFEST).unlink(missing_ok=True)
        for name, data in added.items():
            with atomic_file(folder / name) as file:
                file.write(data)
            listed[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        manifest = {"format": bundle.FORMAT, "model_id": folder.name, "files": dict(sorted(listed.items()))}
        with atomic_file(folder / bundle.MANIFEST) as file:
            file.write((json.dumps(manifest, indent=1) + "\n").encode())


@task(task_run_name="evaluate")
@discreet
def evaluate(
    model: ArtifactRef, rows: ArtifactRef, settings: EvaluationSettings, store: Store, golden: ArtifactRef | None = None
) -> ArtifactRef:
    """Evaluate the model on the test rows, and on the golden test set where there is one."""
    return prefect_state(evaluate_artifact(model, rows, settings, store, golden))
