"""Adam on the rows that a batch reads, against sums written out."""

import numpy as np
import pytest

from tasks.model.adam import adam, rows_of_batch, sum_by_row
from tasks.model.runtime import import_tensorflow

tf = import_tensorflow()


@pytest.mark.parametrize("largest", [3, 70_000, 1 << 20])
@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (50, 8)])
def test_rows_of_a_batch_are_those_of_numpys_unique(largest: int, shape: tuple[int, int]) -> None:
    """Ids of more than 16 bits too, and of batches without a token."""
    ids = np.random.default_rng(0).integers(0, largest, shape).astype(np.int32)
    rows, place = rows_of_batch(ids)

    expected = np.unique(ids, return_inverse=True)
    assert rows.tolist() == expected[0].tolist()
    assert place.tolist() == expected[1].reshape(-1).tolist()
    assert rows.dtype == place.dtype == np.int32


def test_sums_by_row_are_those_of_their_places() -> None:
    """In float32, a row without a place is zeros."""
    draw = np.random.default_rng(0)
    values, place = draw.normal(size=(40, 3)).astype(np.float32), draw.integers(0, 9, 40).astype(np.int32)
    expected = np.zeros((10, 3))
    np.add.at(expected, place, values)

    summed = sum_by_row(values, place, 10)
    assert summed.dtype == np.float32
    np.testing.assert_allclose(summed, expected, atol=1e-5)
    assert not summed[9].any()


def test_a_step_is_adams_by_clipped_gradients_and_leaves_other_rows_alone() -> None:
    """Long gradients count as long as they may be, short ones as they are; a row that stands twice in a batch moves by both."""
    draw = np.random.default_rng(0)
    tables = [tf.Variable(draw.normal(size=(6, 2)).astype(np.float32)) for _ in range(2)]
    dense = tf.Variable(draw.normal(size=3).astype(np.float32))
    variables = [*tables, dense]
    expected = [variable.numpy().astype(np.float64) for variable in variables]
    moments = [(np.zeros_like(value), np.zeros_like(value)) for value in expected]
    move = tf.function(adam(tables, [dense], 0.5))

    for count, (ids, size) in enumerate((([[4, 1, 4], [0, 0, 0]], 10), ([[1, 2, 4], [3, 0, 5]], 0.1)), 1):
        slope, of_dense = (size * draw.normal(size=shape).astype(np.float32) for shape in ((3, 2), 3))
        read = [tuple(map(tf.constant, rows_of_batch(np.array(of_table, np.int32)))) for of_table in ids]
        move(tf.constant(slope), read, [tf.constant(of_dense)], tf.constant(0.1), tf.constant(float(count)))

        length = np.sqrt(2 * (slope**2).sum() + (of_dense**2).sum())
        assert (length > 0.5) == (size > 1)
        gradients = [np.zeros((6, 2)), np.zeros((6, 2)), of_dense]
        for gradient, of_table in zip(gradients, ids, strict=False):
            np.add.at(gradient, of_table, slope)
        step = 0.1 * np.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        moved = [*(np.unique(of_table) for of_table in ids), np.arange(3)]
        for value, gradient, (mean, square), rows in zip(expected, gradients, moments, moved, strict=True):
            clipped = gradient[rows] * min(0.5 / length, 1)
            mean[rows] = 0.9 * mean[rows] + 0.1 * clipped
            square[rows] = 0.999 * square[rows] + 0.001 * clipped**2
            value[rows] -= step * mean[rows] / (np.sqrt(square[rows]) + 1e-7)
        for variable, value in zip(variables, expected, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, atol=5e-6)


@pytest.mark.parametrize("size", [1e30, np.inf, np.nan])
def test_gradients_without_end_leave_no_number(size: float) -> None:
    """A norm that is not finite makes all weights none, so that training ends instead of going on with steps of zero."""
    table, dense = tf.Variable(tf.ones((2, 1))), tf.Variable(tf.ones(2))
    read = [rows_of_batch(np.array([1], np.int32))]

    adam([table], [dense], 1.0)(tf.constant([[size]], tf.float32), read, [tf.ones(2)], np.float32(0.1), np.float32(1))

    assert np.isnan(dense.numpy()).all() and np.isnan(table.numpy()[1]).all() and table.numpy()[0] == 1
