"""What trainings that nobody keeps were found to reach, and how far several of them spread."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.store import ArtifactRef, Store


@dataclass(frozen=True)
class PartScores:
    """A model, or a part of it alone."""

    accuracy: float
    log_loss: float


@dataclass(frozen=True)
class Measured:
    """What a model reached.

    Args:
        rows: Rows it was measured on.
        trained_rows: Rows it learnt from.
        accuracy: Share of rows judged right.
        log_loss: In nats; lower is better.
        parts: Each part alone.
        epochs: Epochs that were trained.
        best_epoch: The one whose weights count.
        cpu_seconds: Processor time of the training, all threads.
    """

    rows: int
    trained_rows: int
    accuracy: float
    log_loss: float
    parts: dict[str, PartScores]
    epochs: int
    best_epoch: int
    cpu_seconds: float


@dataclass(frozen=True)
class Spread:
    """A number over several trainings: its mean, and its standard deviation (n - 1; 0 of a single one)."""

    mean: float
    deviation: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Summarise.

        >>> Spread.of([1.0, 3.0])
        Spread(mean=2.0, deviation=1.4142135623730951, values=(1.0, 3.0))
        """
        mean = math.fsum(values) / len(values)
        squares = math.fsum((value - mean) ** 2 for value in values)
        return cls(mean, math.sqrt(squares / max(len(values) - 1, 1)), tuple(values))


@dataclass(frozen=True)
class CrossValidation:
    """What the folds come to; `parts` holds the accuracy of each part alone, `rows` counts every row once."""

    folds: int
    rows: int
    accuracy: Spread
    log_loss: Spread
    parts: dict[str, Spread]
    cpu_seconds: float


def measured_by(measurement: ArtifactRef, store: Store) -> Measured:
    """Return what a measurement found."""
    facts = store.record_of(measurement).facts["measured"]
    return Measured(**facts | {"parts": {name: PartScores(**part) for name, part in facts["parts"].items()}})


def summarize_folds(folds: Sequence[Measured]) -> CrossValidation:
    """Return mean and spread over folds."""
    return CrossValidation(
        folds=len(folds),
        rows=sum(fold.rows for fold in folds),
        accuracy=Spread.of([fold.accuracy for fold in folds]),
        log_loss=Spread.of([fold.log_loss for fold in folds]),
        parts={name: Spread.of([fold.parts[name].accuracy for fold in folds]) for name in folds[0].parts},
        cpu_seconds=round(math.fsum(fold.cpu_seconds for fold in folds), 1),
    )
