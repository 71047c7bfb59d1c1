"""Opens a bundle in a process of its own: what a model scores must not hang on what the process that trained it has in memory."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_PROJECT = Path(__file__).parents[2]
_SECONDS_ALLOWED = 300


@dataclass(frozen=True)
class Reproduced:
    """What the other process found: by how much a probe text's score was off at most, or the problem in words."""

    worst: float | None
    num_probes: int
    problem: str | None


class FreshProcess:
    """A process that opens a bundle and scores its probe texts, started at once; `result` waits for it."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", __name__, str(folder)]
        self._process = subprocess.Popen(command, cwd=_PROJECT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def result(self) -> Reproduced:
        """Wait for the process and return what it found; a process that dies or hangs is a problem, not an error."""
        try:
            output, _ = self._process.communicate(timeout=_SECONDS_ALLOWED)
        except subprocess.TimeoutExpired:
            self.stop()
            return Reproduced(None, 0, f"another process could not open the bundle within {_SECONDS_ALLOWED} seconds")
        try:
            return Reproduced(**json.loads(output.splitlines()[-1]))
        except (IndexError, ValueError, TypeError):
            code = self._process.returncode
            return Reproduced(None, 0, f"another process that opened the bundle ended with exit code {code} and no answer")

    def stop(self) -> None:
        """End the process if it still runs."""
        self._process.kill()
        self._process.communicate()


def reproduce(folder: Path) -> Reproduced:
    """Open a bundle as scoring does and compare its probe texts' scores with those it was sealed with."""
    import numpy as np
    import pyarrow as pa

    from tasks.errors import PipelineError
    from tasks.model.bundle import GOLDEN, load_bundle

    try:
        model = load_bundle(folder)
    except PipelineError as error:
        return Reproduced(None, 0, str(error))
    golden = json.loads((folder / GOLDEN).read_text(encoding="utf-8"))
    scores = model.score_reviews(pa.array(golden["reviews"], pa.string())).p_positive
    worst = float(np.max(np.abs(scores - np.array(golden["p_positive"], np.float32))))
    return Reproduced(worst, len(scores), None)


def main() -> None:
    """Print what `reproduce` finds of the bundle that is named, as one line of JSON."""
    from dataclasses import asdict

    print(json.dumps(asdict(reproduce(Path(sys.argv[1])))))


if __name__ == "__main__":
    main()
