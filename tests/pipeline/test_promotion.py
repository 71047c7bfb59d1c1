"""Who becomes champion: the first, then only who is as good on rows that neither was trained on; and how that is undone."""

import html
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
from conftest import Command
from safetensors.numpy import load_file

from flows.__main__ import main
from tasks.errors import CallerError, MachineError
from tasks.examine import examine_champion
from tasks.model import bundle
from tasks.model.fresh_process import FreshProcess
from tasks.model.gate import GateSettings
from tasks.model.registry import champion, decisions, history, list_models, models_folder, promote_model, roll_back
from tasks.pins import PinnedModel, pin, unpin
from tasks.promote import Case, PromoteSettings, decide
from tasks.store import Store
from tasks.upkeep import verify_store

WORSE = {"model__learning_rate": 1e-9, "linear": None}  # a network that has learnt nothing, alone


def champion_id(root: Path) -> str:
    """Return the champion's id."""
    found = champion(Store(root))
    assert found is not None
    return found.model_id


def verdict_of(root: Path, model_id: str) -> dict[str, Any]:
    """Return the one verdict on a model."""
    verdicts = [json.loads(path.read_text(encoding="utf-8")) for path in (root / "promote").glob("*.verdict.json")]
    (verdict,) = (verdict for verdict in verdicts if verdict["model_id"] == model_id)
    return dict(verdict)


@pytest.fixture(scope="module")
def refused(trained: tiny.Trained, tmp_path_factory: pytest.TempPathFactory) -> tiny.Trained:
    """The tiny run's folder after a worse model was trained in it."""
    root = shutil.copytree(trained.root, tmp_path_factory.mktemp("refused") / "artifacts")
    return tiny.Trained(root, trained.reviews, tiny.train(root, trained.reviews, **WORSE))


@pytest.fixture
def rivals(refused: tiny.Trained, tmp_path: Path) -> Path:
    """A copy of the folder with a champion and a refused model."""
    return Path(shutil.copytree(refused.root, tmp_path / "rivals"))


@pytest.fixture
def sealed(trained: tiny.Trained, tmp_path: Path) -> Path:
    """A copy of a bundle, to be tampered with."""
    return Path(shutil.copytree(trained.bundle, tmp_path / trained.bundle.name))


def test_worse_model_is_refused(trained: tiny.Trained, refused: tiny.Trained) -> None:
    """A worse model is kept but not promoted; the run completes and tells by how much it is worse, on how many rows, how surely."""
    summary = refused.summary

    assert summary["status"] == "refused"
    assert champion_id(refused.root) == trained.summary["model_id"] != summary["model_id"]
    assert summary["test"]["accuracy"] < trained.summary["test"]["accuracy"]
    assert "95 % interval" in summary["reason"]
    assert f"on {summary['test']['rows']} test rows" in summary["reason"]
    assert len(history(Store(refused.root))) == 1
    bundle.load_bundle(refused.bundle)
    assert "was not promoted" in Path(summary["report"]).read_text(encoding="utf-8")


def test_rules_stand_wherever_the_verdict_does(trained: tiny.Trained, refused: tiny.Trained) -> None:
    """Every rule with its verdict and words stands in the summary, the verdict, the history, the report and the Prefect artifact."""
    rules = refused.summary["rules"]
    verdicts = {rule["rule"]: rule["verdict"] for rule in rules}
    (entry,) = [entry for entry in decisions(Store(refused.root)) if entry.event == "refused"]
    page = Path(refused.summary["report"]).read_text(encoding="utf-8")
    comparison = Path(refused.summary["report"]).with_suffix(".comparison.md").read_text(encoding="utf-8")

    assert {name for name, verdict in verdicts.items() if verdict == "failed"} >= {"champion", "linear baseline", "accuracy", "macro F1"}
    assert verdicts["speed"] == "passed"
    assert [dict(rule) for rule in verdict_of(refused.root, refused.summary["model_id"])["rules"]] == rules
    assert [asdict(rule) for rule in entry.rules] == rules
    assert (entry.model_id, entry.replaced) == (refused.summary["model_id"], trained.summary["model_id"])
    for rule in rules:
        assert html.escape(rule["words"], quote=False) in page.replace("&#39;", "'")
        assert f"| {rule['rule']} | {rule['verdict']} |" in comparison


