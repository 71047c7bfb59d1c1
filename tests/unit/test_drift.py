import dataclasses
import json
from itertools import pairwise

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from summary_example import draw_tally

from tasks.model import drift
from tasks.model.drift import FEATURES, Drift, chance_limit, compare_tallies, drift_event, stability_index
from tasks.model.profile import LENGTH_EDGES


def verdicts(found: Drift) -> dict[str, str]:
    """Return the verdict on each feature."""
    return {feature.name: feature.verdict for feature in found.features}


REFERENCE = draw_tally(4000, 0)


def test_the_index_is_the_textbooks() -> None:
    """With many rows the index is sum((p - q) ln(p / q)); for small shifts that is eight times the Jensen-Shannon divergence."""
    reference, counts = np.array([400_000, 350_000, 250_000]), np.array([380_000, 350_000, 270_000])
    p, q = reference / reference.sum(), counts / counts.sum()
    found = stability_index(reference, counts)
    assert found == pytest.approx(np.sum((q - p) * np.log(q / p)), rel=1e-4)
    assert found == pytest.approx(8 * jensenshannon(p, q) ** 2, rel=1e-2)
    assert stability_index(reference, reference) == 0
    assert np.isfinite(stability_index(np.array([0, 10]), np.array([10, 0])))


@pytest.mark.parametrize("shares", [[0.1] * 10, [0.43, 0.14, 0.43], [0.95, 0.03, 0.02], [0.995, 0.005], [0.9995, 0.0005]], ids=str)
@pytest.mark.parametrize(("reference_rows", "rows"), [(400, 60), (1600, 200), (1600, 5000), (5000, 100_000)])
def test_chance_seldom_passes_its_limit(shares: list[float], reference_rows: int, rows: int) -> None:
    """Samples drawn from one source keep to the law: the mean where groups are not rare, and never more false alarms than promised."""
    random = np.random.default_rng(0)
    drawn = stability_index(random.multinomial(reference_rows, shares, 50_000), random.multinomial(rows, shares, 50_000))
    mean, limit = chance_limit(reference_rows, rows, len(shares))
    assert np.mean(drawn > limit) <= 3 * drift.FALSE_ALARMS / len(FEATURES)
    if min(shares) * min(reference_rows, rows) >= 20:
        assert drawn.mean() == pytest.approx(mean, rel=0.1)
        assert np.quantile(drawn, 1 - drift.FALSE_ALARMS / len(FEATURES)) == pytest.approx(limit, rel=0.15)


def test_rows_of_the_same_source_have_not_drifted() -> None:
    """Other rows of the same source are as in training, be they many more or far fewer."""
    for rows in (40, 400, 4_000, 40_000):
        found = compare_tallies(REFERENCE, draw_tally(rows, rows))
        assert found.verdict == "as in training", (rows, verdicts(found))
        assert found.drifted == ()
        assert (found.rows, found.reference_rows) == (rows, 4000)


@pytest.mark.parametrize(
    ("changes", "drifted"),
    [
        ({"german": 0.2}, {"language", "unknown_words", "score", "predicted"}),
        ({"length": 60}, {"length"}),
        ({"unknown": 0.03}, {"unknown_words"}),
        ({"positive": 0.7}, {"score", "predicted"}),
    ],
    ids=lambda value: min(value),
)
def test_what_has_changed_is_named(changes: dict[str, float], drifted: set[str]) -> None:
    """At 5,000 rows each change is found in the features it concerns, and in no other."""
    found = compare_tallies(REFERENCE, draw_tally(5000, 1, **changes))
    assert {feature.name for feature in found.drifted} == drifted
    unsaid = {name for name, verdict in verdicts(found).items() if verdict == "as in training"}
    assert set(FEATURES) - drifted - unsaid <= {"unknown_words"}  # of shorter reviews more have none, which is a slight difference
    assert found.verdict == "drifted"
    shifts = [feature.shift for feature in found.drifted]
    assert shifts == sorted(shifts, reverse=True)


def test_a_certain_but_small_change_is_no_alarm() -> None:
    """With very many rows the smallest difference is beyond chance: it is said, not called drift."""
    found = compare_tallies(draw_tally(200_000, 0), draw_tally(200_000, 1, length=103))
    assert verdicts(found)["length"] == "slightly different"
    assert found.verdict == "slightly different"
    assert found.drifted == ()


def test_new_names_are_no_drift() -> None:
    """Reviews of other products hold somewhat more unknown words: that is said, and is drift only where it is much."""
    few, many = (compare_tallies(REFERENCE, draw_tally(5000, 1, unknown=unknown)) for unknown in (0.013, 0.03))
    assert verdicts(few)["unknown_words"] == few.verdict == "slightly different"
    assert [feature.name for feature in many.drifted] == ["unknown_words"]


