"""The gate: what a model has to show before it becomes the champion. Every rule is one function: numbers in, a ruling in plain words out.

The rule towards the champion is non-inferiority with a margin: the lower end of the paired interval must not lie further below the
champion than `margin`. Where it lies above 0 the model is called better. The other rules each guard one thing that accuracy hides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from tasks.model.metrics import EvaluationSettings, PairedDifference, paired_bootstrap

CHAMPION, SAMPLE_RULE, FRESH = "champion", "generated sample", "fresh process"
_ADDED = 0.5  # rows added to either side of a paired comparison, so that few rows are not taken for certainty
_CHANCE_SAMPLES = 200


class GateSettings(BaseModel, frozen=True, extra="forbid"):
    """What a model has to reach to become the champion."""

    min_accuracy: float = Field(0.7, ge=0, le=1, description="accuracy on the test rows below which no model is promoted")
    min_f1_macro: float = Field(0.6, ge=0, le=1, description="the same for macro F1, which a rare class cannot hide from")
    max_ece: float = Field(0.05, gt=0, le=1, description="calibration error allowed beyond what so few test rows make by chance")
    lstm_must_learn: bool = Field(True, description="the LSTM alone must surely be better than always guessing the commoner class")
    margin: float = Field(0.005, ge=0, le=1, description="how much worse than the champion the paired interval may allow a model to be")
    min_slice_accuracy: float = Field(0.6, ge=0, le=1, description="a slice that surely lies below this stops a promotion")
    min_slice_rows: int = Field(50, ge=1, description="slices with fewer test rows are not judged")
    max_slowdown: float = Field(5.0, ge=1, description="how many times slower than the champion a model may score")
    speed_rows: int = Field(512, ge=1, description="test reviews on which both models' speed is measured")
    fresh_process: bool = Field(True, description="let a process of its own open the bundle and reproduce its probe scores")


@dataclass(frozen=True)
class Ruling:
    """What one rule found.

    Args:
        rule: The rule's name, for people.
        verdict: passed, failed, or not applied.
        words: The numbers and what they mean, in a sentence without a full stop.
        numbers: The same for machines.
    """

    rule: str
    verdict: Literal["passed", "failed", "not applied"]
    words: str
    numbers: Mapping[str, float | int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """Test rows and what a model says of them; arrays of shape (num_rows,).

    Args:
        y_true: int8, 1 = positive.
        y_score: float, probability of positive.
        slices: The name of each row's slice, by what the rows are sliced by, such as `length`.
    """

    y_true: np.ndarray
    y_score: np.ndarray
    slices: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class Challenge:
    """The champion's side of a comparison: its name, its scores of the same rows, and which rows it has not been trained on."""

    champion_id: str
    y_score: np.ndarray
    unseen: np.ndarray


def not_applied(rule: str, why: str) -> Ruling:
    """Say that a rule was not asked, and why."""
    return Ruling(rule, "not applied", why)


def reach_floor(rule: str, value: float, floor: float, rows: int) -> Ruling:
    """Ask for a score of at least `floor`."""
    words = f"{value:.2%} on {rows:,} test rows, floor {floor:.2%}"
    return Ruling(rule, _verdict(value >= floor), words, {"value": value, "floor": floor, "rows": rows})