def test_run_ends_in_a_state_named_for_the_verdict(trained: tiny.Trained, refused: tiny.Trained) -> None:
    """In Prefect a run that promoted, one that refused and one that changed nothing are all Completed, and named so, with the reason."""
    from prefect.client.orchestration import get_client

    tiny.train(trained.root, trained.reviews)

    with get_client(sync_client=True) as client:
        states = [run.state for run in client.read_flow_runs()]

    told = {(state.type.value, state.name, state.message) for state in states if state}
    for summary, name in ((trained.summary, "Promoted"), (refused.summary, "Refused"), (trained.summary, "Unchanged")):
        assert ("COMPLETED", name, f"{summary['model_id']}: {summary['reason']}") in told


def test_another_process_must_reproduce_the_probe_scores(trained: tiny.Trained, sealed: Path, rivals: Path, refused: tiny.Trained) -> None:
    """A process of its own opens a sound bundle; one that gives other scores there is refused, even when forced."""
    (rivals / "models" / "champion.json").unlink()
    broken = rivals / "models" / refused.summary["model_id"]
    golden = json.loads((broken / "golden.json").read_text(encoding="utf-8"))
    (broken / "golden.json").write_text(json.dumps(golden | {"p_positive": [0.9] * len(golden["reviews"])}), encoding="utf-8")
    tiny.reseal(broken)
    store = Store(rivals)
    evaluated = next(
        r for r in store.records("evaluate") if r.facts["evaluation"]["model"]["accuracy"] == refused.summary["test"]["accuracy"]
    )
    settings = PromoteSettings(gate=GateSettings(fresh_process=True))
    case = Case(evaluated.ref, broken.name, store.records("split")[0].ref, None, 0.0, settings, "please", store)
    sound = FreshProcess(sealed)

    verdict = decide(case)

    assert verdict.status == "refused"
    assert "fresh process" in verdict.reason and "probe texts" in verdict.reason
    found = sound.result()
    assert found.problem is None and found.worst is not None and found.worst <= bundle.GOLDEN_TOLERANCE
    assert found.num_probes == len(bundle.GOLDEN_REVIEWS)


@pytest.mark.parametrize("words", ["train --force-promote", "models promote m-a --reason", "models rollback --reason"])
def test_a_blank_reason_is_none(artifacts: Path, sentiment: Callable[..., Command], words: str) -> None:
    """Forcing, promoting and rolling back need a reason in words; a blank one is the caller's mistake and nothing runs."""
    before = tiny.digests(artifacts)

    result = sentiment(*words.split(), " \t", "--artifacts", artifacts)

    assert result.exit_code == 2
    assert "reason is blank" in result.stderr
    assert tiny.digests(artifacts) == before


def test_history_tells_every_decision(refused: tiny.Trained, rivals: Path, sentiment: Callable[..., Command]) -> None:
    """`models history` lists promotions, refusals and rollbacks with who and why; `models show` tells what the gate said of one model."""
    sentiment("models", "promote", refused.summary["model_id"], "--reason", "a trial", "--artifacts", rivals)
    sentiment("models", "rollback", "--reason", "numbers in Leeds", "--artifacts", rivals)

    told = sentiment("models", "history", "--artifacts", rivals)
    shown = sentiment("models", "show", refused.summary["model_id"], "--artifacts", rivals)

    assert [entry["event"] for entry in told.summary["decisions"]] == ["promoted", "refused", "by hand", "rolled back"]
    assert all(entry["by"] and entry["promoted_at"] for entry in told.summary["decisions"])
    assert "numbers in Leeds" in told.stderr
    assert [entry["event"] for entry in shown.summary["decisions"]] == ["refused", "by hand"]
    assert "failed      linear baseline:" in shown.stderr


