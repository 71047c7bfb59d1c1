"""The command line: `sentiment …` or `python -m flows …`. It parses, calls the flows, prints, and turns failures into exit codes.

Nothing heavy is imported before a command is known, so that `--help` answers at once.
"""

import argparse
import atexit
import gc
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

_LAST_PORT = 65_535
EXAMPLES = """examples:
  sentiment train                                  train on the generated sample, no download
  sentiment train reviews.csv --set model.epochs=8
  sentiment train imdb --unlabelled imdb           the official archive, its reviews without labels too
  sentiment train --reproduce MODEL_ID             train a model again, and say whether every bit is the same
  sentiment score feedback.csv --format csv        every row back, with p_positive and predicted
  sentiment serve                                  a Prefect server with a schedule, deployments and a worker
  sentiment why train reviews.csv                  which steps would run again, and why

exit codes: 0 done (a refused promotion is 0 too), 2 the command is wrong, 3 the data is wrong,
4 disk, lock, network, Prefect, or a model that came out otherwise, 130 stopped by Ctrl-C
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of every command and option."""
    parser = argparse.ArgumentParser(
        prog="sentiment",
        description="Train a sentiment model that has to earn its promotion, and score feedback with it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train, evaluate and, if it is good enough, promote a model")
    _add_training_arguments(train)
    train.add_argument(
        "--reproduce",
        metavar="MODEL_ID",
        help="train this model once more and compare every bit; nothing else changes (name SOURCE if it lies elsewhere now)",
    )
    train.add_argument("--force-promote", metavar="REASON", help="make the new model champion whatever the comparison says")
    train.add_argument(
        "--folds", type=partial(_from, least=2), metavar="K", help="cross-validate the settings as well, on the rows that are not test rows"
    )
    _add_common_arguments(train)

    score = commands.add_parser("score", help="score review files with the champion")
    score.add_argument("inputs", nargs="*", metavar="INPUT", help="files, folders or globs")
    score.add_argument("--inbox", metavar="DIR", help="score what is new in this folder, told by content; nothing is moved")
    score.add_argument("--every", type=float, metavar="SECONDS", help="with --inbox: look again after so long, until Ctrl-C")
    score.add_argument("--output", metavar="DIR", help="where results go (default: ARTIFACTS/scores/MODEL)")
    score.add_argument("--format", choices=["parquet", "csv", "jsonl"], default="parquet", help="format of the results")
    score.add_argument("--runner", choices=["threads", "dask"], default="threads", help="where tasks run (dask needs the extra `dask`)")
    score.add_argument("--scheduler", metavar="ADDRESS", help="with --runner dask: a cluster's scheduler, e.g. tcp://host:8786")
    score.add_argument("--model", default="champion", metavar="ID", help="champion, or a model's id")
    score.add_argument("--explain", type=int, default=0, metavar="K", help="name for each row the K words that moved its score most")
    _add_reader_arguments(score, labels=False)
    _add_common_arguments(score)

    models = commands.add_parser("models", help="list, show, promote, roll back or export models, and their history")
    actions = models.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in {
        "list": "every model with its accuracy; the champion is marked",
        "show": "one model's card, and what the gate said of it",
        "history": "every promotion, refusal and rollback: when, by whom, why",
        "promote": "make a model the champion",
        "rollback": "make the previous champion the champion again",
        "export": "write a model as a TensorFlow SavedModel that takes raw reviews",
    }.items():
        action = actions.add_parser(name, help=text)
        if name in ("show", "promote", "export"):
            action.add_argument("model_id", metavar="ID")
        if name in ("promote", "rollback"):
            action.add_argument("--reason", required=True, help="kept in the history")
        if name == "export":
            action.add_argument("--format", choices=["savedmodel", "keras"], default="savedmodel", help="savedmodel (keras cannot hold it)")
            action.add_argument("--output", metavar="DIR", help="the folder to write (default: ARTIFACTS/exports/ID)")
        _add_common_arguments(action)

    tune = commands.add_parser(
        "tune",
        help="search for better settings on validation rows and write the best as a preset file",
        description="Search for better settings. Trials are judged on validation rows, a fifth of all that are not test rows at least "
        "(--set split.validation_share=… for another share), never on test rows.",
    )
    _add_training_arguments(tune)
    tune.add_argument(
        "--minutes", type=_minutes, default=30.0, metavar="M", help="how long to search (default: 30); the same command goes on"
    )
    tune.add_argument("--trials", type=partial(_from, least=1), metavar="N", help="end earlier, when the search holds so many trials")
    tune.add_argument(
        "--search",
        action="append",
        default=[],
        metavar="NAME[=VALUES]",
        help="search this setting, e.g. model.units, model.units=32..128 or model.batch_size=[32,64] (default: a choice of the project's)",
    )
    tune.add_argument("--output", metavar="FILE", help="the preset file (default: ARTIFACTS/tune/STUDY/best.json)")
    _add_common_arguments(tune)

    ablate = commands.add_parser(
        "ablate",
        help="measure on validation rows what each ingredient of a model is worth",
        description="Leave out one ingredient of the model at a time and measure what that costs on validation rows, a fifth of all that "
        "are not test rows at least (--set split.validation_share=… for another share). What was measured before is not trained again.",
    )
    _add_training_arguments(ablate)
    ablate.add_argument(
        "--only", action="append", default=[], metavar="INGREDIENT", help="leave out only this one, e.g. 'pair vectors' (default: each)"
    )
    ablate.add_argument("--try", dest="changes", action="append", default=[], metavar="NAME=VALUE", help="try a setting, a line for each")
    ablate.add_argument("--seeds", type=partial(_from, least=1), default=3, metavar="N", help="models for each line (default: 3)")
    _add_common_arguments(ablate)

    why = commands.add_parser("why", help="say for every step whether it would run, and what changed")
    why.add_argument("what", choices=["train"], help="the command to explain")
    _add_training_arguments(why)
    _add_common_arguments(why)

    serve = commands.add_parser(
        "serve",
        help="run a Prefect server with the deployments of prefect.yaml, and a worker, until Ctrl-C",
        description="Run a Prefect server on this machine, with the deployments of prefect.yaml, automations and a worker, until Ctrl-C. "
        "Run again, it changes nothing that is as it should be. Everything lies in ARTIFACTS/prefect; where PREFECT_API_URL is set, "
        "that server is used and none started.",
    )
    serve.add_argument(
        "--source",
        default="sample",
        metavar="REVIEWS",
        help="what `retrain` and `tune` train on: a file, folder or glob of labelled reviews (default: the generated sample)",
    )
    serve.add_argument("--port", type=_port, metavar="N", help="the server's port (default: 4200)")
    serve.add_argument("--inbox", metavar="DIR", help="where feedback is put to be scored (default: ARTIFACTS/inbox)")
    serve.add_argument(
        "--alerts",
        metavar="URL",
        help="a webhook to tell of crashes, refusals and drift; better by SENTIMENT_ALERTS, as others see options",
    )
    _add_common_arguments(serve)

    doctor = commands.add_parser("doctor", help="examine this machine and the artifacts folder; each finding with its remedy")
    doctor.add_argument("--port", type=_port, default=4200, metavar="N", help="the port that serve is to take (default: 4200)")
    _add_common_arguments(doctor)

    verify = commands.add_parser("verify", help="hash every artifact again and name what is damaged")
    _add_common_arguments(verify)

    collect = commands.add_parser("gc", help="remove what nothing refers to; without --delete only say what that is")
    collect.add_argument(
        "--keep-models",
        type=int,
        metavar="N",
        help="let models go but the N newest, the champion, the one a rollback brings back, and those in use (default: all stay)",
    )
    collect.add_argument("--delete", action="store_true", help="really remove it")
    _add_common_arguments(collect)
    return parser


