from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks.errors import DataError
from tasks.reviews.text import text_hashes
from tasks.split import TEST, TRAIN, UNDECLARED, VALIDATION, SplitSettings, plan_split, split_artifact
from tasks.store import ArtifactRef, Draft, Recipe, Record, Store
from tasks.tables import TableWriter, read_columns

BY_HASH = SplitSettings()
LAST = SplitSettings(validation_rows="last", validation_share=0.2)
NUM_ROWS = 20_000
HASHES = np.random.default_rng(0).integers(0, 2**64, NUM_ROWS, np.uint64)
NONE_DECLARED = np.full(NUM_ROWS, UNDECLARED, np.int8)

Rows = list[dict[str, Any]]


def _rows(count: int = 120) -> Rows:
    """Return reviews that all differ, every second one positive."""
    return [{"review_id": f"r{n}", "review": f"Film number {n}.", "sentiment": n % 2, "stars": n} for n in range(count)]


def _split(rows: Rows, settings: SplitSettings, store: Store, group: int = 50) -> tuple[Record, pa.Table, pa.Table]:
    """Store rows as tokenized ones, `group` a row group, and split them; return the record, what was kept and what left out."""
    table = pa.Table.from_pylist(rows)
    table = table.set_column(table.column_names.index("sentiment"), "sentiment", table["sentiment"].cast(pa.int8()))

    def write(draft: Draft) -> None:
        with TableWriter(draft.open("tokenize/rows.parquet")) as writer:
            for start in range(0, len(rows), group):
                writer.write(table.slice(start, group))
        draft.rows = writer.rows

    tokenized: ArtifactRef = store.make(Recipe("tokenize", {"rows": str(rows), "group": str(group)}, {}, {}, {}), write).ref
    record = split_artifact(tokenized, settings, store).record
    kept, left_out = (read_columns(store.path(file)) for file in record.files)
    return record, kept, left_out


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty artifacts folder."""
    return Store(tmp_path)


@pytest.mark.parametrize("how", [BY_HASH, LAST, SplitSettings(test_share=0.5, validation_share=0.3, seed=3)])
def test_shares_are_near_what_was_asked(how: SplitSettings) -> None:
    """Of many different texts, a share within 1.5 points of the one asked for is held out, and likewise for validation."""
    sides = plan_split(HASHES, NONE_DECLARED, how).side
    assert np.mean(sides == TEST) == pytest.approx(how.test_share, abs=0.015)
    assert np.sum(sides == VALIDATION) / np.sum(sides != TEST) == pytest.approx(how.validation_share, abs=0.015)


def test_another_seed_is_another_split() -> None:
    """Two seeds agree on no more test rows than chance has it, a fifth of a fifth."""
    first, second = (plan_split(HASHES, NONE_DECLARED, SplitSettings(seed=seed)).side == TEST for seed in (0, 5))
    assert np.mean(first & second) == pytest.approx(0.04, abs=0.01)


def test_the_split_is_a_stored_contract() -> None:
    """These texts are test rows of seed 0 for ever: champions were never trained on them."""
    texts = pa.array([f"review {n}" for n in range(40)])
    sides = plan_split(text_hashes(texts), NONE_DECLARED[:40], BY_HASH).side
    assert np.flatnonzero(sides == TEST).tolist() == [17, 19, 21, 23, 38]
    assert np.flatnonzero(sides == VALIDATION).tolist() == [7, 13, 28]


def test_test_rows_are_the_same_under_every_preset() -> None:
    """How validation rows are chosen does not touch the test rows."""
    sides = [plan_split(HASHES, NONE_DECLARED, how).side for how in (BY_HASH, LAST)]
    assert np.array_equal(sides[0] == TEST, sides[1] == TEST)


def test_a_repeated_text_stays_with_its_first_copy() -> None:
    """Where the last rows validate, a late repetition of an early training row trains, and the other way round."""
    hashes = np.array([1, 2, 3, 4, 5, 6, 7, 8, 9, 1], np.uint64)
    how = LAST.model_copy(update={"test_share": 1e-9})
    assert plan_split(hashes, NONE_DECLARED[:10], how).side.tolist() == [TRAIN] * 8 + [VALIDATION, TRAIN]


def test_rows_keep_their_columns_and_order(store: Store) -> None:
    """The artifact holds the input's rows in order with side, text hash and, for repetitions, the id of the first."""
    rows = _rows()
    rows[70]["review"] = "FILM number <b>7</b>!"
    rows[81]["review"] = rows[91]["review"] = "film number 7"
    record, kept, left_out = _split(rows, BY_HASH, store)
    assert kept.column_names == ["review_id", "review", "sentiment", "stars", "split", "duplicate_of", "text_hash"]
    assert kept.select(["review_id", "review", "stars"]).to_pylist() == [
        {k: row[k] for k in ("review_id", "review", "stars")} for row in rows
    ]
    assert kept["text_hash"].to_numpy().tolist() == text_hashes(pa.array([row["review"] for row in rows])).tolist()
    assert {row["review_id"]: row["duplicate_of"] for row in kept.to_pylist() if row["duplicate_of"]} == dict.fromkeys(
        ("r70", "r81", "r91"), "r7"
    )
    assert (record.rows, left_out.num_rows, record.facts["duplicates"], record.facts["duplicates_with_other_label"]) == (120, 0, 3, 1)
    sides = dict(zip(kept["review_id"].to_pylist(), kept["split"].to_pylist(), strict=True))
    assert sides["r7"] == sides["r70"] == sides["r81"]