def beat_linear_baseline(scored: Scored, linear: np.ndarray, gate: GateSettings, settings: EvaluationSettings) -> Ruling:
    """Ask that a model judge more test rows right than an n-gram model that trains in seconds; what does not is not worth its cost.

    A lead that may be chance passes, and is called so. Where the rows are too few to tell two models apart within the margin, a model
    that is not surely worse passes too: behind by a row of a few hundred would be a coin's verdict. One that answers as the baseline
    does on every row never passes.
    """
    found = paired_bootstrap(scored.y_true, scored.y_score, linear, settings)
    low, high = found["interval"]
    ahead, sure = found["difference"] > 0, not low <= 0 <= high
    too_few = not sure and (high - low) / 2 > gate.margin
    if not found["only_second_right"] and np.all((linear > settings.threshold) == scored.y_true):
        passes, words = True, "both judge every test row right"
    elif not found["only_first_right"] + found["only_second_right"]:
        passes = False
        words = f"it judges all {found['rows']:,} test rows as the linear baseline does: the network adds nothing to n-grams"
    elif ahead:
        passes, words = True, f"{_points(found, settings)} against the linear baseline{'' if sure else ', which may be chance'}"
    elif too_few:
        passes, within = True, f"{100 * gate.margin:g} points"
        words = f"{_points(found, settings)} against the linear baseline: too few rows to tell which is better within {within}"
    else:
        meaning = "do better" if sure else "do as well or better"
        passes = False
        words = f"n-grams under a linear model, trained in seconds, {meaning}: {_points(found, settings)} against them"
    return Ruling("linear baseline", _verdict(passes), words, _numbers(found))


def learn_something(rule: str, scored: Scored, settings: EvaluationSettings) -> Ruling:
    """Ask of one part alone, such as the LSTM, that it be surely better than always guessing the commoner class."""
    commoner = np.full(len(scored.y_true), float(np.mean(scored.y_true) > 0.5))
    found = paired_bootstrap(scored.y_true, scored.y_score, commoner, settings, added=_ADDED)
    accuracy = float(np.mean((scored.y_score > settings.threshold) == scored.y_true))
    words = f"alone it is right on {accuracy:.2%}, always guessing the commoner class on {accuracy - found['difference']:.2%}"
    sure = found["interval"][0] > 0
    return Ruling(rule, _verdict(sure), words + ("" if sure else ": no better than chance"), _numbers(found))


def match_champion(
    scored: Scored, challenge: Challenge, gate: GateSettings, settings: EvaluationSettings
) -> tuple[Ruling, PairedDifference | None]:
    """Ask that a model be surely not worse than the champion by more than the margin, on the rows that neither was trained on.

    It is called better where the whole interval lies above 0: of equally good models at most one in twenty is.

    Source: Efron & Tibshirani (1993), ch. 13 for the interval; Agresti & Min (2005) for the half rows added.
    """
    fair = challenge.unseen
    num_seen = int((~fair).sum())
    left_out = f"; {num_seen:,} rows that the champion was trained on were left out" if num_seen else ""
    if not fair.any():
        words = f"the champion {challenge.champion_id} was trained on every test row, so no fair comparison is left"
        return Ruling(CHAMPION, "failed", words, {"rows": 0, "rows_seen": num_seen}), None
    found = paired_bootstrap(scored.y_true[fair], scored.y_score[fair], challenge.y_score[fair], settings, added=_ADDED)
    low, high = found["interval"]
    passes = low >= -gate.margin
    if low > 0:
        meaning = "better"
    elif passes:
        meaning = f"not worse: it may lose {gate.margin * 100:.3g} points at most"
    elif high < 0:
        meaning = "worse"
    else:
        meaning = f"too few rows to rule out that it loses more than {gate.margin * 100:.3g} points{_rows_needed(found, gate.margin)}"
    words = f"{_points(found, settings)} against the champion {challenge.champion_id}, {meaning}{left_out}"
    return Ruling(CHAMPION, _verdict(passes), words, {**_numbers(found), "margin": gate.margin, "rows_seen": num_seen}), found


def rank_sample(champion_id: str, sample: bool) -> Ruling:
    """Ask that a model of generated reviews never take the place of one of real reviews; the other way round is always right."""
    if sample:
        return Ruling(SAMPLE_RULE, "failed", f"it was trained on the generated sample, the champion {champion_id} on real reviews")
    return Ruling(SAMPLE_RULE, "passed", f"the champion {champion_id} was trained on the generated sample, this model was not")


