"""What `tune` and `ablate` do once their options are parsed: they train models that nobody keeps, to find out what is worth training."""

import math
from argparse import Namespace

from flows.options import Outcome, check_files, flow_arguments, overrides_of, printer_of
from flows.running import run_flow


def tune(options: Namespace) -> Outcome:
    """Run the tuning flow."""
    from flows.settings import settings_to_judge
    from flows.training import command_line
    from flows.tuning import tuning
    from tasks.model.search_space import search_space
    from tasks.tune import KEPT_IN_PRESETS

    overrides = overrides_of(options)
    settings = settings_to_judge(options.preset, overrides)  # a wrong setting is refused before Prefect starts
    check_files([*options.sources, *(options.unlabelled or []), options.golden_test], settings.ingest.reader)
    search_space(settings.train, options.search, with_unlabelled=bool(options.unlabelled))
    summary = run_flow(
        lambda: tuning(
            **flow_arguments(options, overrides),
            search=options.search,
            minutes=options.minutes,
            trials=options.trials,
            output=options.output,
        )
    )
    say = printer_of(options)
    best, start, trials = summary["best"], summary["start"], summary["trials"]
    counts = ", ".join(f"{count} {state}" for state, count in trials.items() if count)
    say(f"{summary['study']}: {counts or 'no trials'}; {summary['ended']}")
    if best is None:
        say("No trial was completed. Run the same command again, or with more --minutes.")
        return summary, 0
    for name, trial in {"start": start, "best": best}.items():
        if trial:
            reached = f"log loss {trial['log_loss']:.4f}, accuracy {trial['accuracy']:.2%} on validation rows"
            say(f"{name:<9} {reached}, trial {trial['trial']}")
    error = math.sqrt(best["accuracy"] * (1 - best["accuracy"]) / best["rows"])
    say(f"{'':<9} {best['rows']:,} rows: one accuracy has a standard error of {100 * error:.1f} points")
    for name, value in best["settings"].items():
        say(f"{'':<9} {name} = {value}")
    say(f"preset    {summary['preset']}")
    others = {name: value for name, value in overrides.items() if name.partition(".")[0] not in KEPT_IN_PRESETS}
    command = command_line(options.sources, summary["preset"], others, options.unlabelled or [], golden_test=options.golden_test)
    say(f"Measure it on rows that the search never saw: {command}")
    return summary, 0


def ablate(options: Namespace) -> Outcome:
    """Run the ablation flow."""
    from flows.ablation import ablation
    from flows.settings import parse_override, settings_to_judge
    from tasks.ablate import plan_variants

    overrides, changes = overrides_of(options), [parse_override(text) for text in options.changes]
    settings = settings_to_judge(options.preset, overrides)
    plan_variants(settings, options.only, changes, with_unlabelled=bool(options.unlabelled))
    summary = run_flow(
        lambda: ablation(
            **flow_arguments(options, overrides),
            only=options.only,
            changes=changes,
            seeds=options.seeds,
        )
    )
    printer_of(options)(summary["markdown"])
    return summary, 0
