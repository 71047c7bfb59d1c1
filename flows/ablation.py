"""The ablation flow: leaves out one ingredient of the model at a time and measures on validation rows. Test rows are never read."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from flows.ending import keep
from flows.settings import TrainingSettings, override_words, settings_to_judge
from tasks.ablate import compare, plan_variants, to_markdown
from tasks.balance import check_balance
from tasks.clean import clean
from tasks.dotted import change_settings
from tasks.fingerprint import library_versions
from tasks.ingest import ingest, read_golden
from tasks.measure import measure
from tasks.measured import Measured, measured_by
from tasks.model.fitting import LIBRARIES
from tasks.outcome import ref_of, show_markdown
from tasks.reviews.text import CleanSettings, TokenizeSettings
from tasks.split import split
from tasks.store import ArtifactRef, Store
from tasks.tokenize import tokenize
from tasks.unlabelled import unlabelled

TextRules = tuple[CleanSettings, TokenizeSettings]


def _run_name() -> str:
    parameters = flow_run.get_parameters()
    return f"ablate {', '.join(Path(source).name for source in parameters['sources'])} {Path(parameters['preset']).name}"


@flow(name="ablation", flow_run_name=_run_name)
def ablation(
    sources: list[str] = ["sample"],  # noqa: B006  Prefect's form shows the default; nothing changes it
    preset: str = "default",
    overrides: dict[str, Any] | None = None,
    unlabelled_sources: list[str] | None = None,
    golden_test: str | None = None,
    only: list[str] | None = None,
    changes: list[tuple[str, Any]] | None = None,
    seeds: int = 3,
    artifacts: str = "artifacts",
) -> dict[str, Any]:
    """Measure what each ingredient of the model is worth; what was measured before is not trained again.

    Args:
        sources: What to train on, as for training.
        preset: The model: default, tutorial, quick, or the path of a preset file.
        overrides: Single settings by dotted name.
        unlabelled_sources: Reviews without labels to learn from as well, as for training.
        golden_test: A labelled file kept apart, as for training: what repeats it is not learnt from.
        only: The ingredients to leave out; all if neither this nor `changes` is given.
        changes: Settings to try instead, a line for each: dotted name and value.
        seeds: Models for each line, with seeds from the preset's on.
        artifacts: The folder for intermediates and measurements.

    Returns:
        The run's summary, as `sentiment ablate --json` prints it.
    """
    settings = settings_to_judge(preset, overrides or {})
    variants = plan_variants(settings, only or [], changes or [], with_unlabelled=bool(unlabelled_sources))
    store = Store(Path(artifacts).resolve())

    golden = read_golden(golden_test, settings.ingest, store) if golden_test else None
    ingested = ingest(sources, settings.ingest, store)
    changed = {variant.name: change_settings(settings, variant.changes.items()) for variant in variants}
    inputs = _read_by_all_rules(ingested, golden, unlabelled_sources, list(changed.values()), store)
    measured: dict[str, list[Measured]] = {variant.name: [] for variant in variants}
    numbers = range(settings.seed, settings.seed + seeds)
    for seed in numbers:
        for variant in variants:
            tried = change_settings(changed[variant.name], [("seed", seed)])
            rows, more = inputs[_text_rules(tried)]
            found = measure(rows, more if variant.uses_unlabelled else None, tried.train, store, f"{variant.label}, seed {seed}")
            measured[variant.name].append(measured_by(ref_of(found), store))

    lines = [compare(variant, measured[variant.name], measured[variants[0].name]) for variant in variants]
    words = ["sentiment", "ablate", *sources, "--preset", preset, "--seeds", str(seeds)]
    words += [
        *override_words("--set", overrides or {}),
        *(f"--only={name}" for name in only or []),
        *(word for change in changes or [] for word in override_words("--try", dict([change]))),
        *(["--unlabelled", *unlabelled_sources] if unlabelled_sources else []),
        *(["--golden-test", golden_test] if golden_test else []),
    ]
    origin = {
        "Command": f"`{shlex.join(words)}`",
        "Data": f"{ref_of(ingested).rows:,} reviews, SHA-256 `{ref_of(ingested).sha256}`",
        "Versions": ", ".join(f"{name} {version}" for name, version in library_versions(LIBRARIES).items()),
    }
    whole = measured[variants[0].name]
    markdown = to_markdown(lines, whole[0], numbers, origin)
    show_markdown("ablation", f"What each ingredient of {settings.preset} is worth", markdown)
    summary = {
        "command": "ablate",
        "preset": settings.preset,
        "rows": {"train": whole[0].trained_rows, "validation": whole[0].rows},
        "seeds": list(numbers),
        "lines": [asdict(line) for line in lines],
        "markdown": markdown,
    }
    return keep(summary)


def _read_by_all_rules(
    ingested: ArtifactRef,
    golden: ArtifactRef | None,
    unlabelled_sources: list[str] | None,
    settings: list[TrainingSettings],
    store: Store,
) -> dict[TextRules, tuple[ArtifactRef, ArtifactRef | None]]:
    """Clean, tokenize and split by each of the rules that are asked for; the same reviews stand on the same sides under all of them.

    Returns:
        By rules, the split reviews and the unlabelled ones.
    """
    inputs: dict[TextRules, tuple[ArtifactRef, ArtifactRef | None]] = {}
    for asked in settings:
        if _text_rules(asked) not in inputs:
            cleaned = clean(ingested, asked.clean, store)
            rows = ref_of(split(tokenize(cleaned, asked.tokenize, store), asked.split, store, golden))
            check_balance(rows, asked.balance, store)
            more = ref_of(unlabelled(unlabelled_sources, rows, asked.unlabelled, store, golden)) if unlabelled_sources else None
            inputs[_text_rules(asked)] = rows, more
    return inputs


def _text_rules(settings: TrainingSettings) -> TextRules:
    return settings.clean, settings.tokenize