def _add_training_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="*",
        default=["sample"],
        metavar="SOURCE",
        help="sample (generated here, the default), imdb (the official archive), or files, folders and globs",
    )
    parser.add_argument(
        "--preset",
        default="default",
        metavar="NAME|FILE",
        help="default, tutorial, quick, or a preset file such as `sentiment tune` writes",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change one setting, e.g. model.epochs=8",
    )
    parser.add_argument(
        "--unlabelled",
        nargs="+",
        action="extend",
        metavar="FILE",
        help="reviews without labels to learn from as well: files, folders, globs, or imdb; feedback that was scored will do",
    )
    parser.add_argument("--golden-test", metavar="FILE", help="a labelled file kept apart: never trained on, every model evaluated on it")
    _add_reader_arguments(parser, labels=True)


def _add_reader_arguments(parser: argparse.ArgumentParser, *, labels: bool) -> None:
    columns = parser.add_argument_group("reading")
    columns.add_argument("--text-column", metavar="C", help="the column that holds the review")
    columns.add_argument("--id-column", metavar="C", help="the column that identifies a review")
    columns.add_argument("--date-column", metavar="C", help="the column that says when a review was written")
    if labels:
        columns.add_argument("--label-column", metavar="C", help="the column that holds the sentiment")
        columns.add_argument(
            "--label",
            action="append",
            default=[],
            metavar="WORD=CLASS",
            help="read WORD as positive, negative or drop, e.g. meh=drop",
        )
        columns.add_argument("--since", metavar="DAY", help="use reviews from this day on, e.g. 2026-01-31 (UTC)")
        columns.add_argument("--until", metavar="DAY", help="use reviews up to this day, the day included")
        columns.add_argument("--last", metavar="SPAN", help="use the reviews of the last days or weeks before today, e.g. 90d or 12w")
    columns.add_argument("--encoding", metavar="E", help="text encoding, e.g. cp1252 (default: detected)")
    columns.add_argument("--delimiter", metavar="D", help="field delimiter, e.g. ';' (default: detected)")
    columns.add_argument(
        "--header", action=argparse.BooleanOptionalAction, help="whether the first row names the columns (default: detected)"
    )
    columns.add_argument(
        "--input-format",
        choices=["csv", "tsv", "jsonl", "json", "parquet", "excel", "text", "texts"],
        help="format of the input (default: detected); text is a review a line, texts a review a file",
    )


