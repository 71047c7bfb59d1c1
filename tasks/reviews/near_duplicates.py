"""Which reviews say nearly the same as another: MinHash proposes pairs, their true Jaccard similarity decides.

A review is the set of its distinct word shingles, hashed to 64 bits. A sketch keeps the least of these under many hash functions, in
bands: two reviews that share a whole band are candidates, and only candidates are compared. Everything runs on whole arrays.

Source: Broder (1997), "On the resemblance and containment of documents"; Leskovec, Rajaraman & Ullman (2020), "Mining of massive
datasets", ch. 3, for the bands.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, Field

from tasks.reviews.text import normalise_text, text_hashes, tokenize_text

NO_ROW = -1
_FOUND_AT_THRESHOLD = 0.999  # the least probability that a pair exactly as similar as the threshold becomes a candidate
_MOST_PARTNERS = 16  # compared with one review for one band; more share a band only where reviews are written to a pattern
_SHINGLES_AT_ONCE = 1 << 17
_LETTERS = 64  # of a word, that have random numbers of their own


class NearDuplicateSettings(BaseModel, frozen=True, extra="forbid"):
    """When two reviews count as one."""

    threshold: float = Field(0.8, gt=0, le=1, description="share of their word shingles that near-duplicates have in common (Jaccard)")
    shingle_length: int = Field(2, ge=1, le=10, description="words of a shingle; 2 forgives one changed word in 18, 3 one in 27")
    num_permutations: int = Field(100, ge=8, le=1024, description="hash functions of a sketch; more find the last few pairs, in more time")

    @property
    def rows_per_band(self) -> int:
        """Minima of a band: as many as still find a pair at the threshold almost surely; more propose fewer pairs in vain."""
        longest = 1
        for rows in range(2, self.num_permutations + 1):
            missed = (1 - self.threshold**rows) ** (self.num_permutations // rows)
            longest = rows if missed <= 1 - _FOUND_AT_THRESHOLD else longest
        return longest


@dataclass(frozen=True)
class ShingleSets:
    """The distinct shingles of reviews.

    Args:
        values: uint64, shape (num_shingles,), ascending within a review.
        offsets: int64, shape (num_rows + 1,): where each review's shingles begin and end.
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """Shingles of each review, int64, shape (num_rows,)."""
        return np.diff(self.offsets)

    def take(self, rows: np.ndarray) -> "ShingleSets":
        """Return the sets of some rows, int64, shape (num_taken,), in their order."""
        sizes = self.sizes[rows]
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[rows] - offsets[:-1], sizes)
        return ShingleSets(self.values[places], offsets)

    @classmethod
    def concatenate(cls, parts: Iterable["ShingleSets"]) -> "ShingleSets":
        """Join sets one after another."""
        parts = [cls(np.empty(0, np.uint64), np.zeros(1, np.int64)), *parts]
        sizes = np.concatenate([part.sizes for part in parts])
        return cls(np.concatenate([part.values for part in parts]), np.concatenate([[0], np.cumsum(sizes)]))


def shingle_sets(text: pa.Array, settings: NearDuplicateSettings) -> ShingleSets:
    """Return the distinct shingles of each text.

    Args:
        text: string, shape (num_rows,), from `normalise_text`. One of fewer words than a shingle has is one shingle; an empty one none.
        settings: How long a shingle is.
    """
    values, sizes = _shingles(text, settings.shingle_length)
    row = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((values, row))
    values, row = values[order], row[order]
    distinct = np.ones(len(values), bool)
    distinct[1:] = (values[1:] != values[:-1]) | (row[1:] != row[:-1])
    return ShingleSets(values[distinct], np.concatenate([[0], np.cumsum(np.bincount(row[distinct], minlength=len(sizes)))]))


