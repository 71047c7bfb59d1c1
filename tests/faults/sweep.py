"""A process that runs a scenario over and over in forked children, each with another fault; prints what became of them as a JSON line.

    python tests/faults/sweep.py SCENARIO FAULT REVIEWS.csv WORK_FOLDER [EVERY]

SCENARIO: data (ingest to split) or registry (promote, promote another, refuse, roll back). FAULT: kill, kill_again (data alone), error,
power or crowd. EVERY: only every so-many-th point; of kill_again and crowd, so many rounds. Nothing that has threads is imported before
a fork: TensorFlow and Prefect's server stay out.
"""

import errno
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))


import pandas  # noqa: F401  Arrow would import it in each child
import pyarrow as pa
import tiny
from faults.crashed_disk import STATES, CrashedDisk, Logged, logged
from faults.watched import Operation, watch_operations

from tasks.clean import clean_artifact
from tasks.errors import PipelineError
from tasks.fingerprint import module_digests
from tasks.ingest import IngestSettings, ingest_artifact
from tasks.model.registry import Verdict, champion, decisions, note_refusal, promote_model, registry_lock, roll_back
from tasks.reviews.text import CleanSettings, TokenizeSettings
from tasks.split import SplitSettings, split_artifact
from tasks.store import StepResult, Store
from tasks.tokenize import tokenize_artifact
from tasks.upkeep import delete_garbage, find_garbage, verify_store

ERRORS = (errno.EIO, errno.ENOSPC, errno.EFBIG, errno.EROFS)
WELL, CRASHED, REFUSED = 0, 1, 3
FIRST, SECOND = "m-000000000001", "m-000000000002"
CROWD, ACTS = 6, 4
CHAMPIONS = (FIRST, SECOND, SECOND, FIRST)  # after each act of the registry
Tell = Callable[[int], None]


def run_data(root: Path, reviews: Path, tell: Tell) -> list[StepResult]:
    """Run the steps of data; `tell` is called with each one's number once it is committed."""
    store, results = Store(root, run_id="run"), []
    results.append(ingest_artifact([str(reviews)], IngestSettings(), store))
    tell(1)
    results.append(clean_artifact(results[-1].ref, CleanSettings(), store))
    tell(2)
    results.append(tokenize_artifact(results[-1].ref, TokenizeSettings(), store))
    tell(3)
    results.append(split_artifact(results[-1].ref, SplitSettings(), store))
    tell(4)
    return results


def check_data(root: Path, reviews: Path, acts: int) -> None:
    """Check that what was committed is there, that the same run completes it, and that nothing is left over."""
    results = run_data(root, reviews, lambda _: None)
    assert all(result.cached for result in results[:acts]), f"{acts} steps were committed; found: {[result.cached for result in results]}"
    store = Store(root)
    assert verify_store(store)[1] == []
    delete_garbage(store, find_garbage(store))
    found = {name: digest for name, digest in tiny.digests(root).items() if not name.endswith(".json")}
    expected = json.loads((reviews.parent / "expected.json").read_text())
    assert found == expected, sorted(set(found.items()) ^ set(expected.items()))


def run_registry(root: Path, _: Path, tell: Tell) -> None:
    """Change the champion three times and note a refusal."""
    store = Store(root)
    with registry_lock(store):
        promote_model(store, FIRST, "act 1")
        tell(1)
        promote_model(store, SECOND, "act 2")
        tell(2)
        note_refusal(store, Verdict(FIRST, "refused", "act 3", SECOND))
        tell(3)
        roll_back(store, "act 4")
        tell(4)


def check_registry(root: Path, _: Path, acts: int) -> None:
    """Check that the champion is one that was named, no act that ended is forgotten, and the next one is told whole."""
    store = Store(root)
    current = champion(store)
    possible = {CHAMPIONS[act - 1] if act else None for act in (acts, min(acts + 1, len(CHAMPIONS)))}
    assert (current.model_id if current else None) in possible, (current, possible)
    reasons = [entry.reason for entry in decisions(store)]
    assert reasons[:acts] == [f"act {number}" for number in range(1, acts + 1)], reasons
    with registry_lock(store):
        promote_model(store, SECOND, "the last")
    after = champion(store)
    assert after is not None and after.model_id == SECOND
    assert [entry.reason for entry in decisions(store)] == [*reasons, "the last"]


