import contextlib
import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.errors import CallerError, DataError, MachineError
from tasks.reviews import imdb
from tasks.reviews.batches import Batch
from tasks.reviews.imdb import download_archive, read_archive, read_unlabelled

Members = list[tuple[str | tarfile.TarInfo, bytes]]
REVIEWS: Members = [
    ("aclImdb/README", b"about"),
    ("aclImdb/train/pos/0_9.txt", "Très bon.<br />Yes".encode()),
    ("aclImdb/train/labeledBow.feat", b"0:1 " * 30_000),
    ("aclImdb/train/neg/7_2.txt", b"Bad.\r\n"),
    ("aclImdb/train/unsup/3_0.txt", b"Who knows"),
    ("aclImdb/test/neg/12_1.txt", b""),
    ("aclImdb/test/pos/5_10.txt", b"Fine"),
]


def tar(members: Members, **options: Any) -> bytes:
    """Return the members as an uncompressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            if info.isreg():
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def save(folder: Path, plain: bytes) -> Path:
    """Return a gzip file of these bytes."""
    path = folder / "aclImdb.tar.gz"
    path.write_bytes(gzip.compress(plain, mtime=0))
    return path


def rows(batches: Iterator[Batch]) -> list[dict[str, Any]]:
    """Return all rows."""
    return [row for batch in batches for row in batch.columns.to_pylist()]


def test_labelled_reviews_are_read_in_the_archives_order(tmp_path: Path) -> None:
    """Every labelled member is a row with its text as given, and nothing else is; nothing is written."""
    path = save(tmp_path, tar(REVIEWS))
    (batch,) = read_archive(path)
    assert batch.columns.schema.field("rating").type == pa.int8()
    columns = ("review_id", "review", "sentiment", "split", "rating")
    assert [tuple(row[name] for name in columns) for row in batch.columns.to_pylist()] == [
        ("train/pos/0_9", "Très bon.<br />Yes", "positive", "train", 9),
        ("train/neg/7_2", "Bad.\r\n", "negative", "train", 2),
        ("test/neg/12_1", "", "negative", "test", 1),
        ("test/pos/5_10", "Fine", "positive", "test", 10),
    ]
    assert batch.source_row.to_pylist() == [1, 2, 3, 4]
    assert batch.refused == ()
    assert list(tmp_path.iterdir()) == [path]


def test_unlabelled_reviews_are_read_apart(tmp_path: Path) -> None:
    """`read_unlabelled` gives the reviews of unsup only, without a sentiment."""
    path = save(tmp_path, tar(REVIEWS))
    assert rows(read_unlabelled(path)) == [{"review_id": "train/unsup/3_0", "review": "Who knows"}]


def test_members_that_are_no_text_are_refused_in_place(tmp_path: Path) -> None:
    """A link, a folder, too large a file and bytes that are not UTF-8 are refused with position and reason."""
    link, hard, folder = (tarfile.TarInfo(f"aclImdb/train/pos/{number}_8.txt") for number in (1, 2, 3))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "aclImdb/train/pos/0_9.txt"
    folder.type = tarfile.DIRTYPE
    members = [
        *REVIEWS[:2],
        (link, b""),
        (hard, b""),
        (folder, b""),
        ("aclImdb/train/pos/4_8.txt", b"x" * (imdb.MAX_REVIEW_BYTES + 1)),
        ("aclImdb/train/pos/5_8.txt", b"caf\xe9"),
        ("aclImdb/train/pos/6_8.txt", b"x" * imdb.MAX_REVIEW_BYTES),
    ]
    (batch,) = read_archive(save(tmp_path, tar(members)))
    assert batch.columns["review_id"].to_pylist() == ["train/pos/0_9", "train/pos/6_8"]
    assert batch.source_row.to_pylist() == [1, 7]
    assert [(refused.source, refused.row, refused.line) for refused in batch.refused] == [
        ("imdb", position, None) for position in (2, 3, 4, 5, 6)
    ]
    reasons = [refused.reason for refused in batch.refused]
    assert reasons == ["not a regular file"] * 3 + ["larger than 1,000,000 bytes", "not UTF-8"]


@pytest.mark.parametrize(
    "name",
    [
        "../aclImdb/train/pos/1_9.txt",
        "/aclImdb/train/pos/1_9.txt",
        "aclImdb/train/pos/../pos/1_9.txt",
        "aclImdb/train/pos/1_9.txt\n",
        "aclImdb/train/pos/١_9.txt",
        "aclImdb/train/pos/1.txt",
        "aclImdb/valid/pos/1_9.txt",
    ],
)
def test_other_names_are_passed_over(tmp_path: Path, name: str) -> None:
    """A member with any other name, however like a review's, is no row."""
    assert len(rows(read_archive(save(tmp_path, tar([(name, b"x"), *REVIEWS]))))) == 4


