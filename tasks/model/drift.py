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

from tasks.model.decision import POSITIVE
from tasks.model.profile import LENGTH_EDGES, SCORE_BINS, UNKNOWN_EDGES, Tally

FALSE_ALARMS = 0.002  # of all comparisons of rows of the same source, over all features together
SMALLEST_SHIFT = 0.02  # PSI beyond chance that is worth an alarm; a million rows make the smallest difference certain
FEWEST_ROWS = 30
MOST_GROUPS = 10
RAREST_GROUP = 0.002  # a language of fewer rows than this counts among the others
SEEN_SHARE = 0.05  # of rows that the model was trained on; with more, its scores say nothing about drift
OTHERS = "others"

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
        measure: What `here` and `reference` say, such as "median length".
        here, reference: The scored rows and the held-out rows of training, in words.
        rows: Scored rows that have the feature.
        psi: Population stability index of the groups.
        chance: How far PSI gets by chance alone, see `chance_limit`.
        shift: PSI less what chance makes of it on average.
        verdict: What follows.
        groups: In their order; of kinds without an order, the most frequent first.
    """

    name: str
    measure: str
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
    measure, measured = _MEASURES[name]
    said = (measured(tally) if rows else "–", measured(reference) if there.sum() else "–")
    groups = tuple(map(Group, names, _shares(there).tolist(), _shares(here).tolist()))
    if min(rows, int(there.sum())) < FEWEST_ROWS:
        return FeatureDrift(name, measure, *said, rows, 0.0, 0.0, 0.0, "too few rows", groups)
    psi = float(stability_index(there, here))
    usual, chance = chance_limit(int(there.sum()), rows, len(groups))
    shift = psi - usual
    verdict: Verdict = "as in training"
    if name in _OF_THE_MODEL and seen_share > SEEN_SHARE:
        verdict = "not compared"
    elif psi > chance:
        verdict = "drifted" if shift >= SMALLEST_SHIFT else "slightly different"
    return FeatureDrift(name, measure, *said, rows, psi, chance, shift, verdict, groups)


def _grouped(name: str, reference: dict[str, int], counts: dict[str, int]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Join groups until each is frequent enough, looking only at both samples together, so that chance stays what it is."""
    if name in _BORDERS:
        keys = sorted({*reference, *counts}, key=int)
        joined = _join_neighbours([reference.get(key, 0) + counts.get(key, 0) for key in keys])
        parts = [[keys[place] for place in part] for part in joined]
        names = [_BORDERS[name](int(part[0]), int(part[-1]) + 1) for part in parts]
    else:
        pooled = {key: reference.get(key, 0) + counts.get(key, 0) for key in {*reference, *counts}}
        ranked = sorted(pooled, key=lambda key: (-pooled[key], key))
        kept = [key for key in ranked[: MOST_GROUPS - 1] if pooled[key] >= RAREST_GROUP * sum(pooled.values())]
        others = [key for key in ranked if key not in kept]
        parts, names = [[key] for key in kept], list(kept)
        if others:
            parts, names = [*parts, others], [*names, OTHERS]
    there, here = (
        np.array([sum(sample.get(key, 0) for key in part) for part in parts], np.int64) for sample in (reference, counts)
    )  # fmt: skip
    return names, there, here


def _join_neighbours(rows: list[int]) -> list[list[int]]:
    """Return runs of neighbouring places that hold at least a tenth of all rows each."""
    parts: list[list[int]] = []
    enough, held = sum(rows) / MOST_GROUPS, float("inf")
    for place, number in enumerate(rows):
        if held >= enough:
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
    low, high = (f"{UNKNOWN_EDGES[place]:.2g}" for place in (first, min(end, len(UNKNOWN_EDGES) - 1)))
    return "none" if end == 1 else f"up to {float(high):.1%}" if first <= 1 else f"{float(low):.1%}–{float(high):.1%}"


def _score_range(first: int, end: int) -> str:
    return f"{first / SCORE_BINS:.2f}–{end / SCORE_BINS:.2f}"


def _median_length(tally: Tally) -> str:
    counts = sorted((int(group), rows) for group, rows in tally["length"].items())
    reached = np.cumsum([rows for _, rows in counts])
    group = counts[int(np.searchsorted(reached, reached[-1] / 2))][0]
    return f"{_length_range(group, group + 1)} tokens"


def _unknown_share(tally: Tally) -> str:
    return f"{tally['totals']['unknown_tokens'] / max(tally['totals']['tokens'], 1):.2%}"


def _main_language(tally: Tally) -> str:
    language, rows = max(tally["language"].items(), key=lambda found: (found[1], found[0]))
    return f"{rows / _rows(tally, 'language'):.1%} {language}"


def _unsure_share(tally: Tally) -> str:
    unsure = sum(rows for group, rows in tally["score"].items() if SCORE_BINS // 5 <= int(group) < SCORE_BINS - SCORE_BINS // 5)
    return f"{unsure / _rows(tally, 'score'):.1%}"


def _positive_share(tally: Tally) -> str:
    return f"{tally['predicted'].get(POSITIVE, 0) / _rows(tally, 'predicted'):.1%}"


_BORDERS: dict[str, Callable[[int, int], str]] = {"length": _length_range, "unknown_words": _unknown_range, "score": _score_range}
_MEASURES: dict[str, tuple[str, Callable[[Tally], str]]] = {
    "length": ("median length", _median_length),
    "unknown_words": ("tokens that the vocabulary lacks", _unknown_share),
    "language": ("commonest language", _main_language),
    "score": ("probabilities between 0.2 and 0.8", _unsure_share),
    "predicted": ("predicted positive", _positive_share),
}


def drift_event(drift: Drift, model_id: str) -> dict[str, Any]:
    """Return the payload of the event that tells of drift: counts and measures, nothing of any text."""
    return {
        "model_id": model_id,
        "rows": drift.rows,
        "features": [
            {name: getattr(feature, name) for name in ("name", "measure", "here", "reference", "psi", "chance", "shift")}
            for feature in drift.drifted
        ],
    }
