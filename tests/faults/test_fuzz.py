"""Files and settings that are nearly right: each is read, or refused by an error of the project's own, and no row is lost.

Files of every kind are cut, joined and sprinkled with bytes that mean something somewhere. `make soak` goes on with other seeds.
"""

import bz2
import gzip
import io
import json
import lzma
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from flows.settings import compose_settings, parse_override
from tasks.dotted import flat_settings
from tasks.errors import PipelineError
from tasks.model.registry import champion, decisions
from tasks.preset_file import read_preset
from tasks.reviews.labels import LabelSettings
from tasks.reviews.readers import ReaderSettings, describe_file, read_batches
from tasks.reviews.window import WindowSettings
from tasks.store import Recipe, Record, Store, StoredFile

ROWS, MOST_DONE = 12, 4
WORDS = (
    b'"', b'""', b",", b";", b"\t", b"|", b"\x01", b"\n", b"\r", b"\r\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3\xa9",
    b"\xe9", b"{", b"}", b"[", b"]", b":", b"\\", b"\\u", b"\\ud800", b"null", b"1e999", b"-", b"sep=;\n", b"=cmd()", b"review", b"PAR1",
    b"PK\x03\x04", b"\x1f\x8b", b"(\xb5/\xfd", b"BZh9", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x85", b"\xe2\x80\xa8", b"\x0b", b"\x0c",
    b"\x1a", b" ", b"'", b"[" * 2000, b'{"a":' * 400, b"9" * 5000, b'"' * 300,
)  # fmt: skip


def marker(number: int) -> str:
    """Return a word that stands in one row alone."""
    return f"zq{number:02d}qz"


def whole_files() -> dict[str, bytes]:
    """Return a small sound file of each kind, `marker(n)` in its n-th row."""
    rows = [(f"r{n}", f'{marker(n)} the "plot" was dull, and\nlong', ("positive", "negative")[n % 2]) for n in range(ROWS)]
    quoted = [[f'"{field.replace(chr(34), chr(34) * 2)}"' for field in row] for row in rows]
    tables = {
        end + mark: (mark.join(("id", "review", "sentiment")) + end + end.join(mark.join(row) for row in quoted) + end).encode()
        for end, mark in (("\n", ","), ("\r\n", ";"), ("\n", "\t"), ("\n", "|"), ("\n", "\x01"))
    }
    plain = b"".join(f"{row[0]},{marker(n)} dull and long,{row[2]}\n".encode() for n, row in enumerate(rows))
    lines = "".join(json.dumps({"id": row[0], "review": row[1], "user": {"stars": n}}) + "\n" for n, row in enumerate(rows)).encode()
    array = json.dumps([{"id": row[0], "review": row[1]} for row in rows], indent=1).encode()
    text = "".join(f"{marker(n)} was dull and long\n" for n in range(ROWS)).encode()
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("reviews.csv", plain)
    return {
        **{f"csv {number}": content for number, content in enumerate(tables.values())},
        "csv plain": b"id,review,sentiment\n" + plain, "csv no header": plain, "jsonl": lines, "json": array, "text": text,
        "utf-16": plain.decode().encode("utf-16"), "cp1252": plain.replace(b"dull", b"d\xe9ll"),
        "gz": gzip.compress(plain), "xz": lzma.compress(plain), "bz2": bz2.compress(plain), "zst": pa.compress(plain, "zstd", asbytes=True),
        "zip": zipped.getvalue(), "gz in gz": gzip.compress(gzip.compress(plain)),
    }  # fmt: skip


