"""Fits a model on chosen rows and writes nothing: what the train step, a search, cross-validation and an ablation have in common."""

import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, Field, model_validator

from tasks.model import bundle
from tasks.model.decision import Decision, DecisionSettings, fit_decision
from tasks.model.embeddings import Embeddings, fit_embeddings
from tasks.model.linear import (
    FittedLinear,
    LinearSettings,
    OutOfFold,
    TaughtReviews,
    fit_linear_by_teacher,
    fit_linear_out_of_fold,
    ngram_evidence,
    refit_linear,
)
from tasks.model.lstm import OWNERS, FittedLstm, LstmSettings, weight_shapes
from tasks.model.lstm_training import Evidence, fit_lstm, soften
from tasks.model.pairs import fit_pair_owners
from tasks.model.runtime import num_threads, one_blas_thread
from tasks.model.self_training import SelfTrainingSettings, taught_reviews
from tasks.model.stack import StackWeights, apply_stack, fit_stack
from tasks.model.vocabulary import TokenIds, Vocabulary, VocabularySettings, fit_vocabulary
from tasks.reviews.text import CleanSettings, TokenizeSettings
from tasks.schemas import SENTIMENT, SOURCE, SPLIT, TEXT_HASH, TOKENS
from tasks.store import ArtifactRef, Recipe
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
    self_training: SelfTrainingSettings = SelfTrainingSettings()
    decision: DecisionSettings = DecisionSettings()

    @model_validator(mode="after")
    def _unknown_words_have_a_vector(self) -> "TrainSettings":
        if self.model.network == "default" and self.vocabulary.unknown == "drop":
            raise ValueError("the default network puts the unknown word in place of rare ones: it needs vocabulary.unknown=oov")
        return self


def fitting_recipe(step: str, module: str, rows: ArtifactRef, unlabelled: ArtifactRef | None, settings: dict[str, Any]) -> Recipe:
    """Describe what a step makes that fits a model.

    The kind of processor and the number of threads count, since they decide how sums are rounded.
    """
    plain = {**settings, "machine": platform.machine(), "threads": num_threads()}
    inputs = {"split": rows.sha256} | ({"unlabelled": unlabelled.sha256} if unlabelled else {})
    return Recipe.of(step, module, inputs, plain, LIBRARIES)


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

    def by_source(self) -> dict[str, int]:
        """Return how many of the chosen rows came from each source."""
        chosen = read_columns(self.path, [SOURCE])[SOURCE].filter(pa.array(self.chosen))
        return {entry["values"]: entry["counts"] for entry in chosen.value_counts().to_pylist()}

    def text_hashes(self) -> np.ndarray:
        """Return the hashes of their texts, uint64, shape (num_chosen,)."""
        return read_columns(self.path, [TEXT_HASH])[TEXT_HASH].to_numpy()[self.chosen]

    def tokens(self) -> Iterator[pa.ListArray]:
        """Yield their tokens."""
        return (batch[TOKENS] for batch in self.batches([TOKENS]))


def rows_of_side(path: Path, side: str) -> ChosenRows:
    """Choose the rows of the split artifact that stand on a side: train, validation or test."""
    return ChosenRows(path, pc.equal(read_columns(path, [SPLIT])[SPLIT], side).to_numpy())


def most_unlabelled(path: Path, settings: SelfTrainingSettings) -> ChosenRows:
    """Choose the unlabelled rows that are used: all, or those with the smallest hashes, which more rows of other texts do not change."""
    hashes = read_columns(path, [TEXT_HASH])[TEXT_HASH].to_numpy()
    chosen = np.zeros(len(hashes), bool)
    chosen[np.argsort(hashes, kind="stable")[: settings.max_reviews]] = True
    return ChosenRows(path, chosen)


