"""A folder that feedback arrives in: what is new by content is scored once, and nothing there is touched."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import tiny
from conftest import Command

from flows import commands, scoring
from tasks.model.registry import champion
from tasks.score import ScoredFile, ScoringPlan
from tasks.store import Store

LONG_AGO = 1_700_000_000


def put(path: Path, *numbers: int, changed: int = LONG_AGO) -> Path:
    """Write reviews into a file that was last changed then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tiny.write_reviews(path, [tiny.write_row(number) for number in numbers])
    os.utime(path, (changed, changed))
    return path


def state_of(folder: Path) -> dict[Path, tuple[bytes, int]]:
    """Return content and time of the last change of every file."""
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in tiny.files_of(folder)}


@pytest.fixture
def look(artifacts: Path, tmp_path: Path, sentiment: Callable[..., Command]) -> Callable[..., Command]:
    """Score what is new in the inbox."""
    (tmp_path / "inbox").mkdir()

    def call(*words: str) -> Command:
        return sentiment("score", "--inbox", tmp_path / "inbox", "--artifacts", artifacts, "--output", tmp_path / "out", *words)

    return call


def test_new_files_are_scored_once(look: Callable[..., Command], tmp_path: Path) -> None:
    """An empty inbox is fine; a new file is scored; again nothing is; the next file is scored alone; all stay where they are."""
    empty = look()
    first = put(tmp_path / "inbox" / "monday.csv", 1, 2, 3)
    found = look()
    again = look()
    put(tmp_path / "inbox" / "sub" / "tuesday.csv", 4, 5)
    before = state_of(tmp_path / "inbox")
    second = look()

    assert [run.summary["status"] for run in (empty, found, again, second)] == ["nothing new", "scored", "nothing new", "scored"]
    assert [run.summary["scored"] for run in (empty, found, again, second)] == [0, 3, 0, 2]
    assert [run.exit_code for run in (empty, found, again, second)] == [0] * 4
    assert state_of(tmp_path / "inbox") == before and first in before
    (output,) = second.summary["outputs"]
    assert set(pq.read_table(output)["source"].to_pylist()) == {"sub/tuesday.csv"}


def test_the_champion_is_known_by_both_names(look: Callable[..., Command], artifacts: Path, tmp_path: Path) -> None:
    """What the champion scored as such is not new under its id, as `score` is told it by a promotion, nor the other way round."""
    current = champion(Store(artifacts))
    assert current is not None
    by_name, by_id = (), ("--model", current.model_id)
    put(tmp_path / "inbox" / "monday.csv", 1, 2, 3)
    first = [look(*by_id).summary, look(*by_name).summary]
    put(tmp_path / "inbox" / "tuesday.csv", 4, 5)
    second = [look(*by_name).summary, look(*by_id).summary]

    assert [run["scored"] for run in (*first, *second)] == [3, 0, 2, 0]
    assert [run["status"] for run in (*first, *second)] == ["scored", "nothing new"] * 2


def test_content_decides(look: Callable[..., Command], tmp_path: Path) -> None:
    """The same content under another name is not new; other content under the same name is, and leaves the earlier result alone."""
    path = put(tmp_path / "inbox" / "feedback.csv", 1, 2, 3)
    first = look().summary
    shutil.copy2(path, tmp_path / "inbox" / "copy.csv")
    os.utime(path, (LONG_AGO + 9, LONG_AGO + 9))
    copied = look().summary
    put(path, 4, 5, changed=LONG_AGO + 99)
    replaced = look().summary

    assert copied["status"] == "nothing new"
    assert replaced["scored"] == 2
    outputs = [*first["outputs"], *replaced["outputs"]]
    assert len(set(outputs)) == 2
    assert [pq.read_table(output).num_rows for output in outputs] == [3, 2]


def test_file_that_may_not_be_whole_waits(look: Callable[..., Command], tmp_path: Path) -> None:
    """A file that was written to a moment ago comes next time, which is told."""
    path = put(tmp_path / "inbox" / "a.csv", 1, 2)
    os.utime(path)
    early = look()
    os.utime(path, (LONG_AGO, LONG_AGO))

    assert (early.summary["status"], look().summary["status"]) == ("nothing new", "scored")
    assert "1 may still be being written" in early.stderr


def test_bad_file_is_told_once(look: Callable[..., Command], tmp_path: Path) -> None:
    """A file that cannot be scored is named with exit code 3, and stops no other; unchanged it is left alone, mended it is scored."""
    put(tmp_path / "inbox" / "good.csv", 1, 2)
    bad = tmp_path / "inbox" / "bad.csv"
    bad.write_bytes(b"")
    os.utime(bad, (LONG_AGO, LONG_AGO))
    first, second = look(), look()
    put(bad, 3)
    third = look()

    assert [run.exit_code for run in (first, second, third)] == [3, 0, 0]
    assert [run.summary["scored"] for run in (first, second, third)] == [2, 0, 1]
    assert list(first.summary["failed"]) == ["bad.csv"]
    assert "1 of 2 files were not scored" in first.stderr
    assert "1 could not be scored before and have not changed since" in second.stderr


