"""The reproduction flow: makes a model again from its sources, in a folder of its own, and compares it with the original bit for bit."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run
from pydantic import ValidationError

from flows.ending import end_state
from flows.settings import TrainingSettings
from tasks.clean import clean
from tasks.dotted import told_problems
from tasks.errors import MachineError
from tasks.evaluate import evaluate
from tasks.ingest import ingest, read_golden
from tasks.model.bundle import METRICS, check_bundle
from tasks.model.origin import Origin, origin_changes, read_origin
from tasks.model.registry import models_folder
from tasks.model.runtime import use_threads
from tasks.outcome import log_step, ref_of
from tasks.reproduce import compare_bundles, copy_artifact, judge, original_sources
from tasks.schemas import GOLDEN
from tasks.split import split
from tasks.store import Record, Store, make_folder
from tasks.tokenize import tokenize
from tasks.train import train
from tasks.unlabelled import unlabelled


@flow(name="reproduction", flow_run_name="reproduce {model_id}")
def reproduction(
    model_id: str,
    sources: list[str] | None = None,
    unlabelled_sources: list[str] | None = None,
    golden_test: str | None = None,
    artifacts: str = "artifacts",
) -> dict[str, Any]:
    """Train a model once more from the same sources by the same settings, without anything cached, and compare the two.

    The original stays as it is, nothing is promoted, and the new model is removed in the end.

    Args:
        model_id: The model.
        sources: What it was trained on, if that lies elsewhere now.
        unlabelled_sources: The same of the reviews without labels.
        golden_test: The same of the golden test set.
        artifacts: The folder that holds the model.

    Returns:
        The run's summary, as `sentiment train --reproduce MODEL_ID --json` prints it.
    """
    store = Store(Path(artifacts).resolve())
    original = models_folder(store) / model_id
    check_bundle(original)
    origin = read_origin(original)
    settings = settings_of(origin)
    given = {"ingest": sources or [], GOLDEN: [golden_test] if golden_test else [], "unlabelled": unlabelled_sources or []}
    found = {
        step: original_sources(origin, step, names, settings.ingest.reader, store) for step, names in given.items() if step in origin.steps
    }
    use_threads(origin.machine.threads)

    with workshop(store, run_id=str(flow_run.get_id())) as apart:

        def read(step: str, task: Callable[[list[str]], Any]) -> Any:
            names = found.get(step)
            return copy_artifact(names, store, apart) if isinstance(names, Record) else task(names) if names else None

        golden = read(GOLDEN, lambda names: read_golden(names[0], settings.ingest, apart))
        ingested = read("ingest", lambda names: ingest(names, settings.ingest, apart))
        cleaned = clean(ingested, settings.clean, apart)
        tokenized = tokenize(cleaned, settings.tokenize, apart)
        rows = split(tokenized, settings.split, apart, golden)
        more = read("unlabelled", lambda names: unlabelled(names, rows, settings.unlabelled, apart, golden))
        model = train(rows, more, settings.train, apart)

        again = apart.path(ref_of(model)).parent
        changes = origin_changes(origin, read_origin(again))
        comparison = compare_bundles(original, again)
        test = None
        if not comparison.identical:
            evaluated = ref_of(evaluate(model, rows, settings.evaluate, apart, golden))
            test = apart.record_of(evaluated).facts["evaluation"]["model"]
        steps = apart.journal()

    measured = json.loads((original / METRICS).read_text(encoding="utf-8"))["model"]
    judgement = judge(
        comparison,
        explained=changes.any(),
        accuracy=test["accuracy"] if test else None,
        interval=measured["intervals"]["accuracy"],
    )
    log_step("compare", f"{judgement.status}: {judgement.reason}")
    summary = {
        "command": "reproduce",
        "status": judgement.status,
        "reason": judgement.reason,
        "model_id": model_id,
        "sources": {name: sha256 for step in given for name, sha256 in origin.sources(step).items()},
        "changes": asdict(changes),
        **asdict(comparison),
        "test": {"accuracy": test["accuracy"], "original": measured["accuracy"]} if test else None,
        "steps": steps,
    }
    return end_state(summary, judgement.status, judgement.reason)


def settings_of(origin: Origin) -> TrainingSettings:
    """Return the settings that a model was trained with.

    Raises:
        MachineError: This version has other settings.
    """
    steps = {step: dict(made_from.settings) for step, made_from in origin.steps.items() if step not in (GOLDEN, "unlabelled")}
    training = {name: value for name, value in steps.pop("train").items() if name not in ("machine", "threads")}
    if origin.sample:
        steps["ingest"]["sample"] = origin.sample
    try:
        return TrainingSettings.model_validate(steps | training)
    except ValidationError as error:
        raise MachineError(
            f"The model was trained with settings that this version does not have ({told_problems(error)}). "
            "Install the version that trained it."
        ) from None


@contextmanager
def workshop(store: Store, run_id: str) -> Iterator[Store]:
    """Make an empty store beside the artifacts, on the same disk, for one run; downloads are shared, everything else is removed."""
    folder = store.root / "tmp" / f"{os.getpid()}-reproduce-{uuid.uuid4().hex[:12]}"
    make_folder(folder)
    try:
        if (store.root / "downloads").is_dir():
            with suppress(OSError):  # a system without links downloads once more
                (folder / "downloads").symlink_to(store.root / "downloads", target_is_directory=True)
        yield Store(folder, run_id)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
