"""What bench.py found, as Markdown tables and as a picture."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Found = Mapping[str, Any]

NAMES = {"article": "the article", "tfidf": "TF-IDF and logistic regression", "vader": "VADER (NLTK)", "textblob": "TextBlob"}


def to_markdown(found: Found) -> str:
    """Return a table for each part that was measured."""
    about = found["about"]
    lines = [
        f"{about['reviews']}: {about['rows']:,} reviews, {about['megabytes']} MB. {about['machine']}, Python {about['python']}, "
        f"{about['date']}. Medians of {about['rounds']} rounds, in brackets the smallest and the largest; training with a seed for each, "
        "scoring with the model of seed 0. Accuracies with half of their 95 % interval over the test rows.",
    ]
    for part, write in WRITERS.items():
        if part in found:
            lines += ["", *write(found[part])]
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]


def _text(found: Found) -> list[str]:
    theirs = found["the article"]["megabytes"] / found["the article"]["seconds"]
    return _table(
        ["clean and tokenize", "MB a second", "MB a CPU-second", "times the article's MB a second"],
        (
            [name, f"{rate:,.1f}", f"{entry['megabytes'] / entry['cpu_seconds']:,.1f}", f"{rate / theirs:,.1f} ×"]
            for name, entry in found.items()
            for rate in [entry["megabytes"] / entry["seconds"]]
        ),
    )


def _training(found: Found) -> list[str]:
    return _table(
        ["training, everything after tokenizing", "accuracy on test rows", "CPU seconds", "times the article's, turn by turn"],
        (
            [NAMES.get(name, name), _accuracy(entry) + _range(entry), _seconds(entry, "cpu_seconds", 0), f"{_seconds(entry, 'ratio')} ×"]
            for name, entry in found.items()
        ),
    )


def _scoring(found: Found) -> list[str]:
    return _table(
        [
            "scoring, compressed CSV to Parquet",
            "accuracy on test rows",
            "rows",
            "rows a second, the others without imports",
            "rows a second, all with imports",
            "rows a CPU-second, the others without imports",
        ],
        (
            [
                NAMES.get(name, name),
                _accuracy(entry),
                f"{entry['rows']:,}",
                *(_rate(entry, f"{kind}seconds") for kind in ("", "whole_", "cpu_")),
            ]
            for name, entry in found.items()
        ),
    )


def _range(entry: Found) -> str:
    return f" ({entry['accuracy_from']:.2%}–{entry['accuracy_to']:.2%})"


def _accuracy(entry: Found) -> str:
    """Return the share that is right, and half of its 95 % interval over the test rows: 1.96 standard errors."""
    share = entry["accuracy"]
    return f"{share:.2%} ± {1.96 * math.sqrt(share * (1 - share) / entry['test_rows']):.2%}"


def _rate(entry: Found, name: str) -> str:
    rows = entry["rows"]
    return f"{rows / entry[name]:,.0f} ({rows / entry[f'{name}_to']:,.0f}–{rows / entry[f'{name}_from']:,.0f})"


def _sizes(found: Found) -> list[str]:
    points = found["points"]
    rows = (
        [f"{point['rows']:,}", f"{point['seconds']:,.1f}", f"{point['cpu_seconds']:,.1f}", f"{point['megabytes']:,.0f}"] for point in points
    )
    return [
        *_table(["rows scored, quick model", "seconds", "CPU seconds", "peak MB"], rows),
        "",
        f"Seconds against rows: R² = {found['r_squared']:.5f}.",
    ]


def _start(found: Found) -> list[str]:
    return _table(
        ["start-up", "seconds", "CPU seconds"],
        ([name, _seconds(entry, "seconds"), _seconds(entry, "cpu_seconds")] for name, entry in found.items()),
    )


def _seconds(entry: Found, name: str, digits: int = 2) -> str:
    median, least, most = (f"{entry[key]:,.{digits}f}" for key in (name, f"{name}_from", f"{name}_to"))
    return f"{median} ({least}–{most})"


WRITERS = {"text": _text, "training": _training, "scoring": _scoring, "sizes": _sizes, "start": _start}


def draw(found: Found, path: Path) -> None:
    """Draw accuracy over speed, rates of text, and seconds over rows, as far as they were measured."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [part for part in ("scoring", "text", "sizes") if part in found]
    if not shown:
        return
    figure, axes = plt.subplots(1, len(shown), figsize=(6 * len(shown), 4.5), squeeze=False, layout="constrained")
    for part, ax in zip(shown, axes[0], strict=True):
        if part == "scoring":
            for name, entry in found[part].items():
                x, y = entry["rows"] / entry["cpu_seconds"], 100 * entry["accuracy"]
                ax.scatter(x, y, s=60, color="tab:blue" if name.startswith("ours") else "tab:gray")
                ax.annotate(NAMES.get(name, name), (x, y), textcoords="offset points", xytext=(0, 9), ha="center", fontsize=9)
            ax.set(xscale="log", xlabel="rows a CPU-second, file to file", ylabel="accuracy on test rows, %", title="Scoring")
            ax.margins(0.2, 0.12)
        elif part == "text":
            rates = {name: entry["megabytes"] / entry["seconds"] for name, entry in found[part].items()}
            bars = ax.barh(
                list(rates), list(rates.values()), color=["tab:blue" if name.startswith("ours") else "tab:gray" for name in rates]
            )
            ax.bar_label(bars, fmt="%.1f", padding=3)
            ax.invert_yaxis()
            ax.set(xlabel="MB a second", title="Clean and tokenize")
            ax.margins(x=0.15)
        else:
            rows = [point["rows"] for point in found[part]["points"]]
            ax.plot(rows, [point["seconds"] for point in found[part]["points"]], "o-", color="tab:blue")
            memory = ax.twinx()
            memory.plot(rows, [point["megabytes"] for point in found[part]["points"]], "s--", color="tab:orange")
            memory.set(ylabel="peak MB (orange)", ylim=(0, None))
            ax.set(xlabel="rows", ylabel="seconds", title="Scoring ever more rows, quick model", xlim=(0, None), ylim=(0, None))
    figure.savefig(path, dpi=150)
