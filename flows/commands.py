"""What each command does once its options are parsed: call a flow or the store, print for people, return the summary."""

import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.options import Outcome, check_columns, check_files, flow_arguments, overrides_of, printer_of, reader_options, store_of
from flows.running import run_flow
from tasks.errors import CallerError
from tasks.store import Store

if TYPE_CHECKING:
    from tasks.model.registry import Promotion

_CHANGES_SHOWN = 5


def train(options: Namespace) -> Outcome:
    """Run the training flow, or the reproduction flow."""
    from flows.settings import compose_settings
    from flows.training import training
    from tasks.mlflow_log import check_mlflow
    from tasks.model.registry import check_reason, is_champion
    from tasks.reviews.columns import find_label_column, find_text_column

    overrides = overrides_of(options)
    if options.reproduce:
        return _reproduce(options, overrides)
    settings = compose_settings(options.preset, list(overrides.items()))  # a wrong setting is refused before Prefect starts
    check_reason(options.force_promote)
    check_mlflow()
    check_files([*options.sources, *(options.unlabelled or []), options.golden_test], settings.ingest.reader)
    ingest = settings.ingest
    check_columns(
        options.sources,
        ingest.reader,
        lambda names: (find_text_column(names, ingest.text_column), find_label_column(names, ingest.label_column)),
    )
    summary = run_flow(lambda: training(**flow_arguments(options, overrides), force_promote=options.force_promote, folds=options.folds))
    _print_training(summary, is_champion=is_champion(store_of(options), summary["model_id"]))
    return summary, 0


def _reproduce(options: Namespace, overrides: dict[str, Any]) -> Outcome:
    """Run the reproduction flow; exit code 4 if the model that came of it is another and not as good."""
    from flows.reproduction import reproduction

    if overrides or options.preset != "default" or options.force_promote:
        raise CallerError("--reproduce takes every setting from the model. Name nothing beside it, but its sources if they moved.")
    sources = None if options.sources == ["sample"] else options.sources
    summary = run_flow(
        lambda: reproduction(
            model_id=options.reproduce,
            sources=sources,
            unlabelled_sources=options.unlabelled,
            golden_test=options.golden_test,
            artifacts=options.artifacts,
        )
    )
    _print_reproduction(summary)
    return summary, 4 if summary["status"] == "different" else 0


def score(options: Namespace) -> Outcome:
    """Run the scoring flow; exit code 3 if a file could not be scored."""
    from flows.temporary_server import start_early

    start_early()
    from pydantic import ValidationError

    from flows.scoring import UnscoredFilesError, check_model, check_use, prepare, purpose_of, scoring
    from tasks.dotted import told_problems
    from tasks.inbox import has_news
    from tasks.reviews.columns import find_text_column
    from tasks.reviews.readers import ReaderSettings
    from tasks.score import ScoreSettings

    try:
        reader = ReaderSettings(**{name: value for name, value in reader_options(options).items() if value is not None})
    except ValidationError as error:
        raise CallerError(f"An option does not fit: {told_problems(error)}.") from None
    names = ("text_column", "id_column", "date_column", "format", "explain")
    settings = ScoreSettings.model_construct(reader=reader, **{name: getattr(options, name) for name in names})

    if options.scheduler and options.runner != "dask":
        raise CallerError("--scheduler names a Dask cluster. Say --runner dask with it.")
    if options.every is not None and (options.every < 0 or not options.inbox):
        raise CallerError("--every is the seconds between two looks into an --inbox.")
    check_use(options.inputs, options.inbox, options.explain)
    check_model(options.model, Store(Path(options.artifacts).resolve()))
    if not options.inbox:
        check_files(options.inputs, reader, training=False)
        if len(options.inputs) == 1 and Path(options.inputs[0]).is_file():  # of several files one that is wrong does not stop the others
            check_columns(options.inputs, reader, lambda names: find_text_column(names, options.text_column))

    def call() -> dict[str, Any]:
        try:
            return scoring(
                inputs=options.inputs or None,
                output=options.output,
                model=options.model,
                artifacts=options.artifacts,
                inbox=options.inbox,
                runner=options.runner,
                scheduler=options.scheduler,
                **dict(settings),
            )
        except UnscoredFilesError as error:
            return error.summary

    while True:
        summary = run_flow(call, lambda: prepare(options.model, options.artifacts) if options.runner == "threads" else None)
        _print_scoring(summary, printer_of(options))
        if options.every is None:
            return summary, 3 if summary["failed"] else 0
        store = store_of(options)
        time.sleep(options.every)
        while not has_news(store, options.inbox, reader, purpose_of(settings, options.model, options.output, store), options.output):
            time.sleep(options.every)


