"""Archives, paths and Parquet files made to do harm: nothing is read or written outside, nothing crashes, and each is named."""

import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Command

from tasks.errors import CallerError, DataError, PipelineError
from tasks.reviews.compression import list_members
from tasks.reviews.readers import ReaderSettings, read_batches
from tasks.reviews.sources import find_files

CONTENT = b"id,review\n" + b"".join(b"r%d,the plot was dull and long\n" % number for number in range(20))
ODD_NAMES = ("a\nb.csv", "$(touch owned).csv", "`id`.csv", "it's \"quoted\".csv", "-rf.csv", "--output.csv", "n" * 240 + ".csv",
             "%s{0}.csv", "<script>alert(1)<.csv", "r\u202eview.csv", "\x1b[31mred.csv", "[ab].csv", "star*.csv", " .csv")  # fmt: skip
OUTSIDE = ("../outside.csv", "../../outside.csv", "/outside.csv", "C:\\outside.csv", "a\\..\\..\\outside.csv", "a/../../outside.csv")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="it limits memory by /proc")
@pytest.mark.parametrize("mutants", [1500, pytest.param(200_000, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])])
def test_damaged_parquet(tmp_path: Path, mutants: int) -> None:
    """Read with little memory and time, a damaged Parquet file is refused, or gives every row that it states; Arrow ends no process."""
    command = [sys.executable, str(Path(__file__).with_name("parquet_mutants.py")), str(tmp_path), str(mutants)]

    told = subprocess.run(command, capture_output=True, text=True, timeout=7200, check=False)

    assert told.returncode == 0, told.stderr[-4000:]
    found = json.loads(told.stdout)
    print(f"{mutants:,} damaged Parquet files: {found['ends']}")
    assert found["bad"] == {}, told.stderr[-4000:]
    assert min(found["ends"][end] for end in ("read", "refused")) > mutants / 50


