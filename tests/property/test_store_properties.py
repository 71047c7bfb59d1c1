import hashlib
import itertools
import json
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks.store import HashingFile, Recipe, Record, StoredFile
from tasks.tables import TableWriter, read_batches

QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

TOKENS = pa.list_(pa.dictionary(pa.int32(), pa.string()))
SCHEMA = pa.schema(
    {"review": pa.string(), "tokens": TOKENS, "sentiment": pa.int8(), "row": pa.int64(), "score": pa.float32(), "hash": pa.uint64()}
)
ROW = st.fixed_dictionaries(
    {
        "review": st.none() | st.text(max_size=30),
        "tokens": st.none() | st.lists(st.sampled_from(["not", "bad", "ß", ""]), max_size=5),
        "sentiment": st.none() | st.integers(0, 1),
        "row": st.integers(-(2**63), 2**63 - 1),
        "score": st.none() | st.floats(width=32, allow_nan=False),
        "hash": st.integers(0, 2**64 - 1),
    }
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)


def _batch(rows: list[dict[str, object]], start: int) -> pa.RecordBatch:
    """Return all rows from `start` on as a slice of a longer batch, with tokens encoded as the tokenize step does."""
    plain = pa.RecordBatch.from_pylist(rows, schema=SCHEMA.set(1, pa.field("tokens", pa.list_(pa.string()))))
    return plain.set_column(1, SCHEMA.field(1), plain["tokens"].cast(TOKENS)).slice(start)


@QUICK
@given(st.lists(st.tuples(st.lists(ROW, max_size=6), st.integers(0, 2)), min_size=1, max_size=4))
def test_rows_come_back_as_they_were_written(tmp_path: Path, parts: list[tuple[list[dict[str, object]], int]]) -> None:
    """Batches of any rows, nulls and slices among them, are the same after Parquet, and the digest is that of the file."""
    batches = [_batch(rows, start) for rows, start in parts]
    file = HashingFile(tmp_path / "rows.parquet")
    with TableWriter(file) as writer:  # type: ignore[arg-type]
        for batch in batches:
            writer.write(batch)
    file.close()
    content = (tmp_path / "rows.parquet").read_bytes()
    assert (file.sha256, file.size) == (hashlib.sha256(content).hexdigest(), len(content))
    back = list(read_batches(tmp_path / "rows.parquet"))
    assert [batch.to_pylist() for batch in back] == [batch.to_pylist() for batch in batches if batch.num_rows]
    assert all(batch.schema == SCHEMA for batch in back) and writer.rows == sum(batch.num_rows for batch in batches)


@QUICK
@given(st.lists(st.binary(max_size=500)))
@example([b"longer than a buffer " * 10_000, b"", b"."])
def test_a_digest_is_hashlibs(tmp_path: Path, pieces: list[bytes]) -> None:
    """However a file is written in pieces, digest and size are those of what stands on the disk."""
    file = HashingFile(tmp_path / "file")
    for piece in pieces:
        assert file.write(piece) == len(piece)
    file.close()
    whole = b"".join(pieces)
    assert (tmp_path / "file").read_bytes() == whole
    assert (file.sha256, file.size, file.tell()) == (hashlib.sha256(whole).hexdigest(), len(whole), len(whole))


RECIPES = st.builds(
    Recipe, st.sampled_from(["clean", "train"]), NAMES, st.dictionaries(st.text(max_size=5), JSON, max_size=3), NAMES, NAMES
)


@QUICK
@given(RECIPES, st.dictionaries(st.text(max_size=5), JSON, max_size=3), st.integers(0, 2**40))
def test_a_record_reads_as_it_was_written(recipe: Recipe, facts: dict[str, object], rows: int) -> None:
    """Whatever settings and facts JSON can hold, in any script, come back, under the same key."""
    record = Record(recipe, (StoredFile("clean/a.parquet", "0" * 64, rows),), rows, facts, 0.125, "2026-01-01T00:00:00+00:00")
    read = Record.from_json(record.to_json())
    assert read == record and read.recipe.key == recipe.key


@QUICK
@given(st.lists(RECIPES, min_size=2, max_size=6))
def test_recipes_share_a_key_only_if_they_are_equal(recipes: list[Recipe]) -> None:
    """Artifacts of different recipes never stand in for each other."""
    assert all(one == other for one, other in itertools.combinations(recipes, 2) if one.key == other.key)
    assert all(Recipe(**json.loads(json.dumps(asdict(recipe)))).key == recipe.key for recipe in recipes)
