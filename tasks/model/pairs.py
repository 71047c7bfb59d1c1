"""Which pairs of words have a vector of their own: of each bucket of a hash table the most frequent pair that falls into it.

The plain hashing trick lets all pairs of a bucket share its vector. Ten rare ones then stand beside each frequent one, and what they
bring is noise. Here all pairs that own no bucket share the vector 0.

Source: Weinberger et al. (2009), "Feature hashing for large scale multitask learning", for the table; owners are ours.
"""

import numpy as np

from tasks.model.vocabulary import PADDING, TokenIds

FIRST_MULTIPLIER, SECOND_MULTIPLIER, PAIR_MIXER = np.uint32(0x9E3779B1), np.uint32(0x85EBCA77), np.uint32(0xC2B2AE3D)
MIN_COUNT = 2  # times that a pair must occur
NO_PAIR = 0  # the bucket of all that have none of their own, and the owner of those that are nobody's


def fit_pair_owners(ids: TokenIds, num_buckets: int) -> np.ndarray:
    """Return the pair that each bucket belongs to.

    Args:
        ids: Reviews, labelled or not.
        num_buckets: Vectors that pairs can have, the first of them that of all without one of their own.

    Returns:
        int64, shape (num_buckets,): pairs as `pair_names` has them, 0 where a bucket is nobody's.
    """
    first, second = ids.values[:-1], ids.values[1:]
    names, times = np.unique(pair_names(first, second)[ids.rows[:-1] == ids.rows[1:]], return_counts=True)
    names = names[times >= MIN_COUNT][np.argsort(times[times >= MIN_COUNT], kind="stable")]
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
    mixed = words.astype(np.uint32) * FIRST_MULTIPLIER
    mixed ^= followers.astype(np.uint32) * SECOND_MULTIPLIER
    mixed ^= mixed >> np.uint32(15)
    mixed *= PAIR_MIXER
    bucket: np.ndarray = ((mixed * np.uint64(num_buckets - 1) >> np.uint64(32)) + np.uint64(1)).astype(np.int32)
    bucket[(words == PADDING) | (followers == PADDING)] = NO_PAIR
    return bucket