def test_counts_by_side_and_class(store: Store) -> None:
    """The facts count what is in the file."""
    record, kept, _ = _split(_rows(), BY_HASH, store)
    counted = kept.group_by(["split", "sentiment"]).aggregate([([], "count_all")]).to_pylist()
    names = {0: "negative", 1: "positive"}
    for row in counted:
        assert record.facts["rows_by_split"][row["split"]][names[row["sentiment"]]] == row["count_all"]
    assert len(counted) == 6 and sum(row["count_all"] for row in counted) == 120


def test_row_groups_do_not_count(store: Store) -> None:
    """The same rows in groups of any size are split alike."""
    tables = [_split(_rows(), BY_HASH, store, group)[1] for group in (7, 120)]
    assert tables[0].equals(tables[1])


def _declare(rows: Rows, sides: dict[str, range]) -> Rows:
    for name, where in sides.items():
        for n in where:
            rows[n]["split"] = name
    return rows


def test_a_training_row_that_repeats_a_test_row_is_left_out(store: Store) -> None:
    """Of a declared split, straddling training rows go to the other file and are counted and named; the test row stays."""
    rows = _declare(_rows(), {"train": range(90), "test": range(90, 120)})
    rows[3]["review"] = "film NUMBER 100"
    rows[40]["review"] = "Film number 110?"
    record, kept, left_out = _split(rows, SplitSettings(validation_share=0.3), store)
    assert left_out["review_id"].to_pylist() == record.facts["left_out_ids"] == ["r3", "r40"] and record.facts["left_out"] == 2
    assert kept["review_id"].to_pylist() == [f"r{n}" for n in range(120) if n not in (3, 40)]
    assert left_out.schema.equals(kept.schema) and left_out["split"].to_pylist() == ["train", "train"]
    assert kept["split"].to_pylist()[88:] == ["test"] * 30 and record.facts["declared"] is True
    assert {"train", "validation"} == set(kept["split"].to_pylist()[:88])
    assert sum(sum(counts.values()) for counts in record.facts["rows_by_split"].values()) == record.rows == 118


def test_usual_names_of_declared_sides(store: Store) -> None:
    """Training, valid, dev and names in any case are understood; a declared validation side is the only one."""
    sides = {"Training": range(60), "valid": range(60, 70), " DEV": range(70, 80), "Test": range(80, 120)}
    _, kept, _ = _split(_declare(_rows(), sides), BY_HASH, store)
    assert kept["split"].to_pylist() == ["train"] * 60 + ["validation"] * 20 + ["test"] * 40


def test_rows_without_a_declared_side(store: Store) -> None:
    """Beside declared ones they go where their text is, else by hash."""
    rows = _declare(_rows(), {"train": range(40), "test": range(40, 60), "unsup": range(60, 90)})
    for row in rows[90:]:
        row["split"] = None
    rows[100]["review"], rows[101]["review"] = "film number 41", "film number 1"
    _, kept, left_out = _split(rows, BY_HASH, store)
    sides = kept["split"].to_pylist()
    by_hash = plan_split(kept["text_hash"].to_numpy(), NONE_DECLARED[:120], BY_HASH).side
    free = [n for n in range(60, 120) if n not in (100, 101)]
    assert sides[100] == "test" and sides[101] == sides[1] != "test" and not left_out.num_rows
    assert [sides[n] for n in free] == [["train", "validation", "test"][by_hash[n]] for n in free]


@pytest.mark.parametrize("how", [BY_HASH, SplitSettings(honour_declared=False)])
def test_a_split_that_does_not_count_is_not_reported(store: Store, how: SplitSettings) -> None:
    """Without test rows, or when told so, the declared split is not used, and the facts say so."""
    rows = _declare(_rows(), {"train": range(60), "test" if how != BY_HASH else "dev": range(60, 120)})
    record, kept, _ = _split(rows, how, store)
    assert record.facts["declared"] is False
    assert kept["split"].equals(_split(_rows(), how, store)[1]["split"])


def test_a_side_that_lacks_a_class_is_refused(store: Store) -> None:
    """Every side needs both classes; the message names those that do not have them, and the settings that help."""
    rows = _rows()
    for row in rows:
        row["sentiment"] = 1
    with pytest.raises(
        DataError, match=r"train \(0 negative, \d+ positive\), validation \(0 .*, test \(0 .* lack a class.*split\.test_share"
    ):
        _split(rows, BY_HASH, store)
    rows = _declare(_rows(), {"train": range(60), "dev": range(60, 61), "test": range(61, 120)})
    with pytest.raises(DataError, match=r"splitting, validation \(1 negative, 0 positive\) would"):
        _split(rows, BY_HASH, store)
    assert not list(store.root.glob("split/*"))