def hold_golden(
    scored: Scored, challenge: Challenge | None, gate: GateSettings, settings: EvaluationSettings, *, same_set: bool | None
) -> Ruling:
    """Ask that a model reach the accuracy floor on the golden test set, and not be surely worse there than the champion.

    A golden set is small, so it cannot show that a model is not worse; what it can show is that it is.

    Args:
        scored: The golden reviews and the model's scores.
        challenge: The champion's, if there is one to compare with.
        gate: The floor.
        settings: Threshold, resampling.
        same_set: Whether the champion was evaluated on the very same set when it was made; None where that is not known.
    """
    rows = len(scored.y_true)
    accuracy = float(np.mean((scored.y_score > settings.threshold) == scored.y_true))
    words = f"{accuracy:.2%} of {rows:,} golden reviews, floor {gate.min_accuracy:.2%}"
    numbers: dict[str, float | int | None] = {"accuracy": accuracy, "rows": rows}
    passes = accuracy >= gate.min_accuracy
    if challenge and challenge.unseen.any():
        fair = challenge.unseen
        found = paired_bootstrap(scored.y_true[fair], scored.y_score[fair], challenge.y_score[fair], settings)
        worse = found["difference"] < 0 and found["p_value"] < 1 - settings.confidence
        passes = passes and not worse
        words += f"; {_points(found, settings)} against the champion {challenge.champion_id}{', surely worse' if worse else ''}"
        numbers |= _numbers(found)
    if same_set is False:
        words += "; the set is not the one that the champion was evaluated on when it was made"
    return Ruling("golden test set", _verdict(passes), words, numbers)


def not_slide(found: PairedDifference, since_better: float, gate: GateSettings) -> Ruling:
    """Ask that promotions that were not improvements do not add up to a loss beyond the margin, each of them within it.

    Args:
        found: This model minus the champion.
        since_better: What the champions since the last sure improvement have lost (below 0) or won already.
        gate: The margin.
    """
    total = since_better + found["difference"]
    better = found["interval"][0] > 0
    words = f"{_signed(total)} points of accuracy since the last sure improvement, down to {_signed(-gate.margin)} is allowed"
    if better:
        words = "this is a sure improvement, so nothing has been lost step by step"
    return Ruling("slow decline", _verdict(better or total >= -gate.margin), words, {"total": total, "margin": gate.margin})


def hold_slices(scored: Scored, challenge: Challenge | None, gate: GateSettings, settings: EvaluationSettings) -> Ruling:
    """Ask that no kind of review (by length, by source) is surely below the floor, or surely worse than with the champion.

    With many slices one of them looks bad by chance: the level of each is divided by their number (Bonferroni).
    """
    from scipy.stats import binomtest

    judged, bad = 0, []
    parts = [(by, name, labels == name) for by, labels in scored.slices.items() for name in np.unique(labels).tolist()]
    parts = [part for part in parts if int(part[2].sum()) >= gate.min_slice_rows]
    level = (1 - settings.confidence) / max(len(parts) * (2 if challenge else 1), 1)
    for by, name, rows in parts:
        judged += 1
        right = (scored.y_score[rows] > settings.threshold) == scored.y_true[rows]
        below = binomtest(int(right.sum()), right.size, gate.min_slice_accuracy, alternative="less").pvalue
        if gate.min_slice_accuracy and below < level:
            bad.append(f"{by} {name} is right on {right.mean():.2%} of {right.size:,} rows, floor {gate.min_slice_accuracy:.2%}")
        fair = rows & challenge.unseen if challenge else rows
        if challenge and fair.any():
            found = paired_bootstrap(scored.y_true[fair], scored.y_score[fair], challenge.y_score[fair], settings)
            if found["difference"] < 0 and found["p_value"] < level:
                bad.append(f"{by} {name} loses {-found['difference'] * 100:.2f} points on {found['rows']:,} rows against the champion")
    if not judged:
        return not_applied("slices", f"no slice has {gate.min_slice_rows:,} test rows")
    than = "the floor, none worse than with the champion" if challenge else "the floor"
    words = "; ".join(bad) if bad else f"none of {judged} slices by {' and '.join(scored.slices)} is surely below {than}"
    return Ruling("slices", _verdict(not bad), words, {"slices": judged, "failed": len(bad)})


