"""The scoring flow: applies a promoted model to new review files, a task a file. One bad file does not stop the others."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

from prefect import flow
from prefect.runtime import flow_run

from tasks.errors import CallerError, DataError, MachineError
from tasks.model.bundle import check_bundle
from tasks.model.registry import champion, models_folder
from tasks.outcome import run_logger
from tasks.reviews.readers import ReaderSettings
from tasks.reviews.sources import FileSource, find_files, with_own_names
from tasks.score import ScoredFile, ScoreSettings, score
from tasks.store import Store

_ENDINGS = {
    ".csv",
    ".tsv",
    ".txt",
    ".json",
    ".jsonl",
    ".ndjson",
    ".parquet",
    ".xlsx",
    ".gz",
    ".zst",
    ".xz",
    ".bz2",
    ".zip",
}


def _run_name() -> str:
    parameters = flow_run.get_parameters()
    return f"score {', '.join(Path(name).name for name in parameters['inputs'][:3])} with {parameters['model']}"


@flow(name="scoring", flow_run_name=_run_name)
def scoring(
    inputs: list[str],
    output: str | None = None,
    format: Literal["parquet", "csv"] = "parquet",
    model: str = "champion",
    text_column: str | None = None,
    reader: ReaderSettings | None = None,
    artifacts: str = "artifacts",
) -> dict[str, Any]:
    """Score review files: every row comes back with a probability, a label and the model's name.

    Args:
        inputs: Paths of review files, folders or globs.
        output: Folder for the results; ARTIFACTS/scores/MODEL if not given.
        format: Format of the results.
        model: champion, or a model's id.
        text_column: The column that holds the review; found by its name if not given.
        reader: How to read the files; detected if not given.
        artifacts: The folder that holds the models.

    Returns:
        The run's summary, as `sentiment score --json` prints it.
    """
    store = Store(Path(artifacts).resolve(), run_id=str(flow_run.get_id()))
    model_id = resolve_model(model, store)
    folder = Path(output).resolve() if output else store.root / "scores" / model_id
    settings = ScoreSettings(reader=reader or ReaderSettings(), text_column=text_column, format=format)

    downloads = store.root / "downloads"
    sources = with_own_names([file for name in inputs for file in find_files(name, downloads, settings.reader)])
    if not sources:
        raise CallerError("There is nothing to score: no inputs were named.")

    scored: list[ScoredFile] = []
    failed: dict[str, DataError | CallerError] = {}
    for source, place in output_places(sources, folder, format):
        try:
            scored.append(score(source, place, model_id, settings, store))
        except (DataError, CallerError) as error:
            failed[source.name] = error
            run_logger().error("%s was not scored: %s", source.name, error)
    if not scored and all(isinstance(error, CallerError) for error in failed.values()):
        raise next(iter(failed.values()))
    summary = summarize(model_id, scored, {name: str(error) for name, error in failed.items()})
    if failed:
        raise UnscoredFilesError(summary)
    return summary


class UnscoredFilesError(DataError):
    """Some files could not be scored; `summary` tells of them and of the others, whose results stand."""

    def __init__(self, summary: dict[str, Any]) -> None:
        super().__init__("; ".join(f"{source}: {why}" for source, why in summary["failed"].items()))
        self.summary = summary


def resolve_model(model: str, store: Store) -> str:
    """Return a model's id; `champion` is the one promoted last.

    Raises:
        CallerError: There is no such model, or no champion yet.
        MachineError: The model's bundle is damaged.
    """
    if model != "champion":
        check_bundle(models_folder(store) / model)
        return model
    current = champion(store)
    if current is None:
        raise CallerError(
            f"There is no champion in {store.root} yet. Train one with `sentiment train SOURCE`, or name a model with --model ID."
        )
    if check_bundle(models_folder(store) / current.model_id) != current.bundle_sha256:
        raise MachineError(f"The champion {current.model_id} is not the bundle that was promoted. Promote a model anew.")
    return current.model_id


def output_places(sources: list[FileSource], folder: Path, ending: str) -> list[tuple[FileSource, Path]]:
    """Name every input's result: its own name without endings, or with them where two would be the same."""
    stems = [_stem(source.name) for source in sources]
    shared = {stem for stem, count in Counter(stems).items() if count > 1}
    names = [source.name.replace("/", "__") if stem in shared else stem for source, stem in zip(sources, stems, strict=True)]
    if len(set(names)) < len(names):
        raise CallerError(
            f"Several inputs have the same name: {', '.join(sorted(n for n, c in Counter(names).items() if c > 1))}. Score them one by one."
        )
    return [(source, folder / f"{name}.scored.{ending}") for source, name in zip(sources, names, strict=True)]


def _stem(name: str) -> str:
    path = Path(name)
    while path.suffix.lower() in _ENDINGS:
        path = path.with_suffix("")
    return str(path).replace("/", "__")


def summarize(model_id: str, scored: list[ScoredFile], failed: dict[str, str]) -> dict[str, Any]:
    """Return what a run came to, in the form that `--json` promises."""
    return {
        "command": "score",
        "status": "failed" if failed else "scored",
        "model_id": model_id,
        "rows": sum(file.rows for file in scored),
        "scored": sum(file.scored for file in scored),
        "quarantined": sum(file.quarantined for file in scored),
        "outputs": [file.output for file in scored],
        "quarantines": [file.quarantine for file in scored if file.quarantine],
        "failed": failed,
    }