def spoilt(content: bytes, others: list[bytes], draw: random.Random) -> bytes:
    """Return a file with up to `MOST_DONE` things done to it."""
    for _ in range(draw.randint(1, MOST_DONE)):
        place, end = sorted((draw.randrange(len(content) + 1), draw.randrange(len(content) + 1)))
        match draw.randrange(7):
            case 0 if content:
                at = min(place, len(content) - 1)
                content = content[:at] + bytes([content[at] ^ 1 << draw.randrange(8)]) + content[at + 1 :]
            case 1 | 2 | 3:
                content = content[:place] + draw.choice(WORDS) + content[place:]
            case 4:
                content = content[:place] + content[min(end, place + draw.randrange(40)) :]
            case 5:
                content = content[:place] + content[place:end] + content[place:]
            case _:
                other = draw.choice(others)
                content = content[:place] + other[draw.randrange(len(other)) :]
    return content


def read_whole(path: Path, settings: ReaderSettings) -> tuple[list[int], list[int], str]:
    """Return the numbers of the rows that came out and of those that were refused, and all that stands in the former."""
    kept, refused, text = [], [], []
    for batch in read_batches(path, path.name, settings):
        kept += batch.source_row.to_pylist()
        refused += [row.row for row in batch.refused]
        text += [str(value) for column in batch.columns.columns for value in column.to_pylist() if value is not None]
    return kept, refused, "\n".join(text)


FUZZ: list[Any] = [5000, pytest.param(500_000, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])]


@pytest.mark.parametrize("examples", FUZZ)
def test_files_that_are_nearly_right(tmp_path: Path, examples: int) -> None:
    """Each is read or refused with a reason; rows out and rows refused are all rows, once each, and no line's text vanishes unrefused."""
    draw, files, ends = random.Random(examples), whole_files(), Counter[str]()
    path = {suffix: tmp_path / f"reviews{suffix}" for suffix in (".csv", ".txt", ".jsonl", ".json", "", ".parquet", ".xlsx")}
    choices = [{}, {}, {}, {"encoding": "cp1252"}, {"delimiter": ","}, {"header": False}, {"header": True}, {"format": "text"},
               {"format": "jsonl"}, {"format": "json"}, {"format": "csv"}, {"max_field_bytes": 40}]  # fmt: skip
    for example in range(examples):
        name = draw.choice(list(files))
        content = spoilt(files[name], list(files.values()), draw)
        place, settings = draw.choice(list(path.values())), ReaderSettings(**draw.choice(choices))
        place.write_bytes(content)
        story = f"example {example}: {name}, {place.name}, {settings}, {content!r}"
        try:
            kept, refused, text = read_whole(place, settings)
            found = describe_file(place, settings)
        except PipelineError:
            ends["refused whole"] += 1
            continue
        except Exception as error:
            raise AssertionError(story) from error
        assert sorted([*kept, *refused]) == list(range(1, len(kept) + len(refused) + 1)), story
        if found.compression is None and found.encoding in ("utf-8", "cp1252", "utf-8-sig") and found.format != "excel":
            gone = [number for number in range(ROWS) if marker(number).encode() in content and marker(number) not in text]
            named = sum(marker(number) in column for number in range(ROWS) for column in found.columns)
            lines = {number for number, line in enumerate(content.splitlines()) for n in gone if marker(n).encode() in line}
            # Each thing done to the file may make one row of two, whose lines are then refused together.
            assert len(lines) <= len(refused) + named + MOST_DONE, f"{gone} vanished, {len(refused)} refused. {story}"
            ends["accounted for"] += 1
        ends["read"] += 1
    print(f"{examples:,} files: {dict(ends)}; 0 crashes, 0 rows lost")
    assert min(ends.values()) > examples / 20


def odd_values(draw: random.Random) -> Iterator[Any]:
    """Yield values of all kinds, small and absurd."""
    words = ["", "a", "90d", "1" * 5000, "2026-02-30", "9" * 30 + "d", "positive", "\ud800", "\0", "x" * 5000]
    numbers = [0, 1, -1, 3, 0.5, 1e308, float("inf"), float("nan"), 10**30, -(10**30)]
    plain = [*words, *numbers, None, True, False, [], {}, [1], {"a": 1}, [[[]]]]
    while True:
        value = draw.choice(plain)
        yield {draw.choice(["a", "", "seed", "good"]): value} if draw.random() < 0.1 else [value] * 2 if draw.random() < 0.1 else value