def test_comparison_is_of_the_same_rows(trained: tiny.Trained, refused: tiny.Trained) -> None:
    """The difference that decided is that of the two models' accuracies on the same test rows."""
    verdict = verdict_of(refused.root, refused.summary["model_id"])

    difference = refused.summary["test"]["accuracy"] - trained.summary["test"]["accuracy"]
    assert verdict["comparison"]["difference"] == pytest.approx(difference)
    assert verdict["comparison"]["rows"] == trained.summary["test"]["rows"]
    assert verdict["champion_id"] == trained.summary["model_id"]
    assert verdict["rows_seen"] == 0


def test_refused_again_is_unchanged(refused: tiny.Trained, rivals: Path) -> None:
    """The refused run again is all cached and leaves the champion alone."""
    again = tiny.train(rivals, refused.reviews, **WORSE)

    assert again["status"] == "unchanged"
    assert tiny.steps_that_ran(again) == []
    assert champion_id(rivals) == champion_id(refused.root)


def test_forced_with_a_reason(refused: tiny.Trained, rivals: Path) -> None:
    """A forced promotion moves the champion whatever the comparison says, and the reason stands in the history."""
    before = champion_id(rivals)

    forced = tiny.train(rivals, refused.reviews, force_promote="a trial in Leeds", **WORSE)

    entry = history(Store(rivals))[-1]
    assert forced["status"] == "promoted"
    assert champion_id(rivals) == refused.summary["model_id"]
    assert (entry.replaced, entry.reason) == (before, "forced: a trial in Leeds")
    assert tiny.steps_that_ran(forced) == ["promote", "report"]


def test_rollback_lasts(refused: tiny.Trained, rivals: Path, sentiment: Callable[..., Command]) -> None:
    """After a rollback the former champion is back, the history tells why, and the very same run does not undo it."""
    first = champion_id(rivals)
    promoted = sentiment("models", "promote", refused.summary["model_id"], "--reason", "a trial", "--artifacts", rivals)
    better = tiny.train(rivals, refused.reviews)
    undone = sentiment("models", "rollback", "--reason", "numbers in Leeds", "--artifacts", rivals)
    twice = sentiment("models", "promote", refused.summary["model_id"], "--reason", "numbers in Leeds", "--artifacts", rivals)

    again = tiny.train(rivals, refused.reviews)

    assert promoted.summary == {"command": "models promote", "model_id": refused.summary["model_id"], "replaced": first}
    assert undone.summary["replaced"] == first and f"instead of {first}." in undone.stderr
    assert (better["status"], better["model_id"]) == ("promoted", first)
    assert undone.summary["model_id"] == refused.summary["model_id"] == champion_id(rivals)
    assert "was the champion already" in twice.stderr and twice.summary["replaced"] is None
    assert again["status"] == "unchanged"
    assert [entry.reason for entry in history(Store(rivals))][-1] == "numbers in Leeds"


@pytest.mark.skipif(os.name != "posix", reason="CPU time of a child process is not to be had here")
def test_rollback_does_not_bring_the_sample_back(refused: tiny.Trained, rivals: Path, sentiment: Callable[..., Command]) -> None:
    """Where the champion before learnt from the generated sample, a rollback is refused and says so; the champion stays."""
    target = champion_id(rivals)
    sentiment("models", "promote", refused.summary["model_id"], "--reason", "a trial", "--artifacts", rivals)
    settings = rivals / "models" / target / "settings.json"
    plain = json.loads(settings.read_text(encoding="utf-8"))
    plain["trained_on"]["sample"] = True
    settings.write_text(json.dumps(plain), encoding="utf-8")
    before = (rivals / "models" / "champion.json").read_bytes()

    found = sentiment("models", "rollback", "--reason", "complaints", "--artifacts", rivals)

    assert found.exit_code == 2
    assert f"{target}, which learnt from the generated sample" in found.stderr
    assert (rivals / "models" / "champion.json").read_bytes() == before


