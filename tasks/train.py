"""train: fits the vocabulary and the model on training rows, guided by validation rows, and writes the core of a bundle."""

import io
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from pydantic import BaseModel, Field

from tasks.model import bundle
from tasks.model.decision import Decision, DecisionSettings, fit_decision
from tasks.model.linear import LinearSettings, fit_linear_out_of_fold
from tasks.model.lstm import FittedLstm, LstmSettings
from tasks.model.lstm_training import fit_lstm
from tasks.model.origin import describe_origin
from tasks.model.profile import profile_reviews, tally_reviews
from tasks.model.runtime import num_threads, one_blas_thread
from tasks.model.stack import StackWeights, apply_stack, fit_stack
from tasks.model.vocabulary import TokenIds, Vocabulary, VocabularySettings, fit_vocabulary
from tasks.outcome import log_step, prefect_state
from tasks.progress import RunProgress, row_progress
from tasks.reviews.language import guess_languages
from tasks.reviews.text import CleanSettings, TokenizeSettings
from tasks.schemas import REVIEW, SAMPLE, SENTIMENT, SOURCE, SPLIT, TEXT_HASH, TOKENS
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store
from tasks.tables import read_batches, read_columns

LIBRARIES = ("keras", "numpy", "pyarrow", "safetensors", "scikit-learn", "scipy", "tensorflow")


class TrainSettings(BaseModel, frozen=True, extra="forbid"):
    """What is learnt, and how."""

    preset: str = Field("default", description="the preset these settings started from, for people")
    seed: int = Field(0, ge=0, description="seed of initial weights, row order and dropout")
    clean: CleanSettings = CleanSettings()
    tokenize: TokenizeSettings = TokenizeSettings()
    vocabulary: VocabularySettings = VocabularySettings()
    model: LstmSettings = LstmSettings()
    linear: LinearSettings | None = Field(LinearSettings(), description="the n-gram part beside the LSTM; null for the LSTM alone")
    decision: DecisionSettings = DecisionSettings()


def train_recipe(rows: ArtifactRef, settings: TrainSettings) -> Recipe:
    """Describe what training would make; the kind of processor and the number of threads count, since they decide how sums are rounded."""
    plain = {**settings.model_dump(mode="json"), "machine": platform.machine(), "threads": num_threads()}
    return Recipe.of("train", __name__, {"split": rows.sha256}, plain, LIBRARIES)


def model_id_of(recipe: Recipe) -> str:
    """Return the model's name, from everything that made it."""
    return f"m-{recipe.key[:12]}"


def train_artifact(rows: ArtifactRef, settings: TrainSettings, store: Store) -> StepResult:
    """Train a model and write its bundle, all but the test metrics, the card and the seal.

    Raises:
        DataError: The training rows hold no word often enough for the vocabulary.
    """
    recipe = train_recipe(rows, settings)

    def write(draft: Draft) -> None:
        model_id = model_id_of(recipe)
        train_model(rows, settings, model_id, store, draft)
        draft.write_json(f"models/{model_id}/{bundle.ORIGIN}", describe_origin(recipe, store.lineage(rows)))

    return store.make(recipe, write)


@dataclass(frozen=True)
class TrainingRows:
    """The rows of one side: tokens as ids, and what goes with them.

    Args:
        ids: Of every row.
        num_tokens: int, shape (num_rows,): tokens before the vocabulary dropped any.
        sentiment: int8, shape (num_rows,).
        text_hash: uint64, shape (num_rows,).
    """

    ids: TokenIds
    num_tokens: np.ndarray
    sentiment: np.ndarray
    text_hash: np.ndarray


