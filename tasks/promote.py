"""promote: decides whether the new model becomes the champion, and says why. A refused model is kept; the champion stays."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from pydantic import BaseModel

from tasks.discreet import discreet
from tasks.errors import MachineError, PipelineError
from tasks.model import bundle, gate
from tasks.model.fresh_process import FreshProcess
from tasks.model.gate import CHAMPION, FRESH, SAMPLE_RULE, Challenge, GateSettings, Ruling, Scored, not_applied
from tasks.model.metrics import LINEAR_BASELINE, MOST_SOURCES, Evaluation, EvaluationSettings, PairedDifference, label_lengths
from tasks.model.registry import (
    Verdict,
    champion,
    check_reason,
    models_folder,
    note_refusal,
    promote_model,
    registry_lock,
    verdict_of,
    was_undone,
)
from tasks.outcome import PROMOTED, REFUSED, log_step, prefect_state, tell_prefect
from tasks.reviews.text import text_hashes
from tasks.schemas import GOLDEN, GOLDEN_PREDICTIONS, REVIEW, SOURCE, SPLIT, TEXT_HASH
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store
from tasks.tables import read_batches, read_columns

LIBRARIES = ("numpy", "pyarrow", "scipy")
LSTM_RULE = "LSTM alone"
_SPEED_ROUNDS = 3
_OF_SAMPLE = "it was trained on the generated sample, whose numbers prove the pipeline, not the model"


class PromoteSettings(BaseModel, frozen=True, extra="forbid"):
    """What the decision stands on: how rows are judged and compared, and what is asked."""

    evaluate: EvaluationSettings = EvaluationSettings()
    gate: GateSettings = GateSettings()


@dataclass(frozen=True)
class Case:
    """A model before the gate: what was found of it on the test rows, and whose place it wants.

    Args:
        evaluated: Its predictions and metrics.
        model_id: Its name.
        rows: The split, whose test rows the champion scores again.
        champion_id: Today's champion, if there is one.
        since_better: What champions have won or lost since the last sure improvement.
        settings: What is asked.
        force_reason: Why to promote it whatever the rules say, if somebody wants that.
        store: The artifacts folder.
    """

    evaluated: ArtifactRef
    model_id: str
    rows: ArtifactRef
    champion_id: str | None
    since_better: float
    settings: PromoteSettings
    force_reason: str | None
    store: Store

    @property
    def folder(self) -> Path:
        """The model's bundle."""
        return models_folder(self.store) / self.model_id


@dataclass
class Findings:
    """What the rules found so far, and what the verdict keeps beside them."""

    rulings: list[Ruling] = field(default_factory=list)
    comparison: PairedDifference | None = None
    rows_seen: int = 0
    since_better: float = 0.0


def promote_artifact(
    evaluated: ArtifactRef,
    model: ArtifactRef,
    rows: ArtifactRef,
    settings: PromoteSettings,
    force_reason: str | None,
    store: Store,
) -> StepResult:
    """Decide, write the verdict, and move `champion.json` if the verdict says so; deciding again changes nothing.

    Raises:
        CallerError: The reason to force is blank.
        MachineError: The champion is damaged or gone.
    """
    check_reason(force_reason)
    model_id = store.path(model).parent.name
    with registry_lock(store):
        current = champion(store)
        recipe = promote_recipe(evaluated, model_id, current.model_id if current else None, settings, force_reason, store)

        def write(draft: Draft) -> None:
            since_better = current.since_better if current else 0.0
            verdict = decide(Case(evaluated, model_id, rows, recipe.settings["champion"], since_better, settings, force_reason, store))
            draft.write_json(f"promote/{recipe.key}.verdict.json", asdict(verdict))
            draft.rows = verdict.comparison["rows"] if verdict.comparison else evaluated.rows
            draft.facts["verdict"] = asdict(verdict)

        result = store.make(recipe, write)
        verdict = verdict_of(result.ref, store)
        moves = verdict.status == "promoted" and (current is None or current.model_id != model_id)
        if moves and current and not force_reason and was_undone(store, model_id, verdict.reason):
            log_step("promote", f"{model_id} was promoted before and replaced since; `sentiment models promote` brings it back")
            return result
        _log_verdict(verdict, every_rule=not result.cached)
        if moves:
            promote_model(store, model_id, verdict.reason, verdict)
            tell_prefect(PROMOTED, model_id, {"reason": verdict.reason, "replaced": verdict.champion_id, "artifacts": str(store.root)})
        elif verdict.status == "refused" and not result.cached:
            note_refusal(store, verdict)
            tell_prefect(REFUSED, model_id, {"reason": verdict.reason, "champion": verdict.champion_id, "artifacts": str(store.root)})
    return result


