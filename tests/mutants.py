"""Breaks the project on purpose, one safeguard at a time, and runs the tests that have to notice.

    python tests/mutants.py [NAME …]

Each mutant is a copy of the project in which a few characters are others. Exits with 1 where a mutant survives its tests. A mutant
whose text is no longer in its file is an error: then the list below has to follow the code.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[1]
SWEEP = "tests/faults/test_store_sweep.py"
CORRUPTION = "tests/faults/test_corruption.py"


@dataclass(frozen=True)
class Mutant:
    """A deliberate breakage.

    Args:
        name: What is broken.
        file: In which file.
        old: What stands there.
        new: What stands there in the mutant.
        tests: The tests that have to fail, as pytest takes them.
    """

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTANTS = (
    Mutant("digest check off", "tasks/store.py", " and sha256_of_file(path) == file.sha256", "", CORRUPTION),
    Mutant("record digest off", "tasks/store.py", "if sha256_of_json(raw) != sha256:", "if False:", CORRUPTION),
    Mutant("fsync off", "tasks/store.py", "            os.fsync(self._file.fileno())\n", "", f"{SWEEP} -k data-power"),
    Mutant("folder fsync off", "tasks/store.py", "        os.fsync(descriptor)\n", "        pass\n", f"{SWEEP} -k registry-power"),
    Mutant(
        "new folder's fsync off",
        "tasks/store.py",
        "            sync_folder(new.parent)\n",
        "            pass\n",
        f"{SWEEP} -k data-power",
    ),
    Mutant(
        "replace becomes copy",
        "tasks/store.py",
        "            place.replace(path)\n",
        "            shutil.copy(place, path)\n",
        f"{SWEEP} -k power",
    ),
    Mutant(
        "record goes first",
        "tasks/store.py",
        "            for place, file in files:\n                self._publish(place, self.root / file.path)\n            record =",
        "            record =",
        SWEEP,
    ),
    Mutant(
        "drafts stay",
        "tasks/store.py",
        "            shutil.rmtree(folder, ignore_errors=True)\n",
        "            pass\n",
        "tests/faults/test_disk.py -k step_writes",
    ),
    Mutant(
        "lock off",
        "tasks/store.py",
        "                lock.acquire(timeout=0)\n",
        "                pass\n",
        "tests/faults/test_interruptions.py -k once",
    ),
    Mutant("key without code", "tasks/store.py", "module_digests(module)", "{}", "tests/unit tests/pipeline/test_reuse.py"),
    Mutant("torn line goes on", "tasks/model/registry.py", 'torn * "\\n" + ', "", f"{SWEEP} -k registry-power"),
    Mutant("history not fsynced", "tasks/model/registry.py", "            os.fsync(descriptor)\n", "", f"{SWEEP} -k registry-power"),
    Mutant("bundle not checked", "tasks/model/bundle.py", "    if damaged:\n", "    if False:\n", CORRUPTION),
    Mutant(
        "golden scores not checked",
        "tasks/model/bundle.py",
        "    model.check_golden(reviews, expected)\n",
        "",
        "tests/pipeline/test_promotion.py -k golden",
    ),
    Mutant(
        "stranger's errors",
        "tasks/store.py",
        '    except OSError as error:\n        raise MachineError(f"Cannot write {path}',
        '    except ZeroDivisionError as error:\n        raise MachineError(f"Cannot write {path}',
        f"{SWEEP} -k error",
    ),
    Mutant(
        "login not passed to the server", "tasks/login.py", "{_CHOSEN: login, _GIVEN: login}", "{_GIVEN: login}", "tests/unit/test_login.py"
    ),
    Mutant("login file 0644", "tasks/login.py", "place.chmod(0o600)", "place.chmod(0o644)", "tests/unit/test_login.py"),
    Mutant(
        "rows not counted",
        "tasks/chunks.py",
        "        if self.writer.rows + len(self._refused) != len(rows) or np.any(np.diff(rows) != 1):\n",
        "        if False:\n",
        "tests/pipeline/test_exactly_once.py -k lost_rows",
    ),
    Mutant(
        "published again",
        "tasks/score.py",
        '"already scored") if is_intact(plan.output.parent, files) else None',
        '"already scored") if False else None',
        "tests/pipeline/test_exactly_once.py -k already_scored",
    ),
    Mutant(
        "Parquet that ends early",
        "tasks/reviews/tabular.py",
        "    if row != ends[wanted[-1]]:",
        "    if False:",
        "tests/faults/test_hostile_files.py -k damaged_parquet",
    ),
    Mutant(
        "columns not checked",
        "tasks/reviews/tabular.py",
        "            _check_columns(file, where)\n",
        "",
        "tests/faults/test_hostile_files.py -k damaged_parquet",
    ),
    Mutant(
        "all rows at once",
        "tasks/reviews/records.py",
        "        if len(kept) + len(refused) >= ROWS_PER_BATCH or size >= BYTES_PER_BATCH:\n",
        "        if False:\n",
        "tests/unit/test_torture.py -k peak",
    ),
    Mutant(
        "pickle allowed",
        "tasks/model/bundle.py",
        "allow_pickle=False",
        "allow_pickle=True",
        "tests/faults/test_strangers.py -k bundle_runs",
    ),
    Mutant(
        "calls home",
        "tasks/clean.py",
        "    return prefect_state(",
        '    __import__("socket").socket(type=2).connect(("192.0.2.1", 9))\n    return prefect_state(',
        "tests/pipeline/test_no_network.py",
    ),
    Mutant("errors are quoted", "tasks/clean.py", "@discreet\n", "", "tests/pipeline/test_privacy.py -k foresaw"),
    Mutant("readable by others", "tasks/store.py", "0o600)", "0o644)", "tests/pipeline/test_privacy.py -k owners"),
    Mutant(
        "seed not set",
        "tasks/model/lstm_training.py",
        "random.Random(seed)",
        "random.Random()",
        "tests/unit/test_lstm.py -k equal_seeds",
    ),
    Mutant(
        "lost server stays lost",
        "flows/temporary_server.py",
        "                self.process = self._start()\n        logger",
        "                return\n        logger",
        "tests/unit/test_temporary_server.py",
    ),
    Mutant(
        "no login asked for",
        "tasks/login.py",
        "{_CHOSEN: login, _GIVEN: login}",
        "{_GIVEN: login}",
        "tests/end_to_end/test_serving.py -k without_the_login",
    ),
    Mutant(
        "NaN is a setting",
        "tasks/dotted.py",
        "not math.isfinite(value)",
        "False",
        "tests/unit/test_dotted.py -k say_nothing",
    ),
)


def survives(mutant: Mutant) -> bool:
    """Return whether all its tests pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(".*", "artifacts", "__pycache__", "*.egg-info"))
        (copy / "artifacts").mkdir()
        path = copy / mutant.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) < 1:
            sys.exit(f"{mutant.name}: {mutant.file} has no {mutant.old!r}. Let the list in tests/mutants.py follow the code.")
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutant.tests.split()]
        return subprocess.run(command, cwd=copy, capture_output=True, check=False).returncode == 0


def main(names: list[str]) -> int:
    """Try all mutants, or those that are named; say which survive."""
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    alive = 0
    for mutant in chosen:
        started = time.monotonic()
        alive += (survived := survives(mutant))
        print(f"{'SURVIVES' if survived else 'caught  '}  {mutant.name:<28} {time.monotonic() - started:5.0f} s", flush=True)
    print(f"{len(chosen) - alive} of {len(chosen)} mutants caught")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
