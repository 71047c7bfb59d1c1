"""Words and their numbers: learnt from training rows only, the same for every part of a model."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, Field

from tasks.errors import DataError

PADDING = 0
UNKNOWN = 1  # where unknown words have an id


class VocabularySettings(BaseModel, frozen=True, extra="forbid"):
    """Which words get a number, and in what order."""

    num_words: int = Field(100_000, ge=10, description="ids given out, padding and unknown included")
    min_count: int = Field(2, ge=1, description="a word must occur this often in the training rows")
    tie_break: Literal["token", "first_seen"] = Field("token", description="order of words that are equally frequent")
    unknown: Literal["oov", "drop"] = Field("oov", description="oov gives unknown words one id of their own, drop leaves them out")

    @classmethod
    def tutorial(cls) -> "VocabularySettings":
        """Return the convention of Keras' legacy `Tokenizer(num_words=5000)`."""
        return cls(num_words=5000, min_count=1, tie_break="first_seen", unknown="drop")


@dataclass(frozen=True)
class TokenIds:
    """Token ids of reviews, one after the other.

    Args:
        values: int32, shape (num_tokens,).
        offsets: int64, shape (num_rows + 1,): review i is values[offsets[i]:offsets[i + 1]].
    """

    values: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64, shape (num_rows,): tokens of each review."""
        return np.diff(self.offsets)

    @cached_property
    def rows(self) -> np.ndarray:
        """int32, shape (num_tokens,): the review that each token stands in."""
        return np.repeat(np.arange(len(self), dtype=np.int32), self.lengths)

    def take(self, rows: np.ndarray) -> "TokenIds":
        """Return the reviews of the given rows, in that order."""
        return TokenIds(self.values[self.places(rows)], np.concatenate([[0], np.cumsum(self.lengths[rows])]))

    def between(self, start: int, stop: int) -> "TokenIds":
        """Return consecutive reviews, without a copy of their tokens."""
        offsets = self.offsets[start : stop + 1]
        return TokenIds(self.values[offsets[0] : offsets[-1]], offsets - offsets[0])

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Return where in `values` the tokens of the given rows stand, int64, row after row."""
        lengths = self.lengths[rows]
        before = np.cumsum(lengths) - lengths
        return np.arange(lengths.sum()) + np.repeat(self.offsets[:-1][rows] - before, lengths)

    @classmethod
    def concatenate(cls, parts: Sequence["TokenIds"]) -> "TokenIds":
        """Return all reviews of all parts, in order."""
        offsets = np.concatenate([[0], np.cumsum(np.concatenate([part.lengths for part in parts]))])
        return cls(np.concatenate([part.values for part in parts]), offsets)


@dataclass(frozen=True)
class Vocabulary:
    """Words by descending frequency. Id 0 is padding; with `unknown="oov"` id 1 stands for every unknown word.

    >>> vocabulary = Vocabulary(("good", "film"), "oov")
    >>> vocabulary.encode(pa.array([["good", "gnu", "film"]])).values.tolist()
    [2, 1, 3]
    """

    tokens: tuple[str, ...]
    unknown: Literal["oov", "drop"]

    def __len__(self) -> int:
        return len(self.tokens) + self.first_id

    @property
    def first_id(self) -> int:
        """The id of the most frequent word."""
        return 2 if self.unknown == "oov" else 1

    @cached_property
    def _value_set(self) -> pa.Array:
        return pa.array(self.tokens, pa.string())

    def encode(self, tokens: pa.Array | pa.ChunkedArray) -> TokenIds:
        """Return the ids of token lists.

        Args:
            tokens: list<string> or list<dictionary<string>>, shape (num_rows,).
        """
        if isinstance(tokens, pa.ChunkedArray):
            return TokenIds.concatenate([self.encode(chunk) for chunk in tokens.chunks])
        offsets = tokens.offsets.to_numpy().astype(np.int64)
        words = tokens.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
        offsets = offsets - offsets[0]
        encoded = pa.types.is_dictionary(words.type)
        values = self._ids(words.dictionary)[words.indices.to_numpy()] if encoded else self._ids(words)
        if self.unknown == "oov":
            return TokenIds(values, offsets)
        known = values >= 0
        before = np.concatenate([[0], np.cumsum(known)])
        return TokenIds(values[known], before[offsets])

    def _ids(self, words: pa.Array) -> np.ndarray:
        places = pc.fill_null(pc.index_in(words, value_set=self._value_set), -1).to_numpy()
        absent = UNKNOWN if self.unknown == "oov" else -1
        return np.where(places < 0, absent, places + self.first_id).astype(np.int32)

    @cached_property
    def holds_letters(self) -> np.ndarray:
        """bool, shape (len(self),): by id, whether a token is more than punctuation."""
        return np.array([False] * self.first_id + [any(map(str.isalnum, token)) for token in self.tokens])

    def num_known(self, ids: TokenIds) -> np.ndarray:
        """Return how many of each review's tokens the vocabulary holds, int64, shape (num_rows,)."""
        return _count(ids.values >= self.first_id, ids)

    def num_known_words(self, ids: TokenIds) -> np.ndarray:
        """Return how many of them are words or numbers, not punctuation, int64, shape (num_rows,)."""
        return _count(self.holds_letters[ids.values], ids)

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `vocabulary.json`."""
        return {"unknown": self.unknown, "tokens": list(self.tokens)}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "Vocabulary":
        """Read what `to_json` returned."""
        return cls(tuple(plain["tokens"]), plain["unknown"])


def _count(chosen: np.ndarray, ids: TokenIds) -> np.ndarray:
    before = np.concatenate([[0], np.cumsum(chosen)])
    return np.diff(before[ids.offsets])


def fit_vocabulary(batches: Iterable[pa.ListArray], settings: VocabularySettings) -> Vocabulary:
    """Count words and keep the most frequent ones; memory grows with different words, not with rows.

    Args:
        batches: list<string> or list<dictionary<string>>, of training rows only.
        settings: How many words, how frequent, in what order.

    Raises:
        DataError: No word occurs often enough.
    """
    counts: dict[str, int] = {}
    for batch in batches:
        words = batch.flatten()
        if not pa.types.is_dictionary(words.type):
            words = words.dictionary_encode()
        indices = words.indices.to_numpy()
        numbers = np.bincount(indices, minlength=len(words.dictionary))
        present, first = np.unique(indices, return_index=True)
        names = words.dictionary.to_pylist()
        for index in present[np.argsort(first, kind="stable")].tolist():
            counts[names[index]] = counts.get(names[index], 0) + int(numbers[index])
    frequent = [(word, count) for word, count in counts.items() if count >= settings.min_count]
    if not frequent:
        raise DataError(
            f"No word occurs {settings.min_count} times in the training rows. Give more reviews, or lower vocabulary.min_count."
        )
    if settings.tie_break == "token":
        frequent.sort(key=lambda entry: (-entry[1], entry[0]))
    else:
        frequent.sort(key=lambda entry: -entry[1])
    reserved = 2 if settings.unknown == "oov" else 1
    return Vocabulary(tuple(word for word, _ in frequent[: settings.num_words - reserved]), settings.unknown)
