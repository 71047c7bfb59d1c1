"""unlabelled: reads reviews without labels for self-training; leaves out what repeats a labelled review."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from prefect import task
from pydantic import BaseModel, Field

from tasks.discreet import discreet
from tasks.errors import DataError
from tasks.outcome import log_step, prefect_state
from tasks.reviews.batches import Batch
from tasks.reviews.columns import find_text_column, text_of
from tasks.reviews.near_duplicates import NO_ROW, HeldOutReviews, NearDuplicateSettings
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.sample import SampleSettings
from tasks.reviews.sources import ImdbSource, Source, resolve_sources
from tasks.reviews.text import CleanSettings, TokenizeSettings, normalise_text, text_hashes, tokens_of
from tasks.schemas import GOLDEN, REVIEW, SOURCE, SOURCE_ROW, SPLIT, TEXT_HASH, TOKENS
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store
from tasks.tables import TableWriter, map_in_order, read_batches, read_columns

KEPT, EMPTY, HELD_OUT, LABELLED, REPEATED = "kept", "empty", "repeats a held-out review", "repeats a training review", "repeats another"


class UnlabelledSettings(BaseModel, frozen=True, extra="forbid"):
    """How reviews without labels are read; the same rules as for the labelled ones."""

    reader: ReaderSettings = ReaderSettings()
    text_column: str | None = Field(None, description="the column that holds the review; found by its name if not given")
    clean: CleanSettings = CleanSettings()
    tokenize: TokenizeSettings = TokenizeSettings()
    near_duplicates: NearDuplicateSettings | None = NearDuplicateSettings()
    sample: SampleSettings = SampleSettings()


def unlabelled_recipe(
    sources: Sequence[Source], rows: ArtifactRef, settings: UnlabelledSettings, golden: ArtifactRef | None = None
) -> Recipe:
    """Describe what reading the unlabelled reviews would make."""
    inputs = {f"{position}:{source.name}": source.digest() for position, source in enumerate(sources)}
    inputs |= {GOLDEN: golden.sha256} if golden else {}
    plain = settings.model_dump(mode="json", exclude={"sample"})
    return Recipe.of("unlabelled", __name__, {"split": rows.sha256, **inputs}, plain, ("pyarrow", "numpy"))


def unlabelled_artifact(
    names: Sequence[str], rows: ArtifactRef, settings: UnlabelledSettings, store: Store, golden: ArtifactRef | None = None
) -> StepResult:
    """Write `tokens` and `text_hash` of every unlabelled review that repeats no labelled one.

    Args:
        names: Files, folders, globs; `imdb` is the archive's own unlabelled reviews. Labels that stand beside the texts are not looked at.
        rows: The split artifact, whose test and validation reviews must not be learnt from.
        settings: Reading, cleaning, tokenizing.
        store: Where it is kept.
        golden: The golden test set, which must not be learnt from either.

    Raises:
        CallerError: A source or its text column cannot be found.
        DataError: A source changed while it was read, or no review is left.
    """
    sources = resolve_sources(names, store.root / "downloads", settings.sample, settings.reader)
    recipe = unlabelled_recipe(sources, rows, settings, golden)

    def write(draft: Draft) -> None:
        screen = _Screen(store, rows, settings, golden)
        counts: Counter[str] = Counter()
        with TableWriter(draft.open(f"unlabelled/{recipe.key}.parquet")) as writer:
            for source in sources:
                log_step("unlabelled", f"{source.name}: {source.describe(settings.reader, settings.text_column)}")
                for batch, fates in map_in_order(partial(screen.prepare, source=source.name), _read(source, settings)):
                    fates = screen.without_repeats(batch[TEXT_HASH].to_numpy(), fates)
                    counts.update(fates.tolist())
                    writer.write(batch.filter(pa.array(fates == KEPT)))
        if unlabelled_recipe(sources, rows, settings, golden) != recipe:
            raise DataError("A source of unlabelled reviews changed while it was read. Nothing was kept; run again when nobody writes it.")
        if not writer.rows:
            raise DataError(f"No unlabelled review is left to learn from: {_told(counts)}. Give other files, or none.")
        draft.rows = writer.rows
        draft.facts.update(counts=dict(counts), sources=[source.name for source in sources], given=list(names))

    result = store.make(recipe, write)
    log_step("unlabelled", _told(Counter(result.record.facts["counts"])))
    return result


def _read(source: Source, settings: UnlabelledSettings) -> Iterator[Batch]:
    return source.read_unlabelled() if isinstance(source, ImdbSource) else source.read(settings.reader)


def _told(counts: Counter[str]) -> str:
    return f"{counts[KEPT]:,} of {counts.total():,} reviews kept" + "".join(
        f", {counts[fate]:,} {'are empty' if fate == EMPTY else fate}" for fate in (EMPTY, HELD_OUT, LABELLED, REPEATED) if counts[fate]
    )


class _Screen:
    """Prepares batches and says of each review whether it may be learnt from."""

    def __init__(self, store: Store, rows: ArtifactRef, settings: UnlabelledSettings, golden: ArtifactRef | None) -> None:
        path = store.path(rows)
        held_out = (batch.filter(pc.not_equal(batch[SPLIT], "train"))[REVIEW] for batch in read_batches(path, [REVIEW, SPLIT]))
        apart = (batch[REVIEW] for batch in read_batches(store.path(golden), [REVIEW])) if golden else ()
        self._held_out = HeldOutReviews.of(itertools.chain(held_out, apart), settings.near_duplicates)
        self._labelled = read_columns(path, [TEXT_HASH])[TEXT_HASH].to_numpy()
        self._settings = settings
        self._met: set[int] = set()

    def prepare(self, batch: Batch, source: str) -> tuple[pa.RecordBatch, np.ndarray]:
        """Return source, row, hash and tokens of a batch, and the fate of each review, as far as it does not hang on other batches."""
        reviews = text_of(batch.columns, find_text_column(batch.columns.schema.names, self._settings.text_column))
        tokens = tokens_of(reviews, self._settings.clean, self._settings.tokenize)
        text = normalise_text(reviews)
        hashes = text_hashes(reviews, text)
        fates = np.full(len(reviews), KEPT, dtype=object)
        fates[np.isin(hashes, self._labelled)] = LABELLED
        fates[self._held_out.repeated_by(reviews, text) != NO_ROW] = HELD_OUT
        fates[pc.list_value_length(tokens).to_numpy() == 0] = EMPTY
        columns: dict[str, Any] = {
            SOURCE: pa.array([source] * len(reviews), pa.string()),
            SOURCE_ROW: batch.source_row,
            TEXT_HASH: hashes,
            TOKENS: pa.ListArray.from_arrays(tokens.offsets, tokens.values.dictionary_encode()),
        }
        return pa.record_batch(columns), fates

    def without_repeats(self, hashes: np.ndarray, fates: np.ndarray) -> np.ndarray:
        """Return the fates, those marked whose text was kept before."""
        fates = fates.copy()
        for index in np.flatnonzero(fates == KEPT).tolist():
            known = int(hashes[index])
            if known in self._met:
                fates[index] = REPEATED
            self._met.add(known)
        return fates


@task(task_run_name="unlabelled")
@discreet
def unlabelled(
    names: list[str], rows: ArtifactRef, settings: UnlabelledSettings, store: Store, golden: ArtifactRef | None = None
) -> ArtifactRef:
    """Read reviews without labels."""
    return prefect_state(unlabelled_artifact(names, rows, settings, store, golden))
