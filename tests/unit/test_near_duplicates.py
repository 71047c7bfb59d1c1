import random

import numpy as np
import pyarrow as pa
import pytest
from planted import change_word, plain_jaccard, plain_set, plant

from tasks.reviews.near_duplicates import (
    NO_ROW,
    HeldOutReviews,
    NearDuplicateSettings,
    ShingleSets,
    SortedBands,
    candidate_pairs,
    jaccard,
    most_similar,
    shingle_sets,
    sketch_texts,
)
from tasks.reviews.sample import SampleSettings, generate_reviews
from tasks.reviews.text import normalise_text

SETTINGS = NearDuplicateSettings()
HOSTILE_TEXTS = pa.array(["", "one", "two two two two", "ένα δύο τρία", "the end the end the end the", "x" * 3000 + " y z", "", "a b c d"])


def _sample(rows: int, seed: int = 7) -> list[str]:
    """Return generated reviews, none of which was repeated on purpose."""
    batches = generate_reviews(SampleSettings(rows=rows, seed=seed, duplicate_share=0))
    return [review for batch in batches for review in batch.columns["review"].to_pylist()]


def test_planted_near_duplicates_are_found_and_no_others() -> None:
    """Of 500 edited, truncated and re-tagged reviews at least 95 % are found, each as its original; of 1,500 others none."""
    held_out, others = _sample(2000), _sample(1500, seed=8)
    originals = [review for review in held_out if len(review.split()) > 20][:500]
    draw = random.Random(1)
    planted = [plant(review, draw) for review in originals]
    similarity = [plain_jaccard(*pair) for pair in zip(originals, planted, strict=True)]
    assert len(planted) == 500 and min(similarity) >= 0.8 and np.median(similarity) < 0.85
    assert len({len(plain_set(review)) for review in planted}) > 50 and not set(planted) & set(originals)

    index = HeldOutReviews.of([pa.array(held_out[:700]), pa.array(held_out[700:])], SETTINGS)
    found = index.repeated_by(pa.array(planted + others))
    assert np.mean([place != NO_ROW and held_out[place] == own for place, own in zip(found[:500], originals, strict=True)]) >= 0.95
    claimed = [(review, held_out[place]) for review, place in zip(planted + others, found, strict=True) if place != NO_ROW]
    assert min(plain_jaccard(*pair) for pair in claimed) >= 0.8
    assert np.all(found[500:] == NO_ROW)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_shingle_sets_are_those_of_plain_python(length: int) -> None:
    """Each text has as many distinct shingles as Python's sets count, and pairs are as similar as those say."""
    how = NearDuplicateSettings(shingle_length=length)
    texts = pa.concat_arrays([HOSTILE_TEXTS, normalise_text(pa.array(_sample(60)))])
    sets = shingle_sets(texts, how)
    plain = [plain_set(text, length) for text in texts.to_pylist()]
    assert sets.sizes.tolist() == [len(shingles) for shingles in plain]
    rows, others = (place.ravel() for place in np.meshgrid(np.arange(len(texts)), np.arange(len(texts))))
    expected = [len(plain[a] & plain[b]) / (len(plain[a] | plain[b]) or 1) for a, b in zip(rows, others, strict=True)]
    assert jaccard(sets, rows, sets, others) == pytest.approx(expected)


def test_a_slice_reads_like_its_own_rows() -> None:
    """An array that starts within its buffers has the shingles and sketches of its rows."""
    whole, part = HOSTILE_TEXTS, HOSTILE_TEXTS.slice(2, 5)
    sets, own = shingle_sets(whole, SETTINGS).take(np.arange(2, 7)), shingle_sets(part, SETTINGS)
    assert own.values.tolist() == sets.values.tolist() and own.offsets.tolist() == sets.offsets.tolist()
    assert sketch_texts(part, SETTINGS).tolist() == sketch_texts(whole, SETTINGS)[2:7].tolist()
    assert sketch_texts(part.slice(0, 0), SETTINGS).shape == (0, 20) and len(shingle_sets(part.slice(0, 0), SETTINGS)) == 0


