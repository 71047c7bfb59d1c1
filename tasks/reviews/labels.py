"""What a label column says, as 1 (positive), 0 (negative), to be dropped, or unknown; decided once a distinct value."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field, model_validator

from tasks.errors import CallerError

Scale = Literal["binary", "5", "10"]
Meaning = Literal["positive", "negative", "drop"]

_WORDS: dict[str, Meaning] = {
    **dict.fromkeys(("positive", "pos", "true"), "positive"),
    **dict.fromkeys(("negative", "neg", "false"), "negative"),
}
_CODES: dict[Meaning | None, int] = {"negative": 0, "positive": 1, "drop": 2, None: 3}
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_DEFAULT_STARS = {"5": (2.0, 4.0), "10": (4.0, 7.0)}
_LONGEST_SHOWN = 24


class LabelSettings(BaseModel, frozen=True, extra="forbid"):
    """How labels are read. Stars between the two thresholds are neither and are dropped, knowingly and counted."""

    scale: Literal["auto", "binary", "5", "10"] = Field(
        "auto", description="What numbers mean: 0/1, stars 1-5 or 1-10; auto decides by all distinct labels of a file."
    )
    positive_at_least: float | None = Field(None, description="Least stars that are positive; 4 of 5 or 7 of 10.")
    negative_at_most: float | None = Field(None, description="Most stars that are negative; 2 of 5 or 4 of 10.")
    extra: dict[str, Meaning] = Field(
        default_factory=dict, description="What other labels mean, such as meh=drop; wins over every built-in meaning."
    )

    @model_validator(mode="after")
    def _check_thresholds(self) -> "LabelSettings":
        for scale in ("5", "10") if self.scale in ("auto", "binary") else (self.scale,):
            low, high = self.thresholds(scale)
            if low >= high:
                raise ValueError(f"negative_at_most ({low:g}) must be below positive_at_least ({high:g}).")
        return self

    def thresholds(self, scale: str) -> tuple[float, float]:
        """Return (most stars that are negative, least stars that are positive)."""
        low, high = _DEFAULT_STARS[scale]
        return (
            low if self.negative_at_most is None else self.negative_at_most,
            high if self.positive_at_least is None else self.positive_at_least,
        )


@dataclass(frozen=True)
class UnknownLabel:
    """A label without a meaning: as `show_label` shows it, how many rows have it, and the first one's index."""

    shown: str
    count: int
    first_index: int


@dataclass(frozen=True)
class MappedLabels:
    """What `map_labels` found, row by row.

    Args:
        labels: int8, 1 positive, 0 negative, null where dropped or unknown.
        dropped: bool, never null: rows that are left out knowingly (middle stars, `drop`).
        unknown: Labels without a meaning, most frequent first; their rows are null in `labels` and not dropped.
    """

    labels: pa.Int8Array
    dropped: pa.BooleanArray
    unknown: tuple[UnknownLabel, ...]


def detect_scale(distinct_values: Iterable[Any], settings: LabelSettings) -> Scale:
    """Decide what the numbers among a whole file's labels mean; words need no scale.

    Only what cannot be misread is accepted: 0 alone or with 1 is binary; 1 to 5 with a 5 among them, and nothing
    else, is stars of five; 1 to 10 with one above 5 is stars of ten. Anything else is ambiguous: 1 alone (positive, or
    one star), 1 and 2 (the Yelp polarity files), 0 to 4 (SST), 0 and 4 (Sentiment140), 1 to 4 (the negative half of
    IMDB), -1 to 1.

    Args:
        distinct_values: Every distinct label of one file (strings, numbers, bools, None), in any order.
        settings: Its `scale` wins unless "auto"; values that `extra` maps are not looked at.

    Raises:
        CallerError: The numbers are ambiguous; the message says which options settle it.
    """
    if settings.scale != "auto":
        return settings.scale
    extra = {_canonical(key) for key in settings.extra}
    labels = {_canonical(value) for value in distinct_values} - extra
    numbers = sorted(float(label) for label in labels if _NUMBER.fullmatch(label))
    if not numbers or numbers in ([0.0], [0.0, 1.0]):
        return "binary"
    if numbers[0] >= 1 and numbers[-1] == 5:
        return "5"
    if numbers[0] >= 1 and 5 < numbers[-1] <= 10:
        return "10"
    shown = ", ".join(f"{number:g}" for number in numbers[:12]) + ("…" if len(numbers) > 12 else "")
    raise CallerError(
        f"The labels {shown} can be read in more than one way. Expected 0 and 1, or stars from 1 to 5 or from 1 to 10. "
        f"Give the scale, such as --set ingest.labels.scale=5 (or binary, or 10), or map each: --label {numbers[0]:g}=negative."
    )


