"""ingest: reads every source into one Parquet of labelled reviews; what it refuses stands in `<key>.quarantine.parquet`."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from pydantic import BaseModel, Field

from tasks.discreet import discreet
from tasks.errors import CallerError, DataError
from tasks.outcome import log_step, prefect_state
from tasks.reviews.batches import Batch, RefusedRow
from tasks.reviews.columns import find_id_column, find_label_column, find_text_column, plain_values, show_name, text_of
from tasks.reviews.labels import LabelSettings, Scale, detect_scale, holds_numbers, map_labels, show_label
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.sample import SampleSettings
from tasks.reviews.sources import Source, resolve_sources
from tasks.reviews.window import Dated, WindowSettings, sort_by_window
from tasks.schemas import (
    DUPLICATE_OF,
    GOLDEN,
    INGESTED,
    REVIEW,
    REVIEW_ID,
    SAMPLE,
    SENTIMENT,
    SOURCE,
    SOURCE_ROW,
    TEXT,
    TEXT_HASH,
    TOKENS,
    kept_names,
)
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store
from tasks.tables import TableWriter

_RESERVED = {*INGESTED, TEXT, TOKENS, DUPLICATE_OF, TEXT_HASH}
_QUARANTINE = pa.schema([(SOURCE, pa.string()), ("row", pa.int64()), ("line", pa.int64()), ("reason", pa.string())])
_REASONS_SHOWN = 5
_DISTINCT_LABELS = 1000
_MOST_NAMED = 100


class IngestSettings(BaseModel, frozen=True, extra="forbid"):
    """How sources are read and labels understood."""

    reader: ReaderSettings = ReaderSettings()
    text_column: str | None = Field(None, description="the column that holds the review; found by its name if not given")
    id_column: str | None = Field(None, description="the column that identifies a review; found by its name if not given")
    label_column: str | None = Field(None, description="the column that holds the sentiment; found by its name if not given")
    labels: LabelSettings = LabelSettings()
    window: WindowSettings = WindowSettings()
    max_refused_share: float = Field(0.05, ge=0, le=1, description="share of refused rows above which the run stops")
    sample: SampleSettings = SampleSettings()


def ingest_recipe(sources: Sequence[Source], settings: IngestSettings) -> Recipe:
    """Describe what ingesting would make."""
    return _recipe("ingest", sources, settings)


def golden_recipe(sources: Sequence[Source], settings: IngestSettings) -> Recipe:
    """Describe what reading the golden test set would make."""
    return _recipe(GOLDEN, sources, _for_golden(settings))


def _recipe(step: str, sources: Sequence[Source], settings: IngestSettings) -> Recipe:
    inputs = {f"{position}:{source.name}": source.digest() for position, source in enumerate(sources)}
    plain = settings.model_dump(mode="json", exclude={"sample"})  # the sample's settings count as its digest
    return Recipe.of(step, __name__, inputs, plain, ("pyarrow", "numpy"))


def _for_golden(settings: IngestSettings) -> IngestSettings:
    """Return the settings that the golden test set is read by: all of it, whenever written, and not a row refused."""
    return settings.model_copy(update={"window": WindowSettings(), "max_refused_share": 0.0})


def ingest_artifact(names: Sequence[str], settings: IngestSettings, store: Store) -> StepResult:
    """Write every accepted row of the named sources, and every refused one to quarantine.

    Raises:
        CallerError: A source or a column cannot be found.
        DataError: More rows are refused than `max_refused_share` allows, or none is left.
    """
    sources = resolve_sources(names, store.root / "downloads", settings.sample, settings.reader)
    result = _read_into_store(lambda: ingest_recipe(sources, settings), names, sources, settings, store)
    facts, quarantine = result.record.facts, result.record.files[1].path
    if facts["rows_refused"]:
        log_step("ingest", f"{facts['rows_refused']:,} of {facts['rows_read']:,} rows refused, with place and reason in {quarantine}")
    return result


def golden_artifact(name: str, settings: IngestSettings, store: Store) -> StepResult:
    """Write the rows of the golden test set, a labelled set that no model is ever trained on.

    Raises:
        CallerError: It cannot be found, or one of its columns.
        DataError: A row of it has to be refused: a set that is to be compared with for years has to be whole.
    """
    sources = resolve_sources([name], store.root / "downloads", settings.sample, settings.reader)
    return _read_into_store(lambda: golden_recipe(sources, settings), [name], sources, _for_golden(settings), store)


def _read_into_store(
    describe: Callable[[], Recipe],
    names: Sequence[str],
    sources: Sequence[Source],
    settings: IngestSettings,
    store: Store,
) -> StepResult:
    recipe = describe()

    def write(draft: Draft) -> None:
        tally = _Tally()
        with (
            TableWriter(draft.open(f"{recipe.step}/{recipe.key}.parquet")) as accepted,
            TableWriter(draft.open(f"{recipe.step}/{recipe.key}.quarantine.parquet"), _QUARANTINE) as quarantine,
        ):
            schema = _common_schema(sources, settings)
            for batch, refused in _read_labelled(sources, settings, tally):
                accepted.write(_conform(batch, schema))
                quarantine.write(_quarantine_batch(refused))
        if describe() != recipe:
            raise DataError("A source changed while it was read. Nothing was kept; run again when nobody writes it.")
        tally.check(settings)
        draft.rows = accepted.rows
        draft.facts.update(tally.facts(), sources=[source.name for source in sources], sample=names_sample(sources))
        draft.facts.update(given=list(names), sample_settings=settings.sample.model_dump(mode="json"))

    return store.make(recipe, write)


def names_sample(sources: Sequence[Source]) -> bool:
    """Return whether any of the reviews are generated ones."""
    return any(source.name == SAMPLE for source in sources)


class _Tally:
    """Counts what was read, refused (by reason) and knowingly dropped."""

    def __init__(self) -> None:
        self.accepted = 0
        self.dropped = 0
        self.outside = 0
        self.days: list[np.datetime64] = []
        self.positive = 0
        self.reasons: Counter[str] = Counter()
        self.by_source: Counter[str] = Counter()
        self.first: dict[str, RefusedRow] = {}

    @property
    def refused(self) -> int:
        return sum(self.reasons.values())

    def refuse(self, rows: Sequence[RefusedRow]) -> None:
        for row in rows:
            self.reasons[row.reason] += 1
            self.first.setdefault(row.reason, row)

    def accept(self, batch: pa.RecordBatch, dropped: int) -> None:
        self.accepted += batch.num_rows
        self.dropped += dropped
        self.positive += pc.sum(batch[SENTIMENT]).as_py() or 0
        self.by_source.update({source["values"]: source["counts"] for source in pc.value_counts(batch[SOURCE]).to_pylist()})

    def leave_outside(self, dated: Dated) -> None:
        outside = dated.day[~dated.inside & ~np.isnat(dated.day)]
        self.outside += outside.size
        if outside.size:
            self.days += [outside.min(), outside.max()]

    def check(self, settings: IngestSettings) -> None:
        limit = settings.max_refused_share
        read = self.accepted + self.refused
        if self.refused > limit * read:
            shown = "".join(f"\n  {count:,} × {self._place(reason)}" for reason, count in self.reasons.most_common(_REASONS_SHOWN))
            raise DataError(
                f"{self.refused:,} of {read:,} rows were refused, more than {limit:.0%}:{shown}\n"
                "Correct the file, map labels with --label WORD=positive|negative|drop, or allow more with "
                "--set ingest.max_refused_share=0.2."
            )
        if not self.accepted and self.outside:
            raise DataError(
                f"No labelled reviews lie in the window {settings.window.describe()}: the {self.outside:,} rows outside are dated "
                f"{min(self.days)} to {max(self.days)}. Widen it with --since, --until or --last, or name another --date-column."
            )
        if not self.accepted:
            raise DataError("No labelled reviews were found. Expected rows with a text and a sentiment.")

    def _place(self, reason: str) -> str:
        row = self.first[reason]
        line = f", line {row.line}" if row.line else ""
        return f"{reason} (first in {row.source}, row {row.row}{line})"

    def facts(self) -> dict[str, Any]:
        return {
            "rows_read": self.accepted + self.refused + self.dropped + self.outside,
            "rows_refused": self.refused,
            "rows_dropped": self.dropped,
            "rows_outside_window": self.outside,
            "refused_by_reason": dict(self.reasons.most_common(_MOST_NAMED)),
            "rows_by_source": dict(self.by_source.most_common(_MOST_NAMED)),
            "positive": self.positive,
            "negative": self.accepted - self.positive,
        }


def _read_labelled(sources: Sequence[Source], settings: IngestSettings, tally: _Tally) -> Iterator[tuple[pa.RecordBatch, list[RefusedRow]]]:
    for source in sources:
        log_step("ingest", f"{source.name}: {source.describe(settings.reader, settings.text_column)}")
        scale = _settle_scale(source, settings)
        seen: set[Any] = set()
        for batch in source.read(settings.reader):
            seen.update(_distinct_labels(batch, settings))
            yield _label_batch(_in_window(batch, source.name, settings, tally), source.name, scale, settings, tally)
        with _naming(source.name):
            changed = detect_scale(seen, settings.labels) != scale
        if changed:
            raise DataError(
                f"{source.name} labels its first rows by words and later ones by stars. Map them with --label, or split the file."
            )


def _settle_scale(source: Source, settings: IngestSettings) -> Scale:
    """Decide what a source's label numbers mean; words in the first rows save reading all of it twice."""
    seen: set[Any] = set()
    for batch in source.read(settings.reader):
        seen.update(_distinct_labels(batch, settings))
        if not holds_numbers(seen) or len(seen) > _DISTINCT_LABELS:
            break
    with _naming(source.name):
        return detect_scale(seen, settings.labels)


