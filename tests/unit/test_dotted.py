import pytest

from flows.settings import TrainingSettings, built_in_settings
from tasks.dotted import change_settings, field_of, flat_settings, value_of
from tasks.errors import CallerError


def test_changed_settings_are_others() -> None:
    """A change by dotted name is made in a copy, next to what stays; groups can be switched off."""
    settings = TrainingSettings()

    changed = change_settings(settings, [("model.epochs", 8), ("linear", None)])

    assert (changed.model.epochs, changed.linear) == (8, None)
    assert changed.model.model_copy(update={"epochs": settings.model.epochs}) == settings.model
    assert settings == TrainingSettings()


@pytest.mark.parametrize("preset", ["default", "tutorial", "quick"])
def test_flat_settings_are_the_same_settings(preset: str) -> None:
    """All settings by dotted name, put back one by one, are the settings they came from."""
    settings = built_in_settings(preset)
    flat = flat_settings(settings.model_dump(mode="json"))

    assert change_settings(settings, flat.items()) == settings
    assert flat["model.units"] == settings.model.units


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("model.epoch", 3, "There is no setting 'model.epoch': 'epoch' is unknown. Known here: network,"),
        ("modle.epochs", 3, "'modle' is unknown. Known here: preset, seed"),
        ("model.epochs.more", 3, "none below it"),
        ("model.epochs", 0, "model.epochs: Input should be greater than or equal to 1"),
        ("model.chunk_length", 7, "must be a multiple"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, value: int, told: str) -> None:
    """An unknown name is answered with the known ones, a bad value with its bounds."""
    with pytest.raises(CallerError, match=told):
        change_settings(TrainingSettings(), [(name, value)])


def test_field_below_a_group_that_can_be_off() -> None:
    """A setting is found with its bounds and its value below `linear` too, and has no value where that is off."""
    assert field_of(TrainingSettings, "linear.max_ngram").annotation is int
    assert value_of(TrainingSettings(), "linear.max_ngram") == 3
    assert value_of(TrainingSettings(linear=None), "linear.max_ngram") is None
    with pytest.raises(CallerError, match="Known here: max_ngram"):
        field_of(TrainingSettings, "linear.x")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\udcff"])
def test_values_that_say_nothing_are_refused(value: object) -> None:
    """What is no number, has no end, or cannot be written down as text is refused by name: it would switch rules off, or fail later."""
    name = "ingest.text_column" if isinstance(value, str) else "ingest.labels.positive_at_least"
    with pytest.raises(CallerError, match=name):
        change_settings(TrainingSettings(), [(name, value)])
