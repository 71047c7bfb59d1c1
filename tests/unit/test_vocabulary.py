from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.errors import DataError
from tasks.model.lstm import pad_before
from tasks.model.vocabulary import TokenIds, Vocabulary, VocabularySettings, fit_vocabulary
from tasks.reviews.readers import ReaderSettings, read_batches
from tasks.reviews.sample import SampleSettings, generate_reviews
from tasks.reviews.stop_words import ENGLISH_STOP_WORDS
from tasks.reviews.text import clean_tutorial_text, tokenize_tutorial_text

ANY_COUNT = VocabularySettings(min_count=1)
ROWS = [["good", "film"], ["bad", "film", "bad"], [], ["film", "again", "good"]]


def _encoded(rows: Iterable[list[str]]) -> pa.ListArray:
    """Return token lists as the tokenize step stores them, dictionary-encoded."""
    plain = pa.array(rows, pa.list_(pa.string()))
    return pa.ListArray.from_arrays(plain.offsets, plain.values.dictionary_encode())


def _lists(ids: TokenIds) -> list[list[int]]:
    return [ids.values[start:stop].tolist() for start, stop in zip(ids.offsets[:-1], ids.offsets[1:], strict=True)]


def test_frequent_words_come_first() -> None:
    """By descending frequency; of equally frequent words the alphabet decides, or whichever was seen first."""
    assert fit_vocabulary([_encoded(ROWS)], ANY_COUNT).tokens == ("film", "bad", "good", "again")
    first_seen = ANY_COUNT.model_copy(update={"tie_break": "first_seen"})
    assert fit_vocabulary([_encoded(ROWS)], first_seen).tokens == ("film", "good", "bad", "again")


def test_rare_words_and_words_beyond_the_number_are_left_out() -> None:
    """A word must occur `min_count` times; `num_words` counts padding and, where it has an id, the unknown word."""
    rows = [_encoded([[f"w{n:02d}"] * (30 - n) for n in range(25)])]
    assert fit_vocabulary(rows, VocabularySettings(min_count=20)).tokens == tuple(f"w{n:02d}" for n in range(11))
    assert fit_vocabulary(rows, VocabularySettings(num_words=10)).tokens == tuple(f"w{n:02d}" for n in range(8))
    dropped = fit_vocabulary(rows, VocabularySettings(num_words=10, unknown="drop"))
    assert dropped.tokens == tuple(f"w{n:02d}" for n in range(9)) and len(dropped) == 10


@pytest.mark.parametrize("tie_break", ["token", "first_seen"])
def test_batches_do_not_count(tie_break: str) -> None:
    """Rows in one batch, one by one, encoded or plain, or as slices of a longer batch give the same vocabulary."""
    settings = ANY_COUNT.model_copy(update={"tie_break": tie_break})
    whole = fit_vocabulary([_encoded(ROWS)], settings)
    assert fit_vocabulary([_encoded([row]) for row in ROWS], settings) == whole
    assert fit_vocabulary([pa.array(ROWS, pa.list_(pa.string()))], settings) == whole
    longer = _encoded([["zzz", "again", "bad", "film"], *ROWS, ["yyy"] * 9])
    assert fit_vocabulary([longer.slice(1, 2), longer.slice(3, 2)], settings) == whole


def test_no_word_often_enough_is_an_error() -> None:
    """The message says how often and what to do."""
    with pytest.raises(DataError, match=r"No word occurs 2 times in the training rows\..*vocabulary\.min_count"):
        fit_vocabulary([_encoded([["good"], ["bad"]])], VocabularySettings())


@pytest.mark.parametrize(
    ("unknown", "expected"),
    [("oov", [[3, 2], [1, 2, 1], [], [2, 1, 3]]), ("drop", [[2, 1], [1], [], [1, 2]])],
)
def test_ids_of_any_kind_of_list(unknown: str, expected: list[list[int]]) -> None:
    """Plain, encoded, sliced or chunked lists give the same ids; unknown words give the id 1 or are dropped."""
    vocabulary = Vocabulary(("film", "good"), unknown)  # type: ignore[arg-type]
    plain, encoded = pa.array(ROWS, pa.list_(pa.string())), _encoded(ROWS)
    for tokens in (plain, encoded, pa.chunked_array([plain[:1], plain[1:]]), pa.chunked_array([encoded])):
        ids = vocabulary.encode(tokens)
        assert _lists(ids) == expected and len(ids) == 4
        assert ids.values.dtype == np.int32 and ids.offsets.dtype == np.int64 and ids.offsets[0] == 0
    for tokens in (plain[1:], encoded[1:], _encoded([["film"] * 3, *ROWS])[2:]):
        assert _lists(vocabulary.encode(tokens)) == expected[1:]
    assert _lists(vocabulary.encode(plain[2:3])) == [[]]


