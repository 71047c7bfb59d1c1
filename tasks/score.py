"""score: applies a model to the rows of a file, a chunk at a time, so that a killed run goes on where it was; every column is kept."""

import functools
import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from pydantic import BaseModel, Field

from tasks.chunks import Chunk, WorkFolder, are_whole
from tasks.discreet import discreet
from tasks.errors import DataError, MachineError, UnsettledError
from tasks.fingerprint import sha256_of_json
from tasks.model.bundle import SentimentModel, load_bundle
from tasks.model.explain import explain_reviews, in_words
from tasks.model.registry import models_folder
from tasks.pins import PinnedModel
from tasks.progress import RunProgress, count_rows
from tasks.results import ResultFormat, as_json, check_replaceable, is_intact, quarantine_of, write_result
from tasks.reviews.batches import Batch
from tasks.reviews.columns import find_text_column, text_of
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.sources import FileSource
from tasks.schemas import kept_names
from tasks.store import Recipe, Store
from tasks.tables import map_in_order
from tasks.tallies import Facts, merge_facts, tally

ADDED_COLUMNS = ("p_positive", "predicted", "status", "model_id", "source", "source_row")
EXPLANATION = "explanation"
BATCHES_PER_CHUNK = 4  # of 4,096 rows, or of 32 MB if that is less
ROWS_PER_SHARD = 65_536
LIBRARIES = ("numpy", "pyarrow")

_stopped: set[str] = set()  # the runs of this process that were broken off
_loading = threading.Lock()


class ScoreSettings(BaseModel, frozen=True, extra="forbid"):
    """How a file is read and how its scores are written."""

    reader: ReaderSettings = ReaderSettings()
    text_column: str | None = Field(None, description="the column that holds the review; found by its name if not given")
    id_column: str | None = Field(None, description="the column that identifies a review in the summary; found by its name if not given")
    date_column: str | None = Field(None, description="the column that says when a review was written; found by its name if not given")
    format: ResultFormat = Field("parquet", description="format of the result")
    explain: int = Field(0, ge=0, description="words named for each row that moved its score most; 0 for none")


@dataclass(frozen=True)
class LookedAt:
    """A file as it was found.

    Args:
        shards: The file in stretches that are scored apart; together they are all of it.
        digest: SHA-256 of the file's bytes, taken while its `stamp` was this.
    """

    source: FileSource
    shards: tuple[FileSource, ...]
    digest: str
    stamp: str


@dataclass(frozen=True)
class ScoringPlan(LookedAt):
    """What is to be done with one file, for whichever process does a part of it.

    Args:
        output: Where the result shall stand.
        key: What the work is known by: input, model, settings, place of the result, code.
        code: Digest of the code and the libraries that score, the same on every machine that takes part.
    """

    model: PinnedModel
    settings: ScoreSettings
    output: Path
    key: str
    code: str

    def folder(self, store: Store) -> WorkFolder:
        """Return the folder of its chunks."""
        return WorkFolder(store.root / "score" / self.key)


@dataclass(frozen=True)
class ScoredFile:
    """What became of one input: rows read = scored + quarantined; paths of what was written; tallies of its rows."""

    source: str
    state: Literal["scored", "already scored"]
    rows: int
    scored: int
    quarantined: int
    output: str
    quarantine: str | None
    facts: Facts
    replaced: bool = False  # whether a result stood in its place, another one or a damaged one


def look_at(source: FileSource, settings: ScoreSettings) -> LookedAt:
    """Look at a file before anything of it is scored.

    Raises:
        CallerError: There is no such file.
        DataError: The file cannot be read, or is being written.
        MachineError: The disk or its permissions refuse.
    """
    stamp = source.stamp()
    shards = source.shards(settings.reader, ROWS_PER_SHARD)
    digest = source.digest()  # of a member of an archive its own
    if source.stamp() != stamp:
        raise _changed(source)
    return LookedAt(source, shards, digest, stamp)


