"""Measures everything beside what people would use instead, and writes a table and a plot: `make bench`.

    python tests/benchmarks/bench.py [PART …] [--rounds 3] [--data LABELLED.parquet | --generated] [--to-rows 2000000]
        [--output artifacts/bench]

Parts: text (clean and tokenize), training, scoring (file to file, with what it is worth), sizes (time and memory by rows), start (start-up,
a rerun of what is done). All if none is named. The reviews are those of ../shared/data/imdb_official.parquet where that is present, else
generated ones; LABELLED has the columns id, review, sentiment and split (train or test), and accuracy is that of its test rows. Every
measurement is a process of its own. A busy machine shows in the wall seconds; CPU seconds, all threads and child processes together, stand
beside them.
Writes bench.json (every measurement), bench.md and bench.png.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from memory_of_readers import write_file

sys.path.insert(0, str(Path(__file__).parents[2]))

from tasks.reviews.sample import SampleSettings, generate_reviews

PROJECT, HERE = Path(__file__).parents[2], Path(__file__).parent
REAL = PROJECT.parent / "shared" / "data" / "imdb_official.parquet"
GENERATED_ROWS = 20_000
PARTS = ("text", "training", "scoring", "sizes", "start")
SLOW_RIVALS_ROWS = 5_000  # of those that take minutes for all
NOTHING = "from prefect import flow\n@flow\ndef nothing(): pass\nnothing()"
IMPORTS = {  # what a command that scores by each of the others would have to import
    "article": "import nltk, pandas, pyarrow, tensorflow.keras.models",
    "tfidf": "import pandas, pyarrow, sklearn.feature_extraction.text, sklearn.linear_model",
    "vader": "import pandas, pyarrow, nltk.sentiment.vader",
    "textblob": "import pandas, pyarrow, textblob",
}

Entry = dict[str, Any]


class Bench:
    """One run of the benchmark: its data, its models and what it found."""

    def __init__(self, data: Path | None, output: Path, rounds: int, most_rows: int) -> None:
        """Write the files that everybody reads: what can be learnt from, and all reviews in one compressed CSV."""
        self.most_rows = most_rows
        self.rounds, self.found, self.rivals = rounds, dict[str, Any](), dict[tuple[str, int], Entry]()
        self.work = output / "work"
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir(parents=True)
        table = pq.read_table(data, columns=["id", "review", "sentiment", "split"]) if data else generated()
        table = table.take(np.random.default_rng(0).permutation(len(table)))
        self.labelled, self.reviews = self.work / "labelled.parquet", self.work / "reviews.csv.gz"
        pq.write_table(table, self.labelled)
        with pa.CompressedOutputStream(str(self.reviews), "gzip") as file:
            pyarrow.csv.write_csv(table.select(["id", "review"]), file)
        self.is_test = pc.equal(table["split"], "test").to_numpy()
        self.positive = pc.equal(table["sentiment"], "positive").to_numpy()
        self.found["about"] = {
            "reviews": data.name if data else f"{GENERATED_ROWS:,} generated",
            "rows": len(table),
            "megabytes": round(pc.sum(pc.binary_length(table["review"])).as_py() / 1e6, 1),
            "machine": f"{processor()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "date": datetime.now(UTC).date().isoformat(),
            "rounds": rounds,
        }

    def accuracy(self, positive: np.ndarray) -> Entry:
        """Return the share of the test rows among the first rows that are right, and how many test rows that are."""
        rows = np.flatnonzero(self.is_test[: len(positive)])
        return {"accuracy": float(np.mean(positive[rows] == self.positive[rows])), "test_rows": len(rows)}

    def text(self) -> None:
        """Measure cleaning and tokenizing."""
        self.found["text"] = told(run(["text_rates.py", str(self.labelled), "--rounds", str(self.rounds)]))

    def training(self) -> None:
        """Train ours and theirs on the same rows, in turns, as the speed of a shared machine changes within minutes."""
        entries: dict[str, list[Entry]] = {name: [] for name in ("ours, default", "article", "ours, tutorial", "tfidf")}
        for turn in range(self.rounds):
            for name, turns in entries.items():
                turns.append(self.trained(name, turn))
            for turns in entries.values():
                turns[-1]["ratio"] = turns[-1]["cpu_seconds"] / entries["article"][-1]["cpu_seconds"]
        self.found["training"] = {
            name: turns[0] | spread(turns, "accuracy") | spread(turns, "cpu_seconds") | spread(turns, "ratio")
            for name, turns in entries.items()
        }

    def trained(self, name: str, turn: int) -> Entry:
        """Return accuracy, test rows and CPU seconds of training, everything after tokenizing; of the article its `fit` alone."""
        if name.startswith("ours, "):
            ours = self.train(name.removeprefix("ours, "), turn)
            return {"accuracy": ours["promoted"], "test_rows": ours["rows"], "cpu_seconds": ours["cpu_seconds"]}
        theirs = self.rival(name, turn)
        return {
            "accuracy": theirs["accuracy"],
            "test_rows": theirs["test_rows"],
            "cpu_seconds": theirs["train"].get("fit_cpu_seconds", theirs["train"]["cpu_seconds"]),
        }

    def train(self, preset: str, seed: int = 0) -> Entry:
        """Train one of our presets and return what default_model.py tells of it; a second time what it told before."""
        done = self.work / f"{preset}-{seed}.json"
        if not done.exists():
            words = ["default_model.py", str(self.labelled), "--preset", preset, "--seeds", str(seed)]
            done.write_text(run([*words, "--artifacts", str(self.work / "artifacts")])["stdout"].splitlines()[0])
        return json.loads(done.read_text())

    def rival(self, name: str, turn: int = 0) -> Entry:
        """Train one of the others and let it score, in a process of its own, once in each turn of a run of the benchmark."""
        if (name, turn) not in self.rivals:
            scored = self.work / f"{name}.parquet"
            rounds = 1 if turn else self.rounds  # of scoring
            words = ["rivals.py", name, str(self.labelled), str(self.reviews), "--output", str(scored), "--rounds", str(rounds)]
            rows = ["--rows", str(SLOW_RIVALS_ROWS)] if name in ("vader", "textblob") else []
            entry = told(run([*words, *rows]))
            self.rivals[name, turn] = entry | self.accuracy(pq.read_table(scored)["positive"].to_numpy())
        return self.rivals[name, turn]

    def scoring(self) -> None:
        """Score the compressed CSV to Parquet, ours as a command with all its start-up, theirs without their imports and with them."""
        entries: dict[str, list[Entry]] = {}
        for preset in ("default", "tutorial"):
            model_id = self.train(preset)["model_id"]
            entries[f"ours, {preset}"] = [self.score(self.reviews, model_id) for _ in range(self.rounds)]
        for name in ("article", "tfidf", "vader", "textblob"):
            rival = self.rival(name)
            about = {key: rival[key] for key in ("accuracy", "test_rows", "rows")}
            imports = [run(["-c", IMPORTS[name]])["seconds"] for _ in rival["score"]]
            entries[name] = [
                about | seconds | {"whole_seconds": seconds["seconds"] + more}
                for seconds, more in zip(rival["score"], imports, strict=True)
            ]
        self.found["scoring"] = {
            name: {
                **{key: rounds[0][key] for key in ("accuracy", "test_rows", "rows")},
                **spread(rounds, "seconds"),
                **spread(rounds, "cpu_seconds"),
                **spread(rounds, "whole_seconds"),
            }
            for name, rounds in entries.items()
        }

    def score(self, path: Path, model_id: str, *, artifacts: str = "artifacts") -> Entry:
        """Score a file with a command that finds nothing done, and return its seconds from start to end, imports and Prefect included."""
        output = self.work / "scored"
        shutil.rmtree(output, ignore_errors=True)
        shutil.rmtree(self.work / artifacts / "score", ignore_errors=True)
        words = ["score", str(path), "--artifacts", str(self.work / artifacts), "--model", model_id, "--output", str(output), "--json"]
        entry = run(["-m", "flows", *words])
        summary = told(entry)
        if summary["status"] != "scored" or summary["scored"] != summary["rows"]:
            raise SystemExit(f"{path.name}: {summary['scored']:,} of {summary['rows']:,} rows scored: {summary['status']}.")
        result = {key: entry[key] for key in ("seconds", "cpu_seconds", "megabytes")} | {"rows": summary["rows"]}
        result["whole_seconds"] = entry["seconds"]
        if path == self.reviews:
            result |= self.accuracy(pq.read_table(summary["outputs"][0])["p_positive"].fill_null(0).to_numpy() > 0.5)
        return result

    def sizes(self) -> None:
        """Score ever more generated rows with a quick model."""
        run(["-m", "flows", "train", "--preset", "quick", "--artifacts", str(self.work / "quick"), "--json"])
        rows = [
            int(number) for number in np.geomspace(10_000, max(self.most_rows, 20_000), 5 if self.most_rows >= 100_000 else 3).round(-3)
        ]
        found = []
        for number in rows:
            path = self.work / "rows.csv"
            write_file(path, "csv", number)
            found.append(self.score(path, "champion", artifacts="quick"))
        seconds = np.array([entry["seconds"] for entry in found])
        self.found["sizes"] = {"points": found, "r_squared": float(np.corrcoef(rows, seconds)[0, 1] ** 2)}

    def start(self) -> None:
        """Measure what a command costs that has little or nothing to do."""
        model_id = self.train("default")["model_id"]
        few = self.work / "few.csv"
        write_file(few, "csv", 100)
        again = ["-m", "flows", "train", str(self.labelled), "--preset", "default", "--artifacts", str(self.work / "artifacts"), "--json"]
        run(again)  # evaluates and promotes; what follows finds everything done
        commands: dict[str, Any] = {
            "sentiment --help": lambda: run(["-m", "flows", "--help"]),
            "an empty Prefect flow": lambda: run(["-c", NOTHING]),
            "train, everything done already": lambda: run(again),
            "score 100 rows, default model": lambda: self.score(few, model_id),
        }
        entries: dict[str, list[Entry]] = {name: [] for name in commands}
        for _ in range(self.rounds):
            for name, call in commands.items():
                entries[name].append(call())
        self.found["start"] = {name: {**spread(rounds, "seconds"), **spread(rounds, "cpu_seconds")} for name, rounds in entries.items()}


def generated() -> pa.Table:
    """Return generated reviews, every second for testing."""
    table = pa.Table.from_batches([batch.columns for batch in generate_reviews(SampleSettings(rows=GENERATED_ROWS))])
    sides = pa.array(["train", "test"]).take(pa.array(np.arange(len(table)) % 2))
    return table.rename_columns(["id", "review", "sentiment"]).append_column("split", sides)


def run(words: Sequence[str]) -> Entry:
    """Run Python in a process of its own; return what it printed, its seconds, CPU seconds (its children's too) and peak MB."""
    words = [str(HERE / words[0]), *words[1:]] if words[0].endswith(".py") else list(words)
    with tempfile.TemporaryFile() as printed, tempfile.TemporaryFile() as complained:
        started = time.perf_counter()
        child = subprocess.Popen([sys.executable, *words], cwd=PROJECT, stdout=printed, stderr=complained)
        _, status, usage = os.wait4(child.pid, 0)  # of this child and those that it waited for alone
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        stdout, stderr = (file.seek(0) or file.read().decode() for file in (printed, complained))
    if child.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {child.returncode}:\n{stderr[-3000:]}")
    return {
        "stdout": stdout,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "megabytes": usage.ru_maxrss / 1024,
    }


def told(entry: Entry) -> Entry:
    """Return the JSON line that a command printed last."""
    return json.loads(entry["stdout"].splitlines()[-1])


def spread(rounds: Sequence[Entry], name: str) -> Entry:
    """Return the median, the smallest and the largest of a number over the rounds."""
    values = [entry[name] for entry in rounds]
    return {name: median(values), f"{name}_from": min(values), f"{name}_to": max(values)}


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    told_by = Path("/proc/cpuinfo")
    names = (
        [line.partition(":")[2].strip() for line in told_by.read_text().splitlines() if line.startswith("model name")]
        if told_by.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def main() -> None:
    """Measure the chosen parts, then write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--data", type=Path, default=REAL if REAL.exists() else None, help="labelled reviews")
    parser.add_argument("--generated", action="store_true", help="measure on generated reviews, whatever is present")
    parser.add_argument("--to-rows", type=int, default=2_000_000, help="largest file of `sizes`")
    parser.add_argument("--output", type=Path, default=PROJECT / "artifacts" / "bench")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"There is no part {', '.join(sorted(unknown))}. Parts are {', '.join(PARTS)}.")
    output = options.output.resolve()
    bench = Bench(None if options.generated else options.data, output, options.rounds, options.to_rows)
    for part in options.parts or PARTS:
        print(f"{part} …", file=sys.stderr, flush=True)
        getattr(bench, part)()
    from bench_page import draw, to_markdown

    (output / "bench.json").write_text(json.dumps(bench.found, indent=1))
    (output / "bench.md").write_text(to_markdown(bench.found))
    draw(bench.found, output / "bench.png")
    shutil.rmtree(bench.work)
    print((output / "bench.md").read_text())


if __name__ == "__main__":
    main()
