from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tasks.errors import DataError
from tasks.reviews.near_duplicates import NearDuplicateSettings, ShingleSets, shingle_sets, sketch_texts
from tasks.reviews.sides import TEST, TRAIN, UNDECLARED, VALIDATION, SplitSettings, leave_out_near_duplicates, plan_split
from tasks.reviews.text import normalise_text, text_hashes
from tasks.split import split_artifact
from tasks.store import ArtifactRef, Draft, Recipe, Record, Store
from tasks.tables import TableWriter, read_columns

BY_HASH, NEAR = SplitSettings(), NearDuplicateSettings()
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
    return _split_table(table, settings, store, group)


def _split_table(table: pa.Table, settings: SplitSettings, store: Store, group: int) -> tuple[Record, pa.Table, pa.Table]:
    def write(draft: Draft) -> None:
        with TableWriter(draft.open("tokenize/rows.parquet")) as writer:
            for start in range(0, table.num_rows, group):
                writer.write(table.slice(start, group))
        draft.rows = writer.rows

    content = str(hash(str(table.to_pydict())))
    tokenized: ArtifactRef = store.make(Recipe("tokenize", {"rows": content, "group": str(group)}, {}, {}, {}), write).ref
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
    why = [
        {"review_id": "r3", "reason": "duplicate of a test review", "repeats": "r100", "similarity": 1.0},
        {"review_id": "r40", "reason": "duplicate of a test review", "repeats": "r110", "similarity": 1.0},
    ]
    assert left_out.select(list(why[0])).to_pylist() == record.facts["left_out_rows"] == why
    assert record.facts["left_out"] == 2 and record.facts["left_out_by_reason"] == {"duplicate of a test review": 2}
    assert kept["review_id"].to_pylist() == [f"r{n}" for n in range(120) if n not in (3, 40)]
    assert left_out.column_names == [*kept.column_names, "reason", "repeats", "similarity"]
    assert left_out["split"].to_pylist() == ["train", "train"]
    assert kept["split"].to_pylist()[88:] == ["test"] * 30 and record.facts["declared"] is True
    assert {"train", "validation"} == set(kept["split"].to_pylist()[:88])
    assert sum(sum(counts.values()) for counts in record.facts["rows_by_split"].values()) == record.rows == 118


def _wordy(number: int, word: str) -> str:
    """Return a review of 42 words; two of one number differ in one, and share 39 of the 43 pairs of words that either has."""
    words = [f"w{number}x{n}" for n in range(40)]
    return " ".join(["Review", str(number), *words[:20], word, *words[21:]]) + "."


def _families(count: int = 60) -> Rows:
    """Return reviews in families of near-duplicates, wherever the hash of each text puts it; one more shouts another's words."""
    rows = [
        {"review_id": f"{word}-{number}", "review": _wordy(number, word), "sentiment": number % 2}
        for word in ("once", "twice", "never")
        for number in range(count)
    ]
    return [*rows, *({**row, "review_id": f"again-{row['review_id']}", "review": row["review"].upper()} for row in rows[::3])]


def test_near_duplicates_do_not_straddle(store: Store) -> None:
    """What nearly repeats a row of a side that ranks higher is left out, copies too, with the reason; no row changes its side."""
    rows = _families()
    plain = _split(rows, BY_HASH.model_copy(update={"near_duplicates": None}), store)[1]
    record, kept, left_out = _split(rows, BY_HASH, store)
    sides = dict(zip(plain["review_id"].to_pylist(), plain["split"].to_pylist(), strict=True))
    family = {review_id: review_id.rpartition("-")[2] for review_id in sides}
    expected: dict[str, str] = {}
    for held_out, below in (("test", ("train", "validation")), ("validation", ("train",))):
        families = {family[name] for name, side in sides.items() if side == held_out and name not in expected}
        hit = [name for name, side in sides.items() if side in below and family[name] in families and name not in expected]
        expected |= dict.fromkeys(hit, f"near-duplicate of a {held_out} review")

    found = {row["review_id"]: row for row in left_out.to_pylist()}
    assert {name: row["reason"] for name, row in found.items()} == expected
    stayed = dict(zip(kept["review_id"].to_pylist(), kept["split"].to_pylist(), strict=True))
    assert stayed == {name: side for name, side in sides.items() if name not in found}
    for name, row in found.items():
        assert family[row["repeats"]] == family[name] and row["repeats"] not in found and row["similarity"] == pytest.approx(39 / 43)
        assert row["reason"] == f"near-duplicate of a {sides[row['repeats']]} review"
    counted = record.facts["left_out_by_reason"]
    assert counted == {reason: list(expected.values()).count(reason) for reason in set(expected.values())}
    assert len(counted) == 2 and min(counted.values()) >= 5 and any(name.startswith("again") for name in found)


