"""The training flow: ingest → clean → tokenize → split → train → evaluate → promote → report. Start reading here."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.ending import end_state
from flows.form import Folds, Overrides, Sources
from flows.settings import TrainingSettings, compose_settings, override_words
from tasks.balance import check_balance
from tasks.clean import clean
from tasks.evaluate import evaluate
from tasks.ingest import ingest, read_golden
from tasks.measure import check_folds, measure
from tasks.measured import measured_by, summarize_folds
from tasks.mlflow_log import check_mlflow, log_to_mlflow
from tasks.model.bundle import is_sample
from tasks.model.folds import Fold
from tasks.model.registry import check_reason, is_champion, verdict_of, was_promoted_by_this_run
from tasks.outcome import ref_of, rename_flow_run
from tasks.promote import promote
from tasks.report import report
from tasks.reviews.sources import IMDB
from tasks.schemas import SAMPLE
from tasks.split import split
from tasks.store import ArtifactRef, Store
from tasks.tokenize import tokenize
from tasks.train import train
from tasks.unlabelled import unlabelled


def _run_name() -> str:
    parameters = flow_run.get_parameters()
    return f"retrain {', '.join(Path(source).name for source in parameters['sources'])} {Path(parameters['preset']).name}"


@flow(name="training", flow_run_name=_run_name)
def training(
    sources: Sources = ["sample"],  # noqa: B006  Prefect's form shows the default; nothing changes it
    preset: str = "default",
    overrides: Overrides = None,
    unlabelled_sources: list[str] | None = None,
    artifacts: str = "artifacts",
    force_promote: str | None = None,
    golden_test: str | None = None,
    folds: Folds = None,
) -> dict[str, Any]:
    """Train a model, evaluate it, promote it if it has earned that, and report.

    Args:
        sources: What to train on: sample, imdb, or paths of labelled review files, folders and globs.
        preset: The settings to start from: default, tutorial (the article's model), quick, or the path of a preset file.
        overrides: Single settings by dotted name, such as {"model.epochs": 8}; what is left empty stays as the preset has it.
        unlabelled_sources: Files, folders and globs of reviews without labels, to learn from as well; feedback that was scored will do.
        artifacts: The folder for intermediates, models and reports.
        force_promote: A reason to make the new model champion whatever the comparison says.
        golden_test: A labelled file kept apart: never trained on, every model evaluated on it.
        folds: Cross-validate the settings as well: so many models more, each measured on a part of the rows that are not test rows.

    Returns:
        The run's summary, as `sentiment train --json` prints it.
    """
    check_reason(force_promote)
    check_mlflow()
    settings = compose_settings(preset, list((overrides or {}).items()))
    store = Store(Path(artifacts).resolve(), run_id=str(flow_run.get_id()))

    golden = read_golden(golden_test, settings.ingest, store) if golden_test else None
    ingested = ingest(sources, settings.ingest, store)
    tags = [Path(preset).name, *sorted({source if source in (SAMPLE, IMDB) else "files" for source in sources})]
    rename_flow_run(
        f"retrain {', '.join(Path(source).name for source in sources)} {ref_of(ingested).rows:,} rows {Path(preset).name}", tags
    )
    cleaned = clean(ingested, settings.clean, store)
    tokenized = tokenize(cleaned, settings.tokenize, store)
    rows = split(tokenized, settings.split, store, golden)
    check_balance(ref_of(rows), settings.balance, store)
    check_folds(ref_of(rows), folds, store)
    more = unlabelled(unlabelled_sources, rows, settings.unlabelled, store, golden) if unlabelled_sources else None
    model = train(rows, more, settings.train, store)
    evaluated = evaluate(model, rows, settings.evaluate, store, golden)
    decided = promote(evaluated, model, rows, settings.promote, force_promote, store)
    folded = cross_validate(ref_of(rows), ref_of(more) if more else None, settings, folds, store)
    told = _with_its_days(overrides or {}, settings)
    command = command_line(sources, preset, told, unlabelled_sources or [], force_promote, golden_test, folds)
    reported = report(model, evaluated, decided, folded, command, store)

    rename_flow_run(tags=[*tags, verdict_of(ref_of(decided), store).model_id])

    summary = summarize(settings, ref_of(model), ref_of(evaluated), ref_of(decided), ref_of(reported), store)
    if folded:
        summary["cross_validation"] = asdict(summarize_folds([measured_by(fold, store) for fold in folded]))
    log_to_mlflow(summary, settings.model_dump(mode="json"), is_champion=is_champion(store, summary["model_id"]))
    return end_state(summary, summary["status"], f"{summary['model_id']}: {summary['reason']}")


def cross_validate(
    rows: ArtifactRef, more: ArtifactRef | None, settings: TrainingSettings, folds: int | None, store: Store
) -> list[ArtifactRef]:
    """Measure the settings on each fold in turn, a task a fold; no folds, no measurements."""
    numbers = range(1, (folds or 0) + 1)
    return [
        ref_of(measure(rows, more, settings.train, store, f"fold {number} of {folds}", Fold(number, len(numbers)))) for number in numbers
    ]


def summarize(
    settings: TrainingSettings,
    model: ArtifactRef,
    evaluated: ArtifactRef,
    decided: ArtifactRef,
    reported: ArtifactRef,
    store: Store,
) -> dict[str, Any]:
    """Return what a run came to, in the form that `--json` promises."""
    evaluation = store.record_of(evaluated).facts["evaluation"]
    verdict = verdict_of(decided, store)
    steps = store.journal()
    shown = ("rows", "accuracy", "log_loss", "roc_auc", "ece")
    moved = was_promoted_by_this_run(store, verdict.model_id)
    refused = verdict.status == "refused" and any(step["state"] != "cached" for step in steps.values())
    return {
        "command": "train",
        "status": "promoted" if moved else "refused" if refused else "unchanged",
        "reason": verdict.reason,
        "rules": [asdict(ruling) for ruling in verdict.rules],
        "model_id": verdict.model_id,
        "preset": settings.preset,
        "test": {name: evaluation["model"][name] for name in shown},
        "parts": {name: {"accuracy": part["accuracy"]} for name, part in evaluation["parts"].items()},
        "baselines": {name: {"accuracy": part["accuracy"]} for name, part in evaluation["baselines"].items()},
        **({"golden": {name: evaluation["golden"]["scores"][name] for name in shown}} if "golden" in evaluation else {}),
        "steps": steps,
        "sample": is_sample(store.path(model).parent),
        "report": str(store.path(reported)),
        "bundle": str(store.path(model).parent),
    }


def _with_its_days(overrides: dict[str, Any], settings: TrainingSettings) -> dict[str, Any]:
    """Name the day on which a window such as the last 90 days began, so that the command means the same tomorrow."""
    if "ingest.window.last" not in overrides:
        return overrides
    since = {"ingest.window.since": str(settings.ingest.window.since)}
    return {name: value for name, value in overrides.items() if name != "ingest.window.last"} | since


def command_line(
    sources: list[str],
    preset: str,
    overrides: dict[str, Any],
    unlabelled_sources: Sequence[str] = (),
    force_promote: str | None = None,
    golden_test: str | None = None,
    folds: int | None = None,
) -> str:
    """Return the command that repeats a run; values are JSON, as `--set` reads them."""
    words = ["sentiment", "train", *sources, "--preset", preset, *override_words("--set", overrides)]
    if unlabelled_sources:
        words += ["--unlabelled", *unlabelled_sources]
    if golden_test:
        words += ["--golden-test", golden_test]
    if force_promote:
        words += ["--force-promote", force_promote]
    if folds:
        words += ["--folds", str(folds)]
    return shlex.join(words)
