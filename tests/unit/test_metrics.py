import json

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn import metrics as oracle

from tasks.errors import DataError
from tasks.model.metrics import (
    EvaluationSettings,
    classification_report_text,
    error_examples,
    evaluate_models,
    label_lengths,
    paired_bootstrap,
    score_predictions,
    slice_metrics,
)

SETTINGS = EvaluationSettings(bootstrap_samples=100)


def _noisy_scores(num_rows: int, seed: int, decimals: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y_true = (rng.random(num_rows) < 0.4).astype(np.int8)
    y_score = 1 / (1 + np.exp(-rng.normal(2 * y_true - 0.8, 1.5)))
    return y_true, y_score if decimals is None else np.round(y_score, decimals)


@pytest.mark.parametrize("decimals", [None, 2, 1])
def test_scores_equal_those_of_scikit_learn(decimals: int | None) -> None:
    """Every score is scikit-learn's, with few ties, many and mostly ties."""
    y_true, y_score = _noisy_scores(700, seed=3, decimals=decimals)
    y_pred = y_score > 0.5
    scores = score_predictions(y_true, y_score, SETTINGS)

    assert scores["rows"] == 700
    assert scores["positives"] == y_true.sum()
    assert scores["accuracy"] == pytest.approx(oracle.accuracy_score(y_true, y_pred))
    assert scores["roc_auc"] == pytest.approx(oracle.roc_auc_score(y_true, y_score))
    assert scores["brier"] == pytest.approx(oracle.brier_score_loss(y_true, y_score))
    assert scores["log_loss"] == pytest.approx(oracle.log_loss(y_true, np.clip(y_score, 1e-7, 1 - 1e-7)))
    assert scores["f1_macro"] == pytest.approx(oracle.f1_score(y_true, y_pred, average="macro"))
    assert scores["confusion"] == oracle.confusion_matrix(y_true, y_pred).tolist()
    for average in ("macro", "weighted"):
        expected = oracle.precision_recall_fscore_support(y_true, y_pred, average=average)[:3]
        assert [scores[average][name] for name in ("precision", "recall", "f1")] == pytest.approx(expected)
    for code, name in enumerate(("negative", "positive")):
        expected = [column[code] for column in oracle.precision_recall_fscore_support(y_true, y_pred)]
        assert list(scores["per_class"][name].values()) == pytest.approx(expected)


def test_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    """Two bins, by hand: half the rows are off by 0.4, half by 0.1."""
    settings = EvaluationSettings(ece_bins=2)
    scores = score_predictions([0, 1, 1, 1], [0.1, 0.1, 0.9, 0.9], settings)
    assert scores["ece"] == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)


def test_a_score_of_exactly_one_belongs_to_the_last_bin() -> None:
    """Certain and right in every row is calibrated perfectly; 1 shares its bin with 0.9."""
    scores = score_predictions([0, 1, 1], [0.0, 1.0, 1.0], SETTINGS)
    assert (scores["ece"], scores["accuracy"], scores["roc_auc"]) == (0, 1, 1)
    assert scores["log_loss"] == pytest.approx(1e-7, rel=1e-3)
    shared = score_predictions([1, 0], [0.9, 1.0], EvaluationSettings(ece_bins=2))
    assert shared["ece"] == pytest.approx(abs(0.9 - 1 + 1.0 - 0) / 2)


def test_certain_and_wrong_costs_what_keras_charges() -> None:
    """A score of exactly 0 for a positive review is clipped as Keras clips it, not charged infinitely."""
    assert score_predictions([1, 0], [0.0, 0.0], SETTINGS)["log_loss"] == pytest.approx(-np.log(1e-7) / 2)


def test_intervals_are_the_percentiles_of_resampled_rows() -> None:
    """Intervals equal a plain loop that resamples rows and calls scikit-learn."""
    y_true, y_score = _noisy_scores(60, seed=8, decimals=1)
    ascending = np.argsort(y_score, kind="stable")
    y_true, y_score = y_true[ascending], y_score[ascending]
    settings = EvaluationSettings(bootstrap_samples=150, seed=5, confidence=0.9)
    rng = np.random.default_rng(5)
    drawn: dict[str, list[float]] = {"accuracy": [], "roc_auc": [], "log_loss": [], "brier": [], "f1_macro": []}
    for _ in range(150):
        rows = rng.integers(0, 60, 60)
        truth, score = y_true[rows], y_score[rows]
        drawn["accuracy"].append(oracle.accuracy_score(truth, score > 0.5))
        drawn["roc_auc"].append(oracle.roc_auc_score(truth, score))
        drawn["log_loss"].append(oracle.log_loss(truth, np.clip(score, 1e-7, 1 - 1e-7), labels=[0, 1]))
        drawn["brier"].append(oracle.brier_score_loss(truth, score))
        drawn["f1_macro"].append(oracle.f1_score(truth, score > 0.5, average="macro"))

    intervals = score_predictions(y_true, y_score, settings)["intervals"]
    for name, values in drawn.items():
        assert intervals[name] == pytest.approx(np.quantile(values, [0.05, 0.95]).tolist()), name


