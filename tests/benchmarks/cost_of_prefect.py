"""Measures Prefect's share of a training run's CPU time: all that a run of the command line spends outside of its steps.

    python tests/benchmarks/cost_of_prefect.py REVIEWS [--preset default] [--again]

The whole is the command's process and every process it started, Prefect's temporary server among them. A step is what makes an artifact,
from looking it up to naming it. The rest is counted as Prefect's: its imports, its engine, its server, and the little that is this
project's own, such as reading settings; so the share is an upper bound, and both numbers are of one run. `--again` runs the same command
once more, when every step is cached; set PREFECT_API_URL to measure that without a server's start.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from typing import Any


def cpu_seconds(who: int) -> float:
    """Return the CPU seconds of this process, or of its children that have ended."""
    spent = resource.getrusage(who)
    return spent.ru_utime + spent.ru_stime


def all_cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    return cpu_seconds(resource.RUSAGE_SELF) + cpu_seconds(resource.RUSAGE_CHILDREN)


def run_counted(words: list[str]) -> None:
    """Run the command line in this process and print, last, what its steps have spent."""
    from flows.__main__ import main
    from tasks.store import Store

    spent, make = [0.0], Store.make

    def counted(*arguments: Any, **named: Any) -> Any:
        started = all_cpu_seconds()
        try:
            return make(*arguments, **named)
        finally:
            spent[0] += all_cpu_seconds() - started

    Store.make = counted  # type: ignore[method-assign]
    exit_code = main(words)
    print(json.dumps({"steps": spent[0], "process": cpu_seconds(resource.RUSAGE_SELF), "exit_code": exit_code}))


def main() -> None:
    """Run the command and print the share."""
    if sys.argv[1:2] == ["--counted"]:
        run_counted(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reviews")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", options.reviews, "--preset", options.preset, "--artifacts", folder]
        for name in ("trained", "again, all cached")[: 1 + options.again]:
            before = cpu_seconds(resource.RUSAGE_CHILDREN)
            done = subprocess.run([sys.executable, __file__, "--counted", *words], stdout=subprocess.PIPE, text=True, check=True)
            total = cpu_seconds(resource.RUSAGE_CHILDREN) - before
            told = json.loads(done.stdout.splitlines()[-1])
            server = "a server that runs already is not counted" if os.environ.get("PREFECT_API_URL") else "the temporary server included"
            print(f"{name}: {total:.1f} CPU seconds in all, {server}; {told['process']:.1f} of the command's own process, ", end="")
            print(f"{told['steps']:.1f} in steps: outside of steps {1 - told['steps'] / total:.1%}", flush=True)


if __name__ == "__main__":
    main()
