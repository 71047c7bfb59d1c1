from pathlib import Path

import pytest

from tasks.reviews.stop_words import ENGLISH_STOP_WORDS

NLTK_LIST = Path(__file__).parents[3] / "shared/data/nltk_data/corpora/stopwords/english"


def test_the_list_is_the_one_described() -> None:
    """179 different lower-case words, and among them the negations that the default rules must keep."""
    assert len(set(ENGLISH_STOP_WORDS)) == len(ENGLISH_STOP_WORDS) == 179
    assert all(word == word.lower() for word in ENGLISH_STOP_WORDS)
    assert {"not", "no", "nor", "don't", "isn't", "won"} <= set(ENGLISH_STOP_WORDS)


@pytest.mark.skipif(not NLTK_LIST.is_file(), reason="NLTK's list is not here")
def test_the_list_is_nltks() -> None:
    """Word for word the list that the article's `stopwords.words("english")` reads."""
    assert set(NLTK_LIST.read_text(encoding="utf-8").split()) == set(ENGLISH_STOP_WORDS)
