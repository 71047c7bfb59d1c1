import errno
import hashlib
import json
import logging
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks import store as store_module
from tasks.errors import MachineError
from tasks.store import ArtifactRef, Draft, HashingFile, Recipe, Record, StepResult, Store, atomic_file, make_folder

DATA, NOTES = b"rows and columns", b"\x00\x01 more"
RECIPE = Recipe("clean", {"ingest": "ab" * 32}, {"rules": "default", "share": 0.1}, {"tasks.clean": "cd" * 32}, {"pyarrow": "26.0.1"})
MAIN, SECOND = f"clean/{RECIPE.key}.parquet", f"clean/{RECIPE.key}.notes.bin"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty artifacts folder, in a run."""
    return Store(tmp_path / "artifacts", run_id="run-1")


def _write(draft: Draft) -> None:
    draft.write_bytes(MAIN, DATA)
    draft.write_bytes(SECOND, NOTES)
    draft.rows = 320
    draft.facts["accuracy"] = 0.8125


def _writing(path: str, text: str) -> Callable[[Draft], None]:
    def write(draft: Draft) -> None:
        draft.write_bytes(path, text.encode())

    return write


def _never(draft: Draft) -> None:
    raise AssertionError("a verified artifact was made again")


def _files(store: Store, *folders: str) -> list[str]:
    return sorted(path.name for folder in folders for path in (store.root / folder).rglob("*") if path.is_file())


def test_what_is_made_once_is_found_again(store: Store) -> None:
    """The second time the writer does not run, and reference, rows and facts are the same."""
    made, found = store.make(RECIPE, _write), store.make(RECIPE, _never)
    assert (made.cached, found.cached) == (False, True)
    assert made.record == found.record == store.record_of(made.ref)
    assert made.ref == ArtifactRef("clean", RECIPE.key, MAIN, hashlib.sha256(DATA).hexdigest(), 320)
    assert found.record.facts == {"accuracy": 0.8125}
    assert [(file.path, file.sha256, file.size) for file in found.record.files] == [
        (MAIN, hashlib.sha256(DATA).hexdigest(), len(DATA)),
        (SECOND, hashlib.sha256(NOTES).hexdigest(), len(NOTES)),
    ]
    assert store.path(made.ref).read_bytes() == DATA
    assert _files(store, "clean") == sorted([f"{RECIPE.key}.json", Path(MAIN).name, Path(SECOND).name])
    assert _files(store, "tmp", "set_aside") == []


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_artifacts_are_their_owners_alone(store: Store) -> None:
    """Reviews may be personal: nobody else may enter the folders or read the files."""
    store.make(RECIPE, _write)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in store.root.rglob("*") if path.parent.name == "clean" or path.is_dir()}
    assert {oct(mode) for path, mode in modes.items() if path.is_dir()} == {"0o700"}
    assert {oct(mode) for path, mode in modes.items() if path.is_file()} == {"0o600"}


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_truncate, _flip, _empty, Path.unlink])
@pytest.mark.parametrize("name", [MAIN, SECOND, f"clean/{RECIPE.key}.json"])
def test_a_damaged_artifact_is_made_again(
    store: Store, name: str, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A truncated, flipped, emptied or deleted file, or record, is noticed, kept aside and made anew to the same digests."""
    made = store.make(RECIPE, _write)
    damage(store.root / name)
    damaged = (store.root / name).read_bytes() if (store.root / name).exists() else None
    again = store.make(RECIPE, _write)
    assert not again.cached and again.record.files == made.record.files
    assert store.make(RECIPE, _never).record == again.record
    aside = [path.read_bytes() for path in (store.root / "set_aside").glob(f"*-{Path(name).name}")]
    assert aside == ([] if damaged is None else [damaged])
    assert (f"Set aside {name}" in caplog.text) == (damaged is not None)


