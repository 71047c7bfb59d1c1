"""The scoring flow: applies one model to review files, a task a file or a stretch of Parquet. One bad file does not stop the others."""

import functools
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.futures import as_completed
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner

from flows.ending import end_state, keep
from flows.form import Words
from flows.runners import RunnerName, result_of, start_runner
from tasks.drawing import import_plotting
from tasks.errors import CallerError, DataError, MachineError, PipelineError, UnsettledError
from tasks.fingerprint import sha256_of_json
from tasks.inbox import Memory, Purpose, apart, find_new, open_memory
from tasks.model.bundle import check_bundle, find_manifest, is_sample
from tasks.model.registry import Promotion, champion, models_folder
from tasks.outcome import log_step, rename_flow_run, run_logger
from tasks.pins import PinnedModel, pin, unpin
from tasks.progress import run_progress
from tasks.results import ResultFormat
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.sources import FileSource, find_files, with_own_names
from tasks.score import (
    LookedAt,
    ScoredFile,
    ScoreSettings,
    ScoringPlan,
    digest_of_code,
    find_scored,
    look_at,
    open_model,
    part_name,
    plan_file,
    publish_file,
    score,
    stop_run,
)
from tasks.store import Store
from tasks.summarize import summarize

_LONGEST_STEM = 120
_ENDINGS = {
    ".csv",
    ".tsv",
    ".txt",
    ".json",
    ".jsonl",
    ".ndjson",
    ".parquet",
    ".xlsx",
    ".gz",
    ".zst",
    ".xz",
    ".bz2",
    ".zip",
}
CHAMPION = "champion"
Failures = dict[str, PipelineError]
Start = Callable[[], AbstractContextManager[TaskRunner[Any]]]


def _run_name() -> str:
    parameters = flow_run.get_parameters()
    what = [Path(name).name for name in (parameters["inputs"] or [])[:3]] or [f"what is new in {Path(parameters['inbox'] or '').name}"]
    return f"score {', '.join(what)} with {parameters['model']}"


@flow(name="scoring", flow_run_name=_run_name)
def scoring(
    inputs: list[str] | None = None,
    output: str | None = None,
    format: ResultFormat = "parquet",
    model: str = CHAMPION,
    text_column: str | None = None,
    id_column: str | None = None,
    date_column: str | None = None,
    reader: ReaderSettings | None = None,
    artifacts: str = "artifacts",
    inbox: str | None = None,
    runner: RunnerName = "threads",
    scheduler: str | None = None,
    explain: Words = 0,
) -> dict[str, Any]:
    """Score review files: every row comes back with a probability, a label and the model's name.

    Args:
        inputs: Paths of review files, folders or globs.
        output: Folder for the results; ARTIFACTS/scores/MODEL if not given.
        format: Format of the results.
        model: champion, or a model's id.
        text_column: The column that holds the review; found by its name if not given.
        id_column: The column that identifies a review in the summary; found by its name if not given.
        date_column: The column that says when a review was written, for labels over time; found by its name if not given.
        reader: How to read the files; detected if not given.
        artifacts: The folder that holds the models.
        inbox: Instead of inputs, a folder: what is new in it, by content, is scored; nothing is moved.
        runner: Where tasks run: threads of this process, or the workers of a Dask cluster.
        scheduler: Address of the cluster's scheduler, such as tcp://host:8786; without it a cluster is started here.
        explain: How many words to name for each row, those that moved its score most; 0 for none.

    Returns:
        The run's summary, as `sentiment score --json` prints it.
    """
    check_use(inputs, inbox, explain)
    store = Store(Path(artifacts).resolve(), run_id=str(flow_run.get_id()))
    current = resolve_model(model, store)
    settings = ScoreSettings(
        reader=reader or ReaderSettings(),
        text_column=text_column,
        id_column=id_column,
        date_column=date_column,
        format=format,
        explain=explain,
    )

    with open_memory(store, inbox, purpose_of(settings, model, output, store)) if inbox else nullcontext() as memory:
        sources = find_sources(inputs or [], inbox, memory, settings.reader, store, output)
        failed: Failures = {}
        looked_at = list(look_at_all(sources, settings, failed))
        files = [(found.source.name, found.source.member, found.digest) for found in looked_at]
        job = sha256_of_json([settings.model_dump(mode="json"), output, files])
        pinned = pin_champion(current, job, store) if model == CHAMPION else current
        rename_flow_run(tags=[pinned.model_id])
        if is_sample(models_folder(store) / pinned.model_id):
            run_logger().warning("Model %s was trained on the generated sample: its scores mean nothing.", pinned.model_id)
        folder = Path(output).resolve() if output else store.root / "scores" / pinned.model_id
        places = output_places(looked_at, folder, settings.format, by_content=memory is not None)
        plans = plan_all(looked_at, places, pinned, settings, failed)
        note = functools.partial(_remember, memory, {found.source.name: found.digest for found in looked_at}, pinned)
        scored = score_files(plans, functools.partial(start_runner, runner, scheduler), store, failed, note)
        _remember_failed(memory, sources, failed)
        unpin(job, store)

    if failed and not scored and memory is None and all(isinstance(error, CallerError) for error in failed.values()):
        raise next(iter(failed.values()))
    reasons = {source.name: str(failed[source.name]) for source in sources if source.name in failed}
    told = (
        summarize(pinned.model_id, scored, reasons, folder, store, keep=memory is not None) if scored else {"summary": None, "drift": None}
    )
    summary = count_rows(pinned.model_id, scored, reasons) | told
    if failed:
        raise UnscoredFilesError(keep(summary))
    message = f"{summary['scored']:,} of {summary['rows']:,} rows scored with {summary['model_id']}, {summary['quarantined']:,} quarantined"
    if summary["drift"]:
        message += f"; {summary['drift']}"
    return end_state(summary, summary["status"], f"{message}.")