def holds_numbers(distinct_values: Iterable[Any]) -> bool:
    """Return whether any label is a number, so that a scale has to be decided."""
    return any(_NUMBER.fullmatch(_canonical(value)) for value in distinct_values)


def show_label(value: Any) -> str:
    """Return a label as messages may show it: quoted, or only its length if it may be a review."""
    text = "" if value is None else str(value).strip()
    return repr(text) if len(text) <= _LONGEST_SHOWN else f"(a text of {len(text)} characters)"


def map_labels(values: pa.Array, settings: LabelSettings, scale: Scale) -> MappedLabels:
    """Map labels to 1, 0, dropped or unknown. Costs one Python step a distinct value, not a row.

    Args:
        values: Any strings, numbers or bools, shape (num_rows,); case and surrounding spaces do not count.
        settings: Thresholds and extra meanings.
        scale: What `detect_scale` said of the whole file, never of a batch.
    """
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    encoded = values.dictionary_encode(null_encoding="encode")
    indices = encoded.indices.to_numpy()
    extra = {_canonical(key): meaning for key, meaning in settings.extra.items()}
    distinct = encoded.dictionary.to_pylist()
    names = [_canonical(value) for value in distinct]
    meanings = [extra.get(name) or _meaning(name, settings, scale) for name in names]
    codes = np.array([_CODES[meaning] for meaning in meanings], np.int8)[indices]
    labels = pa.array(codes, pa.int8(), mask=codes > 1)
    return MappedLabels(labels, pa.array(codes == _CODES["drop"]), _unknown(names, meanings, indices))


def _canonical(value: Any) -> str:
    """Return the one spelling of a label: ' Positive' → 'positive', 4.0 and '4.0' → '4', True → 'true', None → ''."""
    text = "" if value is None else str(value).strip().casefold()
    return f"{float(text):.12g}" if _NUMBER.fullmatch(text) else text


def _meaning(name: str, settings: LabelSettings, scale: Scale) -> Meaning | None:
    if not _NUMBER.fullmatch(name):
        return _WORDS.get(name)
    number = float(name)
    if scale == "binary":
        return {0.0: "negative", 1.0: "positive"}.get(number)  # type: ignore[return-value]
    if not 1 <= number <= int(scale):
        return None
    low, high = settings.thresholds(scale)
    return "negative" if number <= low else "positive" if number >= high else "drop"


def _unknown(names: list[str], meanings: list[Meaning | None], indices: np.ndarray) -> tuple[UnknownLabel, ...]:
    counts: dict[str, int] = {}
    firsts: dict[str, int] = {}
    missing = [code for code, meaning in enumerate(meanings) if meaning is None]
    if not missing:
        return ()
    num_rows = np.bincount(indices, minlength=len(names))
    first_rows = np.full(len(names), len(indices))
    np.minimum.at(first_rows, indices, np.arange(len(indices)))
    for code in missing:
        shown = show_label(names[code])
        counts[shown] = counts.get(shown, 0) + int(num_rows[code])
        firsts[shown] = min(firsts.get(shown, len(indices)), int(first_rows[code]))
    ranked = sorted(counts, key=lambda shown: (-counts[shown], shown))
    return tuple(UnknownLabel(shown, counts[shown], firsts[shown]) for shown in ranked)