def test_batches_are_bounded_in_rows_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch ends after 4,096 rows or when its texts fill the allowance, and no row is lost between batches."""
    members: Members = [(f"aclImdb/train/pos/{number}_9.txt", b"12345") for number in range(5000)]
    path = save(tmp_path, tar(members))
    batches = list(read_archive(path))
    assert [batch.columns.num_rows for batch in batches] == [4096, 904]
    assert batches[1].source_row.to_pylist() == list(range(4097, 5001))

    monkeypatch.setattr(imdb, "MAX_BATCH_BYTES", 10_000)
    assert [batch.columns.num_rows for batch in read_archive(path)] == [2000, 2000, 1000]


def damaged_archives() -> dict[str, bytes]:
    """Return what may stand where the archive should, by what is wrong with it."""
    whole = tar(REVIEWS, format=tarfile.USTAR_FORMAT)
    packed = gzip.compress(whole, mtime=0)
    header = whole.index(b"aclImdb/train/neg")
    content = whole.index(b"Fine")
    large = tarfile.TarInfo("aclImdb/imdb.vocab")
    large.size = 2**60
    commented = tarfile.TarInfo("aclImdb/README")
    commented.pax_headers = {"comment": "0" * 5_000_000}
    return {
        "cut in the compressed bytes": packed[: len(packed) // 2],
        "without its checksum": packed[:-8],
        "a bit flipped at the end": packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:],
        "a damaged header": gzip.compress(whole[:header] + b"zclImdb" + whole[header + 7 :]),
        "cut between two members": gzip.compress(whole[:header]),
        "cut in a header": gzip.compress(whole[: header + 100]),
        "cut in a review": gzip.compress(whole[: content + 2]),
        "without end mark": gzip.compress(whole[: content + 512]),
        "a member of 2 to the 60 bytes": gzip.compress(large.tobuf() + bytes(10_240)),
        "a header of five million bytes": gzip.compress(tar([(commented, b""), *REVIEWS], format=tarfile.PAX_FORMAT)),
        "no tar": gzip.compress(b"a page that asks for a password" * 100),
        "empty": gzip.compress(b""),
        "a tar of other things": gzip.compress(tar([("notes.txt", b"x")])),
    }


@pytest.mark.parametrize("kind", damaged_archives())
def test_a_damaged_archive_is_named_and_never_read_as_whole(tmp_path: Path, kind: str) -> None:
    """Whatever is cut, flipped, forged or mistaken ends in a DataError that names the file."""
    path = tmp_path / "aclImdb.tar.gz"
    path.write_bytes(damaged_archives()[kind])
    with pytest.raises(DataError, match=r"aclImdb\.tar\.gz"):
        list(read_archive(path))


def test_a_missing_archive_is_the_callers_mistake(tmp_path: Path) -> None:
    """A path without a file is a CallerError that names it."""
    with pytest.raises(CallerError, match="nowhere"):
        list(read_archive(tmp_path / "nowhere.tar.gz"))


CONTENT = bytes(range(256)) * 2000
EXPECTED = {"size": len(CONTENT), "sha256": hashlib.sha256(CONTENT).hexdigest()}


@dataclass
class Server:
    """An archive server on loopback that can be told to misbehave, and remembers the ranges asked for."""

    content: bytes = CONTENT
    status: int = 200
    honours_range: bool = True
    declares_length: bool = True
    breaks_after: int | None = None
    ranges: list[str | None] = field(default_factory=list)
    address: str = ""
    asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Send the file, or what the test wants instead."""
        self.ranges.append(request.headers["Range"])
        self.asked.set()
        assert self.may_answer.wait(20)
        if self.status != 200:
            return request.send_error(self.status)
        start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-")) if self.honours_range else 0
        if start >= len(self.content):
            return request.send_error(416)
        request.send_response(206 if self.honours_range else 200)
        if self.honours_range:
            request.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.declares_length:
            request.send_header("Content-Length", str(len(self.content) - start))
        request.end_headers()
        with contextlib.suppress(ConnectionError):
            request.wfile.write(self.content[start:][: self.breaks_after])
        return None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Return a running server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    state = Server()
    state.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        state.address = f"http://127.0.0.1:{listener.server_port}/data/aclImdb_v1.tar.gz"
        threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield state
        listener.shutdown()


