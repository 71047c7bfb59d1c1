"""Cross-validation: which rows a fold learns from, is guided by, and holds out."""

from dataclasses import dataclass

import numpy as np

_UPPER = np.uint64(32)


@dataclass(frozen=True)
class Fold:
    """Fold `number` (from 1) of `folds`."""

    number: int
    folds: int


@dataclass(frozen=True)
class FoldRows:
    """Which rows a fold uses for what; bool, shape (num_rows,) each. Test rows are in none."""

    training: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray


def choose_rows(text_hash: np.ndarray, side: np.ndarray, fold: Fold) -> FoldRows:
    """Divide the rows that are not test rows: a fold is held out, a share of the others guides the training.

    Rows of the same text stay together. The folds are the same under every preset and seed.

    Args:
        text_hash: uint64, shape (num_rows,), of the normalised texts.
        side: shape (num_rows,): train, validation or test, as split decided.
        fold: Which one is held out.
    """
    usable = side != "test"
    held_out = usable & (text_hash % np.uint64(fold.folds) == fold.number - 1)
    share = np.mean(side[usable] == "validation")
    guiding = (text_hash >> _UPPER) < share * 2.0**32  # other bits than those that decide the fold
    return FoldRows(usable & ~held_out & ~guiding, usable & ~held_out & guiding, held_out)
