from itertools import chain

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.model.vocabulary import TokenIds

rows_of_ids = st.lists(st.lists(st.integers(0, 99), max_size=6), min_size=1, max_size=12)


def token_ids(rows: list[list[int]]) -> TokenIds:
    """Write rows of ids one after the other."""
    return TokenIds(np.array(list(chain(*rows)), np.int32), np.cumsum([0, *map(len, rows)], dtype=np.int64))


@given(rows_of_ids, st.data())
def test_take_is_list_indexing(rows: list[list[int]], data: st.DataObject) -> None:
    """Any choice of rows, repeated or reordered, holds just those rows' ids."""
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10))
    taken = token_ids(rows).take(np.array(chosen, np.int64))
    expected = token_ids([rows[row] for row in chosen])
    assert taken.values.tolist() == expected.values.tolist()
    assert taken.offsets.tolist() == expected.offsets.tolist()


@given(st.lists(rows_of_ids, min_size=1, max_size=4))
def test_concatenate_is_list_addition(parts: list[list[list[int]]]) -> None:
    """Joined parts hold the rows of each in turn."""
    joined = TokenIds.concatenate([token_ids(part) for part in parts])
    expected = token_ids(list(chain(*parts)))
    assert joined.values.tolist() == expected.values.tolist()
    assert joined.offsets.tolist() == expected.offsets.tolist()
