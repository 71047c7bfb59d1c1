"""clean: adds `text`, the review without tags, symbols and case; same rows, same order."""

import pyarrow as pa
from prefect import task

from tasks.discreet import discreet
from tasks.outcome import prefect_state
from tasks.reviews.text import CleanSettings, clean_reviews
from tasks.schemas import REVIEW, TEXT
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store
from tasks.tables import TableWriter, map_in_order, read_batches


def clean_recipe(ingested: ArtifactRef, settings: CleanSettings) -> Recipe:
    """Describe what cleaning would make."""
    return Recipe.of("clean", __name__, {"ingest": ingested.sha256}, settings, ("pyarrow",))


def clean_artifact(ingested: ArtifactRef, settings: CleanSettings, store: Store) -> StepResult:
    """Write the ingested rows with their `text`, a row group at a time."""
    recipe = clean_recipe(ingested, settings)

    def add_text(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.append_column(TEXT, clean_reviews(batch[REVIEW], settings))

    def write(draft: Draft) -> None:
        with TableWriter(draft.open(f"clean/{recipe.key}.parquet")) as writer:
            for batch in map_in_order(add_text, read_batches(store.path(ingested))):
                writer.write(batch)
        draft.rows = writer.rows

    return store.make(recipe, write)


@task(task_run_name="clean")
@discreet
def clean(ingested: ArtifactRef, settings: CleanSettings, store: Store) -> ArtifactRef:
    """Clean the reviews."""
    return prefect_state(clean_artifact(ingested, settings, store))
