"""How much each token moves the LSTM, for all tokens in one pass: the gradient of the log-odds times what the token brings.

Source: Simonyan et al. (2013), "Deep inside convolutional networks"; Shrikumar et al. (2016) for the product with the input.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tasks.model.lstm import LstmScorer, cut_into_chunks, pad_before
from tasks.model.pairs import NO_PAIR
from tasks.model.runtime import import_tensorflow
from tasks.model.vocabulary import PADDING, UNKNOWN, TokenIds

TokenMoves = Callable[[TokenIds, np.ndarray | None], np.ndarray]


def token_moves(scorer: LstmScorer) -> TokenMoves:
    """Compile what tells how much each token moves a network's log-odds, to first order.

    A token brings its vector less that of the unknown word (of padding, for the tutorial network, which knows no unknown word), the
    vectors of the pairs that it stands in less that of pairs without one of their own, and the evidence of the n-grams that it stands
    in. A pair or an n-gram counts in full for each of its tokens: it goes with any of them.

    Returns:
        Of ids and evidence, as `LstmScorer.logits` takes them, float64, shape (num_tokens,). Tokens that the network does not read get 0.
    """
    call = (_of_tutorial if scorer.settings.network == "tutorial" else _of_default)(scorer)

    def moves(ids: TokenIds, evidence: np.ndarray | None) -> np.ndarray:
        found = np.zeros(len(ids.values))
        for start, stop in scorer.groups(ids):
            places = slice(ids.offsets[start], ids.offsets[stop])
            found[places] = call(ids.between(start, stop), None if evidence is None else evidence[places])
        return found

    return moves


def _of_tutorial(scorer: LstmScorer) -> TokenMoves:
    tf = import_tensorflow()
    network, length = scorer.network, scorer.settings.sequence_length
    vectors, lstm, output = (network.get_layer(name) for name in ("embedding", "lstm", "output"))

    @tf.function(input_signature=[tf.TensorSpec((None, length), tf.int32)])
    def call(words: Any) -> Any:
        brought = vectors(words)
        with tf.GradientTape() as tape:
            tape.watch(brought)
            log_odds = tf.matmul(lstm(brought), output.kernel) + output.bias  # before the sigmoid, which flattens out
        gradient = tape.gradient(log_odds, brought)
        return tf.reduce_sum(gradient * (brought - vectors(tf.zeros_like(words))), axis=2)

    def moves(ids: TokenIds, evidence: np.ndarray | None) -> np.ndarray:
        words = pad_before(ids, length)
        found = np.zeros(len(ids.values))
        from_the_end = np.repeat(ids.offsets[1:], ids.lengths) - np.arange(len(ids.values))
        found[from_the_end <= length] = call(words).numpy()[words != PADDING]
        return found

    return moves


def _of_default(scorer: LstmScorer) -> TokenMoves:
    tf = import_tensorflow()
    import keras

    network, settings = scorer.network, scorer.settings
    word_vectors = network.get_layer("word_vectors")
    pair_vectors = network.get_layer("pair_vectors") if settings.pair_buckets else None
    words_given, _, *others_given = network.inputs
    rest = keras.Model([network.get_layer("embedding_dropout").input, words_given, *others_given], network.output)
    ids_given = tf.TensorSpec((None, settings.chunk_length), tf.int32)
    evidence_given = [tf.TensorSpec((None, settings.chunk_length, settings.evidence_size), tf.float32)] if settings.evidence_size else []

    @tf.function(input_signature=[ids_given, ids_given, *evidence_given, tf.TensorSpec((None,), tf.int32), tf.TensorSpec((1,), tf.int32)])
    def call(words: Any, pairs: Any, *others: Any) -> Any:
        evidence = list(others[: len(evidence_given)])
        own, blank = word_vectors(words), word_vectors(tf.fill(tf.shape(words), UNKNOWN))
        paired = nobodys = tf.zeros_like(own)
        if pair_vectors is not None:
            paired, nobodys = pair_vectors(pairs), pair_vectors(tf.fill(tf.shape(pairs), NO_PAIR))
        brought = own + paired
        with tf.GradientTape() as tape:
            tape.watch([brought, *evidence])
            log_odds = rest([brought, words, *others], training=False)
        gradient, *of_evidence = tape.gradient(log_odds, [brought, *evidence])
        own, paired = own - blank, paired - nobodys
        of_words, of_pairs = tf.reduce_sum(gradient * own, axis=2), tf.reduce_sum(gradient * paired, axis=2)
        return of_words, of_pairs, [slope * value for slope, value in zip(of_evidence, evidence, strict=True)]

    def moves(ids: TokenIds, evidence: np.ndarray | None) -> np.ndarray:
        chunks = cut_into_chunks(ids, settings, evidence, scorer.owners)
        of_words, of_pairs, of_evidence = call(*chunks.inputs(), chunks.review, np.array([chunks.num_reviews], np.int32))
        read = chunks.words != PADDING
        moved, paired = of_words.numpy()[read].astype(np.float64), of_pairs.numpy()[read]
        moved += paired
        moved[1:] += paired[:-1]
        for lengths in of_evidence:
            for n, ending in enumerate(lengths.numpy()[read].T):  # of the (n + 1)-gram that ends at each token
                for back in range(n + 1):
                    moved[: len(moved) - back] += ending[back:]
        found = np.zeros(len(ids.values))
        found[np.arange(len(ids.values)) - np.repeat(ids.offsets[:-1], ids.lengths) < settings.sequence_length] = moved
        return found

    return moves