@contextmanager
def _naming(source: str) -> Iterator[None]:
    """Say which of several sources it is whose columns or labels need an option."""
    try:
        yield
    except (CallerError, DataError) as error:
        raise type(error)(f"{source}: {error}") from error


def _distinct_labels(batch: Batch, settings: IngestSettings) -> list[Any]:
    column = find_label_column(batch.columns.schema.names, settings.label_column)
    distinct: list[Any] = pc.unique(plain_values(batch.columns, column)).to_pylist()
    return distinct[:_DISTINCT_LABELS]


def _in_window(batch: Batch, source: str, settings: IngestSettings, tally: _Tally) -> Batch:
    """Return the rows of a batch that lie in the window; those that name no day are refused, those outside only counted."""
    if settings.window.is_open:
        return batch
    with _naming(source):
        dated = sort_by_window(batch.columns, settings.window)
    tally.leave_outside(dated)
    reason = f"no day that can be read in column {show_name(dated.column)!r}"
    undated = [RefusedRow(source, row, None, reason) for row in batch.source_row.filter(pa.array(np.isnat(dated.day))).to_pylist()]
    inside = pa.array(dated.inside)
    return Batch(batch.columns.filter(inside), batch.source_row.filter(inside), (*batch.refused, *undated))


def _label_batch(
    batch: Batch, source: str, scale: Scale, settings: IngestSettings, tally: _Tally
) -> tuple[pa.RecordBatch, list[RefusedRow]]:
    columns = batch.columns
    names = columns.schema.names
    with _naming(source):
        text_column = find_text_column(names, settings.text_column)
        label_column = find_label_column(names, settings.label_column)
        id_column = find_id_column(names, settings.id_column)
        reviews = text_of(columns, text_column)
    mapped = map_labels(plain_values(columns, label_column), settings.labels, scale)

    dropped = mapped.dropped.to_numpy(zero_copy_only=False)
    unknown = mapped.labels.is_null().to_numpy(zero_copy_only=False)
    blank = pc.equal(pc.utf8_trim_whitespace(pc.fill_null(reviews, "")), "").to_numpy(zero_copy_only=False)
    bad = (blank | unknown) & ~dropped
    rows = batch.source_row
    refused = list(batch.refused)
    for index in map(int, np.flatnonzero(bad)):
        reason = "empty text" if blank[index] else f"unknown sentiment {show_label(columns[label_column][index].as_py())}"
        refused.append(RefusedRow(source, rows[index].as_py(), None, reason))

    ids = pc.binary_join_element_wise(pa.scalar(source), rows.cast(pa.string()), "#")
    if id_column:
        given = text_of(columns, id_column)
        ids = pc.coalesce(pc.if_else(pc.equal(given, ""), None, given), ids)
    own = {
        REVIEW_ID: ids,
        REVIEW: reviews,
        SENTIMENT: mapped.labels,
        SOURCE: pa.array([source] * columns.num_rows, pa.string()),
        SOURCE_ROW: rows,
    }
    rest = [name for name in names if name not in (text_column, label_column, id_column)]
    other = dict(zip(kept_names(rest, _RESERVED), columns.select(rest).columns, strict=True))
    accepted = pa.RecordBatch.from_arrays([*own.values(), *other.values()], names=[*own, *other]).filter(pa.array(~bad & ~dropped))
    tally.accept(accepted, int(dropped.sum()))
    tally.refuse(refused)
    return accepted, refused