def test_few_rows_are_too_few() -> None:
    """Below thirty rows nothing is claimed, whatever they are; nor without any."""
    assert set(verdicts(compare_tallies(REFERENCE, draw_tally(29, 1, german=1.0))).values()) == {"too few rows"}
    empty = compare_tallies(REFERENCE, {})
    assert (empty.verdict, empty.rows, empty.features[0].here) == ("too few rows", 0, "–")


def test_rows_that_were_trained_on_are_not_compared() -> None:
    """Where the model knows the rows its scores tell nothing; length and language are still compared."""
    found = compare_tallies(REFERENCE, draw_tally(5000, 1, unknown=0.0), seen_share=0.8)
    assert verdicts(found) == dict.fromkeys(FEATURES, "as in training") | dict.fromkeys(
        ("unknown_words", "score", "predicted"), "not compared"
    )
    assert found.verdict == "as in training"
    mixed = compare_tallies(REFERENCE, draw_tally(5000, 1, german=0.2), seen_share=0.8)
    assert [feature.name for feature in mixed.drifted] == ["language"]


def test_measures_are_said_in_words() -> None:
    """Each feature says what it found, here and in training, and its groups add up to all rows."""
    found = compare_tallies(REFERENCE, draw_tally(5000, 1, german=0.2))
    said = {feature.name: (feature.reference, feature.here) for feature in found.features}
    assert said["language"] == ("100.0% English", "79.8% English, 20.2% German")
    assert said["length"] == ("median of 91–107 tokens", "median of 91–107 tokens")
    assert said["unknown_words"][0].startswith("1.0") and 10 < float(said["unknown_words"][1].removesuffix("% of tokens")) < 15
    assert said["score"][1].endswith("% between 0.2 and 0.8")
    assert said["predicted"][0].endswith("% uncertain")
    for feature in found.features:
        assert feature.rows == 5000
        assert sum(group.share for group in feature.groups) == pytest.approx(1)
        assert sum(group.reference for group in feature.groups) == pytest.approx(1)
        assert len({group.name for group in feature.groups}) == len(feature.groups) <= 2 * drift.MOST_GROUPS
    language = next(feature for feature in found.features if feature.name == "language")
    assert [group.name for group in language.groups] == ["English", "German"]


def test_groups_cover_what_they_say() -> None:
    """The groups of lengths leave no gap and overlap nowhere, and none is rarer than chance can judge."""
    length = next(feature for feature in compare_tallies(REFERENCE, draw_tally(5000, 1)).features if feature.name == "length")
    ends = [[int(part.replace(",", "")) for part in group.name.removesuffix(" or more").split("–")] for group in length.groups]
    assert all(after[0] == before[-1] + 1 for before, after in pairwise(ends))
    assert ends[0][0] in LENGTH_EDGES
    assert min(group.share + group.reference for group in length.groups) > 0.08


def test_rare_languages_are_one_group() -> None:
    """A hundred stray guesses of many languages neither alarm nor fill the table."""
    reference = REFERENCE | {"language": {"English": 3990, "German": 5, "Dutch": 3, "unclear": 2}}
    strays = REFERENCE | {"language": {"English": 3992, "French": 4, "unclear": 4}}
    language = next(feature for feature in compare_tallies(reference, strays).features if feature.name == "language")
    assert [group.name for group in language.groups] == ["English", "others"]
    assert language.verdict == "as in training"


def test_the_same_tallies_give_the_same_answer() -> None:
    """Nothing depends on the hour or on an earlier comparison: a resumed run reports what an unbroken one does."""
    tally = draw_tally(700, 3, german=0.1)
    shuffled = {feature: dict(reversed(counts.items())) for feature, counts in reversed(tally.items())}
    assert compare_tallies(REFERENCE, tally) == compare_tallies(REFERENCE, shuffled)


def test_the_event_is_plain_data() -> None:
    """The event's payload goes through JSON and names the drifted features with their measures."""
    found = compare_tallies(REFERENCE, draw_tally(5000, 1, unknown=0.03))
    payload = json.loads(json.dumps(drift_event(found, "m-1")))
    assert (payload["model_id"], payload["rows"]) == ("m-1", 5000)
    (feature,) = payload["features"]
    assert set(feature) == {"name", "here", "reference", "psi", "chance", "shift"}
    assert dataclasses.asdict(found.drifted[0]).items() >= feature.items()
