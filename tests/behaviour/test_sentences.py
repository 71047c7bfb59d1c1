"""What a properly trained model says of single sentences.

A model trained here on the generated sample stands in for one, for a few dozen CPU seconds. To put these tests to another, name its folder:

    SENTIMENT_BUNDLE=artifacts/models/<model_id> pytest tests/behaviour
"""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tasks.model.behaviour import FamilyResult, check_behaviour
from tasks.model.bundle import SentimentModel, load_bundle, load_core

NAMED = os.environ.get("SENTIMENT_BUNDLE")
LEARNT = {"model.epochs": 6, "model.units": 48, "seed": 1}  # the least that reads word order in the sample; of two seeds the one with room

# The least share of each family's cases that must pass. Denied reproach and contrast beat models of real reviews more often than not.
FLOORS = {"plain opinion": 0.85, "denied praise": 0.75, "names": 0.9, "places": 0.9, "casing": 1.0}
FLOORS_OF_SAMPLE = {"denied reproach": 0.6}
FLOORS_OF_REVIEWS = {"intensity": 0.7, "neutral sentence": 0.8, "HTML": 0.85}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SentimentModel:
    """The model that is named, or one trained on the sample with the quick preset and more epochs."""
    if NAMED:
        return load_bundle(Path(NAMED))
    from flows.settings import compose_settings
    from tasks.clean import clean_artifact
    from tasks.ingest import ingest_artifact
    from tasks.split import split_artifact
    from tasks.store import Store
    from tasks.tokenize import tokenize_artifact
    from tasks.train import train_artifact

    settings = compose_settings("quick", list(LEARNT.items()))
    store = Store(tmp_path_factory.mktemp("artifacts"))
    ingested = ingest_artifact(["sample"], settings.ingest, store).ref
    tokenized = tokenize_artifact(clean_artifact(ingested, settings.clean, store).ref, settings.tokenize, store).ref
    trained = train_artifact(split_artifact(tokenized, settings.split, store).ref, None, settings.train, store).ref
    return load_core(store.path(trained).parent)


@pytest.fixture(scope="module")
def families(model: SentimentModel) -> dict[str, FamilyResult]:
    """What the model does on each family."""
    return {result["family"]: result for result in check_behaviour(lambda texts: _score(model, *texts))}


def _score(model: SentimentModel, *texts: str) -> np.ndarray:
    return model.score_reviews(pa.array(texts)).p_positive


@pytest.mark.parametrize(
    ("low", "high"),
    [
        ("The film was not good.", "The film was good."),
        ("The film was not enjoyable.", "The film was enjoyable."),
        ("All in all, not a good film.", "All in all, a good film."),
        ("I did not enjoy this film.", "I enjoyed this film."),
        ("I do not recommend it.", "I recommend it."),
        ("It is not worth the money.", "It is worth the money."),
        ("I hated it.", "I loved it."),
        ("What a dreadful film.", "What a wonderful film."),
        ("The film is good.", "The film is excellent."),
        ("The cast is great, but the film is boring.", "The cast is boring, but the film is great."),
        ("For all its great acting, it is a boring film.", "For all its boring acting, it is a great film."),
    ],
)
def test_one_sentence_scores_below_another(model: SentimentModel, low: str, high: str) -> None:
    """ "Not good" below "good", reproach below praise, and the same words in an order that blames the whole below one that praises it."""
    below, above = _score(model, low, high)
    assert below < above


def test_each_family_passes_as_often_as_it_must(model: SentimentModel, families: dict[str, FamilyResult]) -> None:
    """Plain opinions, denials, names, places and casing pass as often as their floors ask."""
    sample = bool(model.settings.trained_on["sample"])
    floors = FLOORS | (FLOORS_OF_SAMPLE if sample else FLOORS_OF_REVIEWS)
    rates = {name: families[name]["pass_rate"] for name in floors}
    assert {name: rate for name, rate in rates.items() if rate < floors[name]} == {}


def test_capitals_change_nothing(model: SentimentModel) -> None:
    """A shouted review gets the very score of a quiet one."""
    quiet, shouted = _score(model, "I loved it, a great film!", "I LOVED IT, A GREAT FILM!")
    assert quiet == shouted