def check_use(inputs: list[str] | None, inbox: str | None, explain: int) -> None:
    """Check that it is said what to score, and well.

    Raises:
        CallerError: It is not.
    """
    if explain < 0:
        raise CallerError(f"--explain {explain} names no words. Give how many words to name for each row, such as 5.")
    if bool(inputs) == bool(inbox):
        raise CallerError("Name what to score: either files, folders or globs, or with --inbox one folder to watch.")


def prepare(model: str, artifacts: str) -> None:
    """Do what needs no Prefect while its temporary server starts: open the model, read the code's digest, import what is needed late.

    What fails here fails again in the run, which tells it.
    """
    store = Store(Path(artifacts).resolve())
    with suppress(PipelineError, OSError):
        current = champion(store) if model == CHAMPION else None
        open_model(PinnedModel(current.model_id, current.bundle_sha256) if current else resolve_model(model, store), store)
    digest_of_code(ScoreSettings())
    import_plotting()


def find_sources(
    inputs: list[str], inbox: str | None, memory: Memory | None, reader: ReaderSettings, store: Store, output: str | None
) -> list[FileSource]:
    """Return the files that the caller named, or those that are new in an inbox.

    Raises:
        CallerError: There are none that were named, or no such inbox.
    """
    if inbox is None or memory is None:
        return with_own_names([file for name in inputs for file in find_files(name, store.root / "downloads", reader)])
    new, unsettled, failed = find_new(inbox, memory, reader, apart(store, output))
    told = [f"{len(new):,} new files in {inbox}"]
    told += [f"{unsettled:,} may still be being written"] if unsettled else []
    told += [f"{failed:,} could not be scored before and have not changed since"] if failed else []
    log_step("inbox", "; ".join(told))
    return new


def purpose_of(settings: ScoreSettings, model: str, output: str | None, store: Store) -> Purpose:
    """Return what files of an inbox are scored for: for another purpose, such as another column or format, all of them are new."""
    current = champion(store) if model == CHAMPION else None
    model_id = current.model_id if current else model
    plain, place = settings.model_dump(mode="json"), str(Path(output).resolve()) if output else None
    name, other_name = (sha256_of_json([plain, called, place]) for called in (model, model_id if model == CHAMPION else CHAMPION))
    return Purpose(name, other_name, model_id)


def _remember(memory: Memory | None, digests: dict[str, str], model: PinnedModel, file: ScoredFile) -> None:
    if memory is not None:
        memory.add(digests[file.source], file.source, model.model_id, file.output)


