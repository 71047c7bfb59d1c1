"""tune: tries settings on validation rows, one trial after the other, and writes the best as a preset file."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel

from tasks.dotted import change_settings, flat_settings, value_of
from tasks.errors import CallerError, DataError
from tasks.fingerprint import library_versions, sha256_of_json
from tasks.measure import measure_artifact, measure_recipe
from tasks.measured import measured_by
from tasks.model.fitting import LIBRARIES, TrainSettings, planned_epochs
from tasks.model.search_space import Searched
from tasks.outcome import log_step, run_logger
from tasks.preset_file import PresetFile
from tasks.store import ArtifactRef, Store
from tasks.study import Study, Trial

KEPT_IN_PRESETS = ("clean", "tokenize", "vocabulary", "model", "linear", "self_training", "decision")  # not how rows are read and split
_FAILURES = 10  # without one trial that is complete, before the search gives up
_NAME_LENGTH = 160  # characters that a run's name spends on what it tried, and on what it got


class PrunedError(Exception):
    """A trial is given up, since others were better."""


class OutOfTimeError(Exception):
    """The minutes are over in the middle of a trial."""


@dataclass(frozen=True)
class Budget:
    """When a search ends: at `deadline` (of `time.monotonic`), or when the study holds so many `trials` that came to an end."""

    deadline: float
    trials: int | None = None

    def is_spent(self, trials: Sequence[Trial]) -> str:
        """Return why nothing new is to be begun; empty if something is.

        Raises:
            CallerError: Trial after trial fails.
        """
        ended = [trial for trial in trials if trial.state in ("complete", "pruned", "failed")]
        failed = [trial for trial in ended if trial.state == "failed"]
        if len(failed) == len(ended) >= _FAILURES:
            raise CallerError(f"The first {len(failed)} trials all failed, the last so: {failed[-1].why} Name other values with --search.")
        if self.trials is not None and len(ended) >= self.trials:
            return f"{len(ended):,} trials are done"
        return "the minutes are over" if time.monotonic() >= self.deadline else ""


def study_name(rows: ArtifactRef, unlabelled: ArtifactRef | None, settings: TrainSettings, space: Sequence[Searched]) -> str:
    """Return the name of the search: another if data, settings, ranges, code or libraries differ, since then values do not compare."""
    digest = sha256_of_json({"measure": measure_recipe(rows, unlabelled, settings).key, "space": [asdict(searched) for searched in space]})
    return f"{settings.preset}-{digest[:8]}"


def starting_values(settings: TrainSettings, space: Sequence[Searched]) -> dict[str, Any] | None:
    """Return the values that the search starts from; None if one of them is outside of what is searched."""
    values = {searched.name: value_of(settings, searched.name) for searched in space}
    return values if all(searched.holds(values[searched.name]) for searched in space) else None


def try_settings(
    trial: Trial,
    study: Study,
    rows: ArtifactRef,
    unlabelled: ArtifactRef | None,
    settings: TrainSettings,
    budget: Budget,
    store: Store,
) -> Trial:
    """Measure a trial's settings on validation rows, note in the study what came of it, and return that.

    The LSTM's validation loss after each epoch decides whether it is given up; the whole model's is what it is judged by.
    """
    losses: list[float] = []

    def watch(epoch: Mapping[str, float]) -> None:
        losses.append(epoch["val_loss"])
        run_logger().info("trial %d, epoch %d: validation loss %.4f", trial.number, len(losses), losses[-1])
        planned = planned_epochs(changed, with_unlabelled=unlabelled is not None)
        if study.report(trial, losses, planned):
            raise PrunedError
        if time.monotonic() >= budget.deadline and len(losses) < planned:
            raise OutOfTimeError

    try:
        changed = change_settings(settings, trial.changes.items())
        result = measure_artifact(rows, unlabelled, changed, store, on_epoch=watch)
    except PrunedError:
        study.prune(trial)
    except OutOfTimeError:
        study.put_back(trial, "the minutes were over")
    except (CallerError, DataError) as error:
        study.fail(trial, str(error))
    except BaseException:  # Ctrl-C, a full disk, a defect: its settings are not to blame
        study.put_back(trial, "the run was stopped")
        raise
    else:
        measured = measured_by(result.ref, store)
        facts = {
            "accuracy": measured.accuracy,
            "parts": {name: asdict(part) for name, part in measured.parts.items()},
            "epochs": measured.epochs,
            "cpu_seconds": measured.cpu_seconds,
            "rows": measured.rows,
        }
        study.complete(trial, measured.log_loss, facts)
    ended = study.trials()[trial.number]
    log_step("tune", told_outcome(ended))
    return ended


def told_changes(trial: Trial) -> str:
    """Return what a trial tries, in short: `units=64, learning_rate=0.0023`."""
    if trial.is_start:
        return "the settings it started from"
    told = [f"{name.rpartition('.')[2]}={value}" for name, value in trial.changes.items()]
    shown = max(count for count in range(len(told) + 1) if len(", ".join(told[:count])) <= _NAME_LENGTH)
    return ", ".join([*told[:shown], *([f"{len(told) - shown} more"] if shown < len(told) else [])])


def told_outcome(trial: Trial) -> str:
    """Return what a trial got and what it tried, in a line that serves as a run's name."""
    got = {
        "complete": f"log loss {trial.log_loss or 0:.4f}, accuracy {trial.facts.get('accuracy', 0):.2%}",
        "pruned": f"given up after epoch {len(trial.losses)} at loss {min(trial.losses, default=0):.4f}",
        "failed": f"failed: {trial.why}",
        "stopped": f"stopped: {trial.why}; to be tried again",
    }.get(trial.state, trial.state)
    return f"trial {trial.number}: {got[:_NAME_LENGTH]} ({told_changes(trial)})"


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """Return the complete trial with the lowest loss; of equals, the first."""
    complete = [trial for trial in trials if trial.log_loss is not None]
    return min(complete, key=lambda trial: (trial.log_loss, trial.number), default=None)


