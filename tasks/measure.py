"""measure: trains a model that nobody keeps, and writes what it reaches on rows whose labels it was not fitted to.

Without folds these are the validation rows, which also end its training and weigh its parts: two choices that flatter all trials alike.
Test rows are never read.

`tune`, `ablate` and `train --folds` stand on it. What was measured once is in the store and is not trained again.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from prefect import task

from tasks.discreet import discreet
from tasks.errors import CallerError, DataError
from tasks.measured import Measured, PartScores, measured_by
from tasks.model.bootstrap import RowTable
from tasks.model.fitting import ChosenRows, TrainSettings, fit_model, fitting_recipe, most_unlabelled, read_rows, rows_of_side
from tasks.model.folds import Fold, choose_rows
from tasks.model.runtime import forget_networks, import_tensorflow
from tasks.model.stack import sigmoid
from tasks.outcome import prefect_state, run_logger
from tasks.schemas import CLASS_NAMES, MEASURE, SENTIMENT, SPLIT, TEXT_HASH
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store
from tasks.tables import read_columns

_THRESHOLD, _BINS = 0.5, 15


def measure_recipe(rows: ArtifactRef, unlabelled: ArtifactRef | None, settings: TrainSettings, fold: Fold | None = None) -> Recipe:
    """Describe what measuring would make; what the settings are called and where the uncertain band lies do not count."""
    plain = settings.model_dump(mode="json", exclude={"preset", "decision"} | ({"self_training"} if unlabelled is None else set()))
    return fitting_recipe(MEASURE, __name__, rows, unlabelled, {**plain, "fold": asdict(fold) if fold else None})


def measure_artifact(
    rows: ArtifactRef,
    unlabelled: ArtifactRef | None,
    settings: TrainSettings,
    store: Store,
    *,
    fold: Fold | None = None,
    on_epoch: Callable[[dict[str, float]], None] = lambda epoch: None,
) -> StepResult:
    """Train on training rows and measure on validation rows; with a fold, train on the other folds and measure on this one.

    Args:
        rows: Of split.
        unlabelled: Reviews without labels to learn from as well, if there are any.
        settings: What is learnt, and how.
        store: Keeps what was measured.
        fold: The fold that is held out, of all rows but the test's.
        on_epoch: Told of every epoch as it ends; what it raises ends the training, and nothing is kept.

    Raises:
        DataError: A fold lacks a class.
    """
    recipe = measure_recipe(rows, unlabelled, settings, fold)

    def write(draft: Draft) -> None:
        measured = asdict(_measure(rows, unlabelled, settings, store, fold, on_epoch))
        draft.write_json(f"{MEASURE}/{recipe.key}.scores.json", measured)
        draft.rows = measured["rows"]
        draft.facts["measured"] = measured

    return store.make(recipe, write)


def _measure(
    rows: ArtifactRef,
    unlabelled: ArtifactRef | None,
    settings: TrainSettings,
    store: Store,
    fold: Fold | None,
    on_epoch: Callable[[dict[str, float]], None],
) -> Measured:
    path = store.path(rows)
    if fold:
        training, validation, measured = _rows_of_fold(path, fold)
    else:
        training, validation = rows_of_side(path, "train"), rows_of_side(path, "validation")
        measured = validation
    more = most_unlabelled(store.path(unlabelled), settings.self_training) if unlabelled else None
    import_tensorflow()  # else the first model would pay for it
    started = time.process_time()
    try:
        fitted = fit_model(training, validation, settings, on_epoch, run_logger().info, unlabelled_rows=more)
        cpu_seconds = time.process_time() - started
        held_out = read_rows(measured, fitted.model.vocabulary)
        logits = fitted.model.logits(held_out.ids)
    finally:
        forget_networks()
    whole = _scores(held_out.sentiment, fitted.model.join(logits))
    parts = {name: _scores(held_out.sentiment, sigmoid(part)) for name, part in logits.items()}
    return Measured(
        rows=len(held_out.sentiment),
        trained_rows=len(fitted.training.sentiment),
        accuracy=whole.accuracy,
        log_loss=whole.log_loss,
        parts=parts,
        epochs=len(fitted.lstm.history),
        best_epoch=fitted.lstm.best_epoch,
        cpu_seconds=round(cpu_seconds, 2),
    )


def check_folds(rows: ArtifactRef, folds: int | None, store: Store) -> None:
    """Refuse a number of folds that the rows do not allow, before anything is trained.

    Raises:
        CallerError: There are less than two.
        DataError: A side of a fold would lack a class.
    """
    if folds is not None and folds < 2:
        raise CallerError(f"There cannot be {folds} folds: one is held out, the others train. Expected 2 or more.")
    for number in range(1, (folds or 0) + 1):
        _rows_of_fold(store.path(rows), Fold(number, folds or 0))


def _rows_of_fold(path: Path, fold: Fold) -> tuple[ChosenRows, ChosenRows, ChosenRows]:
    columns = read_columns(path, [SENTIMENT, SPLIT, TEXT_HASH])
    chosen = choose_rows(columns[TEXT_HASH].to_numpy(), np.asarray(columns[SPLIT].cast(pa.string())), fold)
    sides = (chosen.training, chosen.validation, chosen.held_out)
    sentiment = columns[SENTIMENT].to_numpy()
    if any(len(np.unique(sentiment[side])) < len(CLASS_NAMES) for side in sides):
        raise DataError(
            f"Too few labelled reviews for {fold.folds} folds: training, validation and held-out rows of fold {fold.number} "
            "each need both classes. Give more reviews, or fewer --folds."
        )
    return ChosenRows(path, sides[0]), ChosenRows(path, sides[1]), ChosenRows(path, sides[2])


def _scores(y_true: np.ndarray, y_score: np.ndarray) -> PartScores:
    table = RowTable(y_true, y_score.astype(np.float64), _THRESHOLD, _BINS)
    found = table.metrics(np.ones((1, len(y_true))))
    return PartScores(float(found["accuracy"][0]), float(found["log_loss"][0]))


@task(task_run_name="{label}")
@discreet
def measure(
    rows: ArtifactRef, unlabelled: ArtifactRef | None, settings: TrainSettings, store: Store, label: str, fold: Fold | None = None
) -> ArtifactRef:
    """Train a model that nobody keeps and measure it; `label` says in a run's history and log what it is."""
    result = measure_artifact(rows, unlabelled, settings, replace(store, run_id=""), fold=fold)  # no step of the run's journal
    measured = measured_by(result.ref, store)
    return prefect_state(result, f"{label}: accuracy {measured.accuracy:.2%}, log loss {measured.log_loss:.4f}")
