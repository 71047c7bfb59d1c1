import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks.reviews.readers import ReaderSettings, read_batches
from tasks.reviews.sample import SampleSettings, generate_reviews
from tasks.reviews.stop_words import ENGLISH_STOP_WORDS
from tasks.reviews.text import (
    MARKS,
    NOT_TOKENS,
    NOT_WORDS,
    TAG,
    CleanSettings,
    TokenizeSettings,
    clean_reviews,
    clean_text,
    clean_tutorial_text,
    text_hashes,
    tokenize_reviews,
    tokenize_text,
    tokenize_tutorial_text,
    tokens_of,
)

QUICK = settings(max_examples=50, deadline=None)
PLANE = [chr(code) for code in range(0x10000) if not 0xD800 <= code < 0xE000]

# What cleaning treats specially, so that chance puts it side by side.
TRICKY = st.sampled_from([*"aZ 'é’_<>/!?.8-\n\u00a0\u0301\u0345İıßſΣςK½²٣ǅ", "<br />", "<i", " not "])
TEXTS = st.lists(st.one_of(st.text(max_size=40), st.lists(TRICKY, max_size=20).map("".join)), max_size=8)


def _article_text(review: str, stop_words: frozenset[str]) -> str:
    """The article's `preprocess_text`, written anew."""
    text = re.sub(r"\W", " ", review)
    text = re.sub(r"\d", " ", text)
    text = text.lower()
    return " ".join([word for word in text.split() if word not in stop_words])


def _assert_equals_article(reviews: list[str], stop_words: tuple[str, ...]) -> None:
    stops = frozenset(stop_words)
    cleaned = clean_tutorial_text(pa.array(reviews, pa.string()), stop_words).to_pylist()
    assert cleaned == [_article_text(review, stops) for review in reviews]


@pytest.mark.parametrize("context", ["{0}", "Ab{0}C{0}", "ΑΣ{0} 1{0}2 not{0}", "<br />{0}'"])
def test_tutorial_cleaning_is_the_articles_on_every_character(context: str) -> None:
    """Every character of the Basic Multilingual Plane, alone and among others, comes out as the article's Python has it."""
    _assert_equals_article([context.format(character) for character in PLANE], ("not", "c", "ab"))


@QUICK
@given(TEXTS, st.lists(st.sampled_from(["a", "i", "ss", "not", "é", "z"])))
def test_tutorial_cleaning_is_the_articles_on_any_text(reviews: list[str], stop_words: list[str]) -> None:
    """Whatever is written, in whatever script, with whatever stop words."""
    _assert_equals_article(reviews, tuple(stop_words))


def _assert_follows_expressions(reviews: list[str]) -> None:
    """The default rules as the exported graph has them: one regular expression after the other, review by review."""
    text = pc.utf8_lower(pa.array(reviews, pa.string()))
    text = pc.replace_substring_regex(pc.replace_substring(pc.replace_substring(text, "’", "'"), "_", " "), TAG, " ")
    for punctuation, others in ((True, NOT_TOKENS), (False, NOT_WORDS)):
        apart = [re.sub(f"([{MARKS}])", r" \1 ", review) for review in pc.replace_substring_regex(text, others, " ").to_pylist()]
        expected = [[token for token in review.split(" ") if token] for review in apart]
        clean = CleanSettings(punctuation=punctuation)
        assert tokens_of(pa.array(reviews, pa.string()), clean, TokenizeSettings()).to_pylist() == expected


@pytest.mark.parametrize("context", ["{0}", "Ab{0}C'{0}'s", "'{0}'", "a{0}'", "'{0}b", "a<{0}>b <b{0}>."])
def test_default_tokens_are_those_of_the_expressions_on_every_character(context: str) -> None:
    """Every character of the Basic Multilingual Plane, each a review beside the next, read byte by byte as by expressions."""
    _assert_follows_expressions([context.format(character) for character in PLANE])


@QUICK
@given(TEXTS)
def test_default_tokens_are_those_of_the_expressions_on_any_text(reviews: list[str]) -> None:
    """Whatever is written, and whatever review stands before and after it."""
    _assert_follows_expressions(reviews)


@QUICK
@given(
    st.lists(
        st.lists(st.sampled_from(["<", ">", "<a", "</", "a" * 28, "é" * 29, "★" * 30, "’", "it's", " "]), max_size=9).map("".join),
        max_size=5,
    )
)
def test_default_tokens_are_those_of_the_expressions_around_long_tags(reviews: list[str]) -> None:
    """Tags of about as many characters as one may have, of one byte or more, symbols among them, and brackets that are none."""
    _assert_follows_expressions(reviews)