def test_the_order_of_words_counts() -> None:
    """The same words in another order are another text."""
    sets = shingle_sets(pa.array(["not good but bad", "bad but not good", "not good but bad"]), SETTINGS)
    assert jaccard(sets, np.array([0, 0]), sets, np.array([1, 2])).tolist() == [0.2, 1.0]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_find_pairs_at_the_threshold(threshold: float) -> None:
    """A pair exactly at the threshold becomes a candidate in 999 of 1,000 cases; with longer bands it would not."""
    how = NearDuplicateSettings(threshold=threshold)

    def found(rows: int) -> float:
        return 1 - (1 - threshold**rows) ** (how.num_permutations // rows)

    assert found(how.rows_per_band) >= 0.999
    assert how.rows_per_band == how.num_permutations or found(how.rows_per_band + 1) < 0.999


def test_sketches_agree_as_often_as_theory_says() -> None:
    """Bands of texts with a Jaccard similarity of 0.8 agree in 0.8 to the power of their length of all cases."""
    draw = random.Random(3)
    pairs = []
    for _ in range(400):
        words = [f"w{draw.randrange(10**6)}" for _ in range(90)]
        pairs.append((" ".join(words), " ".join([*words[:-10], *(f"v{draw.randrange(10**6)}" for _ in range(10))])))
    how = NearDuplicateSettings(shingle_length=1)
    first, second = (sketch_texts(pa.array(texts), how) for texts in zip(*pairs, strict=True))
    assert first.shape == (400, how.num_permutations // how.rows_per_band)
    assert np.mean(first == second) == pytest.approx(0.8**how.rows_per_band, abs=0.03)


def test_a_crowd_hides_nobody() -> None:
    """Among 1,500 reviews written to one pattern the copy of one is found, and not every pair is compared."""
    draw = random.Random(5)
    pattern = "my order {} came on time on {} and the parts were as described in your letter so thank you once more yours {}".format
    crowd = [pattern(*(f"x{draw.randrange(10**6)}" for _ in range(3))) for _ in range(1500)]
    text = normalise_text(pa.array(crowd))
    sketches = sketch_texts(text, SETTINGS)
    rows, others = candidate_pairs(sketches, SortedBands.of(sketches))
    assert 1500 <= len(rows) <= 16 * 20 * 1500
    assert np.all(np.isin(np.arange(1500) * 1501, rows * 1500 + others))
    copies = [" ".join(change_word(review.split(), draw)) for review in crowd[:200]]
    found = HeldOutReviews.of([pa.array(crowd)], SETTINGS).repeated_by(pa.array(copies))
    assert np.mean(found == np.arange(200)) >= 0.95


def test_the_most_similar_wins() -> None:
    """Of several that are near enough the nearest is named, the first of equals; what is below the threshold is nobody's copy."""
    rows, others = np.array([0, 0, 0, 2, 3, 3]), np.array([4, 5, 6, 1, 9, 8])
    found, best = most_similar(rows, others, np.array([0.8, 0.9, 0.85, 0.79, 1.0, 1.0]), 4, 0.8)
    assert found.tolist() == [5, NO_ROW, NO_ROW, 8]
    assert best.tolist() == [0.9, 0, 0, 1.0]


LONG = "the plot was thin and the cast was tired but the music by the river made up for nearly all of it in the end"


def test_what_repeats_a_held_out_review() -> None:
    """Repetitions in other dress, of symbols alone and of one word, and near ones are named; what is empty or new is not."""
    held_out = ["Superb!", ":(", f"{LONG} I think", "An entirely different review of quite another film."]
    reviews = ["SUPERB", " :( ", ":)", LONG.upper().replace(" ", " <br />"), f"{LONG} I think.", "", None, "A new one"]
    for batches in ([pa.array(held_out)], [pa.array([text]) for text in held_out]):
        found = HeldOutReviews.of(batches, SETTINGS).repeated_by(pa.array(reviews))
        assert found.tolist() == [0, 1, NO_ROW, 2, 2, NO_ROW, NO_ROW, NO_ROW]


def test_without_settings_only_repetitions_count() -> None:
    """Switched off, what is nearly the same passes."""
    found = HeldOutReviews.of([pa.array(["Superb!", LONG])], None).repeated_by(pa.array(["superb", f"{LONG} I think", LONG.title()]))
    assert found.tolist() == [0, NO_ROW, 1]


@pytest.mark.parametrize("settings", [None, SETTINGS])
def test_nothing_held_out_repeats_nothing(settings: NearDuplicateSettings | None) -> None:
    """Without held-out reviews, or without others, nothing is named."""
    for batches in ([], [pa.array([], pa.string())]):
        assert HeldOutReviews.of(batches, settings).repeated_by(pa.array(["", "Superb!"])).tolist() == [NO_ROW] * 2
    assert HeldOutReviews.of([pa.array(["Superb!"])], settings).repeated_by(pa.array([], pa.string())).tolist() == []


def test_sets_are_joined_in_order() -> None:
    """Joined sets are those of the joined texts."""
    joined = ShingleSets.concatenate([shingle_sets(HOSTILE_TEXTS.slice(0, 3), SETTINGS), shingle_sets(HOSTILE_TEXTS.slice(3), SETTINGS)])
    whole = shingle_sets(HOSTILE_TEXTS, SETTINGS)
    assert joined.values.tolist() == whole.values.tolist() and joined.offsets.tolist() == whole.offsets.tolist()