def test_equal_settings_give_equal_intervals_and_another_seed_does_not() -> None:
    """The resampling is decided by the seed alone."""
    y_true, y_score = _noisy_scores(200, seed=1)
    first = score_predictions(y_true, y_score, SETTINGS)
    assert first == score_predictions(y_true, y_score, SETTINGS)
    other = score_predictions(y_true, y_score, EvaluationSettings(bootstrap_samples=100, seed=8))
    assert first["intervals"] != other["intervals"]


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_has_no_ranking_score(label: int) -> None:
    """Where nothing can be ranked the score is None and JSON stays valid."""
    scores = score_predictions(np.full(5, label), [0.1, 0.4, 0.6, 0.7, 0.9], SETTINGS)
    assert scores["roc_auc"] is None
    assert scores["intervals"]["roc_auc"] is None
    absent = scores["per_class"][("positive", "negative")[label]]
    assert (absent["recall"], absent["support"]) == (0.0, 0)
    json.dumps(scores, allow_nan=False)


def test_equal_scores_rank_like_a_coin() -> None:
    """The majority baseline, the same score for all, has area one half and an F1 of 0 for the class it never names."""
    scores = score_predictions([0, 1, 1, 1], [0.75] * 4, SETTINGS)
    assert (scores["accuracy"], scores["roc_auc"], scores["ece"]) == (0.75, 0.5, 0)
    assert scores["per_class"]["negative"]["f1"] == 0
    assert scores["confusion"] == [[0, 1], [0, 3]]
    json.dumps(scores, allow_nan=False)


@pytest.mark.parametrize(
    ("y_true", "y_score", "words"),
    [
        ([], [], "at least one row"),
        ([0, 1], [0.5], "equal length"),
        ([0, 2], [0.5, 0.5], "neither 0 nor 1"),
        ([0, 1], [0.5, float("nan")], "1 of 2 predictions .* lower the learning rate"),
        ([0, 1], [1.5, -0.1], "2 of 2 predictions"),
    ],
)
def test_what_cannot_be_scored_is_refused(y_true: list[int], y_score: list[float], words: str) -> None:
    """Impossible input ends in an error that names it."""
    with pytest.raises(DataError, match=words):
        score_predictions(y_true, y_score, SETTINGS)


def test_slices_stand_in_order_and_add_up_to_the_whole() -> None:
    """Right answers of all slices together are those of all rows; empty slices are left out."""
    y_true, y_score = _noisy_scores(300, seed=2)
    num_tokens = np.random.default_rng(0).integers(0, 390, 300)
    labels, order = label_lengths(num_tokens, SETTINGS)
    found = slice_metrics(y_true, y_score, labels, SETTINGS, by="length", order=order)

    assert [part["slice"] for part in found] == ["0–99", "100–199", "200–399"]
    assert sum(part["rows"] for part in found) == 300
    right = sum(part["accuracy"] * part["rows"] for part in found)
    assert right == pytest.approx(((y_score > 0.5) == y_true).sum())
    short = num_tokens < 100
    assert found[0]["roc_auc"] == pytest.approx(oracle.roc_auc_score(y_true[short], y_score[short]))
    assert all(part["interval"][0] < part["accuracy"] < part["interval"][1] for part in found)


def test_a_slice_of_one_class_has_no_ranking_score() -> None:
    """A slice may hold one class only; slices stand by name unless an order is given."""
    found = slice_metrics([1, 1, 0], [0.9, 0.2, 0.3], ["b", "b", "a"], SETTINGS, by="source")
    told = [(part["slice"], part["accuracy"], part["roc_auc"]) for part in found]
    assert told == [("a", 1.0, None), ("b", 0.5, None)]
    ordered = slice_metrics([1, 1, 0], [0.9, 0.2, 0.3], ["b", "b", "a"], SETTINGS, by="source", order=["b", "a"])
    assert ordered == found[::-1]


@pytest.mark.parametrize(("labels", "words"), [(["a"], "1 labels for 2 rows"), (["a", "c"], "'c' is not among a, b")])
def test_slices_that_do_not_fit_are_refused(labels: list[str], words: str) -> None:
    """A missing label and one outside the given order are named."""
    with pytest.raises(DataError, match=words):
        slice_metrics([0, 1], [0.1, 0.9], labels, SETTINGS, by="source", order=["a", "b"])


def test_lengths_fall_into_the_slice_that_begins_at_or_below_them() -> None:
    """The lower edge belongs to the slice, the upper one to the next."""
    labels, order = label_lengths([0, 99, 100, 799, 800], SETTINGS)
    assert labels.tolist() == ["0–99", "0–99", "100–199", "400–799", "800+"]
    assert order == ["0–99", "100–199", "200–399", "400–799", "800+"]


@pytest.mark.parametrize("edges", [(), (5, 10), (0, 10, 10)])
def test_length_slices_must_start_at_zero_and_ascend(edges: tuple[int, ...]) -> None:
    """Edges that would lose or repeat a length are refused."""
    with pytest.raises(ValidationError, match="must start at 0 and ascend"):
        EvaluationSettings(length_slices=edges)


