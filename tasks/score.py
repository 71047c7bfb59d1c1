"""score: applies a model to the rows of one file; every column is kept, in order, and the result appears whole or not at all."""

import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from pydantic import BaseModel, Field

from tasks.errors import DataError
from tasks.model.bundle import SentimentModel, load_bundle
from tasks.model.registry import models_folder
from tasks.outcome import log_step, run_logger
from tasks.progress import row_progress
from tasks.reviews.batches import Batch
from tasks.reviews.columns import find_text_column, text_of
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.sources import FileSource
from tasks.schemas import kept_names
from tasks.store import Store, atomic_file
from tasks.tables import CsvWriter, TableWriter, map_in_order

ADDED_COLUMNS = ("p_positive", "predicted", "status", "model_id", "source", "source_row")


class ScoreSettings(BaseModel, frozen=True, extra="forbid"):
    """How a file is read and how its scores are written."""

    reader: ReaderSettings = ReaderSettings()
    text_column: str | None = Field(None, description="the column that holds the review; found by its name if not given")
    format: Literal["parquet", "csv"] = Field("parquet", description="format of the result")


@dataclass(frozen=True)
class ScoredFile:
    """What became of one input: rows read = scored + quarantined; paths of what was written."""

    source: str
    rows: int
    scored: int
    quarantined: int
    output: str
    quarantine: str | None


def score_file(source: FileSource, output: Path, model: SentimentModel, settings: ScoreSettings) -> ScoredFile:
    """Score every row of a file.

    Args:
        source: The file.
        output: Where the result shall stand when it is complete; `<output>.quarantine.jsonl` stands beside it if rows were refused.
        model: A bundle opened by `load_bundle`.
        settings: Reading and writing.

    Raises:
        DataError: The file cannot be read, or rows would be lost.
        CallerError: There is no text column, or several.
        MachineError: The disk refuses, or the model's bundle changed while it was used.
    """
    refused: list[dict[str, Any]] = []
    rows = 0
    quarantine = output.with_name(f"{output.name}.quarantine.jsonl")

    def apply(batch: Batch) -> tuple[Batch, pa.RecordBatch]:
        return batch, score_batch(batch, source.name, model, settings)

    with atomic_file(output) as file, _open_writer(file, settings) as writer, row_progress(f"score {source.name}") as advance:
        for batch, result in map_in_order(apply, source.read(settings.reader)):
            writer.write(result)
            refused.extend(asdict(row) for row in batch.refused)
            rows += batch.columns.num_rows + len(batch.refused)
            advance(batch.columns.num_rows)
        if rows != writer.rows + len(refused):
            raise DataError(
                f"{source.name}: {rows} rows were read, {writer.rows} written and {len(refused)} refused; nothing was published."
            )
        if refused and not writer.rows:
            raise DataError(
                f"{source.name}: none of its {rows:,} rows could be read; the first: {refused[0]['reason']}. Nothing was published."
            )
        model.check_unchanged()
        _write_quarantine(quarantine, refused)
    return ScoredFile(source.name, rows, writer.rows, len(refused), str(output), str(quarantine) if refused else None)


def _open_writer(file: BinaryIO, settings: ScoreSettings) -> AbstractContextManager[TableWriter | CsvWriter]:
    return TableWriter(file) if settings.format == "parquet" else nullcontext(CsvWriter(file))


def _write_quarantine(place: Path, refused: list[dict[str, Any]]) -> None:
    """Write the refused rows, or remove what an earlier run of the same file left there; the result itself appears after this."""
    if not refused:
        place.unlink(missing_ok=True)
        return
    with atomic_file(place) as file:
        file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in refused).encode())


def score_batch(batch: Batch, source: str, model: SentimentModel, settings: ScoreSettings) -> pa.RecordBatch:
    """Return the batch's own columns, then `ADDED_COLUMNS`; a column of such a name is kept as `input_<name>`."""
    columns = batch.columns
    text_column = find_text_column(columns.schema.names, settings.text_column)
    scores = model.score_reviews(text_of(columns, text_column))
    unscored = pa.array(np.isin(scores.status, ("empty", "unknown_words")))
    probability = pa.array(scores.p_positive, pa.float32())
    added = {
        "p_positive": pc.if_else(unscored, None, probability),
        "predicted": pc.if_else(unscored, None, model.decision.classes(scores.p_positive)),
        "status": pa.array(scores.status, pa.string()),
        "model_id": pa.array([model.model_id] * columns.num_rows, pa.string()),
        "source": pa.array([source] * columns.num_rows, pa.string()),
        "source_row": batch.source_row,
    }
    names = [*kept_names(columns.schema.names, added), *added]
    return pa.RecordBatch.from_arrays([*columns.columns, *added.values()], names=names)


@task(task_run_name="score {source.name}")
def score(source: FileSource, output: Path, model_id: str, settings: ScoreSettings, store: Store) -> ScoredFile:
    """Score one file with one model."""
    model = load_bundle(models_folder(store) / model_id)
    if model.settings.trained_on["sample"]:
        run_logger().warning("Model %s was trained on the generated sample: its scores of %s mean nothing.", model_id, source.name)
    log_step("score", f"{source.name}: {source.describe(settings.reader, settings.text_column)}")
    result = score_file(source, output, model, settings)
    log_step("score", f"{source.name}: {result.scored:,} of {result.rows:,} rows scored, {result.quarantined:,} quarantined")
    return result
