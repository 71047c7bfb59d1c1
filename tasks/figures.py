"""The training report's figures; every function returns a matplotlib Figure."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from tasks.drawing import BLUE, DASHES, INK, MUTED, ORANGE, PAPER, SERIES, few_ticks, figure_style, new_figure, shortened, with_note
from tasks.model.bootstrap import wilson_interval
from tasks.model.metrics import Evaluation, SliceScores
from tasks.schemas import CLASS_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS_PER_CURVE = 400
MOST_SLICES = 14


def draw_figures(
    *,
    evaluation: Evaluation,
    y_true: ArrayLike,
    scores: Mapping[str, ArrayLike],
    history: Sequence[Mapping[str, float]] = (),
    best_epoch: int | None = None,
    num_tokens: ArrayLike | None = None,
    sequence_length: int | None = None,
) -> dict[str, "Figure"]:
    """Draw every figure there are facts for, by the names that the report page and the Prefect artifact look for.

    Args:
        evaluation: Of the test rows.
        y_true: int8, shape (num_rows,), 1 = positive.
        scores: Probability of positive by model name, shape (num_rows,) each; the promoted model first.
        history: One mapping an epoch, as `plot_accuracy` takes it.
        best_epoch: The epoch whose weights were kept.
        num_tokens: int, shape (any,): the length of each review.
        sequence_length: Tokens of a review that the model reads.
    """
    model, settings = next(iter(scores.values())), evaluation["settings"]
    figures = {
        "confusion": plot_confusion(evaluation["model"]["confusion"]),
        "roc": plot_roc(y_true, scores),
        "precision-recall": plot_precision_recall(y_true, scores),
        "reliability": plot_reliability(y_true, model, settings["ece_bins"]),
        "scores": plot_score_histogram(y_true, model, settings["threshold"]),
    }
    if history:
        figures |= {"accuracy": plot_accuracy(history, best_epoch), "loss": plot_loss(history, best_epoch)}
    kinds = [part["by"] for part in evaluation["slices"]]
    for by in (kind for kind in dict.fromkeys(kinds) if kinds.count(kind) > 1):
        figures[f"slices-{by}"] = plot_slices(evaluation["slices"], evaluation["model"]["accuracy"], by)
    if num_tokens is not None:
        figures["lengths"] = plot_lengths(num_tokens, sequence_length)
    return figures


def plot_accuracy(history: Sequence[Mapping[str, float]], best_epoch: int | None = None) -> "Figure":
    """Plot training and validation accuracy per epoch: the article's first plot.

    Args:
        history: One mapping an epoch with `accuracy` and `val_accuracy`, in order; `epoch` from 1 where given.
        best_epoch: The epoch whose weights were kept.
    """
    return _plot_history(history, "accuracy", "Accuracy", best_epoch)


def plot_loss(history: Sequence[Mapping[str, float]], best_epoch: int | None = None) -> "Figure":
    """Plot training and validation loss per epoch: the article's second plot; arguments as in `plot_accuracy`."""
    return _plot_history(history, "loss", "Loss", best_epoch)


def plot_confusion(confusion: ArrayLike) -> "Figure":
    """Plot a 2 × 2 matrix of counts: a row for each true class, a column for each predicted one."""
    counts = np.asarray(confusion, dtype=np.int64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with figure_style():
        figure, axes = new_figure("Confusion matrix", "Predicted", "True")
        axes.grid(visible=False)
        for row, column in np.ndindex(2, 2):
            colour = BLUE if row == column else ORANGE
            axes.fill_between(
                [column - 0.48, column + 0.48],
                row - 0.48,
                row + 0.48,
                color=colour,
                alpha=0.1 + 0.38 * shares[row, column],
                linewidth=0,
            )
            axes.text(column, row - 0.04, f"{counts[row, column]:,}", ha="center", va="center", size=16, weight="bold")
            axes.text(column, row + 0.22, f"{shares[row, column]:.1%} of {CLASS_NAMES[row]}s", ha="center", va="center")
        axes.set_xticks([0, 1], CLASS_NAMES)
        axes.set_yticks([0, 1], CLASS_NAMES, rotation=90, va="center")
        axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5))
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def plot_roc(y_true: ArrayLike, scores: Mapping[str, ArrayLike]) -> "Figure":
    """Plot the ROC curve of each named model; a note stands in for it where only one class occurs.

    Args:
        y_true: int8, shape (num_rows,), 1 = positive.
        scores: float, shape (num_rows,) each, probability of positive.
    """
    from sklearn.metrics import roc_auc_score, roc_curve

    truth = np.asarray(y_true)
    with figure_style():
        figure, axes = new_figure("ROC curve", "False positive rate", "True positive rate")
        if np.unique(truth).size < 2:
            return with_note(figure, axes, "One class only: no ranking to show")
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
        for place, (name, score) in enumerate(scores.items()):
            false_positive, true_positive, _ = roc_curve(truth, score)
            label = f"{name}: {roc_auc_score(truth, score):.3f}"
            _draw_curve(axes, false_positive, true_positive, label, place)
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        axes.legend(loc="lower right", title="Area under curve", alignment="left")
    return figure