def preset_of(
    best: Trial, trials: Sequence[Trial], study: str, settings: BaseModel, built_in: BaseModel, rows: ArtifactRef, store: Store
) -> PresetFile:
    """Return the preset file of the best trial: every setting that shapes a model, and where they come from.

    Args:
        best: The trial.
        trials: All of them.
        study: The search's name.
        settings: Of the whole training flow, which the search started from.
        built_in: Those of the built-in preset that they started from.
        rows: What was trained and judged on.
        store: Where their records are.
    """
    chosen = change_settings(settings, best.changes.items()).model_dump(mode="json", include=set(KEPT_IN_PRESETS))
    flat = flat_settings({name: chosen[name] for name in KEPT_IN_PRESETS})
    if value_of(built_in, "linear") is None and chosen["linear"]:  # no name below `linear` exists there
        flat = {name: value for name, value in flat.items() if not name.startswith("linear.")} | {"linear": chosen["linear"]}
    lineage = store.lineage(rows)
    start = best_trial([trial for trial in trials if trial.is_start])
    return PresetFile(
        name=f"{study}-t{best.number}",
        based_on=value_of(built_in, "preset"),
        settings=flat,
        provenance={
            "study": study,
            "trial": best.number,
            "tried": best.changes,
            "judged_on": f"{best.facts['rows']} validation rows, seed {value_of(settings, 'seed')}",
            "validation_log_loss": best.log_loss,
            "validation_accuracy": best.facts["accuracy"],
            "started_from": {"validation_log_loss": start.log_loss, "validation_accuracy": start.facts["accuracy"]} if start else None,
            "trials": count_by_state(trials),
            "sources": lineage["ingest"].facts["sources"] if "ingest" in lineage else [],
            "data_sha256": lineage["ingest"].files[0].sha256 if "ingest" in lineage else "",
            "split_sha256": rows.sha256,
            "versions": library_versions((*LIBRARIES, "optuna")),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


def count_by_state(trials: Sequence[Trial]) -> dict[str, int]:
    """Return how many trials are in each state that a trial ends in."""
    return {state: sum(trial.state == state for trial in trials) for state in ("complete", "pruned", "failed", "stopped")}


def trial_table(trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return a row for every trial that was begun, the best first, for the Prefect UI."""
    ranked = sorted(
        (trial for trial in trials if trial.state != "repeated"),
        key=lambda trial: (trial.log_loss is None, trial.log_loss or 0, trial.number),
    )
    return [
        {
            "trial": trial.number,
            "state": trial.state,
            "log loss": trial.log_loss,
            "accuracy": trial.facts.get("accuracy"),
            "LSTM alone": trial.facts.get("parts", {}).get("lstm", {}).get("accuracy"),
            "epochs": len(trial.losses),
            "CPU seconds": trial.facts.get("cpu_seconds"),
            **trial.changes,
        }
        for trial in ranked
    ]
