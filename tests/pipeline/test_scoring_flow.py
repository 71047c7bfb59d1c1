"""What scoring gives back: every row of the input as it was, in its order, with what the model says of it."""

import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from conftest import Command

from tasks.errors import CallerError, DataError, MachineError
from tasks.model.bundle import SentimentModel, load_bundle
from tasks.pins import PinnedModel
from tasks.reviews.sources import FileSource
from tasks.score import ADDED_COLUMNS, ScoredFile, ScoreSettings, look_at, plan_file, publish_file, score_shard
from tasks.store import Store

GOOD, BAD = "The plot was wonderful, the cast was superb", "The plot was dull, the cast was wooden"


@pytest.fixture(scope="module")
def model(trained: tiny.Trained) -> SentimentModel:
    """The tiny run's model."""
    return load_bundle(trained.bundle)


@pytest.fixture
def apply(model: SentimentModel, tmp_path: Path) -> Callable[..., tuple[ScoredFile, Path]]:
    """Score a file without a flow; returns what became of it and the result's path."""

    def call(path: Path, **settings: Any) -> tuple[ScoredFile, Path]:
        output = tmp_path / "out" / f"{path.name}.{settings.get('format', 'parquet')}"
        return score_file(path, output, model, Store(tmp_path / "work"), **settings), output

    return call


def score_file(path: Path, output: Path, model: SentimentModel, store: Store, **settings: Any) -> ScoredFile:
    """Score a file, shard after shard, and publish it."""
    chosen = ScoreSettings(**settings)
    pinned = PinnedModel(model.model_id, model.manifest_sha256)
    plan = plan_file(look_at(FileSource(path, path.name), chosen), output, pinned, chosen)
    for shard in range(len(plan.shards)):
        score_shard(plan, shard, model, store)
    return publish_file(plan, store)


def write_csv(path: Path, columns: list[str], *rows: list[str]) -> Path:
    """Write a CSV file."""
    return tiny.write_reviews(path, rows, columns)


def scoring(inputs: list[Path], artifacts: Path, **options: Any) -> dict[str, Any]:
    """Run the scoring flow."""
    from flows.scoring import scoring as flow

    return flow(inputs=[str(path) for path in inputs], artifacts=str(artifacts), **options)