@dataclass(frozen=True)
class FittedModel:
    """What was learnt, before any of it is written.

    Args:
        model: Ready to score.
        linear: The n-gram part, if it has one.
        lstm: The LSTM's training: history and best epoch.
        training: What it was fitted on.
        validation: What guided it.
        taught: Unlabelled reviews that the n-gram part learnt from, if there were any.
        y_score: float32, shape (num_validation,): what the model says of the validation rows.
    """

    model: bundle.SentimentModel
    linear: FittedLinear | None
    lstm: FittedLstm
    training: TrainingRows
    validation: TrainingRows
    taught: TaughtReviews | None
    y_score: np.ndarray

    @property
    def weights(self) -> dict[str, np.ndarray]:
        """The weights of all its parts, by name, as a bundle keeps them."""
        return named_weights(self.linear, self.lstm)


def named_weights(linear: FittedLinear | None, lstm: FittedLstm) -> dict[str, np.ndarray]:
    """Return the weights of all parts, by part and name."""
    parts = {bundle.LSTM: lstm.weights}
    if linear is not None:
        parts[bundle.LINEAR] = linear.weights
    return {f"{part}/{name}": value for part, weights in parts.items() for name, value in weights.items()}


@one_blas_thread()
def fit_model(
    training_rows: ChosenRows,
    validation_rows: ChosenRows,
    settings: TrainSettings,
    on_epoch: Callable[[dict[str, float]], None],
    tell: Callable[[str], None],
    *,
    unlabelled_rows: ChosenRows | None = None,
    model_id: str = "",
    trained_on: dict[str, Any] | None = None,
) -> FittedModel:
    """Fit vocabulary, n-gram part, LSTM, stack and decision, in this order; write nothing.

    With unlabelled reviews the model so made is a teacher: the parts learn once more, from the labels and from what it says of those;
    the LSTM then from the labels alone again.

    Args:
        training_rows: What is learnt from; the vocabulary too.
        validation_rows: What guides early stopping, and what stack and decision are fitted on.
        settings: What is learnt, and how.
        on_epoch: Told of every epoch as it ends; what it raises ends the training.
        tell: Told in words what is done, for people.
        unlabelled_rows: More reviews, without labels, none of which repeats a held-out one.
        model_id: For a model that will be kept: its name.
        trained_on: For a model that will be kept: what its bundle says of its training rows.
    """
    vocabulary = fit_vocabulary(training_rows.tokens(), settings.vocabulary)
    training, validation = read_rows(training_rows, vocabulary), read_rows(validation_rows, vocabulary)
    tell(f"vocabulary of {len(vocabulary.tokens):,} words from {len(training.sentiment):,} training rows")
    unlabelled = TokenIds.concatenate([vocabulary.encode(tokens) for tokens in unlabelled_rows.tokens()]) if unlabelled_rows else None
    lstm_settings = settings.model.with_evidence_of(settings.linear)
    bundle_settings = bundle.BundleSettings(
        model_id=model_id,
        clean=settings.clean,
        tokenize=settings.tokenize,
        lstm=lstm_settings,
        linear=settings.linear,
        trained_on=trained_on or {},
    )

    linear = evidence = None
    labels = training.sentiment.astype(np.float64)

    if settings.linear is not None:
        linear, out_of_fold = fit_linear_out_of_fold(training.ids, training.sentiment, settings.linear, settings.seed)
        labels = soften_labels(training.sentiment, out_of_fold, lstm_settings)
        evidence = bring_evidence(linear, out_of_fold, validation.ids, lstm_settings, settings.linear)
        tell("n-gram part fitted")

    def join(linear: FittedLinear | None, lstm: FittedLstm, taught: TaughtReviews | None) -> FittedModel:
        model = bundle.assemble(bundle_settings, vocabulary, named_weights(linear, lstm), StackWeights(), Decision(0.5, 0.5))
        logits = model.logits(validation.ids)
        stack = fit_stack(logits, validation.sentiment)
        y_score = apply_stack(logits, stack)
        decision = fit_decision(validation.sentiment, y_score, settings.decision)
        model = replace(model, stack=stack, decision=decision)
        return FittedModel(model, linear, lstm, training, validation, taught, y_score)

    texts = TokenIds.concatenate([training.ids, unlabelled]) if unlabelled else training.ids
    owners = fit_pair_owners(texts, lstm_settings.pair_buckets) if OWNERS in weight_shapes(lstm_settings) else None
    learn = partial(fit_lstm, seed=settings.seed, on_epoch=on_epoch, owners=owners, vectors=initial_vectors(texts, owners, settings))
    held_out = validation.ids, validation.sentiment
    lstm = learn(training.ids, labels, *held_out, lstm_settings, evidence=evidence)
    fitted = join(linear, lstm, None)
    if unlabelled is None:
        return fitted

    teacher = fitted.model.log_odds(unlabelled)
    tell(f"{len(unlabelled):,} unlabelled reviews labelled by what was learnt so far; learning from them too")
    taught = taught_reviews(unlabelled, teacher, settings.self_training)
    if settings.linear is not None:
        linear, out_of_fold = fit_linear_by_teacher(training.ids, training.sentiment, taught, settings.linear, settings.seed, *held_out)
        labels = soften_labels(training.sentiment, out_of_fold, lstm_settings)
        evidence = bring_evidence(linear, out_of_fold, validation.ids, lstm_settings, settings.linear)
    student = learn(
        texts,
        np.concatenate([labels, 1 / (1 + np.exp(-teacher))]),
        *held_out,
        settings.self_training.student(lstm_settings),
        evidence=evidence,
        times=settings.self_training.times(len(training.ids), len(unlabelled)),
    )
    lstm = student.after(lstm)
    if settings.self_training.last_epochs:
        if evidence:
            evidence = Evidence(evidence.training[: len(training.ids.values)], evidence.validation)
        graduate = settings.self_training.graduate(lstm_settings)
        lstm = learn(training.ids, labels, *held_out, graduate, evidence=evidence, start=lstm.weights).after(lstm)
    return join(linear, lstm, taught)