def _common_schema(sources: Sequence[Source], settings: IngestSettings) -> pa.Schema:
    """Return the union of the sources' columns; a column whose types differ becomes a string."""
    fields: dict[str, pa.DataType] = {}
    for source in sources:
        first = next(iter(source.read(settings.reader)), None)
        if first is not None:
            for field in _label_batch(first, source.name, "binary", settings, _Tally())[0].schema:
                fields[field.name] = field.type if fields.get(field.name, field.type) == field.type else pa.string()
    return pa.schema(list(fields.items()))


def _conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    def column(field: pa.Field) -> pa.Array:
        if field.name not in batch.schema.names:
            return pa.nulls(batch.num_rows, field.type)
        same = batch.schema.field(field.name).type == field.type
        return batch[field.name] if same else text_of(batch, field.name)

    return pa.RecordBatch.from_arrays([column(field) for field in schema], schema=schema)


def _quarantine_batch(refused: Sequence[RefusedRow]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [{SOURCE: row.source, "row": row.row, "line": row.line, "reason": row.reason} for row in refused],
        schema=_QUARANTINE,
    )


@task(task_run_name="golden")
@discreet
def read_golden(name: str, settings: IngestSettings, store: Store) -> ArtifactRef:
    """Read the golden test set."""
    return prefect_state(golden_artifact(name, settings, store))


@task(task_run_name="ingest")
@discreet
def ingest(names: list[str], settings: IngestSettings, store: Store) -> ArtifactRef:
    """Read the sources."""
    return prefect_state(ingest_artifact(names, settings, store))
