import doctest
import hashlib
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from tasks.reviews import grammar, sample
from tasks.reviews.sample import SampleSettings, generate_reviews


def generate(**settings: float) -> pa.Table:
    """Return the sample as one table."""
    return pa.Table.from_batches(batch.columns for batch in generate_reviews(SampleSettings(**settings)))


def normalise(review: str) -> str:
    """Return the words alone, as an oracle for near duplicates."""
    return " ".join(re.sub(r"[\W_]+", " ", review.replace("<br />", " ").lower()).split())


@pytest.fixture(scope="module")
def clean() -> list[dict[str, str]]:
    """8,000 reviews with true labels and without duplicates."""
    return generate(rows=8000, label_noise=0, duplicate_share=0).to_pylist()


def test_the_docstrings_example_is_true() -> None:
    """The first review is the one that the documentation shows."""
    results = doctest.testmod(sample)
    assert results.attempted == 2
    assert results.failed == 0


def test_the_text_is_the_same_on_every_machine() -> None:
    """5,000 rows have the bytes they had when this was written; whoever changes the grammar changes this digest."""
    digest = hashlib.sha256()
    for row in generate(rows=5000).to_pylist():
        digest.update("\0".join(row.values()).encode())
    assert digest.hexdigest() == "0d2833b2f11ea6c74e868cefd10b1b7fd6df4a7b6e58a33a93c8467000ba6129"


def test_rows_are_numbered_from_one_through_all_batches() -> None:
    """Batches hold 4,096 rows; ids and source rows count on from one batch to the next."""
    batches = list(generate_reviews(SampleSettings(rows=9000)))
    assert [batch.columns.num_rows for batch in batches] == [4096, 4096, 808]
    assert [row for batch in batches for row in batch.source_row.to_pylist()] == list(range(1, 9001))
    assert batches[2].columns["review_id"].to_pylist()[0] == "sample-0008193"
    assert batches[0].columns.schema == pa.schema(dict.fromkeys(("review_id", "review", "sentiment"), "string"))
    assert not any(batch.refused for batch in batches)


def test_label_noise_turns_that_share_of_labels_and_no_word() -> None:
    """With 10 % noise the texts stay and 10 % of 8,000 labels differ, within four standard errors."""
    without, noisy = generate(rows=8000, label_noise=0), generate(rows=8000, label_noise=0.1)
    assert without["review"] == noisy["review"]
    turned = np.mean(without["sentiment"].to_numpy() != noisy["sentiment"].to_numpy())
    assert turned == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / 8000))


def test_duplicates_repeat_an_earlier_review_and_its_label(clean: list[dict[str, str]]) -> None:
    """10 % duplicates repeat, half of them with another case, tags, punctuation or spaces, and keep the true label."""
    assert len({normalise(row["review"]) for row in clean}) > 0.995 * len(clean)

    rows = generate(rows=8000, label_noise=0, duplicate_share=0.1).to_pylist()
    first: dict[str, dict[str, str]] = {}
    repeated = [(row, first[key]) for row in rows if first.setdefault(key := normalise(row["review"]), row) is not row]
    assert len(repeated) / len(rows) == pytest.approx(0.1, abs=0.02)
    assert all(row["sentiment"] == original["sentiment"] for row, original in repeated)
    assert np.mean([row["review"] == original["review"] for row, original in repeated]) == pytest.approx(0.55, abs=0.1)


def test_sentiments_are_balanced(clean: list[dict[str, str]]) -> None:
    """As many reviews are positive as negative, within four standard errors."""
    positive = np.mean([row["sentiment"] == "positive" for row in clean])
    assert positive == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(len(clean)))


def test_lengths_are_log_normal(clean: list[dict[str, str]]) -> None:
    """The median is about 70 tokens, the logarithm spreads evenly to both sides, and the tail ends near 600."""
    lengths = np.array([len(row["review"].replace("<br />", " ").split()) for row in clean])
    assert np.median(lengths) == pytest.approx(70, abs=5)
    low, middle, high = np.log(np.percentile(lengths, [10, 50, 90]))
    assert high - middle == pytest.approx(middle - low, abs=0.15)
    assert 450 < lengths.max() < 800