def soften_labels(y: np.ndarray, out_of_fold: OutOfFold, lstm: LstmSettings) -> np.ndarray:
    """Return what the LSTM learns of labelled reviews, float64: the labels, softened by what n-grams say that have not seen the row."""
    if lstm.network == "tutorial":
        return y.astype(np.float64)
    return soften(y, out_of_fold.logits[: len(y)], lstm.soft_labels)


def bring_evidence(
    linear: FittedLinear, out_of_fold: OutOfFold, validation: TokenIds, lstm: LstmSettings, settings: LinearSettings
) -> Evidence | None:
    """Return what the n-gram part tells the LSTM of each review's n-grams, if that listens."""
    return Evidence(out_of_fold.evidence, ngram_evidence(validation, linear.weights["ngrams"], settings)) if lstm.evidence_size else None


def initial_vectors(texts: TokenIds, owners: np.ndarray | None, settings: TrainSettings) -> Embeddings | None:
    """Return where the vectors of words and pairs start; None where they are not told."""
    model = settings.model
    if not model.pretrained or model.network == "tutorial":
        return None
    return fit_embeddings(texts, model.num_words, model.embedding_size, settings.seed, owners=owners)


@one_blas_thread()
def refit_on_all(fitted: FittedModel, settings: TrainSettings) -> FittedModel:
    """Fit the n-gram part once more, the validation rows among its training rows, now that they have done their work.

    The LSTM hears its new word too: by no more than the tenth of reviews that came in, it differs from what it has learnt to weigh.
    """
    if fitted.linear is None or settings.linear is None:
        return fitted
    ids = TokenIds.concatenate([fitted.training.ids, fitted.validation.ids])
    y = np.concatenate([fitted.training.sentiment, fitted.validation.sentiment])
    linear = refit_linear(fitted.linear, ids, y, fitted.taught, settings.linear, settings.seed)
    return replace(fitted, linear=linear, model=replace(fitted.model, linear=linear.weights))


def planned_epochs(settings: TrainSettings, *, with_unlabelled: bool) -> int:
    """Return how many epochs `fit_model` trains at most."""
    later = settings.self_training.epochs + settings.self_training.last_epochs
    return settings.model.epochs + (later if with_unlabelled else 0)


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