def test_rollback_takes_less_than_two_seconds(refused: tiny.Trained, rivals: Path, sentiment: Callable[..., Command]) -> None:
    """A rollback needs neither TensorFlow nor Prefect: start of Python and hashing the bundle included, under 2 seconds of CPU."""
    import resource

    sentiment("models", "promote", refused.summary["model_id"], "--reason", "a trial", "--artifacts", rivals)
    command = [sys.executable, "-m", "flows", "models", "rollback", "--reason", "complaints", "--artifacts", str(rivals)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)

    subprocess.run(command, cwd=tiny.PROJECT, check=True, capture_output=True)

    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 2
    assert champion_id(rivals) != refused.summary["model_id"]


@pytest.mark.parametrize("words", [["rollback"], ["promote", "{first}"]])
def test_no_model_becomes_champion_that_cannot_be_opened(
    refused: tiny.Trained, rivals: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An undamaged bundle of an earlier version stays what it is, and the champion too; `doctor` names a champion of that kind."""
    first = champion_id(rivals)
    tiny.train(rivals, refused.reviews, force_promote="a trial", **WORSE)
    second = champion_id(rivals)

    def without_owners(path: Path) -> dict[str, np.ndarray]:
        return {name: value for name, value in load_file(path).items() if name != "lstm/pair_owners"}

    monkeypatch.setattr("safetensors.numpy.load_file", without_owners)
    code = main(["models", *(word.format(first=first) for word in words), "--reason", "complaints", "--artifacts", str(rivals)])

    assert (code, champion_id(rivals)) == (4, second)
    assert f"Model {first} was trained by an earlier version" in capsys.readouterr().err
    found = examine_champion(Store(rivals))
    assert (found.verdict, f"Model {second} was trained by an earlier version" in found.found) == ("problem", True)


def test_forcing_undoes_a_rollback(refused: tiny.Trained, rivals: Path) -> None:
    """Whoever forces a promotion gets it, also for the second time with the same words."""
    store = Store(rivals)
    tiny.train(rivals, refused.reviews, force_promote="a trial", **WORSE)
    roll_back(store, "enough")

    again = tiny.train(rivals, refused.reviews, force_promote="a trial", **WORSE)

    assert again["status"] == "promoted"
    assert champion_id(rivals) == refused.summary["model_id"]


def test_promotion_cut_short_is_finished(trained: tiny.Trained, artifacts: Path) -> None:
    """If a run died between the history's line and the swap of `champion.json`, the same run again promotes."""
    (artifacts / "models" / "champion.json").unlink()

    again = tiny.train(artifacts, trained.reviews)

    assert again["status"] == "promoted"
    assert champion_id(artifacts) == trained.summary["model_id"]


def test_sample_never_outranks_real(trained: tiny.Trained, artifacts: Path, tmp_path: Path) -> None:
    """A model of generated reviews is refused beside one of real reviews, and replaced by it; both say so."""
    on_sample = tiny.train(artifacts, "sample", ingest__sample__rows=400)
    only_sample = tmp_path / "sample"
    for step in ("ingest", "clean", "tokenize", "split", "train", "evaluate", "models"):
        shutil.copytree(artifacts / step, only_sample / step)
    (only_sample / "models" / "champion.json").unlink()
    promote_model(Store(only_sample), on_sample["model_id"], "the first")

    on_real = tiny.train(only_sample, trained.reviews)

    assert on_sample["sample"] and not on_real["sample"]
    assert on_sample["status"] == "refused"
    assert "generated sample" in on_sample["reason"]
    assert champion_id(artifacts) == trained.summary["model_id"]
    assert "generated sample" in Path(on_sample["report"]).read_text(encoding="utf-8")
    assert "enerated sample" in (Path(on_sample["bundle"]) / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert on_real["status"] == "promoted"
    assert "generated sample" in on_real["reason"]
    assert champion_id(only_sample) == trained.summary["model_id"]


def declared_rows(trained: tiny.Trained, num_seen: int, num_new: int) -> Iterator[list[str]]:
    """Yield reviews with a split of their own, whose test rows are `num_seen` training rows of the tiny run and `num_new` new ones."""
    (path,) = (path for path in (trained.root / "split").glob("*.parquet") if "left_out" not in path.name)
    split = pq.read_table(path, columns=["review", "split"])
    seen = {tiny.plain(row["review"]) for row in split.to_pylist() if row["split"] == "train"}
    rows = [tiny.write_row(number) for number in range(400)]
    for row in [row for row in rows if tiny.plain(row[1]) in seen][:num_seen]:
        yield [*row, "test"]
    for number in range(1000, 1000 + num_new):
        yield [*tiny.write_row(number), "test"]
    for number in range(2000, 2300):
        yield [*tiny.write_row(number), "train"]


def test_rows_the_champion_was_trained_on_are_left_out(trained: tiny.Trained, artifacts: Path, tmp_path: Path) -> None:
    """Test rows of a declared split that the champion was trained on take no part in the comparison, and are counted."""
    reviews = tiny.write_reviews(tmp_path / "declared.csv", declared_rows(trained, 25, 40), [*tiny.COLUMNS, "split"])

    summary = tiny.train(artifacts, reviews)

    verdict = verdict_of(artifacts, summary["model_id"])
    assert summary["test"]["rows"] == 65
    assert (verdict["rows_seen"], verdict["comparison"]["rows"]) == (25, 40)
    assert "25 rows that the champion was trained on were left out" in summary["reason"]


def test_no_fair_rows_no_promotion(trained: tiny.Trained, artifacts: Path, tmp_path: Path) -> None:
    """Where the champion was trained on every test row, nothing fair is left to compare and the champion stays."""
    reviews = tiny.write_reviews(tmp_path / "declared.csv", declared_rows(trained, 40, 0), [*tiny.COLUMNS, "split"])

    summary = tiny.train(artifacts, reviews)

    assert summary["status"] == "refused"
    assert "no fair comparison" in summary["reason"]
    assert champion_id(artifacts) == trained.summary["model_id"]


def test_damaged_champion_decides_nothing(trained: tiny.Trained, rivals: Path, refused: tiny.Trained, tmp_path: Path) -> None:
    """A champion that cannot be opened is an error with its remedy, no verdict; once it is mended the same run decides."""
    weights = models_folder(Store(rivals)) / trained.summary["model_id"] / "weights.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1])
    for verdict in (rivals / "promote").iterdir():
        verdict.unlink()

    with pytest.raises(MachineError, match=r"weights\.safetensors.*--force-promote"):
        tiny.train(rivals, refused.reviews, **WORSE)
    weights.write_bytes(kept)
    assert tiny.train(rivals, refused.reviews, **WORSE)["status"] == "refused"


def test_retention_keeps_what_is_needed(refused: tiny.Trained, rivals: Path, sentiment: Callable[..., Command]) -> None:
    """`gc --keep-models 0` lets a refused model go with what only it needed; the champion, its lineage, verdicts and pages stay."""
    told = sentiment("gc", "--keep-models", "0", "--artifacts", rivals)
    sentiment("gc", "--keep-models", "0", "--delete", "--artifacts", rivals)

    again = tiny.train(rivals, refused.reviews)
    assert {Path(name).parts[0] for name in told.summary["files"]} == {"models", "train", "evaluate"}
    assert list_models(Store(rivals)) == [champion_id(rivals)]
    assert not (rivals / "models" / refused.summary["model_id"]).exists()
    assert (rivals / "reports" / f"{refused.summary['model_id']}.html").is_file()
    assert verdict_of(rivals, refused.summary["model_id"])["status"] == "refused"
    assert (again["status"], tiny.steps_that_ran(again)) == ("unchanged", [])
    assert verify_store(Store(rivals))[1] == []
    assert sentiment("gc", "--keep-models", "0", "--artifacts", rivals).summary["files"] == []
    assert sentiment("gc", "--keep-models", "-1", "--artifacts", rivals).exit_code == 2


def test_retention_keeps_the_way_back(refused: tiny.Trained, rivals: Path, sentiment: Callable[..., Command]) -> None:
    """The model that a rollback would bring back stays with its lineage, and so do the newest ones and one that a scoring run uses."""
    sentiment("models", "promote", refused.summary["model_id"], "--reason", "a trial", "--artifacts", rivals)
    assert sentiment("gc", "--keep-models", "0", "--artifacts", rivals).summary["files"] == []
    sentiment("models", "rollback", "--reason", "enough", "--artifacts", rivals)
    assert sentiment("gc", "--keep-models", "1", "--artifacts", rivals).summary["files"] == []
    pin(PinnedModel(refused.summary["model_id"], ""), "job", Store(rivals))
    assert sentiment("gc", "--keep-models", "0", "--artifacts", rivals).summary["files"] == []
    unpin("job", Store(rivals))
    assert sentiment("gc", "--keep-models", "0", "--artifacts", rivals).summary["files"] != []


def test_promoting_what_is_not_there(trained: tiny.Trained, artifacts: Path, sentiment: Callable[..., Command]) -> None:
    """Promoting an unknown model or rolling back the first one is the caller's mistake, told with what there is; nothing moves."""
    unknown = sentiment("models", "promote", "m-nothing", "--reason", "x", "--artifacts", artifacts)
    nowhere = sentiment("models", "rollback", "--reason", "x", "--artifacts", artifacts)

    assert (unknown.exit_code, nowhere.exit_code) == (2, 2)
    assert trained.summary["model_id"] in unknown.stderr
    assert "no earlier champion" in nowhere.stderr
    assert len(history(Store(artifacts))) == 1


def test_models_are_listed(refused: tiny.Trained, sentiment: Callable[..., Command]) -> None:
    """`models list` shows every model with its accuracy and rows, and marks the one champion; `models show` prints a card."""
    listed = sentiment("models", "list", "--artifacts", refused.root)
    shown = sentiment("models", "show", refused.summary["model_id"], "--artifacts", refused.root)

    entries = {entry["model_id"]: entry for entry in listed.summary["models"]}
    assert [model_id for model_id, entry in entries.items() if entry["champion"]] == [champion_id(refused.root)]
    assert entries[refused.summary["model_id"]]["accuracy"] == refused.summary["test"]["accuracy"]
    assert {entry["rows"] for entry in entries.values()} == {refused.summary["test"]["rows"]}
    assert shown.summary["card"].startswith("# Model card")


@pytest.mark.parametrize("change", ["changed", "added", "missing"])
def test_tampered_bundle_is_refused_unread(sealed: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle with a file changed, added or missing is refused by that file's name before any file of it is parsed."""
    if change == "changed":
        (sealed / "settings.json").write_bytes((sealed / "settings.json").read_bytes().replace(b"quick", b"quack"))
    elif change == "added":
        (sealed / "settings.py").write_text("print('hello')", encoding="utf-8")
    else:
        (sealed / "settings.json").unlink()
    monkeypatch.setattr(bundle, "load_core", lambda folder: pytest.fail("a file was parsed"))

    with pytest.raises(MachineError, match=r"settings\.(json|py)"):
        bundle.load_bundle(sealed)


def test_golden_scores_must_be_reproduced(sealed: Path) -> None:
    """Weights that do not give the probe texts their scores are refused, even where every digest fits."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(sealed / "weights.safetensors")
    weights["linear/bias"] = weights["linear/bias"] + np.float32(0.5)
    save_file(weights, sealed / "weights.safetensors")
    tiny.reseal(sealed)

    with pytest.raises(MachineError, match="probe texts"):
        bundle.load_bundle(sealed)


@pytest.mark.parametrize("name", ["settings.json", "weights.safetensors", "vocabulary.json", "training.json", "golden.json"])
def test_sealed_nonsense_is_refused(sealed: Path, name: str) -> None:
    """A sealed file that this version cannot read is a clear error, not a traceback."""
    (sealed / name).write_text("{}", encoding="utf-8")
    tiny.reseal(sealed)

    with pytest.raises(MachineError, match=r"cannot|not one that this version can open"):
        bundle.load_bundle(sealed)


def test_no_such_bundle(tmp_path: Path) -> None:
    """A model that is not there is the caller's mistake, told with the command that lists those that are."""
    with pytest.raises(CallerError, match=r"m-none.*models list"):
        bundle.load_bundle(tmp_path / "m-none")
