import json

import numpy as np
import pyarrow as pa

from tasks.model.profile import FORMAT, LENGTH_EDGES, UNKNOWN_EDGES, Tally, profile_reviews, tally_of, tally_reviews
from tasks.reviews.language import LANGUAGES
from tasks.tallies import merge_facts

ENGLISH, GERMAN = LANGUAGES.index("English"), LANGUAGES.index("German")


def _tally(rows: slice = slice(None)) -> Tally:
    num_tokens = np.array([1, 2, 9, 0, 70_000])
    num_unknown = np.array([0, 1, 9, 0, 1])
    languages = np.array([ENGLISH, GERMAN, 0, 0, ENGLISH], np.int8)
    y_score = np.array([0.0, 0.05, 0.5, 0.5, 1.0], np.float32)
    predicted = pa.array(["negative", "negative", None, None, "positive"])
    return tally_reviews(num_tokens[rows], num_unknown[rows], languages[rows], y_score[rows], predicted[rows])


def test_reviews_are_counted_by_what_scoring_sees() -> None:
    """Each review falls into one group of each feature; one without tokens into none, one without a score into none of the scores."""
    longest = str(len(LENGTH_EDGES) - 1)
    assert _tally() == {
        "totals": {"reviews": 4, "tokens": 70_012, "unknown_tokens": 11},
        "length": {"0": 1, "1": 1, "7": 1, longest: 1},
        "unknown_words": {"0": 1, "1": 1, str(len(UNKNOWN_EDGES) - 5): 1, str(len(UNKNOWN_EDGES) - 1): 1},
        "language": {"unclear": 1, "English": 2, "German": 1},
        "score": {"0": 1, "1": 1, "19": 1},
        "predicted": {"negative": 2, "positive": 1},
    }


def test_tallies_add_up() -> None:
    """The tally of all rows is that of its stretches merged as facts are, in whatever order, through JSON; an empty one changes nothing."""
    parts = [_tally(rows) for rows in (slice(0, 2), slice(2, 3), slice(0, 0), slice(3, 5))]
    for order in (parts, parts[::-1]):
        assert merge_facts(json.loads(json.dumps({"looks": part})) for part in order) == {"looks": _tally()}


def test_the_profile_keeps_the_tally() -> None:
    """A profile gives back its tally after JSON, and says what shares it found; a profile of other groups gives none."""
    y_score = np.array([0.2, 0.9, 0.8, 0.6])
    profile = json.loads(json.dumps(profile_reviews(np.array([1, 2, 3, 4]), np.array([0, 1, 1, 0]), y_score, _tally())))
    assert tally_of(profile) == _tally()
    assert (profile["rows"], profile["positive_label_share"], profile["positive_score_share"]) == (4, 0.5, 0.75)
    assert profile["unknown_token_share"] == 11 / 70_012
    assert profile["length_quantiles"]["0.5"] == 2.5
    assert tally_of({**profile, "format": FORMAT + 1}) is None
    assert tally_of({"rows": 4}) is None
