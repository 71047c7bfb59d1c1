import re
from dataclasses import replace

import pytest
from html_page import HtmlPage, check_that_it_stands_alone
from report_example import HOSTILE, Y_SCORE, Y_TRUE, example_evaluation, example_facts

from tasks import figures
from tasks.drawing import to_svg
from tasks.report_page import (
    ARTIFACT_BYTES,
    ARTIFACT_FIGURES,
    SAMPLE_WARNING,
    ReportFacts,
    lead_over_baselines,
    rank_models,
    render_markdown,
    render_report,
)


@pytest.fixture(scope="module")
def svgs() -> dict[str, str]:
    """Figures whose foreign names are hostile."""
    drawn = figures.draw_figures(evaluation=example_evaluation(HOSTILE), y_true=Y_TRUE, scores={"this model": Y_SCORE}, num_tokens=[5, 9])
    return {name: to_svg(figure, name) for name, figure in drawn.items()}


def _bare_facts() -> ReportFacts:
    return ReportFacts(model_id="m1", preset="quick", evaluation={**example_evaluation(), "behaviour": []})


def test_the_page_stands_alone(svgs: dict[str, str]) -> None:
    """One well-formed page: no script, no address outside it, no id twice, and a policy that forbids the rest."""
    page = check_that_it_stands_alone(render_report(example_facts(figures=svgs)))
    assert page.tags["svg"] == len(svgs)


def test_the_page_tells_every_fact() -> None:
    """Each fact that was given can be read on the page."""
    facts = example_facts()
    words = HtmlPage(render_report(facts)).words
    scores = facts.evaluation["model"]
    low, high = scores["intervals"]["accuracy"]
    for expected in [
        "Promoted This model is now the champion", "model-word", "preset default", "It is better. word",
        f"{scores['accuracy']:.1%} of 400 test reviews judged right",
        f"95% interval {low * 100:.1f}–{high * 100:.1f}%",
        f"{scores['roc_auc']:.4f}", f"{scores['log_loss']:.4f}", "majority baseline", "LSTM part alone",
        "2,037", "2,000", "37", "reason-word", "source-word", "42 3 with another label", "11 repeat a held-out row, exactly or nearly",
        "10 as duplicate of a test review, 1 as near-duplicate of a validation review.",
        "out-2-word duplicate of a test review in-2-word 1.000",
        "train 1,400 49.9%", "Decided by a hash of each text", "176 tokens", "summary-word", "0.2800",
        "3 epochs; the weights of epoch 2 were kept. 771,713 trained numbers",
        "macro avg", "champion-word", "length: 0–99", "source: word", "word-", "probability of positive",
        "ingest cached 2,000 0.21 s", "train completed 1,400 2 min 43 s",
        "model.epochs 3", "sentiment train word", "9f2c" * 16, "seed 7", "tensorflow 2.21-word",
    ]:  # fmt: skip
        assert expected in words, expected


def test_a_page_of_little_is_still_a_page() -> None:
    """Facts that are missing leave neither an empty section nor a None, and every link leads somewhere."""
    page = HtmlPage(render_report(_bare_facts()))
    assert "Promotion has not been decided" in page.words
    assert not re.search(r"\b(None|nan|Undefined)\b", page.words)
    assert set(page.ids) == {"evaluation"}
    assert page.addresses == ["#evaluation"]


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("promoted", "Promoted This model is now the champion"),
        ("refused", "Refused This model was not promoted"),
        ("unchanged", "Unchanged This model already was the champion"),
    ],
)
def test_the_verdict_is_said_first(status: str, words: str) -> None:
    """Page and artifact open with what promotion decided."""
    facts = example_facts(status=status)
    assert words in HtmlPage(render_report(facts)).words
    assert render_markdown(facts, {}).startswith(f"# {words.split(maxsplit=1)[1]}\n")


def test_force_is_called_force() -> None:
    """A model that somebody made champion against the rules is not called promoted, neither in words nor in colour."""
    facts = example_facts(status="promoted", forced=True)
    page = render_report(facts)
    assert "Forced This model was made champion by force, against the rules" in HtmlPage(page).words
    assert '<span class="chip forced">' in page
    assert ".forced" in page
    assert "Promoted This model" not in HtmlPage(page).words
    assert render_markdown(facts, {}).startswith("# This model was made champion by force, against the rules\n")