def _log_verdict(verdict: Verdict, *, every_rule: bool) -> None:
    for ruling in verdict.rules if every_rule else ():
        log_step("promote", f"{ruling.verdict}: {ruling.rule}: {ruling.words}")
    log_step("promote", f"{verdict.status}: {verdict.reason}")


def promote_recipe(
    evaluated: ArtifactRef,
    model_id: str,
    champion_id: str | None,
    settings: PromoteSettings,
    force_reason: str | None,
    store: Store,
) -> Recipe:
    """Describe the decision; for the present champion, the one that made it champion."""

    def against(other: str | None) -> Recipe:
        facts = {"model": model_id, "champion": other, "force_reason": force_reason, **settings.model_dump(mode="json")}
        golden = store.record_of(evaluated).recipe.inputs.get(GOLDEN)
        inputs = {"evaluate": evaluated.sha256} | ({GOLDEN: golden} if golden else {})
        return Recipe.of("promote", __name__, inputs, facts, LIBRARIES)

    if champion_id == model_id:
        for record in store.records("promote"):
            verdict = record.facts["verdict"]
            if verdict["model_id"] == model_id and verdict["status"] == "promoted" and against(verdict["champion_id"]) == record.recipe:
                return record.recipe
    return against(champion_id)


def decide(case: Case) -> Verdict:
    """Ask every rule of the gate, then decide: one that fails refuses, unless somebody forces the promotion.

    A bundle that another process cannot open is refused even then, since nothing could score with it.

    Raises:
        MachineError: The champion is damaged or gone.
    """
    if case.champion_id == case.model_id:
        return Verdict(case.model_id, "promoted", "it already is the champion", case.champion_id)
    fresh = FreshProcess(case.folder) if case.settings.gate.fresh_process else None  # it starts while this one scores
    try:
        found = _ask_rules(case, fresh)
    finally:
        if fresh:
            fresh.stop()
    stopped = gate.failed(found.rulings)
    unusable = any(ruling.rule == FRESH for ruling in stopped)
    forced = case.force_reason is not None and not unusable
    if forced:
        reason = f"forced: {case.force_reason}"
    elif stopped:
        reason = gate.refusal(stopped)
    elif case.champion_id is None:
        reason = "there was no champion"
    else:
        reason = next(ruling.words for ruling in found.rulings if ruling.rule in (CHAMPION, SAMPLE_RULE) and ruling.verdict == "passed")
    return Verdict(
        case.model_id,
        "promoted" if forced or not stopped else "refused",
        reason,
        case.champion_id,
        found.comparison,
        found.rows_seen,
        found.rulings,
        forced=forced,
        since_better=0.0 if forced else found.since_better,
    )