def test_few_shingles_are_in_memory_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs are compared in portions of a bounded number of rows, and the portions change nothing."""
    text = normalise_text(pa.array([row["review"] for row in _families()]))
    sets, sketches, hashes = shingle_sets(text, NEAR), sketch_texts(text, NEAR), text_hashes(text)
    asked: list[int] = []

    def read_sets(rows: np.ndarray) -> ShingleSets:
        asked.append(len(rows))
        return sets.take(rows)

    plain = plan_split(hashes, NONE_DECLARED[: len(hashes)], BY_HASH)
    whole = leave_out_near_duplicates(plain, hashes, sketches, read_sets, NEAR)
    assert whole.left_out.any() and len(asked) == 2 and max(asked) > 7
    asked.clear()
    monkeypatch.setattr("tasks.reviews.sides._ROWS_COMPARED", 7)
    portioned = leave_out_near_duplicates(plain, hashes, sketches, read_sets, NEAR)
    assert max(asked) <= 7 and len(asked) > 4
    assert portioned.repeats.tolist() == whole.repeats.tolist() and portioned.similarity.tolist() == whole.similarity.tolist()


def test_near_duplicates_beside_a_declared_split(store: Store) -> None:
    """Of declared sides too the training row goes; a row that was left out holds nothing out itself."""
    rows = [{"review_id": f"r{n}", "review": _wordy(n, "once"), "sentiment": n % 2} for n in range(60)]
    rows = _declare(rows, {"train": range(30), "dev": range(30, 40), "test": range(40, 60)})
    rows[1]["review"], rows[2]["review"], rows[3]["review"] = _wordy(41, "twice"), _wordy(42, "once"), _wordy(31, "twice")
    rows[32]["review"], rows[5]["review"] = _wordy(45, "twice"), _wordy(5, "never")
    record, kept, left_out = _split(rows, BY_HASH, store)
    assert [(row["review_id"], row["reason"], row["repeats"]) for row in left_out.to_pylist()] == [
        ("r1", "near-duplicate of a test review", "r41"),
        ("r2", "duplicate of a test review", "r42"),
        ("r3", "near-duplicate of a validation review", "r31"),
        ("r32", "near-duplicate of a test review", "r45"),
    ]
    assert [row["review_id"] for row in record.facts["left_out_rows"]] == ["r2", "r1", "r3", "r32"]
    assert record.rows == kept.num_rows == 56


def test_a_row_left_out_keeps_the_columns_of_its_input(store: Store) -> None:
    """Columns of the input that have the names of the reasons stay, with `input_` before them."""
    rows = _declare([{**row, "reason": "gift", "repeats": 7} for row in _rows()], {"train": range(90), "test": range(90, 120)})
    rows[3]["review"] = "film NUMBER 100"
    _, kept, left_out = _split(rows, SplitSettings(validation_share=0.3), store)
    (row,) = left_out.to_pylist()
    assert (row["input_reason"], row["input_repeats"], row["reason"], row["repeats"]) == ("gift", 7, "duplicate of a test review", "r100")
    assert kept["reason"].to_pylist() == ["gift"] * 119


def test_the_official_split_straddles_in_123_texts(official_reviews: Path, store: Store) -> None:
    """Of IMDB's own split 123 training texts stand in the test too; each is named, and four near-duplicates beside them."""
    table = read_columns(official_reviews, ["id", "review", "sentiment", "split"]).rename_columns({"id": "review_id"})
    is_positive = pc.equal(table["sentiment"], "positive").cast(pa.int8())
    table = table.set_column(table.column_names.index("sentiment"), "sentiment", is_positive)
    record, kept, left_out = _split_table(table, BY_HASH, store, 4096)
    assert record.facts["left_out_by_reason"] == {
        "duplicate of a test review": 123,
        "near-duplicate of a test review": 1,
        "near-duplicate of a validation review": 3,
    }
    named = [row["review_id"] for row in record.facts["left_out_rows"]]
    assert sorted(named) == sorted(left_out["review_id"].to_pylist())
    is_test = pc.equal(kept["split"], "test").to_numpy()
    tested, learnt = (set(kept["text_hash"].to_numpy()[side].tolist()) for side in (is_test, ~is_test))
    assert not tested & learnt
    exact = left_out.filter(pc.equal(left_out["reason"], "duplicate of a test review"))
    assert set(exact["text_hash"].to_pylist()) <= tested


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


def test_sorted_reviews_have_no_last_rows_to_validate_with(store: Store) -> None:
    """Where the last training rows are of one class, as in the official archive, the message names the rule that helps."""
    rows = sorted(_rows(), key=lambda row: row["sentiment"])
    with pytest.raises(DataError, match=r"sorted by their labels.*--set split\.validation_rows=hash"):
        _split(rows, LAST, store)
    _split(rows, SplitSettings(validation_share=0.2), store)