def test_known_words_are_counted() -> None:
    """Of each review, the tokens that the vocabulary holds; padding's and the unknown word's ids are none."""
    vocabulary = Vocabulary(("film", "good"), "oov")
    assert vocabulary.num_known(vocabulary.encode(_encoded(ROWS))).tolist() == [2, 1, 0, 2]
    assert (len(vocabulary), vocabulary.first_id, len(Vocabulary(("film",), "drop"))) == (4, 2, 2)


def test_rows_can_be_taken_and_joined() -> None:
    """In any order, repeatedly, none at all; parts put together are the whole again."""
    ids = TokenIds(np.array([5, 6, 7, 8, 9], np.int32), np.array([0, 2, 2, 5]))
    assert _lists(ids.take(np.array([2, 0, 2, 1]))) == [[7, 8, 9], [5, 6], [7, 8, 9], []]
    assert _lists(ids.take(np.array([], np.int64))) == []
    assert _lists(ids.between(1, 3)) == _lists(ids.take(np.array([1, 2])))
    assert ids.between(1, 3).offsets[0] == 0 and _lists(ids.between(2, 2)) == []
    joined = TokenIds.concatenate([ids.take(np.array([0])), ids.take(np.array([1, 2]))])
    assert _lists(joined) == _lists(ids) and ids.lengths.tolist() == [2, 0, 3]


def test_a_vocabulary_survives_json() -> None:
    """Words of any script and the rule for unknown ones come back."""
    vocabulary = Vocabulary(("not", "café", '"', "映画"), "drop")
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary


def _assert_equals_keras(reviews: list[str], num_words: int, length: int = 100) -> None:
    """Fit Keras' legacy Tokenizer and ours on the first half of the reviews and compare the ids of all."""
    from keras.src.legacy.preprocessing.text import Tokenizer
    from keras.utils import pad_sequences

    text = clean_tutorial_text(pa.array(reviews), ENGLISH_STOP_WORDS)
    half = len(reviews) // 2
    keras_tokenizer = Tokenizer(num_words=num_words)
    keras_tokenizer.fit_on_texts(text[:half].to_pylist())
    expected = keras_tokenizer.texts_to_sequences(text.to_pylist())

    batches = [_encoded(tokenize_tutorial_text(text[start : min(start + 700, half)]).to_pylist()) for start in range(0, half, 700)]
    vocabulary = fit_vocabulary(batches, VocabularySettings.tutorial().model_copy(update={"num_words": num_words}))
    ids = vocabulary.encode(tokenize_tutorial_text(text))
    assert _lists(ids) == expected
    assert np.array_equal(pad_before(ids, length), pad_sequences(expected, maxlen=length))


@pytest.mark.parametrize("num_words", [5000, 60, 10])
def test_tutorial_ids_are_keras_on_generated_reviews(num_words: int) -> None:
    """Thousands of generated reviews: the ids of `Tokenizer(num_words=...)` and the matrix of `pad_sequences(maxlen=100)`."""
    batches = list(generate_reviews(SampleSettings(rows=4000, seed=11)))
    _assert_equals_keras([review for batch in batches for review in batch.columns["review"].to_pylist()], num_words)


def test_tutorial_ids_are_keras_on_odd_texts() -> None:
    """Ties, empty reviews, underscores, foreign letters, numerals, and words that only later reviews hold."""
    odd = [
        "",
        "b a b a",
        "a_b __c_ _",
        "ΑΣ ας İi ﬁ ß ǅ",
        "½ x² Ⅷ 12 3rd",
        "not the",
        "tab\tline\nend\x0b\x1f",
        "映画 映画 é é\u0301",
        "z y x w",
    ]
    _assert_equals_keras(odd * 2 + [" ".join(reversed(text.split())) for text in odd] + ["new words only", "b a z"], 5000, length=3)


@pytest.mark.parametrize("num_words", [5000, 300])
def test_tutorial_ids_are_keras_on_real_reviews(num_words: int, real_reviews: Path) -> None:
    """Thousands of real reviews, where they are present."""
    batch = next(read_batches(real_reviews, "imdb", ReaderSettings()))
    _assert_equals_keras(batch.columns["review"].to_pylist(), num_words)


def test_punctuation_is_known_but_is_no_word() -> None:
    """A review of punctuation alone holds known tokens and no known word."""
    vocabulary = Vocabulary((".", "good", "7", "'"), "oov")
    ids = vocabulary.encode(pa.array([[".", ".", "gnu"], ["good", ".", "7"], []]))
    assert vocabulary.num_known(ids).tolist() == [2, 3, 0]
    assert vocabulary.num_known_words(ids).tolist() == [0, 2, 0]
