"""A process that scores files in children, to be killed: `test_scoring_killed.py` starts it and tells it what to do, a JSON line each.

The children are forked, so that killing dozens costs seconds: all is imported before, and a model of a few lines stands for TensorFlow.
"""

import hashlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import pandas  # noqa: F401  Arrow would import it in each child
import pyarrow as pa

from tasks import score
from tasks.model.bundle import ReviewScores
from tasks.model.decision import Decision
from tasks.pins import PinnedModel
from tasks.reviews import records, tabular
from tasks.reviews.sources import FileSource
from tasks.store import Store

STEPS = ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir")


class HashingModel:
    """Scores reviews by their hash: as good as any model where only rows are counted."""

    model_id = "m-hash"
    decision = Decision(0.4, 0.6)
    seen = np.empty(0, np.uint64)

    def score_reviews(self, reviews: pa.Array) -> ReviewScores:
        """Return a number for each review."""
        scores = [hashlib.sha256((text or "").encode()).digest()[0] / 255 for text in reviews.to_pylist()]
        ones = np.ones(len(scores), np.int64)
        return ReviewScores(np.array(scores, np.float32), np.full(len(scores), "ok", object), ones, 0 * ones)

    def check_unchanged(self) -> None:
        """Say nothing: there is no bundle."""


def score_file(path: Path, root: Path, output: Path, format: str) -> None:
    """Score a file as the flow does: every shard, then publish."""
    store, settings = Store(root), score.ScoreSettings(format=format)
    plan = score.plan_file(score.look_at(FileSource(path, path.name), settings), output, PinnedModel("m-hash", "0" * 64), settings)
    if score.find_scored(plan, store):
        plan.folder(store).tidy()
    else:
        for shard in range(len(plan.shards)):
            score.score_shard(plan, shard, HashingModel(), store)
        score.publish_file(plan, store)


def die_at(step: int) -> None:
    """Let this process die, as by kill -9, right before its so-many-th step on the file system."""
    steps = iter(range(step + 1))

    def watched(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in STEPS:
        setattr(os, name, watched(getattr(os, name)))


def run_child(order: dict[str, Any]) -> int:
    """Do what is ordered in a child, and kill it after so many seconds; returns how it ended, 0 or minus the signal."""
    lives, lifeline = os.pipe()  # whose other end closes with the child, however it ends
    child = os.fork()
    if child == 0:
        try:
            os.close(lives)
            if order["die_at"] is not None:
                die_at(order["die_at"])
            score_file(Path(order["input"]), Path(order["root"]), Path(order["output"]), order["format"])
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(lifeline)
    if order["kill_after"] is not None and not select.select([lives], [], [], order["kill_after"])[0]:
        os.kill(child, signal.SIGKILL)  # not waited for yet, so no other process can have its number
    os.close(lives)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Say that all is imported, then run a child for each line on stdin and tell how it ended."""
    score.digest_of_code(score.ScoreSettings())  # here, so that no child has to
    os.fsync = lambda descriptor: None  # a step like others; only a lost disk would miss it, not a killed process
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        records.ROWS_PER_BATCH = tabular.ROWS_PER_BATCH = tabular._ROWS_AT_ONCE = order["rows_per_batch"]
        score.ROWS_PER_SHARD = order["rows_per_shard"]
        print(run_child(order), flush=True)


if __name__ == "__main__":
    main()
