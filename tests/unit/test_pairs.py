"""Which pairs of words have a vector of their own."""

from collections import Counter
from itertools import pairwise

import numpy as np

from tasks.model.pairs import MIN_COUNT, fit_pair_owners, owned_buckets, pair_buckets
from tasks.model.vocabulary import TokenIds

NUM_BUCKETS = 64


def reviews() -> list[list[int]]:
    """Random reviews in which some words, and so some pairs, are frequent."""
    random = np.random.default_rng(0)
    return [np.minimum(random.zipf(1.5, random.integers(0, 12)), 1_000_000).tolist() for _ in range(400)]


def token_ids(rows: list[list[int]]) -> TokenIds:
    """Write rows of ids one after the other."""
    return TokenIds(np.array([value for row in rows for value in row], np.int32), np.cumsum([0, *map(len, rows)], dtype=np.int64))


def test_a_bucket_is_its_most_frequent_pairs() -> None:
    """Counted pair by pair: the owner is one of the most frequent in its bucket, and none that is rare or spans two reviews."""
    rows = reviews()
    times = Counter(pair for row in rows for pair in pairwise(row))
    most = np.zeros(NUM_BUCKETS, int)
    for (first, second), number in times.items():
        bucket = pair_buckets(np.array([first]), np.array([second]), NUM_BUCKETS)[0]
        most[bucket] = max(most[bucket], number)

    owners = fit_pair_owners(token_ids(rows), NUM_BUCKETS)

    assert (owners != 0).tolist() == (most >= MIN_COUNT).tolist()
    found = [times[owner >> 32, owner & 0xFFFFFFFF] for owner in owners.tolist() if owner]
    assert found == most[most >= MIN_COUNT].tolist()
    assert len(found) > NUM_BUCKETS / 2


def test_only_owners_find_their_bucket() -> None:
    """Who owns a bucket is given it, whoever hashes to the same is given none, and neither is padding."""
    rows = reviews()
    owners = fit_pair_owners(token_ids(rows), NUM_BUCKETS)
    first, second = np.array([pair for row in rows for pair in pairwise(row)]).T

    found = owned_buckets(first, second, owners)

    owning = np.array([(a << 32 | b) in set(owners.tolist()) for a, b in zip(first.tolist(), second.tolist(), strict=True)])
    assert 0 < owning.sum() < len(owning)
    assert (found == np.where(owning, pair_buckets(first, second, NUM_BUCKETS), 0)).all()
    assert not owned_buckets(np.array([0, 0, 5]), np.array([0, 5, 0]), owners).any()


def test_equal_reviews_give_equal_owners() -> None:
    """The table does not depend on the order of the reviews: of equally frequent pairs always the same one stays."""
    rows = reviews()
    assert fit_pair_owners(token_ids(rows), NUM_BUCKETS).tolist() == fit_pair_owners(token_ids(rows[::-1]), NUM_BUCKETS).tolist()


def test_words_of_large_ids_are_told_apart() -> None:
    """The name of a pair holds both ids whole."""
    large = 2_000_000_000
    ids = token_ids([[large, large + 1]] * MIN_COUNT)
    owners = fit_pair_owners(ids, NUM_BUCKETS)
    assert owned_buckets(np.array([large]), np.array([large + 1]), owners)[0] == np.flatnonzero(owners)[0]
    assert not owned_buckets(np.array([large]), np.array([large + 2]), owners).any()


def test_too_little_text_has_no_owners() -> None:
    """No reviews, empty ones, and single words have no pairs."""
    for rows in ([], [[]], [[5]], [[5], [6]], [[5, 6]]):
        assert not fit_pair_owners(token_ids(rows), NUM_BUCKETS).any()