def _print_scoring(summary: dict[str, Any], say: Callable[[str], None]) -> None:
    say(
        f"{summary['scored']:,} of {summary['rows']:,} rows scored with {summary['model_id']}, "
        f"{summary['quarantined']:,} quarantined, {summary['seconds']:.1f} s"
        + ("" if summary["status"] in ("scored", "failed") else f" ({summary['status']})")
    )
    for name in [*summary["outputs"], *summary["quarantines"]]:
        say(f"  {name}")
    if summary["failed"]:
        width = max(map(len, summary["failed"]))
        print(f"{len(summary['failed']):,} of {len(summary['failed']) + len(summary['outputs']):,} files were not scored:", file=sys.stderr)
        for source, why in summary["failed"].items():
            print(f"  {source:<{width}}  {why}", file=sys.stderr)
    if summary["summary"]:
        say(f"  {summary['summary']} ({summary['drift'] or 'not compared with training'})")


def models(options: Namespace) -> Outcome:
    """List, show, promote, roll back or export models, or tell their history."""
    from tasks.model import registry

    store = store_of(options)
    say = printer_of(options)
    if options.action == "list":
        entries = _list_models(store)
        for listed in entries:
            mark = "*" if listed["champion"] else " "
            origin = f"{listed['preset']}, {', '.join(listed['sources'])}"
            say(f"{mark} {listed['model_id']}  {listed['accuracy']:.2%} on {listed['rows']:,} test rows  {origin}")
        if not entries:
            say("No models yet. Train one with `sentiment train SOURCE`.")
        return {"command": "models list", "models": entries}, 0
    if options.action == "show":
        return _show_model(options.model_id, store, say), 0
    if options.action == "history":
        decisions = registry.decisions(store)
        for decided in decisions:
            say(f"{decided.promoted_at}  {decided.event:<11} {decided.model_id}  by {decided.by}: {decided.reason}")
        return {"command": "models history", "decisions": [asdict(decided) for decided in decisions]}, 0
    if options.action == "export":
        from tasks.export import check_format, export_model

        check_format(options.format)
        exported = export_model(store, options.model_id, Path(options.output).resolve() if options.output else None)
        say(f"{exported.path}: gives the model's scores for {exported.reviews:,} reviews (off by up to {exported.worst:.1g})")
        return {"command": "models export", **asdict(exported)}, 0
    with registry.registry_lock(store):
        before = registry.champion_id(store)
        if options.action == "promote":
            _check_opens(options.model_id, store)
            entry = registry.promote_model(store, options.model_id, options.reason)
        else:
            target = registry.rollback_target(store)
            _refuse_sample(target, registry.champion(store), registry.models_folder(store))
            _check_opens(target, store)
            entry = registry.roll_back(store, options.reason)
    told = {"command": f"models {options.action}", "model_id": entry.model_id}
    if before == entry.model_id:
        say(f"{entry.model_id} was the champion already; the reason is noted.")
        return told | {"replaced": None}, 0
    say(f"{entry.model_id} is now the champion" + (f" instead of {before}." if before else "."))
    return told | {"replaced": before}, 0


def _check_opens(model_id: str | None, store: Store) -> None:
    """Keep a model from becoming champion that this version cannot score with: one of an earlier version may be undamaged and of no use."""
    from tasks.model.bundle import load_bundle
    from tasks.model.registry import list_models, models_folder

    if model_id in list_models(store):
        load_bundle(models_folder(store) / str(model_id))


