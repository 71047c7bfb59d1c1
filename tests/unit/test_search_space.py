from typing import Any

import pytest

from flows.settings import built_in_settings
from tasks.dotted import change_settings, value_of
from tasks.errors import CallerError
from tasks.model.search_space import SEARCHED, Searched, search_space


def only(*wanted: str, preset: str = "default") -> Searched:
    """Return what one request comes to."""
    (searched,) = search_space(built_in_settings(preset).train, wanted)
    return searched


@pytest.mark.parametrize("preset", ["default", "quick"])
def test_own_choice_fits_the_settings(preset: str) -> None:
    """Every setting of the project's choice exists, may have both ends of its range, and its present value lies inside."""
    settings = built_in_settings(preset).train

    space = search_space(settings)

    assert [searched.name for searched in space] == [searched.name for searched in SEARCHED]
    for searched in space:
        assert searched.holds(value_of(settings, searched.name))
        for end in searched.choices or (searched.low, searched.high):
            change_settings(settings, [(searched.name, end)])


def test_what_has_no_effect_is_not_searched() -> None:
    """The article's network has neither word dropout nor an n-gram part, so that a search from it leaves them alone."""
    names = {searched.name for searched in search_space(built_in_settings("tutorial").train)}

    assert {"model.learning_rate", "model.units", "vocabulary.min_count"} <= names
    assert not any(name.startswith("linear.") or "dropout" in name or "pair" in name for name in names)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("model.units=8..16", {"low": 8, "high": 16, "step": 1}),
        ("model.units=8..128", {"low": 8, "high": 128, "step": None}),
        ("model.clip_norm=0.5..2", {"low": 0.5, "high": 2.0, "step": None}),
        ("model.batch_size=[16, 48]", {"choices": (16, 48)}),
        ("model.decay", {"choices": (False, True)}),
        ("model.soft_labels", {"low": 0.0, "high": 1.0, "step": None}),
        ("model.units", {"low": 32, "high": 128, "step": 16}),
    ],
)
def test_ranges_as_asked_for(wanted: str, expected: dict[str, Any]) -> None:
    """A range is what the command says, else what the project chose, else what the setting itself declares."""
    searched = only(wanted)

    assert {name: getattr(searched, name) for name in expected} == expected


@pytest.mark.parametrize(("wanted", "logarithmic"), [("model.clip_norm=0.5..2", False), ("model.clip_norm=0.1..10", True)])
def test_wide_ranges_are_searched_by_ratio(wanted: str, logarithmic: bool) -> None:
    """Where the bounds differ by more than a factor of five, ratios count."""
    assert only(wanted).logarithmic is logarithmic


def test_present_value_off_the_grid() -> None:
    """A present value between two steps is kept in the search by trying every whole number."""
    settings = change_settings(built_in_settings("default").train, [("model.units", 50)])

    (searched,) = search_space(settings, ["model.units"])

    assert searched.holds(50)
    assert searched.step == 1


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("model.unit", "There is no setting 'model.unit'"),
        ("model.units=8", "is not NAME, NAME=LOW..HIGH or NAME=\\[VALUE"),
        ("model.units=16..8", "is not NAME"),
        ("model.units=nan..8", "is not NAME"),
        ("model.batch_size=[[1]]", "is not NAME"),
        ("model.clip_norm", "declares no bounds.*--search model.clip_norm=LOW..HIGH"),
        ("model.word_dropout=0..1", "less than 1"),
        ("seed", "'seed' cannot be searched"),
        ("decision.max_error", "cannot be searched. Expected a setting of vocabulary, model, linear"),
    ],
)
def test_what_cannot_be_searched_is_refused(wanted: str, told: str) -> None:
    """A request that cannot be met is refused before anything runs, with what would do."""
    with pytest.raises(CallerError, match=told):
        only(wanted)
