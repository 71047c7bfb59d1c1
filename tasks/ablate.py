"""ablate: what each ingredient of a model is worth, by leaving it out and measuring on validation rows, over several seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from tasks.dotted import change_settings, value_of
from tasks.errors import CallerError
from tasks.measured import Measured, Spread
from tasks.model.search_space import has_effect

WHOLE, UNLABELLED = "nothing", "unlabelled reviews"  # what the first line leaves out, and what is no setting
_GROUPS = ("clean", "tokenize", "vocabulary", "model", "linear", "self_training")
INGREDIENTS: Mapping[str, Mapping[str, Any]] = {
    "punctuation tokens": {"clean.punctuation": False},
    "pretrained vectors": {"model.pretrained": False},
    "pair vectors": {"model.pair_buckets": 0},
    "n-gram evidence": {"model.evidence_size": 0},
    "overlapping regions": {"model.kernel_size": 8},
    "n-gram part": {"linear": None},
    "3-grams": {"linear.max_ngram": 2},
    "soft labels": {"model.soft_labels": 0.0},
    "word dropout": {"model.word_dropout": 0.0},
    "embedding dropout": {"model.embedding_dropout": 0.0},
    "evidence dropout": {"model.evidence_dropout": 0.0},
    "output dropout": {"model.output_dropout": 0.0},
    "adversarial training": {"model.adversarial": 0.0},
    "learning-rate decay": {"model.decay": False},
    "gradient clipping": {"model.clip_norm": 1e6},
    "early stopping": {"model.patience": 0},
    UNLABELLED: {},
}


@dataclass(frozen=True)
class Variant:
    """A line of the table: what is left out, the settings that do so, and what its models are called in a run's history."""

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    label: str = "the whole model"

    @property
    def uses_unlabelled(self) -> bool:
        """Whether its models learn from unlabelled reviews, where there are any."""
        return self.name != UNLABELLED


@dataclass(frozen=True)
class Line:
    """What a variant reached over all seeds; differences are to the whole model, seed by seed."""

    variant: Variant
    accuracy: Spread
    log_loss: Spread
    lstm_accuracy: Spread
    cpu_seconds: Spread
    accuracy_difference: Spread
    log_loss_difference: Spread


def plan_variants(
    settings: BaseModel, only: Sequence[str] = (), changes: Sequence[tuple[str, Any]] = (), *, with_unlabelled: bool = False
) -> list[Variant]:
    """Return what is measured: the whole model first, then every ingredient that it has, then other settings by name.

    Args:
        settings: Of the whole training flow.
        only: Names of ingredients; all if this and `changes` are empty.
        changes: Settings that are tried instead, one by one, such as ("model.units", 64).
        with_unlabelled: Whether there are unlabelled reviews to learn from.

    Raises:
        CallerError: There is no such ingredient or setting, or the model does not have it.
    """
    unknown = [name for name in only if _plain(name) not in map(_plain, INGREDIENTS)]
    if unknown:
        raise CallerError(f"There is no ingredient {unknown[0]!r}. Known are: {', '.join(INGREDIENTS)}. Other settings: --try NAME=VALUE.")
    wanted = set(map(_plain, only))
    chosen = [name for name in INGREDIENTS if _plain(name) in wanted or not (only or changes)]
    variants = [Variant(name, INGREDIENTS[name], f"without {name}") for name in chosen]
    present = [variant for variant in variants if (_changes_something(variant, settings) if variant.changes else with_unlabelled)]
    absent = [variant.name for variant in variants if variant not in present]
    if only and absent:
        raise CallerError(f"This model has no {absent[0]}, so it cannot be left out. Name another with --only, or another --preset.")
    others = [Variant(f"with {name}={value}", {name: value}, f"with {name}={value}") for name, value in changes]
    for variant, (name, _) in zip(others, changes, strict=True):
        if name.partition(".")[0] not in _GROUPS:
            raise CallerError(f"{name!r} cannot be tried: the rows would be others. Expected a setting of {', '.join(_GROUPS)}.")
        change_settings(settings, variant.changes.items())
    return [Variant(WHOLE), *present, *others]


def _plain(name: str) -> str:
    return name.replace("-", " ").casefold()


def _changes_something(variant: Variant, settings: BaseModel) -> bool:
    try:
        change_settings(settings, variant.changes.items())
    except CallerError:  # other settings stand in the way, or the group is off
        return False
    return all(value_of(settings, name) != value and has_effect(name, settings) for name, value in variant.changes.items())


def compare(variant: Variant, measured: Sequence[Measured], whole: Sequence[Measured]) -> Line:
    """Return a line of the table; `measured` and `whole` hold one measurement a seed, in the same order."""
    pairs = list(zip(measured, whole, strict=True))
    return Line(
        variant,
        Spread.of([each.accuracy for each in measured]),
        Spread.of([each.log_loss for each in measured]),
        Spread.of([each.parts["lstm"].accuracy for each in measured]),
        Spread.of([each.cpu_seconds for each in measured]),
        Spread.of([each.accuracy - other.accuracy for each, other in pairs]),
        Spread.of([each.log_loss - other.log_loss for each, other in pairs]),
    )


def to_markdown(lines: Sequence[Line], whole: Measured, seeds: Sequence[int], origin: Mapping[str, str]) -> str:
    """Return the table with what it was measured on, to be pasted into a page.

    Args:
        lines: The whole model's first.
        whole: One measurement of the whole model, for its numbers of rows.
        seeds: One model each.
        origin: What else a reader must know to measure it again, by name.
    """
    accuracy = lines[0].accuracy.mean
    error = math.sqrt(accuracy * (1 - accuracy) / whole.rows)
    head = ["left out", "accuracy", "difference", "log loss", "difference", "LSTM alone", "CPU seconds"]
    table = [head, ["---"] * len(head)]
    for line in lines:
        is_whole = line is lines[0]
        table.append(
            [
                line.variant.name,
                _percent(line.accuracy),
                "" if is_whole else _points(line.accuracy_difference),
                _loss(line.log_loss),
                "" if is_whole else f"{line.log_loss_difference.mean:+.4f} ± {line.log_loss_difference.deviation:.4f}",
                _percent(line.lstm_accuracy),
                f"{line.cpu_seconds.mean:.0f}",
            ]
        )
    told = [
        f"Measured on {whole.rows:,} validation rows after training on {whole.trained_rows:,}; no test row was read. "
        f"Mean ± standard deviation over {len(seeds)} seeds ({', '.join(map(str, seeds))}). Differences are to the whole model, seed by "
        "seed: a loss that rises, or an accuracy that falls, says that the ingredient pays. "
        f"One accuracy on so many rows has a standard error of {100 * error:.2f} points; of a difference on the same rows it is smaller.",
        "",
        *(f"- {name}: {value}" for name, value in origin.items()),
    ]
    return "\n".join([*("| " + " | ".join(cells) + " |" for cells in table), "", *told])


def _percent(spread: Spread) -> str:
    return f"{100 * spread.mean:.2f} ± {100 * spread.deviation:.2f} %"


def _points(spread: Spread) -> str:
    return f"{100 * spread.mean:+.2f} ± {100 * spread.deviation:.2f}"


def _loss(spread: Spread) -> str:
    return f"{spread.mean:.4f} ± {spread.deviation:.4f}"
