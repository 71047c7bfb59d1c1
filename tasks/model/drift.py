"""Whether scored rows look like those the model was tried on: feature by feature, with the play of chance taken off.

The population stability index (PSI) of two samples is above zero even when both come from the same source. It then follows a chi-square
law: (1 / rows here + 1 / rows there) times chi-square with one degree of freedom less than there are groups. Both sample sizes thus set
what counts as drift, and so does the number of features that are looked at.

Source: Yurdakul (2018), "Statistical properties of population stability index"; Bonferroni for the features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tasks.model.decision import POSITIVE, UNCERTAIN
from tasks.model.profile import CLASSES, LENGTH_EDGES, SCORE_BINS, UNKNOWN_EDGES, Tally

FALSE_ALARMS = 0.002  # of all comparisons of rows of the same source, over all features together
SMALLEST_SHIFT = 0.02  # PSI beyond chance that is worth an alarm; a million rows make the smallest difference certain
SMALLEST_SHIFT_OF_WORDS = 0.25  # other products bring other names: 0.10 between the films of IMDB's own training and test reviews
FEWEST_ROWS = 30
MOST_GROUPS = 10
RAREST_GROUP = 0.002  # a language of fewer rows than this counts among the others
SEEN_SHARE = 0.05  # of rows that the model was trained on; with more, its scores say nothing about drift
OTHERS, NOTHING = "others", "–"

Verdict = Literal["as in training", "slightly different", "drifted", "too few rows", "not compared"]
FEATURES = ("length", "unknown_words", "language", "score", "predicted")
_OF_THE_MODEL = ("unknown_words", "score", "predicted")  # these differ between training rows and new ones


@dataclass(frozen=True)
class Group:
    """One group of a feature: its name, and the share of rows that fall into it, there and here."""

    name: str
    reference: float
    share: float


@dataclass(frozen=True)
class FeatureDrift:
    """How one feature compares.

    Args:
        name: One of `FEATURES`.
        here, reference: The scored rows and the held-out rows of training, in a few words.
        rows: Scored rows that have the feature.
        psi: Population stability index of the groups.
        chance: How far PSI gets by chance alone, see `chance_limit`.
        shift: PSI less what chance makes of it on average.
        verdict: What follows.
        groups: In their order; of kinds without an order, the most frequent first.
    """

    name: str
    here: str
    reference: str
    rows: int
    psi: float
    chance: float
    shift: float
    verdict: Verdict
    groups: tuple[Group, ...]

    @property
    def label(self) -> str:
        """The feature's name for people."""
        return self.name.replace("_", " ")


@dataclass(frozen=True)
class Drift:
    """How scored rows compare with the held-out rows of training: feature by feature, and in one word.

    Args:
        verdict: The most serious of the features' verdicts.
        rows, reference_rows: Reviews compared, here and there.
        seen_share: Share of rows, of those looked at, that the model was trained on.
        features: In the order of `FEATURES`.
    """

    verdict: Verdict
    rows: int
    reference_rows: int
    seen_share: float
    features: tuple[FeatureDrift, ...]

    @property
    def drifted(self) -> tuple[FeatureDrift, ...]:
        """The features that have drifted, the furthest first."""
        return tuple(sorted((feature for feature in self.features if feature.verdict == "drifted"), key=lambda found: -found.shift))


def compare_tallies(reference: Tally, tally: Tally, seen_share: float = 0.0) -> Drift:
    """Compare scored rows with the held-out rows of training.

    Args:
        reference: The tally of the bundle's profile.
        tally: Of the scored rows.
        seen_share: Share of the scored rows that the model was trained on. Past `SEEN_SHARE` the features that its training has a hand
            in are not compared.
    """
    features = tuple(_compare_feature(name, reference, tally, seen_share) for name in FEATURES)
    verdicts = {feature.verdict for feature in features}
    order: tuple[Verdict, ...] = ("drifted", "slightly different", "as in training", "not compared", "too few rows")
    verdict = next(word for word in order if word in verdicts)
    return Drift(verdict, _rows(tally, "length"), _rows(reference, "length"), seen_share, features)


