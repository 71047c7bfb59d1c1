from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from tasks.reviews.text import (
    CleanSettings,
    TokenizeSettings,
    clean_reviews,
    clean_text,
    clean_tutorial_text,
    text_hashes,
    tokenize_reviews,
    tokenize_text,
    tokenize_tutorial_text,
)

STOP_WORDS = ("i", "don", "t", "the", "it", "not")


@pytest.mark.parametrize(
    ("review", "text"),
    [
        ("It's NOT good.", "it's not good ."),
        ("I don’t, can't and WON'T!", "i don't , can't and won't !"),
        ("'Tis the actors' \"best\" rock'n'roll", "tis the actors \" best \" rock'n'roll"),
        ("Really?! No!!", "really ? ! no ! !"),
        ("A film.<br /><br />Good", "a film . good"),
        ("so...<BR/>(<i>very</i>)<p class='x'>bad", "so . . . ( very ) bad"),
        ("well-made; slow: (7,5)", "well - made ; slow : ( 7 , 5 )"),
        ("2 < 3, 5 > 4 <3 <>", "2 3 , 5 4 3"),
        ("7/10 in 2019", "7 10 in 2019"),
        ("Café NAÏVE Ünal İstanbul", "café naïve ünal istanbul"),
        ("a'_b _'c snake_case", "a b c snake case"),
        ("so\tmany\r\nspaces\u00a0here\u2003now", "so many spaces here now"),
        ("It isn&#39;t bad &amp; I don&rsquo;t mind &lt;br&gt;caf&eacute;s&nbsp;&#128077;", "it isn't bad i don't mind cafés"),
        ("&amp;#39; &#039; &#0146;s &#xE9;&#X00e9; AT&T; &nonsense;", "39 ; s éé at t ; nonsense ;"),
        ("☃ 🎬 — … *", ""),
        ("", ""),
    ],
)
def test_default_cleaning(review: str, text: str) -> None:
    """Negations, contractions, digits and punctuation stay; tags, wherever they stand, other symbols and case go."""
    assert clean_text(pa.array([review])).to_pylist() == [text]


@pytest.mark.parametrize(
    ("review", "text"),
    [
        ("It's NOT good, is it?!", "it's not good is it"),
        ('well-made (7,5)<br />so...\'Tis "best"', "well made 7 5 so tis best"),
        ("?!...", ""),
    ],
)
def test_punctuation_can_be_left_out(review: str, text: str) -> None:
    """Without punctuation the same words stand there, and nothing but words and numbers."""
    assert clean_reviews(pa.array([review]), CleanSettings(punctuation=False)).to_pylist() == [text]


@pytest.mark.parametrize(
    ("review", "text"),
    [
        ("I don't like it: NOT the 2nd film!", "like nd film"),
        ("A film.<br /><br />Good", "a film br br good"),
        ("snake_case Café ½ x²", "snake_case café ½ x²"),
        ("ΟΔΟΣ ΟΔΟΣ", "οδος οδος"),
        ("İt ﬁlm", "i\u0307t ﬁlm"),
        ("The NOT", ""),
        ("", ""),
    ],
)
def test_tutorial_cleaning(review: str, text: str) -> None:
    """The article's rules: symbols and decimal digits to spaces, lower case as Python has it, stop words out, tags torn."""
    assert clean_tutorial_text(pa.array([review]), STOP_WORDS).to_pylist() == [text]


def test_the_settings_choose_the_rules() -> None:
    """The same review reads otherwise by the default and the tutorial rules, in cleaning and in tokenizing."""
    review = pa.array(["It's the best_film!"])
    assert clean_reviews(review, CleanSettings()).to_pylist() == ["it's the best film !"]
    tutorial = clean_reviews(review, CleanSettings(rules="tutorial", stop_words=STOP_WORDS))
    assert tutorial.to_pylist() == ["s best_film"]
    assert tokenize_reviews(tutorial, TokenizeSettings()).to_pylist() == [["s", "best_film"]]
    assert tokenize_reviews(tutorial, TokenizeSettings(rules="tutorial")).to_pylist() == [["s", "best", "film"]]


@pytest.mark.parametrize("tokenize", [tokenize_text, tokenize_tutorial_text])
def test_no_token_is_empty(tokenize: Callable[[pa.Array], pa.Array]) -> None:
    """Empty texts give empty lists, and spaces at either end or in a row give no token."""
    assert tokenize(pa.array(["", "not bad", " two  spaces ", ""])).to_pylist() == [[], ["not", "bad"], ["two", "spaces"], []]
    assert tokenize_tutorial_text(pa.array(["_a__b_", "_"])).to_pylist() == [["a", "b"], []]


def _clean_by_tutorial(reviews: pa.Array) -> pa.Array:
    return clean_tutorial_text(reviews, STOP_WORDS)


CLEANERS = [clean_text, _clean_by_tutorial]
REVIEWS = pa.array(["cut off", "Not bad!", None, "", "_ΣΑΣ_ <br/>ok", "the film  ", " the film", "cut off too"])


@pytest.mark.parametrize("function", [*CLEANERS, tokenize_text, tokenize_tutorial_text, text_hashes])
def test_a_slice_reads_like_its_own_rows(function: Callable[[pa.Array], pa.Array | np.ndarray]) -> None:
    """An array that starts within its buffers gives what the same rows give as an array of their own."""
    reviews = REVIEWS if function not in (tokenize_text, tokenize_tutorial_text) else REVIEWS.fill_null("")
    sliced = reviews.slice(1, 6)
    assert function(sliced).tolist() == function(pa.array(sliced.to_pylist())).tolist() == function(reviews).tolist()[1:7]


@pytest.mark.parametrize("function", [*CLEANERS, tokenize_text, text_hashes])
def test_null_counts_as_empty(function: Callable[[pa.Array], pa.Array | np.ndarray]) -> None:
    """A missing review is an empty one, alone, among others, and in an array of nothing else."""
    assert function(pa.array([None, "good"])).tolist() == function(pa.array(["", "good"])).tolist()
    assert function(pa.nulls(2, pa.string())).tolist() == function(pa.array(["", ""])).tolist()
    assert len(function(pa.array([], pa.string()))) == 0


@pytest.mark.parametrize("function", [*CLEANERS, tokenize_text, text_hashes])
@pytest.mark.parametrize("type", [pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_any_kind_of_string_will_do(function: Callable[[pa.Array], pa.Array | np.ndarray], type: pa.DataType) -> None:
    """Parquet may hold large or dictionary-encoded strings; they read like plain ones."""
    assert function(REVIEWS.cast(type)).tolist() == function(REVIEWS).tolist()


def test_a_hash_sees_only_words() -> None:
    """Case, tags, punctuation and spaces do not count; words, their order and their number do."""
    same = [
        "Great film, 10/10!<br />See it.",
        " great FILM 10 10 see it",
        "<p>Great... film</p>10-10(see)it",
        "great_film\n10\t10 see it?!",
    ]
    hashes = text_hashes(pa.array(same))
    assert hashes.dtype == np.uint64 and len(set(hashes.tolist())) == 1
    other = ["great film 10 10 see", "film great 10 10 see it", "great film 1010 see it", "great film 10 10 see it it", ""]
    assert len({*text_hashes(pa.array(other)).tolist(), *hashes.tolist()}) == len(other) + 1


def test_the_hash_is_a_stored_contract() -> None:
    """Bundles keep hashes and splits stand on them: BLAKE2b, 8 bytes, little-endian, of the normalised text, for ever."""
    assert text_hashes(pa.array(["Great film, 10/10!<br />See it.", ""])).tolist() == [1186463730637083687, 13020603013274838756]