def _refuse_sample(target: str | None, current: "Promotion | None", models: Path) -> None:
    """Keep a rollback from putting the model that learnt from the generated sample in place of one of real reviews."""
    from tasks.model.bundle import is_sample

    if target and current and is_sample(models / target) and not is_sample(models / current.model_id):
        raise CallerError(
            f"The champion before was {target}, which learnt from the generated sample and not from real reviews. "
            f"Name another with `sentiment models promote ID`, or {target} if you mean it."
        )


def why(options: Namespace) -> Outcome:
    """Explain what a training run would do, without running it."""
    from flows.explain import explain_training
    from flows.settings import compose_settings

    settings = compose_settings(options.preset, list(overrides_of(options).items()))
    explanations = explain_training(options.sources, settings, options.unlabelled, None, store_of(options), options.golden_test)
    say = printer_of(options)
    for explanation in explanations:
        say(f"{explanation.step:<9} {explanation.state:<7} {explanation.reasons[0]}")
        for reason in explanation.reasons[1:]:
            say(f"{'':<17} {reason}")
    return {
        "command": "why",
        "steps": {e.step: {"state": e.state, "reasons": list(e.reasons)} for e in explanations},
    }, 0


def verify(options: Namespace) -> Outcome:
    """Hash every artifact again; exit code 4 if any is damaged."""
    from tasks.upkeep import verify_store

    checked, found = verify_store(store_of(options))
    say = printer_of(options)
    for finding in found:
        say(f"damaged: {finding.path}: {finding.why}")
    say(f"{checked:,} files hashed, {len(found):,} damaged." + (" A run of the same data and settings makes them again." if found else ""))
    return {"command": "verify", "checked": checked, "damaged": [finding.path for finding in found]}, 4 if found else 0


def gc(options: Namespace) -> Outcome:
    """Name, or with --delete remove, what nothing refers to."""
    from tasks.model.registry import registry_lock
    from tasks.upkeep import delete_garbage, find_garbage

    store = store_of(options)
    if options.keep_models is not None and options.keep_models < 0:
        raise CallerError(f"--keep-models {options.keep_models} is less than none. Give the number of newest models to keep.")
    say = printer_of(options)
    with registry_lock(store):  # the champion does not change between looking and removing
        garbage = find_garbage(store, options.keep_models)
        if options.delete:
            delete_garbage(store, garbage)
    for finding in garbage:
        say(f"{finding.size / 1e6:9.1f} MB  {finding.path}  ({finding.why})")
    total = sum(finding.size for finding in garbage) / 1e6
    if options.delete:
        say(f"Removed {len(garbage):,} files, {total:,.1f} MB.")
    else:
        say(f"{len(garbage):,} files, {total:,.1f} MB could go. Remove them with `sentiment gc --delete`.")
    return {
        "command": "gc",
        "deleted": options.delete,
        "files": [finding.path for finding in garbage],
        "bytes": sum(f.size for f in garbage),
    }, 0


def _list_models(store: Store) -> list[dict[str, Any]]:
    import json

    from tasks.model.bundle import METRICS, SETTINGS
    from tasks.model.registry import champion, list_models, models_folder

    current = champion(store)
    entries = []
    for model_id in list_models(store):
        folder = models_folder(store) / model_id
        scores = json.loads((folder / METRICS).read_text(encoding="utf-8"))["model"]
        trained_on = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))["trained_on"]
        entries.append(
            {
                "model_id": model_id,
                "champion": current is not None and current.model_id == model_id,
                "accuracy": scores["accuracy"],
                "rows": scores["rows"],
                "preset": trained_on["preset"],
                "sources": list(trained_on["sources"]),
                "sample": trained_on["sample"],
            }
        )
    return entries


def _show_model(model_id: str, store: Store, say: Callable[[str], None]) -> dict[str, Any]:
    from tasks.model.bundle import CARD, check_bundle
    from tasks.model.registry import decisions, models_folder

    folder = models_folder(store) / model_id
    check_bundle(folder)
    card = (folder / CARD).read_text(encoding="utf-8")
    say(card)
    found = [entry for entry in decisions(store) if entry.model_id == model_id]
    for entry in found:
        say(f"{entry.promoted_at}  {entry.event} by {entry.by}: {entry.reason}")
        for ruling in entry.rules:
            say(f"  {ruling.verdict:<11} {ruling.rule}: {ruling.words}")
    return {"command": "models show", "model_id": model_id, "card": card, "decisions": [asdict(entry) for entry in found]}


