import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.settings import built_in_settings, compose_settings, settings_to_judge
from tasks.dotted import change_settings
from tasks.errors import CallerError, MachineError
from tasks.measured import Measured, PartScores
from tasks.model.search_space import search_space
from tasks.preset_file import write_preset
from tasks.store import ArtifactRef, Store
from tasks.study import Trial, open_study
from tasks.tune import Budget, best_trial, preset_of, starting_values, study_name, told_outcome, trial_table, try_settings

ROWS = ArtifactRef("split", "0" * 64, "split/0.parquet", "1" * 64, 100)
LATER = math.inf


def trial(number: int, state: str = "complete", log_loss: float | None = None, **changes: Any) -> Trial:
    """Return a trial of the model's settings; a complete one has the facts that measuring notes."""
    facts = {"accuracy": 0.9, "rows": 40, "parts": {"lstm": {"accuracy": 0.8}}, "cpu_seconds": 3.0} if state == "complete" else {}
    named = {f"model.{name}": value for name, value in changes.items()}
    return Trial(number, state, named, log_loss, losses=(0.5, 0.4), planned=3, facts=facts, why="it diverged")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("budget", "states", "told"),
    [
        (Budget(LATER), ["complete"] * 50, ""),
        (Budget(LATER, 3), ["complete", "pruned", "stopped", "waiting", "running"], ""),
        (Budget(LATER, 3), ["complete", "pruned", "stopped", "failed"], "3 trials are done"),
        (Budget(0.0, 3), [], "the minutes are over"),
        (Budget(LATER), ["failed"] * 9, ""),
        (Budget(LATER), ["complete", *["failed"] * 10], ""),
    ],
)
def test_budget_counts_what_came_to_an_end(budget: Budget, states: list[str], told: str) -> None:
    """Complete, pruned and failed trials count, those that are tried again do not; the clock ends a search too."""
    assert budget.is_spent([trial(number, state) for number, state in enumerate(states)]) == told


def test_search_that_only_fails_ends() -> None:
    """Ten trials that all fail end the search with the last one's reason, instead of failing for half an hour."""
    with pytest.raises(CallerError, match=r"first 10 trials all failed, the last so: it diverged"):
        Budget(LATER).is_spent([trial(number, "failed") for number in range(10)])


def test_best_is_the_lowest_loss() -> None:
    """The best trial is the complete one with the lowest loss, the earlier of two equals; without a complete one there is none."""
    trials = [trial(0, log_loss=0.3), trial(1, log_loss=0.2), trial(2, "pruned"), trial(3, log_loss=0.2)]

    assert best_trial(trials) == trials[1]
    assert best_trial(trials[2:3]) is None
    assert [row["trial"] for row in trial_table(trials)] == [1, 3, 0, 2]


@pytest.mark.parametrize("preset", ["default", "tutorial", "quick"])
@pytest.mark.parametrize("overrides", [{}, {"linear": {"max_ngram": 2}, "ingest.text_column": "body"}])
def test_preset_of_the_best_trial_trains_the_same_model(tmp_path: Path, preset: str, overrides: dict[str, Any]) -> None:
    """The preset file of a trial gives the very settings that it was trained with; its seed, and how rows are read and split, stay out."""
    started = compose_settings(preset, list(overrides.items()))
    best = trial(7, log_loss=0.25, units=9, learning_rate=0.004)

    file = preset_of(best, [best], "study-1", started, built_in_settings(preset), ROWS, _store_without_records(tmp_path))
    write_preset(tmp_path / "best.json", file)

    expected = compose_settings(preset, [*overrides.items(), *best.changes.items()])
    read = compose_settings(str(tmp_path / "best.json"), [])
    assert read.train == expected.train.model_copy(update={"preset": "study-1-t7"})
    assert read.ingest == built_in_settings(preset).ingest
    assert file.provenance["trial"] == 7
    assert file.provenance["validation_log_loss"] == 0.25
    assert file.provenance["split_sha256"] == ROWS.sha256


def _store_without_records(root: Path) -> Store:
    class Unrecorded(Store):
        def lineage(self, ref: ArtifactRef) -> dict[str, Any]:
            return {}

    return Unrecorded(root)


def test_study_is_another_where_values_do_not_compare() -> None:
    """Other rows, unlabelled reviews, settings or ranges are another study; what the uncertain band may cost is not."""
    settings = built_in_settings("quick").train
    space = search_space(settings)
    same = study_name(ROWS, None, settings, space)

    others = {
        study_name(ArtifactRef("split", "0" * 64, "", "2" * 64, 100), None, settings, space),
        study_name(ROWS, None, settings.model_copy(update={"seed": 1}), space),
        study_name(ROWS, None, settings, space[1:]),
        study_name(ROWS, ROWS, settings, space),
        same,
    }

    assert len(others) == 5
    decision = settings.decision.model_copy(update={"max_error": 0.2})
    assert study_name(ROWS, None, settings.model_copy(update={"decision": decision}), space) == same
    assert same.startswith("quick-")


