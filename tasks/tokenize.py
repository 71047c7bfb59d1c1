"""tokenize: adds `tokens`, the text as a list of words; same rows, same order; learns nothing."""

import numpy as np
import pyarrow as pa
from prefect import task

from tasks.discreet import discreet
from tasks.outcome import prefect_state
from tasks.reviews.text import TokenizeSettings, tokenize_reviews
from tasks.schemas import TEXT, TOKENS
from tasks.store import ArtifactRef, Draft, Recipe, StepResult, Store
from tasks.tables import TableWriter, map_in_order, read_batches

_QUANTILES = {"shortest": 0.0, "median": 0.5, "p90": 0.9, "p99": 0.99, "longest": 1.0}


def tokenize_recipe(cleaned: ArtifactRef, settings: TokenizeSettings) -> Recipe:
    """Describe what tokenizing would make."""
    return Recipe.of("tokenize", __name__, {"clean": cleaned.sha256}, settings, ("numpy", "pyarrow"))


def tokenize_artifact(cleaned: ArtifactRef, settings: TokenizeSettings, store: Store) -> StepResult:
    """Write the cleaned rows with their `tokens`, dictionary-encoded per row group."""
    recipe = tokenize_recipe(cleaned, settings)

    def add_tokens(batch: pa.RecordBatch) -> tuple[pa.RecordBatch, np.ndarray]:
        tokens = tokenize_reviews(batch[TEXT], settings)
        encoded = pa.ListArray.from_arrays(tokens.offsets, tokens.values.dictionary_encode())
        return batch.append_column(TOKENS, encoded), np.diff(tokens.offsets.to_numpy())

    def write(draft: Draft) -> None:
        lengths = []
        with TableWriter(draft.open(f"tokenize/{recipe.key}.parquet")) as writer:
            for batch, batch_lengths in map_in_order(add_tokens, read_batches(store.path(cleaned))):
                writer.write(batch)
                lengths.append(batch_lengths)
        draft.rows = writer.rows
        num_tokens = np.concatenate(lengths)
        draft.facts["num_tokens"] = int(num_tokens.sum())
        draft.facts["length_quantiles"] = {name: int(np.quantile(num_tokens, share, method="lower")) for name, share in _QUANTILES.items()}

    return store.make(recipe, write)


@task(task_run_name="tokenize")
@discreet
def tokenize(cleaned: ArtifactRef, settings: TokenizeSettings, store: Store) -> ArtifactRef:
    """Tokenize the cleaned text."""
    return prefect_state(tokenize_artifact(cleaned, settings, store))