def sketch_texts(text: pa.Array, settings: NearDuplicateSettings) -> np.ndarray:
    """Return the keys of each text's bands: equal where all minima of the band are.

    Args:
        text: string, shape (num_rows,), from `normalise_text`.
        settings: How long a shingle is, and how many hash functions there are.

    Returns:
        uint32, shape (num_rows, num_bands).
    """
    values, sizes = _shingles(text, settings.shingle_length)
    values = (values >> np.uint64(32)).astype(np.uint32)  # half of the bits, twice as fast; comparing sets uses them all
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    filled = np.flatnonzero(sizes)
    minima = np.zeros((settings.num_permutations, len(sizes)), np.uint32)
    functions = _mix(np.arange(1, settings.num_permutations + 1, dtype=np.uint64))
    multipliers, masks = (functions | np.uint64(1)).astype(np.uint32), (functions >> np.uint64(32)).astype(np.uint32)
    for rows in _runs(sizes[filled], _SHINGLES_AT_ONCE):
        chosen = filled[rows]
        start, stop = offsets[chosen[0]], offsets[chosen[-1] + 1]
        block, starts = values[start:stop], offsets[chosen] - start
        for number, (multiplier, mask) in enumerate(zip(multipliers, masks, strict=True)):
            minima[number, chosen] = np.minimum.reduceat((block ^ mask) * multiplier, starts)
    return _band_keys(minima, settings.rows_per_band)


def _band_keys(minima: np.ndarray, rows_per_band: int) -> np.ndarray:
    num_bands = len(minima) // rows_per_band
    banded = minima[: num_bands * rows_per_band].reshape(num_bands, rows_per_band, -1)
    keys = np.zeros((num_bands, minima.shape[1]), np.uint64)
    for place in range(rows_per_band):
        keys = _mix(keys + banded[:, place])
    return np.ascontiguousarray((keys >> np.uint64(32)).astype(np.uint32).T)


@dataclass(frozen=True)
class SortedBands:
    """The sketches of a group of texts, each band in order, so that looking for many others costs one sort.

    Args:
        keys: uint32, shape (num_bands, num_rows), ascending in each band.
        rows: int64, shape (num_bands, num_rows): which row each key is of.
    """

    keys: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, sketches: np.ndarray) -> "SortedBands":
        """Sort sketches, uint32, shape (num_rows, num_bands), from `sketch_texts`."""
        bands = np.ascontiguousarray(sketches.T)
        rows = np.argsort(bands, axis=1, kind="stable")
        return cls(np.take_along_axis(bands, rows, axis=1), rows)