def test_the_archive_is_downloaded_whole_with_progress(server: Server, tmp_path: Path) -> None:
    """The file arrives under its own name, progress counts up to its size, and no partial file stays."""
    steps: list[tuple[int, int]] = []
    path = download_archive(tmp_path / "new" / "folder", address=server.address, **EXPECTED, progress=lambda *step: steps.append(step))
    assert path == tmp_path / "new" / "folder" / "aclImdb_v1.tar.gz"
    assert path.read_bytes() == CONTENT
    assert steps[0] == (0, len(CONTENT))
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert steps == sorted(steps)
    assert not path.with_name(path.name + ".part").exists()


def test_a_broken_download_is_continued_where_it_broke(server: Server, tmp_path: Path) -> None:
    """What came before the break is kept and not asked for again."""
    server.breaks_after = 100_000
    with pytest.raises(MachineError, match=r"100,000 of 512,000 bytes.*run again to continue"):
        download_archive(tmp_path, address=server.address, **EXPECTED)
    assert not (tmp_path / "aclImdb_v1.tar.gz").exists()

    server.breaks_after = None
    steps: list[tuple[int, int]] = []
    path = download_archive(tmp_path, address=server.address, **EXPECTED, progress=lambda *step: steps.append(step))
    assert path.read_bytes() == CONTENT
    assert server.ranges == ["bytes=0-", "bytes=100000-"]
    assert steps[0] == (100_000, len(CONTENT))


def test_a_server_without_ranges_starts_again(server: Server, tmp_path: Path) -> None:
    """When the whole file comes back instead of the rest, the partial file is replaced, not lengthened."""
    (tmp_path / "aclImdb_v1.tar.gz.part").write_bytes(b"something else")
    server.honours_range = False
    assert download_archive(tmp_path, address=server.address, **EXPECTED).read_bytes() == CONTENT


@pytest.mark.parametrize("part", [b"x" * 100, b"x" * len(CONTENT), CONTENT + b"x"], ids=["start", "whole", "too long"])
def test_a_wrong_partial_file_is_removed_and_the_next_call_succeeds(server: Server, tmp_path: Path, part: bytes) -> None:
    """A partial file that is not the archive's beginning costs one failure that says so, never a wrong archive."""
    place = tmp_path / "aclImdb_v1.tar.gz.part"
    place.write_bytes(part)
    with pytest.raises(DataError, match="It was removed; run again"):
        download_archive(tmp_path, address=server.address, **EXPECTED)
    assert not place.exists()
    assert not (tmp_path / "aclImdb_v1.tar.gz").exists()
    assert download_archive(tmp_path, address=server.address, **EXPECTED).read_bytes() == CONTENT


def test_a_complete_partial_file_needs_no_network(tmp_path: Path) -> None:
    """A run killed between the last byte and the final name leaves a file that is verified and taken."""
    (tmp_path / "aclImdb_v1.tar.gz.part").write_bytes(CONTENT)
    address = "http://127.0.0.1:9/aclImdb_v1.tar.gz"
    assert download_archive(tmp_path, address=address, **EXPECTED).read_bytes() == CONTENT


@pytest.mark.parametrize(("honours_range", "declares_length"), [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"x", b"<html>Sign in</html>"])
def test_another_file_on_the_server_is_noticed_before_it_is_downloaded(
    server: Server, tmp_path: Path, content: bytes, honours_range: bool, declares_length: bool
) -> None:
    """A server that declares another length is refused at once, and what was there before stays."""
    server.content, server.honours_range, server.declares_length = content, honours_range, declares_length
    part = tmp_path / "aclImdb_v1.tar.gz.part"
    part.write_bytes(CONTENT[:100])
    with pytest.raises(DataError, match="offers another file"):
        download_archive(tmp_path, address=server.address, **EXPECTED)
    assert part.read_bytes() == CONTENT[:100]
    assert not (tmp_path / "aclImdb_v1.tar.gz").exists()


def test_an_answer_that_ends_early_is_kept_for_the_next_call(server: Server, tmp_path: Path) -> None:
    """An undeclared end before the expected size is a break like any other."""
    server.content, server.honours_range, server.declares_length = CONTENT[:1000], False, False
    with pytest.raises(MachineError, match=r"1,000 of 512,000 bytes are here \(.*ended early"):
        download_archive(tmp_path, address=server.address, **EXPECTED)
    assert (tmp_path / "aclImdb_v1.tar.gz.part").read_bytes() == CONTENT[:1000]