SCENARIOS = {"data": (run_data, check_data), "registry": (run_registry, check_registry)}


def start_child(call: Callable[[], object]) -> int:
    """Run something in a forked child; returns its process id."""
    child = os.fork()
    if child == 0:
        try:
            call()
            os._exit(WELL)
        except PipelineError:
            os._exit(REFUSED)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(CRASHED)
    return child


def end_of(child: int) -> int:
    """Wait for a child; returns how it ended: an exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Sweep:
    """A scenario, and the faults it is run through."""

    def __init__(self, scenario: str, reviews: Path, work: Path, every: int) -> None:
        self.run, self.check = SCENARIOS[scenario]
        self.scenario, self.reviews, self.work, self.every = scenario, reviews, work, every
        self.acts = work / "acts"
        self.survived, self.failed = 0, list[str]()

    def new_root(self) -> Path:
        """Return a fresh artifacts folder."""
        root = self.work / "root"
        shutil.rmtree(root, ignore_errors=True)
        if self.scenario == "registry":
            for model_id in (FIRST, SECOND):
                folder = root / "models" / model_id
                folder.mkdir(parents=True)
                (folder / "weights.safetensors").write_text(model_id)
                (folder / "bundle.json").write_text(json.dumps({"files": {"weights.safetensors": {}}}))
                tiny.reseal(folder)
        else:
            root.mkdir()
        return root

    def tell(self, number: int) -> None:
        """Note, in another folder, that an act ended."""
        self.acts.write_text(str(max(number, int(self.acts.read_text() or 0))))

    def judge(self, name: str, root: Path, acts: int | None = None) -> None:
        """Check what a fault left."""
        done = acts if acts is not None else int(self.acts.read_text() or 0)
        if end_of(start_child(lambda: self.check(root, self.reviews, done))) == WELL:
            self.survived += 1
        else:
            self.failed.append(f"{name}: not mended by the next run")

    def is_point(self, operation: Operation) -> bool:
        """Return whether a fault may be met before an operation."""
        return operation.writes and operation.path.startswith(str(self.work / "root"))

    def count_points(self) -> int:
        """Run the scenario unbroken; returns how many points it has."""
        root, met, count = self.new_root(), self.work / "met", 0
        self.acts.write_text("")

        def before(operation: Operation) -> None:
            nonlocal count
            count += self.is_point(operation)

        def go() -> None:
            watch_operations(before)
            self.run(root, self.reviews, self.tell)
            met.write_text(str(count))

        assert end_of(start_child(go)) == WELL
        return int(met.read_text())

    def run_until(self, point: int, root: Path, meet: Callable[[int], None]) -> tuple[int, str]:
        """Run the scenario until its operation of this number, which meets a fault; returns how it ended, and which operation that was."""
        counter = itertools.count()
        met = self.work / "met"
        met.write_text("")

        def before(operation: Operation) -> None:
            if self.is_point(operation) and next(counter) == point:
                _real_write(met, f"{operation.name} {operation.path}")
                meet(point)

        def go() -> None:
            watch_operations(before)
            self.run(root, self.reviews, self.tell)

        return end_of(start_child(go)), met.read_text()

    def at_each_point(self, meet: Callable[[int], None], wanted: Callable[[int], Sequence[int]]) -> None:
        """Let the scenario meet a fault before each of its operations in turn, until it ends without meeting one."""
        for point in itertools.count(0, self.every):
            root = self.new_root()
            self.acts.write_text("")
            ended, met = self.run_until(point, root, meet)
            if ended == WELL and not met:
                return
            where = f"{point} {met}"
            if ended not in wanted(point):
                self.failed.append(f"{where}: ended with {ended}")
            self.judge(where, root)

    def kill(self) -> None:
        """Die, as by kill -9."""
        self.at_each_point(_die, lambda _: [-signal.SIGKILL])

    def kill_again(self) -> None:
        """Die at one operation and, going on, at another: so many pairs of them, drawn at random."""
        points, draw = self.count_points(), random.Random(0)
        while self.survived + len(self.failed) < self.every:
            root = self.new_root()
            self.acts.write_text("")
            first = draw.randrange(points)
            ends = [self.run_until(point, root, _die) for point in (first, draw.randrange(points - first))]
            where = " then ".join(met for _, met in ends)
            if [ended for ended, _ in ends] != [-signal.SIGKILL if met else WELL for _, met in ends]:
                self.failed.append(f"{where}: ended with {[ended for ended, _ in ends]}")
            elif ends[1][1]:  # else it was done before it could be killed again
                self.judge(where, root)

    def error(self) -> None:
        """Have the system refuse: the run ends well all the same, or with an error of the project's own."""

        def refuse(point: int) -> None:
            number = ERRORS[point // self.every % len(ERRORS)]
            raise OSError(number, os.strerror(number))

        self.at_each_point(refuse, lambda _: [WELL, REFUSED])

    def power(self) -> None:
        """Cut the power after each operation: whatever of it the disk kept, the next run mends it."""
        root, log = self.new_root(), self.work / "log"
        disk = CrashedDisk(root)

        def go() -> None:
            done: list[Logged | int] = []

            def after(operation: Operation) -> None:
                entry = logged(operation.name, operation.path, operation.target, root)
                if entry is not None and (operation.writes or operation.name != "open"):
                    done.append(entry)

            watch_operations(lambda _: None, after)
            self.run(root, self.reviews, done.append)
            log.write_bytes(pickle.dumps(done))

        assert end_of(start_child(go)) == WELL
        acts = 0
        crash = self.work / "root"  # in the same place: nothing may depend on where it was
        for number, entry in enumerate(pickle.loads(log.read_bytes())):
            if isinstance(entry, int):
                acts = entry
                continue
            disk.apply(entry)
            if number % self.every == 0:
                for state in STATES:
                    shutil.rmtree(crash)
                    disk.write_to(crash, state)
                    self.judge(f"{number} {entry.name} {entry.path} ({state})", crash, acts)

    def crowd(self) -> None:
        """Run several at once on one folder, some of them killed at random moments."""
        draw = random.Random(0)
        for number in range(self.every):
            root = self.new_root()
            self.acts.write_text("")
            children = [start_child(lambda root=root: self.run(root, self.reviews, lambda _: None)) for _ in range(CROWD)]
            for child in children[::2]:
                time.sleep(draw.uniform(0, 0.1))
                os.kill(child, signal.SIGKILL)
            ended = [end_of(child) for child in children]
            if any(code not in (WELL, -signal.SIGKILL) for code in ended):
                self.failed.append(f"round {number}: ended with {ended}")
            self.judge(f"round {number}", root, ACTS)  # some came to the end


def _die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _real_write(path: Path, text: str) -> None:
    descriptor = _open(path, os.O_WRONLY | os.O_TRUNC)
    _write(descriptor, text.encode())
    _close(descriptor)


_open, _write, _close = os.open, os.write, os.close


def main(scenario: str, fault: str, reviews: str, work: str, every: str = "1") -> None:
    """Sweep, and print what became of it."""
    pa.set_cpu_count(1)
    sweep = Sweep(scenario, Path(reviews), Path(work), int(every))
    for name in ("tasks.ingest", "tasks.clean", "tasks.tokenize", "tasks.split"):
        module_digests(name)  # here, so that no child has to
    if scenario == "data":
        root = sweep.new_root()
        assert end_of(start_child(lambda: run_data(root, Path(reviews), lambda _: None))) == WELL
        expected = {name: digest for name, digest in tiny.digests(root).items() if not name.endswith(".json")}
        (Path(reviews).parent / "expected.json").write_text(json.dumps(expected))

    getattr(sweep, fault)()
    print(json.dumps({"survived": sweep.survived, "failed": sweep.failed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