def _add_common_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--artifacts", default="artifacts", metavar="DIR", help="the artifacts folder (default: artifacts)")
    parser.add_argument("--json", action="store_true", help="print one machine-readable line last")


def _from(text: str, least: int) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} on")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _LAST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, a whole number from 1 to {_LAST_PORT}")
    return int(text)


def _minutes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of minutes above 0")
    return number


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command line; an option that there is not ends it with exit code 2 and the name of the one that may be meant."""
    parser = build_parser()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        parser = commands.choices[options.command]
        wrong = next((word for word in unknown if word.startswith("-")), unknown[0])
        parser.error(f"there is no {'option' if wrong.startswith('-') else 'argument'} {wrong}{_meant(wrong, parser)}")
    return options


def _meant(wrong: str, parser: argparse.ArgumentParser) -> str:
    """Return what to say of an option that does not exist: the one, or the setting, whose name is most like it."""
    import difflib

    known = {option: option for option in parser._option_string_actions if option.startswith("--")}
    if "--set" in known:
        from flows.form import overrides_schema
        from flows.settings import TrainingSettings

        for name in overrides_schema(TrainingSettings)["properties"]:
            known.setdefault("--" + name.rpartition(".")[2].replace("_", "-"), f"--set {name}=…")
    close = difflib.get_close_matches(wrong.partition("=")[0], known, n=1)
    return f". Did you mean {known[close[0]]}?" if close else f"; `{parser.prog} --help` lists them"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = parse(arguments)
    _quieten_libraries()
    gc.disable()  # imports make many objects and no garbage; looking for some takes a fifth of their time. `run_flow` enables it
    atexit.register(gc.freeze)  # a process that ends need not look for what it could free: that takes a second
    from flows import commands, doctor, experiments, serving
    from tasks.errors import PipelineError
    from tasks.printable import printable

    run: dict[str, Any] = {
        "train": commands.train,
        "score": commands.score,
        "models": commands.models,
        "tune": experiments.tune,
        "ablate": experiments.ablate,
        "why": commands.why,
        "serve": serving.serve,
        "doctor": doctor.doctor,
        "verify": commands.verify,
        "gc": commands.gc,
    }
    if options.command not in ("train", "score", "tune", "ablate"):
        gc.enable()
    try:
        summary, exit_code = run[options.command](options)
    except PipelineError as error:
        print(f"sentiment {options.command}: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        print(
            f"sentiment {options.command}: {error}. Mend the disk or its permissions and run the same command again, "
            "or name another folder with --artifacts.",
            file=sys.stderr,
        )
        return 4
    except KeyboardInterrupt:
        print("Stopped. Finished steps are kept; the same command goes on from there.", file=sys.stderr)
        return 130
    if history := summary.get("history"):  # all is done, but not as it was asked
        print(f"sentiment {options.command}: {history} The same command again finds it done.", file=sys.stderr)
        exit_code = exit_code or 4
    if options.json:
        print(json.dumps(summary, ensure_ascii=False, allow_nan=False), flush=True)
    return int(exit_code)


def _quieten_libraries() -> None:
    """Keep the terminal for this program's own lines; every record still goes to the run's log in Prefect."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")  # the same for Prefect's client, whatever the server says
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")


if __name__ == "__main__":
    sys.exit(main())