def test_an_endless_answer_is_cut_off(server: Server, tmp_path: Path) -> None:
    """Of a server that sends without end no more is taken than the expected size and one packet."""
    server.content, server.honours_range, server.declares_length = CONTENT + bytes(20_000_000), False, False
    steps: list[tuple[int, int]] = []
    with pytest.raises(DataError, match="is not the archive expected"):
        download_archive(tmp_path, address=server.address, **EXPECTED, progress=lambda *step: steps.append(step))
    assert steps[-1][0] < len(CONTENT) + 1_000_000
    assert not (tmp_path / "aclImdb_v1.tar.gz.part").exists()


def test_a_file_of_the_right_length_and_wrong_content_is_never_taken(server: Server, tmp_path: Path) -> None:
    """The digest decides: one other byte is a DataError with both digests, and nothing is kept."""
    server.content = b"x" + CONTENT[1:]
    with pytest.raises(DataError, match=EXPECTED["sha256"]):
        download_archive(tmp_path, address=server.address, **EXPECTED)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_verified_archive_is_not_downloaded_again(server: Server, tmp_path: Path) -> None:
    """The second call asks the server nothing."""
    download_archive(tmp_path, address=server.address, **EXPECTED)
    download_archive(tmp_path, address=server.address, **EXPECTED)
    assert len(server.ranges) == 1


def test_an_archive_put_there_by_hand_is_used_as_it_is(tmp_path: Path) -> None:
    """A verified file needs no network, no lock and no folder that can be written to."""
    (tmp_path / "aclImdb_v1.tar.gz").write_bytes(CONTENT)
    download_archive(tmp_path, address="http://127.0.0.1:9/aclImdb_v1.tar.gz", **EXPECTED)
    assert [path.name for path in tmp_path.iterdir()] == ["aclImdb_v1.tar.gz"]


@pytest.mark.parametrize("present", [b"short", b"x" + CONTENT[1:]], ids=["length", "content"])
def test_a_wrong_archive_is_set_aside(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, present: bytes) -> None:
    """A file that is not the archive is kept under another name, said so, and replaced by the right one."""
    (tmp_path / "aclImdb_v1.tar.gz").write_bytes(present)
    assert download_archive(tmp_path, address=server.address, **EXPECTED).read_bytes() == CONTENT
    assert (tmp_path / "aclImdb_v1.tar.gz.wrong").read_bytes() == present
    assert "set aside as aclImdb_v1.tar.gz.wrong" in caplog.text


def test_offline_says_what_to_do(tmp_path: Path) -> None:
    """Without a network the error names the path to put the file at and the other sources."""
    address = "http://127.0.0.1:9/aclImdb_v1.tar.gz"
    with pytest.raises(MachineError, match="cannot be reached") as caught:
        download_archive(tmp_path, address=address, **EXPECTED)
    assert f"put the file at {tmp_path / 'aclImdb_v1.tar.gz'} yourself" in str(caught.value)
    assert "sentiment train sample" in str(caught.value)


@pytest.mark.parametrize("status", [403, 404, 500, 503])
def test_a_refusing_server_is_quoted(server: Server, tmp_path: Path, status: int) -> None:
    """The server's answer stands in the error."""
    server.status = status
    with pytest.raises(MachineError, match=f"the server answers {status} "):
        download_archive(tmp_path, address=server.address, **EXPECTED)


def test_two_runs_download_once(server: Server, tmp_path: Path) -> None:
    """A second call waits for the first and takes its file."""
    server.may_answer.clear()
    found: list[Path] = []
    runs = [threading.Thread(target=lambda: found.append(download_archive(tmp_path, address=server.address, **EXPECTED))) for _ in range(2)]
    for run in runs:
        run.start()
    assert server.asked.wait(20)
    server.may_answer.set()
    for run in runs:
        run.join()
    assert found == [tmp_path / "aclImdb_v1.tar.gz"] * 2
    assert len(server.ranges) == 1


def test_a_folder_that_cannot_be_made_is_the_machines_fault(server: Server, tmp_path: Path) -> None:
    """A file in the folder's place is a MachineError that names the archive's path."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(MachineError, match=r"Cannot create the folder .*taken"):
        download_archive(tmp_path / "taken", address=server.address, **EXPECTED)