def plan_file(looked_at: LookedAt, output: Path, model: PinnedModel, settings: ScoreSettings) -> ScoringPlan:
    """Say what is to be done with a file.

    Raises:
        CallerError: Something else stands where the result shall stand.
    """
    check_replaceable(output)
    source = looked_at.source
    inputs = {"source": looked_at.digest, "member": source.member or "", "model": model.bundle_sha256}
    place = {"name": source.name, "output": str(output)}
    recipe = Recipe.of("score", __name__, inputs, settings.model_dump(mode="json") | place, _libraries(settings))
    return ScoringPlan(**vars(looked_at), model=model, settings=settings, output=output, key=recipe.key, code=digest_of_code(settings))


def _libraries(settings: ScoreSettings) -> tuple[str, ...]:
    """Return the libraries that shape the output; the gradients behind explanations are TensorFlow's."""
    return (*LIBRARIES, "keras", "tensorflow") if settings.explain else LIBRARIES


def digest_of_code(settings: ScoreSettings) -> str:
    """Return a digest of the code and the libraries that score."""
    recipe = Recipe.of("score", __name__, {}, {}, _libraries(settings))
    return sha256_of_json([recipe.modules, recipe.libraries])


def find_scored(plan: ScoringPlan, store: Store) -> ScoredFile | None:
    """Return what an earlier run of the same plan came to, if its result still stands whole."""
    manifest = plan.folder(store).manifest()
    if manifest is None:
        return None
    files = [*manifest["files"], *([manifest["quarantine"]] if manifest["quarantine"] else [])]
    return _scored_file(plan, manifest, "already scored") if is_intact(plan.output.parent, files) else None


def score_shard(
    plan: ScoringPlan, shard: int, model: SentimentModel, store: Store, progress: Callable[[float], None] = lambda _: None
) -> int:
    """Score what is missing of a shard.

    Args:
        plan: The file's plan.
        shard: Which of its shards.
        model: The plan's model, opened by `load_bundle`.
        store: The artifacts folder that keeps the chunks.
        progress: Is told the share of the shard that is done.

    Returns:
        How many rows the shard has.

    Raises:
        DataError: The file cannot be read, it changed, or rows would be lost.
        CallerError: There is no text column, or several.
        MachineError: The disk refuses, or the model's bundle changed while it was used.
    """
    source, folder = plan.shards[shard], plan.folder(store)
    with store.lock(f"score-{plan.key[:16]}-{shard}", f"{source.name} with the same model and settings"):
        if found := find_scored(plan, store):
            return found.rows
        folder.clear_drafts(shard)
        there = folder.chunks(shard)
        total = source.stated_num_rows(plan.settings.reader)
        done = 0

        def count(rows: int) -> None:
            nonlocal done
            done += rows
            share = done / max(total, 1) if total is not None else source.share_read()
            count_rows(store.run_id, part_name(plan, shard), rows, share)
            progress(share or 0.0)

        if are_whole(there):
            count(sum(chunk.rows for chunk in there.values()))
            return done

        def apply(item: tuple[int, bool, Batch]) -> tuple[int, bool, Batch, ScoredBatch | None]:
            number, last, batch = item
            if store.run_id in _stopped:
                raise MachineError("The run was stopped. Finished chunks are kept; the same command goes on from there.")
            return number, last, batch, None if number in there else score_batch(batch, source.name, model, plan.settings)

        scored = map_in_order(apply, _numbered(source.read(plan.settings.reader)))
        for number, group in itertools.groupby(scored, key=lambda item: item[0]):
            if number in there:
                count(sum(_num_rows(batch) for _, _, batch, _ in group))
                continue
            with folder.open(shard, number) as draft:
                for _, last, batch, result in group:
                    draft.add(batch, *cast(ScoredBatch, result))
                    draft.last = last
                    count(_num_rows(batch))
                check_source(plan)
                model.check_unchanged()
    return done


def part_name(plan: ScoringPlan, shard: int) -> str:
    """Return the name of a shard among all of a run."""
    return f"{plan.source.name} {shard}"


