"""The commands of the README, each in a process of its own as a stranger runs them, and every exit code with its message."""

import csv
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny
from conftest import Command


def run(*words: Path | str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "flows", *map(str, words)]
    paths = {"PYTHONPATH": str(tiny.PROJECT)}
    return subprocess.run(command, cwd=cwd, env=os.environ | paths | environment, capture_output=True, text=True, timeout=200, check=False)


def test_command_is_installed() -> None:
    """The console script `sentiment` is the module that `python -m flows` runs."""
    (script,) = (entry for entry in importlib.metadata.entry_points(group="console_scripts") if entry.name == "sentiment")

    assert script.value == "flows.__main__:main"


def test_help_answers_at_once(tmp_path: Path) -> None:
    """`--help` names every command and the exit codes in under a second of processor time, and loads nothing heavy."""
    probe = (
        "import json, sys, time\nfrom flows.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(json.dumps([time.process_time(), sorted({name.partition('.')[0] for name in sys.modules})]))"
    )

    answer = subprocess.run([sys.executable, "-c", probe], cwd=tiny.PROJECT, capture_output=True, text=True, check=True)

    text, _, measured = answer.stdout.rstrip().rpartition("\n")
    seconds, modules = json.loads(measured)
    assert all(command in text for command in ("train", "score", "models", "why", "verify", "gc"))
    assert "exit codes: 0" in text
    assert seconds < 1
    heavy = {"tensorflow", "keras", "prefect", "pyarrow", "numpy", "sklearn", "pydantic", "matplotlib", "httpx"}
    assert heavy.isdisjoint(modules)


def test_train_then_score(prefect_address: dict[str, str], tmp_path: Path) -> None:
    """`sentiment train` in one process and `sentiment score` in another: the scores of 1,000 test rows are the evaluation's own to 1e-6."""
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", tiny.tiny_rows(2200))

    trained = run(*tiny.command_line("reviews.csv"), "--set=split.test_share=0.5", "--json", cwd=tmp_path, **prefect_address)
    assert trained.returncode == 0, trained.stderr
    summary = json.loads(trained.stdout.splitlines()[-1])
    scored = run("score", reviews, "--format", "csv", "--output", "out", "--json", cwd=tmp_path, **prefect_address)
    assert scored.returncode == 0, scored.stderr

    assert trained.stdout.count("\n") == 1
    assert summary["status"] == "promoted"
    assert type(summary["seconds"]) is float
    for told in (summary["model_id"], summary["report"], "is the new champion"):
        assert told in trained.stderr
    assert "Traceback" not in trained.stderr + scored.stderr
    (output,) = json.loads(scored.stdout.splitlines()[-1])["outputs"]
    with Path(output).open(encoding="utf-8", newline="") as file:
        found = {row["id"]: row for row in csv.DictReader(file)}
    (predictions,) = (tmp_path / "artifacts" / "evaluate").rglob("predictions.parquet")
    expected = {row["review_id"]: row["y_score"] for row in pq.read_table(predictions).to_pylist()}
    assert len(expected) == summary["test"]["rows"] > 1000
    assert {name: float(found[name]["p_positive"]) for name in expected} == pytest.approx(expected, rel=0, abs=1e-6)


BAD_LABELS = [*(tiny.write_row(number) for number in range(90)), *([f"b{n}", "So so.", "meh", "Leeds"] for n in range(10))]


@pytest.mark.parametrize(
    ("words", "exit_code", "told"),
    [
        (["--set=model.epoch=3"], 2, ["There is no setting 'model.epoch'", "epochs"]),
        (["--set=model.epochs=none"], 2, ["model.epochs", "integer"]),
        (["--set=vocabulary.unknown=drop"], 2, ["needs vocabulary.unknown=oov"]),
        (["--set=model.epochs"], 2, ["NAME=VALUE", "--set model.epochs=8"]),
        (["--label=meh"], 2, ["WORD=drop"]),
        (["missing.csv"], 2, ["There is no such file", "missing.csv", "training takes sample and imdb too"]),
        (["reviews.csv", "--label-column=verdict"], 2, ["'verdict' is not among the columns", "'sentiment'"]),
        (["reviews.csv"], 3, ["10 of 100 rows were refused, more than 5%", "10 × unknown sentiment 'meh'", "row 91", "--label WORD="]),
        (["nothing.csv"], 3, ["nothing.csv", "empty"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_failures_are_told_with_their_remedy(
    sentiment: Callable[..., Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], exit_code: int, told: list[str]
) -> None:
    """A mistake ends with its exit code and one message: what, where, what was expected, what to do; no traceback and no summary."""
    tiny.write_reviews(tmp_path / "reviews.csv", BAD_LABELS)
    (tmp_path / "nothing.csv").touch()
    monkeypatch.chdir(tmp_path)

    result = sentiment("train", *words, "--preset", "quick")

    assert result.exit_code == exit_code
    assert all(part in result.stderr for part in told), result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "--sed", "1"], "there is no option --sed. Did you mean --set seed=…?"),
        (["train", "--preste", "quick"], "there is no option --preste. Did you mean --preset?"),
        (["score", "a.csv", "--outptu=b"], "there is no option --outptu=b. Did you mean --output?"),
        (["models", "list", "--quietly"], "there is no option --quietly; `sentiment models --help` lists them"),
        (["verify", "more"], "there is no argument more"),
    ],
)
def test_unknown_options_are_told_with_what_may_be_meant(capsys: pytest.CaptureFixture[str], words: list[str], told: str) -> None:
    """An option that there is not ends a command with exit code 2 and the option, or the setting, whose name is most like it."""
    from flows.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main(words)

    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("port", ["0", "65536", "4200.0", "http"])
