import numpy as np
import pyarrow as pa
import pytest

from tasks.errors import DataError
from tasks.model.runtime import import_tensorflow
from tasks.model.vocabulary import TokenIds, Vocabulary, VocabularySettings, fit_vocabulary


def generated_tokens(num_rows: int, seed: int) -> list[list[str]]:
    """Rows of words with frequencies like those of language, some empty, many words equally rare."""
    random = np.random.default_rng(seed)
    words = np.array([f"w{number}" for number in random.permutation(30000)])
    lengths = random.integers(0, 60, num_rows)
    return [words[np.minimum(random.zipf(1.15, length), len(words)) - 1].tolist() for length in lengths]


def lists(ids: TokenIds) -> list[list[int]]:
    return [ids.values[ids.offsets[row] : ids.offsets[row + 1]].tolist() for row in range(len(ids))]


def test_tutorial_ids_are_those_of_keras_legacy_tokenizer() -> None:
    """The tutorial convention gives thousands of texts, seen and unseen, the ids that the article's Tokenizer gives."""
    tf = import_tensorflow()
    tokens, unseen = generated_tokens(4000, seed=1), generated_tokens(1000, seed=2)
    keras_tokenizer = tf.keras.preprocessing.text.Tokenizer(num_words=5000)
    keras_tokenizer.fit_on_texts([" ".join(row) for row in tokens])
    batches = [pa.array(tokens[:1500], pa.list_(pa.string())), pa.array(tokens[1500:], pa.list_(pa.string()))]

    vocabulary = fit_vocabulary(batches, VocabularySettings.tutorial())

    assert len(vocabulary) == 5000
    for rows in (tokens, unseen):
        expected = keras_tokenizer.texts_to_sequences([" ".join(row) for row in rows])
        assert lists(vocabulary.encode(pa.array(rows, pa.list_(pa.string())))) == expected


def test_words_are_ordered_by_count_then_by_token() -> None:
    """The default convention keeps 0 for padding and 1 for unknown words, and breaks ties by the word itself."""
    tokens = pa.array([["film", "good", "b", "a"], ["good", "film", "good", "once"], ["a", "b"]])
    vocabulary = fit_vocabulary([tokens], VocabularySettings(min_count=2))
    assert vocabulary.tokens == ("good", "a", "b", "film")
    assert lists(vocabulary.encode(pa.array([["film", "gnu"], [], ["good"]]))) == [[5, 1], [], [2]]


def test_num_words_counts_the_reserved_ids() -> None:
    """No id reaches num_words, so that an embedding of num_words rows holds them all."""
    vocabulary = fit_vocabulary([pa.array([[f"w{n}" for n in range(50)]])], VocabularySettings(num_words=12, min_count=1))
    assert len(vocabulary) == 12
    assert vocabulary.encode(pa.array([[f"w{n}" for n in range(50)]])).values.max() == 11


def test_encoding_does_not_depend_on_the_arrow_layout() -> None:
    """Plain, dictionary-encoded, sliced and chunked token lists give the same ids."""
    rows = generated_tokens(300, seed=3)
    plain = pa.array(rows, pa.list_(pa.string()))
    encoded = pa.ListArray.from_arrays(plain.offsets, plain.values.dictionary_encode())
    vocabulary = fit_vocabulary([encoded.slice(0, 200), encoded.slice(200)], VocabularySettings())
    assert vocabulary == fit_vocabulary([plain], VocabularySettings())
    expected = lists(vocabulary.encode(plain))
    for layout in (encoded, pa.chunked_array([plain.slice(0, 7), encoded.cast(plain.type).slice(7)])):
        assert lists(vocabulary.encode(layout)) == expected
    assert lists(vocabulary.encode(encoded.slice(100, 50))) == expected[100:150]


def test_a_vocabulary_survives_json() -> None:
    """What from_json reads is what to_json wrote."""
    vocabulary = Vocabulary(("good", "naïve", "!"), "drop")
    assert Vocabulary.from_json(vocabulary.to_json()) == vocabulary


def test_known_words_are_counted_per_row() -> None:
    """Unknown words do not count, whether they have an id or not; a row without tokens counts 0."""
    rows = pa.array([["good", "gnu", "gnu"], [], ["film", "good"]])
    for unknown in ("oov", "drop"):
        vocabulary = Vocabulary(("good", "film"), unknown)  # type: ignore[arg-type]
        assert vocabulary.num_known(vocabulary.encode(rows)).tolist() == [1, 0, 2]


def test_rows_without_frequent_words_are_refused() -> None:
    """An empty vocabulary is an error that names the setting to lower."""
    with pytest.raises(DataError, match="No word occurs 2 times in the training rows.*vocabulary.min_count"):
        fit_vocabulary([pa.array([["once"]])], VocabularySettings())
