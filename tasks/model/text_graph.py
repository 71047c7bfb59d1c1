"""The text kernels of `tasks/reviews/text.py` once more, as TensorFlow operations, for a model that is exported.

Written twice because an exported model carries no Python. What a character becomes is not written twice: it is asked of Arrow and of
Python, for every character there is, and kept as a table. An export whose scores differ from the model's own is refused. One thing is
known to differ, under the tutorial rules: a capital sigma before a modifier or a letter that has no case.
"""

import functools
import re
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.model.runtime import import_tensorflow
from tasks.reviews.entities import ENTITY, NUMBER, entity_table
from tasks.reviews.text import MARKS, NOT_TOKENS, NOT_WORDS, TAG, CleanSettings, TokenizeSettings

T = TypeVar("T", int, str)
_SPACE, _NUM_CHARACTERS = 32, 0x110000
_SURROGATES = range(0xD800, 0xE000)  # not characters; no text holds them
_LONGER_WHEN_LOWER = ("İ", "i̇")  # the one letter whose lower case is two characters


class TokenGraph:
    """Turns a batch of raw reviews into tokens inside a TensorFlow graph, by the rules of the settings; `state` is what that needs."""

    def __init__(self, clean: CleanSettings, tokenize: TokenizeSettings) -> None:
        tf = import_tensorflow()
        self._tutorial = clean.rules == "tutorial"
        self._joins_tutorial = tokenize.rules == "tutorial"
        if self._tutorial:
            self.lowered = tf.Variable(_python_lower(), trainable=False, name="lowered")
            self.kept = tf.Variable(_python_words(), trainable=False, name="kept")
            self.stop_words = lookup_table(dict.fromkeys(clean.stop_words, 1), absent=0)
            self.state = [self.lowered, self.kept, self.stop_words]
        else:
            self.entities = lookup_table(entity_table(), absent="")
            self.lowered = tf.Variable(_arrow_lower(), trainable=False, name="lowered")
            self.kept = tf.Variable(_arrow_tokens(clean.punctuation), trainable=False, name="kept")
            self.state = [self.lowered, self.kept, self.entities]

    def tokens(self, reviews: Any) -> Any:
        """Return the tokens of reviews, tf.string (num_rows,), as a ragged tf.string (num_rows, num_tokens)."""
        return self._tutorial_tokens(reviews) if self._tutorial else self._default_tokens(reviews)

    def _default_tokens(self, reviews: Any) -> Any:
        tf = import_tensorflow()
        text = tf.strings.regex_replace(_map_characters(self._decode_entities(reviews), self.lowered), TAG, " ")
        text = tf.strings.regex_replace(_keep_characters(text, self.kept), r"\B'|'\B", " ")
        text = tf.strings.regex_replace(text, f"([{MARKS}])", r" \1 ")
        return tf.strings.split(text)

    def _decode_entities(self, reviews: Any) -> Any:
        tf = import_tensorflow()
        apart = tf.strings.regex_replace(tf.strings.regex_replace(reviews, "\x00", " "), f"({ENTITY})", "\x00\\1\x00")
        pieces = tf.strings.split(apart, "\x00")
        known = self.entities.lookup(pieces.flat_values)
        others = tf.strings.regex_replace(pieces.flat_values, NUMBER, " ")
        decoded = tf.where(known != "", known, others)
        return tf.strings.reduce_join(pieces.with_flat_values(decoded), axis=1)

    def _tutorial_tokens(self, reviews: Any) -> Any:
        tf = import_tensorflow()
        text = tf.strings.regex_replace(_keep_characters(reviews, self.kept), *_LONGER_WHEN_LOWER)
        text = tf.strings.regex_replace(text, r"([\p{Lu}\p{Ll}\p{Lt}])Σ( |$)", r"\1ς\2")  # as Python lowers a sigma that ends a word
        words = tf.strings.split(_map_characters(text, self.lowered))
        words = tf.ragged.boolean_mask(words, words.with_flat_values(self.stop_words.lookup(words.flat_values) == 0))
        if not self._joins_tutorial:
            return words
        return tf.strings.split(tf.strings.regex_replace(tf.strings.reduce_join(words, axis=1, separator=" "), "_", " "))


def lookup_table(values: dict[str, T], absent: T) -> Any:
    """Return a table from string to int64 or string that an exported graph carries along."""
    tf = import_tensorflow()
    words = tf.constant(list(values) or [""], tf.string)
    found = tf.constant(list(values.values()) or [absent], tf.string if isinstance(absent, str) else tf.int64)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(words, found), absent)


def _map_characters(text: Any, table: Any) -> Any:
    tf = import_tensorflow()
    points = tf.strings.unicode_decode(text, "UTF-8")
    return tf.strings.unicode_encode(points.with_flat_values(tf.gather(table, points.flat_values)), "UTF-8")


def _keep_characters(text: Any, kept: Any) -> Any:
    tf = import_tensorflow()
    points = tf.strings.unicode_decode(text, "UTF-8")
    flat = tf.where(tf.gather(kept, points.flat_values), points.flat_values, _SPACE)
    return tf.strings.unicode_encode(points.with_flat_values(flat), "UTF-8")


def _characters() -> list[str]:
    return [" " if code in _SURROGATES else chr(code) for code in range(_NUM_CHARACTERS)]


@functools.cache
def _arrow_lower() -> np.ndarray:
    """Return for each character what the default rules make of it before tags are looked for, int32, shape (1,114,112,)."""
    lowered = pc.utf8_lower(pa.array(_characters())).to_pylist()
    return _codes([{"’": "'", "_": " "}.get(character, character) for character in lowered])


@functools.cache
def _arrow_tokens(punctuation: bool) -> np.ndarray:
    """Return which characters may stand in a token or between two, bool, shape (1,114,112,); apostrophes among them."""
    symbols = (NOT_TOKENS if punctuation else NOT_WORDS).partition("+|")[0]
    return np.asarray(pc.invert(pc.match_substring_regex(pa.array(_characters()), symbols)))


@functools.cache
def _python_lower() -> np.ndarray:
    return _codes([character.lower() if len(character.lower()) == 1 else character for character in _characters()])


@functools.cache
def _python_words() -> np.ndarray:
    word = re.compile(r"[^\W\d]")
    return np.array([word.match(character) is not None for character in _characters()])


def _codes(characters: list[str]) -> np.ndarray:
    return np.array([ord(character) for character in characters], np.int32)
