"""Plants near-duplicates of test reviews among the training rows, splits, and counts which were left out, and what that cost.

    python tests/benchmarks/near_duplicates.py [REVIEWS.csv[.gz]] [--planted N] [--rows N]

Without a file it generates N reviews. Prints one JSON line: planted and found, pairs below the threshold among those left out,
and CPU seconds of the split with and without near-duplicates.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from planted import THRESHOLD, plain_jaccard, plain_set, plant

from tasks.ingest import IngestSettings, ingest_artifact
from tasks.reviews.sample import SampleSettings
from tasks.reviews.sides import SplitSettings
from tasks.schemas import REVIEW, REVIEW_ID, SENTIMENT, SPLIT
from tasks.split import split_artifact
from tasks.store import ArtifactRef, Draft, Recipe, Store
from tasks.tables import TableWriter, read_columns

WITHOUT = SplitSettings(near_duplicates=None)
ROWS_PER_GROUP = 4096


def store_rows(table: pa.Table, store: Store) -> ArtifactRef:
    """Store rows as tokenized ones are."""

    def write(draft: Draft) -> None:
        with TableWriter(draft.open("tokenize/rows.parquet")) as writer:
            for start in range(0, table.num_rows, ROWS_PER_GROUP):
                writer.write(table.slice(start, ROWS_PER_GROUP))
        draft.rows = writer.rows

    return store.make(Recipe("tokenize", {"rows": str(table.num_rows)}, {}, {}, {}), write).ref


def declare(kept: pa.Table, num_planted: int) -> pa.Table:
    """Return the rows with their side declared and, as training rows, near-duplicates of the first long test rows."""
    tested = kept.filter(pc.equal(kept[SPLIT], "test"))
    draw = random.Random(0)
    originals = [row for row in tested.to_pylist() if len(plain_set(row[REVIEW])) >= 20][:num_planted]
    planted = [{**row, REVIEW_ID: f"planted-{row[REVIEW_ID]}", REVIEW: plant(row[REVIEW], draw), SPLIT: "train"} for row in originals]
    return pa.concat_tables([kept, pa.Table.from_pylist(planted, kept.schema)])


def main() -> None:
    """Plant, split, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", default="sample")
    parser.add_argument("--planted", type=int, default=500)
    parser.add_argument("--rows", type=int, default=50_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder))
        ingested = ingest_artifact([options.source], IngestSettings(sample=SampleSettings(rows=options.rows)), store).ref
        split = split_artifact(ingested, WITHOUT, store).ref
        rows = declare(read_columns(store.path(split), [REVIEW_ID, REVIEW, SENTIMENT, SPLIT]), options.planted)
        stored = store_rows(rows, store)
        seconds = []
        for settings in (WITHOUT, SplitSettings()):
            before = time.process_time()
            record = split_artifact(stored, settings, store).record
            seconds.append(round(time.process_time() - before, 2))
        left_out = read_columns(store.root / record.files[1].path, [REVIEW_ID, REVIEW, "repeats"]).to_pylist()
    text = dict(zip(rows[REVIEW_ID].to_pylist(), rows[REVIEW].to_pylist(), strict=True))
    found = {row[REVIEW_ID] for row in left_out}
    planted = [name for name in text if name.startswith("planted-")]
    result = {
        "source": Path(options.source).name,
        "rows": rows.num_rows,
        "planted": len(planted),
        "found": sum(name in found for name in planted),
        "left_out": len(left_out),
        "false": sum(plain_jaccard(row[REVIEW], text[row["repeats"]]) < THRESHOLD for row in left_out),
        "cpu_seconds": {"without": seconds[0], "with": seconds[1]},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