def test_summary_is_the_contract(trained: tiny.Trained, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """`sentiment score --json` prints the promised names; rows are those scored and those quarantined."""
    result = sentiment("score", trained.reviews, "--artifacts", trained.root, "--output", tmp_path)

    summary = result.summary
    assert result.exit_code == 0
    assert {name: type(value) for name, value in summary.items() if name not in ("quarantines", "failed")} == {
        "command": str, "status": str, "model_id": str, "rows": int, "scored": int, "quarantined": int, "outputs": list, "seconds": float,
        "summary": str, "drift": str,
    }  # fmt: skip
    assert (summary["command"], summary["status"], summary["model_id"]) == ("score", "scored", trained.summary["model_id"])
    assert (summary["rows"], summary["scored"], summary["quarantined"]) == (413, 412, 1)
    assert [Path(name).name for name in summary["outputs"]] == ["reviews.scored.parquet"]


def test_result_stands_under_the_model(trained: tiny.Trained, artifacts: Path, tmp_path: Path) -> None:
    """Without --output the result goes to `scores/<model>` of the artifacts folder."""
    path = write_csv(tmp_path / "in.csv", ["review"], [GOOD])

    (output,) = scoring([path], artifacts)["outputs"]

    assert Path(output) == artifacts / "scores" / trained.summary["model_id"] / "in.scored.parquet"


def test_every_column_is_kept_in_order(apply: Callable[..., tuple[ScoredFile, Path]], tmp_path: Path) -> None:
    """The input's columns come first, untouched and in order, then the added ones; values that look like numbers or nulls stay text."""
    rows = [["007", GOOD, "NA", ""], ["1e3", BAD, "None", 'a,"b"\r\nc'], ["", f"  {GOOD}  ", "null", "ß"]]
    path = write_csv(tmp_path / "in.csv", ["code", "review", "note", "rest"], *rows)

    _, output = apply(path)

    table = pq.read_table(output)
    assert table.column_names == ["code", "review", "note", "rest", *ADDED_COLUMNS]
    assert [list(row.values())[:4] for row in table.to_pylist()] == rows
    assert table["source"].to_pylist() == ["in.csv"] * 3
    assert table["source_row"].to_pylist() == [1, 2, 3]


def test_parquet_keeps_its_types(apply: Callable[..., tuple[ScoredFile, Path]], tmp_path: Path) -> None:
    """Columns of a Parquet input keep their types and values, nested ones and nulls too; the added ones have theirs."""
    table = pa.table(
        {
            "when": pa.array([0, None, 86_400_000_000], pa.timestamp("us", "UTC")),
            "stars": pa.array([1, None, 5], pa.int8()),
            "text": pa.array([GOOD, BAD, GOOD]),
            "tags": pa.array([["a"], None, []], pa.list_(pa.string())),
            "price": pa.array([None, 1.5, 2.5], pa.float64()),
        }
    )
    path = tmp_path / "in.parquet"
    pq.write_table(table, path)

    _, output = apply(path)

    scored = pq.read_table(output)
    assert scored.select(table.column_names).equals(table)
    assert [scored.schema.field(name).type for name in ADDED_COLUMNS] == [pa.float32(), *[pa.string()] * 4, pa.int64()]


def test_jsonl_input(apply: Callable[..., tuple[ScoredFile, Path]], tmp_path: Path) -> None:
    """JSON lines are scored like any other file, nested keys as dotted columns."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"user": {"id": n}, "review": text}) + "\n" for n, text in enumerate([GOOD, BAD])), encoding="utf-8")

    _, output = apply(path)

    table = pq.read_table(output)
    assert table.column_names == ["user.id", "review", *ADDED_COLUMNS]
    assert table["review"].to_pylist() == [GOOD, BAD]


def test_scores_follow_the_words(apply: Callable[..., tuple[ScoredFile, Path]], model: SentimentModel, tmp_path: Path) -> None:
    """Praise scores above blame, `predicted` is what the bundle's decision says of the score, and every row names its model."""
    path = write_csv(tmp_path / "in.csv", ["review"], [GOOD], [BAD])

    _, output = apply(path)

    good, bad = pq.read_table(output).to_pylist()
    assert good["p_positive"] > 0.5 > bad["p_positive"]
    assert (good["predicted"], bad["predicted"]) == ("positive", "negative")
    assert {good["model_id"], bad["model_id"]} == {model.model_id}


def test_band_of_uncertainty(apply: Callable[..., tuple[ScoredFile, Path]], model: SentimentModel, tmp_path: Path) -> None:
    """A score between the decision's two thresholds is called uncertain, and one on the upper threshold positive."""
    from dataclasses import replace

    from tasks.model.decision import Decision

    path = write_csv(tmp_path / "in.csv", ["review"], [GOOD], [BAD])
    p = pq.read_table(apply(path)[1])["p_positive"].to_pylist()
    output = tmp_path / "banded.parquet"

    store = Store(tmp_path / "work")
    score_file(path, output, replace(model, decision=Decision(p[1] + 1e-3, p[0])), store)
    score_file(path, tmp_path / "b.parquet", replace(model, decision=Decision(p[1], p[0] + 1e-3)), store)

    assert pq.read_table(output)["predicted"].to_pylist() == ["positive", "negative"]
    assert pq.read_table(tmp_path / "b.parquet")["predicted"].to_pylist() == ["uncertain", "uncertain"]


def test_what_cannot_be_scored_says_why(apply: Callable[..., tuple[ScoredFile, Path]], tmp_path: Path) -> None:
    """Null, empty and all-unknown texts come back with their status and no score; a long one is scored by its beginning and says so."""
    table = pa.table({"review": pa.array([GOOD, None, "", " <br /> ... ", "zxqv brrrl", f"{GOOD} " * 30])})
    path = tmp_path / "in.parquet"
    pq.write_table(table, path)

    result, output = apply(path)

    rows = pq.read_table(output).to_pylist()
    assert [row["status"] for row in rows] == ["ok", "empty", "empty", "empty", "unknown_words", "truncated"]
    assert (
        [row["p_positive"] is None for row in rows] == [row["predicted"] is None for row in rows] == [False, True, True, True, True, False]
    )
    assert [row["review"] for row in rows] == table["review"].to_pylist()
    assert (result.rows, result.scored, result.quarantined, result.quarantine) == (6, 6, 0, None)


def test_columns_of_the_added_names_are_kept(apply: Callable[..., tuple[ScoredFile, Path]], tmp_path: Path) -> None:
    """An input column named like an added one is kept as `input_<name>`, so a result can be scored again, and again."""
    path = write_csv(tmp_path / "in.csv", ["review", "status", "source"], [GOOD, "shipped", "web"])

    _, once = apply(path)
    _, twice = apply(once / "part-00000.parquet")
    _, thrice = apply(twice / "part-00000.parquet")

    assert pq.read_table(once).column_names == ["review", "input_status", "input_source", *ADDED_COLUMNS]
    assert pq.read_table(once)["input_status"].to_pylist() == ["shipped"]
    last = pq.read_table(thrice)
    assert len(set(last.column_names)) == len(last.column_names) == 3 + 3 * len(ADDED_COLUMNS)
    assert "shipped" in last.to_pylist()[0].values()


def test_csv_result_reads_back(apply: Callable[..., tuple[ScoredFile, Path]], tmp_path: Path) -> None:
    """A CSV result read by Python's csv gives back every value, whatever commas, quotes and line breaks stand in it."""
    texts = [f'{GOOD}, "quoted"', f"{BAD}\r\nand more", "lone \r return", "lone \n line", "", "  spaces  ", "tab\there", "ünïcödé 日本"]
    path = write_csv(tmp_path / "in.csv", ["id", "review"], *([str(n), text] for n, text in enumerate(texts)))

    _, output = apply(path, format="csv")
    _, parquet = apply(path)

    with output.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    expected = pq.read_table(parquet)
    assert header == expected.column_names
    assert [row[1] for row in rows] == texts
    assert [np.float32(row[2]) if row[2] else None for row in rows] == expected["p_positive"].to_pylist()
    assert [row[4] for row in rows] == expected["status"].to_pylist()


def test_refused_rows_go_to_quarantine(apply: Callable[..., tuple[ScoredFile, Path]], tmp_path: Path) -> None:
    """Rows that cannot be read stand in a quarantine file with row, line and reason; a later run without any removes it."""
    path = tmp_path / "in.csv"
    path.write_text(f'id,review\n1,"{GOOD}"\n2,too,many,fields\n3,"{BAD}"\n', encoding="utf-8")

    result, output = apply(path)
    kept = output.with_name("in.csv.parquet.quarantine.jsonl")
    (refused,) = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    path.write_text(f'id,review\n1,"{GOOD}"\n', encoding="utf-8")
    again, _ = apply(path)

    assert (result.rows, result.scored, result.quarantined, result.quarantine) == (3, 2, 1, str(kept))
    assert (refused["source"], refused["row"], refused["line"]) == ("in.csv", 2, 3)
    assert "too" not in refused["reason"]
    assert (again.quarantined, again.quarantine, kept.exists()) == (0, None, False)


def test_order_does_not_matter(apply: Callable[..., tuple[ScoredFile, Path]], tmp_path: Path) -> None:
    """Scoring shuffled rows gives the shuffled scores: what is said of a review does not depend on its neighbours."""
    rows = [row[:2] for row in (tiny.write_row(number) for number in range(3000, 3200))]
    shuffled = random.Random(0).sample(rows, len(rows))
    scores = []
    for name, order in (("a.csv", rows), ("b.csv", shuffled)):
        table = pq.read_table(apply(write_csv(tmp_path / name, ["id", "review"], *order))[1])
        assert table["id"].to_pylist() == [row[0] for row in order]
        scores.append(dict(zip(table["id"].to_pylist(), table["p_positive"].to_pylist(), strict=True)))

    assert scores[1] == pytest.approx(scores[0], abs=1e-6)


def test_no_rows_no_loss(apply: Callable[..., tuple[ScoredFile, Path]], tmp_path: Path) -> None:
    """A file with a header and no rows gives a result with all columns and no rows."""
    result, output = apply(write_csv(tmp_path / "in.csv", ["id", "review"]))

    assert (result.rows, result.scored) == (0, 0)
    assert pq.read_table(output).column_names == ["id", "review", *ADDED_COLUMNS]


def test_several_inputs_one_of_them_bad(trained: tiny.Trained, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """One damaged file and one without a text column do not stop the others; they are named with why, and the exit code is 3."""
    folder = tmp_path / "in"
    folder.mkdir()
    write_csv(folder / "a.csv", ["review"], [GOOD])
    (folder / "b.parquet").write_bytes(b"PAR1 this is none")
    write_csv(folder / "c.csv", ["colour"], ["red"])
    write_csv(folder / "d.csv", ["review"], [BAD])

    result = sentiment("score", folder, "--artifacts", trained.root, "--output", tmp_path / "out")

    assert result.exit_code == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.scored.parquet", "d.scored.parquet", "summary.html"]
    assert set(result.summary["failed"]) == {"b.parquet", "c.csv"}
    assert (result.summary["status"], result.summary["scored"]) == ("failed", 2)
    assert "--text-column" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_line_of_a_file_counts_what_has_no_score(trained: tiny.Trained, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """Rows in = rows scored + quarantined; those among the scored that hold nothing to judge are not kept quiet."""
    write_csv(tmp_path / "a.csv", ["id", "review"], ["1", GOOD], ["2", ""], ["3", "..."], ["4", "zxqv brrrl"])
    write_csv(tmp_path / "b.csv", ["id", "review"], ["1", GOOD])

    told = sentiment("score", tmp_path / "a.csv", tmp_path / "b.csv", "--artifacts", trained.root, "--output", tmp_path / "out").stderr

    assert "a.csv: 4 of 4 rows scored (2 empty, 1 unknown words), 0 quarantined" in told
    assert "b.csv: 1 of 1 rows scored, 0 quarantined" in told


def test_same_name_in_two_folders(trained: tiny.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files whose results would have one name are kept apart; a file given twice is refused before anything is scored."""
    for folder in ("in/x", "in/y"):
        (tmp_path / folder).mkdir(parents=True)
        write_csv(tmp_path / folder / "a.csv", ["review"], [GOOD])
    write_csv(tmp_path / "in" / "x" / "a.tsv", ["review"], [BAD])

    summary = scoring([tmp_path / "in"], trained.root, output=str(tmp_path / "out"))

    assert {Path(name) for name in [*summary["outputs"], summary["summary"]]} == set((tmp_path / "out").iterdir())
    assert len(set(summary["outputs"])) == 3
    singly = scoring([tmp_path / "in" / "x" / "a.csv", tmp_path / "in" / "y" / "a.csv"], trained.root, output=str(tmp_path / "out2"))
    assert len(set(singly["outputs"])) == 2
    monkeypatch.chdir(tmp_path / "out")
    beside = scoring([Path("../in/x/a.csv"), Path("../in/y/a.csv")], trained.root, output=str(tmp_path / "out4"))
    assert sorted(Path(name).name for name in beside["outputs"]) == ["in__x__a.scored.parquet", "in__y__a.scored.parquet"]
    with pytest.raises(CallerError, match="Given twice"):
        scoring([tmp_path / "in" / "x" / "a.csv"] * 2, trained.root, output=str(tmp_path / "out3"))
    assert not (tmp_path / "out3").exists()


@pytest.mark.parametrize(
    ("words", "exit_code", "told"),
    [
        (["missing.csv"], 2, "There is no such file"),
        (["sample"], 2, "There is no such file"),
        (["in.csv", "--explain", "-1"], 2, "names no words"),
        (["in.csv", "--model", "m-none"], 2, "models list"),
        (["in.csv", "--text-column", "reveiw"], 2, "Did you mean 'review'"),
        (["in.csv", "--encoding", "nonsense"], 2, "Unknown text encoding"),
        (["empty.csv"], 3, "empty"),
    ],
)
def test_failures_are_told_once(
    trained: tiny.Trained, tmp_path: Path, sentiment: Callable[..., Command], monkeypatch: pytest.MonkeyPatch,
    words: list[str], exit_code: int, told: str,
) -> None:  # fmt: skip
    """A wrong command or file ends with its exit code and one message that says what to do, without a traceback or a result."""
    write_csv(tmp_path / "in.csv", ["id", "review"], ["1", GOOD])
    (tmp_path / "empty.csv").touch()
    monkeypatch.chdir(tmp_path)

    result = sentiment("score", *words, "--artifacts", trained.root, "--output", tmp_path / "out")

    assert result.exit_code == exit_code
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_no_champion_yet(prefect_server: None, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """Scoring where nothing was trained is the caller's mistake, told with the command that trains."""
    result = sentiment("score", write_csv(tmp_path / "in.csv", ["review"], [GOOD]), "--artifacts", tmp_path / "nothing")

    assert result.exit_code == 2
    assert "sentiment train" in result.stderr


def test_sample_model_warns(artifacts: Path, trained: tiny.Trained, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """Scoring with a model of generated reviews warns that its scores mean nothing; with one of real reviews it does not."""
    path = write_csv(tmp_path / "in.csv", ["review"], [GOOD])
    quiet = sentiment("score", path, "--artifacts", artifacts)
    folder = artifacts / "models" / trained.summary["model_id"]
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    settings["trained_on"]["sample"] = True
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    tiny.reseal(folder)

    unpromoted = sentiment("score", path, "--artifacts", artifacts)
    loud = sentiment("score", path, "--artifacts", artifacts, "--model", trained.summary["model_id"])

    assert "generated sample" not in quiet.stderr
    assert "generated sample" in loud.stderr
    assert loud.exit_code == 0
    assert unpromoted.exit_code == 4 and "not the bundle that was promoted" in unpromoted.stderr


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_model_changed_while_it_is_used(
    trained: tiny.Trained, artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A model's folder that goes or changes in the middle of a run is a clear error, and no result, whole or half, is left."""
    folder = artifacts / "models" / trained.summary["model_id"]
    path = write_csv(tmp_path / "in.csv", ["review"], [GOOD])
    real = SentimentModel.score_reviews

    def score_and_disturb(self: SentimentModel, reviews: pa.Array) -> Any:
        scores = real(self, reviews)
        if len(reviews) == 1:  # not the probe texts
            if change == "removed":
                shutil.rmtree(folder)
            else:
                (folder / "bundle.json").write_text("{}", encoding="utf-8")
        return scores

    monkeypatch.setattr(SentimentModel, "score_reviews", score_and_disturb)
    with pytest.raises(MachineError, match="changed or removed while it was used"):
        scoring([path], artifacts, output=str(tmp_path / "out"))

    assert not list(tiny.files_of(tmp_path / "out"))


def test_reading_that_fails_midway_leaves_nothing(apply: Callable[..., tuple[ScoredFile, Path]], tmp_path: Path) -> None:
    """A compressed file that ends too soon is the data's fault, and leaves no result behind."""
    import gzip

    path = tmp_path / "in.csv.gz"
    rows = "".join(f"{n},{GOOD} {n}\n" for n in range(20_000))
    data = gzip.compress(f"id,review\n{rows}".encode())
    path.write_bytes(data[: len(data) // 2])

    with pytest.raises(DataError, match=r"in\.csv\.gz"):
        apply(path)

    assert not list(tiny.files_of(tmp_path / "out"))
