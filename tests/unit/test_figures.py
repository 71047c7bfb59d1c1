import io
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from report_example import HISTORY, HOSTILE, NUM_TOKENS, Y_SCORE, Y_TRUE, example_evaluation

from tasks import drawing, figures


def _drawn_figures(source: str = "reviews.csv") -> dict[str, "figures.Figure"]:
    return figures.draw_figures(
        evaluation=example_evaluation(source),
        y_true=Y_TRUE,
        scores={"this model": Y_SCORE, "lstm": 1 - Y_SCORE},
        history=HISTORY,
        best_epoch=2,
        num_tokens=NUM_TOKENS,
        sequence_length=400,
    )


def _words_of(svg: str) -> str:
    return " ".join(ElementTree.fromstring(svg).itertext())


def test_every_figure_is_a_small_png() -> None:
    """Every figure, as Prefect stores it, is a readable picture under 60 kB."""
    drawn = _drawn_figures()
    assert set(drawn) == {
        "confusion", "roc", "precision-recall", "reliability", "scores",
        "accuracy", "loss", "slices-length", "slices-source", "lengths",
    }  # fmt: skip
    for name, figure in drawn.items():
        png = drawing.to_png(figure)
        image = Image.open(io.BytesIO(png))
        assert image.format == "PNG"
        assert image.width >= 500, name
        assert len(png) < 60_000, name
        assert len(image.convert("L").getcolors()) > 5, f"{name} is empty"


