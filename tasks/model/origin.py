"""What a model was made of, kept in its bundle as `origin.json`: enough to make it again, and to say what has changed since.

It names sources by their names and digests, not by their paths: a bundle may travel.
"""

import platform
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tasks.changes import changed, show_change
from tasks.errors import MachineError
from tasks.model.runtime import num_threads
from tasks.schemas import GOLDEN, SAMPLE, STEPS
from tasks.store import Recipe, Record

READING = ("ingest", GOLDEN, "unlabelled")  # the steps that read sources
_MACHINE_SETTINGS = ("machine", "threads")  # of the train step; told by the machine itself


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


@dataclass(frozen=True)
class StepOrigin:
    """What a step was asked for, as its recipe has it, and the SHA-256 of what it made; None for training, whose files are the bundle."""

    inputs: dict[str, str]
    settings: dict[str, Any]
    modules: dict[str, str]
    libraries: dict[str, str]
    sha256: str | None

    @classmethod
    def of(cls, recipe: Recipe, sha256: str | None = None) -> "StepOrigin":
        """Take over what counts of a recipe."""
        return cls(recipe.inputs, recipe.settings, recipe.modules, recipe.libraries, sha256)


@dataclass(frozen=True)
class Origin:
    """What made a model.

    Args:
        steps: By step, those that read and prepare the data first, the training last.
        sample: The settings of the generated sample, where that was a source.
        machine: Where it was trained.
    """

    steps: dict[str, StepOrigin]
    sample: dict[str, Any] | None
    machine: Machine

    @classmethod
    def of(cls, training: Recipe, lineage: Mapping[str, Record]) -> "Origin":
        """Gather it on the machine that trains.

        Args:
            training: What the train step was asked for.
            lineage: The records of the steps before it, by step.
        """
        order = [step for step in (GOLDEN, *STEPS) if step in lineage]
        steps = {step: StepOrigin.of(lineage[step].recipe, lineage[step].files[0].sha256) for step in order}
        made = cls({**steps, training.step: StepOrigin.of(training)}, None, describe_machine())
        sampled = any(SAMPLE in made.sources(step) for step in READING)
        return replace(made, sample=lineage["ingest"].facts["sample_settings"]) if sampled else made

    def sources(self, step: str) -> dict[str, str]:
        """Return the SHA-256 of every source of a step by its name, in the order in which they were read."""
        inputs = self.steps[step].inputs if step in self.steps else {}
        return {name.partition(":")[2]: sha256 for name, sha256 in inputs.items() if ":" in name}

    def to_json(self) -> dict[str, Any]:
        """Return plain data for `origin.json`."""
        return asdict(self)


def read_origin(folder: Path) -> Origin:
    """Read what made the model of a bundle that the caller has checked.

    Raises:
        MachineError: The bundle does not tell, or not in a form that this version knows.
    """
    try:
        return TypeAdapter(Origin).validate_json((folder / "origin.json").read_bytes())
    except FileNotFoundError as error:
        raise MachineError(f"The bundle {folder.name} does not tell what it was made of: an earlier version trained it.") from error
    except ValueError as error:
        raise MachineError(f"The bundle {folder.name} does not tell what it was made of in a form that this version knows.") from error


@dataclass(frozen=True)
class OriginChanges:
    """What differs between the making of two models, each difference in words.

    Args:
        data: Sources of other content, and steps that made other rows.
        code: Modules.
        settings: Settings of steps.
        libraries: Versions of libraries and of Python.
        processor: Whatever the machine has to do with the last bits.
    """

    data: tuple[str, ...]
    code: tuple[str, ...]
    settings: tuple[str, ...]
    libraries: tuple[str, ...]
    processor: tuple[str, ...]

    def any(self) -> bool:
        """Return whether anything differs."""
        return any(asdict(self).values())


def origin_changes(original: Origin, again: Origin) -> OriginChanges:
    """Compare how two models were made."""
    settings = changed(_settings(original), _settings(again))
    libraries = changed(_libraries(original), _libraries(again))
    machine = changed(asdict(replace(original.machine, python="")), asdict(replace(again.machine, python="")))
    return OriginChanges(
        data=tuple(_data_changes(original, again)),
        code=tuple(changed(_modules(original), _modules(again))),
        settings=tuple(f"{name}: {show_change(*values)}" for name, values in settings.items()),
        libraries=tuple(f"{name}: {show_change(*values)}" for name, values in libraries.items()),
        processor=tuple(f"{name.replace('_', ' ')}: {show_change(*map(_joined, values))}" for name, values in machine.items()),
    )


def _data_changes(original: Origin, again: Origin) -> Iterator[str]:
    for step in READING:
        before, after = original.sources(step), again.sources(step)
        if list(before.values()) != list(after.values()):  # under another name it still is the same source
            for name, digests in changed(before, after).items():
                yield f"{name}: SHA-256 {show_change(*(sha256 and sha256[:12] for sha256 in digests))}"
    for step, made_from in original.steps.items():
        if step in again.steps and made_from.inputs == again.steps[step].inputs and made_from.sha256 != again.steps[step].sha256:
            yield f"{step} made other rows of the same input"


def _settings(origin: Origin) -> dict[str, Any]:
    steps = {step: dict(made_from.settings) for step, made_from in origin.steps.items()}
    for name in _MACHINE_SETTINGS:
        steps["train"].pop(name, None)
    return {**steps, "sample": origin.sample or {}}


def _libraries(origin: Origin) -> dict[str, str]:
    versions = {name: version for made_from in origin.steps.values() for name, version in made_from.libraries.items()}
    return {**versions, "Python": origin.machine.python}


def _modules(origin: Origin) -> dict[str, str]:
    return {name: sha256 for made_from in origin.steps.values() for name, sha256 in made_from.modules.items()}


def _joined(value: Any) -> Any:
    return ", ".join(value) if isinstance(value, tuple) else value
