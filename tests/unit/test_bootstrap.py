import numpy as np
import pytest

from tasks.model.bootstrap import RowTable, percentile_interval, wilson_interval


@pytest.mark.parametrize(("successes", "trials", "low", "high"), [(81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)])
def test_wilson_intervals_are_the_published_ones(successes: int, trials: int, low: float, high: float) -> None:
    """The worked examples of Newcombe (1998), table I, method 3."""
    assert wilson_interval(successes, trials, 0.95) == pytest.approx([low, high], abs=5e-5)


def test_an_interval_reaches_the_estimate() -> None:
    """Where resampling only adds, as to a calibration error near 0, the interval is widened to the estimate."""
    assert percentile_interval(np.array([0.3, 0.4, 0.5]), 0.1, 0.95)[0] == 0.1


def test_undefined_resamples_do_not_count() -> None:
    """NaN among the resamples is left out; without any other value there is no interval."""
    assert percentile_interval(np.array([np.nan, 2.0, 2.0]), 2.0, 0.95) == [2.0, 2.0]
    assert percentile_interval(np.array([np.nan]), 2.0, 0.95) is None


def test_a_row_drawn_twice_counts_as_two_rows() -> None:
    """Metrics of counts equal those of the rows written out."""
    truth = np.array([0, 1, 1, 0], dtype=np.int8)
    score = np.array([0.2, 0.3, 0.8, 0.8])
    counts = np.array([[2.0, 0.0, 1.0, 1.0]])
    rows = np.repeat(np.arange(4), counts[0].astype(int))
    drawn = RowTable(truth, score, 0.5, 15).metrics(counts)
    written = RowTable(truth[rows], score[rows], 0.5, 15).metrics(np.ones((1, 4)))
    assert {name: value[0] for name, value in drawn.items()} == pytest.approx({name: value[0] for name, value in written.items()})
