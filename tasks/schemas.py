"""The columns that steps promise each other, and the names that an input's own columns keep beside them."""

from collections.abc import Collection, Sequence

REVIEW_ID, REVIEW, SENTIMENT, SOURCE, SOURCE_ROW = "review_id", "review", "sentiment", "source", "source_row"
TEXT, TOKENS, SPLIT, DUPLICATE_OF, TEXT_HASH = "text", "tokens", "split", "duplicate_of", "text_hash"

GOLDEN = "golden"  # the step that reads the golden test set, where there is one
GOLDEN_PREDICTIONS = "golden.parquet"  # among what evaluate writes
MEASURE = "measure"  # the step of models that nobody keeps
SAMPLE = "sample"  # the source that is generated here

INGESTED = (REVIEW_ID, REVIEW, SENTIMENT, SOURCE, SOURCE_ROW)
STEPS = ("ingest", "clean", "tokenize", "split", "unlabelled", "train", "evaluate", "promote", "report")
SPLITS = ("train", "validation", "test")
CLASS_NAMES = ("negative", "positive")


def kept_names(names: Sequence[str], reserved: Collection[str]) -> list[str]:
    """Return the names under which an input's columns are kept: a reserved one gets `input_` before it, again where that is taken.

    >>> kept_names(["id", "source", "input_source"], {"source"})
    ['id', 'input_input_source', 'input_source']
    """
    kept = []
    for name in names:
        free = name
        while free in reserved or (free != name and free in names):
            free = f"input_{free}"
        kept.append(free)
    return kept