def test_a_port_that_cannot_be_is_refused(capsys: pytest.CaptureFixture[str], port: str) -> None:
    """What is no port ends `serve` and `doctor` with exit code 2 before anything is started."""
    from flows.__main__ import main

    for command in ("serve", "doctor"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--port", port])
        assert ended.value.code == 2
        assert f"{port!r} is not a port" in capsys.readouterr().err


def test_columns_are_looked_for_before_prefect_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without the columns that a command needs is refused with exit code 2 and its name, and no run is begun."""
    from flows import commands
    from flows.__main__ import main

    def begin(*_: object) -> None:
        raise AssertionError("a run was begun")

    monkeypatch.setattr(commands, "run_flow", begin)
    nothing = tiny.write_reviews(tmp_path / "nothing.csv", [["1", "2", "3", "4"]], ["a", "b", "c", "d"])
    unlabelled = tiny.write_reviews(tmp_path / "unlabelled.csv", [["1", "So so.", "3", "4"]], ["id", "review", "c", "d"])

    assert main(["train", str(unlabelled)]) == main(["score", str(nothing)]) == main(["score", str(unlabelled), "--text-column=x"]) == 2


def test_labels_can_be_dropped(sentiment: Callable[..., Command], tmp_path: Path) -> None:
    """What the message proposes helps: with --label meh=drop the same file trains, and the dropped rows are counted."""
    reviews = tiny.write_reviews(tmp_path / "reviews.csv", [*BAD_LABELS, *(tiny.write_row(number) for number in range(200, 400))])

    result = sentiment(*tiny.command_line(reviews), "--label", "meh=drop", "--artifacts", tmp_path / "artifacts")

    assert result.exit_code == 0
    assert result.summary["steps"]["ingest"]["rows"] == 290
    page = Path(result.summary["report"]).read_text(encoding="utf-8")
    assert "ingest.labels.extra=" in page


def test_reproducing_command_is_the_same_run(trained: tiny.Trained) -> None:
    """The command that the report prints parses back into the very sources, preset and settings of the run."""
    import shlex

    from flows.__main__ import build_parser
    from flows.options import overrides_of
    from flows.training import command_line

    overrides = {
        **tiny.SETTINGS,
        "ingest.labels.extra": {"so so": "drop"},
        "ingest.text_column": "12",
        "linear": None,
        "model.decay": False,
    }

    program, *words = shlex.split(command_line(["my reviews.csv"], "quick", overrides, ["more.csv"], "a 'good' reason", "kept.csv", 5))
    options = build_parser().parse_args(words)

    assert program == "sentiment"
    assert (options.sources, options.preset, options.unlabelled) == (["my reviews.csv"], "quick", ["more.csv"])
    assert (options.force_promote, options.golden_test, options.folds) == ("a 'good' reason", "kept.csv", 5)
    assert overrides_of(options) == overrides


def test_imdb_offline(sentiment: Callable[..., Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network `imdb` ends with exit code 4, says where the archive is to be had and where to put it, and nothing falls back."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")

    result = sentiment("train", "imdb", "--preset", "quick", "--artifacts", tmp_path / "artifacts")

    assert result.exit_code == 4
    assert "aclImdb_v1.tar.gz" in result.stderr
    assert "downloads" in result.stderr
    assert "Traceback" not in result.stderr
    assert not list((tmp_path / "artifacts").glob("ingest/*"))


def _show_in_a_browser(page: Path, folder: Path) -> str:
    """Return a page as a real browser without any network has understood it; it draws something, and no script or loading fails."""
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("there is no chromium here")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--window-size=1200,4000", f"--screenshot={folder / 'page.png'}", "--dump-dom",
        page.as_uri(),
    ]  # fmt: skip
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in shown.stderr
    pixels = matplotlib.image.imread(folder / "page.png")
    assert len(np.unique(pixels[::4, ::4, :3].reshape(-1, 3), axis=0)) > 50  # not a blank or an error page
    return shown.stdout


def test_report_in_a_browser(trained: tiny.Trained, tmp_path: Path) -> None:
    """A real browser shows the report: the model's name and every figure."""
    shown = _show_in_a_browser(Path(trained.summary["report"]), tmp_path)

    assert trained.summary["model_id"] in shown
    assert shown.count("<svg") >= 6


def test_summary_in_a_browser(trained: tiny.Trained, sentiment: Callable[..., Command], tmp_path: Path) -> None:
    """A real browser shows the summary of `sentiment score`: the model's name, the rows, and the five features that drift is told by."""
    scored = sentiment("score", trained.reviews, "--artifacts", trained.root, "--output", tmp_path / "out")

    shown = _show_in_a_browser(Path(scored.summary["summary"]), tmp_path)

    assert trained.summary["model_id"] in shown
    assert "of the rows were training rows of this model" in shown
    assert shown.count("<svg") == 5
