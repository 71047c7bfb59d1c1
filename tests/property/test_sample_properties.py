import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.reviews.sample import SampleSettings, generate_reviews


def generate(rows: int, seed: int, duplicate_share: float) -> pa.Table:
    """Return the sample as one table."""
    sample = SampleSettings(rows=rows, seed=seed, duplicate_share=duplicate_share)
    return pa.Table.from_batches(batch.columns for batch in generate_reviews(sample))


@settings(max_examples=10, deadline=None)
@given(few=st.integers(1, 4200), more=st.integers(1, 5000), seed=st.integers(0, 2**32 - 1), share=st.floats(0, 0.5))
def test_fewer_rows_are_a_prefix_of_more(few: int, more: int, seed: int, share: float) -> None:
    """A row depends on the seed and its place alone, whatever the number of rows."""
    assert generate(few, seed, share) == generate(few + more, seed, share).slice(0, few)


@settings(max_examples=10, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**32 - 1), min_size=2, max_size=2, unique=True))
def test_another_seed_writes_other_reviews(seeds: list[int]) -> None:
    """Two seeds share next to no review."""
    first, second = (set(generate(1000, seed, 0)["review"].to_pylist()) for seed in seeds)
    assert len(first & second) < 30
