"""A model made again: bit for bit the same, under other hash seeds and thread settings too, and what is said where it is not."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from conftest import Command
from safetensors.numpy import load_file, save_file


def original(root: Path) -> Path:
    """Return the folder of the model in an artifacts folder."""
    (seal,) = (root / "models").glob("*/bundle.json")
    return seal.parent


def change_bits(folder: Path) -> None:
    """Change the last bit of one weight of a sealed bundle, and seal it again."""
    weights = load_file(folder / "weights.safetensors")
    weights["linear/bias"] = np.nextafter(weights["linear/bias"], np.float32(9))
    save_file(weights, folder / "weights.safetensors")
    tiny.reseal(folder)


def test_a_model_is_made_again_bit_for_bit(trained: tiny.Trained, artifacts: Path, sentiment: Callable[..., Command]) -> None:
    """Every tensor and file comes out the same from an empty store; the original, the champion and all else stay as they were."""
    before = tiny.digests(artifacts)

    result = sentiment("train", "--reproduce", trained.bundle.name, "--artifacts", artifacts)

    assert (result.exit_code, result.summary["status"]) == (0, "identical"), result.stderr
    assert result.summary["tensors"] == len(load_file(trained.bundle / "weights.safetensors"))
    assert (result.summary["other_tensors"], result.summary["other_files"], result.summary["test"]) == ({}, {}, None)
    assert set(result.summary["changes"]) == {"data", "code", "settings", "libraries", "processor"}
    assert not any(result.summary["changes"].values())
    assert {step: state["state"] for step, state in result.summary["steps"].items()} == dict.fromkeys(tiny.STEPS[:5], "completed")
    assert "identical bit for bit" in result.stderr
    assert tiny.digests(artifacts) == before


def test_hash_seed_and_threads_do_not_count(trained: tiny.Trained, artifacts: Path, prefect_address: dict[str, str]) -> None:
    """Another process with another hash seed, other thread settings and one processor makes the same bits, though the source is gone."""
    record = next((artifacts / "ingest").glob("*.json"))
    stored = json.loads(record.read_text(encoding="utf-8"))
    assert stored["facts"]["given"] == [str(trained.reviews)]
    trained.reviews.rename(trained.reviews.with_suffix(".away"))
    settings = {"PYTHONHASHSEED": "7", "OPENBLAS_NUM_THREADS": "3", "OMP_NUM_THREADS": "3", "TF_NUM_INTRAOP_THREADS": "5"}
    on_one = "import os, sys; hasattr(os, 'sched_setaffinity') and os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    words = ["train", "--reproduce", trained.bundle.name, "--artifacts", str(artifacts), "--json"]
    try:
        answer = subprocess.run(
            [sys.executable, "-c", f"{on_one}from flows.__main__ import main; sys.exit(main(sys.argv[1:]))", *words],
            cwd=tiny.PROJECT, env=os.environ | prefect_address | settings, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
    finally:
        trained.reviews.with_suffix(".away").rename(trained.reviews)

    assert answer.returncode == 0, answer.stderr
    summary = json.loads(answer.stdout.splitlines()[-1])
    assert (summary["status"], summary["changes"]["processor"]) == ("identical", [])
    digest = summary["sources"]["reviews.csv"]
    assert f"Expected reviews.csv with SHA-256 {digest}. Their rows are still in the store" in answer.stderr


def test_unlabelled_and_golden_reviews_are_read_again(sentiment: Callable[..., Command], tmp_path: Path) -> None:
    """A model that learnt from unlabelled reviews, with a golden set kept apart, is made again from all three where they lie now."""
    rows = [tiny.write_row(number) for number in range(500)]
    labelled = tiny.write_reviews(tmp_path / "labelled.csv", rows[:300])
    golden = tiny.write_reviews(tmp_path / "golden.csv", rows[300:350])
    unlabelled = tiny.write_reviews(tmp_path / "unlabelled.csv", rows[350:])
    model = tiny.train(tmp_path / "artifacts", labelled, unlabelled=unlabelled, golden_test=golden)["model_id"]
    moved = unlabelled.rename(tmp_path / "moved.csv")
    (tmp_path / "artifacts" / "unlabelled").rename(tmp_path / "gone")

    lost = sentiment("train", "--reproduce", model, "--artifacts", tmp_path / "artifacts")
    named = sentiment("train", "--reproduce", model, "--unlabelled", moved, "--artifacts", tmp_path / "artifacts")

    assert lost.exit_code == 2
    assert "unlabelled.csv with SHA-256" in lost.stderr and "--unlabelled SOURCE" in lost.stderr
    assert (named.exit_code, named.summary["status"]) == (0, "identical"), named.stderr
    assert list(named.summary["sources"]) == ["labelled.csv", "golden.csv", "unlabelled.csv"]
    assert list(named.summary["steps"]) == ["golden", "ingest", "clean", "tokenize", "split", "unlabelled", "train"]


def test_other_bits_are_judged_by_what_changed(trained: tiny.Trained, artifacts: Path, sentiment: Callable[..., Command]) -> None:
    """A bit that nothing explains is a failure of the machine; where the processor is another, as good a test accuracy will do."""
    folder = original(artifacts)
    change_bits(folder)

    unexplained = sentiment("train", "--reproduce", folder.name, "--artifacts", artifacts)
    origin = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
    origin["machine"]["processor"] = "Another Processor"
    (folder / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
    tiny.reseal(folder)
    explained = sentiment("train", "--reproduce", folder.name, "--artifacts", artifacts)

    assert (unexplained.exit_code, unexplained.summary["status"]) == (4, "different")
    assert list(unexplained.summary["other_tensors"]) == ["linear/bias"]
    assert "linear/bias: 1 of 1 values differ, by up to" in unexplained.stderr
    assert (explained.exit_code, explained.summary["status"]) == (0, "equivalent")
    assert "processor changed: processor: Another Processor → " in explained.stderr
    assert explained.summary["test"] == {"accuracy": trained.summary["test"]["accuracy"], "original": trained.summary["test"]["accuracy"]}
    assert "is within the original's interval" in explained.summary["reason"]


@pytest.mark.parametrize(
    ("words", "exit_code", "told"),
    [
        (["--reproduce", "m-unknown"], 2, "There is no model 'm-unknown'"),
        (["--reproduce", "MODEL", "--set=model.epochs=2"], 2, "takes every setting from the model"),
        (["--reproduce", "MODEL", "--preset=tutorial"], 2, "takes every setting from the model"),
        (["OTHER", "--reproduce", "MODEL"], 3, "Expected reviews.csv with SHA-256"),
    ],
    ids=["unknown model", "setting", "preset", "other source"],
)
def test_what_cannot_be_reproduced(
    trained: tiny.Trained, sentiment: Callable[..., Command], tmp_path: Path, words: list[str], exit_code: int, told: str
) -> None:
    """An unknown model, settings beside it, and sources of other content are refused before anything is trained."""
    other = tiny.write_reviews(tmp_path / "other.csv", map(tiny.write_row, range(90)))
    named = {"MODEL": trained.bundle.name, "OTHER": str(other)}

    result = sentiment("train", *(named.get(word, word) for word in words), "--artifacts", trained.root)

    assert result.exit_code == exit_code
    assert told in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_settings_of_another_version_are_named(artifacts: Path, sentiment: Callable[..., Command]) -> None:
    """A model that was trained with a setting unknown here is refused by the setting's name."""
    folder = original(artifacts)
    origin = json.loads((folder / "origin.json").read_text(encoding="utf-8"))
    origin["steps"]["train"]["settings"]["model"]["attention_heads"] = 4
    (folder / "origin.json").write_text(json.dumps(origin), encoding="utf-8")
    tiny.reseal(folder)

    result = sentiment("train", "--reproduce", folder.name, "--artifacts", artifacts)

    assert result.exit_code == 4
    assert "model.attention_heads" in result.stderr
