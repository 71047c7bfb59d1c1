import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import tiny

from tasks.errors import MachineError
from tasks.model.search_space import Searched
from tasks.study import COMPARED_TRIALS, Study, Trial, is_hopeless, open_study

SPACE = (
    Searched("model.learning_rate", 1e-3, 1e-1),
    Searched("model.units", 8, 64, step=8),
    Searched("model.batch_size", choices=(32, 64)),
    Searched("model.decay", choices=(False, True)),
)
START = {"model.learning_rate": 0.003, "model.units": 16, "model.batch_size": 64, "model.decay": True}
KILLED = """
import os, signal
from pathlib import Path
from tasks.study import Searched, open_study
with open_study(Path({folder!r}), {space!r}, 0) as study:
    study.start_with({start!r})
    study.report(study.begin(), [0.5], 3)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(study: Study, trials: int, folder: Path | None = None) -> list[dict[str, Any]]:
    """Try that many settings, each as good as its learning rate is near 0.01; return what was tried."""
    tried = []
    for _ in range(trials):
        trial = study.begin()
        assert trial is not None
        study.report(trial, [abs(trial.changes["model.learning_rate"] - 0.01)], 1)
        study.complete(trial, abs(trial.changes["model.learning_rate"] - 0.01), {"accuracy": 0.9})
        tried.append(trial.changes)
    return tried


def test_first_trial_is_the_start_and_the_others_keep_to_the_space(tmp_path: Path) -> None:
    """A search begins with the settings it started from; all others lie in their ranges, on their steps, with three digits."""
    with open_study(tmp_path, SPACE, 0) as study:
        study.start_with(START)
        first, *others = run(study, 4)
        trials = study.trials()

    assert first == START
    assert [trial.is_start for trial in trials] == [True, *[False] * 3]
    for changes in others:
        assert list(changes) == [searched.name for searched in SPACE]
        assert all(searched.holds(changes[searched.name]) for searched in SPACE)
        assert changes["model.units"] % 8 == 0
        assert float(f"{changes['model.learning_rate']:.3g}") == changes["model.learning_rate"]
    assert len({str(changes) for changes in [first, *others]}) == 4


def test_search_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study opened again knows what was tried, does not start anew, and draws what an unbroken search would have drawn."""
    monkeypatch.setattr("tasks.study.RANDOM_TRIALS", 2)
    with open_study(tmp_path / "unbroken", SPACE, 3) as study:
        unbroken = run(study, 6)
    with open_study(tmp_path / "broken", SPACE, 3) as study:
        first = run(study, 4)
    with open_study(tmp_path / "broken", SPACE, 3) as study:
        study.start_with(START)
        second = run(study, 2)
        trials = study.trials()

    assert first + second == unbroken
    assert [trial.number for trial in trials] == list(range(6))
    assert {trial.state for trial in trials} == {"complete"}
    assert trials[3].log_loss == abs(first[3]["model.learning_rate"] - 0.01)
    assert trials[3].facts == {"accuracy": 0.9}


def test_another_seed_draws_others(tmp_path: Path) -> None:
    """The seed decides what is drawn."""
    with open_study(tmp_path / "a", SPACE, 0) as study:
        first = run(study, 2)
    with open_study(tmp_path / "b", SPACE, 1) as study:
        assert run(study, 2) != first


def test_killed_trial_is_tried_again(tmp_path: Path) -> None:
    """After kill -9 in the middle of a trial it counts as stopped and its settings are the next to be tried; three times, not for ever."""
    program = KILLED.format(folder=str(tmp_path), space=SPACE, start=START)
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", program], cwd=tiny.PROJECT, check=False).returncode == -signal.SIGKILL

    with open_study(tmp_path, SPACE, 0) as study:
        other = study.begin()
        *killed, last = study.trials()

    assert [trial.state for trial in killed] == ["stopped"] * 3
    assert {trial.why for trial in killed} == {"its process ended in the middle of it"}
    assert all(trial.changes == START and trial.is_start and trial.losses == (0.5,) for trial in killed)
    assert last.state == "running"
    assert other is not None and other.changes != START


def test_trial_put_back_is_next_and_failed_settings_are_not(tmp_path: Path) -> None:
    """A trial that was stopped goes first next time; settings that failed do not come back."""
    with open_study(tmp_path, SPACE, 0) as study:
        study.start_with(START)
        stopped = study.begin()
        assert stopped is not None
        study.put_back(stopped, "the minutes were over")
        again = study.begin()
        assert again is not None
        study.fail(again, "it diverged")
        other = study.begin()
        trials = study.trials()

    assert other is not None
    assert stopped.changes == again.changes != other.changes
    assert [(trial.state, trial.why) for trial in trials[:2]] == [("stopped", "the minutes were over"), ("failed", "it diverged")]