def stability_index(reference: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the population stability index of rows by group; half a row is added to every group, so that none is empty.

    Args:
        reference: int, shape (..., num_groups).
        counts: int, shape (..., num_groups).

    Returns:
        float64, shape (...,): 0 for equal shares. 0.1 is usually called small, 0.25 large.
    """
    there, here = _shares(reference, 0.5), _shares(counts, 0.5)
    return np.sum((here - there) * np.log(here / there), axis=-1)


def chance_limit(reference_rows: int, rows: int, num_groups: int) -> tuple[float, float]:
    """Return what chance makes of the index of two samples of the same source: on average, and at most.

    Returns:
        The mean, and the limit that is passed by one feature or more in `FALSE_ALARMS` of all comparisons. Where groups are very rare
        the true limit is lower: fewer false alarms.
    """
    from scipy.stats import chi2

    scale, freedom = 1 / reference_rows + 1 / rows, num_groups - 1
    return scale * freedom, scale * float(chi2.ppf(1 - FALSE_ALARMS / len(FEATURES), freedom)) if freedom else 0.0


def _compare_feature(name: str, reference: Tally, tally: Tally, seen_share: float) -> FeatureDrift:
    names, there, here = _grouped(name, reference.get(name, {}), tally.get(name, {}))
    rows = int(here.sum())
    said = (_WORDS[name](tally) if rows else NOTHING, _WORDS[name](reference) if there.sum() else NOTHING)
    groups = tuple(map(Group, names, _shares(there).tolist(), _shares(here).tolist()))
    if min(rows, int(there.sum())) < FEWEST_ROWS:
        return FeatureDrift(name, *said, rows, 0.0, 0.0, 0.0, "too few rows", groups)
    psi = float(stability_index(there, here))
    usual, chance = chance_limit(int(there.sum()), rows, len(groups))
    shift = psi - usual
    verdict: Verdict = "as in training"
    if name in _OF_THE_MODEL and seen_share > SEEN_SHARE:
        verdict = "not compared"
    elif psi > chance:
        smallest = SMALLEST_SHIFT_OF_WORDS if name == "unknown_words" else SMALLEST_SHIFT
        verdict = "drifted" if shift >= smallest else "slightly different"
    return FeatureDrift(name, *said, rows, psi, chance, shift, verdict, groups)


def _grouped(name: str, reference: dict[str, int], counts: dict[str, int]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Join groups until each is frequent enough, looking only at both samples together, so that chance stays what it is."""
    pooled = {group: reference.get(group, 0) + counts.get(group, 0) for group in {**reference, **counts}}
    if name in _RANGES:
        groups = sorted(pooled, key=int)
        parts = [[groups[place] for place in part] for part in _join_neighbours([pooled[group] for group in groups])]
        names = [_RANGES[name](int(part[0]), int(part[-1]) + 1) for part in parts]
    elif name == "predicted":
        names = [group for group in CLASSES if group in pooled]
        parts = [[group] for group in names]
    else:
        ranked = sorted(pooled, key=lambda group: (-pooled[group], group))
        names = [group for group in ranked[: MOST_GROUPS - 1] if pooled[group] >= RAREST_GROUP * sum(pooled.values())]
        parts = [[group] for group in names]
        if others := [group for group in ranked if group not in names]:
            parts, names = [*parts, others], [*names, OTHERS]
    there, here = (
        np.array([sum(sample.get(group, 0) for group in part) for part in parts], np.int64) for sample in (reference, counts)
    )  # fmt: skip
    return names, there, here


def _join_neighbours(rows: list[int]) -> list[list[int]]:
    """Return runs of neighbouring places that hold about a tenth of all rows each; a place that holds many stays apart from few."""
    parts: list[list[int]] = []
    enough, held = sum(rows) / MOST_GROUPS, float("inf")
    for place, number in enumerate(rows):
        if held >= enough or (held >= enough / 2 and held + number > 1.5 * enough):
            parts.append([])
            held = 0
        parts[-1].append(place)
        held += number
    if len(parts) > 1 and held < enough / 2:
        last = parts.pop()
        parts[-1] += last
    return parts


def _shares(counts: np.ndarray, added: float = 0.0) -> np.ndarray:
    counts = np.asarray(counts, np.float64) + added
    return counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1e-300)


def _rows(tally: Tally, feature: str) -> int:
    return sum(tally.get(feature, {}).values())


def _length_range(first: int, end: int) -> str:
    last = LENGTH_EDGES[end] - 1 if end < len(LENGTH_EDGES) else None
    start = LENGTH_EDGES[first]
    return f"{start:,} or more" if last is None else f"{start:,}" if start == last else f"{start:,}–{last:,}"


def _unknown_range(first: int, end: int) -> str:
    if end == 1:
        return "none"
    low, high = f"{UNKNOWN_EDGES[first]:.1%}", f"{UNKNOWN_EDGES[min(end, len(UNKNOWN_EDGES) - 1)]:.1%}"
    return f"{low} or more" if end >= len(UNKNOWN_EDGES) - 1 else f"up to {high}" if first <= 1 else f"{low}–{high}"


def _score_range(first: int, end: int) -> str:
    return f"{first / SCORE_BINS:.2f}–{end / SCORE_BINS:.2f}"


def _median_length(tally: Tally) -> str:
    counts = sorted((int(group), rows) for group, rows in tally["length"].items())
    reached = np.cumsum([rows for _, rows in counts])
    group = counts[int(np.searchsorted(reached, reached[-1] / 2))][0]
    return f"median of {_length_range(group, group + 1)} tokens"


def _unknown_share(tally: Tally) -> str:
    return f"{tally['totals']['unknown_tokens'] / max(tally['totals']['tokens'], 1):.2%} of tokens"


def _main_languages(tally: Tally) -> str:
    rows = _rows(tally, "language")
    first, *others = sorted(tally["language"].items(), key=lambda found: (-found[1], found[0]))
    shown = [first, *(found for found in others[:1] if found[1] >= RAREST_GROUP * rows)]
    return ", ".join(f"{number / rows:.1%} {language}" for language, number in shown)


def _unsure_share(tally: Tally) -> str:
    unsure = sum(rows for group, rows in tally["score"].items() if SCORE_BINS // 5 <= int(group) < SCORE_BINS - SCORE_BINS // 5)
    return f"{unsure / _rows(tally, 'score'):.1%} between 0.2 and 0.8"


def _label_shares(tally: Tally) -> str:
    return ", ".join(f"{tally['predicted'].get(name, 0) / _rows(tally, 'predicted'):.1%} {name}" for name in (POSITIVE, UNCERTAIN))


_RANGES: dict[str, Callable[[int, int], str]] = {"length": _length_range, "unknown_words": _unknown_range, "score": _score_range}
_WORDS: dict[str, Callable[[Tally], str]] = {
    "length": _median_length,
    "unknown_words": _unknown_share,
    "language": _main_languages,
    "score": _unsure_share,
    "predicted": _label_shares,
}


def drift_event(drift: Drift, model_id: str) -> dict[str, Any]:
    """Return the payload of the event that tells of drift: counts and measures, nothing of any text."""
    return {
        "model_id": model_id,
        "rows": drift.rows,
        "features": [
            {name: getattr(feature, name) for name in ("name", "here", "reference", "psi", "chance", "shift")} for feature in drift.drifted
        ],
    }