@pytest.mark.parametrize("text", ["", "5", "null", '"text"', "[]", "[1]", "{}", '{"key": 1}', "\ud800", "[" * 9])
def test_a_record_that_is_none_is_a_miss(store: Store, text: str) -> None:
    """Whatever stands in a record's place counts as nothing and stays for whoever only looks; the step's next run sets it aside."""
    place = store.root / "clean" / f"{RECIPE.key}.json"
    place.parent.mkdir(parents=True)
    place.write_bytes(text.encode(errors="surrogatepass"))
    assert store.find(RECIPE) is None and place.exists()
    assert not store.make(RECIPE, _write).cached
    assert store.find(RECIPE) is not None and len(list((store.root / "set_aside").iterdir())) == 1


def test_no_flipped_bit_of_a_record_goes_unnoticed(store: Store) -> None:
    """A record says what it said, or is none: its rows and facts are as safe as the files it names."""
    record = store.make(RECIPE, _write).record
    written = record.to_json().encode()
    for place in range(len(written)):
        flipped = bytearray(written)
        flipped[place] ^= 1 << place % 8
        try:
            read = Record.from_json(flipped.decode())
        except (ValueError, KeyError, TypeError):
            continue
        assert read == record


def test_a_record_of_another_recipe_is_a_miss(store: Store) -> None:
    """A record copied to another key does not vouch for that key's artifact."""
    store.make(RECIPE, _write)
    other = replace(RECIPE, settings={"rules": "tutorial"})
    text = (store.root / "clean" / f"{RECIPE.key}.json").read_text().replace(f'"key": "{RECIPE.key}"', f'"key": "{other.key}"')
    (store.root / "clean" / f"{other.key}.json").write_text(text)
    assert store.find(other) is None


def _break_midway(draft: Draft) -> None:
    file = draft.open(MAIN)
    file.write(DATA[:5])
    raise KeyError("the step is broken")


def test_a_failed_step_leaves_nothing(store: Store) -> None:
    """An error midway reaches the caller as it is; no file, no record and no draft stays, and the next run works."""
    with pytest.raises(KeyError, match="the step is broken"):
        store.make(RECIPE, _break_midway)
    assert _files(store, "clean", "tmp") == [] and list((store.root / "tmp").iterdir()) == []
    assert store.journal() == {}
    assert not store.make(RECIPE, _write).cached


