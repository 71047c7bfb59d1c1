"""How often drift is called where there is none, and whether it is found where there is: on real reviews where they are present."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from conftest import SHARED_DATA

from tasks.model.decision import Decision, DecisionSettings, fit_decision
from tasks.model.drift import compare_tallies
from tasks.model.linear import LinearSettings, fit_linear, linear_logits
from tasks.model.profile import Tally, tally_reviews
from tasks.model.vocabulary import Vocabulary, VocabularySettings, fit_vocabulary
from tasks.reviews.language import guess_languages
from tasks.reviews.sample import SampleSettings, generate_reviews
from tasks.reviews.text import clean_text, tokenize_text

TRAINED, HELD_OUT, ALL = 4_000, 3_000, 16_000
SETTINGS = LinearSettings(hash_bits=16)
GERMAN = """Der Film hat mir sehr gut gefallen. | Die Handlung ist nicht zu verstehen. | Ich kann ihn nur jedem empfehlen.
    Das Ende war schwach und die Musik zu laut. | Wir haben uns im Kino keine Minute gelangweilt. | Es gibt bessere über den Krieg.
    Was für eine Verschwendung von Zeit und Geld! | Die Schauspieler sind großartig. | Nach einer Stunde bin ich gegangen."""
SUPPORT = """The invoice for March shows the wrong amount. | I cannot log in since the last update. | Please cancel my subscription.
    My parcel has been stuck at the depot for a week. | The router loses its connection every evening. | I was charged twice.
    Your technician did not come on Tuesday. | The battery drains within two hours. | The password reset link has expired."""


@dataclass(frozen=True)
class Seen:
    """What a model sees of reviews, a row each: enough for a tally of any choice of them."""

    num_tokens: np.ndarray
    num_unknown: np.ndarray
    languages: np.ndarray
    y_score: np.ndarray

    def tally(self, rows: np.ndarray, decision: Decision) -> Tally:
        """Return the tally of some rows."""
        score = self.y_score[rows]
        return tally_reviews(self.num_tokens[rows], self.num_unknown[rows], self.languages[rows], score, decision.classes(score))

    def followed_by(self, other: "Seen") -> "Seen":
        """Return the rows of both."""
        return Seen(*(np.concatenate(pair) for pair in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class Population:
    """A small model, the tally of its held-out rows, and many more rows of the same source."""

    vocabulary: Vocabulary
    weights: dict[str, np.ndarray]
    decision: Decision
    reference: Tally
    rows: Seen
    num_characters: np.ndarray

    def write(self, sentences: str, rows: int) -> Seen:
        """Return reviews put together from other sentences, as long as those of the population."""
        random, choices = np.random.default_rng(5), np.array([sentence.strip() for sentence in re.split(r"[|\n]", sentences)])
        texts = [" ".join(random.choice(choices, 60))[:length] for length in random.choice(self.num_characters, rows)]
        return look_at(pa.array(texts), self.vocabulary, self.weights)


def look_at(reviews: pa.Array, vocabulary: Vocabulary, weights: dict[str, np.ndarray]) -> Seen:
    """Return what a model sees of reviews."""
    tokens = tokenize_text(clean_text(reviews))
    ids = vocabulary.encode(tokens)
    num_tokens = pc.list_value_length(tokens).to_numpy()
    y_score = 1 / (1 + np.exp(-linear_logits(ids, weights, SETTINGS)))
    return Seen(num_tokens, num_tokens - vocabulary.num_known(ids), guess_languages(reviews), y_score)


@pytest.fixture(scope="module")
def population() -> Population:
    """Real reviews where they are present, else generated ones."""
    place: Path = SHARED_DATA / "imdb.csv.gz"
    if place.is_file():
        frame = pd.read_csv(place, nrows=ALL)
        reviews, sentiments = pa.array(frame["review"]), frame["sentiment"].to_numpy()
    else:
        table = pa.Table.from_batches([batch.columns for batch in generate_reviews(SampleSettings(rows=ALL, duplicate_share=0))])
        reviews, sentiments = table["review"].combine_chunks(), table["sentiment"].to_numpy()
    y = (sentiments == "positive").astype(np.int8)
    tokens = tokenize_text(clean_text(reviews[:TRAINED]))
    vocabulary = fit_vocabulary([tokens], VocabularySettings())
    weights = fit_linear(vocabulary.encode(tokens), y[:TRAINED], SETTINGS, 0).weights
    rows = look_at(reviews[TRAINED:], vocabulary, weights)
    decision = fit_decision(y[TRAINED : TRAINED + HELD_OUT], rows.y_score[:HELD_OUT], DecisionSettings())
    reference = rows.tally(np.arange(HELD_OUT), decision)
    others = Seen(*(column[HELD_OUT:] for column in vars(rows).values()))
    return Population(vocabulary, weights, decision, reference, others, pc.utf8_length(reviews).to_numpy())


def test_false_alarms_are_rare(population: Population) -> None:
    """Of 200 samples of the same source, 50 to 5,000 rows each, at most one in twenty is said to have drifted."""
    random = np.random.default_rng(3)
    alarms = []
    for rows in [50, 200, 1000, 5000] * 50:
        chosen = random.choice(len(population.rows.y_score), rows, replace=False)
        alarms.append(compare_tallies(population.reference, population.rows.tally(chosen, population.decision)).verdict == "drifted")
    assert len(alarms) == 200
    assert sum(alarms) <= 10


@pytest.mark.parametrize(("sentences", "told_by"), [(GERMAN, "language"), (SUPPORT, "score")], ids=["German", "support"])
def test_a_foreign_fifth_is_found(population: Population, sentences: str, told_by: str) -> None:
    """A fifth of another language, or of another matter in the same language and length, among 5,000 rows is found every time."""
    random = np.random.default_rng(4)
    foreign = population.write(sentences, 1000)
    mixed = population.rows.followed_by(foreign)
    for _ in range(10):
        own = random.choice(len(population.rows.y_score), 4000, replace=False)
        rows = np.concatenate([own, len(population.rows.y_score) + np.arange(1000)])
        found = compare_tallies(population.reference, mixed.tally(rows, population.decision))
        assert found.verdict == "drifted"
        assert told_by in {feature.name for feature in found.drifted}
