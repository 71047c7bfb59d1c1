import builtins
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tasks.errors import CallerError, DataError, MachineError
from tasks.reviews import remote
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.remote import is_remote
from tasks.reviews.sample import SampleSettings
from tasks.reviews.sources import FileSource, find_files, resolve_sources

DETECT = ReaderSettings()
SAMPLE = SampleSettings(rows=10)


@pytest.fixture
def bucket() -> Iterator[MemoryFileSystem]:
    """A store in memory, as fsspec has it for tests, with an export in it."""
    store = fsspec.filesystem("memory", skip_instance_cache=True)
    store.store.clear()
    store.pipe("/bucket/exports/may/a.csv", b"id,review\n007,Good.\n")
    store.pipe("/bucket/exports/june/b.jsonl.gz", gzip.compress(b'{"review": "Bad."}\n'))
    store.pipe("/bucket/exports/_SUCCESS", b"")
    store.pipe("/bucket/exports/.hidden.csv", b"id,review\n1,No.\n")
    yield store
    store.store.clear()


def _texts(found: list[FileSource]) -> list[str]:
    return [text for source in found for batch in source.read(DETECT) for text in batch.columns["review"].to_pylist()]


@pytest.mark.parametrize(
    ("address", "names", "texts"),
    [
        ("memory://bucket/exports/may/a.csv", ["a.csv"], ["Good."]),
        ("memory://bucket/exports", ["june/b.jsonl.gz", "may/a.csv"], ["Bad.", "Good."]),
        ("memory://bucket/exports/", ["june/b.jsonl.gz", "may/a.csv"], ["Bad.", "Good."]),
        ("memory://bucket/exports/*/*.csv", ["may/a.csv"], ["Good."]),
        ("memory://bucket/exports/**/*.gz", ["june/b.jsonl.gz"], ["Bad."]),
    ],
)
def test_addresses_name_files_folders_and_globs(bucket: Any, tmp_path: Path, address: str, names: list[str], texts: list[str]) -> None:
    """What stands behind an address is read like local files, named as seen from it."""
    found = find_files(address, tmp_path)

    assert [source.name for source in found] == names
    assert _texts(found) == texts
    assert all(source.path.is_relative_to(tmp_path) for source in found)


def test_files_behind_file_addresses(tmp_path: Path) -> None:
    """`file://` is an address like others, so that a store can be tried out on a disk."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id,review\n1,Good.\n")

    assert _texts(find_files((tmp_path / "in" / "a.csv").as_uri(), tmp_path / "downloads")) == ["Good."]


def test_a_folder_of_texts_may_be_remote(bucket: Any, tmp_path: Path) -> None:
    """Each file is a review, and a file that went away there goes here too."""
    for name in "abc":
        bucket.pipe(f"/bucket/texts/{name}.txt", f"text {name}".encode())
    (source,) = find_files("memory://bucket/texts", tmp_path)
    assert source.name == "texts" and _texts([source]) == ["text a", "text b", "text c"]

    bucket.rm("/bucket/texts/b.txt")

    assert _texts(find_files("memory://bucket/texts", tmp_path)) == ["text a", "text c"]


def test_a_file_is_fetched_once(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unchanged file is not fetched again; a changed one, and one whose copy was damaged, is."""
    fetched: list[str] = []
    real = MemoryFileSystem._open

    def count(self: Any, path: str, *rest: Any, **more: Any) -> Any:
        fetched.append(path)
        return real(self, path, *rest, **more)

    monkeypatch.setattr(MemoryFileSystem, "_open", count)
    address = "memory://bucket/exports/may/a.csv"
    (source,) = find_files(address, tmp_path)
    before = source.digest()
    find_files(address, tmp_path)
    assert len(fetched) == 1

    source.path.write_bytes(b"id,review\n007,Bad!.\n")
    assert find_files(address, tmp_path)[0].digest() == before
    assert len(fetched) == 2

    time.sleep(0)  # the store's clock has microseconds
    bucket.pipe("/bucket/exports/may/a.csv", b"id,review\n007,Fine.\n")
    assert _texts(find_files(address, tmp_path)) == ["Fine."]


