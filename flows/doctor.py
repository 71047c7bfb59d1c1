"""`sentiment doctor`: every finding about this machine and the artifacts folder, with its remedy."""

import os
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from flows.options import Outcome, printer_of

_MARKS = {"ok": " ", "warning": "!", "problem": "X"}


def doctor(options: Namespace) -> Outcome:
    """Examine everything; exit code 4 if anything is a problem."""
    from tasks.examine import examine

    say = printer_of(options)
    lock = Path(__file__).parents[1] / "requirements.lock"
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect").expanduser()
    api_url = os.environ.get("PREFECT_API_URL", "").rstrip("/") or None
    found = []
    for examined in examine(Path(options.artifacts).resolve(), lock, api_url, home, options.port):
        found.append(examined)
        say(f"{_MARKS[examined.verdict]} {examined.matter:<10} {examined.found}")
        if examined.remedy:
            say(f"{'':<12} → {examined.remedy}")
        sys.stdout.flush()
    counts = Counter(examined.verdict for examined in found)
    say(f"{counts['ok']} in order, {counts['warning']} to look at, {counts['problem']} in the way.")
    return {"command": "doctor", "findings": [asdict(examined) for examined in found]}, 4 if counts["problem"] else 0
