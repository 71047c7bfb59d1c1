"""The figures of a scoring run: how its rows compare with those of training, and how labels went over time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tasks.drawing import BLUE, INK, MUTED, ORANGE, few_ticks, figure_style, new_figure
from tasks.model.decision import NEGATIVE, POSITIVE, UNCERTAIN
from tasks.model.drift import Drift, FeatureDrift
from tasks.periods import Period

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABEL_COLOURS = {POSITIVE: BLUE, UNCERTAIN: MUTED, NEGATIVE: ORANGE}
_MOST_DATES = 6


def draw_summary_figures(drift: Drift | None, periods: Sequence[Period]) -> dict[str, "Figure"]:
    """Draw every figure there are facts for, by the names that the summary page and the Prefect artifact look for."""
    features = drift.features if drift else ()
    figures = {f"drift-{feature.name}": plot_feature(feature) for feature in features if feature.rows}
    return figures | ({"labels-over-time": plot_labels_over_time(periods)} if len(periods) > 1 else {})


def plot_feature(feature: FeatureDrift) -> "Figure":
    """Plot the share of rows in each group of a feature, as bars, and that of training's held-out rows, as marks."""
    places = np.arange(len(feature.groups))
    here, there = ([group.share for group in feature.groups], [group.reference for group in feature.groups])
    with figure_style():
        figure, axes = new_figure(feature.label.capitalize(), "Share of reviews", "", height=1.25 + 0.27 * max(len(places), 3))
        axes.barh(places, here, 0.62, color=ORANGE if feature.verdict == "drifted" else BLUE, alpha=0.6, label="these reviews")
        axes.plot(there, places, color=INK, linestyle="", marker="|", markersize=15, markeredgewidth=2.2, label="in training")
        axes.set_yticks(places, [group.name for group in feature.groups])
        axes.set_ylim(len(places) - 0.4, -0.6)
        axes.set_xlim(0, 1.05 * max([*here, *there, 0.01]))
        axes.xaxis.set_major_formatter(_percent())
        axes.locator_params(axis="x", nbins=6)
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderpad=0.3)
    return figure


def plot_labels_over_time(periods: Sequence[Period]) -> "Figure":
    """Plot the share of each label in every period, over how many reviews it has; a period without reviews is a gap."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    starts, ends = (
        date2num(np.array(days, "datetime64[D]"))  # type: ignore[no-untyped-call]
        for days in ([period.start for period in periods], [period.end for period in periods])
    )
    rows = np.array([period.rows for period in periods])
    with figure_style():
        figure, axes = new_figure("", "", "")
        axes.remove()
        axes, volume = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        axes.set(title="Labels over time", ylabel="Share of scored reviews", ylim=(0, 1))
        middles, widths = (starts + ends) / 2, 0.94 * (ends - starts)
        below = np.zeros(len(periods))
        for name, colour in LABEL_COLOURS.items():
            share = np.array([period.predicted.get(name, 0) for period in periods]) / np.maximum(rows, 1)
            axes.bar(middles, share, widths, below, color=colour, alpha=0.75 if name != UNCERTAIN else 0.4, label=name, linewidth=0)
            below += share
        axes.yaxis.set_major_formatter(_percent())
        axes.grid(visible=False)
        volume.bar(middles, rows, widths, color=MUTED, alpha=0.6, linewidth=0)
        volume.set(ylabel="Reviews", xlim=(starts[0], ends[-1]))
        volume.grid(axis="x", visible=False)
        volume.yaxis.set_major_locator(few_ticks())
        locator = AutoDateLocator(maxticks=_MOST_DATES)  # type: ignore[no-untyped-call]
        volume.xaxis.set_major_locator(locator)
        volume.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0.3, handlelength=1.2, columnspacing=1.2)
    return figure


def _percent() -> Any:
    from matplotlib.ticker import PercentFormatter

    return PercentFormatter(1)
