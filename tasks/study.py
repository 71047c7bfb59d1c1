"""A search's memory: which settings were tried and what they reached, in one SQLite file that outlives its process.

SQLite, not Optuna's journal file: there a kill in the middle of a line makes the file unreadable once the next line is written, and
the lock outlives its owner. Here every change is a transaction, and whether a trial is still under way is told by a kernel lock.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from filelock import FileLock, Timeout

from tasks.errors import MachineError
from tasks.model.search_space import Searched
from tasks.store import make_folder

if TYPE_CHECKING:
    import optuna

State = Literal["complete", "pruned", "failed", "stopped", "repeated", "running", "waiting"]
RANDOM_TRIALS = 8  # drawn at random before the sampler begins to learn from them
COMPARED_TRIALS = 5  # complete ones that a trial is compared with before it may be pruned
_ATTEMPTS = 3  # of the same settings, when a run is killed in the middle of them
_DRAWS = 20  # in a row that were tried already, before the search says that nothing is left
_DIGITS = 3  # of a drawn number; more say nothing
_FILE, _LOCK = "study.db", "study.lock"
_SECONDS_FOR_LOCK = 60


@dataclass(frozen=True)
class Trial:
    """One set of settings.

    Args:
        number: From 0, in the order in which they were begun.
        state: complete, pruned (given up since others were better), failed (`why`), stopped (by the budget, Ctrl-C or a kill; its
            settings are tried again), repeated (drawn, but known already), running, waiting.
        changes: What it tries, by dotted name.
        log_loss: What it reached on validation rows, if it is complete.
        losses: The LSTM's validation loss after each epoch.
        planned: Epochs that it would train at most.
        facts: What else was measured.
        why: What went wrong.
        is_start: Whether these are the settings that the search started from.
    """

    number: int
    state: State
    changes: dict[str, Any]
    log_loss: float | None = None
    losses: tuple[float, ...] = ()
    planned: int = 0
    facts: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    is_start: bool = False


def is_hopeless(trial: Trial, others: Sequence[Trial]) -> bool:
    """Return whether a trial under way is worse than most complete ones were at the same share of their epochs.

    A share, not a number of epochs: where the learning rate falls to zero at the end, half-way is what compares with half-way.

    Source: Golovin et al. (2017), "Google Vizier", median stopping rule.
    """
    share = len(trial.losses) / trial.planned
    reached = []
    for other in others:
        shares = np.arange(1, len(other.losses) + 1) / max(other.planned, 1)
        if other.state == "complete" and len(shares) and shares[0] <= share:
            reached.append(np.interp(share, shares, np.minimum.accumulate(other.losses)))
    return bool(share < 1 and len(reached) >= COMPARED_TRIALS and min(trial.losses) > np.median(reached))


class Study:
    """A search in a folder. Several processes may work on it at once; `open_study` opens it, and closes it when its block ends."""

    def __init__(self, study: "optuna.Study", folder: Path, space: Sequence[Searched], seed: int, worker: str) -> None:
        self._study = study
        self._lock = FileLock(folder / _LOCK)
        self._folder = folder
        self._space = space
        self._seed = seed
        self._worker = worker
        self._running: dict[int, optuna.Trial] = {}

    def begin(self) -> Trial | None:
        """Return the next settings to try, those first that a kill or the budget left undone; None if nothing new is left to try."""
        with self._changing():
            self._collect_abandoned()
            for draw in range(_DRAWS):
                started = self._ask(at_random=draw > 0)
                begun = self.trials()[started.number]
                known = [trial for trial in self.trials() if trial.state not in ("stopped", "repeated", "waiting")]
                same = [trial.number for trial in known if trial.changes == begun.changes and trial.number != begun.number]
                if not same:
                    self._running[begun.number] = started
                    return begun
                self._end(begun.number, "repeated", why=f"the same as trial {same[0]}")
        return None

    def report(self, trial: Trial, losses: Sequence[float], planned: int) -> bool:
        """Note a trial's losses so far; return whether it should be given up."""
        with self._changing():
            self._running[trial.number].report(losses[-1], len(losses))
            if len(losses) == 1:
                self._running[trial.number].set_user_attr("planned", planned)
            return is_hopeless(replace(trial, losses=tuple(losses), planned=planned), self.trials())

    def complete(self, trial: Trial, log_loss: float, facts: Mapping[str, Any]) -> None:
        """Note what a trial reached."""
        with self._changing():
            for name, value in facts.items():
                self._running[trial.number].set_user_attr(f"fact {name}", value)
            self._study.tell(self._running.pop(trial.number), log_loss)

    def prune(self, trial: Trial) -> None:
        """Note that a trial was given up, since others were better."""
        import optuna

        with self._changing():
            self._study.tell(self._running.pop(trial.number), state=optuna.trial.TrialState.PRUNED)

    def fail(self, trial: Trial, why: str) -> None:
        """Note that these settings cannot be trained."""
        with self._changing():
            self._end(trial.number, "failed", why)
            self._running.pop(trial.number)

    def put_back(self, trial: Trial, why: str) -> None:
        """Note that a trial was stopped for no fault of its own; it is the next to be tried."""
        with self._changing():
            self._end(trial.number, "stopped", why)
            self._running.pop(trial.number)
            self._try_again(trial.number, attempt=0)

    def trials(self) -> list[Trial]:
        """Return all trials, in order of their numbers."""
        ended = self._study.user_attrs
        return [self._trial(trial, *ended.get(f"ended {trial.number}", ("", ""))) for trial in self._study.get_trials(deepcopy=False)]

    @contextmanager
    def alone(self) -> Iterator[list[Trial]]:
        """Keep other processes from changing the study, and yield its trials."""
        with self._changing():
            yield self.trials()

    def start_with(self, changes: Mapping[str, Any] | None) -> None:
        """Let a study that is new begin with settings of one's own, if there are any."""
        with self._changing():
            if changes is not None and not self._study.get_trials(deepcopy=False):
                self._study.enqueue_trial(dict(changes), user_attrs={"start": True})

    def _ask(self, *, at_random: bool) -> "optuna.Trial":
        import optuna

        # A sampler of its own for every trial: what is drawn depends on the seed and on what was tried, not on which process draws.
        seed = int(np.random.SeedSequence([self._seed, len(self._study.get_trials(deepcopy=False))]).generate_state(1)[0])
        if at_random:
            self._study.sampler = optuna.samplers.RandomSampler(seed=seed)
        else:
            self._study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS)
        trial = self._study.ask({searched.name: _distribution(searched) for searched in self._space})
        trial.set_user_attr("worker", self._worker)
        return trial

    def _collect_abandoned(self) -> None:
        """End the trials of processes that are gone: their kernel locks went with them."""
        for place in self._folder.glob(_worker_file(self._folder, "*").name):
            _remove_if_gone(place)
        for stored in self._study.get_trials(deepcopy=False):
            if stored.state.name == "RUNNING" and not _worker_file(self._folder, stored.user_attrs.get("worker", "")).exists():
                self._end(stored.number, "stopped", why="its process ended in the middle of it")
                self._try_again(stored.number, attempt=stored.user_attrs.get("attempt", 1))

    def _try_again(self, number: int, attempt: int) -> None:
        if attempt < _ATTEMPTS:
            stored = self._study.get_trials(deepcopy=False)[number]
            attributes = {"attempt": attempt + 1, "start": bool(stored.user_attrs.get("start"))}
            self._study.enqueue_trial(stored.params, user_attrs=attributes)

    def _end(self, number: int, state: State, why: str) -> None:
        import optuna

        self._study.set_user_attr(f"ended {number}", [state, why])
        self._study.tell(number, state=optuna.trial.TrialState.FAIL)

    def _trial(self, stored: Any, ended: State | Literal[""], why: str) -> Trial:
        states: dict[str, State] = {
            "COMPLETE": "complete",
            "PRUNED": "pruned",
            "FAIL": "stopped",
            "RUNNING": "running",
            "WAITING": "waiting",
        }
        bounds = {searched.name: searched for searched in self._space}
        is_start = bool(stored.user_attrs.get("start"))  # its values are somebody's own, to the last digit
        return Trial(
            number=stored.number,
            state=ended or states[stored.state.name],
            changes={name: value if is_start else _rounded(value, bounds[name]) for name, value in stored.params.items() if name in bounds},
            log_loss=stored.value if stored.state.name == "COMPLETE" else None,
            losses=tuple(loss for _, loss in sorted(stored.intermediate_values.items())),
            planned=stored.user_attrs.get("planned", 0),
            facts={name.removeprefix("fact "): value for name, value in stored.user_attrs.items() if name.startswith("fact ")},
            why=why,
            is_start=is_start,
        )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock, _told_as_machine_errors(self._folder):
            yield