def test_the_paired_comparison_is_mcnemars() -> None:
    """One row against nine: 2 × (1 + 10) / 2¹⁰, by hand."""
    y_true = np.ones(100, dtype=np.int8)
    first, second = np.ones(100), np.ones(100)
    first[:9], second[99] = 0, 0
    found = paired_bootstrap(y_true, first, second, EvaluationSettings())

    assert found["p_value"] == pytest.approx(22 / 1024)
    assert found["difference"] == pytest.approx(-0.08)
    assert (found["only_first_right"], found["only_second_right"], found["rows"]) == (1, 9, 100)


def test_the_paired_interval_is_that_of_resampled_rows() -> None:
    """Drawing counts instead of rows gives the same interval, up to the noise of resampling."""
    y_true, first = _noisy_scores(500, seed=4)
    second = np.clip(first + np.random.default_rng(5).normal(0, 0.2, 500), 0, 1)
    right = ((first > 0.5) == y_true).astype(float) - ((second > 0.5) == y_true)
    rng = np.random.default_rng(6)
    expected = np.quantile([right[rng.integers(0, 500, 500)].mean() for _ in range(4000)], [0.025, 0.975])

    found = paired_bootstrap(y_true, first, second, EvaluationSettings(bootstrap_samples=4000))
    assert found["interval"] == pytest.approx(expected.tolist(), abs=0.004)
    swapped = paired_bootstrap(y_true, second, first, EvaluationSettings(bootstrap_samples=4000))
    assert (swapped["difference"], swapped["p_value"]) == (-found["difference"], found["p_value"])


def test_equal_models_do_not_differ() -> None:
    """No discordant row: no difference, and p = 1."""
    y_true, y_score = _noisy_scores(50, seed=9)
    found = paired_bootstrap(y_true, y_score, y_score, SETTINGS)
    assert (found["difference"], found["interval"], found["p_value"]) == (0, [0, 0], 1)


def test_the_report_is_scikit_learns() -> None:
    """The text is the article's classification report with the classes named."""
    y_true, y_score = _noisy_scores(80, seed=7)
    expected = oracle.classification_report(y_true, y_score > 0.3, target_names=["negative", "positive"], digits=4)
    assert classification_report_text(y_true, y_score, 0.3) == expected


def test_the_most_confident_errors_come_first_without_text() -> None:
    """Right answers are left out, ties stand by id, at most k are given."""
    ids = ["right", "b", "c", "a", "mild", "worst"]
    found = error_examples(ids, [1, 1, 1, 1, 0, 0], [0.9, 0.2, 0.2, 0.2, 0.6, 0.99], k=4)
    assert [example["review_id"] for example in found] == ["worst", "a", "b", "c"]
    assert found[0] == {"review_id": "worst", "y_true": 0, "y_score": 0.99}


def test_an_evaluation_holds_model_parts_and_baselines_and_survives_json() -> None:
    """metrics.json says all there is to say about the test rows, in plain JSON."""
    y_true, y_score = _noisy_scores(120, seed=11)
    slices = slice_metrics(y_true, y_score, ["one"] * 120, SETTINGS, by="source")
    found = evaluate_models(
        y_true,
        y_score,
        parts={"lstm": y_score, "linear": 1 - y_score},
        baselines={"majority": np.full(120, 0.4)},
        slices=slices,
        settings=SETTINGS,
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["parts"]["lstm"] == found["model"] == score_predictions(y_true, y_score, SETTINGS)
    assert found["parts"]["linear"]["roc_auc"] == pytest.approx(1 - found["model"]["roc_auc"])
    assert found["baselines"]["majority"]["accuracy"] == pytest.approx(1 - y_true.mean())
    assert EvaluationSettings.model_validate(found["settings"]) == SETTINGS


def test_the_error_falls_as_the_least_certain_rows_are_left_aside() -> None:
    """At each coverage the error is that of the rows furthest from the threshold; `decided` is that of the rows named certain."""
    y_true = np.array([1, 0, 1, 0, 1, 0, 1, 0, 1, 0], np.int8)
    y_score = np.array([0.99, 0.02, 0.97, 0.1, 0.9, 0.2, 0.7, 0.65, 0.45, 0.52])  # the three nearest to 0.5 are wrong
    found = evaluate_models(y_true, y_score, parts={}, baselines={}, slices=[], settings=SETTINGS, certain=np.abs(y_score - 0.5) > 0.1)
    assert [(entry["coverage"], entry["rows"], entry["error"]) for entry in found["coverage"]] == [
        (1.0, 10, 0.3), (1.0, 10, 0.3), (0.9, 9, pytest.approx(2 / 9)), (0.8, 8, 0.125), (0.7, 7, 0.0), (0.5, 5, 0.0),
    ]  # fmt: skip
    assert found["decided"] == {"coverage": 0.8, "rows": 8, "error": 0.125}
    assert evaluate_models(y_true, y_score, parts={}, baselines={}, slices=[], settings=SETTINGS, certain=[False] * 10)["decided"] is None
