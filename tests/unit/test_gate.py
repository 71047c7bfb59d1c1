import numpy as np
import pytest

from tasks.model import gate
from tasks.model.gate import Challenge, GateSettings, Ruling, Scored, match_champion
from tasks.model.metrics import EvaluationSettings, paired_bootstrap

GATE, RULES = GateSettings(), EvaluationSettings()
PAIRS = 200


def pair(rows: int, gain: float, disagreement: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw labels and two models' scores; in truth the first is `gain` better, and on `disagreement` of rows one alone is right."""
    rng = np.random.default_rng(seed)
    first_only, second_only = (disagreement + gain) / 2, (disagreement - gain) / 2
    kind = np.repeat(range(4), rng.multinomial(rows, [first_only, second_only, 0.92 - first_only, 0.08 - second_only]))
    y_true = (np.arange(rows) % 2).astype(np.int8)

    def scores(right: np.ndarray) -> np.ndarray:
        return np.where(right, y_true, 1 - y_true) * 0.8 + 0.1

    return y_true, scores(np.isin(kind, (0, 2))), scores(np.isin(kind, (1, 2)))


def against_champion(rows: int, gain: float, disagreement: float, seed: int, settings: GateSettings = GATE) -> tuple[Ruling, bool]:
    """Return the ruling, and whether the model was called better."""
    y_true, first, second = pair(rows, gain, disagreement, seed)
    ruling, found = match_champion(Scored(y_true, first), Challenge("m-old", second, np.ones(rows, bool)), settings, RULES)
    assert found is not None
    return ruling, found["interval"][0] > 0


def share(hits: list[bool]) -> float:
    """Return the share that is true."""
    return sum(hits) / len(hits)


@pytest.mark.parametrize(("rows", "disagreement"), [(10_000, 0.05), (10_000, 0.08), (400, 0.05), (100, 0.08)])
def test_equal_models_are_seldom_called_better(rows: int, disagreement: float) -> None:
    """Of 200 pairs of equally good models at most 5 % are promoted as better, with many test rows and with few."""
    assert share([against_champion(rows, 0.0, disagreement, seed)[1] for seed in range(PAIRS)]) <= 0.05


@pytest.mark.parametrize("disagreement", [0.04, 0.08])
def test_a_true_point_is_recognised(disagreement: float) -> None:
    """A model that is truly one point better is promoted as better in at least 90 % of 200 draws of 10,000 rows."""
    assert share([against_champion(10_000, 0.01, disagreement, seed)[1] for seed in range(PAIRS)]) >= 0.9


def test_what_lies_beyond_the_margin_is_refused() -> None:
    """A model that is worse by just the margin passes in at most 5 % of 200 draws, one that is a point worse never."""
    at_margin = [against_champion(10_000, -GATE.margin, 0.05, seed)[0].verdict == "passed" for seed in range(PAIRS)]
    a_point = [against_champion(10_000, -0.01, 0.05, seed)[0].verdict == "passed" for seed in range(PAIRS)]
    assert share(at_margin) <= 0.05
    assert share(a_point) == 0


def test_equal_models_pass_where_the_rows_can_tell() -> None:
    """With rows enough for the margin, a model as good as the champion is promoted as not worse: fresher data may replace older."""
    assert share([against_champion(40_000, 0.0, 0.05, seed)[0].verdict == "passed" for seed in range(40)]) >= 0.95


def test_a_handful_of_rows_is_no_certainty() -> None:
    """Two models that agree on all of 80 rows are not thereby known to be equal: too few rows, and how many would do."""
    y_true = np.array([0, 1] * 40, np.int8)
    ruling, _ = match_champion(Scored(y_true, y_true), Challenge("m-old", y_true, np.ones(80, bool)), GATE, RULES)
    assert ruling.verdict == "failed"
    assert "too few rows to rule out that it loses more than 0.5 points" in ruling.words
    assert "rows would do" in ruling.words


def test_words_of_a_comparison() -> None:
    """Better, worse and what was left out are said, each with rows and interval."""
    better, worse = against_champion(10_000, 0.02, 0.05, 1)[0], against_champion(10_000, -0.02, 0.05, 1)[0]
    assert "better" in better.words and "on 10,000 test rows (95 % interval +" in better.words
    assert worse.words.endswith("against the champion m-old, worse")
    y_true, first, second = pair(500, 0.0, 0.05, 2)
    unseen = np.arange(500) >= 20
    ruling, found = match_champion(Scored(y_true, first), Challenge("m-old", second, unseen), GATE, RULES)
    assert found and found["rows"] == 480 == ruling.numbers["rows"]
    assert "20 rows that the champion was trained on were left out" in ruling.words
    none, nothing = match_champion(Scored(y_true, first), Challenge("m-old", second, np.zeros(500, bool)), GATE, RULES)
    assert (none.verdict, nothing) == ("failed", None)
    assert "no fair comparison" in none.words


def test_small_losses_do_not_add_up_unseen() -> None:
    """A chain of models each within the margin of the last cannot end further below the first than the margin, but for one sure gain."""
    y_true, first, second = pair(200_000, -0.002, 0.02, 3)
    loss = paired_bootstrap(y_true, first, second, RULES)
    total, promoted = 0.0, 0
    while gate.not_slide(loss, total, GATE).verdict == "passed":
        total, promoted = total + loss["difference"], promoted + 1
    assert promoted == 2 and total >= -GATE.margin
    gain = paired_bootstrap(y_true, second, first, RULES)
    assert gate.not_slide(gain, total, GATE).verdict == "passed"


def test_floors() -> None:
    """A score at the floor passes, one below it fails; both numbers are said."""
    assert gate.reach_floor("accuracy", 0.7, 0.7, 50).verdict == "passed"
    low = gate.reach_floor("accuracy", 0.6999, 0.7, 1500)
    assert (low.verdict, low.words) == ("failed", "69.99% on 1,500 test rows, floor 70.00%")


def against_linear(y_true: np.ndarray, score: np.ndarray, linear: np.ndarray) -> Ruling:
    """Return the ruling on a model beside the linear baseline."""
    return gate.beat_linear_baseline(Scored(y_true, score), linear, GATE, RULES)


def test_the_linear_baseline_has_to_be_beaten() -> None:
    """Ahead passes, and says where it may be chance; behind and the very same answers fail; two models without an error pass."""
    y_true, good, bad = pair(10_000, 0.02, 0.05, 4)
    ahead, behind = against_linear(y_true, good, bad), against_linear(y_true, bad, good)
    assert ahead.verdict == "passed" and "chance" not in ahead.words
    assert behind.verdict == "failed" and "do better: −" in behind.words
    same = against_linear(y_true, good, good)
    assert same.verdict == "failed" and "the network adds nothing to n-grams" in same.words
    row = np.flatnonzero((good > 0.5) != y_true)[0]
    mended = good.copy()
    mended[row] = y_true[row]
    chance, level = against_linear(y_true, mended, good), against_linear(y_true, good, mended)
    assert chance.verdict == "passed" and "which may be chance" in chance.words
    assert level.verdict == "failed" and "do as well or better" in level.words
    assert against_linear(y_true, y_true, y_true).verdict == "passed"


def test_few_rows_do_not_decide_against_the_linear_baseline() -> None:
    """Behind by a row or two of a few hundred passes, and is said to tell nothing; surely behind fails on few rows too."""
    y_true = np.array([0, 1] * 300, np.int8)
    first, second = y_true.copy(), y_true.copy()
    first[:12], second[12:22] = 1 - first[:12], 1 - second[12:22]  # 12 errors of the model's own, 10 of the baseline's
    level = against_linear(y_true, first, second)
    assert level.verdict == "passed" and "too few rows to tell which is better" in level.words
    y_true, good, bad = pair(600, 0.06, 0.08, 13)
    assert against_linear(y_true, bad, good).verdict == "failed"


def test_a_network_near_chance_is_named() -> None:
    """An LSTM that guesses is told from one that has learnt a little, also where one class is rare."""
    rng = np.random.default_rng(5)
    y_true = (rng.random(800) < 0.8).astype(np.int8)
    guessing = gate.learn_something("LSTM alone", Scored(y_true, rng.random(800)), RULES)
    learnt = gate.learn_something("LSTM alone", Scored(y_true, np.where(rng.random(800) < 0.95, y_true, 1 - y_true)), RULES)
    assert guessing.verdict == "failed" and guessing.words.endswith("no better than chance")
    assert "commoner class on 80." in guessing.words or "commoner class on 79." in guessing.words
    assert learnt.verdict == "passed"


def sliced(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return a pair of equally good models and three slices by length, two by source."""
    y_true, first, second = pair(rows, 0.0, 0.06, seed)
    rng = np.random.default_rng(seed)
    slices = {"length": np.array(["short", "middling", "long"])[rng.integers(0, 3, rows)], "source": rng.choice(["a.csv", "b.csv"], rows)}
    return y_true, first, second, slices


def test_equal_models_seldom_fail_by_a_slice() -> None:
    """Of 200 pairs of equally good models at most 5 % are refused for a slice: the level is divided by the number of slices."""
    verdicts = []
    for seed in range(PAIRS):
        y_true, first, second, slices = sliced(2000, seed)
        challenge = Challenge("m-old", second, np.ones(2000, bool))
        verdicts.append(gate.hold_slices(Scored(y_true, first, slices), challenge, GATE, RULES).verdict == "failed")
    assert share(verdicts) <= 0.05


def test_a_slice_that_suffers_is_named() -> None:
    """A model that is as good overall but fails long reviews is refused by that slice's name; small slices are not judged."""
    y_true, first, second, slices = sliced(3000, 6)
    long = slices["length"] == "long"
    worse = np.where(long & (np.random.default_rng(7).random(3000) < 0.1), 1 - y_true, first)
    challenge = Challenge("m-old", second, np.ones(3000, bool))
    ruling = gate.hold_slices(Scored(y_true, worse, slices), challenge, GATE, RULES)
    assert ruling.verdict == "failed" and "length long loses" in ruling.words and "middling" not in ruling.words
    below = gate.hold_slices(Scored(y_true, np.where(long, 1 - y_true, first), slices), None, GATE, RULES)
    assert below.verdict == "failed" and "floor 60.00%" in below.words
    few = gate.hold_slices(Scored(y_true[:40], first[:40], {"length": slices["length"][:40]}), None, GATE, RULES)
    assert few.verdict == "not applied"


def test_calibration_allows_for_few_rows() -> None:
    """Probabilities that mean what they say pass with 60 rows and with 20,000; overconfident ones fail, with error and ceiling."""
    rng = np.random.default_rng(8)
    for rows in (60, 20_000):
        score = rng.random(rows)
        y_true = (rng.random(rows) < score).astype(np.int8)
        bins = np.minimum((score * RULES.ece_bins).astype(int), RULES.ece_bins - 1)
        ece = sum(abs((score - y_true)[bins == b].sum()) for b in range(RULES.ece_bins)) / rows
        assert gate.stay_calibrated(ece, score, GATE, RULES).verdict == "passed"
    sure = np.full(20_000, 0.99)
    ruling = gate.stay_calibrated(0.19, sure, GATE, RULES)
    assert ruling.verdict == "failed" and "0.1900" in ruling.words and "0.0500 more is allowed" in ruling.words
    assert gate.ece_by_chance(np.full(60, 0.5), RULES) > gate.ece_by_chance(np.full(20_000, 0.5), RULES)


def test_a_sample_model_never_takes_a_real_ones_place() -> None:
    """Generated against real fails, real against generated passes, each by name."""
    assert gate.rank_sample("m-old", sample=True).verdict == "failed"
    assert gate.rank_sample("m-old", sample=False).verdict == "passed"


def test_speed_is_measured_against_the_champions() -> None:
    """Up to the allowed factor slower passes; beyond it fails, with both speeds."""
    assert gate.keep_pace(1000, 4900, GATE).verdict == "passed"
    slow = gate.keep_pace(1000, 5100, GATE)
    assert (slow.verdict, slow.words.split(";")[0]) == ("failed", "1,000 reviews a second, the champion 5,100")


def test_a_refusal_names_the_weightiest_failure_and_the_others() -> None:
    """What the champion did comes first, in words; the rest by name."""
    rulings = [Ruling("accuracy", "failed", "low"), Ruling("speed", "passed", "fast"), Ruling(gate.CHAMPION, "failed", "worse")]
    assert gate.refusal(rulings) == "champion: worse; also failed: accuracy"