def _remember_failed(memory: Memory | None, sources: list[FileSource], failed: Failures) -> None:
    """Note which files are at fault themselves, unlike one that changed while it was read or a disk that was full."""
    for source in sources:
        error = failed.get(source.name)
        if memory is not None and isinstance(error, DataError | CallerError) and not isinstance(error, UnsettledError):
            memory.add_failed(source, str(error))


class UnscoredFilesError(DataError):
    """Some files could not be scored; `summary` tells of them and of the others, whose results stand."""

    def __init__(self, summary: dict[str, Any]) -> None:
        super().__init__("; ".join(f"{source}: {why}" for source, why in summary["failed"].items()))
        self.summary = summary


def resolve_model(model: str, store: Store) -> PinnedModel:
    """Return a model, to the bit; `champion` is the one promoted last.

    Raises:
        CallerError: There is no such model, or no champion yet.
        MachineError: The model's bundle is damaged.
    """
    if model != CHAMPION:
        return PinnedModel(model, check_bundle(models_folder(store) / model))
    current = _champion_of(store)
    if check_bundle(models_folder(store) / current.model_id) != current.bundle_sha256:
        raise MachineError(f"The champion {current.model_id} is not the bundle that was promoted. Promote a model anew.")
    return PinnedModel(current.model_id, current.bundle_sha256)


def check_model(model: str, store: Store) -> None:
    """Check that there is a model of that name, without reading its files; `resolve_model` does.

    Raises:
        CallerError: There is none, or no champion yet.
    """
    find_manifest(models_folder(store) / (_champion_of(store).model_id if model == CHAMPION else model))


def _champion_of(store: Store) -> Promotion:
    current = champion(store)
    if current is None:
        raise CallerError(
            f"There is no champion in {store.root} yet. Train one with `sentiment train SOURCE`, or name a model with --model ID."
        )
    return current


def pin_champion(current: PinnedModel, job: str, store: Store) -> PinnedModel:
    """Return the model that this run scores with, start to end.

    That is today's champion, unless a run over the same inputs was broken off while an earlier one was: then it goes on with that,
    as the results of one run must be of one model, and says so.
    """
    pinned = pin(current, job, store)
    if pinned == current:
        return current
    try:
        intact = check_bundle(models_folder(store) / pinned.model_id) == pinned.bundle_sha256
    except (CallerError, MachineError):
        intact = False
    if intact:
        run_logger().warning(
            "This goes on where an unfinished run was, with its model %s; %s was promoted since. For that one say --model %s.",
            pinned.model_id, current.model_id, current.model_id,
        )  # fmt: skip
        return pinned
    run_logger().warning(
        "Model %s of an unfinished run is gone. Its work is left; all is scored with %s.", pinned.model_id, current.model_id
    )
    unpin(job, store)
    return pin(current, job, store)


def look_at_all(sources: Iterable[FileSource], settings: ScoreSettings, failed: Failures) -> Iterator[LookedAt]:
    """Yield each file as it was found; those that cannot be read are noted in `failed`."""
    for source in sources:
        try:
            found = look_at(source, settings)
            log_step("score", f"{source.name}: {source.describe(settings.reader, settings.text_column)}")
            yield found
        except PipelineError as error:
            _fail(source.name, error, failed)


def plan_all(
    looked_at: list[LookedAt], places: list[Path], model: PinnedModel, settings: ScoreSettings, failed: Failures
) -> list[ScoringPlan]:
    """Return what is to be done with each file."""
    plans = []
    for found, place in zip(looked_at, places, strict=True):
        try:
            plans.append(plan_file(found, place, model, settings))
        except CallerError as error:
            _fail(found.source.name, error, failed)
    return plans