def candidate_pairs(sketches: np.ndarray, others: SortedBands) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows of two groups share a band.

    Of a crowd that shares one band the first few are compared: a near-duplicate shares other bands too, which the crowd does not.

    Args:
        sketches: uint32, shape (num_rows, num_bands), from `sketch_texts`.
        others: Those of the other group, num_others of them.

    Returns:
        Rows and others, int64, shape (num_pairs,) each: ascending by row, then by the other; no pair twice.
    """
    pairs = np.empty(0, np.int64)
    num_others = others.keys.shape[1]
    if not len(sketches) or not num_others:
        return pairs, pairs
    for band, (keys, rows) in enumerate(zip(others.keys, others.rows, strict=True)):
        low, high = (np.searchsorted(keys, sketches[:, band], side) for side in ("left", "right"))
        count = np.minimum(high - low, _MOST_PARTNERS)
        row = np.repeat(np.arange(len(sketches)), count)
        place = np.arange(len(row)) + np.repeat(low - np.cumsum(count) + count, count)
        pairs = np.union1d(pairs, row * num_others + rows[place])
    return pairs // num_others, pairs % num_others


def jaccard(sets: ShingleSets, rows: np.ndarray, others: ShingleSets, other_rows: np.ndarray) -> np.ndarray:
    """Return the true Jaccard similarity of pairs of rows: shingles they share, out of all that either has.

    Args:
        sets: Of the first group.
        rows: int64, shape (num_pairs,): its row of each pair.
        others: Of the second group.
        other_rows: int64, shape (num_pairs,).

    Returns:
        float64, shape (num_pairs,), in [0, 1]; 0 where neither has a shingle.
    """
    sets, rows = _only(sets, rows)
    others, other_rows = _only(others, other_rows)
    _, numbers = np.unique(np.concatenate([sets.values, others.values]), return_inverse=True)
    sets, others = ShingleSets(numbers[: len(sets.values)], sets.offsets), ShingleSets(numbers[len(sets.values) :], others.offsets)
    total = sets.sizes[rows] + others.sizes[other_rows]
    shared = np.zeros(len(rows), np.int64)
    for pairs in _runs(total, 8 * _SHINGLES_AT_ONCE):
        taken = sets.take(rows[pairs]), others.take(other_rows[pairs])
        both = np.sort(np.concatenate([np.repeat(np.arange(len(group)), group.sizes) << 32 | group.values for group in taken]))
        twice = both[1:][both[1:] == both[:-1]] >> 32  # the pairs of shingles that stand here for both of their sets
        shared[pairs] = np.bincount(twice, minlength=len(taken[0]))
    return shared / np.maximum(total - shared, 1)


def _only(sets: ShingleSets, rows: np.ndarray) -> tuple[ShingleSets, np.ndarray]:
    used, place = np.unique(rows, return_inverse=True)
    return sets.take(used), place


def most_similar(
    rows: np.ndarray, other_rows: np.ndarray, similarity: np.ndarray, num_rows: int, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each row the other that is most like it, at least as the threshold asks; the first of equals.

    Args:
        rows, other_rows: int64, shape (num_pairs,), from `candidate_pairs`.
        similarity: float64, shape (num_pairs,), from `jaccard`.
        num_rows: Of the first group.
        threshold: The least similarity that counts.

    Returns:
        int64, shape (num_rows,), -1 where there is none; and the similarity, float64, 0 there.
    """
    found, best = np.full(num_rows, NO_ROW), np.zeros(num_rows)
    order = np.lexsort((other_rows, -similarity, rows))
    order = order[similarity[order] >= threshold]
    row, first = np.unique(rows[order], return_index=True)
    found[row], best[row] = other_rows[order[first]], similarity[order[first]]
    return found, best


@dataclass(frozen=True)
class HeldOutReviews:
    """Held-out reviews, ready to be looked for among others: what is learnt from must repeat none of them, exactly or nearly.

    The unlabelled step screens reviews with it, a batch at a time:

        held_out = HeldOutReviews.of((batch[REVIEW] for batch in ...), settings)  # of the test and validation rows
        for reviews in ...:  # string arrays of any size: unlabelled reviews as they were given
            fit = reviews.filter(pa.array(held_out.repeated_by(reviews) == NO_ROW))

    Args:
        hashes: uint64, shape (num_known,), ascending: the different ones of `text_hashes`.
        first: int64, shape (num_known,): the first held-out review of each.
        bands: Their sketches; None where near-duplicates do not count.
        sets: Their shingles, about 8 bytes a word.
        settings: When two reviews count as one.
    """

    hashes: np.ndarray
    first: np.ndarray
    bands: SortedBands | None = None
    sets: ShingleSets | None = None
    settings: NearDuplicateSettings | None = None

    @classmethod
    def of(cls, batches: Iterable[pa.Array], settings: NearDuplicateSettings | None) -> "HeldOutReviews":
        """Read held-out reviews.

        Args:
            batches: string arrays: the reviews as they were given, not cleaned.
            settings: When two reviews count as one; None for exact repetitions only.
        """
        hashes, sketches, sets = [np.empty(0, np.uint64)], [], []
        for reviews in batches:
            text = normalise_text(reviews)
            hashes.append(text_hashes(reviews, text))
            if settings is not None:
                sketches.append(sketch_texts(text, settings))
                sets.append(shingle_sets(text, settings))
        known, first = np.unique(np.concatenate(hashes), return_index=True)
        if not sketches:
            return cls(known, first)
        return cls(known, first, SortedBands.of(np.concatenate(sketches)), ShingleSets.concatenate(sets), settings)

    def repeated_by(self, reviews: pa.Array, text: pa.Array | None = None) -> np.ndarray:
        """Return which held-out review each of these repeats, exactly or nearly.

        Args:
            reviews: string, shape (num_rows,): as they were given, not cleaned; null counts as empty.
            text: What `normalise_text` makes of them, where that is at hand.

        Returns:
            int64, shape (num_rows,): the place among the held-out reviews, -1 (`NO_ROW`) where none is repeated.
        """
        text = normalise_text(reviews) if text is None else text
        found = self._exactly(text_hashes(reviews, text))
        if self.settings is None or self.bands is None or self.sets is None:
            return found
        rows, others = candidate_pairs(sketch_texts(text, self.settings), self.bands)
        candidates, place = np.unique(rows, return_inverse=True)
        sets = shingle_sets(text.take(pa.array(candidates)), self.settings)
        near, _ = most_similar(rows, others, jaccard(sets, place, self.sets, others), len(found), self.settings.threshold)
        return np.where(found == NO_ROW, near, found)

    def _exactly(self, hashes: np.ndarray) -> np.ndarray:
        place = np.searchsorted(self.hashes, hashes)
        hit = place < len(self.hashes)
        hit[hit] = self.hashes[place[hit]] == hashes[hit]
        found = np.full(len(hashes), NO_ROW)
        found[hit] = self.first[place[hit]]
        return found