def _print_training(summary: dict[str, Any], *, is_champion: bool) -> None:
    test, linear = summary["test"], summary["baselines"]["linear"]
    verdict = {
        "promoted": "is the new champion",
        "refused": "was not promoted",
        "unchanged": f"{'is' if is_champion else 'is not'} the champion, as before: nothing changed",
    }
    parts = ", ".join(f"{name} alone {part['accuracy']:.2%}" for name, part in summary["parts"].items())
    lines = [
        "",
        f"model     {summary['model_id']} {verdict[summary['status']]} ({summary['reason']})",
        f"test      accuracy {test['accuracy']:.2%}, log loss {test['log_loss']:.4f}, {test['rows']:,} rows; "
        f"linear baseline {linear['accuracy']:.2%}",
        *([f"golden    accuracy {summary['golden']['accuracy']:.2%}, {summary['golden']['rows']:,} rows"] if "golden" in summary else []),
        *([f"parts     {parts}"] if len(summary["parts"]) > 1 else []),
        *([f"gate      {_count_rules(summary['rules'])}"] if summary["rules"] else []),
        *([_folds_line(summary["cross_validation"])] if "cross_validation" in summary else []),
        *(["sample    trained on generated reviews: these numbers prove the pipeline, not the model"] if summary["sample"] else []),
        *(_after_a_refusal(summary["model_id"]) if summary["status"] == "refused" else []),
        f"report    {summary['report']}",
        f"bundle    {summary['bundle']}",
        f"time      {summary['seconds']:.1f} s",
    ]
    print("\n".join(lines), file=sys.stderr, flush=True)


def _after_a_refusal(model_id: str) -> list[str]:
    return [
        f"next      it is kept: `sentiment score FILE --model {model_id}` scores with it all the same,",
        f"          `sentiment models promote {model_id} --reason WHY` makes it the champion",
    ]


def _count_rules(rules: list[dict[str, Any]]) -> str:
    counts = Counter(rule["verdict"] for rule in rules)
    failed = ", ".join(rule["rule"] for rule in rules if rule["verdict"] == "failed")
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("passed", "failed", "not applied") if counts[verdict]) + (
        f" ({failed})" if failed else ""
    )


def _folds_line(found: dict[str, Any]) -> str:
    accuracy, log_loss = found["accuracy"], found["log_loss"]
    return (
        f"folds     accuracy {accuracy['mean']:.2%} ± {accuracy['deviation']:.2%}, log loss {log_loss['mean']:.4f} ± "
        f"{log_loss['deviation']:.4f} over {found['folds']} folds of {found['rows']:,} rows that are not test rows"
    )


def _print_reproduction(summary: dict[str, Any]) -> None:
    tensors, files = summary["other_tensors"], summary["other_files"]
    lines = ["", f"model     {summary['model_id']}, trained on {', '.join(summary['sources'])}"]
    for kind, changes in summary["changes"].items():
        shown = "; ".join(changes[:_CHANGES_SHOWN]) + (f"; … {len(changes):,} in all" if len(changes) > _CHANGES_SHOWN else "")
        lines.append(f"{kind:<9} {f'changed: {shown}' if changes else 'the same'}")
    lines.append(f"weights   {summary['tensors'] - len(tensors):,} of {summary['tensors']:,} tensors are the same bit for bit")
    lines += [f"{'':<9} {name}: {how}" for name, how in tensors.items()]
    lines.append(f"files     {summary['files'] - len(files):,} of {summary['files']:,} say the same")
    lines += [f"{'':<9} {name}: {how}" for name, how in files.items()]
    lines += [f"result    {summary['status']}: {summary['reason']}", f"time      {summary['seconds']:.1f} s"]
    print("\n".join(lines), file=sys.stderr, flush=True)
