"""Odd files and broken ones, scored in one run: every record of every file is in a result or in a quarantine, once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from conftest import Command
from torture import Case, archive_case, compressed_case, matrix_case, write
from torture_faults import FAULTS
from torture_oddities import CSV, OTHERS

UNSCORED = ("empty", "unknown_words")
ODD = (
    *("ragged", "quote never closed", "quote closed rows later", "undecodable byte", "value of over a megabyte", "nul", "header only"),
    *("line ends of all kinds", "line that tells the delimiter", "workbook", "folder of texts", "lines", "nested json", "bad json lines"),
    *("parquet of many types", "parquet of a long value", "json that is gzipped csv"),
)
BROKEN = (
    *(
        "empty",
        "cut gzip",
        "zip of nothing",
        "cut zip",
        "damaged workbook",
        "header undecodable",
        "web page",
        "broken array",
        "cut parquet",
    ),
    *("cut parquet", "list-typed text", "several texts", "no text", "zstd bomb"),
)


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    """Files of every kind, each in a folder of its own, so that none knows of another."""
    root = tmp_path_factory.mktemp("torture")
    builders: dict[str, Callable[[Path], Case]] = {
        **{name: (CSV | OTHERS)[name] for name in ODD},
        "cp1252": lambda folder: matrix_case(folder, "cp1252", "semicolon", "crlf"),
        "utf-16": lambda folder: matrix_case(folder, "utf-16-be-mark", "tab", "lf"),
        "old mac": lambda folder: matrix_case(folder, "utf-8", "pipe", "cr"),
        "zst": lambda folder: compressed_case(folder, "zst", "jsonl"),
        "xz": lambda folder: compressed_case(folder, "xz", "parquet"),
        "zip": lambda folder: archive_case(folder, "csv", "json", "parquet"),
    }
    made = {}
    for number, (name, build) in enumerate(builders.items()):
        folder = root / f"{number:02}"
        folder.mkdir()
        made[name] = build(folder)
    return made


def test_every_row_is_scored_or_quarantined(
    trained: tiny.Trained, cases: dict[str, Case], tmp_path: Path, sentiment: Callable[..., Command]
) -> None:
    """Two dozen files in one command: the input's values stand unchanged beside their scores, in order; the rest is in quarantine."""
    paths = [case.path for case in cases.values()]

    result = sentiment("score", *paths, "--artifacts", trained.root, "--output", tmp_path / "out")

    assert result.exit_code == 0, result.stderr
    assert len(paths) > 20
    num_refused = sum(len(case.refused) for case in cases.values())
    num_rows = sum(len(case.rows) for case in cases.values())
    assert (result.summary["rows"], result.summary["scored"], result.summary["quarantined"]) == (
        num_rows + num_refused,
        num_rows,
        num_refused,
    )
    tables = [pq.read_table(path) for path in result.summary["outputs"]]
    quarantined = [json.loads(line) for path in result.summary["quarantines"] for line in Path(path).read_text().splitlines()]
    for name, case in cases.items():
        mine = [table for table in tables if table.num_rows and _is_of(case, table["source"][0].as_py())]
        scored = [row for table in mine for row in table.to_pylist()]
        assert [{key: row[key] for key in own} for row, own in zip(scored, case.rows, strict=True)] == case.rows, name
        assert all((row["p_positive"] is None) == (row["status"] in UNSCORED) for row in scored), name
        refused = {row["row"]: row["line"] for row in quarantined if _is_of(case, row["source"])}
        assert refused == {row: line for row, (line, _) in case.refused.items()}, name


def _is_of(case: Case, source: str) -> bool:
    path = case.path.as_posix()
    return path == source or path.endswith(f"/{source}") or source.startswith((f"{path}/", f"{case.path.name}/"))


def test_broken_files_stop_no_other(trained: tiny.Trained, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """Of a folder of broken files and a sound one the sound one is scored; each other is named with what is wrong and what to do."""
    faults = {}
    for number, name in enumerate(BROKEN):
        (tmp_path / "in" / f"{number:02}").mkdir(parents=True)
        faults[f"{number:02}/"] = FAULTS[name](tmp_path / "in" / f"{number:02}")
    write(tmp_path / "in" / "sound.csv", "id,review\n1,The plot was wonderful\n")

    result = sentiment("score", tmp_path / "in", "--artifacts", trained.root, "--output", tmp_path / "out")

    assert result.exit_code == 3
    assert (result.summary["rows"], result.summary["scored"], len(result.summary["outputs"])) == (1, 1, 1)
    failed = result.summary["failed"]
    assert len(failed) == len(faults)
    for place, fault in faults.items():
        (told,) = (why for source, why in failed.items() if source.startswith(place))
        assert all(words in told for words in fault.words), told
    assert "Traceback" not in result.stderr


def test_every_kind_of_text_has_a_status(trained: tiny.Trained, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """Null, empty, blank, emoji, symbols, endless, foreign and unknown texts are rows like others: never lost, never a made-up score."""
    texts: dict[str, tuple[str | None, set[str]]] = {
        "null": (None, {"empty"}),
        "empty": ("", {"empty"}),
        "blank": (" \t\r\n\u00a0", {"empty"}),
        "emoji": ("😀😀 👍🏽", {"empty", "unknown_words"}),
        "symbols": ("--- *** $$$", {"empty", "unknown_words"}),
        "japanese": ("素晴らしい映画でした", {"unknown_words"}),
        "russian": ("Прекрасный фильм", {"unknown_words"}),
        "unknown": ("zxqv brrrl", {"unknown_words"}),
        "nul": ("\0", {"empty", "unknown_words"}),
        "endless": ("the plot was wonderful " * 40_000, {"truncated"}),
        "one word": ("x" * 900_000, {"unknown_words"}),
        "fine": ("the plot was wonderful", {"ok"}),
    }
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": list(texts), "review": [text for text, _ in texts.values()]}), path)

    result = sentiment("score", path, "--artifacts", trained.root, "--output", tmp_path / "out")

    assert result.exit_code == 0, result.stderr
    rows: list[dict[str, Any]] = pq.read_table(result.summary["outputs"][0]).to_pylist()
    assert [row["id"] for row in rows] == list(texts)
    for row in rows:
        assert row["status"] in texts[row["id"]][1], (row["id"], row["status"])
        assert (row["p_positive"] is None) == (row["predicted"] is None) == (row["status"] in UNSCORED), row["id"]
        assert row["review"] == texts[row["id"]][0]


def test_what_was_detected_is_shown_and_can_be_overruled(trained: tiny.Trained, tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """Format, compression, encoding, delimiter, header and text column stand in what the command says; each has an option."""
    path = write(tmp_path / "in.csv", b"sep=;\n" + "id;comment;body\n1;Schön, „gut“;x\n".encode("cp1252"))
    words = ("score", path, "--artifacts", trained.root, "--output", tmp_path / "out")

    asked = sentiment(*words, "--encoding", "cp1252")
    told = sentiment(*words, "--encoding", "cp1252", "--text-column", "comment")
    overruled = sentiment(
        *words, "--encoding", "cp1252", "--delimiter", ",", "--no-header", "--text-column", "column_1", "--input-format", "csv"
    )

    assert asked.exit_code == 2 and "Several columns may be the text: 'comment', 'body'. Choose one with --text-column" in asked.stderr
    assert "csv, cp1252, delimiter ';', header, columns id, comment, body, text in 'comment'" in told.stderr
    assert "csv, cp1252, delimiter ',', no header, columns column_1, text in 'column_1'" in overruled.stderr
    assert (told.summary["rows"], told.summary["scored"]) == (1, 1)
