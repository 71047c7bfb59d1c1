"""Vectors of words and pairs in a byte an entry: scoring reads a quarter of the memory for them, and a bundle is a third of the size.

Entries are whole multiples of a step that each column of both tables has, at most 63 of them either way: the vector of a word and that of
a pair then add up within a byte. The step goes into the weights that read the column, so that no entry is ever multiplied with it.

Source: uniform symmetric quantisation of weights after training; Krishnamoorthi (2018), "Quantizing deep convolutional networks for
efficient inference".
"""

import numpy as np

WORD_VECTORS, PAIR_VECTORS = "word_vectors/embeddings", "pair_vectors/embeddings"  # their names among the weights
STEPS = "vector_steps"
MOST_STEPS = 63


def quantise_vectors(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a network's weights with its vectors in steps, int8, and the steps, float32 (size,); others as they are.

    An entry moves by half a step at most: a 126th of the largest one of its column. What was in steps before stays what it was.
    """
    tables = {name: weights[name] for name in (WORD_VECTORS, PAIR_VECTORS) if name in weights}
    if not tables:
        return weights
    largest = np.max([np.abs(table).max(axis=0) for table in tables.values()], axis=0)
    steps = np.where(largest > np.finfo(np.float32).tiny * MOST_STEPS, largest / MOST_STEPS, 1).astype(np.float32)
    return {**weights, **{name: np.rint(table / steps).astype(np.int8) for name, table in tables.items()}, STEPS: steps}


def dequantise_vectors(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the weights as the network has them: vectors float32, no steps."""
    if STEPS not in weights:
        return weights
    whole = {name: weights[name] * weights[STEPS] for name in (WORD_VECTORS, PAIR_VECTORS) if name in weights}
    return {name: value for name, value in {**weights, **whole}.items() if name != STEPS}
