"""Every row once: a run that was broken off goes on where it was, and what comes out is that of an unbroken run."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from conftest import Command

from tasks import score as score_module
from tasks.errors import DataError
from tasks.model.bundle import SentimentModel
from tasks.model.registry import promote_model
from tasks.reviews import records, tabular
from tasks.store import Store


class Interrupted(AssertionError):  # noqa: N818  an error as of broken code, which a step lets pass
    """What ends a run in these tests, as a kill would."""


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 8 rows, and so chunks of 32: the tiny reviews make 13."""
    monkeypatch.setattr(records, "ROWS_PER_BATCH", 8)
    monkeypatch.setattr(tabular, "ROWS_PER_BATCH", 8)
    monkeypatch.setattr(tabular, "_ROWS_AT_ONCE", 8)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows of every batch that is scored; set `limit` as an attribute of the list to break off."""
    real = SentimentModel.score_reviews
    seen = Calls()

    def score_reviews(self: SentimentModel, reviews: pa.Array) -> Any:
        if len(reviews) <= 8:  # more are the probe texts
            if seen.limit is not None and len(seen) >= seen.limit:
                raise Interrupted
            seen.append(len(reviews))
        return real(self, reviews)

    monkeypatch.setattr(SentimentModel, "score_reviews", score_reviews)
    return seen


class Calls(list[int]):
    """Rows of the batches that were scored, and how many batches may be."""

    limit: int | None = None


def scoring(inputs: list[Path], root: Path, output: Path, **options: Any) -> dict[str, Any]:
    """Run the scoring flow."""
    from flows.scoring import scoring as flow

    return flow(inputs=[str(path) for path in inputs], artifacts=str(root), output=str(output), **options)


def result(output: Path) -> dict[str, str]:
    """Return the digests of all that was published."""
    return tiny.digests(output)


@pytest.fixture
def unbroken(trained: tiny.Trained, tmp_path: Path) -> dict[str, str]:
    """What an unbroken run publishes."""
    scoring([trained.reviews], trained.root, tmp_path / "unbroken")
    return result(tmp_path / "unbroken")


@pytest.mark.parametrize("batches", [0, 1, 17, 50])
def test_broken_off_run_goes_on(
    trained: tiny.Trained, artifacts: Path, tmp_path: Path, unbroken: dict[str, str], calls: Calls, batches: int
) -> None:
    """A run that ends after any number of batches publishes nothing; the next scores only what is missing, to the same bytes."""
    calls.clear()
    calls.limit = batches
    with pytest.raises(Interrupted):
        scoring([trained.reviews], artifacts, tmp_path / "out")
    published = (tmp_path / "out").exists()
    kept = len(list(artifacts.glob("score/*/*.parquet")))
    calls.clear()
    calls.limit = None

    summary = scoring([trained.reviews], artifacts, tmp_path / "out")

    assert not published
    assert result(tmp_path / "out") == unbroken
    assert (summary["status"], summary["rows"], summary["scored"], summary["quarantined"]) == ("scored", 413, 412, 1)
    assert kept >= (batches - 3) // 4
    assert len(calls) == 52 - 4 * kept
    assert not list(artifacts.glob("score/*/*.parquet"))


def test_damaged_chunk_is_scored_again(
    trained: tiny.Trained, artifacts: Path, tmp_path: Path, unbroken: dict[str, str], calls: Calls
) -> None:
    """A chunk that was damaged while the run was down is scored again, it alone."""
    calls.clear()
    calls.limit = 30
    with pytest.raises(Interrupted):
        scoring([trained.reviews], artifacts, tmp_path / "out")
    kept = sorted(artifacts.glob("score/*/*.parquet"))
    kept[2].write_bytes(kept[2].read_bytes()[:-8])
    calls.clear()
    calls.limit = None

    scoring([trained.reviews], artifacts, tmp_path / "out")

    assert result(tmp_path / "out") == unbroken
    assert len(calls) == 52 - 4 * (len(kept) - 1)


def test_already_scored(trained: tiny.Trained, artifacts: Path, tmp_path: Path, sentiment: Callable[..., Command], calls: Calls) -> None:
    """The same input, model and settings again are `already scored`: no row is scored, no byte is written, and it is told."""
    command = ["score", trained.reviews, "--artifacts", artifacts, "--output", tmp_path / "out"]
    first = sentiment(*command)
    before = {path: path.stat().st_mtime_ns for path in tiny.files_of(tmp_path / "out")}
    calls.clear()

    second = sentiment(*command)

    assert (first.summary["status"], second.summary["status"]) == ("scored", "already scored")
    assert {**second.summary, "status": "scored", "seconds": 0} == {**first.summary, "seconds": 0}
    assert "already scored" in second.stderr
    assert calls == []
    assert {path: path.stat().st_mtime_ns for path in tiny.files_of(tmp_path / "out")} == before


def test_a_result_that_is_replaced_is_told(artifacts: Path, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """Another file of the same name has the same place: whose result goes is said, and only then."""
    told = []
    for folder, review in (("monday", "a good film"), ("tuesday", "a bad film"), ("tuesday", "a bad film")):
        file = tmp_path / folder / "reviews.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"review\n{review}\n")
        run = sentiment("score", file, "--artifacts", artifacts, "--output", tmp_path / "out")
        told.append("replaces the result that stood at" in run.stderr)

    assert told == [False, True, False]


@pytest.mark.parametrize("change", ["removed", "damaged", "quarantine", "input", "format", "column"])
def test_what_differs_is_scored_again(trained: tiny.Trained, artifacts: Path, tmp_path: Path, calls: Calls, change: str) -> None:
    """A result that is gone or changed, another input, another format or column: all of that is scored anew."""
    reviews = Path(shutil.copy(trained.reviews, tmp_path / "reviews.csv"))
    scoring([reviews], artifacts, tmp_path / "out")
    before = result(tmp_path / "out")
    part = tmp_path / "out" / "reviews.scored.parquet" / "part-00000.parquet"
    options = {}
    if change == "removed":
        shutil.rmtree(tmp_path / "out")
    elif change == "damaged":
        part.write_bytes(part.read_bytes()[:-1] + b"?")
    elif change == "quarantine":
        (tmp_path / "out" / "reviews.scored.parquet.quarantine.jsonl").unlink()
    elif change == "input":
        reviews.write_text(reviews.read_text(encoding="utf-8").replace("Film 7:", "Film 8:"), encoding="utf-8")
    else:
        options = {"format": "csv"} if change == "format" else {"text_column": "shop"}
    calls.clear()

    summary = scoring([reviews], artifacts, tmp_path / "out", **options)

    assert summary["status"] == "scored"
    assert len(calls) == 52
    if change in ("removed", "damaged", "quarantine"):
        assert result(tmp_path / "out") == before


def test_input_that_changes_while_it_is_read(
    trained: tiny.Trained, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is written to while it is read is not published, which is told; the others are, and a later run scores it."""
    growing = Path(shutil.copy(trained.reviews, tmp_path / "growing.csv"))
    other = tiny.write_reviews(tmp_path / "other.csv", [tiny.write_row(number) for number in range(50)])
    real = SentimentModel.score_reviews

    def score_and_write(self: SentimentModel, reviews: pa.Array) -> Any:
        if "Film 300" in str(reviews):
            with growing.open("a", encoding="utf-8") as file:
                file.write("late,The plot was dull.,negative,Leeds\n")
        return real(self, reviews)

    with monkeypatch.context() as patch:
        patch.setattr(SentimentModel, "score_reviews", score_and_write)
        with pytest.raises(DataError, match=r"growing\.csv changed while it was read"):
            scoring([growing, other], artifacts, tmp_path / "out")
    published = sorted(path.name for path in (tmp_path / "out").iterdir())
    summary = scoring([growing, other], artifacts, tmp_path / "out")

    assert published == ["other.scored.parquet", "summary.html"]
    assert summary["scored"] == 412 + 1 + 50
    assert pq.read_table(tmp_path / "out" / "growing.scored.parquet")["id"].to_pylist()[-1] == "late"


