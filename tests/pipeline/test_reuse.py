"""What a second run does again: nothing, or exactly what depends on what changed; and how the folder is explained, checked and tidied."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from conftest import Command

from flows.explain import explain_training
from flows.settings import compose_settings
from tasks import fingerprint
from tasks.model.bundle import load_bundle
from tasks.store import Store
from tasks.upkeep import verify_store

ALL = tiny.STEPS
FROM = {step: list(ALL[place:]) for place, step in enumerate(ALL)}


def explain(root: Path, reviews: Path, **changes: Any) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Return state and reasons of every step, as `why` finds them."""
    overrides = tiny.SETTINGS | {name.replace("__", "."): value for name, value in changes.items()}
    found = explain_training([str(reviews)], compose_settings("quick", list(overrides.items())), None, None, Store(root))
    return {entry.step: (entry.state, entry.reasons) for entry in found}


def first_to_run(root: Path, reviews: Path, **changes: Any) -> str | None:
    """Return the first step that would run."""
    return next((step for step, (state, _) in explain(root, reviews, **changes).items() if state == "run"), None)


def refuse_to_train(*_: object, **__: object) -> None:
    """Stand in for training where there must be none."""
    raise AssertionError("the network was trained again")


def test_same_again_is_all_cached(trained: tiny.Trained, artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command again reuses every step, trains nothing, changes no file and says so."""
    monkeypatch.setattr("tasks.model.fitting.fit_lstm", refuse_to_train)

    again = tiny.train(artifacts, trained.reviews)

    assert tiny.steps_that_ran(again) == []
    assert again["status"] == "unchanged"
    assert tiny.digests(artifacts) == tiny.digests(trained.root)
    assert {name: again[name] for name in ("model_id", "test", "baselines", "parts")} == {
        name: trained.summary[name] for name in ("model_id", "test", "baselines", "parts")
    }


def test_path_of_the_input_does_not_count(trained: tiny.Trained, artifacts: Path, tmp_path: Path) -> None:
    """The same file in another folder is the same input: content counts, place does not."""
    moved = shutil.copy(trained.reviews, tmp_path / "reviews.csv")

    assert tiny.steps_that_ran(tiny.train(artifacts, moved)) == []


@pytest.mark.parametrize(
    ("changes", "ran"),
    [
        ({"ingest__max_refused_share": 0.5}, ["ingest"]),
        ({"clean__rules": "tutorial"}, FROM["clean"]),
        ({"split__seed": 1}, FROM["split"]),
        ({"vocabulary__min_count": 3}, FROM["train"]),
        ({"decision__max_error": 0.2}, FROM["train"]),
        ({"linear__smoothing": 2.0}, FROM["train"]),
        ({"seed": 1}, FROM["train"]),
        ({"evaluate__ece_bins": 10}, FROM["evaluate"]),
        ({"force_promote": "because"}, FROM["promote"]),
    ],
    ids=str,
)
def test_changed_setting_reruns_what_depends_on_it(trained: tiny.Trained, artifacts: Path, changes: dict[str, Any], ran: list[str]) -> None:
    """A changed setting reruns its step and what stands on it, nothing before, and nothing after a step whose output came out the same."""
    summary = tiny.train(artifacts, trained.reviews, **changes)

    assert tiny.steps_that_ran(summary) == ran
    assert (summary["model_id"] == trained.summary["model_id"]) == ("train" not in ran)


def test_equal_output_stops_the_rerun(trained: tiny.Trained, artifacts: Path) -> None:
    """Tokenizing by other rules that give the same tokens leaves the split as it is; training counts the rules and runs."""
    summary = tiny.train(artifacts, trained.reviews, tokenize__rules="tutorial")

    assert tiny.steps_that_ran(summary) == ["tokenize", *FROM["train"]]


def test_changed_row_reruns_everything(trained: tiny.Trained, tmp_path: Path) -> None:
    """One more review in the input is another input to every step."""
    more = tiny.write_reviews(tmp_path / "reviews.csv", [tiny.write_row(999), *tiny.tiny_rows()])

    assert first_to_run(trained.root, more) == "ingest"
    assert explain(trained.root, more)["ingest"][1] == ("input 0:reviews.csv changed",)


EDITS = [
    ("tasks/reviews/text.py", "_AGREED = ", "# another comment\n_AGREED = ", None),
    ("tasks/clean.py", '"""Clean the reviews."""', '"""Clean them."""', None),
    ("tasks/reviews/labels.py", '"pos", "true"', '"pos", "true", "yay"', "ingest"),
    ("tasks/reviews/text.py", "{0,60}", "{0,61}", "clean"),
    ("tasks/tokenize.py", "0.99", "0.98", "tokenize"),
    ("tasks/reviews/sides.py", "hashes ^ _FOR_VALIDATION", "~(hashes ^ _FOR_VALIDATION)", "split"),
    ("tasks/model/layers.py", "tf.reshape(", "tf.reshape (", None),
    ("tasks/model/linear.py", "_NO_PENALTY = 1e6", "_NO_PENALTY = 1e5", "train"),
    ("tasks/model/metrics.py", "def evaluate_models(", "EXTRA = 1\n\n\ndef evaluate_models(", "evaluate"),
    ("tasks/model/registry.py", "def list_models(", "EXTRA = 1\n\n\ndef list_models(", "promote"),
    ("tasks/figures.py", "def draw_figures(", "EXTRA = 1\n\n\ndef draw_figures(", "report"),
]


@pytest.mark.parametrize(("path", "old", "new", "step"), EDITS, ids=lambda value: str(value)[:30])
def test_edited_code_reruns_what_uses_it(
    trained: tiny.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, old: str, new: str, step: str | None
) -> None:
    """An edited constant or function anywhere below a step makes that step run, and names the module; a comment or docstring does not."""
    shutil.copytree(fingerprint._ROOT / "tasks", tmp_path / "tasks")
    source = (tmp_path / path).read_text(encoding="utf-8")
    assert old in source
    (tmp_path / path).write_text(source.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(fingerprint, "_ROOT", tmp_path)
    fingerprint.module_digests.cache_clear()
    try:
        found = explain(trained.root, trained.reviews)
    finally:
        fingerprint.module_digests.cache_clear()

    assert next((name for name, (state, _) in found.items() if state == "run"), None) == step
    if step:
        assert f"module {path.removesuffix('.py').replace('/', '.')} changed" in found[step][1]


def test_edited_template_reruns_the_report(trained: tiny.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template is code of the report, though it is not Python."""
    shutil.copytree(fingerprint._ROOT / "tasks" / "templates", tmp_path / "templates")
    with (tmp_path / "templates" / "report.html").open("a", encoding="utf-8") as file:
        file.write("<!-- more -->")
    monkeypatch.setattr("tasks.rendering.TEMPLATES", tmp_path / "templates")

    assert first_to_run(trained.root, trained.reviews) == "report"


def test_other_library_reruns_what_it_shapes(trained: tiny.Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another version of a library runs the steps whose output it shapes, and `why` names both versions."""
    real = fingerprint.library_versions
    monkeypatch.setattr(
        "tasks.store.library_versions", lambda names: real(names) | ({"tensorflow": "9.9"} if "tensorflow" in names else {})
    )

    found = explain(trained.root, trained.reviews)

    assert [step for step, (state, _) in found.items() if state == "run"] == FROM["train"]
    (reason,) = found["train"][1]
    assert reason.startswith("library tensorflow changed: ")
    assert reason.endswith("→ 9.9")


def test_why_on_an_empty_folder(trained: tiny.Trained, tmp_path: Path) -> None:
    """Where nothing ran yet, `why` says so of the first step, and of the others that they wait for it."""
    found = explain(tmp_path, trained.reviews)

    assert {state for state, _ in found.values()} == {"run"}
    assert found["ingest"][1] == ("it never ran here",)
    assert "ingest" in found["report"][1][0]


def test_why_command_names_setting_and_values(trained: tiny.Trained, sentiment: Callable[..., Command]) -> None:
    """`sentiment why train` lists a state and reasons for every step, with the changed setting's old and new value, and runs nothing."""
    before = tiny.digests(trained.root)

    result = sentiment("why", *tiny.command_line(trained.reviews), "--set=model.units=5", "--artifacts", trained.root)

    steps = result.summary["steps"]
    assert result.exit_code == 0
    assert list(steps) == list(ALL)
    assert [step for step, entry in steps.items() if entry["state"] == "run"] == FROM["train"]
    assert steps["train"]["reasons"] == ["setting model.units changed: 4 → 5"]
    assert "verified" in steps["split"]["reasons"][0]
    assert tiny.digests(trained.root) == before


def delete(path: Path) -> None:
    """Remove a file."""
    path.unlink()


def truncate(path: Path) -> None:
    """Cut off the end of a file."""
    path.write_bytes(path.read_bytes()[:-7])


def flip_a_bit(path: Path) -> None:
    """Change one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


DAMAGED = [
    ("ingest/" + "?" * 64 + ".parquet", flip_a_bit, "ingest"),
    ("ingest/*.quarantine.parquet", delete, "ingest"),
    ("clean/*.parquet", truncate, "clean"),
    ("clean/*.json", truncate, "clean"),
    ("tokenize/*.parquet", flip_a_bit, "tokenize"),
    ("split/*.left_out.parquet", delete, "split"),
    ("split/" + "?" * 64 + ".parquet", flip_a_bit, "split"),
    ("models/m-*/weights.safetensors", flip_a_bit, "train"),
    ("models/m-*/seen.npy", delete, "train"),
    ("models/m-*/bundle.json", truncate, "seal"),
    ("models/m-*/MODEL_CARD.md", delete, "seal"),
    ("evaluate/*/predictions.parquet", flip_a_bit, "evaluate"),
    ("evaluate/*/metrics.json", truncate, "evaluate"),
    ("promote/*.verdict.json", flip_a_bit, "promote"),
    ("reports/*.html", truncate, "report"),
]


@pytest.mark.parametrize(("pattern", "damage", "step"), DAMAGED, ids=[f"{pattern}-{damage.__name__}" for pattern, damage, _ in DAMAGED])
def test_damage_is_noticed_and_mended(
    trained: tiny.Trained, artifacts: Path, pattern: str, damage: Callable[[Path], None], step: str
) -> None:
    """A deleted, truncated or bit-flipped file of any step is named by `verify`, made again by its step alone, to the same bytes."""
    (path,) = artifacts.glob(pattern)
    name = path.relative_to(artifacts).as_posix()
    damage(path)
    _, damaged = verify_store(Store(artifacts))

    summary = tiny.train(artifacts, trained.reviews)

    is_record, is_seal = pattern == "clean/*.json", step == "seal"
    named = [finding.path for finding in damaged]
    assert is_record or name in named or (is_seal and name.rpartition("/")[0] in named)
    assert tiny.steps_that_ran(summary)[:1] == ([] if is_seal else [step])
    assert set(tiny.steps_that_ran(summary)) <= {step, *({"evaluate", "report"} if step == "train" else set())}
    assert verify_store(Store(artifacts))[1] == []
    assert step == "report" or is_record or tiny.digests(artifacts)[name] == tiny.digests(trained.root)[name]
    assert summary["test"] == trained.summary["test"]
    load_bundle(artifacts / "models" / summary["model_id"])


def test_verify_command(trained: tiny.Trained, artifacts: Path, sentiment: Callable[..., Command]) -> None:
    """`sentiment verify` hashes every file: exit code 0 where all is well, else 4 and the damaged file's name."""
    sound = sentiment("verify", "--artifacts", artifacts)
    flip_a_bit(next(artifacts.glob("tokenize/*.parquet")))
    damaged = sentiment("verify", "--artifacts", artifacts)

    assert (sound.exit_code, sound.summary["damaged"]) == (0, [])
    assert sound.summary["checked"] >= 20
    assert damaged.exit_code == 4
    assert [Path(name).parent.name for name in damaged.summary["damaged"]] == ["tokenize"]


def test_replaced_report_is_not_damage(trained: tiny.Trained, artifacts: Path) -> None:
    """A page or a seal that a later run of the same model wrote anew belongs to that run: `verify` finds nothing wrong."""
    tiny.train(artifacts, trained.reviews, force_promote="because", evaluate__ece_bins=10)

    assert verify_store(Store(artifacts))[1] == []


def test_gc_takes_only_what_nothing_refers_to(trained: tiny.Trained, artifacts: Path, sentiment: Callable[..., Command]) -> None:
    """`gc` names leftovers without touching them; with --delete they go, and champion, models and all that a run reuses stay."""
    for seed in (1, 2):  # two splits that no model came of; the later one stays as its step's latest
        with pytest.raises(AssertionError), pytest.MonkeyPatch.context() as patch:
            patch.setattr("tasks.model.fitting.fit_lstm", refuse_to_train)
            tiny.train(artifacts, trained.reviews, split__seed=seed)
        if seed == 1:
            unused = {path.name for path in artifacts.glob("split/*")} - {path.name for path in trained.root.glob("split/*")}
    drafts = [artifacts / "tmp" / f"{pid}-draft" for pid in (os.getpid(), 99_999_999)]  # a run under way, and a killed one
    for draft in drafts:
        draft.mkdir()
        (draft / "000").write_bytes(b"half")
    flip_a_bit(next(artifacts.glob("clean/*.parquet")))
    tiny.train(artifacts, trained.reviews)
    before = tiny.digests(artifacts)

    told = sentiment("gc", "--artifacts", artifacts)
    after_telling = tiny.digests(artifacts)
    deleted = sentiment("gc", "--delete", "--artifacts", artifacts)

    assert after_telling == before
    assert told.summary["files"] == deleted.summary["files"]
    assert {Path(name).name for name in told.summary["files"] if name.startswith("split/")} == unused
    assert {Path(name).parts[0] for name in told.summary["files"]} == {"split", "tmp", "set_aside"}
    assert told.summary["bytes"] > 0
    assert list(tiny.files_of(artifacts / "tmp")) == [drafts[0] / "000"]
    assert list(tiny.files_of(artifacts / "set_aside")) == []
    assert sentiment("gc", "--artifacts", artifacts).summary["files"] == []
    again = tiny.train(artifacts, trained.reviews)
    assert tiny.steps_that_ran(again) == []
    assert again["model_id"] == trained.summary["model_id"]
