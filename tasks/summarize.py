"""summarize: what a scoring run came to, as a page beside the results and in the Prefect UI; an event where the reviews have drifted."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from prefect import task

from tasks.discreet import discreet
from tasks.drawing import to_png, to_svg
from tasks.errors import MachineError
from tasks.extremes import list_extremes
from tasks.fingerprint import sha256_of_json
from tasks.json_text import parse_json
from tasks.model import bundle
from tasks.model.drift import Drift, FeatureDrift, compare_tallies, drift_event
from tasks.model.profile import Tally, tally_of
from tasks.model.registry import models_folder
from tasks.outcome import DRIFT_DETECTED, log_step, run_logger, tell_prefect
from tasks.periods import list_periods
from tasks.rendering import template_digest
from tasks.store import Store, atomic_file, make_folder
from tasks.summary_figures import draw_summary_figures
from tasks.summary_page import FileFacts, SummaryFacts, render_markdown, render_summary
from tasks.tallies import Facts, merge_facts

SUMMARY = "summary.html"


class Scored(Protocol):
    """What the summary needs to know of a scored file: rows read = scored + quarantined, and the merged facts of its rows."""

    @property
    def source(self) -> str:
        """Its name."""

    @property
    def rows(self) -> int:
        """Rows read."""

    @property
    def scored(self) -> int:
        """Rows in the result."""

    @property
    def quarantined(self) -> int:
        """Rows that could not be read."""

    @property
    def facts(self) -> Facts:
        """From `tasks.tallies`."""


def collect_summary(model_id: str, files: Sequence[Scored], failed: Mapping[str, str], store: Store) -> SummaryFacts:
    """Return everything that the summary tells.

    Args:
        model_id: The model that scored.
        files: Those that were scored, now or earlier.
        failed: The others: why, by source.
        store: The artifacts folder that holds the model.
    """
    folder = models_folder(store) / model_id
    trained_on = json.loads((folder / bundle.SETTINGS).read_text(encoding="utf-8"))["trained_on"]
    facts = merge_facts(file.facts for file in files)
    return SummaryFacts(
        model_id=model_id,
        preset=trained_on["preset"],
        sample=trained_on["sample"],
        files=[
            FileFacts(file.source, file.rows, file.scored, file.quarantined, file.facts.get("predicted", {}), file.facts.get("status", {}))
            for file in files
        ],
        failed=failed,
        periods=list_periods(facts.get("periods", {})),
        undated=facts.get("undated", 0),
        extremes=list_extremes(facts.get("extremes", {})),
        drift=compare_with_training(facts, folder),
    )


def compare_with_training(facts: Facts, folder: Path) -> Drift | None:
    """Compare scored rows with the held-out rows that a bundle's profile describes; None if there is nothing to compare."""
    reference = _read_profile(folder)
    if reference is None or "looks" not in facts:
        return None
    seen = facts["seen"]
    return compare_tallies(reference, facts["looks"], seen["trained_on"] / max(seen["looked_up"], 1))


def _read_profile(folder: Path) -> Tally | None:
    try:
        return tally_of(parse_json((folder / bundle.PROFILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MachineError(f"{bundle.PROFILE} of {folder.name} cannot be read. Train the model again, or restore its folder.") from error


def write_summary(facts: SummaryFacts, place: Path) -> dict[str, bytes] | None:
    """Write the page; equal facts make equal bytes.

    Returns:
        The figures as PNG by name, those of drifted features first, or None if the page already told these facts.
    """
    digest = sha256_of_json([dataclasses.asdict(facts), template_digest()])
    if place.is_file() and digest in place.read_text(encoding="utf-8"):
        return None
    figures = draw_summary_figures(facts.drift, facts.periods)
    svg = {name: to_svg(figure, name) for name, figure in figures.items()}
    make_folder(place.parent)
    with atomic_file(place) as file:
        file.write(render_summary(dataclasses.replace(facts, figures=svg), digest).encode())
    telling = [f"drift-{feature.name}" for feature in facts.drift.drifted] if facts.drift else []
    return {name: to_png(figures[name]) for name in sorted(figures, key=lambda name: name not in telling)}


def publish_to_prefect(facts: SummaryFacts, figures: Mapping[str, bytes], place: Path) -> None:
    """Show the summary in the Prefect UI, one key a kind so that its page is a timeline; a lost server costs only this."""
    from prefect.artifacts import create_markdown_artifact, create_table_artifact

    verdict = f": {facts.drift.verdict}" if facts.drift else ""
    told = f"{sum(file.scored for file in facts.files):,} rows scored with {facts.model_id}{verdict}"
    try:
        create_markdown_artifact(render_markdown(facts, figures), key="scoring-summary", description=told)
        if facts.drift:
            create_table_artifact([_table_row(feature) for feature in facts.drift.features], key="drift", description=told)
    except Exception as error:  # the history may be lost, never the result
        run_logger().warning("The summary is at %s, but not in the Prefect UI: %s.", place, type(error).__name__)


def _table_row(feature: FeatureDrift) -> dict[str, Any]:
    return {
        "feature": feature.label,
        "verdict": feature.verdict,
        "these rows": feature.here,
        "in training": feature.reference,
        "index (PSI)": round(feature.psi, 4),
        "by chance up to": round(feature.chance, 4),
    }


def tell_of_drift(drift: Drift, model_id: str) -> None:
    """Log which features have drifted, and emit the event that automations wait for; nothing of any text."""
    for feature in drift.drifted:
        run_logger().warning("Drift in %s: %s; in training %s.", feature.label, feature.here, feature.reference)
    tell_prefect(DRIFT_DETECTED, model_id, drift_event(drift, model_id))


@task(task_run_name="summarize")
@discreet
def summarize(
    model_id: str, files: Sequence[Scored], failed: Mapping[str, str], folder: Path, store: Store, *, keep: bool = False
) -> dict[str, Any]:
    """Write the summary of a scoring run and show it in the Prefect UI; a summary that stands already is left as it is.

    Args:
        model_id: The model that scored.
        files: What was scored, now or earlier.
        failed: The other files: why, by source.
        folder: That of the results; the page there is always that of the latest run.
        store: The artifacts folder.
        keep: Whether a page of this run alone is kept beside it, as the next run is over other files.

    Returns:
        The page's path, and the verdict on drift if there was something to compare.
    """
    facts, place = collect_summary(model_id, files, failed, store), folder / SUMMARY
    figures = write_summary(facts, place)
    verdict = facts.drift.verdict if facts.drift else None
    if figures is not None:
        log_step("summarize", f"{verdict or 'not compared with training'}: {place}")
        publish_to_prefect(facts, figures, place)
        if facts.drift and facts.drift.drifted:
            tell_of_drift(facts.drift, model_id)
        if keep:
            latest, place = place, place.with_name(f"summary-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{store.run_id[:8]}.html")
            with atomic_file(place) as file:
                file.write(latest.read_bytes())
    return {"summary": str(place), "drift": verdict}
