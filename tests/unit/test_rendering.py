import html
from pathlib import Path
from shutil import copytree

import pytest
from markdown_it import MarkdownIt

from tasks.rendering import (
    TEMPLATES,
    code_block,
    count,
    duration,
    escape_markdown,
    group_settings,
    inline_code,
    number,
    number_range,
    percent,
    percent_range,
    points,
    template_digest,
)


def test_numbers_are_put_into_words_once() -> None:
    """What is missing is a dash; signs and thousands are those of print."""
    assert [percent(0.92014), percent(0.92014, 2), percent(None)] == ["92.0%", "92.01%", "–"]
    assert [percent_range([0.9154, 0.926]), percent_range(None)] == ["91.5–92.6%", "–"]
    assert [points(0.0041), points(-0.0012), points(0.0), points(None)] == ["+0.41", "−0.12", "+0.00", "–"]
    assert [number(0.25), number(None), number_range([0.1, 0.25], 2)] == ["0.2500", "–", "0.10–0.25"]
    assert [count(50_000), count(0), count(None)] == ["50,000", "0", "–"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0.034, "0.03 s"), (12.34, "12.3 s"), (125, "2 min 05 s"), (59.97, "60.0 s"), (7380, "2 h 03 min")],
)
def test_durations_read_as_people_say_them(seconds: float | None, words: str) -> None:
    """Hundredths below a second, minutes and hours above."""
    assert duration(seconds) == words


@pytest.mark.parametrize(
    "text",
    ["a|b", "<img src=x>", "*b* _i_ `c` ~~d~~ [](u)", "&amp; &lt;", "b\\s\\|", "# h", "![i](u)", "<!-- -->", "``"],
)
def test_foreign_text_reads_in_a_table_as_it_was_written(text: str) -> None:
    """A CommonMark parser gives back exactly the words that went in, whether escaped or as code."""
    page = f"| a | b |\n| - | - |\n| {escape_markdown(text)} | {inline_code(text)} |\n"
    shown = MarkdownIt("commonmark").enable("table").enable("strikethrough").render(page)
    assert f"<td>{html.escape(text)}</td>" in shown.replace("&quot;", '"')
    assert f"<td><code>{html.escape(text)}</code></td>" in shown.replace("&quot;", '"')


def test_a_block_is_not_closed_by_what_it_holds() -> None:
    """Text with a fence of its own stays inside the fence around it."""
    text = "before\n````\n# not a heading"
    shown = MarkdownIt("commonmark").render(code_block(text))
    assert shown == f'<pre><code class="language-text">{text}\n</code></pre>\n'


def test_settings_stand_by_their_dotted_names() -> None:
    """Every setting is listed once, as --set takes it; single values come first."""
    grouped = group_settings({"model": {"lstm": {"units": 96}, "epochs": 4}, "seed": 7, "sources": []})
    assert grouped == {
        "run": [("seed", "7"), ("sources", "[]")],
        "model": [("model.lstm.units", "96"), ("model.epochs", "4")],
    }
    assert group_settings({}) == {}


def test_the_digest_of_the_templates_is_that_of_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's cache key can count the templates: another word gives another digest."""
    copied = tmp_path / "templates"
    copytree(TEMPLATES, copied)
    before = template_digest()
    monkeypatch.setattr("tasks.rendering.TEMPLATES", copied)
    assert template_digest() == before
    with (copied / "report.md").open("a") as file:
        file.write("x")
    assert template_digest() != before