def _shingles(text: pa.Array, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashed shingles of texts in their order, uint64, shape (num_shingles,), and how many each text has."""
    tokens = tokenize_text(text)
    encoded = tokens.flatten().dictionary_encode()
    words = _hash_words(encoded.dictionary)[encoded.indices.to_numpy()]
    sizes = np.diff(tokens.offsets.to_numpy())
    short = (sizes > 0) & (sizes < length)
    if short.any():  # filled up with nothing, so that the whole text is one shingle
        missing = np.where(short, length - sizes, 0)
        words = np.insert(words, np.repeat(np.cumsum(sizes), missing), np.uint64(0))
        sizes = sizes + missing
    count = max(len(words) - length + 1, 0)
    values = np.zeros(count, np.uint64)
    for place in range(length):
        values = _mix(values + words[place : place + count])
    row = np.repeat(np.arange(len(sizes)), sizes)
    whole = row[:count] == row[length - 1 : length - 1 + count]
    return values[whole], np.maximum(sizes - length + 1, 0) * (sizes > 0)


def _hash_words(words: pa.Array) -> np.ndarray:
    """Hash words by a random number for each byte at each place, added up, uint64, shape (num_words,); none is empty.

    Source: Zobrist (1970), "A new hashing method".
    """
    if not len(words):
        return np.empty(0, np.uint64)
    table = np.random.PCG64(0).random_raw(_LETTERS * 256)
    words = pa.concat_arrays([words])  # a slice's buffers hold more than the slice
    _, offsets_buffer, data = words.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[: len(words) + 1].astype(np.int64)
    letters = np.frombuffer(data, np.uint8)[: offsets[-1]].astype(np.int64)
    place = np.arange(len(letters)) - np.repeat(offsets[:-1], np.diff(offsets))
    return np.add.reduceat(table[place % _LETTERS * 256 + letters], offsets[:-1])


def _mix(values: np.ndarray) -> np.ndarray:
    """Scatter 64-bit numbers; no two become one. Source: splitmix64, Steele et al. (2014)."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _runs(sizes: np.ndarray, most: int) -> Iterator[slice]:
    """Yield consecutive rows whose sizes add up to about `most`, at least one row a time."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        before = ends[start - 1] if start else 0
        stop = max(int(np.searchsorted(ends, before + most, side="right")), start + 1)
        yield slice(start, stop)
        start = stop