def test_tags_end_at_sixty_characters_after_their_first_and_with_their_review() -> None:
    """Of one to three bytes each."""
    tags = [f"a<b{character * number}>c" for character in "x ★é" for number in (59, 60, 61)]
    _assert_follows_expressions([*tags, "a<b", "c>d", "<", "b>"])
    assert tokens_of(pa.array(tags[1:3]), CleanSettings(), TokenizeSettings()).to_pylist() == [["a", "c"], ["a", "b" + "x" * 61, "c"]]


@pytest.mark.parametrize("size", [1, 7, 64])
def test_tokens_do_not_hang_on_how_many_bytes_are_split_at_once(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Reviews of all lengths, empty ones among them and at both ends, in pieces smaller than one of them."""
    reviews = pa.array(["", "it's <b>", "'", "", "x " * 40, "'a'", "b>", "é’s", ""])
    whole = tokens_of(reviews, CleanSettings(), TokenizeSettings())
    monkeypatch.setattr("tasks.reviews.text._PIECE_BYTES", size)

    assert tokens_of(reviews, CleanSettings(), TokenizeSettings()).equals(whole)


def test_tutorial_cleaning_is_the_articles_on_generated_reviews() -> None:
    """Thousands of generated reviews, NLTK's stop words."""
    for batch in generate_reviews(SampleSettings(rows=5000)):
        _assert_equals_article(batch.columns["review"].to_pylist(), ENGLISH_STOP_WORDS)


def test_tutorial_cleaning_is_the_articles_on_real_reviews(real_reviews: Path) -> None:
    """Real reviews, with their tags, accents and stray bytes."""
    batch = next(read_batches(real_reviews, "imdb", ReaderSettings()))
    _assert_equals_article(batch.columns["review"].to_pylist(), ENGLISH_STOP_WORDS)


@QUICK
@given(TEXTS)
@example(["a'_b _'c '' ''a 'b' c'<br>d"])
def test_default_cleaning_is_idempotent(reviews: list[str]) -> None:
    """Cleaned text is clean: cleaning it again changes nothing."""
    cleaned = clean_text(pa.array(reviews, pa.string()))
    assert clean_text(cleaned).to_pylist() == cleaned.to_pylist()


def test_default_cleaning_is_idempotent_on_every_character() -> None:
    """So it is for every character of the Basic Multilingual Plane, inside and beside words."""
    for context in ("{0}", "a{0}b", "A'{0}B {0}'x"):
        cleaned = clean_text(pa.array([context.format(character) for character in PLANE]))
        assert clean_text(cleaned).equals(cleaned)


@QUICK
@given(TEXTS, TEXTS)
def test_a_review_reads_the_same_among_any_others(some: list[str], others: list[str]) -> None:
    """No review's text, tokens or hash depends on its neighbours in the batch."""

    def read(reviews: list[str]) -> list[tuple[object, ...]]:
        rows = pa.array(reviews, pa.string())
        tutorial = clean_tutorial_text(rows, ("a", "not"))
        columns = (clean_text(rows), tutorial, tokenize_tutorial_text(tutorial), text_hashes(rows))
        return list(zip(*(column.tolist() for column in columns), strict=True))

    assert read(some + others) == read(some) + read(others)


@QUICK
@given(TEXTS)
def test_tokens_in_one_go_are_those_by_way_of_the_text(reviews: list[str]) -> None:
    """Whatever the rules, what training gets by cleaning and tokenizing, scoring gets at once."""
    for rules in ("default", "tutorial"):
        for clean in (CleanSettings(rules=rules), CleanSettings(rules=rules, punctuation=False, stop_words=("not", "a"))):
            column, tokenize = pa.array(reviews, pa.string()), TokenizeSettings(rules=rules)
            assert tokens_of(column, clean, tokenize).to_pylist() == tokenize_reviews(clean_reviews(column, clean), tokenize).to_pylist()


@QUICK
@given(TEXTS)
def test_tokens_are_the_words_of_the_text(reviews: list[str]) -> None:
    """Tokens joined by spaces are the text again; none is empty or holds a space."""
    cleaned = clean_text(pa.array(reviews, pa.string()))
    tokens = tokenize_text(cleaned).to_pylist()
    assert [" ".join(words) for words in tokens] == cleaned.to_pylist()
    assert all(word and not re.search(r"\s", word) for words in tokens for word in words)


@QUICK
@given(st.lists(st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True), min_size=1, max_size=8), st.data())
def test_a_hash_is_blind_to_what_stands_between_the_words(words: list[str], data: st.DataObject) -> None:
    """However the same words are cased and separated, by marks, tags or spaces, the hash is theirs."""
    gap = st.lists(st.sampled_from([*" \n.,!?'-_(\u00a0…", "<br />", "</p>", "<a href='x'>"]), min_size=1, max_size=4).map("".join)
    cased = [data.draw(st.sampled_from([word, word.upper()])) for word in words]
    written = data.draw(gap) + "".join(word + data.draw(gap) for word in cased)
    assert text_hashes(pa.array([written]))[0] == text_hashes(pa.array([" ".join(words)]))[0]
