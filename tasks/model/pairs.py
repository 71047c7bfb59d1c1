"""Which pairs of words have a vector of their own: of each bucket of a hash table the most frequent pair that falls into it.

The plain hashing trick lets all pairs of a bucket share its vector. Ten rare ones then stand beside each frequent one, and what they
bring is noise.

Source: Weinberger et al. (2009), "Feature hashing for large scale multitask learning", for the table; owners are ours.
"""

import numpy as np

from tasks.model.vocabulary import PADDING, TokenIds

MULTIPLIER, OFFSET, MIXER = np.int64(1_000_003), np.int64(7_919), np.int64(2_246_822_519)
LEAST = 2  # times that a pair must occur
NO_PAIR = 0  # the bucket, and the owner, of none


def fit_pair_owners(ids: TokenIds, num_buckets: int) -> np.ndarray:
    """Return the pair that each bucket belongs to.

    Args:
        ids: Reviews, labelled or not.
        num_buckets: Vectors that pairs can have, the first of them that of none.

    Returns:
        int64, shape (num_buckets,): pairs as `pair_names` has them, 0 where a bucket is nobody's.
    """
    first, second = ids.values[:-1], ids.values[1:]
    rows = np.repeat(np.arange(len(ids), dtype=np.int32), ids.lengths)
    names, times = np.unique(pair_names(first, second)[rows[:-1] == rows[1:]], return_counts=True)
    names = names[times >= LEAST][np.argsort(times[times >= LEAST], kind="stable")]
    owners = np.full(num_buckets, NO_PAIR, np.int64)
    owners[pair_buckets(names >> 32, names & 0xFFFFFFFF, num_buckets)] = names  # the last one stays
    owners[NO_PAIR] = NO_PAIR
    return owners


def owned_buckets(words: np.ndarray, followers: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Return the bucket of each word with its follower where that is theirs, else 0; int32, same shape."""
    buckets = pair_buckets(words, followers, len(owners))
    return np.where(owners[buckets] == pair_names(words, followers), buckets, np.int32(NO_PAIR))


def pair_names(words: np.ndarray, followers: np.ndarray) -> np.ndarray:
    """Return one number for each word with its follower, int64, same shape."""
    named: np.ndarray = (words.astype(np.int64) << 32) | followers
    return named


def pair_buckets(words: np.ndarray, followers: np.ndarray, num_buckets: int) -> np.ndarray:
    """Hash each word with its follower into 1 … num_buckets - 1; 0 where either is padding. int32, same shape."""
    mixed: np.ndarray = words.astype(np.int64) * MULTIPLIER + followers * OFFSET
    mixed = (mixed ^ (mixed >> 15)) * MIXER
    bucket = (mixed ^ (mixed >> 13)) % (num_buckets - 1) + 1
    return np.where((words == PADDING) | (followers == PADDING), NO_PAIR, bucket).astype(np.int32)
