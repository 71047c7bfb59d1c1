"""The forward pass in NumPy against the Keras networks, which training uses."""

import subprocess
import sys

import numpy as np
import pytest
from test_lstm import TINY, TINY_TUTORIAL, random_rows, random_weights, token_ids

from tasks.model.lstm import OWNERS, LstmScorer, LstmSettings, cut_into_chunks, network_weights, weight_shapes
from tasks.model.quantisation import STEPS


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kernel_size": 4, "stride": 4},
        {"kernel_size": 5, "stride": 2, "evidence_size": 0},
        {"kernel_size": 7, "stride": 1, "pair_buckets": 0},
        {"kernel_size": 9, "stride": 4, "chunk_length": 4, "units": 3},
        {"network": "tutorial", "num_words": 40},
    ],
    ids=["usual", "side by side", "no evidence", "no pairs", "kernel beyond the chunk", "tutorial"],
)
def test_scores_are_those_of_the_keras_network(changes: dict[str, object]) -> None:
    """Whatever kernel, stride and inputs, and for reviews of any length: the same log-odds, to the precision of 32 bits."""
    settings = TINY.model_copy(update=changes)
    ids = token_ids([*random_rows(60, seed=2), [], [3] * 200])
    evidence = np.random.default_rng(3).normal(0, 1, (len(ids.values), 3)).astype(np.float16)
    scorer = LstmScorer(random_weights(settings), settings)
    if settings.network == "default":
        assert cut_into_chunks(ids, settings, owners=scorer.owners).pairs.any() == (settings.pair_buckets > 0)
    told = LstmScorer.of_network(scorer.network, settings, scorer.owners).logits(ids, evidence)
    np.testing.assert_allclose(scorer.logits(ids, evidence), told, atol=2e-5)
    np.testing.assert_allclose(scorer.logits(ids), LstmScorer.of_network(scorer.network, settings, scorer.owners).logits(ids), atol=2e-5)


@pytest.mark.parametrize("kernel_size", [TINY.stride, TINY.stride + 1, TINY.kernel_size])
def test_reviews_without_words_score_alone_as_among_others(kernel_size: int) -> None:
    """A call may hold nothing but empty reviews, whatever the kernel; none at all is no failure either."""
    settings = TINY.model_copy(update={"kernel_size": kernel_size})
    scorer = LstmScorer(random_weights(settings), settings)
    among = scorer.logits(token_ids([[5, 6, 7], [], []]))[1:]
    np.testing.assert_allclose(scorer.logits(token_ids([[], []])), among, atol=2e-6)
    assert scorer.logits(token_ids([])).shape == (0,)


@pytest.mark.parametrize("settings", [TINY, TINY.model_copy(update={"pair_buckets": 0, "evidence_size": 0}), TINY_TUTORIAL])
def test_weights_have_the_names_and_shapes_of_the_network(settings: LstmSettings) -> None:
    """What a bundle must hold is known without Keras, and is what Keras says."""
    made = network_weights(LstmScorer(random_weights(settings), settings).network)
    assert {name: shape for name, shape in weight_shapes(settings).items() if name not in {OWNERS, STEPS}} == {
        name: value.shape for name, value in made.items()
    }
    assert (OWNERS in weight_shapes(settings)) == ("pair_vectors/embeddings" in made)


def test_scoring_needs_no_tensorflow() -> None:
    """A model is rebuilt and scores in a process that has not imported TensorFlow, Keras or pandas: they take seconds."""
    program = """
import sys
import numpy as np
from tasks.model.lstm import LstmScorer, LstmSettings, weight_shapes
from tasks.model.vocabulary import TokenIds
import tasks.model.bundle, tasks.score, tasks.tallies
for settings in (LstmSettings(), LstmSettings.tutorial()):
    weights = {name: np.zeros(shape, np.float32) for name, shape in weight_shapes(settings).items()}
    assert LstmScorer(weights, settings).logits(TokenIds(np.array([5, 6], np.int32), np.array([0, 2]))).tolist() == [0.0]
print(sorted({"tensorflow", "keras", "pandas", "sklearn", "nltk", "matplotlib"} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
