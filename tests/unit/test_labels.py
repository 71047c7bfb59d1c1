import pyarrow as pa
import pytest
from pydantic import ValidationError

from tasks.errors import CallerError
from tasks.reviews.labels import LabelSettings, UnknownLabel, detect_scale, holds_numbers, map_labels, show_label

AUTO = LabelSettings()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["positive", " Negative", "POS", "neg ", "True", "false"], [1, 0, 1, 0, 1, 0]),
        (["1", "0", "1.0", "0.0"], [1, 0, 1, 0]),
        ([1, 0], [1, 0]),
        ([1.0, 0.0], [1, 0]),
        ([True, False], [1, 0]),
    ],
)
def test_words_and_bits_are_labels(values: list[object], expected: list[int]) -> None:
    """Usual words in any case, 0/1 of any type, and bools map to 1 and 0."""
    mapped = map_labels(pa.array(values), AUTO, detect_scale(values, AUTO))
    assert mapped.labels.to_pylist() == expected and mapped.labels.type == pa.int8()
    assert mapped.dropped.to_pylist() == [False] * len(values) and mapped.unknown == ()


@pytest.mark.parametrize("make", [int, float, str])
def test_stars_of_five_and_ten(make: type) -> None:
    """Stars of any type are positive or negative by the thresholds, and dropped between them."""
    five = pa.array([make(star) for star in range(1, 6)])
    mapped = map_labels(five, AUTO, detect_scale(five.to_pylist(), AUTO))
    assert mapped.labels.to_pylist() == [0, 0, None, 1, 1]
    assert mapped.dropped.to_pylist() == [False, False, True, False, False]
    ten = pa.array([make(star) for star in range(1, 11)])
    mapped = map_labels(ten, AUTO, detect_scale(ten.to_pylist(), AUTO))
    assert mapped.labels.to_pylist() == [0, 0, 0, 0, None, None, 1, 1, 1, 1]


def test_thresholds_are_the_callers() -> None:
    """Asked for, three of five is positive; crossed thresholds are refused."""
    settings = LabelSettings(positive_at_least=3, negative_at_most=2)
    assert map_labels(pa.array(["3", "2.5"]), settings, "5").labels.to_pylist() == [1, None]
    with pytest.raises(ValidationError, match="must be below"):
        LabelSettings(scale="5", positive_at_least=2)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (["positive", "negative"], "binary"),
        ([], "binary"),
        ([None, "0"], "binary"),
        (["1", "0", "positive"], "binary"),
        ([1, 2, 3, 4, 5], "5"),
        (["1.0", "4.5", "5"], "5"),
        ([2, 8], "10"),
        ([10, 1], "10"),
    ],
)
def test_scales_that_cannot_be_misread(values: list[object], scale: str) -> None:
    """All distinct values of a file decide what its numbers mean."""
    assert detect_scale(values, AUTO) == scale


@pytest.mark.parametrize(
    "values",
    [["1"], [1, 2], [0, 1, 2, 3, 4], [0, 4], [1, 2, 3, 4], [-1, 1], [-1, 0, 1], [0.2, 0.9], [0, 5], [1, 100], [1, 2, 3]],
)
def test_ambiguous_scales_are_asked_for(values: list[object]) -> None:
    """Where a 1 may be the best or the worst, nothing is guessed; a given scale, or a full mapping, settles it."""
    with pytest.raises(CallerError, match=r"more than one way.*--label"):
        detect_scale(values, AUTO)
    assert detect_scale(values, LabelSettings(scale="5")) == "5"
    assert detect_scale(values, LabelSettings(extra={str(value): "drop" for value in values})) == "binary"


def test_unknown_labels_are_counted_and_located() -> None:
    """Labels without a meaning are null, listed by frequency with their first row, and never shown if long."""
    values = pa.array(["meh", "pos", "Meh ", None, "x" * 40, "meh"])
    mapped = map_labels(values, AUTO, "binary")
    assert mapped.labels.to_pylist() == [None, 1, None, None, None, None]
    assert not any(mapped.dropped.to_pylist())
    assert mapped.unknown == (
        UnknownLabel("'meh'", 3, 0),
        UnknownLabel("''", 1, 3),
        UnknownLabel("(a text of 40 characters)", 1, 4),
    )


def test_out_of_scale_stars_are_unknown() -> None:
    """A 7 on a scale of five, or a 0, is no label."""
    assert [label.shown for label in map_labels(pa.array([7, 5, 0]), AUTO, "5").unknown] == ["'0'", "'7'"]


def test_extra_meanings_win() -> None:
    """A caller's word maps in any spelling, over the built-in meaning, and may drop rows knowingly."""
    settings = LabelSettings(extra={" MEH": "drop", "": "negative", "1": "negative", "good": "positive"})
    mapped = map_labels(pa.array(["meh", None, "1.0", "Good"]), settings, "binary")
    assert mapped.labels.to_pylist() == [None, 0, 0, 1]
    assert mapped.dropped.to_pylist() == [True, False, False, False]
    with pytest.raises(ValidationError):
        LabelSettings(extra={"meh": "maybe"})  # type: ignore[dict-item]


@pytest.mark.parametrize("values", [pa.array([], pa.string()), pa.array(["pos"]).slice(1), pa.nulls(2)])
def test_empty_and_null_columns(values: pa.Array) -> None:
    """No rows, or only nulls, give as many nulls."""
    mapped = map_labels(values, AUTO, "binary")
    assert mapped.labels.to_pylist() == [None] * len(values) and len(mapped.dropped) == len(values)


def test_dictionary_columns_are_read() -> None:
    """A categorical column maps like its values."""
    assert map_labels(pa.array(["pos", None, "neg"]).dictionary_encode(), AUTO, "binary").labels.to_pylist() == [
        1,
        None,
        0,
    ]


def test_numbers_are_noticed_and_labels_shown_safely() -> None:
    """Only numbers need a scale; a label is quoted in messages unless it may be a review."""
    assert holds_numbers(["pos", 4.0]) and not holds_numbers(["pos", None, True])
    assert show_label(" meh ") == "'meh'" and show_label("a" * 25) == "(a text of 25 characters)"