@contextmanager
def open_study(folder: Path, space: Sequence[Searched], seed: int) -> Iterator[Study]:
    """Open the study in a folder, or begin one; this process counts as alive until the block ends.

    Args:
        folder: Of this search alone: other data, settings or ranges are another search.
        space: What is searched.
        seed: Of the draws.

    Raises:
        MachineError: The study's file cannot be read or written.
    """
    import optuna

    make_folder(folder)
    worker = uuid.uuid4().hex[:12]
    alive = FileLock(_worker_file(folder, worker))
    try:
        with _told_as_machine_errors(folder):
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            with FileLock(
                folder / _LOCK
            ):  # no two processes create its tables, and nobody takes this one for gone before it holds its lock
                alive.acquire()
                storage = optuna.storages.RDBStorage(
                    f"sqlite:///{folder / _FILE}", engine_kwargs={"connect_args": {"timeout": _SECONDS_FOR_LOCK}}
                )
                study = optuna.create_study(storage=storage, study_name="study", load_if_exists=True, pruner=optuna.pruners.NopPruner())
        yield Study(study, folder, space, seed, worker)
        storage.remove_session()
        storage.engine.dispose()
    finally:
        alive.release()
        _worker_file(folder, worker).unlink(missing_ok=True)


def _worker_file(folder: Path, worker: str) -> Path:
    return folder / f"worker-{worker}.lock"


def _remove_if_gone(place: Path) -> None:
    try:
        with FileLock(place, timeout=0):
            pass
    except Timeout:
        return
    place.unlink(missing_ok=True)


def _distribution(searched: Searched) -> "optuna.distributions.BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if searched.low is None or searched.high is None:
        return CategoricalDistribution(searched.choices)
    if isinstance(searched.low, int):
        return IntDistribution(searched.low, int(searched.high), log=searched.logarithmic, step=searched.step or 1)
    return FloatDistribution(searched.low, searched.high, log=searched.logarithmic)


def _rounded(value: Any, searched: Searched) -> Any:
    if not isinstance(value, float) or searched.low is None or searched.high is None:
        return value
    return min(max(float(f"{value:.{_DIGITS}g}"), searched.low), searched.high)


@contextmanager
def _told_as_machine_errors(folder: Path) -> Iterator[None]:
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError) as error:
        raise MachineError(
            f"The search's file {folder / _FILE} cannot be read or written ({type(error).__name__}). "
            "Free some space, or move the folder aside to search anew."
        ) from error
