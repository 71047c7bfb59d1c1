import pytest

from tasks.balance import BalanceSettings, check_training_rows
from tasks.errors import DataError


def test_enough_of_both_classes_passes() -> None:
    """At the limits nothing is said."""
    check_training_rows({"negative": 5, "positive": 95}, BalanceSettings())


def test_too_few_rows_stop_the_run() -> None:
    """The error says how many of each class there are, how many are needed, and three ways out."""
    with pytest.raises(
        DataError, match=r"Only 99 rows .*40 negative, 59 positive.* at least 100.*--since.*--set balance.min_train_rows=99"
    ):
        check_training_rows({"negative": 40, "positive": 59}, BalanceSettings())


def test_a_rare_class_stops_the_run() -> None:
    """The error names the class, its share, and what to look at; the setting it offers lets the same rows pass."""
    rows = {"negative": 20, "positive": 980}
    with pytest.raises(DataError, match=r"Only 2.00% of the 1,000 training rows are negative.*at least 5.00%.*--label-column") as refused:
        check_training_rows(rows, BalanceSettings())
    offered = float(str(refused.value).rpartition("min_class_share=")[2].rstrip("."))
    check_training_rows(rows, BalanceSettings(min_class_share=offered))
