"""The smallest run that goes through every step: reviews written here, settings that train in a second, and what tests ask of a run."""

import csv
import hashlib
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
SETTINGS: dict[str, Any] = {
    "linear.hash_bits": 12,
    "model.epochs": 1,
    "model.units": 4,
    "model.filters": 4,
    "model.embedding_size": 4,
    "model.pair_buckets": 16,
    "model.chunk_length": 8,
    "model.sequence_length": 64,
    "evaluate.bootstrap_samples": 100,
    "gate.fresh_process": False,
    "gate.lstm_must_learn": False,
    "gate.max_slowdown": 1000.0,
}
STEPS = ("ingest", "clean", "tokenize", "split", "train", "evaluate", "promote", "report")
COLUMNS = ("id", "review", "sentiment", "shop")
PRAISE = ("wonderful", "superb", "charming", "delightful", "brilliant")
BLAME = ("dreadful", "dull", "clumsy", "tiresome", "wooden")
THINGS = ("plot", "cast", "music", "dialogue", "ending")
REPEATED = (3, 7, 30, 51, 77, 101, 150, 202, 311, 390)  # numbers of the reviews that stand in the file twice, the second time shouting
BAD_ROWS = (["bad-1", "", "positive", "Leeds"], ["bad-2", "So so.", "meh", "Leeds"], ["bad-3", "Too", "many", "fields", "here"])


@dataclass(frozen=True)
class Trained:
    """A finished training run: its artifacts folder, the reviews it read, and its summary."""

    root: Path
    reviews: Path
    summary: dict[str, Any]

    @property
    def bundle(self) -> Path:
        """The folder of the model."""
        return self.root / "models" / str(self.summary["model_id"])


def write_row(number: int) -> list[str]:
    """Return review `number`, whose words leave no doubt: id, review, sentiment, shop."""
    draw = random.Random(number)
    positive = draw.random() < 0.5
    words = draw.sample(PRAISE if positive else BLAME, 3)
    things = draw.sample(THINGS, 3)
    text = f"Film {number}: " + "<br /><br />".join(f"the {thing} was {word}," for thing, word in zip(things, words, strict=True))
    text += "".join(f" and again on day {number}{day}" for day in range(draw.randrange(12))) + "."  # no two texts are near-duplicates
    return [f"r{number}", text, "positive" if positive else "negative", draw.choice(["Leeds", 'York, "North"'])]


def write_reviews(path: Path, rows: Iterable[list[str]], columns: Iterable[str] = COLUMNS) -> Path:
    """Write rows as a CSV file with a header."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([list(columns), *rows])
    return path


def tiny_rows(num_reviews: int = 400) -> list[list[str]]:
    """Return the reviews of the session's run: some repeated, some that have to be refused."""
    rows = [write_row(number) for number in range(num_reviews)]
    repeated = [[f"{row[0]}-again", row[1].upper(), *row[2:]] for row in (rows[number] for number in REPEATED)]
    return [*rows, *repeated, *BAD_ROWS]


def train(
    root: Path,
    *sources: Path | str,
    unlabelled: Path | None = None,
    force_promote: str | None = None,
    golden_test: Path | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Run the training flow; `changes` are settings whose dots are written as `__`."""
    from flows.training import training

    return training(
        sources=[str(source) for source in sources],
        preset="quick",
        overrides=SETTINGS | {name.replace("__", "."): value for name, value in changes.items()},
        unlabelled_sources=[str(unlabelled)] if unlabelled else None,
        artifacts=str(root),
        force_promote=force_promote,
        golden_test=str(golden_test) if golden_test else None,
    )


def command_line(*sources: Path | str) -> list[str]:
    """Return the words of the command that does what `train` does."""
    return ["train", *map(str, sources), "--preset", "quick", *(f"--set={name}={value}" for name, value in SETTINGS.items())]


def steps_that_ran(summary: dict[str, Any]) -> list[str]:
    """Return the steps that a run did not find in the store, in order."""
    return [name for name, step in summary["steps"].items() if step["state"] != "cached"]


def digests(root: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that is kept in an artifacts folder, by its path."""
    kept = (path for path in files_of(root) if path.relative_to(root).parts[0] not in ("runs", "locks", "set_aside"))
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in kept}


def files_of(root: Path) -> Iterator[Path]:
    """Yield every file of a folder, however deep."""
    return (path for path in sorted(root.rglob("*")) if path.is_file())


def plain(review: str) -> str:
    """Return the tokens of a review by the simplest of rules: no tags, no case, words and punctuation apart."""
    return " ".join(re.findall(r'[a-z0-9]+|[!?.,;:()"-]', re.sub("<[^>]*>", " ", review.lower())))


def reseal(bundle: Path) -> None:
    """Write the digests of a bundle's files, as they are now, into its `bundle.json`."""
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    for name, entry in manifest["files"].items():
        data = (bundle / name).read_bytes()
        entry.update(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    (bundle / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
