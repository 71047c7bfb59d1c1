import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.reviews.near_duplicates import NearDuplicateSettings, jaccard, shingle_sets, sketch_texts
from tasks.reviews.sides import TEST, TRAIN, UNDECLARED, VALIDATION, SplitPlan, SplitSettings, leave_out_near_duplicates, plan_split
from tasks.reviews.text import text_hashes

QUICK = settings(max_examples=150, deadline=None)
# Few different hashes, so that texts repeat; spread over the whole range, since real ones are.
ROWS = st.lists(
    st.tuples(st.integers(0, 25).map(lambda text: text * 0x9E3779B97F4A7C15 % 2**64), st.integers(UNDECLARED, TEST)),
    min_size=1,
    max_size=60,
)
SETTINGS = st.builds(
    SplitSettings,
    test_share=st.sampled_from([0.2, 0.5]),
    validation_share=st.sampled_from([0.1, 0.4]),
    validation_rows=st.sampled_from(["hash", "last"]),
    honour_declared=st.booleans(),
    seed=st.integers(0, 9),
)


def _columns(rows: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    hashes, declared = zip(*rows, strict=True)
    return np.array(hashes, np.uint64), np.array(declared, np.int8)


@QUICK
@given(ROWS, SETTINGS)
def test_a_text_stands_on_one_side(rows: list[tuple[int, int]], how: SplitSettings) -> None:
    """Every row has a side, and rows of one text that are kept share it, whatever was declared of them."""
    hashes, declared = _columns(rows)
    plan = plan_split(hashes, declared, how)
    assert set(plan.side.tolist()) <= {TRAIN, VALIDATION, TEST}
    for text in set(hashes.tolist()):
        same = hashes == text
        assert len(set(plan.side[same & ~plan.left_out].tolist())) == 1
        assert set(plan.first_row[same].tolist()) == {int(np.flatnonzero(same)[0])}


@QUICK
@given(ROWS, SETTINGS)
def test_a_declared_split_is_honoured(rows: list[tuple[int, int]], how: SplitSettings) -> None:
    """Rows stay on their declared side, but for validation rows taken from training where none are declared."""
    hashes, declared = _columns([*rows, (rows[0][0], TEST)])
    plan = plan_split(hashes, declared, how.model_copy(update={"honour_declared": True}))
    named = declared != UNDECLARED
    taken = (declared == TRAIN) & (plan.side == VALIDATION)
    assert np.all((plan.side == declared)[named & ~taken])
    assert not taken.any() or VALIDATION not in declared
    highest = np.array([declared[hashes == text].max() for text in hashes])
    assert plan.left_out.tolist() == (named & (declared < highest)).tolist()


@QUICK
@given(ROWS, SETTINGS)
def test_without_a_declared_split_nothing_is_left_out(rows: list[tuple[int, int]], how: SplitSettings) -> None:
    """A split that has no test rows, or shall not be honoured, changes nothing."""
    hashes, declared = _columns(rows)
    if how.honour_declared:
        declared[declared == TEST] = UNDECLARED
    plan, plain = plan_split(hashes, declared, how), plan_split(hashes, np.full_like(declared, UNDECLARED), how)
    assert not plan.left_out.any() and plan.side.tolist() == plain.side.tolist()


@QUICK
@given(ROWS, SETTINGS, st.data())
def test_row_order_does_not_count(rows: list[tuple[int, int]], how: SplitSettings, data: st.DataObject) -> None:
    """Shuffled rows get the sides they had, where validation rows are picked by hash."""
    how = how.model_copy(update={"validation_rows": "hash"})
    hashes, declared = _columns(rows)
    order = np.array(data.draw(st.permutations(range(len(rows)))))
    plan, shuffled = plan_split(hashes, declared, how), plan_split(hashes[order], declared[order], how)
    assert shuffled.side.tolist() == plan.side[order].tolist()
    assert shuffled.left_out.tolist() == plan.left_out[order].tolist()


@QUICK
@given(ROWS, ROWS, SETTINGS)
def test_more_reviews_move_no_old_one(old: list[tuple[int, int]], new: list[tuple[int, int]], how: SplitSettings) -> None:
    """Old reviews keep their side when others are added, where sides go by hash."""
    how = how.model_copy(update={"validation_rows": "hash", "honour_declared": False})
    before, after = plan_split(*_columns(old), how), plan_split(*_columns(old + new), how)
    assert after.side[: len(old)].tolist() == before.side.tolist()


@QUICK
@given(st.integers(1, 200), st.integers(0, 2**32), SETTINGS)
def test_last_takes_the_last_training_rows(num_rows: int, seed: int, how: SplitSettings) -> None:
    """Of different texts, exactly the share asked for, rounded, from the end of the training rows."""
    how = how.model_copy(update={"validation_rows": "last"})
    hashes = np.random.default_rng(seed).integers(0, 2**64, num_rows, np.uint64)
    sides = plan_split(hashes, np.full(num_rows, UNDECLARED, np.int8), how).side
    learning = sides[sides != TEST]
    expected = round(len(learning) * how.validation_share)
    assert learning.tolist() == [TRAIN] * (len(learning) - expected) + [VALIDATION] * expected


# Texts of few words, so that many are nearly the same.
TEXTS = st.lists(
    st.tuples(st.lists(st.sampled_from("abc"), max_size=12).map(" ".join), st.integers(UNDECLARED, TEST)), min_size=1, max_size=40
)
NEAR = st.builds(NearDuplicateSettings, threshold=st.sampled_from([0.5, 0.8, 1.0]), shingle_length=st.integers(1, 3))


def _plans(rows: list[tuple[str, int]], how: SplitSettings, near: NearDuplicateSettings) -> tuple[np.ndarray, SplitPlan, SplitPlan]:
    """Return the hashes of texts, the plan by these alone, and the plan that minds near-duplicates."""
    texts, declared = zip(*rows, strict=True)
    text = pa.array(texts)
    hashes = text_hashes(text)
    plain = plan_split(hashes, np.array(declared, np.int8), how)
    sets = shingle_sets(text, near)
    return hashes, plain, leave_out_near_duplicates(plain, hashes, sketch_texts(text, near), sets.take, near)


@QUICK
@given(TEXTS, SETTINGS, NEAR)
def test_near_duplicates_are_left_out_never_moved(rows: list[tuple[str, int]], how: SplitSettings, near: NearDuplicateSettings) -> None:
    """Sides stay; what is left out besides is below, and as like as it must be to, a row that is kept; copies share their fate."""
    hashes, plain, plan = _plans(rows, how, near)
    assert plan.side.tolist() == plain.side.tolist() and plan.first_row.tolist() == plain.first_row.tolist()
    assert plan.repeats[plain.left_out].tolist() == plain.repeats[plain.left_out].tolist()
    added = np.flatnonzero(plan.left_out & ~plain.left_out)
    others = plan.repeats[added]
    sets = shingle_sets(pa.array([text for text, _ in rows]), near)
    similarity = jaccard(sets, added, sets, others)
    assert np.all(similarity >= near.threshold) and similarity.tolist() == plan.similarity[added].tolist()
    assert not plan.left_out[others].any() and np.all(plan.side[added] < plan.side[others])
    fates = {*zip(hashes[~plain.left_out].tolist(), plan.repeats[~plain.left_out].tolist(), strict=True)}
    assert len(fates) == len(set(hashes[~plain.left_out].tolist()))


@QUICK
@given(TEXTS, SETTINGS, NEAR)
def test_texts_of_the_same_shingles_never_straddle(rows: list[tuple[str, int]], how: SplitSettings, near: NearDuplicateSettings) -> None:
    """Rows that are kept on different sides differ in their shingles, whatever the threshold."""
    _, _, plan = _plans(rows, how, near)
    sets = shingle_sets(pa.array([text for text, _ in rows]), near)
    sides: dict[bytes, set[int]] = {}
    for row in np.flatnonzero(~plan.left_out & (sets.sizes > 0)):
        sides.setdefault(sets.take(np.array([row])).values.tobytes(), set()).add(int(plan.side[row]))
    assert all(len(found) == 1 for found in sides.values())
