"""Runs, kills, damage, garbage collection, promotions, rollbacks and scoring in any order, against a model of what must hold.

    python tests/faults/machine.py REVIEWS.csv OTHER_REVIEWS.csv EXAMPLES

Each act happens in a forked child, so that it can die; nothing with threads is imported before. What fails is told by Hypothesis, act by
act.
"""

import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import pyarrow as pa
import pyarrow.parquet as pq
import tiny
from faults import sweep
from faults.killable import HashingModel
from faults.watched import Operation, watch_operations
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from tasks import score
from tasks.errors import PipelineError
from tasks.fingerprint import module_digests
from tasks.model.bundle import check_bundle
from tasks.model.registry import Verdict, champion, decisions, note_refusal, promote_model, registry_lock, roll_back
from tasks.pins import PinnedModel
from tasks.reviews.sources import FileSource
from tasks.store import Store
from tasks.upkeep import delete_garbage, find_garbage, verify_store

DATASETS: list[Path] = []
NAMES = ("m-000000000001", "m-000000000002", "m-000000000003")
DATA_STEPS = ("ingest", "clean", "tokenize", "split")
KILLED = -signal.SIGKILL
which = st.sampled_from((0, 1))
names = st.sampled_from(NAMES)
points = st.integers(0, 130)
counted: dict[str, int] = {}
expected_data: dict[int, dict[str, str]] = {}
expected_scores: dict[tuple[int, str, str], dict[str, str]] = {}


class Named(HashingModel):
    """A stand-in for the champion, known by its name and its seal."""

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id


def make_data(root: Path, reviews: Path) -> list[bool]:
    """Run the steps of data; returns which were found."""
    return [result.cached for result in sweep.run_data(root, reviews, lambda _: None)]


def score_with_champion(root: Path, reviews: Path, outputs: Path) -> None:
    """Score a file as the flow does, with whichever model is the champion and what was promoted."""
    store, chosen = Store(root), score.ScoreSettings()
    current = champion(store)
    assert current is not None
    if check_bundle(root / "models" / current.model_id) != current.bundle_sha256:
        raise PipelineError("not what was promoted")
    output = outputs / current.model_id / f"{reviews.stem}.parquet"
    pinned = PinnedModel(current.model_id, current.bundle_sha256)
    plan = score.plan_file(score.look_at(FileSource(reviews, reviews.name), chosen), output, pinned, chosen)
    if score.find_scored(plan, store):
        plan.folder(store).tidy()
        return
    for shard in range(len(plan.shards)):
        score.score_shard(plan, shard, Named(current.model_id), store)  # type: ignore[arg-type]
    score.publish_file(plan, store)


def in_registry(act: Callable[[Store], object], root: Path) -> None:
    """Decide something about models, as commands do."""
    with registry_lock(Store(root)):
        act(Store(root))


def digests_of_data(root: Path) -> dict[str, str]:
    """Return the digests of the tables of the steps of data, records left out, which hold times."""
    found = tiny.digests(root)
    return {name: digest for name, digest in found.items() if name.startswith(DATA_STEPS) and not name.endswith(".json")}