def plot_precision_recall(y_true: ArrayLike, scores: Mapping[str, ArrayLike]) -> "Figure":
    """Plot precision against recall of each named model; arguments as in `plot_roc`."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    truth = np.asarray(y_true)
    with figure_style():
        figure, axes = new_figure("Precision and recall", "Recall", "Precision")
        if np.unique(truth).size < 2:
            return with_note(figure, axes, "One class only: nothing to trade off")
        axes.axhline(truth.mean(), color=MUTED, linewidth=1, linestyle=":")
        for place, (name, score) in enumerate(scores.items()):
            precision, recall, _ = precision_recall_curve(truth, score)
            label = f"{name}: {average_precision_score(truth, score):.3f}"
            _draw_curve(axes, recall[::-1], precision[::-1], label, place)
        axes.set(xlim=(-0.01, 1.01), ylim=(min(0.45, truth.mean() - 0.05), 1.01))
        axes.legend(loc="lower left", title="Average precision", alignment="left")
    return figure


def plot_reliability(y_true: ArrayLike, y_score: ArrayLike, num_bins: int = 15) -> "Figure":
    """Plot how often reviews of each predicted probability are positive, over how many there are (equal-width bins)."""
    truth, score = np.asarray(y_true, dtype=np.float64), np.asarray(y_score, dtype=np.float64)
    bins = np.minimum((score * num_bins).astype(np.int64), num_bins - 1)
    rows = np.bincount(bins, minlength=num_bins)
    filled = rows > 0
    predicted = np.bincount(bins, score, num_bins)[filled] / rows[filled]
    observed = np.bincount(bins, truth, num_bins)[filled] / rows[filled]
    positives = np.rint(observed * rows[filled]).astype(np.int64)
    ends = [wilson_interval(int(hits), int(trials), 0.95) for hits, trials in zip(positives, rows[filled], strict=True)]
    spread = np.abs(np.array(ends).T - observed)
    with figure_style():
        figure, axes = new_figure("", "", "")
        axes.remove()
        axes, histogram = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        axes.set(title="Reliability", ylabel="Observed share positive", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":", label="perfectly calibrated")
        axes.errorbar(predicted, observed, spread, color=BLUE, elinewidth=1, marker="o", markersize=5, label="model")
        axes.legend(loc="upper left")
        histogram.bar((np.arange(num_bins) + 0.5) / num_bins, rows, width=0.92 / num_bins, color=BLUE, alpha=0.55)
        histogram.set(xlabel="Predicted probability of positive", ylabel="Reviews")
        histogram.grid(axis="x", visible=False)
        histogram.yaxis.set_major_locator(few_ticks())
    return figure


def plot_score_histogram(y_true: ArrayLike, y_score: ArrayLike, threshold: float = 0.5) -> "Figure":
    """Plot how the probabilities of each true class are spread; what lies past the threshold is wrong."""
    truth, score = np.asarray(y_true), np.asarray(y_score)
    edges = np.linspace(0, 1, 41)
    with figure_style():
        figure, axes = new_figure("Scores by true class", "Predicted probability of positive", "Reviews")
        for code, colour, dashes in ((0, ORANGE, "--"), (1, BLUE, "-")):
            rows = np.histogram(score[truth == code], edges)[0]
            axes.stairs(rows, edges, fill=True, color=colour, alpha=0.25, linewidth=0)
            axes.stairs(rows, edges, color=colour, linestyle=dashes, linewidth=1.6, label=f"truly {CLASS_NAMES[code]}")
        axes.axvline(threshold, color=MUTED, linewidth=1, linestyle=":")
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.grid(axis="x", visible=False)
        axes.legend(loc="upper center")
    return figure


def plot_slices(slices: Sequence[SliceScores], accuracy: float, by: str) -> "Figure":
    """Plot the accuracy of each slice with its interval against the accuracy of all rows.

    Args:
        slices: From `slice_metrics`; those of `by` are shown, the largest ones where there are too many.
        accuracy: Over all rows, in [0, 1].
        by: What the rows were sliced by.
    """
    shown = [part for part in slices if part["by"] == by]
    smallest = sorted((part["rows"] for part in shown), reverse=True)[:MOST_SLICES][-1] if shown else 0
    shown = [part for part in shown if part["rows"] >= smallest][:MOST_SLICES]
    with figure_style():
        hint = f"Accuracy (dashed: all rows, {accuracy:.3f})"
        figure, axes = new_figure(f"Accuracy by {by}", hint, "", height=1.5 + 0.38 * max(len(shown), 2))
        if not shown:
            return with_note(figure, axes, "No slices")
        values = np.array([part["accuracy"] for part in shown])
        spread = np.abs(np.array([part["interval"] for part in shown]).T - values)
        axes.axvline(accuracy, color=MUTED, linewidth=1, linestyle="--")
        axes.errorbar(values, range(len(shown)), xerr=spread, color=BLUE, linestyle="", marker="o", elinewidth=1.6)
        axes.set_yticks(range(len(shown)), [f"{shortened(part['slice'])} ({part['rows']:,})" for part in shown])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
    return figure


def plot_lengths(num_tokens: ArrayLike, sequence_length: int | None = None) -> "Figure":
    """Plot how long the reviews are, and where the model stops reading.

    Args:
        num_tokens: int, shape (num_rows,).
        sequence_length: Tokens of a review that the model reads.
    """
    lengths = np.asarray(num_tokens)
    longest = int(lengths.max(initial=1))
    shown = max(int(np.quantile(lengths, 0.995)) if lengths.size else 1, 10)
    with figure_style():
        hint = f"Tokens (drawn to the 99.5th percentile; longest {longest:,})"
        figure, axes = new_figure("Review lengths", hint, "Reviews")
        step = max(1, -(-shown // 50))
        axes.hist(lengths, bins=list(range(0, shown + step, step)), color=BLUE, alpha=0.55)
        if sequence_length is not None and sequence_length < shown:
            within = float((lengths <= sequence_length).mean())
            axes.axvline(sequence_length, color=ORANGE, linestyle="--", linewidth=1.4)
            to_the_left = sequence_length > shown * 0.5
            axes.annotate(
                f"the model reads {sequence_length:,} tokens: {within:.0%} fit",
                (sequence_length, 0.97),
                (-6 if to_the_left else 6, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="right" if to_the_left else "left",
                va="top",
                bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 1},
            )
        axes.set_xlim(left=0)
        axes.grid(axis="x", visible=False)
    return figure


def _plot_history(history: Sequence[Mapping[str, float]], metric: str, label: str, best_epoch: int | None) -> "Figure":
    epochs = [int(entry.get("epoch", place)) for place, entry in enumerate(history, start=1)]
    with figure_style():
        figure, axes = new_figure(f"Model {label}", "Epoch", label)
        if not history:
            return with_note(figure, axes, "No epochs were recorded")
        for key, name, colour, dashes in ((metric, "Train", BLUE, "-"), (f"val_{metric}", "Validation", ORANGE, "--")):
            values = [entry.get(key, np.nan) for entry in history]
            axes.plot(epochs, values, color=colour, linestyle=dashes, marker="o", markersize=5, label=name)
            if key.startswith("val_") and best_epoch in epochs:
                best = values[epochs.index(best_epoch)]
                axes.plot(
                    best_epoch,
                    best,
                    marker="o",
                    markersize=13,
                    fillstyle="none",
                    color=INK,
                    linestyle="",
                    markeredgewidth=1.3,
                    label=f"best epoch ({best_epoch})",
                )
        axes.set_xlim(min(epochs) - 0.4, max(epochs) + 0.4)
        axes.locator_params(axis="x", integer=True)
        axes.margins(y=0.15)
        axes.legend(loc="best")
    return figure


def _draw_curve(axes: "Axes", x: np.ndarray, y: np.ndarray, label: str, place: int) -> None:
    """Draw at most POINTS_PER_CURVE points: 25,000 test rows would make the page megabytes."""
    chosen = np.unique(np.linspace(0, x.size - 1, min(x.size, POINTS_PER_CURVE)).astype(np.int64))
    axes.plot(
        x[chosen],
        y[chosen],
        color=SERIES[place % len(SERIES)],
        linestyle=DASHES[place % len(DASHES)],
        linewidth=2.2 if place == 0 else 1.5,
        label=label,
    )