def score_files(
    plans: list[ScoringPlan], start: Start, store: Store, failed: Failures, note: Callable[[ScoredFile], None]
) -> list[ScoredFile]:
    """Score files, a task a shard, and publish each as soon as its last shard is done; `note` is told of it then.

    Returns:
        Those that were scored, now or earlier, in their order; the others are noted in `failed`.
    """
    done: dict[str, ScoredFile] = {}
    for plan in plans:
        if found := find_scored(plan, store):
            done[found.source] = found
            plan.folder(store).tidy()
            note(found)
            log_step("score", f"{found.source}: already scored, {found.rows:,} rows in {found.output}")
    shards = [(plan, shard) for plan in plans if plan.source.name not in done for shard in range(len(plan.shards))]
    if not shards:
        return list(done.values())
    missing = Counter(plan.source.name for plan, _ in shards)
    sizes = {part_name(plan, shard): plan.source.size() // len(plan.shards) for plan, shard in shards}
    with start() as workers, run_progress(store.run_id, "score", sizes) as progress:
        try:
            tasks = {workers.submit(score, {"plan": plan, "shard": shard, "store": store}): (plan, shard) for plan, shard in shards}
            for task in as_completed(list(tasks)):
                plan, shard = tasks[task]
                name = plan.source.name
                missing[name] -= 1
                try:
                    progress.finish(part_name(plan, shard), result_of(task))
                    if not missing[name] and name not in failed:
                        done[name] = publish_file(plan, store)
                        note(done[name])
                        log_step("score", _told(done[name]))
                except (DataError, CallerError) as error:
                    _fail(name, error, failed)
        except BaseException:
            stop_run(store)
            raise
    return [done[plan.source.name] for plan in plans if plan.source.name in done]


def _fail(name: str, error: PipelineError, failed: Failures) -> None:
    if name not in failed:
        failed[name] = error
        run_logger().error("%s was not scored: %s", name, error)


def _told(file: ScoredFile) -> str:
    marked = [f"{count:,} {status.replace('_', ' ')}" for status, count in file.facts.get("status", {}).items() if status != "ok"]
    of_these = f" ({', '.join(marked)})" if marked else ""
    counts = f"{file.source}: {file.scored:,} of {file.rows:,} rows scored{of_these}, {file.quarantined:,} quarantined"
    return counts + (f"; replaces the result that stood at {file.output}" if file.replaced else "")


def output_places(looked_at: list[LookedAt], folder: Path, ending: str, *, by_content: bool = False) -> list[Path]:
    """Name every input's result: its own name without endings, or with them where two would be the same; `by_content` with its digest."""
    stems = [_stem(found.source.name) for found in looked_at]
    shared = {stem for stem, count in Counter(stems).items() if count > 1}
    names = [_flat(found.source.name) if stem in shared else stem for found, stem in zip(looked_at, stems, strict=True)]
    if by_content:
        names = [f"{stem}-{found.digest[:12]}" for found, stem in zip(looked_at, stems, strict=True)]
    if len(set(names)) < len(names):
        raise CallerError(
            f"Several inputs have the same name: {', '.join(sorted(n for n, c in Counter(names).items() if c > 1))}. Score them one by one."
        )
    return [folder / f"{_shortened(name)}.scored.{ending}" for name in names]


def _shortened(name: str) -> str:
    """Return a name that leaves a file system room for endings; of one that is too long, its beginning and a digest of all of it."""
    encoded = name.encode()
    if len(encoded) <= _LONGEST_STEM:
        return name
    return f"{encoded[:_LONGEST_STEM].decode(errors='ignore')}-{hashlib.sha256(encoded).hexdigest()[:12]}"


def _stem(name: str) -> str:
    path = Path(name)
    while path.suffix.lower() in _ENDINGS:
        path = path.with_suffix("")
    return _flat(str(path))


def _flat(name: str) -> str:
    """Return a path as the name of one file, which no `../` before it hides."""
    return re.sub(r"^(\.{1,2}/)+", "", name).replace("/", "__")


def count_rows(model_id: str, scored: list[ScoredFile], failed: dict[str, str]) -> dict[str, Any]:
    """Return what a run came to, in the form that `--json` promises."""
    return {
        "command": "score",
        "status": _status(scored, failed),
        "model_id": model_id,
        "rows": sum(file.rows for file in scored),
        "scored": sum(file.scored for file in scored),
        "quarantined": sum(file.quarantined for file in scored),
        "outputs": [file.output for file in scored],
        "quarantines": [file.quarantine for file in scored if file.quarantine],
        "failed": failed,
    }


def _status(scored: list[ScoredFile], failed: dict[str, str]) -> str:
    if failed:
        return "failed"
    if not scored:
        return "nothing new"
    return "scored" if any(file.state == "scored" for file in scored) else "already scored"
