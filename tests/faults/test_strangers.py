"""Models and files from strangers: whatever they hold, nothing of it runs, and nothing outside their folder is read.

Source: the published ways to run code, or read files, by loading a Keras model: CVE-2024-3660 and CVE-2025-1550 (Lambda layers and
modules named in `config.json`), CVE-2025-8747, 2025-9906 (`get_file` and `enable_unsafe_deserialization` called from there), 2025-9905
(a Lambda in `.h5`, whatever `safe_mode` says), 2025-12058 (a vocabulary that is a path), 2026-0897 and 2026-1669 (sizes and external
files in HDF5). None has a way in here, since no Keras file is ever parsed; this is what these tests hold on to.
"""

import io
import json
import marshal
import pickle
import zipfile
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from conftest import Command

from tasks.errors import PipelineError
from tasks.model.bundle import check_bundle, load_bundle, seen_hashes
from tasks.reviews.readers import ReaderSettings, read_batches
from tasks.summarize import compare_with_training


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Say what unpickling shall call."""
        return Path.touch, (self.marker,)


def keras_file(config: dict[str, Any]) -> bytes:
    """Return a Keras 3 archive with this configuration."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.8.0"}))
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("model.weights.h5", b"\x89HDF\r\n\x1a\n")
    return content.getvalue()


def layer(class_name: str, module: str, **config: Any) -> dict[str, Any]:
    """Return a model of one layer."""
    inner = {"module": module, "class_name": class_name, "config": config, "registered_name": None}
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "s", "layers": [inner]}}


def payloads(marker: Path) -> dict[str, bytes]:
    """Return files that run code, or read files, in loaders that let them."""
    code = compile(f"open({str(marker)!r}, 'w')", "lambda", "eval")
    function = {"class_name": "__lambda__", "config": {"code": b64encode(marshal.dumps(code)).decode(), "defaults": None, "closure": None}}
    pickled = io.BytesIO()
    np.save(pickled, np.array([Payload(marker)], dtype=object), allow_pickle=True)
    return {
        "pickle": pickle.dumps(Payload(marker)),
        "old pickle": pickle.dumps(Payload(marker), protocol=0),
        "npy": pickled.getvalue(),
        "Lambda": keras_file(layer("Lambda", "keras.layers", function=function)),
        "module": keras_file(layer("run", "subprocess", args=["touch", str(marker)])),
        "get_file": keras_file(layer("function", "keras.utils", function="get_file", origin=f"file://{marker}", fname=str(marker))),
        "unsafe": keras_file(layer("function", "keras.config", function="enable_unsafe_deserialization")),
        "vocabulary": keras_file(layer("StringLookup", "keras.layers", vocabulary="/etc/passwd")),
        "safetensors that are too long": (1 << 60).to_bytes(8, "little") + b"{}",
        "safetensors with a file": (64).to_bytes(8, "little") + json.dumps({"__metadata__": {"file": "/etc/passwd"}}).ljust(64).encode(),
        "deep JSON": b"[" * 100_000,
    }


READ_WHEN_NEEDED = {"seen.npy": seen_hashes, "profile.json": lambda bundle: compare_with_training({}, bundle)}
NAMES = tuple(payloads(Path("marker")))


@pytest.mark.parametrize("name", NAMES)
def test_a_strangers_bundle_runs_nothing(artifacts: Path, trained: tiny.Trained, tmp_path: Path, name: str) -> None:
    """Whatever stands in place of any file of a bundle, sealed anew so that all digests are right, it is refused and nothing runs."""
    bundle = artifacts / "models" / trained.bundle.name
    content = payloads(tmp_path / "marker")[name]
    for path in sorted(bundle.iterdir()):
        if path.suffix not in (".json", ".npy", ".safetensors") or path.name in ("bundle.json", "origin.json", "metrics.json"):
            continue
        whole = path.read_bytes()
        path.write_bytes(content)
        tiny.reseal(bundle)
        read = READ_WHEN_NEEDED.get(path.name, load_bundle)
        with pytest.raises(PipelineError):
            read(bundle)
        path.write_bytes(whole)
    (bundle / "bundle.json").write_bytes(content)
    with pytest.raises(PipelineError):
        check_bundle(bundle)
    assert not (tmp_path / "marker").exists()


def test_a_bundle_that_points_outside_is_refused(artifacts: Path, trained: tiny.Trained, tmp_path: Path) -> None:
    """A link in place of a file, or a name that leads out of the folder, is refused before it is read."""
    bundle = artifacts / "models" / trained.bundle.name
    outside = tmp_path / "vocabulary.json"
    (bundle / "vocabulary.json").rename(outside)
    (bundle / "vocabulary.json").symlink_to(outside)
    with pytest.raises(PipelineError, match="link"):
        check_bundle(bundle)

    (bundle / "vocabulary.json").unlink()
    manifest = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))
    manifest["files"][f"../../../{outside.name}"] = manifest["files"].pop("vocabulary.json")
    (bundle / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(PipelineError):
        check_bundle(bundle)


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("safetensors")])
@pytest.mark.parametrize("suffix", [".keras", ".csv", ".parquet", ".jsonl", ".npy"])
def test_a_strangers_reviews_run_nothing(tmp_path: Path, name: str, suffix: str) -> None:
    """Whatever a file to be read holds, and whatever it is called, nothing of it runs."""
    path = tmp_path / f"reviews{suffix}"
    path.write_bytes(payloads(tmp_path / "marker")[name])
    try:
        for batch in read_batches(path, path.name, ReaderSettings()):
            assert "root:" not in str(batch.columns.to_pylist())
    except PipelineError:
        pass
    assert not (tmp_path / "marker").exists()


def test_a_preset_file_runs_nothing(tmp_path: Path, sentiment: Callable[..., Command]) -> None:
    """A preset file that is none is told so, and nothing of it runs."""
    path = tmp_path / "best.json"
    for content in payloads(tmp_path / "marker").values():
        path.write_bytes(content)
        refused = sentiment("train", "sample", "--preset", path, "--artifacts", tmp_path / "artifacts")
        assert refused.exit_code == 2
        assert "Traceback" not in refused.stderr
    assert not (tmp_path / "marker").exists()