def test_numbers_from_the_sample_are_never_shown_without_the_warning() -> None:
    """The banner stands above everything where the data was generated, and nowhere else."""
    for facts in (example_facts(), _bare_facts()):
        sample = replace(facts, sample=True)
        words = HtmlPage(render_report(sample)).words
        assert SAMPLE_WARNING in words
        assert words.index(SAMPLE_WARNING) < words.index("Sentiment pipeline")
        markdown = render_markdown(sample, {})
        assert markdown.index(SAMPLE_WARNING) < markdown.index("test reviews judged right")
        assert SAMPLE_WARNING not in render_report(facts) + render_markdown(facts, {})


def test_words_from_outside_never_become_markup(svgs: dict[str, str]) -> None:
    """Names, reasons, ids and commands may hold tags: the page and the artifact show them, and nothing runs."""
    facts = example_facts(HOSTILE, figures=svgs)
    source = render_report(facts)
    assert HtmlPage(source).tags["script"] == 0
    assert "<script" not in source.lower()
    assert source.count("alert(") >= 12
    markdown = render_markdown(facts, {})
    outside_code = re.sub(r"```.*?```|`+[^`].*?`+", "", markdown, flags=re.DOTALL)
    assert set(re.findall(r"<[^>]*>", outside_code)) == {"<details>", "</details>", "<summary>", "</summary>"}


def test_markdown_tables_keep_their_columns() -> None:
    """No word from outside adds a cell to a row."""
    columns = 0
    for line in render_markdown(example_facts(HOSTILE), {}).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line.strip())) if line.startswith("|") else 0
        assert columns == 0 or cells in (0, columns), line
        columns = cells


def test_the_artifact_shows_small_figures_and_stays_small() -> None:
    """Figures are embedded while there is room; those left out are named."""
    small = render_markdown(example_facts(), dict.fromkeys(ARTIFACT_FIGURES, b"\x89PNG"))
    assert small.count("](data:image/png;base64,iVBORw==)") == len(ARTIFACT_FIGURES)
    assert "In the page only" not in small

    large = render_markdown(example_facts(), dict.fromkeys(ARTIFACT_FIGURES, b"x" * 60_000))
    assert len(large.encode()) < ARTIFACT_BYTES
    assert large.count("](data:") == 3
    assert "In the page only, to keep this small: roc, reliability, scores." in large


def test_many_sources_do_not_flood_the_report() -> None:
    """A folder of ten thousand files shows the first and counts the rest."""
    facts = example_facts()
    assert facts.data is not None
    many = replace(facts, data=replace(facts.data, sources={f"s{place}": 1 for place in range(10_000)}))
    words = HtmlPage(render_report(many)).words
    assert "and 9,975 more" in words
    assert "s25" not in words
    assert len(render_markdown(many, {})) < 20_000


def test_models_are_ranked_within_their_kind() -> None:
    """The model stands first, then its parts and the baselines, the best of each first; leads are plain differences."""
    evaluation = example_evaluation()
    models = rank_models(evaluation)
    assert [model.kind for model in models] == ["model", "part", "part", "baseline", "baseline"]
    assert [model.label for model in models][-1] == "majority baseline"
    for kind in ("part", "baseline"):
        accuracies = [model.scores["accuracy"] for model in models if model.kind == kind]
        assert accuracies == sorted(accuracies, reverse=True)
    leads = lead_over_baselines(evaluation)
    assert list(leads) == ["linear", "majority"]
    assert leads["majority"] == evaluation["model"]["accuracy"] - evaluation["baselines"]["majority"]["accuracy"]


def test_the_scale_of_the_headline_keeps_order_and_bounds() -> None:
    """Dots lie on the scale in the order of the accuracies; a baseline far below is said to be off it."""
    page = render_report(_bare_facts())
    rungs = re.findall(r'class="rung (\w+)".*?</li>', page, flags=re.DOTALL)
    assert rungs == ["model", "part", "part", "baseline", "baseline"]
    dots = [float(left) for left in re.findall(r'<b style="left:([\d.]+)%">', page)]
    accuracies = [model.scores["accuracy"] for model in rank_models(example_evaluation())][:4]
    assert len(dots) == 4
    assert sorted(range(4), key=dots.__getitem__) == sorted(range(4), key=accuracies.__getitem__)
    assert all(0 <= dot <= 100 for dot in dots)
    assert page.count("off the scale") == 1
