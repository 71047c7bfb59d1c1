"""From parsed options to what flows and the store are called with."""

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import CallerError
from tasks.printable import printable
from tasks.store import Store

if TYPE_CHECKING:
    from tasks.reviews.readers import ReaderSettings

Outcome = tuple[dict[str, Any], int]  # a command's summary and its exit code


def overrides_of(options: Namespace) -> dict[str, Any]:
    """Return the settings that options and --set change, by dotted name."""
    from flows.settings import parse_override

    found: dict[str, Any] = {f"ingest.reader.{name}": value for name, value in reader_options(options).items() if value is not None}
    for name in ("text_column", "id_column", "label_column"):
        if getattr(options, name) is not None:
            found[f"ingest.{name}"] = getattr(options, name)
    window = {"since": options.since, "until": options.until, "last": options.last, "column": options.date_column}
    found |= {f"ingest.window.{name}": value for name, value in window.items() if value is not None}
    labels = dict(_parse_label(text) for text in options.label)
    if labels:
        found["ingest.labels.extra"] = labels
    found.update(parse_override(text) for text in options.overrides)
    return found


def flow_arguments(options: Namespace, overrides: dict[str, Any]) -> dict[str, Any]:
    """Return what every flow that trains is called with."""
    return {
        "sources": options.sources,
        "preset": options.preset,
        "overrides": overrides,
        "unlabelled_sources": options.unlabelled,
        "golden_test": options.golden_test,
        "artifacts": options.artifacts,
    }


def check_files(names: Iterable[str | None], reader: "ReaderSettings", *, training: bool = True) -> None:
    """Refuse files that are not there at once, before Prefect has started; remote ones are looked for by the run.

    Args:
        names: Paths, folders, globs or addresses; None for one that was not given.
        reader: How they will be read.
        training: Whether `sample` and `imdb` are names too.

    Raises:
        CallerError: A path, folder or glob names nothing.
    """
    from tasks.reviews.remote import is_remote
    from tasks.reviews.sources import IMDB, find_files
    from tasks.schemas import SAMPLE

    for name in names:
        if name and not (training and name in (SAMPLE, IMDB)) and not is_remote(name):
            find_files(name, None, reader)


def check_columns(names: Iterable[str], reader: "ReaderSettings", find: Callable[[list[str]], object]) -> None:
    """Refuse columns that are not there at once, before Prefect has started, by the first rows of the first file of each name.

    What else may be wrong with a file, and with the files after it, the run itself tells.

    Args:
        names: Sources, as for `check_files`.
        reader: How they will be read.
        find: Finds in a list of columns those that are needed, or raises CallerError.
    """
    from tasks.errors import DataError, MachineError
    from tasks.reviews.remote import is_remote
    from tasks.reviews.sources import IMDB, find_files
    from tasks.schemas import SAMPLE

    for name in names:
        if name in (SAMPLE, IMDB) or is_remote(name):
            continue
        source = find_files(name, None, reader)[0]
        try:
            batch = next(iter(source.read(reader)), None)
        except (DataError, MachineError, OSError):
            continue
        if batch is None:
            continue
        try:
            find(batch.columns.schema.names)
        except CallerError as error:
            raise CallerError(f"{source.name}: {error}") from None


def reader_options(options: Namespace) -> dict[str, Any]:
    """Return what the options say of how to read; None is for what they leave to be detected."""
    delimiter = options.delimiter.replace("\\t", "\t") if options.delimiter else None
    return {"format": options.input_format, "encoding": options.encoding, "delimiter": delimiter, "header": options.header}


def _parse_label(text: str) -> tuple[str, str]:
    word, equals, meaning = text.partition("=")
    if not equals or meaning not in ("positive", "negative", "drop"):
        raise CallerError(f"--label {text!r} is not WORD=positive, WORD=negative or WORD=drop.")
    return word, meaning


def store_of(options: Namespace) -> Store:
    """Return the store that --artifacts names.

    Raises:
        CallerError: There is no such folder.
    """
    folder = Path(options.artifacts)
    if not folder.is_dir():
        raise CallerError(f"There is no artifacts folder {options.artifacts!r}. Name it with --artifacts, or run `sentiment train` first.")
    return Store(folder.resolve())


def printer_of(options: Namespace) -> Callable[[str], None]:
    """Return a print for people: to stderr when stdout is for the summary."""
    return lambda line: print(printable(line), file=sys.stderr if options.json else sys.stdout, flush=True)