def test_input_that_is_written_over_by_its_like(
    trained: tiny.Trained, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unbroken: dict[str, str]
) -> None:
    """A file that got the same bytes again while it was read may have been short meanwhile: it is not published, and is by the next run."""
    reviews = Path(shutil.copy(trained.reviews, tmp_path / "reviews.csv"))
    real = score_module.score_batch

    def touch_and_score(*arguments: Any) -> Any:
        os.utime(reviews, (1, 1))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(score_module, "score_batch", touch_and_score)
        with pytest.raises(DataError, match="changed while it was read"):
            scoring([reviews], artifacts, tmp_path / "out")
    scoring([reviews], artifacts, tmp_path / "out")

    assert result(tmp_path / "out") == unbroken


def second_model(artifacts: Path, trained: tiny.Trained) -> str:
    """Make another model, of another name, and promote it."""
    folder = artifacts / "models" / "m-other"
    shutil.copytree(trained.bundle, folder)
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    (folder / "settings.json").write_text(json.dumps({**settings, "model_id": "m-other"}), encoding="utf-8")
    tiny.reseal(folder)
    promote_model(Store(artifacts), "m-other", "test")
    return "m-other"


def promote_another_half_way(
    command: list[Any], artifacts: Path, trained: tiny.Trained, sentiment: Callable[..., Command], calls: Calls
) -> str:
    """Break a scoring command off, then promote another model; return that one's name."""
    calls.limit = 20
    with pytest.raises(Interrupted):
        sentiment(*command)
    calls.limit = None
    return second_model(artifacts, trained)