def test_the_language_is_varied(clean: list[dict[str, str]]) -> None:
    """1,500 distinct tokens and more; tags, misspellings, accents, numbers, denials and turns occur, none always."""
    reviews = [row["review"] for row in clean]
    assert len({token for review in reviews for token in re.findall(r"[\w']+", review.lower())}) >= 1500
    for pattern in (
        "<br /><br />",
        "definately",
        "[àéïøŁ]",
        r"\d{4}",
        r"\bnot\b",
        r"\bnever\b",
        r"\bbut\b",
        "!",
        r"\?",
        '"',
    ):
        share = np.mean([re.search(pattern, review) is not None for review in reviews])
        assert 0.0005 < share < 0.7, pattern


def test_sentences_are_well_formed(clean: list[dict[str, str]]) -> None:
    """No slot stays open, no space is doubled, articles fit their words and every review ends like a sentence."""
    for row in clean:
        wrong = re.search(r"[{}]|  | [.,;:!?]|\b[Aa] [aeio]|\b[Aa]n [^aeiou]|^[a-z]|[^.!?\")]$", row["review"])
        assert not wrong, (row["review_id"], wrong)


def test_a_review_keeps_its_subject(clean: list[dict[str, str]]) -> None:
    """Whoever buys a kettle reviews no lamp: the verdicts of one review name one subject."""
    subjects = [re.findall(r"All in all, (?:not )?an? [\w-]+ (\w+)\.|^I bought this (\w+)", row["review"]) for row in clean]
    both = [{a or b for a, b in found} for found in subjects if len(found) > 1]
    assert both
    assert all(len(found) == 1 for found in both)


def test_praise_and_blame_share_no_word() -> None:
    """Each word of praise is none of blame, in either domain, and no list repeats a word."""
    for domain in grammar.DOMAIN_WORDS:
        for kind in ("adj", "verb", "noun"):
            words = [sample._list_words(domain, f"{polarity}_{kind}") for polarity in ("praise", "blame")]
            assert max(Counter(words[0] + words[1]).values()) == 1


def test_what_follows_but_decides(clean: list[dict[str, str]]) -> None:
    """'The … may be A, but the … is B': A is of the other polarity, so B decides, in all of its reviews."""
    turns = [re.search(r"may be ([\w-]+), but the [\w ]+ is ([\w-]+)\.", row["review"]) for row in clean]
    for domain in grammar.DOMAIN_WORDS:
        praise, blame = (set(sample._list_words(domain, f"{polarity}_adj")) for polarity in ("praise", "blame"))
        found = [(turn, row) for turn, row in zip(turns, clean, strict=True) if turn and {turn[1], turn[2]} <= praise | blame]
        assert len(found) > 20
        assert all((turn[2] in praise) == (row["sentiment"] == "positive") for turn, row in found)
        assert all((turn[1] in praise) != (turn[2] in praise) for turn, _ in found)


def test_word_order_matters(clean: list[dict[str, str]]) -> None:
    """A bag of words stays below 85 %, 1- to 3-grams do better by four points, and even they stay below 96 %."""
    reviews, positive = [row["review"] for row in clean], np.array([row["sentiment"] == "positive" for row in clean])
    accuracy = {}
    for longest, strength in ((1, 1), (3, 10)):
        vectorizer = TfidfVectorizer(ngram_range=(1, longest), min_df=2, sublinear_tf=True)
        counts = vectorizer.fit_transform(reviews[:6400])
        model = LogisticRegression(C=strength, solver="liblinear").fit(counts, positive[:6400])
        accuracy[longest] = model.score(vectorizer.transform(reviews[6400:]), positive[6400:])
    assert 0.7 < accuracy[1] < 0.85
    assert accuracy[1] + 0.04 < accuracy[3] < 0.96


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"seed": -1}, {"seed": 2**32}, {"label_noise": 0.6}, {"row": 5}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    """A setting out of range or misspelt is named in the error."""
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SampleSettings(**wrong)
