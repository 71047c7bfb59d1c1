import re
from dataclasses import replace

import pytest
from html_page import HtmlPage, check_that_it_stands_alone
from report_example import HOSTILE
from summary_example import example_drift, example_summary

from tasks.drawing import to_svg
from tasks.summary_figures import draw_summary_figures
from tasks.summary_page import ARTIFACT_BYTES, SAMPLE_WARNING, FileFacts, SummaryFacts, render_markdown, render_summary


@pytest.fixture(scope="module")
def svgs() -> dict[str, str]:
    """The figures of the example."""
    facts = example_summary()
    return {name: to_svg(figure, name) for name, figure in draw_summary_figures(facts.drift, facts.periods).items()}


def test_the_page_stands_alone(svgs: dict[str, str]) -> None:
    """One well-formed page: no script, no address outside it, no id twice, and a policy that forbids the rest."""
    page = check_that_it_stands_alone(render_summary(example_summary(figures=svgs)))
    assert page.tags["svg"] == len(svgs) == 6


def test_the_page_tells_every_fact() -> None:
    """Each fact that was given can be read on the page."""
    words = HtmlPage(render_summary(example_summary())).words
    for expected in [
        "Drift These reviews are not like those of training", "scored with model-word · preset preset-word",
        "47.0% positive, of 2,980 reviews that could be judged, from 2 files",
        "language 79.8% English, 20.2% German in training 100.0% English", "1 file could not be scored",
        "broken-word.csv It holds no table: word.",
        "Rows read 3,010", "Scored 3,003", "Quarantined 7", "Truncated 80", "Empty 23", "Unknown words 10 no word that the model knows",
        "word.csv 2,510 2,503 7 48.4% 40.3% 11.3%", "other.jsonl 500 500 0 40.0% 60.0% 0.0%",
        "3,000 judged reviews have a date; of 17 it is missing", "Latest periods", "All 43 periods",
        "Most certainly positive", "Most certainly negative", "Most uncertain", "word-398 word.csv 399 1.0000",
        "5,000 with words in them, against the 4,000 held-out rows", "length as in training median of 91–107 tokens",
        "unknown words drifted 12.93% of tokens 1.01% of tokens 0.848 0.011", "in 0.2% of runs",
    ]:  # fmt: skip
        assert expected in words, expected


def test_a_page_of_little_is_still_a_page() -> None:
    """Facts that are missing leave neither an empty section nor a None, and every link leads somewhere."""
    for facts in (SummaryFacts("m1"), SummaryFacts("m1", files=[FileFacts("a.csv", 0, 0, 0)])):
        page = HtmlPage(render_summary(facts))
        assert "Not compared Reviews were scored" in page.words
        assert not re.search(r"\b(None|nan|Undefined)\b", page.words + render_markdown(facts, {}))
        assert {address[1:] for address in page.addresses} == set(page.ids) == {"rows"} | ({"files"} if facts.files else set())


@pytest.mark.parametrize(
    ("changes", "rows", "words"),
    [
        ({"german": 0.2}, 5000, "These reviews are not like those of training"),
        ({"german": 0.0}, 5000, "These reviews look like those of training"),
        ({"german": 0.0}, 20, "Too few reviews to compare with those of training"),
    ],
)
def test_the_verdict_is_said_first(changes: dict[str, float], rows: int, words: str) -> None:
    """Page and artifact open with how the rows compare with those of training."""
    facts = example_summary(drift=example_drift(rows=rows, **changes))
    assert f"<h1>{words}</h1>" in render_summary(facts)
    assert render_markdown(facts, {}).startswith(f"# {words}\n")


def test_rows_that_were_trained_on_are_said() -> None:
    """Where the model knows the rows, page and artifact say so and why less is compared."""
    facts = example_summary(drift=replace(example_drift(german=0.0), seen_share=0.8))
    for words in (HtmlPage(render_summary(facts)).words, render_markdown(facts, {})):
        assert "About 80% of the rows were training rows of this model." in words
    assert "training rows of this model" not in render_summary(example_summary())


def test_scores_of_a_sample_model_are_never_shown_without_the_warning() -> None:
    """The banner stands above everything where the model was trained on generated reviews, and nowhere else."""
    sample = example_summary(sample=True)
    words = HtmlPage(render_summary(sample)).words
    assert words.index(SAMPLE_WARNING) < words.index("Sentiment pipeline")
    assert render_markdown(sample, {}).index(SAMPLE_WARNING) < render_markdown(sample, {}).index("could be judged")
    assert SAMPLE_WARNING not in render_summary(example_summary()) + render_markdown(example_summary(), {})


def test_words_from_outside_never_become_markup() -> None:
    """Names, ids and reasons may hold tags: the page and the artifact show them, and nothing runs."""
    facts = example_summary(HOSTILE)
    source = render_summary(facts)
    assert HtmlPage(source).tags["script"] == 0
    assert "<script" not in source.lower()
    assert source.count("alert(") >= 30
    markdown = render_markdown(facts, {})
    outside_code = re.sub(r"```.*?```|`+[^`].*?`+", "", markdown, flags=re.DOTALL)
    assert set(re.findall(r"<[^>]*>", outside_code)) == {"<details>", "</details>", "<summary>", "</summary>"}
    columns = 0
    for line in markdown.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line.strip())) if line.startswith("|") else 0
        assert columns == 0 or cells in (0, columns), line
        columns = cells


def test_the_artifact_stays_small() -> None:
    """Pictures are embedded while there is room and named where there is none; ten thousand files do not flood page or artifact."""
    large = render_markdown(example_summary(), dict.fromkeys(("drift-length", "drift-score"), b"x" * (ARTIFACT_BYTES // 2)))
    assert large.count("](data:") == 1
    assert "In the page only, to keep this small: drift-score." in large
    files = [FileFacts(f"s{place}.csv", 1, 1, 0, {"positive": 1}) for place in range(10_000)]
    many = example_summary(files=files, failed={f"f{place}": "why" for place in range(10_000)})
    assert "and 9,800 more" in HtmlPage(render_summary(many)).words
    assert len(render_markdown(many, {})) < 20_000


def test_a_page_is_the_same_whenever_it_is_made(svgs: dict[str, str]) -> None:
    """Equal facts give equal bytes: nothing tells when, or how long, or that a run was broken off in between."""
    facts = example_summary()
    again = {name: to_svg(figure, name) for name, figure in draw_summary_figures(facts.drift, facts.periods).items()}
    assert render_summary(replace(facts, figures=svgs)) == render_summary(replace(facts, figures=again))
