import json
import zlib

import numpy as np
import pytest

from tasks.model.behaviour import BLAME, PRAISE, TOLERANCE, Case, Family, FamilyResult, behaviour_families, check_behaviour

FAMILIES = behaviour_families()
NAMES = [family.name for family in FAMILIES]


def _scores(texts: list[str]) -> np.ndarray:
    """Return a made-up probability for each text, the same in every run."""
    return np.array([zlib.crc32(text.encode()) % 1000 / 1000 for text in texts])


def _count_words(texts: list[str]) -> np.ndarray:
    """Judge by counting words of praise and of blame, as a model without word order does."""

    def logit(text: str) -> int:
        words = text.lower().replace(",", " ").replace(".", " ").replace("!", " ").split()
        return sum((word in PRAISE) - (word in BLAME) for word in words)

    return 1 / (1 + np.exp(-np.array([logit(text) for text in texts], np.float64)))


def _by_name(results: list[FamilyResult]) -> dict[str, FamilyResult]:
    return {result["family"]: result for result in results}


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_a_family_is_what_it_says(family: Family) -> None:
    """A family has at least thirty different cases, one criterion in one sentence, and cases of the form that its kind needs."""
    assert len(set(family.cases)) == len(family.cases) >= 30
    assert family.criterion.endswith(".") and family.criterion.count(". ") == 0
    assert {len(case.texts) for case in family.cases} == {1 if family.kind == "MFT" else 2}
    assert all(len(set(case.texts)) == len(case.texts) for case in family.cases)
    signs = {case.sign for case in family.cases}
    assert signs == {0} if family.kind == "INV" else signs <= {-1, 1}


def test_the_families_are_those_that_were_asked_for() -> None:
    """Negation, contrast, intensity, names, places, typos, casing and HTML are among them, and both classes where there are classes."""
    assert {"denied praise", "denied reproach", "contrast", "intensity", "names", "places", "typos", "casing", "HTML"} <= set(NAMES)
    for family in FAMILIES:
        if family.name in ("plain opinion", "contrast", "intensity"):
            assert 15 <= sum(case.sign for case in family.cases if case.sign > 0) <= 25
    assert Case(("The cast was good.", "The cast was not good."), -1) in FAMILIES[NAMES.index("denied praise")].cases


def test_texts_are_written_properly() -> None:
    """Articles suit the next word, sentences begin with a capital, and nothing is left to be filled in."""
    for family in FAMILIES:
        for text in {text for case in family.cases for text in case.texts[: 1 if family.name in ("casing", "HTML") else 2]}:
            assert "{" not in text and text[0].isupper() and text[-1] in ".!?"
            assert not any(f" a {vowel}" in text or f" an {other}" in text for vowel in "aeiou" for other in "bcdfgmpstw")


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_cases_are_judged_by_their_kind(threshold: float) -> None:
    """Passes and the two worst failures are those that plain Python finds, case by case."""
    results = check_behaviour(_scores, threshold)
    assert [result["family"] for result in results] == NAMES
    for family, result in zip(FAMILIES, results, strict=True):
        margins = []
        for case in family.cases:
            first, *rest = map(float, _scores(list(case.texts)))
            margins.append(
                {"MFT": case.sign * (first - threshold), "DIR": case.sign * ((rest or [0])[0] - first)}.get(
                    family.kind, TOLERANCE - abs((rest or [0])[0] - first)
                )
            )
        failing = sorted((margin, place) for place, margin in enumerate(margins) if margin <= 0)
        assert (result["cases"], result["passed"]) == (len(margins), len(margins) - len(failing))
        assert result["pass_rate"] == pytest.approx(1 - len(failing) / len(margins))
        worst = [family.cases[place] for _, place in failing[:2]]
        assert [tuple(failure["texts"]) for failure in result["failures"]] == [case.texts for case in worst]
        assert [failure["scores"] for failure in result["failures"]] == [_scores(list(case.texts)).tolist() for case in worst]
    json.dumps(results, allow_nan=False)


def test_a_model_without_word_order_is_found_out() -> None:
    """Counting words passes plain opinions and every change that keeps the words, and fails where a denial or a turn decides."""
    results = _by_name(check_behaviour(_count_words))
    for name in ("plain opinion", "names", "places", "casing"):
        assert results[name]["pass_rate"] == 1.0 and results[name]["failures"] == []
    for name in ("denied praise", "denied reproach", "denied praise, judged", "contrast"):
        assert results[name]["pass_rate"] == 0.0 and len(results[name]["failures"]) == 2


def test_a_model_that_never_moves_fails_what_should_move_it() -> None:
    """A constant passes every invariance and nothing else."""
    for result in check_behaviour(lambda texts: np.full(len(texts), 0.5)):
        assert result["pass_rate"] == (1.0 if result["kind"] == "INV" else 0.0)