def _num_rows(batch: Batch) -> int:
    return batch.columns.num_rows + len(batch.refused)


def _numbered(batches: Iterator[Batch]) -> Iterator[tuple[int, bool, Batch]]:
    """Yield each batch with the number of its chunk, and whether it is the last."""
    held = next(batches)
    for position in itertools.count():
        following = next(batches, None)
        yield position // BATCHES_PER_CHUNK, following is None, held
        if following is None:
            return
        held = following


def check_source(plan: ScoringPlan) -> None:
    """Check that nobody has written to the file since it was planned for, not even the same again: it may have been short meanwhile.

    Raises:
        DataError: Somebody has.
    """
    if plan.source.stamp() != plan.stamp:
        raise _changed(plan.source)


def _changed(source: FileSource) -> UnsettledError:
    return UnsettledError(f"{source.name} changed while it was read. Nothing of it was published; run again when nobody writes it.")


def publish_file(plan: ScoringPlan, store: Store) -> ScoredFile:
    """Write the result of a file whose shards are all scored, after every row is accounted for.

    Raises:
        DataError: The file changed, rows would be lost, or none of them could be read.
        MachineError: The disk refuses, or chunks are missing.
    """
    folder = plan.folder(store)
    with store.lock(f"publish-{sha256_of_json(str(plan.output))[:16]}", f"the result {plan.output}"):
        if found := find_scored(plan, store):
            return found
        chunks = [chunk for shard in range(len(plan.shards)) for chunk in folder.whole_shard(shard)]
        _check_accounts(plan, chunks)
        if plan.source.digest() != plan.digest:
            folder.clear()
            raise _changed(plan.source)
        rows, refused = sum(chunk.rows for chunk in chunks), [row for chunk in chunks for row in chunk.refused]
        groups = ((chunk.size, folder.read(chunk)) for chunk in chunks)
        replaced = plan.output.exists()
        draft = write_result(plan.output, plan.key[:16], plan.settings.format, groups, refused)
        try:
            if rows != draft.rows + len(refused):
                raise _lost(plan.source, rows, draft.rows, len(refused))
            manifest = {
                "source": plan.source.name,
                "source_sha256": plan.digest,
                "rows": rows,
                "scored": draft.rows,
                "quarantined": len(refused),
                "model_id": plan.model.model_id,
                "bundle_sha256": plan.model.bundle_sha256,
                "settings": plan.settings.model_dump(mode="json"),
                "files": [asdict(file) for file in draft.files],
                "quarantine": asdict(draft.quarantine) if draft.quarantine else None,
                "facts": merge_facts(chunk.facts for chunk in chunks),
            }
            draft.publish(as_json(manifest))
        finally:
            draft.discard()
        folder.finish(as_json(manifest))
    return replace(_scored_file(plan, manifest, "scored"), replaced=replaced)


def _check_accounts(plan: ScoringPlan, chunks: list[Chunk]) -> None:
    """Check that the chunks hold every row from the first to the last once."""
    expected = 1
    for chunk in chunks:
        if chunk.rows != chunk.scored + len(chunk.refused) or (chunk.rows and chunk.first_row != expected):
            raise _lost(plan.source, chunk.rows, chunk.scored, len(chunk.refused))
        expected += chunk.rows
    rows, scored = sum(chunk.rows for chunk in chunks), sum(chunk.scored for chunk in chunks)
    stated = plan.shards[-1].stretch
    if stated is not None and rows != stated[1]:
        raise _lost(plan.source, stated[1], scored, rows - scored)
    if rows and not scored:
        first = next(chunk.refused[0]["reason"] for chunk in chunks if chunk.refused)
        raise DataError(f"{plan.source.name}: none of its {rows:,} rows could be read; the first: {first}. Nothing was published.")


def _lost(source: FileSource, rows: int, scored: int, refused: int) -> DataError:
    return DataError(f"{source.name}: {rows:,} rows were read, {scored:,} scored and {refused:,} refused; nothing was published.")


