"""The tuning flow: ingest → clean → tokenize → split, then trial after trial on training and validation rows. Test rows are never read."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from prefect import State, flow
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.ending import keep
from flows.form import Minutes, Overrides, Sources, Trials
from flows.settings import built_in_settings, root_of, settings_to_judge
from tasks.balance import check_balance
from tasks.clean import clean
from tasks.ingest import ingest, read_golden
from tasks.model.search_space import search_space
from tasks.outcome import log_step, ref_of, rename_flow_run, show_table
from tasks.preset_file import write_preset
from tasks.split import split
from tasks.store import Store
from tasks.study import Study, Trial, open_study
from tasks.tokenize import tokenize
from tasks.tune import (
    Budget,
    best_trial,
    count_by_state,
    preset_of,
    starting_values,
    study_name,
    told_changes,
    told_outcome,
    trial_table,
    try_settings,
)
from tasks.unlabelled import unlabelled


def _run_name() -> str:
    parameters = flow_run.get_parameters()
    return f"tune {', '.join(Path(source).name for source in parameters['sources'])} {Path(parameters['preset']).name}"


@flow(name="tuning", flow_run_name=_run_name)
def tuning(
    sources: Sources = ["sample"],  # noqa: B006  Prefect's form shows the default; nothing changes it
    preset: str = "default",
    overrides: Overrides = None,
    unlabelled_sources: list[str] | None = None,
    golden_test: str | None = None,
    search: list[str] | None = None,
    minutes: Minutes = 30.0,
    trials: Trials = None,
    output: str | None = None,
    artifacts: str = "artifacts",
) -> dict[str, Any]:
    """Search for better settings on validation rows and write the best as a preset file; the same call again goes on where it was.

    Args:
        sources: What to train on, as for training.
        preset: The settings to start from: default, tutorial, quick, or the path of a preset file.
        overrides: Single settings by dotted name; those that are searched start from these.
        unlabelled_sources: Reviews without labels to learn from as well, as for training.
        golden_test: A labelled file kept apart, as for training: what repeats it is not learnt from.
        search: What to search: NAME, NAME=LOW..HIGH or NAME=[VALUE, …]; the project's own choice if not given.
        minutes: How long this run may take; the trial under way then is stopped after its epoch, and is the next run's first.
        trials: End earlier, when so many trials of the search have come to an end, those of earlier runs included.
        output: The preset file; ARTIFACTS/tune/STUDY/best.json if not given.
        artifacts: The folder for intermediates and searches.

    Returns:
        The run's summary, as `sentiment tune --json` prints it.
    """
    budget = Budget(time.monotonic() + 60 * minutes, trials)
    settings = settings_to_judge(preset, overrides or {})
    built_in = built_in_settings(root_of(preset))
    space = search_space(settings.train, search or [], with_unlabelled=bool(unlabelled_sources))
    store = Store(Path(artifacts).resolve())

    golden = read_golden(golden_test, settings.ingest, store) if golden_test else None
    ingested = ingest(sources, settings.ingest, store)
    cleaned = clean(ingested, settings.clean, store)
    tokenized = tokenize(cleaned, settings.tokenize, store)
    rows = ref_of(split(tokenized, settings.split, store, golden))
    check_balance(rows, settings.balance, store)
    more = ref_of(unlabelled(unlabelled_sources, rows, settings.unlabelled, store, golden)) if unlabelled_sources else None

    name = study_name(rows, more, settings.train, space)
    folder = store.root / "tune" / name
    place = Path(output).resolve() if output else folder / "best.json"

    def write_best(study: Study) -> None:
        with study.alone() as tried:
            best = best_trial(tried)
            if best:
                write_preset(place, preset_of(best, tried, name, settings, built_in, rows, store))

    with open_study(folder, space, settings.seed) as study:
        study.start_with(starting_values(settings.train, space))
        log_step("tune", f"{name}: {sum(count_by_state(study.trials()).values()):,} trials so far, {len(space)} settings are searched")
        while not (reason := budget.is_spent(study.trials())) and (trial := study.begin()):
            _as_child_run(trial, partial(try_settings, trial, study, rows, more, settings.train, budget, store))
            write_best(study)
        write_best(study)  # where nothing was left to try, too
        tried = study.trials()
    show_table("tuning-trials", name, trial_table(tried))
    return keep(summarize(name, reason or "nothing is left to try", tried, place))


def _as_child_run(trial: Trial, attempt: Callable[[], Trial]) -> None:
    """Run a trial as a flow run of its own: it is named by what it tries, and in the end by what it got as well."""

    @flow(name="trial", flow_run_name=lambda: f"trial {trial.number}: {told_changes(trial)}")
    def child(number: int, changes: dict[str, Any]) -> State:
        ended = attempt()
        told = told_outcome(ended)
        rename_flow_run(told)
        return Failed(message=told) if ended.state == "failed" else Completed(name=ended.state.capitalize(), message=told)

    child(trial.number, trial.changes, return_state=True)


def summarize(study: str, reason: str, tried: list[Trial], place: Path) -> dict[str, Any]:
    """Return what a search came to, in the form that `--json` promises."""
    best, start = best_trial(tried), best_trial([trial for trial in tried if trial.is_start])
    return {
        "command": "tune",
        "study": study,
        "ended": reason,
        "trials": count_by_state(tried),
        "best": _told(best),
        "start": _told(start),
        "preset": str(place) if best else None,
    }


def _told(trial: Trial | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    return {
        "trial": trial.number,
        "log_loss": trial.log_loss,
        "accuracy": trial.facts["accuracy"],
        "rows": trial.facts["rows"],
        "settings": trial.changes,
    }