class Pipeline(RuleBasedStateMachine):
    """An artifacts folder, and what its user may expect of it."""

    @initialize()
    def begin(self) -> None:
        """Begin with three sealed models, the first of them the champion."""
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.root, self.outputs = self.folder / "root", self.folder / "outputs"
        for name in NAMES:
            bundle = self.root / "models" / name
            bundle.mkdir(parents=True)
            (bundle / "weights.safetensors").write_text(name * 20)
            (bundle / "bundle.json").write_text(json.dumps({"files": {"weights.safetensors": {}}}))
            tiny.reseal(bundle)
        self.latest: int | None = None  # whose data was made last, undamaged since
        self.damaged: set[str] = set()  # files of data
        self.broken: set[str] = set()  # models
        self.champion: str | None = None
        self.before: dict[str, str | None] = {}  # whose place each champion took last
        self.reasons: list[str] = []
        self.promote(NAMES[0], None, False)

    def do(self, name: str, act: Callable[..., object], *arguments: Any, point: int | None = None, die: bool = True) -> int:
        """Act in a child, which may die, or be refused, before its so-many-th step on the file system; returns how it ended."""
        steps = itertools.count()

        def before(operation: Operation) -> None:
            if operation.path.startswith(str(self.folder)) and operation.writes and next(steps) == point:
                if die:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(sweep.ERRORS[point % 4], os.strerror(sweep.ERRORS[point % 4]))

        def go() -> None:
            if point is not None:
                watch_operations(before)
            act(*arguments)

        ended = sweep.end_of(sweep.start_child(go))
        kind = {sweep.WELL: "well", sweep.REFUSED: "refused", KILLED: "killed"}.get(ended, "crashed")
        counted[f"{name}: {kind}"] = counted.get(f"{name}: {kind}", 0) + 1
        assert kind != "crashed", f"{name} ended with {ended}"
        return ended

    @rule(number=which)
    def run(self, number: int) -> None:
        """A run makes what any other run makes, whatever happened before; and again, all is found."""
        assert self.do("run", make_data, self.root, DATASETS[number]) == sweep.WELL
        found, wanted = digests_of_data(self.root), expected_data[number]
        assert {name: found.get(name) for name in wanted} == wanted
        self.latest = number
        self.damaged -= set(wanted)

    @rule(number=which, point=points, die=st.booleans())
    def broken_off_run(self, number: int, point: int, die: bool) -> None:
        """A run that is killed, or refused by the system, leaves nothing that counts and is not whole."""
        if self.do("run", make_data, self.root, DATASETS[number], point=point, die=die) == sweep.WELL:
            self.damaged -= set(expected_data[number])
            self.latest = number
        elif number != self.latest:
            self.latest = None

    @precondition(lambda self: self.latest is not None)
    @rule(step=st.sampled_from(DATA_STEPS), place=st.integers(0, 1 << 20), how=st.sampled_from(("flip", "cut", "delete", "record")))
    def damage(self, step: str, place: int, how: str) -> None:
        """The disk damages a file."""
        files = sorted((self.root / step).glob("*.json" if how == "record" else "*.parquet"))
        path = files[place % len(files)]
        content = path.read_bytes()
        place %= len(content)
        if how == "delete":
            path.unlink()
        else:
            path.write_bytes(content[:place] + (b"" if how == "cut" else bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]))
        self.damaged.add(path.relative_to(self.root).as_posix())
        self.latest = None

    @rule()
    def collect_garbage(self) -> None:
        """What goes is what nobody needs: models and the latest data stay."""

        def collect() -> None:
            delete_garbage(Store(self.root), find_garbage(Store(self.root)))

        assert self.do("gc", collect) == sweep.WELL
        if self.latest is not None and not self.damaged:
            found = digests_of_data(self.root)
            assert any(wanted.items() <= found.items() for wanted in expected_data.values()), "the data that was made last stays"

    @rule(name=names, point=st.none() | st.integers(0, 14), die=st.booleans())
    def promote(self, name: str, point: int | None, die: bool) -> None:
        """A model becomes the champion, or the old one stays; one whose files are not what its seal says never becomes it."""
        reason, old = f"decision {len(self.reasons)}", self.champion
        ended = self.do("promote", in_registry, lambda store: promote_model(store, name, reason), self.root, point=point, die=die)
        replaced = self.before.get(name) if name == old else old
        self.settle(name, replaced, reason, ended, name in self.broken)

    @rule(point=st.none() | st.integers(0, 14), die=st.booleans())
    def go_back(self, point: int | None, die: bool) -> None:
        """The champion before becomes the champion again, or the present one stays."""
        reason = f"decision {len(self.reasons)}"
        target = self.before.get(self.champion) if self.champion else None
        ended = self.do("rollback", in_registry, lambda store: roll_back(store, reason), self.root, point=point, die=die)
        if target is None:
            assert ended != sweep.WELL
            return
        self.settle(target, self.before.get(target), reason, ended, target in self.broken)

    def settle(self, name: str, replaced: str | None, reason: str, ended: int, refused: bool) -> None:
        """Compare what the registry says with what was done to it."""
        current = champion(Store(self.root))
        told = [entry.reason for entry in decisions(Store(self.root))]
        assert (ended == sweep.WELL) <= (not refused and reason in told), (name, told)
        changed = current is not None and current.reason == reason
        assert changed or ended != sweep.WELL
        if reason in told:
            self.reasons.append(reason)
        if changed:
            assert current is not None and current.model_id == name and not refused
            self.champion = name
        if reason in told:  # a decision that was written down but not carried out counts for later rollbacks of that model
            self.before[name] = replaced

    @rule()
    def refuse(self) -> None:
        """A refusal is noted, and changes nothing."""
        reason = f"decision {len(self.reasons)}"
        verdict = Verdict(NAMES[0], "refused", reason, self.champion)
        ended = self.do("refuse", in_registry, lambda store: note_refusal(store, verdict), self.root)
        assert (ended == sweep.WELL) == (NAMES[0] not in self.broken)
        if ended == sweep.WELL:
            self.reasons.append(reason)

    @precondition(lambda self: not self.broken)
    @rule(name=names)
    def break_model(self, name: str) -> None:
        """The disk damages a model."""
        (self.root / "models" / name / "weights.safetensors").write_text(name[::-1] * 20)
        self.broken.add(name)

    @precondition(lambda self: self.broken)
    @rule()
    def mend_model(self) -> None:
        """Its owner puts the file back."""
        name = self.broken.pop()
        (self.root / "models" / name / "weights.safetensors").write_text(name * 20)

    @precondition(lambda self: self.champion is not None)
    @rule(number=which, point=st.none() | points, die=st.booleans())
    def score(self, number: int, point: int | None, die: bool) -> None:
        """Scores appear whole, of the champion alone, or not at all."""
        assert self.champion is not None
        ended = self.do("score", score_with_champion, self.root, DATASETS[number], self.outputs, point=point, die=die)
        if self.champion in self.broken:
            assert ended == sweep.REFUSED or ended == KILLED
            return
        folder = self.outputs / self.champion
        if ended == sweep.WELL:
            table = pq.read_table(folder / f"{DATASETS[number].stem}.parquet")
            refused = (folder / f"{DATASETS[number].stem}.parquet.quarantine.jsonl").read_text(encoding="utf-8").splitlines()
            rows = [*table["source_row"].to_pylist(), *(json.loads(line)["row"] for line in refused)]
            assert sorted(rows) == list(range(1, 64)), "rows in = rows out + quarantined"
            assert set(table["model_id"].to_pylist()) == {self.champion}

    @invariant()
    def the_champion_is_who_it_should_be(self) -> None:
        """Readers see the old champion or the new, and every decision that was taken."""
        if hasattr(self, "root"):
            current = champion(Store(self.root))
            assert (current.model_id if current else None) == self.champion
            assert [entry.reason for entry in decisions(Store(self.root))] == self.reasons

    @invariant()
    def nothing_is_damaged_but_what_the_disk_damaged(self) -> None:
        """Whatever a record names is whole."""
        if hasattr(self, "root"):
            found = {finding.path for finding in verify_store(Store(self.root))[1]}
            assert found <= self.damaged | {f"models/{name}" for name in self.broken}

    @invariant()
    def what_was_published_stays_as_it_was(self) -> None:
        """A result is the same bytes for ever, and nothing half is beside it."""
        if hasattr(self, "root"):
            for path in self.outputs.glob("*/*.parquet"):
                key = (int(path.stem == DATASETS[1].stem), path.parent.name, "")
                found = {path.name: tiny.digests(path.parent).get(path.name, "")} if path.is_file() else tiny.digests(path)
                assert expected_scores.setdefault(key, found) == found

    def teardown(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


def main(first: str, second: str, examples: str) -> None:
    """Try so many stories; print how each kind of act ended, and how often."""
    pa.set_cpu_count(1)
    DATASETS[:] = [Path(first), Path(second)]
    score.digest_of_code(score.ScoreSettings())
    for name in (f"tasks.{step}" for step in DATA_STEPS):
        module_digests(name)
    for number, reviews in enumerate(DATASETS):
        with tempfile.TemporaryDirectory() as folder:
            assert sweep.end_of(sweep.start_child(partial(make_data, Path(folder), reviews))) == sweep.WELL
            expected_data[number] = digests_of_data(Path(folder))
    run_state_machine_as_test(
        Pipeline,
        settings=settings(
            max_examples=int(examples),
            stateful_step_count=25,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],  # what fails is a story of 25 acts at most, and making it shorter takes minutes
        ),
    )
    print(json.dumps(counted))


if __name__ == "__main__":
    main(*sys.argv[1:])