@pytest.mark.parametrize("examples", FUZZ)
def test_settings_that_are_nearly_right(examples: int) -> None:
    """Whatever `--set` and forms give, it is taken or refused by name, and what was taken can be written down and taken again."""
    draw, taken = random.Random(examples), 0
    values = odd_values(draw)
    presets = {
        preset: list(flat_settings(compose_settings(preset, []).model_dump(mode="json"))) for preset in ("default", "tutorial", "quick")
    }
    for example in range(examples):
        preset = draw.choice(list(presets))
        changes = []
        for _ in range(draw.randint(1, 2)):
            name = draw.choice(presets[preset])
            if draw.random() < 0.1:
                name = draw.choice(
                    [name[:-1], name + ".x", name.partition(".")[0], "", ".", "..", name + ".", "__class__", "model.__dict__"]
                )
            value = next(values)
            changes.append((name, value))
        story = f"example {example}: {preset}, {changes!r:.2000}"
        try:
            texts = [f"{name}={json.dumps(value) if draw.random() < 0.5 else value}" for name, value in changes]
            settings = compose_settings(preset, [*map(parse_override, texts)] if draw.random() < 0.5 else changes)
            again = type(settings).model_validate_json(settings.model_dump_json())
            assert again == settings and json.loads(settings.model_dump_json()) == settings.model_dump(mode="json"), story
            taken += 1
        except PipelineError:
            pass
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(story) from error
    print(f"{examples:,} settings: {taken:,} taken; 0 crashes")
    assert taken > examples / 50


def small_texts(tmp_path: Path) -> dict[str, tuple[str, Callable[[Path], object]]]:
    """Return JSON files that this project reads back, and how it reads each."""
    entry = {"model_id": "m-1", "bundle_sha256": "0" * 64, "replaced": None, "promoted_at": "2026-01-01", "by": "me", "reason": "why",
             "event": "promoted", "rules": [], "since_better": 0.0}  # fmt: skip
    record = Record(Recipe("clean", {"ingest": "0"}, {"a": 1}, {}, {}), (StoredFile("clean/a", "0", 1),), 1, {}, 0.1, "2026")
    store = Store(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "clean").mkdir()
    return {
        "models/champion.json": (json.dumps(entry), lambda _: champion(store)),
        "models/history.jsonl": (json.dumps(entry) + "\n" + json.dumps(entry) + "\n", lambda _: decisions(store)),
        f"clean/{record.recipe.key}.json": (
            record.to_json(),
            lambda _: (store.find(record.recipe), store.records("clean")),
        ),
        "best.json": (json.dumps({"based_on": "default", "settings": {"model.epochs": 5}}), read_preset),
    }


@pytest.mark.parametrize("examples", [2000, pytest.param(200_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_own_files_that_are_nearly_right(tmp_path: Path, examples: int) -> None:
    """A record, a champion, a history or a preset file that is not as it was written is read, counts as absent, or is refused by name."""
    draw, texts = random.Random(examples), small_texts(tmp_path)
    others = [text.encode() for text, _ in texts.values()]
    for example in range(examples):
        name = draw.choice(list(texts))
        text, read = texts[name]
        content = spoilt(text.encode(), others, draw)
        (tmp_path / name).write_bytes(content)
        try:
            read(tmp_path / name)
        except PipelineError:
            pass
        except Exception as error:
            raise AssertionError(f"example {example}: {name}, {content!r}") from error
    print(f"{examples:,} files of the project's own: 0 crashes")


def test_odd_labels_and_windows() -> None:
    """Settings that are built of words are refused by pydantic's own error, never by another."""
    draw = random.Random(0)
    for value, _ in zip(odd_values(draw), range(1000), strict=False):
        for kind, field in ((LabelSettings, "extra"), (WindowSettings, "last"), (WindowSettings, "since")):
            try:
                asdict_of = kind(**{field: value}).model_dump_json()
                assert asdict_of
            except ValueError:
                pass