def _ask_rules(case: Case, fresh: FreshProcess | None) -> Findings:
    sample = bundle.is_sample(case.folder)
    old = _open_champion(case)
    scored, linear, lstm = _read_scored(case)
    found = Findings(_rules_of_the_model(case, scored, linear, lstm, sample))
    challenge = None
    if old is None:
        why = "there is no champion yet" if case.champion_id is None else f"the champion {case.champion_id} cannot be opened"
    elif sample != bool(old.settings.trained_on["sample"]):
        why = "one of the two was trained on the generated sample, so their numbers are of different things"
        found.rulings.append(gate.rank_sample(old.model_id, sample))
    else:
        challenge = _challenge(old, case)
        _compare(found, scored, challenge, case)
    if challenge is None:
        found.rulings += [not_applied(rule, why) for rule in (CHAMPION, "slow decline")]
    if sample:
        found.rulings.append(not_applied("slices", _OF_SAMPLE))
    else:
        found.rulings.append(gate.hold_slices(scored, challenge, case.settings.gate, case.settings.evaluate))
    found.rulings += _golden_rule(old if challenge else None, case, sample)
    found.rulings.append(_reproduced(fresh))
    speed = not_applied("speed", why) if challenge is None or old is None else _measure_speed(old, case)
    return Findings([*found.rulings, speed], found.comparison, found.rows_seen, found.since_better)


def _open_champion(case: Case) -> bundle.SentimentModel | None:
    if case.champion_id is None:
        return None
    try:
        return bundle.load_bundle(models_folder(case.store) / case.champion_id)
    except PipelineError as error:  # no verdict: one that was kept would outlive the champion's repair
        if case.force_reason is not None:
            return None
        raise MachineError(
            f"Model {case.model_id} is trained, but the champion {case.champion_id} cannot be opened to compare it with: {error} "
            "Or promote the new one with --force-promote REASON."
        ) from error


def _read_scored(case: Case) -> tuple[Scored, np.ndarray, np.ndarray]:
    """Return the test rows with the model's scores, the linear baseline's scores, and those of the LSTM alone."""
    table = read_columns(case.store.path(case.evaluated))
    lengths, _ = label_lengths(table["num_tokens"].to_numpy(), case.settings.evaluate)
    slices = {"length": lengths}
    if 1 < len(table[SOURCE].unique()) <= MOST_SOURCES:
        slices[SOURCE] = np.asarray(table[SOURCE].to_pylist(), str)
    scored = Scored(table["y_true"].to_numpy(), table["y_score"].to_numpy(), slices)
    return scored, table[LINEAR_BASELINE].to_numpy(), table[f"y_score_{bundle.LSTM}"].to_numpy()


def _rules_of_the_model(case: Case, scored: Scored, linear: np.ndarray, lstm: np.ndarray, sample: bool) -> list[Ruling]:
    """Ask the rules that need no champion; of a model trained on the generated sample, whose numbers say nothing, none of them."""
    if sample:
        return [not_applied(rule, _OF_SAMPLE) for rule in ("accuracy", "macro F1", "linear baseline", LSTM_RULE, "calibration")]
    evaluation: Evaluation = case.store.record_of(case.evaluated).facts["evaluation"]
    scores, asked, settings = evaluation["model"], case.settings.gate, case.settings.evaluate
    return [
        gate.reach_floor("accuracy", scores["accuracy"], asked.min_accuracy, scores["rows"]),
        gate.reach_floor("macro F1", scores["f1_macro"], asked.min_f1_macro, scores["rows"]),
        gate.beat_linear_baseline(scored, linear, asked, settings),
        gate.learn_something(LSTM_RULE, Scored(scored.y_true, lstm), settings)
        if asked.lstm_must_learn
        else not_applied(LSTM_RULE, "gate.lstm_must_learn is off"),
        gate.stay_calibrated(scores["ece"], scored.y_score, asked, settings),
    ]


def _challenge(old: bundle.SentimentModel, case: Case) -> Challenge:
    """Let the champion score the test rows again, and say which of them it was not trained on."""
    seen = bundle.seen_hashes(models_folder(case.store) / old.model_id)
    scores: list[np.ndarray] = []
    unseen: list[np.ndarray] = []
    for batch in _test_batches(case):
        scores.append(old.score_reviews(batch[REVIEW]).p_positive)
        unseen.append(~np.isin(batch[TEXT_HASH].to_numpy(), seen))
    return Challenge(old.model_id, np.concatenate(scores), np.concatenate(unseen))


