import html

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tasks.rendering import escape_markdown, inline_code

MARKUP = st.sampled_from("|`\\<>&*_[]()#~!$-+ ")
TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn")) | MARKUP, max_size=40)
PARSER = MarkdownIt("commonmark").enable("table").enable("strikethrough")


@given(TEXT)
def test_any_text_survives_a_markdown_table(text: str) -> None:
    """What a CommonMark parser shows is the text, on one line, and no markup of it."""
    flat = " ".join(text.split())
    shown = PARSER.render(f"| a | b |\n| - | - |\n| {escape_markdown(text)} | {inline_code(text)} |\n")
    cells = [cell.split("</td>")[0] for cell in shown.split("<td>")[1:]]
    assert html.unescape(cells[0]) == flat
    assert html.unescape(cells[1].removeprefix("<code>").removesuffix("</code>")) == (flat or " ")
