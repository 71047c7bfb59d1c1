"""Adam with clipped gradients, which moves of tables of vectors only the rows that a batch reads.

Source: Kingma & Ba (2015), "Adam"; Pascanu et al. (2013), "On the difficulty of training recurrent neural networks", for clipping.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tasks.model.runtime import import_tensorflow

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7
Read = tuple[Any, Any]  # what `rows_of_batch` tells of one table
Move = Callable[[Any, Sequence[Read], Sequence[Any], Any, Any], None]


def adam(tables: Sequence[Any], others: Sequence[Any], clip_norm: float) -> Move:
    """Return what moves variables by their gradients.

    Gradients longer together than `clip_norm` are made so long; for that length each place of a row counts on its own, while the row moves
    by their sum.

    Args:
        tables: Variables of vectors, float32, shape (any, depth); a batch reads of each a vector a place, and adds these up.
        others: Variables that a batch reads whole.
        clip_norm: Largest norm of all gradients together.

    Returns:
        What takes the gradient by the sum of the vectors, float32, shape (num_places, depth); what `rows_of_batch` tells of each table;
        the gradients of the others; the learning rate; and the number of this step, from 1.
    """
    tf = import_tensorflow()
    whole_tables, whole_others = ([_with_moments(tf, variable) for variable in variables] for variables in (tables, others))
    # TensorFlow's Adam takes whole variables and no rows of them: a batch's rows are copied into these, moved, and written back.
    copies = [[tf.Variable(table[:0], shape=(None, *table.shape[1:])) for _ in range(3)] for table in tables]

    def move(slope: Any, read: Sequence[Read], gradients: Sequence[Any], rate: Any, count: Any) -> None:
        norm = tf.linalg.global_norm([slope] * len(tables) + list(gradients))
        shrink = clip_norm / tf.maximum(norm, clip_norm) + (norm - norm)  # not a number where the norm is not finite, so that training ends
        apply = partial(_apply_adam, tf, rate=rate, powers=(_BETA_1**count, _BETA_2**count))
        for whole, rows_of, (rows, place) in zip(whole_tables, copies, read, strict=True):
            for copy, variable in zip(rows_of, whole, strict=True):
                copy.assign(tf.gather(variable, rows))
            summed = tf.numpy_function(sum_by_row, [slope, place, tf.size(rows)], tf.float32)
            apply(rows_of, shrink * tf.ensure_shape(summed, rows_of[0].shape))
            for copy, variable in zip(rows_of, whole, strict=True):
                variable.scatter_update(tf.IndexedSlices(copy.read_value(), rows))
        for whole, gradient in zip(whole_others, gradients, strict=True):
            apply(whole, shrink * gradient)

    return move


def _with_moments(tf: Any, variable: Any) -> list[Any]:
    return [variable, tf.Variable(tf.zeros_like(variable)), tf.Variable(tf.zeros_like(variable))]


def _apply_adam(tf: Any, variables: Sequence[Any], gradient: Any, rate: Any, powers: tuple[Any, Any]) -> None:
    """Move a variable, its mean gradient and its mean squared one by TensorFlow's own operation, given both betas to the power of steps."""
    variable, mean, square = (each.handle for each in variables)
    tf.raw_ops.ResourceApplyAdam(
        var=variable, m=mean, v=square, beta1_power=powers[0], beta2_power=powers[1], lr=rate, beta1=_BETA_1, beta2=_BETA_2,
        epsilon=_EPSILON, grad=gradient,
    )  # fmt: skip


def rows_of_batch(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tell which rows of a table a batch reads: NumPy's `unique` with its inverse, in half of the time.

    Args:
        ids: int32, any shape, none below 0: the row that is read at each place.

    Returns:
        The rows, int32, shape (num_rows,), ascending, each once; and which of them stands at each place, int32, shape (ids.size,).
    """
    flat = ids.reshape(-1)
    by_row = np.lexsort(((flat & 0xFFFF).astype(np.uint16), (flat >> 16).astype(np.uint16)))  # keys of 16 bits are sorted by radix
    in_order = flat[by_row]
    is_first = np.diff(in_order, prepend=-1) != 0
    place = np.empty(len(flat), np.int32)
    place[by_row] = np.cumsum(is_first, dtype=np.int32) - 1
    return in_order[is_first], place


def sum_by_row(values: np.ndarray, place: np.ndarray, num_rows: int) -> np.ndarray:
    """Sum values that belong to the same row: a product with a sparse matrix, a third of what TensorFlow's own sums by segment take.

    Args:
        values: float32, shape (num_places, depth).
        place: int32, shape (num_places,): the row of each, from 0.
        num_rows: Rows in all.

    Returns:
        float32, shape (num_rows, depth).
    """
    from scipy.sparse import csc_array

    ends = np.arange(len(place) + 1, dtype=np.int32)
    return csc_array((np.ones(len(place), np.float32), place, ends), shape=(int(num_rows), len(place))) @ values
