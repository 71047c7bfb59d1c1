"""What a model was made of, kept in its bundle as `origin.json`: enough to make it again, and to say what has changed since.

It names sources by their names and digests, not by their paths: a bundle may travel.
"""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.model.runtime import num_threads
from tasks.store import Recipe, Record


@dataclass(frozen=True)
class Machine:
    """What decides the last bits of sums and products besides code and data.

    Args:
        system: Operating system and machine, such as Linux x86_64.
        python: Version.
        processor: The model's name.
        vector_units: What NumPy found of the processor's vector instructions.
        threads: Among which TensorFlow divides an operation.
        blas: The libraries of NumPy and SciPy for matrix products, each with its version and the kernels it chose.
    """

    system: str
    python: str
    processor: str
    vector_units: tuple[str, ...]
    threads: int
    blas: tuple[str, ...]


def describe_machine() -> Machine:
    """Describe the machine that this runs on."""
    import numpy as np
    import scipy.linalg  # noqa: F401  it brings a BLAS of its own, which is named once it is loaded
    from threadpoolctl import threadpool_info

    found = np.show_config(mode="dicts")["SIMD Extensions"]
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return Machine(
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        processor=_processor_name(),
        vector_units=(*found["baseline"], *found["found"]),
        threads=num_threads(),
        blas=tuple(sorted({f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip() for pool in pools})),
    )


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def describe_origin(training: Recipe, lineage: Mapping[str, Record]) -> dict[str, Any]:
    """Return what `origin.json` holds.

    Args:
        training: What the train step was asked for.
        lineage: The records of the steps before it, by step.

    Returns:
        `steps`: by step, inputs, settings, and digests of code and libraries as its recipe has them, and `sha256` of what it made;
        `sample`: the settings of the generated sample, where that was a source; `machine`.
    """
    steps = {step: {**_plain(record.recipe), "sha256": record.files[0].sha256} for step, record in reversed(list(lineage.items()))}
    ingested = lineage["ingest"].facts if "ingest" in lineage else {}
    return {
        "steps": {**steps, training.step: _plain(training)},
        "sample": ingested["sample_settings"] if ingested.get("sample") else None,
        "machine": asdict(describe_machine()),
    }


def _plain(recipe: Recipe) -> dict[str, Any]:
    return {"inputs": recipe.inputs, "settings": recipe.settings, "modules": recipe.modules, "libraries": recipe.libraries}
