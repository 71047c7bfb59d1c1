import gzip
import io
import tarfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.reviews.imdb import read_archive

TEXTS = st.one_of(st.text(max_size=30), st.integers(500, 530).map("é".__mul__))  # around a tar block's 512 bytes
MEMBERS = st.tuples(st.sampled_from(["train", "test"]), st.sampled_from(["pos", "neg"]), st.integers(1, 10), TEXTS)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(members=st.lists(MEMBERS, min_size=1, max_size=20), tar_format=st.sampled_from([0, 1, 2]))
def test_what_is_put_into_an_archive_is_read_back(tmp_path: Path, members: list[tuple[str, str, int, str]], tar_format: int) -> None:
    """Every review comes back with its split, sentiment, rating and exact text, in order, in all three tar formats."""
    path = tmp_path / "archive.tar.gz"
    with (
        gzip.open(path, "wb", compresslevel=1) as file,
        tarfile.open(fileobj=file, mode="w|", format=tar_format) as tar,
    ):
        for number, (split, folder, rating, text) in enumerate(members):
            info = tarfile.TarInfo(f"aclImdb/{split}/{folder}/{number}_{rating}.txt")
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    rows = [row for batch in read_archive(path) for row in batch.columns.to_pylist()]
    sentiments = {"pos": "positive", "neg": "negative"}
    assert [tuple(row.values()) for row in rows] == [
        (f"{split}/{folder}/{number}_{rating}", text, sentiments[folder], split, rating)
        for number, (split, folder, rating, text) in enumerate(members)
    ]
