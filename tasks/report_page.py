"""What a training run is told as: one self-contained page, and the same in short for Prefect. No review's text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tasks.measured import CrossValidation
from tasks.model.gate import Ruling
from tasks.model.metrics import ErrorExample, Evaluation, PairedDifference, Scores
from tasks.rendering import embed_pictures, group_settings, render_template

SAMPLE_WARNING = (
    "Trained and tested on the generated sample. These numbers prove the pipeline, not the model: "
    "they say nothing about reviews that people wrote."
)
VERDICTS = {
    None: "Promotion has not been decided",
    "promoted": "This model is now the champion",
    "refused": "This model was not promoted",
    "unchanged": "This model already was the champion",
}
BY_FORCE = "This model was made champion by force, against the rules"
MODEL_NAMES = {"lstm": "LSTM"}
FIGURE_NOTES = {
    "accuracy": "Where the curves part, the model learns its training rows by heart.",
    "loss": "Once validation loss rises, more epochs only fit the training rows. A ring marks the epoch that was kept.",
    "confusion": "Each row adds up to the reviews that truly are of that class.",
    "roc": "Up and to the left is better; the dotted line is a coin.",
    "precision-recall": "How pure the reviews called positive are as more are found; dotted: calling all positive.",
    "reliability": "On the dotted line, seven in ten reviews scored 0.7 are positive. Bars: 95% intervals.",
    "scores": "Reviews on the wrong side of the dotted threshold are the errors.",
    "slices-length": "Lengths in tokens, number of reviews in brackets, with intervals of the accuracy.",
    "slices-source": "Where the reviews came from, number of reviews in brackets, with intervals of the accuracy.",
    "lengths": "Test reviews, after cleaning.",
}
ARTIFACT_FIGURES = ("accuracy", "loss", "confusion", "roc", "reliability", "scores")
ARTIFACT_BYTES = 300_000  # Prefect keeps every version of an artifact in its database
MOST_ROWS_SHOWN = 25


@dataclass(frozen=True)
class DataFacts:
    """What was read, what was refused, and how the rest was divided.

    Args:
        rows_read: Rows of the input, refused ones included.
        rows: Rows that were kept.
        sources: Kept rows by source.
        refused: Refused rows by reason.
        dropped: Rows left aside knowingly, such as middling stars or `--label meh=drop`.
        outside_window: Rows before or after the days that were asked for.
        in_golden: Rows left out because they repeat a review of the golden test set.
        rows_by_split: Rows by split and class: {"train": {"negative": 1, "positive": 1}, …}.
        duplicates: Rows that repeat an earlier one after normalising.
        duplicates_with_other_label: Those among them whose label differs.
        left_out: Rows left out because they repeat a test or validation row, exactly or nearly.
        left_out_by_reason: The same by reason, such as {"near-duplicate of a test review": 7}.
        left_out_rows: Those rows, the most similar first: review_id, reason, repeats (the other's id), similarity; a few hundred at most.
        declared_split: Whether the source itself named its test rows.
        length_quantiles: Tokens a review by name of the quantile, such as {"median": 176}.
        unlabelled: Reviews without labels by what became of them, such as {"kept": 50000, "repeats a held-out review": 3}.
    """

    rows_read: int
    rows: int
    sources: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    dropped: int = 0
    outside_window: int = 0
    in_golden: int = 0
    rows_by_split: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    duplicates: int | None = None
    duplicates_with_other_label: int | None = None
    left_out: int | None = None
    left_out_by_reason: Mapping[str, int] = field(default_factory=dict)
    left_out_rows: Sequence[Mapping[str, Any]] = ()
    declared_split: bool = False
    length_quantiles: Mapping[str, int] = field(default_factory=dict)
    unlabelled: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class StepFacts:
    """How a step went; `state` is completed or cached."""

    name: str
    state: str
    seconds: float | None = None
    rows: int | None = None


@dataclass(frozen=True)
class ReportFacts:
    """Everything the report and the model card say; what is missing is left out of them.

    Args:
        model_id: The model's name.
        preset: The preset it was trained with.
        evaluation: The content of metrics.json.
        status: What promotion decided; None before it did.
        reason: Why, in a sentence.
        forced: Somebody's reason overrode the rules.
        created: When, ISO 8601, UTC.
        sample: Trained on the generated sample.
        champion_id: The model it was compared with.
        comparison: This model minus the champion, on the rows of the test that neither was trained on.
        rules: What the gate found, rule by rule.
        cross_validation: What models of the same settings reach on the other rows, fold by fold.
        data: Data quality.
        history: One mapping an epoch: any of epoch, loss, accuracy, val_loss, val_accuracy, seconds, learning_rate.
        best_epoch: The epoch whose weights were kept, from 1.
        model_summary: Keras' summary, as text.
        num_parameters: Trained numbers in the model.
        errors: From `error_examples`.
        steps: In order.
        settings: Every setting, nested as in flows/settings.py.
        command: The exact command that repeats the run.
        seed: The run's seed.
        data_digest: SHA-256 of the ingested data.
        versions: Library versions by name.
        figures: SVG by name, from `draw_figures` and `to_svg`.
    """

    model_id: str
    preset: str
    evaluation: Evaluation
    status: Literal["promoted", "refused", "unchanged"] | None = None
    reason: str = ""
    forced: bool = False
    created: str = ""
    sample: bool = False
    champion_id: str | None = None
    comparison: PairedDifference | None = None
    rules: Sequence[Ruling] = ()
    cross_validation: CrossValidation | None = None
    data: DataFacts | None = None
    history: Sequence[Mapping[str, float]] = ()
    best_epoch: int | None = None
    model_summary: str = ""
    num_parameters: int | None = None
    errors: Sequence[ErrorExample] = ()
    steps: Sequence[StepFacts] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    seed: int | None = None
    data_digest: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RankedModel:
    """One line of the comparison: the model, a part of it, or a baseline."""

    label: str
    kind: Literal["model", "part", "baseline"]
    scores: Scores


def render_report(facts: ReportFacts) -> str:
    """Return the report: one HTML page without script, network or file beside it; light, dark and printable."""
    from markupsafe import Markup

    models = rank_models(facts.evaluation)
    figures = {name: Markup(svg) for name, svg in facts.figures.items()}
    return render_template(
        "report.html",
        facts=facts,
        figures=figures,
        ladder=_ladder(models),
        has_training=bool(facts.history or facts.model_summary),
        has_origin=bool(facts.command or facts.data_digest or facts.versions or facts.seed is not None),
        setting_groups=group_settings(facts.settings),
        slowest=max((step.seconds or 0 for step in facts.steps), default=0),
        **_shared_values(facts, models),
    )


def render_markdown(facts: ReportFacts, figures: Mapping[str, bytes]) -> str:
    """Return the report in short, for a Prefect artifact.

    Args:
        facts: What is told.
        figures: PNG by name. Those that would carry the text past 300 kB are named instead of shown.
    """
    chosen = {name: figures[name] for name in ARTIFACT_FIGURES if name in figures}
    shown, left_out = embed_pictures(chosen, ARTIFACT_BYTES - 40_000)  # the rest is for the words
    values = _shared_values(facts, rank_models(facts.evaluation))
    return render_template("report.md", facts=facts, figures=shown, left_out=left_out, **values)


def render_comparison(facts: ReportFacts) -> str:
    """Return what the gate found and the scores beside each other, as Markdown for a Prefect artifact."""
    return render_template("comparison.md", facts=facts, **_shared_values(facts, rank_models(facts.evaluation)))


def rank_models(evaluation: Evaluation) -> list[RankedModel]:
    """List the model, its parts alone and its baselines, each group best first."""

    def best_first(models: Mapping[str, Scores], kind: Literal["part", "baseline"], suffix: str) -> list[RankedModel]:
        ranked = sorted(models.items(), key=lambda named: (-named[1]["accuracy"], named[0]))
        return [RankedModel(f"{MODEL_NAMES.get(name, name)} {suffix}", kind, scores) for name, scores in ranked]

    return [
        RankedModel("this model", "model", evaluation["model"]),
        *best_first(evaluation["parts"], "part", "part alone"),
        *best_first(evaluation["baselines"], "baseline", "baseline"),
    ]


def lead_over_baselines(evaluation: Evaluation) -> dict[str, float]:
    """Return the model's accuracy minus that of each baseline, by the baseline's name, the best baseline first."""
    accuracy = evaluation["model"]["accuracy"]
    leads = {name: accuracy - scores["accuracy"] for name, scores in evaluation["baselines"].items()}
    return dict(sorted(leads.items(), key=lambda named: (named[1], named[0])))


def _shared_values(facts: ReportFacts, models: list[RankedModel]) -> dict[str, Any]:
    columns = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds")
    present = {name for entry in facts.history for name in entry}
    return {
        "models": models,
        "verdict": BY_FORCE if facts.forced else VERDICTS[facts.status],
        "sample_warning": SAMPLE_WARNING,
        "confidence": f"{facts.evaluation['settings']['confidence'] * 100:.4g}%",
        "leads": lead_over_baselines(facts.evaluation),
        "history_columns": [name for name in columns if name in present],
        "figure_notes": FIGURE_NOTES,
        "part_names": MODEL_NAMES,
        "most_rows": MOST_ROWS_SHOWN,
    }


def _ladder(models: list[RankedModel]) -> dict[str, Any]:
    """Place every model's accuracy on one scale, in percent of its width; a far worse baseline stands off the scale."""
    ends = {model.label: model.scores["intervals"]["accuracy"] or [model.scores["accuracy"]] * 2 for model in models}
    worst = min(models, key=lambda model: model.scores["accuracy"])
    near = [model for model in models if model is not worst or worst.kind != "baseline"] or models
    low = min(ends[model.label][0] for model in near)
    high = max(ends[model.label][1] for model in near)
    if low - ends[worst.label][1] < (high - low):
        low = min(low, ends[worst.label][0])
    step = next((size for size in (0.005, 0.01, 0.02, 0.05, 0.1) if (high - low) / size <= 5), 0.2)
    first, last = int(low / step), -int(-high // step)
    start, width = first * step, max((last - first) * step, step)

    def place(share: float) -> float:
        return round(min(max((share - start) / width * 100, 0.0), 100.0), 2)

    return {
        "ticks": [(place(tick * step), f"{tick * step * 100:.3g}%") for tick in range(first, last + 1)],
        "rungs": [
            {
                "label": model.label,
                "kind": model.kind,
                "accuracy": model.scores["accuracy"],
                "interval": ends[model.label],
                "off_scale": ends[model.label][1] < start,
                "left": place(ends[model.label][0]),
                "right": place(ends[model.label][1]),
                "dot": place(model.scores["accuracy"]),
            }
            for model in models
        ],
    }