def _golden_rule(old: bundle.SentimentModel | None, case: Case, sample: bool) -> list[Ruling]:
    """Ask about the golden test set, where the run has one."""
    golden = case.store.lineage(case.evaluated).get(GOLDEN)
    if golden is None:
        return []
    if sample:
        return [not_applied("golden test set", _OF_SAMPLE)]
    (place,) = (file for file in case.store.record_of(case.evaluated).files if Path(file.path).name == GOLDEN_PREDICTIONS)
    table = read_columns(case.store.path(place))
    scored = Scored(table["y_true"].to_numpy(), table["y_score"].to_numpy())
    if old is None:
        return [gate.hold_golden(scored, None, case.settings.gate, case.settings.evaluate, same_set=None)]
    folder = models_folder(case.store) / old.model_id
    reviews = pa.concat_arrays([batch[REVIEW] for batch in read_batches(case.store.path(golden.ref), [REVIEW])])
    unseen = ~np.isin(text_hashes(reviews), bundle.seen_hashes(folder))
    challenge = Challenge(old.model_id, old.score_reviews(reviews).p_positive, unseen)
    evaluated_on = json.loads((folder / bundle.METRICS).read_text(encoding="utf-8")).get(GOLDEN)
    same = None if evaluated_on is None else evaluated_on["sha256"] == golden.ref.sha256
    return [gate.hold_golden(scored, challenge, case.settings.gate, case.settings.evaluate, same_set=same)]


def _compare(found: Findings, scored: Scored, challenge: Challenge, case: Case) -> None:
    ruling, found.comparison = gate.match_champion(scored, challenge, case.settings.gate, case.settings.evaluate)
    found.rows_seen = int((~challenge.unseen).sum())
    found.rulings.append(ruling)
    if found.comparison is None:
        found.rulings.append(not_applied("slow decline", "there is no fair comparison"))
        return
    found.rulings.append(gate.not_slide(found.comparison, case.since_better, case.settings.gate))
    better = found.comparison["interval"][0] > 0
    found.since_better = 0.0 if better else case.since_better + found.comparison["difference"]


def _reproduced(fresh: FreshProcess | None) -> Ruling:
    if fresh is None:
        return not_applied(FRESH, "gate.fresh_process is off")
    result = fresh.result()
    return gate.reproduce_probes(result.problem, result.worst, result.num_probes)


def _measure_speed(old: bundle.SentimentModel, case: Case) -> Ruling:
    """Let both models score the same test reviews in turn, after one round each to warm up, and take each one's best round."""
    reviews = pa.concat_arrays([batch[REVIEW] for batch in _test_batches(case)]).slice(0, case.settings.gate.speed_rows)
    models = (bundle.load_bundle(case.folder), old)
    best = [np.inf, np.inf]
    for warm in range(_SPEED_ROUNDS + 1):
        for place, model in enumerate(models):
            started = time.perf_counter()
            model.score_reviews(reviews)
            if warm:
                best[place] = min(best[place], time.perf_counter() - started)
    return gate.keep_pace(len(reviews) / best[0], len(reviews) / best[1], case.settings.gate)


def _test_batches(case: Case) -> Iterator[pa.RecordBatch]:
    for batch in read_batches(case.store.path(case.rows), [REVIEW, SPLIT, TEXT_HASH]):
        yield batch.filter(pc.equal(batch[SPLIT], "test"))


@task(task_run_name="promote")
@discreet
def promote(
    evaluated: ArtifactRef,
    model: ArtifactRef,
    rows: ArtifactRef,
    settings: PromoteSettings,
    force_reason: str | None,
    store: Store,
) -> ArtifactRef:
    """Decide whether the model becomes the champion."""
    return prefect_state(promote_artifact(evaluated, model, rows, settings, force_reason, store))