@pytest.mark.parametrize(("name", "label"), [("accuracy", "Accuracy"), ("loss", "Loss")])
def test_the_articles_two_plots_keep_their_words(name: str, label: str) -> None:
    """Title, axes and legend are those of the article; both curves hold every epoch."""
    figure = _drawn_figures()[name]
    axes = figure.axes[0]
    assert axes.get_title(loc="left") == f"Model {label}"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("Epoch", label)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["Train", "Validation", "best epoch (2)"]
    metric = name if name == "loss" else "accuracy"
    by_label = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(by_label["Train"].get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(by_label["Train"].get_ydata(), [entry[metric] for entry in HISTORY])
    np.testing.assert_array_equal(by_label["Validation"].get_ydata(), [entry[f"val_{metric}"] for entry in HISTORY])


def test_the_best_epoch_is_marked_on_the_validation_curve() -> None:
    """The ring lies on the validation value of the epoch whose weights were kept; without one there is no ring."""
    ring = figures.plot_loss(HISTORY, best_epoch=2).axes[0].lines[-1]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (2, HISTORY[1]["val_loss"])
    assert len(figures.plot_loss(HISTORY).axes[0].lines) == 2


def test_a_history_without_validation_is_drawn() -> None:
    """One epoch, no validation: what is there is shown."""
    drawing.to_png(figures.plot_accuracy([{"accuracy": 0.5}]))
    assert "No epochs were recorded" in _words_of(drawing.to_svg(figures.plot_accuracy([]), "empty"))


def test_equal_figures_are_equal_bytes() -> None:
    """Neither date nor chance enters a picture, so a report can be compared byte by byte."""
    first, second = _drawn_figures(), _drawn_figures()
    for name in ("roc", "scores"):
        assert drawing.to_svg(first[name], name) == drawing.to_svg(second[name], name)
        assert drawing.to_png(first[name]) == drawing.to_png(second[name])


def test_figures_may_stand_on_one_page() -> None:
    """Every SVG is well-formed, repeats no id of another, styles nothing outside itself and can be darkened."""
    ids: list[str] = []
    for name, figure in _drawn_figures().items():
        svg = drawing.to_svg(figure, name)
        assert svg.startswith("<svg ")
        ElementTree.fromstring(svg)
        own = re.findall(r'\bid="([^"]+)"', svg)
        assert set(re.findall(r'(?:url\(|href=")#([^")]+)', svg)) <= set(own), name
        ids += own
        assert "<style" not in svg
        assert not re.search(r"(?:fill|stroke): #(?!000|fff)", svg), name
        assert f"var(--figure-ink, {drawing.INK})" in svg
    assert len(ids) == len(set(ids))


def test_foreign_names_are_shown_as_they_are() -> None:
    """A source whose name holds dollars and tags breaks neither mathtext nor the page."""
    svg = drawing.to_svg(_drawn_figures(HOSTILE)["slices-source"], "slices-source")
    assert "<script" not in svg
    assert HOSTILE[-27:].replace("`", "") in _words_of(svg).replace("`", "")


def test_the_confusion_matrix_tells_counts_and_shares() -> None:
    """Counts stand in the matrix with their share of the true class."""
    words = _words_of(drawing.to_svg(figures.plot_confusion([[900, 100], [0, 50]]), "confusion"))
    for expected in ("900", "90.0% of negatives", "100", "10.0% of negatives", "50", "100.0% of positives"):
        assert expected in words


def test_the_roc_curve_encloses_the_area_it_names() -> None:
    """The drawn points, thinned or not, give the area that the legend says."""
    rng = np.random.default_rng(1)
    y_true = np.arange(20_000) % 2
    axes = figures.plot_roc(y_true, {"this model": rng.normal(y_true, 1)}).axes[0]
    line = axes.lines[1]
    assert len(line.get_xdata()) <= figures.POINTS_PER_CURVE
    named = float(axes.get_legend().get_texts()[0].get_text().split()[-1])
    assert np.trapezoid(line.get_ydata(), line.get_xdata()) == pytest.approx(named, abs=2e-3)


@pytest.mark.parametrize("plot", [figures.plot_roc, figures.plot_precision_recall])
def test_one_class_only_is_said_instead_of_drawn(plot: "object") -> None:
    """Where there is nothing to rank the figure says so."""
    svg = drawing.to_svg(plot([1, 1], {"this model": [0.2, 0.9]}), "one")  # type: ignore[operator]
    assert "One class only" in _words_of(svg)


def test_reliability_points_are_the_bins_means() -> None:
    """Two filled bins, by hand; empty bins have no point."""
    y_true, y_score = [0, 1, 1, 1], [0.1, 0.3, 0.9, 0.7]
    line = figures.plot_reliability(y_true, y_score, num_bins=2).axes[0].lines[1]
    np.testing.assert_allclose(line.get_xdata(), [0.2, 0.8])
    np.testing.assert_allclose(line.get_ydata(), [0.5, 1.0])


def test_many_slices_show_the_largest() -> None:
    """A hundred sources do not make a figure of a hundred lines."""
    slices = [{"by": "source", "slice": f"s{rows}", "rows": rows, "accuracy": 0.5, "interval": [0.4, 0.6]} for rows in range(1, 101)]
    labels = [label.get_text() for label in figures.plot_slices(slices, 0.5, "source").axes[0].get_yticklabels()]
    assert len(labels) == figures.MOST_SLICES
    assert labels[-1] == "s100 (100)"


@pytest.mark.parametrize(("limit", "words"), [(100, "the model reads 100 tokens: 80% fit"), (None, "longest 200"), (5000, "longest 200")])
def test_lengths_say_how_many_reviews_fit(limit: int | None, words: str) -> None:
    """The share of reviews that the model reads in full stands beside its limit."""
    svg = drawing.to_svg(figures.plot_lengths([20, 30, 50, 100, 200], limit), "lengths")
    assert words in _words_of(svg)
    assert ("model reads" in svg) == (limit == 100)


@pytest.mark.parametrize("colour", [drawing.INK, drawing.MUTED, *drawing.SERIES])
def test_lines_and_words_stand_out_from_the_paper(colour: str) -> None:
    """Every colour of the palette has the contrast that WCAG 2.2 asks of text, 4.5 to 1."""

    def luminance(hexadecimal: str) -> float:
        channels = [int(hexadecimal[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    assert (luminance(drawing.PAPER) + 0.05) / (luminance(colour) + 0.05) >= 4.5


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    """Neither pyplot nor a global setting is touched, and importing the module imports no matplotlib."""
    code = (
        "import sys; from tasks import drawing, figures; assert 'matplotlib' not in sys.modules\n"
        "import matplotlib; names = set(matplotlib.rcParams) - {'backend'}\n"  # reading the backend imports pyplot
        "before = {name: matplotlib.rcParams[name] for name in names}\n"
        "drawing.to_svg(figures.plot_confusion([[1, 2], [3, 4]]), 'x')\n"
        "assert {name: matplotlib.rcParams[name] for name in names} == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(figures.__file__).parents[1])
