"""train: fits the vocabulary and the model on training rows, guided by validation rows, and writes the core of a bundle."""

import io
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task

from tasks.discreet import discreet
from tasks.model import bundle
from tasks.model.fitting import (
    ChosenRows,
    FittedModel,
    TrainSettings,
    fit_model,
    fitting_recipe,
    most_unlabelled,
    planned_epochs,
    refit_on_all,
    rows_of_side,
)
from tasks.model.lstm import OWNERS
from tasks.model.origin import Origin
from tasks.model.profile import profile_reviews, tally_reviews
from tasks.model.quantisation import STEPS
from tasks.outcome import log_step, prefect_state
from tasks.progress import RunProgress, row_progress
from tasks.reviews.language import guess_languages
from tasks.schemas import REVIEW, SAMPLE
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store


def train_recipe(rows: ArtifactRef, unlabelled: ArtifactRef | None, settings: TrainSettings) -> Recipe:
    """Describe what training would make."""
    return fitting_recipe("train", __name__, rows, unlabelled, settings.model_dump(mode="json"))


def model_id_of(recipe: Recipe) -> str:
    """Return the model's name, from everything that made it."""
    return f"m-{recipe.key[:12]}"


def train_artifact(rows: ArtifactRef, unlabelled: ArtifactRef | None, settings: TrainSettings, store: Store) -> StepResult:
    """Train a model and write its bundle, all but the test metrics, the card and the seal.

    Args:
        rows: The split artifact.
        unlabelled: Reviews without labels to learn from as well, if there are any.
        settings: What is learnt, and how.
        store: Where it is kept.

    Raises:
        DataError: The training rows hold no word often enough for the vocabulary.
    """
    recipe = train_recipe(rows, unlabelled, settings)

    def write(draft: Draft) -> None:
        model_id = model_id_of(recipe)
        train_model(rows, unlabelled, settings, model_id, store, draft)
        draft.write_json(f"models/{model_id}/{bundle.ORIGIN}", Origin.of(recipe, store.lineage(unlabelled or rows)).to_json())

    return store.make(recipe, write)


def train_model(
    rows: ArtifactRef, unlabelled: ArtifactRef | None, settings: TrainSettings, model_id: str, store: Store, draft: Draft
) -> None:
    """Fit the model on the training rows, guided by the validation rows, and write the core files of its bundle."""
    path = store.path(rows)
    training, validation = (rows_of_side(path, side) for side in ("train", "validation"))
    more = most_unlabelled(store.path(unlabelled), settings.self_training) if unlabelled else None
    trained_on = _trained_on(rows, training, more, settings)
    epochs = planned_epochs(settings, with_unlabelled=unlabelled is not None)
    tell = partial(log_step, "train")
    with row_progress("train", epochs, "epochs") as advance:
        watch = _EpochWatch(epochs, advance)
        fitted = fit_model(training, validation, settings, watch, tell, unlabelled_rows=more, model_id=model_id, trained_on=trained_on)
    fitted = refit_on_all(fitted, settings)

    training_facts = {
        "trained_on": trained_on,
        "history": fitted.lstm.history,
        "best_epoch": fitted.lstm.best_epoch,
        "summary": fitted.lstm.summary,
        "num_parameters": int(sum(value.size for name, value in fitted.weights.items() if not name.endswith((OWNERS, STEPS)))),
        "stack": asdict(fitted.model.stack),
        "decision": asdict(fitted.model.decision),
    }
    write_core(draft, fitted, profile_of(validation, fitted), training_facts, more.text_hashes() if more else np.empty(0, np.uint64))
    draft.rows = len(fitted.training.sentiment)


def _trained_on(rows: ArtifactRef, training: ChosenRows, unlabelled: ChosenRows | None, settings: TrainSettings) -> dict[str, Any]:
    by_source = training.by_source()
    return {
        "preset": settings.preset,
        "seed": settings.seed,
        "sources": by_source,
        "rows": sum(by_source.values()),
        "unlabelled": unlabelled.by_source() if unlabelled else {},
        "split_sha256": rows.sha256,
        "sample": SAMPLE in by_source,
    }


def profile_of(rows: ChosenRows, fitted: FittedModel) -> dict[str, Any]:
    """Describe the validation rows for the bundle's `profile.json`; scoring compares what it reads with them."""
    validation, y_score = fitted.validation, fitted.y_score
    languages = np.concatenate([guess_languages(batch[REVIEW]) for batch in rows.batches([REVIEW])])
    vocabulary, classes = fitted.model.vocabulary, fitted.model.decision.classes(y_score)
    predicted = pc.if_else(pa.array(vocabulary.num_known_words(validation.ids) > 0), classes, None)
    num_unknown = validation.num_tokens - vocabulary.num_known(validation.ids)
    tally = tally_reviews(validation.num_tokens, num_unknown, languages, y_score, predicted)
    return profile_reviews(validation.num_tokens, validation.sentiment, y_score, tally)


def write_core(draft: Draft, fitted: FittedModel, profile: dict[str, Any], training_facts: dict[str, Any], unlabelled: np.ndarray) -> None:
    """Write every file of the bundle that training decides; `unlabelled` are the text hashes of what was learnt from without labels."""
    from safetensors.numpy import save

    model = fitted.model
    seen = io.BytesIO()
    np.save(seen, np.unique(np.concatenate([fitted.training.text_hash, fitted.validation.text_hash, unlabelled])), allow_pickle=False)
    golden = model.score_reviews(pa.array(bundle.GOLDEN_REVIEWS)).p_positive
    folder = f"models/{model.model_id}"
    draft.write_bytes(f"{folder}/{bundle.WEIGHTS}", save({name: np.ascontiguousarray(value) for name, value in fitted.weights.items()}))
    draft.write_json(f"{folder}/{bundle.VOCABULARY}", model.vocabulary.to_json())
    draft.write_json(f"{folder}/{bundle.SETTINGS}", model.settings.model_dump(mode="json"))
    draft.write_json(f"{folder}/{bundle.PROFILE}", profile)
    draft.write_json(
        f"{folder}/{bundle.GOLDEN}",
        {"reviews": list(bundle.GOLDEN_REVIEWS), "p_positive": [float(score) for score in golden]},
    )
    draft.write_json(f"{folder}/{bundle.TRAINING}", training_facts)
    draft.write_bytes(f"{folder}/{bundle.SEEN}", seen.getvalue())


class _EpochWatch:
    """Tells people how each epoch went: a line, the bar, the progress artifact."""

    def __init__(self, epochs: int, advance: Callable[[int], None]) -> None:
        self._epochs = epochs
        self._done = 0
        self._advance = advance
        self._artifact = RunProgress("training-progress", "epochs of the LSTM")

    def __call__(self, epoch: dict[str, float]) -> None:
        self._done += 1
        number = self._done
        log_step(
            "train",
            f"epoch {number}/{self._epochs}: loss {epoch['loss']:.4f}, accuracy {epoch['accuracy']:.2%}; "
            f"validation loss {epoch['val_loss']:.4f}, accuracy {epoch['val_accuracy']:.2%}; {epoch['seconds']:.0f} s",
        )
        self._advance(1)
        self._artifact.update(100 * number / self._epochs)


@task(task_run_name="train")
@discreet
def train(rows: ArtifactRef, unlabelled: ArtifactRef | None, settings: TrainSettings, store: Store) -> ArtifactRef:
    """Train the model."""
    return prefect_state(train_artifact(rows, unlabelled, settings, store))
