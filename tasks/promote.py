"""promote: decides whether the new model becomes the champion, and says why. A refused model is kept; the champion stays."""

from dataclasses import asdict

import numpy as np
import pyarrow.compute as pc
from prefect import task

from tasks.errors import MachineError, PipelineError
from tasks.model import bundle
from tasks.model.metrics import EvaluationSettings, paired_bootstrap
from tasks.model.registry import Verdict, champion, models_folder, promote_model, registry_lock, verdict_of, was_undone
from tasks.outcome import log_step, prefect_state
from tasks.schemas import REVIEW, SPLIT, TEXT_HASH
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store
from tasks.tables import read_batches, read_columns

LIBRARIES = ("keras", "numpy", "pyarrow", "scipy", "tensorflow")


def promote_artifact(
    evaluated: ArtifactRef,
    model: ArtifactRef,
    rows: ArtifactRef,
    settings: EvaluationSettings,
    force_reason: str | None,
    store: Store,
) -> StepResult:
    """Decide, write the verdict, and move `champion.json` if the verdict says so; deciding again changes nothing."""
    model_id = store.path(model).parent.name
    with registry_lock(store):
        current = champion(store)
        recipe = promote_recipe(evaluated, model_id, current.model_id if current else None, settings, force_reason, store)

        def write(draft: Draft) -> None:
            verdict = decide(evaluated, model_id, recipe.settings["champion"], rows, settings, force_reason, store)
            draft.write_json(f"promote/{recipe.key}.verdict.json", asdict(verdict))
            draft.rows = verdict.comparison["rows"] if verdict.comparison else evaluated.rows
            draft.facts["verdict"] = asdict(verdict)

        result = store.make(recipe, write)
        verdict = verdict_of(result.ref, store)
        moves = verdict.status == "promoted" and (current is None or current.model_id != model_id)
        if moves and current and not force_reason and was_undone(store, model_id, verdict.reason):
            log_step("promote", f"{model_id} was promoted before and replaced since; `sentiment models promote` brings it back")
            return result
        log_step("promote", f"{verdict.status}: {verdict.reason}")
        if moves:
            promote_model(store, model_id, verdict.reason)
    return result


def promote_recipe(
    evaluated: ArtifactRef,
    model_id: str,
    champion_id: str | None,
    settings: EvaluationSettings,
    force_reason: str | None,
    store: Store,
) -> Recipe:
    """Describe the decision; for the present champion, the one that made it champion."""

    def against(other: str | None) -> Recipe:
        facts = {"model": model_id, "champion": other, "force_reason": force_reason, "evaluate": settings.model_dump(mode="json")}
        return Recipe.of("promote", __name__, {"evaluate": evaluated.sha256}, facts, LIBRARIES)

    if champion_id == model_id:
        for record in store.records("promote"):
            verdict = record.facts["verdict"]
            if verdict["model_id"] == model_id and verdict["status"] == "promoted" and against(verdict["champion_id"]) == record.recipe:
                return record.recipe
    return against(champion_id)


def decide(
    evaluated: ArtifactRef,
    model_id: str,
    champion_id: str | None,
    rows: ArtifactRef,
    settings: EvaluationSettings,
    force_reason: str | None,
    store: Store,
) -> Verdict:
    """Compare a model with the champion on the test rows that neither was trained on.

    Raises:
        MachineError: The champion is damaged or gone.
    """
    if force_reason:
        return Verdict(model_id, "promoted", f"forced: {force_reason}", champion_id)
    if champion_id is None:
        return Verdict(model_id, "promoted", "there was no champion", None)
    if champion_id == model_id:
        return Verdict(model_id, "promoted", "it already is the champion", champion_id)
    try:
        old = bundle.load_bundle(models_folder(store) / champion_id)
    except PipelineError as error:  # no verdict: one that was kept would outlive the champion's repair
        raise MachineError(
            f"Model {model_id} is trained, but the champion {champion_id} cannot be opened to compare it with: {error} "
            "Or promote the new one with --force-promote REASON."
        ) from error
    new_is_sample, old_is_sample = (
        bundle.is_sample(models_folder(store) / model_id),
        bool(old.settings.trained_on["sample"]),
    )
    if new_is_sample != old_is_sample:
        if new_is_sample:
            return Verdict(
                model_id,
                "refused",
                f"it was trained on the generated sample, the champion {champion_id} on real reviews",
                champion_id,
            )
        return Verdict(
            model_id,
            "promoted",
            f"the champion {champion_id} was trained on the generated sample, this model was not",
            champion_id,
        )
    return _compare(evaluated, model_id, rows, old, settings, store)


def _compare(
    evaluated: ArtifactRef,
    model_id: str,
    rows: ArtifactRef,
    old: bundle.SentimentModel,
    settings: EvaluationSettings,
    store: Store,
) -> Verdict:
    seen = bundle.seen_hashes(models_folder(store) / old.model_id)
    old_scores: list[np.ndarray] = []
    unseen: list[np.ndarray] = []
    for batch in read_batches(store.path(rows), [REVIEW, SPLIT, TEXT_HASH]):
        batch = batch.filter(pc.equal(batch[SPLIT], "test"))
        old_scores.append(old.score_reviews(batch[REVIEW]).p_positive)
        unseen.append(~np.isin(batch[TEXT_HASH].to_numpy(), seen))
    fair = np.concatenate(unseen)
    rows_seen = int((~fair).sum())
    if not fair.any():
        return Verdict(
            model_id,
            "refused",
            f"the champion {old.model_id} was trained on every test row, so no fair comparison is left",
            old.model_id,
            None,
            rows_seen,
        )
    predictions = read_columns(store.path(evaluated), ["y_true", "y_score"])
    comparison = paired_bootstrap(
        predictions["y_true"].to_numpy()[fair],
        predictions["y_score"].to_numpy()[fair],
        np.concatenate(old_scores)[fair],
        settings,
    )
    low, high = comparison["interval"]
    as_good = comparison["difference"] >= 0
    reason = (
        f"{comparison['difference']:+.2%} accuracy against the champion {old.model_id} on {comparison['rows']:,} test rows "
        f"({settings.confidence * 100:.4g} % interval {low:+.2%} to {high:+.2%})"
    )
    if rows_seen:
        reason += f"; {rows_seen:,} rows that the champion was trained on were left out"
    return Verdict(model_id, "promoted" if as_good else "refused", reason, old.model_id, comparison, rows_seen)


@task(task_run_name="promote")
def promote(
    evaluated: ArtifactRef,
    model: ArtifactRef,
    rows: ArtifactRef,
    settings: EvaluationSettings,
    force_reason: str | None,
    store: Store,
) -> ArtifactRef:
    """Decide whether the model becomes the champion."""
    return prefect_state(promote_artifact(evaluated, model, rows, settings, force_reason, store))
