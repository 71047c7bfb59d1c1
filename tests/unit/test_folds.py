import statistics

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.measured import Measured, PartScores, Spread, summarize_folds
from tasks.model.folds import Fold, choose_rows

_rng = np.random.default_rng(5)
HASHES = np.concatenate([texts := _rng.integers(0, 2**64, 4000, dtype=np.uint64), texts[:400]])  # 400 texts stand there twice
SIDES = np.where(HASHES % np.uint64(1000) < 200, "test", np.where(HASHES % np.uint64(1000) < 300, "validation", "train"))


@given(st.integers(2, 12))
def test_folds_divide_the_rows(folds: int) -> None:
    """Every row that is no test row is held out once; in a fold no row plays two parts, and no test row plays any."""
    chosen = [choose_rows(HASHES, SIDES, Fold(number, folds)) for number in range(1, folds + 1)]

    assert (np.sum([rows.held_out for rows in chosen], axis=0) == (SIDES != "test")).all()
    for rows in chosen:
        assert (rows.training.astype(int) + rows.validation + rows.held_out == (SIDES != "test")).all()


def test_folds_are_alike_and_keep_repeated_texts_together() -> None:
    """Folds are about equally large, guide by the share of rows that the split guides by, and never part two copies of a text."""
    for number in range(1, 6):
        rows = choose_rows(HASHES, SIDES, Fold(number, 5))
        assert 0.17 < rows.held_out.sum() / (SIDES != "test").sum() < 0.23
        assert 0.09 < rows.validation.sum() / (rows.validation.sum() + rows.training.sum()) < 0.16  # of 1/8
        for part in (rows.training, rows.validation, rows.held_out):
            assert (part[:400] == part[4000:]).all()


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=9))
def test_spread_is_the_sample_standard_deviation(values: list[float]) -> None:
    """Mean and deviation are those of Python's own statistics module."""
    spread = Spread.of(values)

    assert np.isclose(spread.mean, statistics.fmean(values))
    assert np.isclose(spread.deviation, statistics.stdev(values))
    assert spread.values == tuple(values)


def test_summary_of_folds() -> None:
    """Over folds the rows add up, and the model and each part have a mean of their own; one value alone has no spread."""
    folds = [Measured(10, 40, accuracy, 1 - accuracy, {"lstm": PartScores(accuracy - 0.1, 0.5)}, 3, 2, 1.5) for accuracy in (0.8, 0.9)]

    summary = summarize_folds(folds)

    assert (summary.folds, summary.rows, summary.cpu_seconds) == (2, 20, 3.0)
    assert np.isclose(summary.accuracy.mean, 0.85)
    assert np.isclose(summary.parts["lstm"].mean, 0.75)
    assert Spread.of([0.5]).deviation == 0
