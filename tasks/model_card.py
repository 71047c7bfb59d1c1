"""The model card: what a model is for, what it was made of, how good it is and where not to trust it."""

from tasks.rendering import render_template
from tasks.report_page import SAMPLE_WARNING, ReportFacts, lead_over_baselines, rank_models

FEWEST_ROWS_TO_TELL = 50  # the weakest of several slices of a dozen rows is weak by chance


def render_model_card(facts: ReportFacts) -> str:
    """Return the card as Markdown: it travels with the model, so it names no path, no time of this run and no verdict.

    Source: Mitchell et al. (2019), https://doi.org/10.1145/3287560.3287596
    """
    evaluation = facts.evaluation
    telling = [part for part in evaluation["slices"] if part["rows"] >= FEWEST_ROWS_TO_TELL]
    return render_template(
        "model_card.md",
        facts=facts,
        models=rank_models(evaluation),
        leads=lead_over_baselines(evaluation),
        confidence=f"{evaluation['settings']['confidence'] * 100:.4g}%",
        weakest=min(telling, key=lambda part: part["accuracy"], default=None),
        sample_warning=SAMPLE_WARNING,
    )