def test_run_keeps_its_model(
    trained: tiny.Trained, artifacts: Path, tmp_path: Path, sentiment: Callable[..., Command], calls: Calls, unbroken: dict[str, str]
) -> None:
    """A run that was broken off goes on with its model though another was promoted since, and says so; the next takes the new one."""
    calls.clear()
    command = ["score", trained.reviews, "--artifacts", artifacts, "--output", tmp_path / "out"]
    other = promote_another_half_way(command, artifacts, trained, sentiment, calls)

    resumed = sentiment(*command)
    same_bytes = result(tmp_path / "out") == unbroken
    after = sentiment(*command)

    assert resumed.summary["model_id"] == trained.summary["model_id"]
    assert f"--model {other}" in resumed.stderr
    assert same_bytes
    assert (after.summary["model_id"], after.summary["status"]) == (other, "scored")
    assert "unfinished" not in after.stderr


def test_named_model_wins(trained: tiny.Trained, artifacts: Path, tmp_path: Path, sentiment: Callable[..., Command], calls: Calls) -> None:
    """A model that is named is taken whatever an unfinished run began with, and nothing goes on with that one's model afterwards."""
    command = ["score", trained.reviews, "--artifacts", artifacts, "--output", tmp_path / "out"]
    other = promote_another_half_way(command, artifacts, trained, sentiment, calls)

    named = sentiment(*command, "--model", other)
    after = sentiment(*command)

    assert [run.summary["model_id"] for run in (named, after)] == [other] * 2
    assert [run.summary["status"] for run in (named, after)] == ["scored", "already scored"]


def test_model_of_unfinished_run_is_gone(
    trained: tiny.Trained, artifacts: Path, tmp_path: Path, sentiment: Callable[..., Command], calls: Calls
) -> None:
    """Where the model that a run began with was removed, the same command scores all with the champion, and says so."""
    command = ["score", trained.reviews, "--artifacts", artifacts, "--output", tmp_path / "out"]
    other = promote_another_half_way(command, artifacts, trained, sentiment, calls)
    shutil.rmtree(artifacts / "models" / trained.bundle.name)

    result = sentiment(*command)

    assert (result.summary["model_id"], result.summary["scored"]) == (other, 412)
    assert "is gone" in result.stderr


def test_shards_of_parquet(trained: tiny.Trained, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
    """Parquet scored in stretches, whatever its row groups, is every row once, in order, with the scores of one piece."""
    rows = [tiny.write_row(number) for number in range(300)]
    table = pa.table(dict(zip(tiny.COLUMNS, map(list, zip(*rows, strict=True)), strict=True)))
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=70)
    scoring([tmp_path / "in.parquet"], artifacts, tmp_path / "whole")
    whole = pq.read_table(tmp_path / "whole" / "in.scored.parquet")
    monkeypatch.setattr(score_module, "ROWS_PER_SHARD", 64)
    calls.limit = len(calls) + 20
    with pytest.raises(Interrupted):
        scoring([tmp_path / "in.parquet"], artifacts, tmp_path / "out")
    calls.limit = None

    scoring([tmp_path / "in.parquet"], artifacts, tmp_path / "out")

    sharded = pq.read_table(tmp_path / "out" / "in.scored.parquet")
    assert sharded.drop_columns("p_positive").equals(whole.drop_columns("p_positive"))
    assert sharded["source_row"].to_pylist() == list(range(1, 301))
    assert sharded["p_positive"].to_pylist() == pytest.approx(whole["p_positive"].to_pylist(), abs=1e-6)
    assert sharded["review"].to_pylist() == [row[1] for row in rows]


def test_lost_rows_are_not_published(trained: tiny.Trained, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where scoring would return fewer rows than were read, nothing is published."""
    real = score_module.score_batch
    monkeypatch.setattr(score_module, "score_batch", lambda *arguments: real(*arguments)._replace(rows=real(*arguments).rows.slice(1)))

    with pytest.raises(DataError, match="not each of them once"):
        scoring([trained.reviews], artifacts, tmp_path / "out")

    assert not (tmp_path / "out").exists()