def stay_calibrated(ece: float, y_score: np.ndarray, gate: GateSettings, settings: EvaluationSettings) -> Ruling:
    """Ask that probabilities mean what they say: a calibration error of at most the ceiling, beyond what so few rows make by chance."""
    chance = ece_by_chance(y_score, settings)
    words = f"calibration error {ece:.4f}; {len(y_score):,} rows make {chance:.4f} of it by chance, {gate.max_ece:.4f} more is allowed"
    return Ruling("calibration", _verdict(ece <= chance + gate.max_ece), words, {"ece": ece, "ceiling": gate.max_ece, "by_chance": chance})


def ece_by_chance(y_score: np.ndarray, settings: EvaluationSettings) -> float:
    """Return the calibration error that a perfectly calibrated model with these scores shows on average over draws of its labels."""
    rng = np.random.default_rng(settings.seed)
    score = np.asarray(y_score, np.float64)
    bins = np.minimum((score * settings.ece_bins).astype(np.int64), settings.ece_bins - 1)
    errors = []
    for _ in range(_CHANCE_SAMPLES):
        gaps = score - (rng.random(score.size) < score)
        errors.append(np.abs(np.bincount(bins, gaps)).sum() / score.size)
    return float(np.mean(errors))


def keep_pace(speed: float, champion_speed: float, gate: GateSettings) -> Ruling:
    """Ask that scoring be not much slower than with the champion; both were measured in this run, on the same reviews."""
    ratio = champion_speed / speed
    words = f"{speed:,.0f} reviews a second, the champion {champion_speed:,.0f}; at most {gate.max_slowdown:.3g} times slower is allowed"
    numbers = {"reviews_a_second": round(speed, 1), "champion_reviews_a_second": round(champion_speed, 1)}
    return Ruling("speed", _verdict(ratio <= gate.max_slowdown), words, numbers)


def reproduce_probes(problem: str | None, worst: float | None, num_probes: int) -> Ruling:
    """Ask that another process open the bundle and give its probe texts the scores they had after training."""
    if problem is not None:
        return Ruling(FRESH, "failed", problem)
    words = f"another process opened the bundle and gave its {num_probes} probe texts the same scores (off by up to {worst:.1g})"
    return Ruling(FRESH, "passed", words, {"worst": worst, "probes": num_probes})


def failed(rulings: Sequence[Ruling]) -> list[Ruling]:
    """Return the rulings that stand in the way."""
    return [ruling for ruling in rulings if ruling.verdict == "failed"]


def refusal(rulings: Sequence[Ruling]) -> str:
    """Return why a model is refused: the weightiest failure in its own words, the others by their names."""
    weight = (SAMPLE_RULE, CHAMPION, FRESH)
    first, *others = sorted(failed(rulings), key=lambda ruling: weight.index(ruling.rule) if ruling.rule in weight else len(weight))
    also = f"; also failed: {', '.join(ruling.rule for ruling in others)}" if others else ""
    return f"{first.rule}: {first.words}{also}"


def _verdict(passes: bool) -> Literal["passed", "failed"]:
    return "passed" if passes else "failed"


def _points(found: PairedDifference, settings: EvaluationSettings) -> str:
    low, high = found["interval"]
    return (
        f"{_signed(found['difference'])} points of accuracy on {found['rows']:,} test rows "
        f"({settings.confidence * 100:.4g} % interval {_signed(low)} to {_signed(high)})"
    )


def _signed(share: float) -> str:
    return f"{share * 100:+.2f}".replace("-", "−")


def _rows_needed(found: PairedDifference, margin: float) -> str:
    """Say how many test rows would bring the interval of an equally good model within the margin."""
    if not margin:
        return ""
    needed = found["rows"] * ((found["difference"] - found["interval"][0]) / margin) ** 2
    return f" (for a model as good as the champion, about {float(f'{needed:.1g}'):,.0f} rows would do)"


def _numbers(found: PairedDifference) -> dict[str, float | int | None]:
    low, high = found["interval"]
    return {
        "difference": found["difference"],
        "low": low,
        "high": high,
        "p_value": found["p_value"],
        "rows": found["rows"],
        "only_this_right": found["only_first_right"],
        "only_other_right": found["only_second_right"],
    }