def test_a_cut_transfer_leaves_nothing(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that comes shorter than the store says is an error, and no copy stands under its name."""
    real = MemoryFileSystem.info

    def longer(self: Any, path: str, **more: Any) -> Any:
        return {**real(self, path, **more), "size": 1000}

    monkeypatch.setattr(MemoryFileSystem, "info", longer)
    with pytest.raises(MachineError, match=r"a\.csv of memory://bucket/exports/may/a\.csv came with 20 of 1,000 bytes\. Run again"):
        find_files("memory://bucket/exports/may/a.csv", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("protocol", "extra", "package"),
    [("s3", "s3", "s3fs"), ("gs", "gcs", "gcsfs"), ("az", "azure", "adlfs")],
)
def test_a_missing_client_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, extra: str, package: str) -> None:
    """Without the package that reaches a store the message says which extra to install."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        CallerError, match=rf"{protocol}://bucket/a\.csv cannot be read yet: install the extra `{extra}` \(pip install {package}\)"
    ):
        find_files(f"{protocol}://bucket/a.csv", tmp_path)


def test_what_cannot_be_reached_says_why(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing there, an unknown protocol, no folder for copies: the caller's; a store that refuses: the machine's, without its text."""
    with pytest.raises(CallerError, match=r"There is no such file, folder or match: 'memory://bucket/none\.csv'"):
        find_files("memory://bucket/none.csv", tmp_path)
    with pytest.raises(CallerError, match=r"nonsense://a is no address.*Expected s3://"):
        find_files("nonsense://a", tmp_path)
    with pytest.raises(CallerError, match="remote"):
        find_files("memory://bucket/exports")

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError("key AKIA-SECRET is not allowed")

    monkeypatch.setattr(MemoryFileSystem, "isfile", refuse)
    with pytest.raises(MachineError, match=r"could not be fetched \(PermissionError\)\. Check the address.*credentials") as error:
        find_files("memory://bucket/exports/may/a.csv", tmp_path)
    assert "SECRET" not in str(error.value)


def test_equal_names_of_two_places_are_told_apart_by_their_addresses(bucket: Any, tmp_path: Path) -> None:
    """What a row's `source` says is where the file stands, not where its copy lies."""
    bucket.pipe("/other/a.csv", b"id,review\n1,Fine.\n")
    found = resolve_sources(
        ["memory://bucket/exports/*/a.csv", "memory://other/a.csv", "memory://bucket/exports/may/a.csv"], tmp_path, SAMPLE
    )
    assert [source.name for source in found] == ["may/a.csv", "memory:///other/a.csv", "memory:///bucket/exports/may/a.csv"]


def test_empty_folders_of_a_store_are_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some stores keep them as files without a name or content."""
    listed = {name: {"name": name, "size": 0, "type": "file"} for name in ("", "may/")}
    monkeypatch.setattr(remote, "_list_files", lambda system, path: ("bucket", listed))
    with pytest.raises(CallerError, match="There is no such file"):
        find_files("memory://bucket", tmp_path)


def test_names_that_leave_the_folder_are_refused(bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store's names are data: one that would be written elsewhere is not."""
    listed = {"../../outside.csv": {"name": "x", "size": 1, "type": "file"}}
    monkeypatch.setattr(remote, "_list_files", lambda system, path: ("bucket", listed))
    with pytest.raises(DataError, match="cannot be copied"):
        find_files("memory://bucket/exports", tmp_path)


def test_what_is_an_address() -> None:
    """A protocol makes one; a path, on any system, does not."""
    assert all(map(is_remote, ["s3://a/b", "gs://a", "az://a", "memory://a"]))
    assert not any(map(is_remote, ["a.csv", "C:\\a.csv", "a://b"[1:], "/x/y", "in/a*.csv"]))


def test_records_of_copies_are_plain(bucket: Any, tmp_path: Path) -> None:
    """Beside a copy stands what the store said of it and its digest, hidden from whoever reads the folder."""
    (source,) = find_files("memory://bucket/exports/may/a.csv", tmp_path)
    record = json.loads((source.path.parent / ".a.csv.fetched").read_text(encoding="utf-8"))
    assert record["sha256"] == source.digest() and record["size"] == 20
    assert find_files(str(source.path.parent)) == [FileSource(source.path, "a.csv")]
