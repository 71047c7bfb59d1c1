import getpass
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from tasks.errors import CallerError, MachineError
from tasks.model.registry import (
    Verdict,
    champion,
    history,
    list_models,
    models_folder,
    promote_model,
    registry_lock,
    roll_back,
    verdict_of,
    was_promoted_by_this_run,
    was_undone,
)
from tasks.store import Draft, Recipe, Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An artifacts folder with three sealed models and one that is not sealed."""
    for model_id in ("m-c", "m-a", "m-b"):
        (tmp_path / "models" / model_id).mkdir(parents=True)
        (tmp_path / "models" / model_id / "bundle.json").write_text(f'{{"id": "{model_id}", "files": {{}}}}')
    (tmp_path / "models" / "m-draft").mkdir()
    (tmp_path / "models" / "m-draft" / "settings.json").write_text("{}")
    return Store(tmp_path)


def test_before_any_promotion(tmp_path: Path) -> None:
    """An empty folder has no models, no champion, no history, and nothing to roll back to."""
    store = Store(tmp_path)
    assert (list_models(store), champion(store), history(store)) == ([], None, [])
    with pytest.raises(CallerError, match=r"no earlier champion to roll back to.*sentiment models list"):
        roll_back(store, "why not")
    with pytest.raises(CallerError, match=r"No model 'm-a' in .*Known models: none yet"):
        promote_model(store, "m-a", "first")


def test_a_promotion_is_noted_and_takes_effect(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who made which model champion, when, why and instead of which stands in `champion.json` and in the history."""
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    first, second = promote_model(store, "m-a", "first"), promote_model(store, "m-b", "better: +1 %")
    assert champion(store) == second and history(store) == [first, second]
    assert (second.model_id, second.replaced, second.by, second.reason) == ("m-b", "m-a", "ada", "better: +1 %")
    assert first.replaced is None and second.promoted_at.endswith("+00:00")
    assert second.bundle_sha256 == hashlib.sha256(b'{"id": "m-b", "files": {}}').hexdigest()
    assert json.loads((models_folder(store) / "champion.json").read_text()) == asdict(second)
    assert not list(models_folder(store).glob(".*"))


def test_a_run_knows_what_it_promoted(store: Store) -> None:
    """Neither a rollback that comes right after nor a run that promotes another model makes a run forget that it promoted one."""
    one, other = Store(store.root, run_id="run-1"), Store(store.root, run_id="run-2")
    promote_model(store, "m-c", "by hand")
    promote_model(one, "m-a", "better")
    promote_model(other, "m-b", "better still")
    roll_back(store, "complaints")

    assert was_promoted_by_this_run(one, "m-a") and was_promoted_by_this_run(other, "m-b")
    assert not was_promoted_by_this_run(one, "m-b") and not was_promoted_by_this_run(store, "m-c")


def test_only_sealed_models_can_be_promoted(store: Store) -> None:
    """An unknown or unfinished model is refused with the list of those there are, and nothing changes."""
    promote_model(store, "m-a", "first")
    before = champion(store)
    for model_id in ("m-draft", "m-x", "", "../models/m-a/.."):
        with pytest.raises(CallerError, match=r"Known models: m-a, m-b, m-c\."):
            promote_model(store, model_id, "please")
    assert champion(store) == before and len(history(store)) == 1
    assert list_models(store) == ["m-a", "m-b", "m-c"]


def test_a_rollback_brings_the_predecessor_back(store: Store) -> None:
    """The model that was replaced is champion again, by a promotion of its own in the history."""
    promote_model(store, "m-a", "first")
    with pytest.raises(CallerError, match="no earlier champion"):
        roll_back(store, "complaints")
    promote_model(store, "m-b", "next")
    entry = roll_back(store, "complaints")
    assert champion(store) == entry and (entry.model_id, entry.replaced, entry.reason) == ("m-a", None, "complaints")
    assert [promotion.model_id for promotion in history(store)] == ["m-a", "m-b", "m-a"]


def test_promoting_the_champion_again_keeps_its_predecessor(store: Store) -> None:
    """A model never is its own predecessor: the way back stays open."""
    for model_id in ("m-a", "m-b", "m-b"):
        promote_model(store, model_id, "again")
    assert roll_back(store, "complaints").model_id == "m-a"


@pytest.mark.parametrize("content", ["", "{", "[]", "5", '{"model_id": "m-a"}', '{"unknown": 1}'])
def test_a_damaged_champion_is_named_and_mended(store: Store, content: str) -> None:
    """The error names the file and the command, and that command works."""
    promote_model(store, "m-a", "first")
    (models_folder(store) / "champion.json").write_text(content)
    with pytest.raises(MachineError, match=r"champion\.json is damaged\. .*sentiment models promote ID"):
        champion(store)
    promote_model(store, "m-b", "mended")
    found = champion(store)
    assert found and (found.model_id, found.replaced) == ("m-b", None)


def test_a_user_without_a_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container that runs under a bare number, a promotion is still noted."""

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert promote_model(store, "m-a", "first").by == "unknown"


def test_a_promotion_that_was_undone(store: Store) -> None:
    """A promotion counts as undone once another model was made champion after it, for its own reason only."""
    promote_model(store, "m-a", "first")
    promote_model(store, "m-b", "better")
    assert not was_undone(store, "m-b", "better")
    roll_back(store, "complaints")
    assert was_undone(store, "m-b", "better")
    assert not was_undone(store, "m-b", "another reason") and not was_undone(store, "m-c", "better")


def test_one_run_at_a_time_decides(store: Store) -> None:
    """While one holds the registry's lock, no other gets it; then it is free again."""
    other = FileLock(store.root / "locks" / "registry.lock")
    with registry_lock(store), pytest.raises(Timeout):
        other.acquire(timeout=0)
    other.acquire(timeout=0)
    other.release()


def test_a_verdict_is_read_as_it_was_written(store: Store) -> None:
    """What `promote` stored comes back whole."""
    verdict = Verdict("m-b", "refused", "−0.5 % accuracy against m-a", "m-a", None, rows_seen=3)
    recipe = Recipe("promote", {}, {}, {}, {})

    def write(draft: Draft) -> None:
        draft.write_json("promote/verdict.json", asdict(verdict))

    assert verdict_of(store.make(recipe, write).ref, store) == verdict


def test_a_second_rollback_goes_one_further_back(store: Store) -> None:
    """After a, b and c, two rollbacks end at a, not at the model that was left first."""
    for model_id in ("m-a", "m-b", "m-c"):
        promote_model(store, model_id, "better")
    assert [roll_back(store, "worse after all").model_id for _ in range(2)] == ["m-b", "m-a"]


def test_a_damaged_bundle_is_not_promoted(store: Store) -> None:
    """A bundle with a file that its `bundle.json` does not know is refused, and the champion stays."""
    promote_model(store, "m-a", "first")
    (models_folder(store) / "m-b" / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(MachineError, match=r"m-b is not what its bundle\.json says: weights\.safetensors"):
        promote_model(store, "m-b", "second")
    assert champion(store).model_id == "m-a"


def test_a_torn_line_of_the_history_is_passed_over(store: Store) -> None:
    """What a power cut left half written costs that line alone."""
    entry = promote_model(store, "m-a", "first")
    with (models_folder(store) / "history.jsonl").open("a") as file:
        file.write('{"model_id": "m-')
    assert history(store) == [entry]