def test_two_at_once_share_a_study(tmp_path: Path) -> None:
    """Two runs on one folder never try the same, take no trial from each other, and leave one whole study of all their trials."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with open_study(tmp_path, SPACE, 0) as study:
                study.start_with(START)
                run(study, 3)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    with open_study(tmp_path, SPACE, 0) as study:
        trials = study.trials()
    assert [trial.number for trial in trials] == list(range(6))
    assert {trial.state for trial in trials} == {"complete"}
    assert len({str(trial.changes) for trial in trials}) == 6
    assert sum(trial.is_start for trial in trials) == 1
    assert list(tmp_path.glob("worker-*")) == []


def test_search_ends_when_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all settings of a small space were tried, there is no next trial, and none is counted twice."""
    monkeypatch.setattr("tasks.study._DRAWS", 8)
    space = (Searched("model.patience", 0, 2, step=1),)

    with open_study(tmp_path, space, 0) as study:
        tried = []
        while trial := study.begin():
            study.complete(trial, 0.5, {})
            tried.append(trial.changes["model.patience"])
        ended = [trial for trial in study.trials() if trial.state != "repeated"]

    assert sorted(tried) == [0, 1, 2]
    assert len(ended) == 3


def test_damaged_study_is_told(tmp_path: Path) -> None:
    """A study's file that is none ends with its place and what to do."""
    (tmp_path / "study.db").write_bytes(b"no database" * 100)

    with pytest.raises(MachineError, match=r"study\.db cannot be read or written.*move the folder aside"), open_study(tmp_path, SPACE, 0):
        pass


def losses(*values: float, planned: int, state: str = "complete") -> Trial:
    """Return a trial by its losses alone."""
    return Trial(0, state, {}, losses=values, planned=planned)  # type: ignore[arg-type]


FIVE = [losses(0.5 + step, 0.3 + step, planned=2) for step in (0.0, 0.01, 0.02, 0.03, 0.04)]  # half-way at 0.50 to 0.54


@pytest.mark.parametrize(
    ("trial", "others", "hopeless"),
    [
        (losses(0.53, planned=2), FIVE, True),  # worse than the median half-way
        (losses(0.51, planned=2), FIVE, False),
        (losses(0.9, 0.53, planned=4), FIVE, True),  # two of four epochs are half-way too
        (losses(0.9, planned=4), FIVE, False),  # a quarter of the way nobody was measured
        (losses(0.51, 0.9, planned=4), FIVE, False),  # its best counts, as it does in training
        (losses(0.9, 0.9, 0.43, planned=4), FIVE, True),  # three quarters: between 0.52 and 0.32 of the median
        (losses(0.9, 0.9, 0.41, planned=4), FIVE, False),
        (losses(0.9, 0.9, planned=2), FIVE, False),  # it is over; nothing is saved
        (losses(0.7, 0.7, 0.6, planned=4), [losses(0.5, 0.9, planned=2)] * 5, True),  # the others' best counts as well
        (losses(0.9, planned=2), FIVE[:4], False),  # too few to compare with
        (losses(0.9, planned=2), [*FIVE[:4], losses(0.1, 0.1, planned=2, state="pruned")], False),
    ],
)
def test_hopeless_is_worse_than_the_median_at_the_same_share(trial: Trial, others: list[Trial], hopeless: bool) -> None:
    """A trial is given up if its best loss is above the median of what complete trials had reached at the same share of their epochs."""
    assert len(FIVE) == COMPARED_TRIALS
    assert is_hopeless(trial, others) is hopeless


def test_report_says_when_to_give_up(tmp_path: Path) -> None:
    """A study compares a trial with those it holds: after five complete ones a much worse one is given up, and stays so."""
    with open_study(tmp_path, SPACE, 0) as study:
        for _ in range(COMPARED_TRIALS):
            trial = study.begin()
            assert trial is not None
            assert not study.report(trial, [0.4], 2)
            assert not study.report(trial, [0.4, 0.3], 2)
            study.complete(trial, 0.3, {})
        worse = study.begin()
        assert worse is not None
        assert study.report(worse, [0.5], 2)
        study.prune(worse)
        pruned = study.trials()[-1]

    assert (pruned.state, pruned.losses, pruned.planned, pruned.log_loss) == ("pruned", (0.5,), 2, None)
