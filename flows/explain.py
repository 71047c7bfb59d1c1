"""Says for every step of a training run whether it would run, and which input, setting, module or library changed."""

from dataclasses import dataclass

from flows.settings import TrainingSettings
from tasks.changes import changed, show_change
from tasks.clean import clean_recipe
from tasks.evaluate import evaluate_recipe
from tasks.ingest import golden_recipe, ingest_recipe
from tasks.model.registry import champion
from tasks.promote import promote_recipe
from tasks.report import report_recipe
from tasks.reviews.sources import Source, resolve_sources
from tasks.schemas import GOLDEN, STEPS
from tasks.split import split_recipe
from tasks.store import ArtifactRef, Recipe, Store
from tasks.tokenize import tokenize_recipe
from tasks.train import model_id_of, train_recipe
from tasks.unlabelled import unlabelled_recipe

_NEEDS_NO_INPUT = (
    "clean",
    "tokenize",
    "split",
    "unlabelled",
    "train",
)  # to name their settings; the recipes of the others look into their inputs
_IN_ORDER = (*STEPS[: STEPS.index("split")], GOLDEN, *STEPS[STEPS.index("split") :])
_UNKNOWN = ArtifactRef("", "", "", "", 0)


@dataclass(frozen=True)
class Explanation:
    """What would become of a step: `cached` or `run`, and why."""

    step: str
    state: str
    reasons: tuple[str, ...]


def explain_training(
    sources: list[str],
    settings: TrainingSettings,
    unlabelled_sources: list[str] | None,
    force_promote: str | None,
    store: Store,
    golden_test: str | None = None,
) -> list[Explanation]:
    """Compare every step of a run with what is in the store, without running any.

    A step whose input would be made anew is `run` as well, though it may turn out unchanged: what counts is its input's content.
    """
    refs: dict[str, ArtifactRef] = {}
    explanations: list[Explanation] = []
    wanted = {GOLDEN: bool(golden_test), "unlabelled": bool(unlabelled_sources)}
    for step in [step for step in _IN_ORDER if wanted.get(step, True)]:
        missing = next((earlier.step for earlier in explanations if earlier.state == "run"), None)
        if missing:
            reasons = [f"its input from {missing} would be made anew; if that comes out the same, only other changes count"]
            if step in _NEEDS_NO_INPUT:
                recipe = _recipe(
                    step, sources, settings, unlabelled_sources, force_promote, dict.fromkeys(STEPS, _UNKNOWN), store, golden_test
                )
                reasons += [change for change in _differences(recipe, store) if not change.startswith("input ")]
            explanations.append(Explanation(step, "run", tuple(reasons)))
            continue
        recipe = _recipe(step, sources, settings, unlabelled_sources, force_promote, refs, store, golden_test)
        record = store.find(recipe)
        if record:
            refs[step] = record.ref
            explanations.append(Explanation(step, "cached", (f"{record.rows:,} rows of {record.created[:19]}Z, verified",)))
        else:
            explanations.append(Explanation(step, "run", tuple(_differences(recipe, store))))
    return explanations


def _recipe(
    step: str,
    sources: list[str],
    settings: TrainingSettings,
    unlabelled_sources: list[str] | None,
    force_promote: str | None,
    refs: dict[str, ArtifactRef],
    store: Store,
    golden_test: str | None,
) -> Recipe:
    def resolve(names: list[str]) -> list[Source]:
        return resolve_sources(names, store.root / "downloads", settings.ingest.sample, settings.ingest.reader)

    if step == GOLDEN:
        return golden_recipe(resolve([golden_test or ""]), settings.ingest)
    if step == "ingest":
        return ingest_recipe(resolve(sources), settings.ingest)
    if step == "clean":
        return clean_recipe(refs["ingest"], settings.clean)
    if step == "tokenize":
        return tokenize_recipe(refs["clean"], settings.tokenize)
    if step == "split":
        return split_recipe(refs["tokenize"], settings.split, refs.get(GOLDEN))
    if step == "unlabelled":
        found = resolve_sources(unlabelled_sources or [], store.root / "downloads", settings.ingest.sample, settings.ingest.reader)
        return unlabelled_recipe(found, refs["split"], settings.unlabelled, refs.get(GOLDEN))
    if step == "train":
        return train_recipe(refs["split"], refs.get("unlabelled") if unlabelled_sources else None, settings.train)
    if step == "evaluate":
        return evaluate_recipe(refs["train"], refs["split"], settings.evaluate, store, refs.get(GOLDEN))
    if step == "promote":
        current = champion(store)
        model_id = model_id_of(store.record_of(refs["train"]).recipe)
        return promote_recipe(refs["evaluate"], model_id, current.model_id if current else None, settings.promote, force_promote, store)
    return report_recipe(refs["train"], refs["evaluate"], refs["promote"], store)


def _differences(recipe: Recipe, store: Store) -> list[str]:
    """Compare with the step's most similar record; of equals, the latest."""
    records = store.records(recipe.step)
    if not records:
        return ["it never ran here"]
    closest = min(records, key=lambda record: len(_changes(record.recipe, recipe)))
    return _changes(closest.recipe, recipe) or ["its files were missing or damaged"]


def _changes(old: Recipe, new: Recipe) -> list[str]:
    changes = []
    for kind, before, after in (
        ("input", old.inputs, new.inputs),
        ("setting", old.settings, new.settings),
        ("module", old.modules, new.modules),
        ("library", old.libraries, new.libraries),
    ):
        for name, values in changed(before, after).items():
            shown = f": {show_change(*values)}" if kind in ("setting", "library") else ""
            changes.append(f"{kind} {name} changed{shown}")
    if old.format != new.format:
        changes.append("the store's format changed")
    return changes
