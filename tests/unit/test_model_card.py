import re
from dataclasses import replace

from report_example import HOSTILE, example_evaluation, example_facts

from tasks.model_card import FEWEST_ROWS_TO_TELL, render_model_card
from tasks.report_page import SAMPLE_WARNING, ReportFacts


def test_no_metric_stands_without_its_split_seed_digest_and_interval() -> None:
    """Beside the accuracy stand what it was measured on, the seed, the data's digest and the interval."""
    facts = example_facts()
    card = render_model_card(facts)
    scores = facts.evaluation["model"]
    low, high = scores["intervals"]["accuracy"]
    assert f"{scores['accuracy'] * 100:.2f}% ({low * 100:.2f}–{high * 100:.2f}%)" in card
    assert "400 test reviews that took no part in training" in card
    assert "seed 7" in card
    assert "9f2c" * 16 in card
    assert "| test | 203 | 197 |" in card
    assert "95% bootstrap intervals" in card
    assert "```sh\nsentiment train --reproduce model-word\n```" in card


def test_a_card_says_what_the_model_is_for_and_not_for() -> None:
    """The headings of a model card are there, with or without all facts."""
    bare = ReportFacts(model_id="m1", preset="quick", evaluation=example_evaluation())
    for card in (render_model_card(example_facts()), render_model_card(bare)):
        headings = re.findall(r"^## (.+)$", card, flags=re.MULTILINE)
        assert headings == ["Intended use", "Not for", "Training data", "Metrics", "Behaviour", "Limits", "How to reproduce"]
        assert not re.search(r"\b(None|nan)\b", card.replace("None of", ""))


def test_a_card_of_the_sample_warns_first() -> None:
    """What was trained on generated reviews says so above everything else."""
    card = render_model_card(replace(example_facts(), sample=True))
    assert card.index(SAMPLE_WARNING) < card.index("## Intended use")
    assert SAMPLE_WARNING not in render_model_card(example_facts())


def test_the_weakest_slice_is_one_that_can_be_told() -> None:
    """The slice named weakest has the lowest accuracy among those with rows enough."""
    facts = example_facts()
    telling = [part for part in facts.evaluation["slices"] if part["rows"] >= FEWEST_ROWS_TO_TELL]
    weakest = min(telling, key=lambda part: part["accuracy"])
    assert f"Weakest slice: {weakest['by']} {weakest['slice']}, {weakest['accuracy']:.1%}" in render_model_card(facts)
    tiny = {**weakest, "rows": FEWEST_ROWS_TO_TELL - 1, "accuracy": 0.0, "slice": "tiny"}
    facts.evaluation["slices"].append(tiny)
    assert "tiny" not in render_model_card(facts)


def test_words_from_outside_never_become_markup() -> None:
    """A hostile name is shown, not obeyed."""
    card = render_model_card(example_facts(HOSTILE))
    outside_code = re.sub(r"```.*?```|`+[^`].*?`+", "", card, flags=re.DOTALL)
    assert "<" not in outside_code
    assert "alert(" in outside_code
