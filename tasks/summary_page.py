"""What a scoring run is told as: one self-contained page, and the same in short for Prefect. No review's text.

Neither holds a time or a duration: a run that was broken off and finished later is told as one that was not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.extremes import ScoredRow
from tasks.model.decision import NEGATIVE, POSITIVE, UNCERTAIN
from tasks.model.drift import FALSE_ALARMS, SEEN_SHARE, SMALLEST_SHIFT, SMALLEST_SHIFT_OF_WORDS, Drift
from tasks.periods import Period
from tasks.rendering import embed_pictures, render_template

SAMPLE_WARNING = "The model was trained on the generated sample: its scores say nothing about reviews that people wrote."
VERDICTS = {
    None: ("Not compared", "Reviews were scored"),
    "as in training": ("As in training", "These reviews look like those of training"),
    "slightly different": ("Slightly different", "These reviews differ a little from those of training"),
    "drifted": ("Drift", "These reviews are not like those of training"),
    "too few rows": ("Too few rows", "Too few reviews to compare with those of training"),
    "not compared": ("Not compared", "Reviews were scored"),
}
EXTREME_TITLES = {POSITIVE: "Most certainly positive", NEGATIVE: "Most certainly negative", UNCERTAIN: "Most uncertain"}
STATUS_NOTES = {
    "empty": "no words to score",
    "unknown_words": "no word that the model knows",
    "truncated": "longer than the LSTM reads",
}
FIGURE_NOTES = {
    "labels-over-time": "By the input's dates; below, how many reviews there are.",
    "drift-length": "Length in tokens.",
    "drift-unknown_words": "Share of a review's tokens that the model's vocabulary does not hold.",
    "drift-language": "A guess by small words and scripts, made to be counted, not trusted for one review.",
    "drift-score": "Probability of positive.",
    "drift-predicted": "The label that a review was given.",
}
ARTIFACT_BYTES = 150_000  # for pictures: Prefect keeps every version of an artifact in its database
LATEST_PERIODS, MOST_ROWS_SHOWN, MOST_FILES_IN_ARTIFACT = 8, 200, 40


@dataclass(frozen=True)
class FileFacts:
    """What became of one input: rows read = scored + quarantined, and the scored ones by label and by status."""

    source: str
    rows: int
    scored: int
    quarantined: int
    predicted: Mapping[str, int] = field(default_factory=dict)
    status: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SummaryFacts:
    """Everything the summary says; what is missing is left out of it.

    Args:
        model_id: The model's name.
        preset: The preset it was trained with.
        sample: The model was trained on the generated sample.
        files: Those that were scored, in order.
        failed: The others: why, by source.
        periods: Labels over time, in order; empty where no column holds dates.
        undated: Rows with a label whose date is missing or not understood.
        extremes: Rows to look at, by kind, the foremost first.
        drift: How the rows compare with those of training; None if the bundle holds no profile to compare with.
        figures: SVG by name, from `draw_summary_figures` and `to_svg`.
    """

    model_id: str
    preset: str = ""
    sample: bool = False
    files: Sequence[FileFacts] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    periods: Sequence[Period] = ()
    undated: int = 0
    extremes: Mapping[str, Sequence[ScoredRow]] = field(default_factory=dict)
    drift: Drift | None = None
    figures: Mapping[str, str] = field(default_factory=dict)

    @property
    def predicted(self) -> dict[str, int]:
        """Rows by label, over all files."""
        return {name: sum(file.predicted.get(name, 0) for file in self.files) for name in (POSITIVE, NEGATIVE, UNCERTAIN)}

    @property
    def status(self) -> dict[str, int]:
        """Rows by status, over all files."""
        names = dict.fromkeys(name for file in self.files for name in file.status)
        return {name: sum(file.status.get(name, 0) for file in self.files) for name in names}


def render_summary(facts: SummaryFacts, digest: str = "") -> str:
    """Return the summary: one HTML page without script, network or file beside it; light, dark and printable.

    Args:
        facts: What is told.
        digest: Of the facts, to be found in the page again.
    """
    from markupsafe import Markup

    figures = {name: Markup(svg) for name, svg in facts.figures.items()}
    values = _shared_values(facts)
    return render_template("summary.html", facts=facts, figures=figures, figure_notes=FIGURE_NOTES, digest=digest, **values)


def render_markdown(facts: SummaryFacts, figures: Mapping[str, bytes]) -> str:
    """Return the summary in short, for a Prefect artifact.

    Args:
        facts: What is told.
        figures: PNG by name, the most telling first. Those that would carry the text past its limit are named instead of shown.
    """
    shown, left_out = embed_pictures(figures, ARTIFACT_BYTES)
    return render_template("summary.md", facts=facts, figures=shown, left_out=left_out, **_shared_values(facts))


def seen_note(drift: Drift) -> str:
    """Return why less is said of rows that the model was trained on, or nothing if those are few."""
    if drift.seen_share <= SEEN_SHARE:
        return ""
    return (
        f"About {drift.seen_share:.0%} of the rows were training rows of this model. It knows them, so its scores of them "
        "say nothing about new reviews: unknown words, scores and labels are not compared."
    )


def _shared_values(facts: SummaryFacts) -> dict[str, Any]:
    judged = sum(facts.predicted.values())
    chip, verdict = VERDICTS[facts.drift.verdict if facts.drift else None]
    return {
        "chip": chip,
        "verdict": verdict,
        "seen_note": seen_note(facts.drift) if facts.drift else "",
        "judged": judged,
        "shares": {name: rows / judged if judged else None for name, rows in facts.predicted.items()},
        "rows": sum(file.rows for file in facts.files),
        "scored": sum(file.scored for file in facts.files),
        "quarantined": sum(file.quarantined for file in facts.files),
        "sample_warning": SAMPLE_WARNING,
        "extreme_titles": EXTREME_TITLES,
        "status_notes": STATUS_NOTES,
        "false_alarms": FALSE_ALARMS,
        "smallest_shift": SMALLEST_SHIFT,
        "smallest_shift_of_words": SMALLEST_SHIFT_OF_WORDS,
        "latest_periods": LATEST_PERIODS,
        "most_rows": MOST_ROWS_SHOWN,
        "most_files": MOST_FILES_IN_ARTIFACT,
    }
