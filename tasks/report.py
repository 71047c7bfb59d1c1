"""report: one self-contained page about a run, and the same facts as artifacts in the Prefect UI."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from prefect import task

from tasks.discreet import discreet
from tasks.drawing import to_png, to_svg
from tasks.facts import collect_facts, data_facts
from tasks.figures import draw_figures
from tasks.fingerprint import sha256_of_json
from tasks.measured import measured_by, summarize_folds
from tasks.model.metrics import Evaluation, error_examples
from tasks.model.registry import Verdict, verdict_of
from tasks.outcome import prefect_state, run_logger
from tasks.rendering import template_digest
from tasks.report_page import ARTIFACT_FIGURES, DataFacts, ReportFacts, StepFacts, render_comparison, render_markdown, render_report
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store
from tasks.tables import read_columns

LIBRARIES = ("jinja2", "matplotlib", "numpy", "pillow", "pyarrow")
REPORT, COMPARISON = ".md", ".comparison.md"
_ERRORS_SHOWN = 20


def report_recipe(
    model: ArtifactRef, evaluated: ArtifactRef, decided: ArtifactRef, store: Store, folds: Sequence[ArtifactRef] = ()
) -> Recipe:
    """Describe what reporting would make; the run's command and timings do not count."""
    inputs = {
        "train": store.record_of(model).digest,
        "evaluate": store.record_of(evaluated).digest,
        "promote": decided.sha256,
        **{f"fold {number}": fold.sha256 for number, fold in enumerate(folds, 1)},
        "data": sha256_of_json(dataclasses.asdict(data_facts(store.lineage(model)) or DataFacts(0, 0))),
    }
    return Recipe.of("report", __name__, inputs, {"templates": template_digest()}, LIBRARIES)


def report_artifact(
    model: ArtifactRef, evaluated: ArtifactRef, decided: ArtifactRef, folds: Sequence[ArtifactRef], command: str, store: Store
) -> StepResult:
    """Write the page to `reports/<model_id>.html`, and its short form for the Prefect UI beside it."""
    recipe = report_recipe(model, evaluated, decided, store, folds)

    def write(draft: Draft) -> None:
        verdict = verdict_of(decided, store)
        facts, figures = _facts_and_figures(model, evaluated, verdict, folds, command, store)
        svg = {name: to_svg(figure, name) for name, figure in figures.items()}
        png = {name: to_png(figure) for name, figure in figures.items() if name in ARTIFACT_FIGURES}
        draft.write_bytes(f"reports/{verdict.model_id}.html", render_report(dataclasses.replace(facts, figures=svg)).encode())
        draft.write_bytes(f"reports/{verdict.model_id}{REPORT}", render_markdown(facts, png).encode())
        draft.write_bytes(f"reports/{verdict.model_id}{COMPARISON}", render_comparison(facts).encode())
        draft.rows = evaluated.rows

    return store.make(recipe, write)


def _facts_and_figures(
    model: ArtifactRef, evaluated: ArtifactRef, verdict: Verdict, folds: Sequence[ArtifactRef], command: str, store: Store
) -> tuple[ReportFacts, dict[str, Any]]:
    evaluation: Evaluation = store.record_of(evaluated).facts["evaluation"]
    predictions = read_columns(store.path(evaluated))
    y_true, y_score = predictions["y_true"].to_numpy(), predictions["y_score"].to_numpy()
    facts = dataclasses.replace(
        collect_facts(model, evaluation, store),
        status=verdict.status,
        reason=verdict.reason,
        forced=verdict.forced,
        champion_id=verdict.champion_id,
        comparison=verdict.comparison,
        rules=verdict.rules,
        cross_validation=summarize_folds([measured_by(fold, store) for fold in folds]) if folds else None,
        errors=error_examples(predictions["review_id"].to_pylist(), y_true, y_score, _ERRORS_SHOWN, evaluation["settings"]["threshold"]),
        steps=[StepFacts(step, entry["state"], entry["seconds"], entry["rows"]) for step, entry in store.journal().items()],
        command=command,
        created=store.record_of(model).created[:19] + "Z",
    )
    parts = {name: predictions[f"y_score_{name}"].to_numpy() for name in evaluation["parts"]}
    figures = draw_figures(
        evaluation=evaluation,
        y_true=y_true,
        scores={"this model": y_score, **(parts if len(parts) > 1 else {})},
        history=facts.history,
        best_epoch=facts.best_epoch,
        num_tokens=predictions["num_tokens"].to_numpy(),
        sequence_length=facts.settings["model"]["sequence_length"],
    )
    return facts, figures


def publish_to_prefect(reported: ArtifactRef, verdict: Verdict, data: DataFacts | None, store: Store) -> None:
    """Show the report in the Prefect UI, one key a kind so that its page is a timeline; a lost server costs only this."""
    from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact

    page = store.path(reported)
    told = f"{page.stem} {verdict.status}: {verdict.reason}"
    try:
        if data:
            create_table_artifact(quality_table(data), key="data-quality", description=f"{data.rows:,} of {data.rows_read:,} rows kept")
        for ending, key in ((REPORT, "training-report"), (COMPARISON, "model-comparison")):
            create_markdown_artifact(page.with_suffix(ending).read_text(encoding="utf-8"), key=key, description=told)
        create_link_artifact(page.resolve().as_uri(), link_text=f"Report of {page.stem}", key="report-page")
    except Exception as error:  # the history may be lost, never the result
        run_logger().warning("The report is at %s, but not in the Prefect UI: %s.", page, type(error).__name__)


def quality_table(data: DataFacts) -> list[dict[str, Any]]:
    """Return what became of the rows that were read, a line for each fate; nothing of any text."""
    fates = [
        ("read", "", data.rows_read),
        *(("kept", source, rows) for source, rows in data.sources.items()),
        *(("refused", reason, rows) for reason, rows in data.refused.items()),
        ("left aside", "labels to drop, middling stars", data.dropped),
        ("left aside", "outside the window of days", data.outside_window),
        *(("left out of training", reason, rows) for reason, rows in data.left_out_by_reason.items()),
        *((split, kind, rows) for split, kinds in data.rows_by_split.items() for kind, rows in kinds.items()),
    ]
    return [{"rows": rows, "what": what, "which": which} for what, which, rows in fates if rows]


@task(task_run_name="report")
@discreet
def report(
    model: ArtifactRef, evaluated: ArtifactRef, decided: ArtifactRef, folds: Sequence[ArtifactRef], command: str, store: Store
) -> ArtifactRef:
    """Write the report and show it in the Prefect UI."""
    result = report_artifact(model, evaluated, decided, folds, command, store)
    publish_to_prefect(result.ref, verdict_of(decided, store), data_facts(store.lineage(model)), store)
    return prefect_state(result)