@dataclass(frozen=True)
class ChosenRows:
    """Some rows of the split artifact, read a row group at a time.

    Args:
        path: The artifact.
        chosen: bool, shape (num_rows of the artifact,).
    """

    path: Path
    chosen: np.ndarray

    def batches(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """Yield the chosen rows, in order."""
        start = 0
        for batch in read_batches(self.path, columns):
            chosen = self.chosen[start : start + batch.num_rows]
            start += batch.num_rows
            if chosen.any():
                yield batch.filter(pa.array(chosen))

    def tokens(self) -> Iterator[pa.ListArray]:
        """Yield their tokens."""
        return (batch[TOKENS] for batch in self.batches([TOKENS]))


def rows_of_side(path: Path, side: str) -> ChosenRows:
    """Choose the rows of the split artifact that stand on a side: train, validation or test."""
    return ChosenRows(path, pc.equal(read_columns(path, [SPLIT])[SPLIT], side).to_numpy())


@dataclass(frozen=True)
class FittedModel:
    """What was learnt, before any of it is written.

    Args:
        model: Ready to score.
        weights: Of all its parts, by name, as a bundle keeps them.
        lstm: The LSTM's training: history and best epoch.
        training: What it was fitted on.
        validation: What guided it.
        y_score: float32, shape (num_validation,): what the model says of the validation rows.
    """

    model: bundle.SentimentModel
    weights: dict[str, np.ndarray]
    lstm: FittedLstm
    training: TrainingRows
    validation: TrainingRows
    y_score: np.ndarray


@one_blas_thread()
def fit_model(
    training_rows: ChosenRows,
    validation_rows: ChosenRows,
    settings: TrainSettings,
    on_epoch: Callable[[dict[str, float]], None],
    tell: Callable[[str], None],
    *,
    model_id: str = "",
    trained_on: dict[str, Any] | None = None,
) -> FittedModel:
    """Fit vocabulary, n-gram part, LSTM, stack and decision, in this order; write nothing.

    Args:
        training_rows: What is learnt from; the vocabulary too.
        validation_rows: What guides early stopping, and what stack and decision are fitted on.
        settings: What is learnt, and how.
        on_epoch: Told of every epoch as it ends; what it raises ends the training.
        tell: Told in words what is done, for people.
        model_id: For a model that will be kept: its name.
        trained_on: For a model that will be kept: what its bundle says of its training rows.
    """
    vocabulary = fit_vocabulary(training_rows.tokens(), settings.vocabulary)
    training, validation = read_rows(training_rows, vocabulary), read_rows(validation_rows, vocabulary)
    tell(f"vocabulary of {len(vocabulary.tokens):,} words from {len(training.sentiment):,} training rows")

    linear = teacher = None
    if settings.linear is not None:
        linear, teacher = fit_linear_out_of_fold(training.ids, training.sentiment, settings.linear, settings.seed)
        tell("n-gram part fitted")
    fitted = fit_lstm(
        training.ids,
        training.sentiment,
        validation.ids,
        validation.sentiment,
        settings.model,
        settings.seed,
        on_epoch=on_epoch,
        teacher=teacher,
    )

    bundle_settings = bundle.BundleSettings(
        model_id=model_id,
        clean=settings.clean,
        tokenize=settings.tokenize,
        lstm=settings.model,
        linear=settings.linear,
        trained_on=trained_on or {},
    )
    weights = {f"{bundle.LSTM}/{name}": value for name, value in fitted.weights.items()}
    weights |= {f"{bundle.LINEAR}/{name}": value for name, value in (linear or {}).items()}
    model = bundle.assemble(bundle_settings, vocabulary, weights, StackWeights(), Decision(0.5, 0.5))
    logits = model.logits(validation.ids)
    stack = fit_stack(logits, validation.sentiment)
    y_score = apply_stack(logits, stack)
    decision = fit_decision(validation.sentiment, y_score, settings.decision)
    return FittedModel(replace(model, stack=stack, decision=decision), weights, fitted, training, validation, y_score)


def train_model(rows: ArtifactRef, settings: TrainSettings, model_id: str, store: Store, draft: Draft) -> None:
    """Fit the model on the training rows, guided by the validation rows, and write the core files of its bundle."""
    path = store.path(rows)
    trained_on = _trained_on(path, rows, settings)
    with row_progress("train", settings.model.epochs, "epochs") as advance:
        watch = _EpochWatch(settings.model.epochs, advance)
        sides = rows_of_side(path, "train"), rows_of_side(path, "validation")
        fitted = fit_model(*sides, settings, watch, partial(log_step, "train"), model_id=model_id, trained_on=trained_on)

    training_facts = {
        "trained_on": trained_on,
        "history": fitted.lstm.history,
        "best_epoch": fitted.lstm.best_epoch,
        "summary": fitted.lstm.summary,
        "num_parameters": int(sum(value.size for value in fitted.weights.values())),
        "stack": asdict(fitted.model.stack),
        "decision": asdict(fitted.model.decision),
    }
    write_core(draft, fitted.model, fitted.weights, fitted.training, profile_of(sides[1], fitted), training_facts)
    draft.rows = len(fitted.training.sentiment)


def read_rows(rows: ChosenRows, vocabulary: Vocabulary) -> TrainingRows:
    """Read chosen rows of the split artifact: ids in memory, 4 bytes a token, never the text."""
    parts = [
        (
            vocabulary.encode(batch[TOKENS]),
            pc.list_value_length(batch[TOKENS]).to_numpy(),
            batch[SENTIMENT].to_numpy(),
            batch[TEXT_HASH].to_numpy(),
        )
        for batch in rows.batches([SENTIMENT, TEXT_HASH, TOKENS])
    ]
    ids, num_tokens, sentiment, text_hash = zip(*parts, strict=True)
    return TrainingRows(TokenIds.concatenate(ids), np.concatenate(num_tokens), np.concatenate(sentiment), np.concatenate(text_hash))


def _trained_on(path: Path, rows: ArtifactRef, settings: TrainSettings) -> dict[str, Any]:
    columns = read_columns(path, [SOURCE, SPLIT])
    sources = columns[SOURCE].filter(pc.equal(columns[SPLIT], "train")).value_counts().to_pylist()
    by_source = {entry["values"]: entry["counts"] for entry in sources}
    return {
        "preset": settings.preset,
        "seed": settings.seed,
        "sources": by_source,
        "rows": sum(by_source.values()),
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


def write_core(
    draft: Draft,
    model: bundle.SentimentModel,
    weights: dict[str, np.ndarray],
    training: TrainingRows,
    profile: dict[str, Any],
    training_facts: dict[str, Any],
) -> None:
    """Write every file of the bundle that training decides."""
    from safetensors.numpy import save

    seen = io.BytesIO()
    np.save(seen, np.unique(training.text_hash), allow_pickle=False)
    golden = model.score_reviews(pa.array(bundle.GOLDEN_REVIEWS)).p_positive
    folder = f"models/{model.model_id}"
    draft.write_bytes(f"{folder}/{bundle.WEIGHTS}", save({name: np.ascontiguousarray(value) for name, value in weights.items()}))
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
        self._advance = advance
        self._artifact = RunProgress("training-progress", "epochs of the LSTM")

    def __call__(self, epoch: dict[str, float]) -> None:
        number = int(epoch["epoch"])
        log_step(
            "train",
            f"epoch {number}/{self._epochs}: loss {epoch['loss']:.4f}, accuracy {epoch['accuracy']:.2%}; "
            f"validation loss {epoch['val_loss']:.4f}, accuracy {epoch['val_accuracy']:.2%}; {epoch['seconds']:.0f} s",
        )
        self._advance(1)
        self._artifact.update(100 * number / self._epochs)


@task(task_run_name="train")
def train(rows: ArtifactRef, settings: TrainSettings, store: Store) -> ArtifactRef:
    """Train the model."""
    return prefect_state(train_artifact(rows, settings, store))
