import io
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from summary_example import example_drift, example_summary

from tasks import drawing
from tasks.model.drift import FEATURES, compare_tallies
from tasks.periods import Period
from tasks.summary_figures import draw_summary_figures, plot_feature, plot_labels_over_time


def _words_of(svg: str) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())


def test_every_figure_is_a_small_png() -> None:
    """Every figure, as Prefect stores it, is a readable picture under 30 kB."""
    facts = example_summary()
    drawn = draw_summary_figures(facts.drift, facts.periods)
    assert list(drawn) == [*(f"drift-{name}" for name in FEATURES), "labels-over-time"]
    for name, figure in drawn.items():
        png = drawing.to_png(figure)
        assert len(png) < 30_000, name
        assert len(Image.open(io.BytesIO(png)).convert("L").getcolors()) > 5, f"{name} is empty"


def test_bars_are_these_reviews_and_marks_are_training() -> None:
    """Each group's bar is as long as its share of these rows, its mark stands at its share of training; drift has its own colour."""
    for feature in example_drift().features:
        axes = plot_feature(feature).axes[0]
        assert [bar.get_width() for bar in axes.patches] == [group.share for group in feature.groups]
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), [group.reference for group in feature.groups])
        assert [label.get_text() for label in axes.get_yticklabels()] == [group.name for group in feature.groups]
        colour = axes.patches[0].get_facecolor()
        assert (colour[0] > colour[2]) == (feature.verdict == "drifted")


def test_labels_over_time_add_up() -> None:
    """In every period the labels fill the whole height, and the bars below are its reviews; time without reviews is a gap."""
    periods = [
        Period("2024-01-01", "2024-01-01", "2024-01-02", {"positive": 3, "uncertain": 1}),
        Period("2024-01-05", "2024-01-05", "2024-01-06", {"negative": 2}),
    ]
    shares, volume = plot_labels_over_time(periods).axes
    heights = np.array([bar.get_height() for bar in shares.patches]).reshape(3, 2)  # labels, periods
    assert heights.sum(axis=0).tolist() == [1, 1]
    assert heights[:, 0].tolist() == [0.75, 0.25, 0]
    assert [bar.get_height() for bar in volume.patches] == [4, 2]
    first, second = volume.patches
    assert second.get_x() - (first.get_x() + first.get_width()) == pytest.approx(3, abs=0.1)


def test_nothing_is_drawn_of_nothing() -> None:
    """Without a comparison, without rows, or with a single period there is no figure."""
    assert draw_summary_figures(None, []) == {}
    assert draw_summary_figures(compare_tallies({}, {}), [Period("2024", "2024-01-01", "2025-01-01", {"positive": 1})]) == {}


def test_names_of_groups_are_in_the_svg() -> None:
    """The page's figures hold words, not outlines, so that they can be read and found."""
    words = _words_of(drawing.to_svg(plot_feature(example_drift().features[2]), "x"))
    assert all(name in words for name in ("Language", "English", "German", "in training"))
