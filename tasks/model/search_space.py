"""Which settings a search changes, and between which values.

A bound that is not given is the one that the setting declares. Where the caller names no values, the present one is always among them.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tasks.dotted import change_settings, field_of, value_of
from tasks.errors import CallerError

GROUPS = ("vocabulary", "model", "linear", "self_training")  # what training alone decides; a search reads and splits its reviews once
_OF_NGRAM_PART = ("model.evidence_size", "model.evidence_dropout", "model.soft_labels")  # what the LSTM learns from it
_LOGARITHMIC_FROM = 5  # bounds whose ratio is as large are searched by ratio, not by difference


@dataclass(frozen=True)
class Searched:
    """A setting that a search changes: a number from `low` to `high`, both included, or one of `choices`.

    `step` is the distance of whole numbers that are tried; None tries any value in between.
    """

    name: str
    low: float | None = None
    high: float | None = None
    step: int | None = None
    choices: tuple[Any, ...] = ()

    def holds(self, value: Any) -> bool:
        """Return whether the search could try this value."""
        if self.choices:
            return value in self.choices
        return bool(self.low is not None and self.high is not None and self.low <= value <= self.high)

    @property
    def logarithmic(self) -> bool:
        """Whether ratios count, not differences."""
        return bool(self.step is None and self.low and self.high and self.low > 0 and self.high / self.low >= _LOGARITHMIC_FROM)


SEARCHED = (
    Searched("model.learning_rate", 1e-3, 8e-3),
    Searched("model.epochs", 2, 5, step=1),
    Searched("model.batch_size", choices=(32, 64, 128)),
    Searched("model.units", 32, 128, step=16),
    Searched("model.filters", 32, 128, step=32),
    Searched("model.embedding_size", 48, 128, step=8),
    Searched("model.pair_buckets", choices=(1 << 16, 1 << 18, 1 << 20)),
    Searched("model.word_dropout", high=0.6),
    Searched("model.embedding_dropout", high=0.7),
    Searched("model.output_dropout", high=0.8),
    Searched("model.evidence_dropout", high=0.6),
    Searched("model.soft_labels"),
    Searched("model.adversarial", high=0.1),
    Searched("linear.inverse_regularisation", 1e-3, 1e-1),
    Searched("linear.smoothing", 0.3, 30),
    Searched("vocabulary.min_count", 1, 4, step=1),
)
SEARCHED_WITH_UNLABELLED = (
    Searched("self_training.epochs", 1, 3, step=1),
    Searched("self_training.labelled_times", 1, 4, step=1),
    Searched("self_training.learning_rate", 5e-4, 5e-3),
    Searched("self_training.certain_share", 0.4, 1.0),
    Searched("self_training.weight", 0.1, 1.0),
)


def search_space(settings: BaseModel, wanted: Sequence[str] = (), *, with_unlabelled: bool = False) -> tuple[Searched, ...]:
    """Return what a search that starts from these settings changes.

    Args:
        settings: Those of the train step.
        wanted: NAME, NAME=LOW..HIGH or NAME=[VALUE, …] for every setting to search; if empty, the project's own choice without what
            has no effect.
        with_unlabelled: Whether there are unlabelled reviews to learn from.

    Raises:
        CallerError: A setting is unknown or cannot be searched, or a bound is none that it may have.
    """
    if wanted:
        return tuple(_resolve(_parse(text), settings, widen="=" not in text) for text in wanted)
    own_choice = (*SEARCHED, *(SEARCHED_WITH_UNLABELLED if with_unlabelled else ()))
    return tuple(_resolve(searched, settings, widen=True) for searched in own_choice if has_effect(searched.name, settings))


def has_effect(name: str, settings: BaseModel) -> bool:
    """Return whether changing a setting of the train step changes anything: its group is on, and network and rules know it."""
    if value_of(settings, name.partition(".")[0]) is None or (name in _OF_NGRAM_PART and value_of(settings, "linear") is None):
        return False
    description = field_of(type(settings), name).description or ""
    foreign_network = "(default network)" in description and value_of(settings, "model.network") != "default"
    foreign_rules = "(default rules only)" in description and value_of(settings, "clean.rules") != "default"
    return not (foreign_network or foreign_rules)


def _parse(text: str) -> Searched:
    name, equals, values = (part.strip() for part in text.partition("="))
    if not equals:
        return next((searched for searched in (*SEARCHED, *SEARCHED_WITH_UNLABELLED) if searched.name == name), Searched(name))
    low, dots, high = values.partition("..")
    try:
        if dots and -math.inf < float(low) < float(high) < math.inf:
            return Searched(name, float(low), float(high))
        choices = [] if dots else json.loads(values)
        if isinstance(choices, list) and choices and all(isinstance(choice, bool | int | float | str) for choice in choices):
            return Searched(name, choices=tuple(choices))
    except ValueError:
        pass
    raise CallerError(
        f"--search {text!r} is not NAME, NAME=LOW..HIGH or NAME=[VALUE, …]. "
        "Examples: --search model.units=32..128, --search model.batch_size=[32,64]."
    )


def _resolve(searched: Searched, settings: BaseModel, *, widen: bool) -> Searched:
    """Fill in the bounds that the setting declares, make room for its present value where asked, and try both ends."""
    name = searched.name
    if name.partition(".")[0] not in GROUPS or "." not in name:
        raise CallerError(f"{name!r} cannot be searched. Expected a setting of {', '.join(GROUPS)}, such as model.units.")
    field = field_of(type(settings), name)
    value = value_of(settings, name)
    whole = int in (field.annotation, *get_args(field.annotation))
    if not searched.choices and (field.annotation is bool or get_origin(field.annotation) is Literal):
        searched = replace(searched, choices=(False, True) if field.annotation is bool else get_args(field.annotation))
    if searched.choices:
        searched = replace(searched, choices=tuple(dict.fromkeys([*searched.choices, *([value] if widen else [])])))
        tried: tuple[Any, ...] = searched.choices
    else:
        low = _bound(searched.low, field, Ge, "ge", searched)
        high = _bound(searched.high, field, Le, "le", searched)
        low, high = (round(low), round(high)) if whole else (float(low), float(high))
        if widen:
            low, high = min(low, value), max(high, value)
        step = searched.step or (1 if whole and not high >= low * _LOGARITHMIC_FROM else None)
        if step and any((end - low) % step for end in (value, high)):
            step = 1
        searched = replace(searched, low=low, high=high, step=step)
        tried = (low, high)
    for end in tried:
        change_settings(settings, [(name, end)])
    return searched


def _bound(given: float | None, field: FieldInfo, kind: type, attribute: str, searched: Searched) -> float:
    if given is not None:
        return given
    for declared in field.metadata:
        if isinstance(declared, kind):
            return float(getattr(declared, attribute))
    raise CallerError(f"{searched.name!r} declares no bounds that a search could use. Give them: --search {searched.name}=LOW..HIGH.")