def test_validation_rows_are_enough_to_judge_by() -> None:
    """Models are compared on a fifth of the rows at least, whatever the preset guides its training by, unless a share is named."""
    assert settings_to_judge("default", {"model.epochs": 1}).split.validation_share == 0.2
    assert settings_to_judge("tutorial", {}) == built_in_settings("tutorial")
    assert settings_to_judge("quick", {"split.validation_share": 0.05}).split.validation_share == 0.05
    assert settings_to_judge("default", {"model.epochs": 1}).train == compose_settings("default", [("model.epochs", 1)]).train


def test_start_is_tried_only_where_it_lies_inside() -> None:
    """A search whose ranges leave out what it starts from begins with a draw."""
    settings = built_in_settings("default").train

    assert starting_values(settings, search_space(settings, ["model.units"])) == {"model.units": settings.model.units}
    assert starting_values(settings, search_space(settings, ["model.units=2..4"])) is None


def test_runs_are_named_by_what_they_got() -> None:
    """The name of a trial's run says what it reached and what it tried."""
    assert told_outcome(trial(3, log_loss=0.25, units=64)) == "trial 3: log loss 0.2500, accuracy 90.00% (units=64)"
    assert told_outcome(trial(4, "pruned", units=8)) == "trial 4: given up after epoch 2 at loss 0.4000 (units=8)"
    assert "failed: it diverged" in told_outcome(trial(5, "failed"))
    many = told_outcome(trial(6, log_loss=0.5, **{f"setting_number_{number}": 0.123 for number in range(20)}))
    assert many.endswith("setting_number_5=0.123, 14 more)")
    assert len(many) < 240


@pytest.mark.parametrize(
    ("losses", "raised", "state", "why"),
    [
        ((0.5, 0.4, 0.3), None, "complete", ""),
        ((0.9,), None, "pruned", ""),
        ((0.5,), CallerError("it diverged"), "failed", "it diverged"),
        ((0.5,), KeyboardInterrupt(), "stopped", "the run was stopped"),
        ((0.5,), MachineError("the disk is full"), "stopped", "the run was stopped"),
    ],
)
def test_trial_ends_as_its_training_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: tuple[float, ...], raised: BaseException | None, state: str, why: str
) -> None:
    """A trial is complete, given up, failed by its own settings, or put back where the run was stopped, which is not kept quiet."""
    ended, escaped = _try(tmp_path, monkeypatch, losses, raised, Budget(LATER))

    assert (ended.state, ended.why, ended.losses) == (state, why, losses)
    assert escaped is (raised if state == "stopped" else None)
    if state == "complete":
        assert (ended.log_loss, ended.facts["accuracy"], ended.facts["rows"]) == (0.3, 0.9, 40)


def test_trial_is_stopped_when_the_minutes_are_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the deadline the epoch under way is the last, and the trial goes back; one that is through with its epochs is complete."""
    stopped, _ = _try(tmp_path / "a", monkeypatch, (0.5, 0.4, 0.3), None, Budget(0.0))
    through, _ = _try(tmp_path / "b", monkeypatch, (0.5, 0.4, 0.3), None, Budget(0.0), epochs=1)

    assert (stopped.state, stopped.losses, stopped.why) == ("stopped", (0.5,), "the minutes were over")
    assert through.state == "complete"


def _try(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    losses: tuple[float, ...],
    raised: BaseException | None,
    budget: Budget,
    epochs: int = 3,
) -> tuple[Trial, BaseException | None]:
    """Try settings whose training has these losses, then raises or ends; beside another whose loss was 0.6 all the time."""

    def train(*_: Any, on_epoch: Any, **__: Any) -> Any:
        for loss in losses[:epochs]:
            on_epoch({"val_loss": loss})
        if raised:
            raise raised
        return SimpleNamespace(ref=None)

    monkeypatch.setattr("tasks.study.COMPARED_TRIALS", 1)
    monkeypatch.setattr("tasks.tune.measure_artifact", train)
    monkeypatch.setattr("tasks.tune.measured_by", lambda *_: Measured(40, 300, 0.9, 0.3, {"lstm": PartScores(0.8, 0.4)}, 3, 3, 2.0))
    settings = change_settings(built_in_settings("quick").train, [("model.epochs", epochs)])
    escaped = None
    with open_study(folder, search_space(settings, ["model.learning_rate"]), 0) as study:
        other = study.begin()
        assert other is not None
        for epoch in range(1, 4):
            study.report(other, [0.6] * epoch, 3)
        study.complete(other, 0.6, {})
        tried = study.begin()
        assert tried is not None
        try:
            try_settings(tried, study, ROWS, None, settings, budget, Store(folder))
        except BaseException as error:
            escaped = error
        return study.trials()[tried.number], escaped