def test_file_that_changed_is_tried_again(look: Callable[..., Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that somebody wrote to while it was read is not at fault: it is tried again though its content is the same."""
    path = put(tmp_path / "inbox" / "a.csv", 1, 2)
    real = scoring.look_at

    def touched(*given: object) -> object:
        found = real(*given)  # type: ignore[arg-type]
        os.utime(path, (LONG_AGO + 1, LONG_AGO + 1))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "look_at", touched)
        first = look()

    assert (first.exit_code, look().summary["status"]) == (3, "scored")


def test_a_file_mended_while_it_failed_is_new(look: Callable[..., Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was put in a bad file's place before the run ended is no bad file: the next look scores it."""
    bad = tmp_path / "inbox" / "monday.csv"
    bad.write_text("")
    os.utime(bad, (LONG_AGO, LONG_AGO))
    score_files = scoring.score_files

    def mend(*arguments: Any) -> list[ScoredFile]:
        put(bad, 1, 2, changed=LONG_AGO + 1)
        return score_files(*arguments)

    monkeypatch.setattr(scoring, "score_files", mend)
    failed = look()
    monkeypatch.setattr(scoring, "score_files", score_files)
    mended = look()

    assert (failed.exit_code, mended.exit_code, mended.summary["scored"]) == (3, 0, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="such names are no names elsewhere")
def test_a_name_that_is_no_text_stops_nothing(look: Callable[..., Command], tmp_path: Path) -> None:
    """A file in the inbox whose name is not UTF-8 fails, is told by name, and the others are scored."""
    put(tmp_path / "inbox" / "monday.csv", 1, 2)
    put(Path(os.fsdecode(bytes(tmp_path) + b"/inbox/caf\xe9.csv")), 3)

    told = look()

    assert (told.exit_code, told.summary["scored"], list(told.summary["failed"])) == (3, 2, ["caf\\udce9.csv"])


def test_each_run_has_its_page(look: Callable[..., Command], tmp_path: Path) -> None:
    """A run's page stays when the next run has written its own; summary.html is always the latest."""
    pages = []
    for number in (1, 2):
        put(tmp_path / "inbox" / f"{number}.csv", number)
        pages.append(Path(look().summary["summary"]))

    assert "1.csv" in pages[0].read_text(encoding="utf-8")
    assert pages[0] != pages[1]
    assert (tmp_path / "out" / "summary.html").read_bytes() == pages[1].read_bytes()


def test_memory_survives(look: Callable[..., Command], artifacts: Path, tmp_path: Path) -> None:
    """What was scored stays so though its result was taken away; another format is another purpose; a damaged memory is begun anew."""
    put(tmp_path / "inbox" / "a.csv", 1, 2)
    look()
    shutil.rmtree(tmp_path / "out")
    taken = look()
    other = look("--format", "jsonl")
    (place,) = (path for path in artifacts.glob("score/*.inbox.jsonl") if "parquet" in path.read_text(encoding="utf-8"))
    place.write_text("{", encoding="utf-8")

    assert taken.summary["status"] == "nothing new"
    assert json.loads(Path(other.summary["outputs"][0]).read_text(encoding="utf-8").splitlines()[0])["id"] == "r1"
    assert look().summary["status"] == "scored"


def test_another_purpose(look: Callable[..., Command], tmp_path: Path) -> None:
    """Scored for other columns or with explanations, files are new again, and each purpose is remembered."""
    put(tmp_path / "inbox" / "a.csv", 1, 2)
    purposes = ([], ["--text-column", "shop"], ["--explain", "2"])

    assert [look(*words).summary["status"] for words in purposes] == ["scored"] * 3
    assert look(*purposes[1]).summary["status"] == "nothing new"


def test_own_results_are_no_feedback(artifacts: Path, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """An inbox that holds the artifacts and the results is no trouble: they are not scored."""
    put(tmp_path / "a.csv", 1, 2)
    inbox = ["score", "--inbox", tmp_path, "--artifacts", artifacts]
    for output in (tmp_path, tmp_path / "out"):
        first = sentiment(*inbox, "--output", output)
        for path in tiny.files_of(tmp_path):
            os.utime(path, (LONG_AGO, LONG_AGO))
        again = sentiment(*inbox, "--output", output)

        assert (first.summary["rows"], first.summary["failed"]) == (2, {})
        assert again.summary["status"] == "nothing new"


def test_remembered_at_once(look: Callable[..., Command], artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is remembered when its result is published, so that a run that is killed later does not come back to it."""
    for number in range(3):
        put(tmp_path / "inbox" / f"{number}.csv", number)
    remembered: list[int] = []
    real = scoring.publish_file

    def publish(plan: ScoringPlan, store: Store) -> ScoredFile:
        remembered.append(sum(place.read_text(encoding="utf-8").count('"scored"') for place in artifacts.glob("score/*.inbox.jsonl")))
        return real(plan, store)

    monkeypatch.setattr(scoring, "publish_file", publish)
    look()

    assert remembered == [0, 1, 2]


def test_watching(look: Callable[..., Command], artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --every the inbox is looked into again and again, a run is started only when something is new, and Ctrl-C ends it."""
    naps = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            put(tmp_path / "inbox" / "late.csv", 7, 8)
        if len(naps) == 5:
            raise KeyboardInterrupt

    put(tmp_path / "inbox" / "early.csv", 1)
    monkeypatch.setattr(commands.time, "sleep", sleep)

    watched = look("--every", "60")

    assert watched.exit_code == 130
    assert naps == [60.0] * 5
    assert watched.stderr.count("rows scored with") == 2
    assert len(list((tmp_path / "out").glob("*.parquet"))) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "either files, folders or globs, or with --inbox"),
        (["--inbox", "none"], "no folder 'none'"),
        (["a.csv", "--inbox", "."], "either files"),
        (["a.csv", "--every", "5"], "--every"),
        (["a.csv", "--scheduler", "tcp://127.0.0.1:1"], "--runner dask"),
    ],
)
def test_wrong_words(
    trained: tiny.Trained, sentiment: Callable[..., Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    """Options that do not go together end with exit code 2 and say what does."""
    monkeypatch.chdir(tmp_path)

    result = sentiment("score", *words, "--artifacts", trained.root)

    assert result.exit_code == 2
    assert told in result.stderr