def zipped(path: Path, *names: str | zipfile.ZipInfo, content: bytes = CONTENT) -> Path:
    """Write an archive of members with the same content."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return path


def files_below(folder: Path) -> set[str]:
    """Return what stands in a folder and below."""
    return {path.relative_to(folder).as_posix() for path in tiny.files_of(folder)}


def test_members_that_lead_outside(tmp_path: Path, trained: tiny.Trained, sentiment: Callable[..., Command]) -> None:
    """Members of an archive with `..`, absolute or odd names are scored like others, and nothing is written but into the output folder."""
    archive = zipped(tmp_path / "reviews.zip", *OUTSIDE, *ODD_NAMES)
    before = files_below(tmp_path)

    scored = sentiment("score", archive, "--artifacts", trained.root, "--output", tmp_path / "deep" / "er" / "out")

    new = files_below(tmp_path) - before
    assert (scored.exit_code, "Traceback" in scored.stderr) == (0, False), scored.stderr
    assert [name for name in new if not name.startswith("deep/er/out/")] == []
    assert scored.summary["rows"] == scored.summary["scored"] == 20 * len(OUTSIDE + ODD_NAMES)
    assert len(scored.summary["outputs"]) == len(set(scored.summary["outputs"])) == len(OUTSIDE + ODD_NAMES)
    assert not Path("/outside.csv").exists()


def test_links_in_an_archive(tmp_path: Path) -> None:
    """A member that is a link is read as the few bytes that it is, and never followed."""
    secret = tmp_path / "secret.csv"
    secret.write_bytes(CONTENT)
    link = zipfile.ZipInfo("link.csv")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive = zipped(tmp_path / "reviews.zip", link, content=str(secret).encode())

    text = ""
    try:
        for batch in read_batches(archive, "reviews.zip", ReaderSettings(), "link.csv"):
            text += str(batch.columns.to_pylist())
    except PipelineError:
        pass

    assert "dull" not in text


@pytest.mark.parametrize("depth", [1, 2])
def test_archives_in_archives(tmp_path: Path, depth: int) -> None:
    """An archive within an archive is named and refused, however deep."""
    path = zipped(tmp_path / "0.zip", "reviews.csv")
    for number in range(1, depth + 1):
        path = zipped(tmp_path / f"{number}.zip", "inner.zip", content=path.read_bytes())

    with pytest.raises(DataError, match=r"holds a zip archive inside"):
        list(read_batches(path, path.name, ReaderSettings(), "inner.zip"))


@pytest.mark.parametrize("place", ["local", "central"])
@pytest.mark.parametrize(("field", "value"), [("crc", 0), ("compressed", 10), ("compressed", 1 << 30), ("plain", 10), ("plain", 1 << 31)])
def test_sizes_that_lie(tmp_path: Path, place: str, field: str, value: int) -> None:
    """An archive whose directory lies about a member gives all its rows, or an error; never fewer rows in silence."""
    path = zipped(tmp_path / "reviews.zip", "reviews.csv")
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x03\x04" if place == "local" else b"PK\x01\x02") + (14 if place == "local" else 16)
    start += {"crc": 0, "compressed": 4, "plain": 8}[field]
    content[start : start + 4] = value.to_bytes(4, "little")
    path.write_bytes(content)

    rows = 0
    try:
        for member in list_members(path):
            rows += sum(batch.columns.num_rows for batch in read_batches(path, path.name, ReaderSettings(), member))
    except PipelineError:
        return
    assert rows == 20


@pytest.mark.skipif(os.name != "posix", reason="such names are no names elsewhere")
def test_paths_with_odd_names(tmp_path: Path, trained: tiny.Trained, sentiment: Callable[..., Command], monkeypatch: Any) -> None:
    """Files whose names hold line ends, quotes, `$`, `-` or wildcards are scored like others; nothing of a name is carried out."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ODD_NAMES:
        (folder / name).write_bytes(CONTENT)

    scored = sentiment("score", folder, "--artifacts", trained.root, "--output", tmp_path / "out")

    assert (scored.exit_code, "Traceback" in scored.stderr) == (0, False), scored.stderr
    assert scored.summary["rows"] == scored.summary["scored"] == 20 * len(ODD_NAMES)
    assert "\x1b" not in scored.stderr and "\u202e" not in scored.stderr
    assert {name.partition("/")[0] for name in files_below(tmp_path)} == {"in", "out"}


@pytest.mark.skipif(sys.platform != "linux", reason="such names are no names elsewhere")
@pytest.mark.parametrize("command", ["score", "train"])
@pytest.mark.parametrize("named", ["file", "folder"])
def test_names_that_are_no_text(tmp_path: Path, trained: tiny.Trained, sentiment: Callable[..., Command], command: str, named: str) -> None:
    """A file whose name is not UTF-8 is told at once, escaped, as what to rename: no record, page or Prefect could hold it."""
    path = Path(os.fsdecode(bytes(tmp_path) + b"/in/caf\xe9.csv"))
    path.parent.mkdir()
    path.write_bytes(CONTENT)

    refused = sentiment(command, path if named == "file" else path.parent, "--artifacts", trained.root)

    assert (refused.exit_code, "caf\\udce9.csv is not UTF-8" in refused.stderr, "Traceback" in refused.stderr) == (2, True, False)


@pytest.mark.skipif(sys.platform != "linux", reason="such names are no names elsewhere")
def test_a_name_that_is_no_text_stops_no_other_file(tmp_path: Path) -> None:
    """In a folder, a file whose name is not UTF-8 is one that fails when it is looked at, under a name that can be shown."""
    for name in (b"caf\xe9.csv", b"tea.csv"):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(CONTENT)

    bad, good = find_files(str(tmp_path))

    assert (bad.name, good.name) == ("caf\\udce9.csv", "tea.csv")
    good.stamp()
    for look in (bad.stamp, bad.digest):
        with pytest.raises(CallerError, match="is not UTF-8"):
            look()