def _full_disk(*_: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(("where", "what"), [(HashingFile, "write"), (HashingFile, "close"), (os, "fsync"), (os, "replace"), (os, "open")])
def test_a_full_disk_is_named_with_its_remedy(store: Store, monkeypatch: pytest.MonkeyPatch, where: Any, what: str) -> None:
    """Wherever the disk refuses, the error says what, where and what to do; nothing half-written counts."""
    with monkeypatch.context() as patch:
        for name in ("locks", "tmp", "clean"):
            make_folder(store.root / name)
        patch.setattr(where, what, _full_disk) if what != "open" else patch.setattr(store_module, "HashingFile", _full_disk)
        with pytest.raises(
            MachineError, match=r"Cannot write clean to .*No space left on device.*--artifacts.*same command again"
        ) as caught:
            store.make(RECIPE, _write)
    assert str(store.root) in str(caught.value) and caught.value.exit_code == 4
    assert list((store.root / "tmp").iterdir()) == [] and store.find(RECIPE) is None
    assert not store.make(RECIPE, _write).cached


def test_a_disk_that_fills_between_two_files_leaves_no_record(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files may stand without their record, never a record without its files."""
    replaced: list[Any] = []

    def replace_once(source: Path, target: Path) -> None:
        _full_disk() if replaced else replaced.append(Path(source).rename(target))

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace_once)
        with pytest.raises(MachineError):
            store.make(RECIPE, _write)
    assert _files(store, "clean") == [Path(MAIN).name] and store.find(RECIPE) is None
    assert not store.make(RECIPE, _write).cached


@pytest.mark.skipif(os.name != "posix", reason="folders cannot be synced elsewhere")
def test_what_is_committed_survives_a_power_cut(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file's bytes reach the disk before its name does, its name before the next file's, and the record's last of all."""
    events: list[tuple[str, int]] = []
    sync, replace_file = os.fsync, os.replace

    def note_sync(descriptor: int) -> None:
        events.append(("sync", os.fstat(descriptor).st_ino))
        sync(descriptor)

    def note_rename(source: Path, target: Path) -> None:
        events.append(("rename", os.stat(source).st_ino))  # noqa: PTH116
        replace_file(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", note_sync)
        patch.setattr(os, "replace", note_rename)
        store.make(RECIPE, _write)
    folder = (store.root / "clean").stat().st_ino
    main, second, record = ((store.root / name).stat().st_ino for name in (MAIN, SECOND, f"clean/{RECIPE.key}.json"))
    renames = [place for place, (what, _) in enumerate(events) if what == "rename"]
    assert [events[place][1] for place in renames] == [main, second, record]
    for place in renames:
        assert ("sync", events[place][1]) in events[:place] and events[place + 1] == ("sync", folder)


class _Signal(logging.Handler):
    """Tells a thread that another one waits for the lock."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "Another run is working on clean" in record.getMessage():
            self.waits.set()


def test_two_threads_make_it_once(store: Store) -> None:
    """Who comes second waits, says so, and gets what the first made."""
    signal, results = _Signal(), list[StepResult]()
    store_module.logger.addHandler(signal)
    second = threading.Thread(target=lambda: results.append(store.make(RECIPE, _never)))

    def write(draft: Draft) -> None:
        second.start()
        assert signal.waits.wait(60)
        _write(draft)

    try:
        first = store.make(RECIPE, write)
        second.join(60)
    finally:
        store_module.logger.removeHandler(signal)
    assert not first.cached and [result.record for result in results] == [first.record] and results[0].cached


OTHER_PROCESS = """
import json, logging, os, sys
from pathlib import Path
from tasks.store import Recipe, Store
logging.basicConfig(stream=sys.stdout, format="%(message)s")
recipe = Recipe(**json.loads(sys.argv[2]))
def write(draft):
    draft.open("clean/half").write(b"half")
    os._exit(9)
print("cached" if Store(Path(sys.argv[1])).make(recipe, write).cached else "made", flush=True)
"""


def _other_process(store: Store) -> "subprocess.Popen[str]":
    recipe = json.dumps({name: getattr(RECIPE, name) for name in ("step", "inputs", "settings", "modules", "libraries")})
    command = [sys.executable, "-c", OTHER_PROCESS, str(store.root), recipe]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(store_module.__file__).parents[1])


def test_two_processes_make_it_once(store: Store) -> None:
    """So it is between processes: the other waits for this one's lock and finds the artifact."""
    said: list[str] = []

    def write(draft: Draft) -> None:
        other = _other_process(store)
        assert other.stdout
        said.append(other.stdout.readline())
        _write(draft)
        others.append(other)

    others: list[subprocess.Popen[str]] = []
    store.make(RECIPE, write)
    rest, _ = others[0].communicate(timeout=60)
    assert "Another run is working on clean" in said[0] and rest == "cached\n"


def test_a_killed_process_leaves_no_lock_and_no_artifact(store: Store) -> None:
    """A process that dies while writing holds nobody up and leaves nothing under a final name."""
    other = _other_process(store)
    other.communicate(timeout=60)
    assert other.returncode == 9 and _files(store, "clean") == []
    assert not store.make(RECIPE, _write).cached


def test_the_journal_tells_what_the_steps_did(store: Store) -> None:
    """In order, by step, of this run alone; a plain call without a run keeps none."""
    store.make(RECIPE, _write)
    store.note("tokenize", cached=True, seconds=0.5, rows=7)
    journal = store.journal()
    assert list(journal) == ["clean", "tokenize"] and journal["tokenize"] == {"state": "cached", "seconds": 0.5, "rows": 7}
    assert journal["clean"]["state"] == "completed" and journal["clean"]["rows"] == 320
    assert Store(store.root, "run-2").journal() == {} == Store(store.root).journal()
    Store(store.root).make(RECIPE, _never)
    assert _files(store, "runs") == ["run-1.jsonl"] and store.journal() == journal


def _step(store: Store, step: str, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    recipe = Recipe(step, {name: ref.sha256 for name, ref in inputs.items()}, {}, {}, {})
    return store.make(recipe, _writing(f"{step}/{recipe.key}.bin", recipe.key)).ref


def test_lineage_goes_back_to_the_first_step(store: Store) -> None:
    """Records are found by what they made, through every input; of two that made the same, the latest; a lost one is only missing."""
    ingested = _step(store, "ingest", {})
    cleaned = _step(store, "clean", {"ingest": ingested})
    _step(store, "clean", {"ingest": cleaned})
    rows = _step(store, "split", {"clean": cleaned})
    trained = _step(store, "train", {"split": rows, "clean": cleaned})
    assert {step: record.ref for step, record in store.lineage(trained).items()} == {
        "train": trained,
        "split": rows,
        "clean": cleaned,
        "ingest": ingested,
    }
    twin = replace(store.record_of(cleaned).recipe, settings={"other": "rules"})
    store.make(twin, _writing("clean/twin.bin", cleaned.key))
    assert store.lineage(trained)["clean"].recipe == twin
    for key in (cleaned.key, twin.key):
        (store.root / "clean" / f"{key}.json").unlink()
    assert set(store.lineage(trained)) == {"train", "split"}


def test_records_come_latest_first(store: Store) -> None:
    """Those that can be read; other files beside them do not matter."""
    refs = [store.make(replace(RECIPE, settings={"seed": seed}), _write).ref for seed in range(3)]
    (store.root / "clean" / "abc.metrics.json").write_text("[1]")
    assert [record.ref.key for record in store.records("clean")] == [ref.key for ref in reversed(refs)]
    assert store.records("nothing") == []


def test_a_lost_record_is_the_machines_fault(store: Store) -> None:
    """Asked for the record behind a reference that is gone, the store says what and what to do."""
    ref = store.make(RECIPE, _write).ref
    (store.root / "clean" / f"{RECIPE.key}.json").unlink()
    with pytest.raises(MachineError, match=rf"record of clean {RECIPE.key[:12]} in .* is gone.*Run the command again"):
        store.record_of(ref)


def test_json_files_are_strict(store: Store) -> None:
    """A number that JSON does not have is refused before anything is written."""

    def write(draft: Draft) -> None:
        draft.write_json(MAIN, {"loss": float("nan")})

    with pytest.raises(ValueError, match="not JSON compliant"):
        store.make(RECIPE, write)
    assert _files(store, "clean", "tmp") == []


def test_an_atomic_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    """While it is written, and when that fails, the old content stands; no part of the new one stays."""
    path = tmp_path / "models" / "champion.json"
    with atomic_file(path) as file:
        file.write(b"old")
    with pytest.raises(KeyError), atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        raise KeyError
    with pytest.raises(MachineError, match=r"Cannot write .*champion\.json: No space left on device\. Free some space"), atomic_file(path):
        _full_disk()
    assert path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_is_the_machines_fault(tmp_path: Path) -> None:
    """A file in the way of the artifacts folder is an error with a remedy."""
    (tmp_path / "artifacts").write_bytes(b"")
    with pytest.raises(MachineError, match=r"Cannot create the folder .*--artifacts"):
        Store(tmp_path / "artifacts").make(RECIPE, _write)


def test_a_hashing_file_only_goes_forward(tmp_path: Path) -> None:
    """Its digest holds for one pass of writing, so it refuses to be sought or read; bytes, views and wide views count alike."""
    file = HashingFile(tmp_path / "file")
    file.write(b"ab")
    file.write(memoryview(b"cdef").cast("H"))  # type: ignore[arg-type]
    assert (file.seekable(), file.readable(), file.writable(), file.tell(), file.closed) == (False, False, True, 6, False)
    file.close()
    file.close()
    assert file.closed and file.sha256 == hashlib.sha256(b"abcdef").hexdigest() and (tmp_path / "file").read_bytes() == b"abcdef"
