"""Whether there is enough to learn from: rows and classes of the training side, looked at before minutes are spent on training."""

from collections.abc import Mapping

from pydantic import BaseModel, Field

from tasks.errors import DataError
from tasks.store import ArtifactRef, Store


class BalanceSettings(BaseModel, frozen=True, extra="forbid"):
    """What the training rows have to be before anything is trained on them."""

    min_train_rows: int = Field(100, ge=1, description="training rows below which the run stops")
    min_class_share: float = Field(
        0.05, ge=0, le=0.5, description="share of the rarer class in the training rows below which the run stops"
    )


def check_balance(rows: ArtifactRef, settings: BalanceSettings, store: Store) -> None:
    """Check the training side of a split.

    Raises:
        DataError: As `check_training_rows`.
    """
    check_training_rows(store.record_of(rows).facts["rows_by_split"]["train"], settings)


def check_training_rows(by_class: Mapping[str, int], settings: BalanceSettings) -> None:
    """Check that the training rows are enough, and that neither class is so rare that a model would learn to leave it out.

    Args:
        by_class: Training rows of each class, after splitting and leaving out.
        settings: How many rows there have to be, and which share of them each class has to have.

    Raises:
        DataError: They are not; the message says what there is and what to do.
    """
    rows = sum(by_class.values())
    counted = ", ".join(f"{count:,} {name}" for name, count in by_class.items())
    if rows < settings.min_train_rows:
        raise DataError(
            f"Only {rows:,} rows are left to train on ({counted}), expected at least {settings.min_train_rows:,}. Give more reviews, "
            f"widen the window (--since, --until, --last), or allow fewer with --set balance.min_train_rows={rows}."
        )
    rarer = min(by_class, key=lambda name: by_class[name])
    share = by_class[rarer] / rows
    if share < settings.min_class_share:
        raise DataError(
            f"Only {share:.2%} of the {rows:,} training rows are {rarer} ({counted}), expected at least {settings.min_class_share:.2%}: "
            f"a model would learn to say the other class always. Give more {rarer} reviews, check how labels are read "
            f"(--label-column, --label), or allow it with --set balance.min_class_share={share * 0.9:.2g}."
        )