def _scored_file(plan: ScoringPlan, manifest: dict[str, Any], state: Literal["scored", "already scored"]) -> ScoredFile:
    quarantine = str(quarantine_of(plan.output)) if manifest["quarantine"] else None
    counts = (manifest["rows"], manifest["scored"], manifest["quarantined"])
    return ScoredFile(plan.source.name, state, *counts, str(plan.output), quarantine, manifest["facts"])


class ScoredBatch(NamedTuple):
    """The rows of a batch as they were scored, and what was counted of them."""

    rows: pa.RecordBatch
    facts: Facts


def score_batch(batch: Batch, source: str, model: SentimentModel, settings: ScoreSettings) -> ScoredBatch:
    """Return the batch's own columns, then `ADDED_COLUMNS` and perhaps `EXPLANATION`; one of such a name is kept as `input_<name>`."""
    columns = batch.columns
    reviews = text_of(columns, find_text_column(columns.schema.names, settings.text_column))
    scores = model.score_reviews(reviews)
    without_score = np.isin(scores.status, ("empty", "unknown_words"))
    unscored = pa.array(without_score)
    probability = pa.array(scores.p_positive, pa.float32())
    added = {
        "p_positive": pc.if_else(unscored, None, probability),
        "predicted": pc.if_else(unscored, None, model.decision.classes(scores.p_positive)),
        "status": pa.array(scores.status, pa.string()),
        "model_id": pa.array([model.model_id] * columns.num_rows, pa.string()),
        "source": pa.array([source] * columns.num_rows, pa.string()),
        "source_row": batch.source_row,
    }
    if settings.explain:
        explanation = explain_reviews(model, reviews, settings.explain, without_score)
        added[EXPLANATION] = in_words(explanation) if settings.format == "csv" else explanation
    names = [*kept_names(columns.schema.names, added), *added]
    rows = pa.RecordBatch.from_arrays([*columns.columns, *added.values()], names=names)
    return ScoredBatch(rows, tally(batch, source, reviews, scores, added["predicted"], model, settings.id_column, settings.date_column))


def open_model(model: PinnedModel, store: Store) -> SentimentModel:
    """Return the pinned model, loaded once in a process.

    Raises:
        CallerError: Its bundle is gone.
        MachineError: Its bundle is damaged, or not the one that was pinned.
    """
    with _loading:
        opened = _load(models_folder(store) / model.model_id, model.bundle_sha256)
    opened.check_unchanged()
    return opened


@functools.lru_cache(maxsize=1)
def _load(folder: Path, bundle_sha256: str) -> SentimentModel:
    model = load_bundle(folder)
    if model.manifest_sha256 != bundle_sha256:
        raise MachineError(f"The bundle of model {folder.name} was changed since this run began. Nothing was published; run again.")
    model.seen  # noqa: B018  read now, while the bundle is known to be whole
    return model


def stop_run(store: Store) -> None:
    """Let the tasks of a broken-off run that are under way in this process end at their next batch."""
    _stopped.add(store.run_id)


@task(task_run_name="score {plan.source.name} {shard}")
@discreet
def score(plan: ScoringPlan, shard: int, store: Store) -> int:
    """Score one shard of a file; returns how many rows it has.

    Raises:
        MachineError: This worker has other code or other libraries than the one that planned the work.
    """
    if plan.code != digest_of_code(plan.settings):
        libraries = ", ".join(_libraries(plan.settings))
        raise MachineError(
            f"The worker {socket.gethostname()} has another version of this project or of {libraries} than the machine "
            "that started the run. Install the same requirements.lock and code on all of them."
        )
    name = plan.source.name + (f", shard {shard + 1} of {len(plan.shards)}" if len(plan.shards) > 1 else "")
    model = open_model(plan.model, store)
    progress = RunProgress("scoring-progress", name)
    return score_shard(plan, shard, model, store, lambda share: progress.update(100 * share))
