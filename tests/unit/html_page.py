"""A page taken apart, for the tests of everything that is rendered."""

from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "br", "path", "use", "img"}


class HtmlPage(HTMLParser):
    """A page taken apart: its words, tags, ids, links, and whether every tag is closed in turn."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that opens."""
        self.tags[tag] += 1
        if tag not in VOID:
            self.open.append(tag)
        self._note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag that opens and closes at once."""
        self._note(attrs)

    def handle_endtag(self, tag: str) -> None:
        """Check that the tag that closes is the one that was opened last."""
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note what people read."""
        if "style" not in self.open:
            self.words = " ".join((self.words + " " + data).split())

    def _note(self, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in {"href", "src", "xlink:href", "action"}]


def check_that_it_stands_alone(source: str) -> HtmlPage:
    """Check that a page is one well-formed file: no script, no address outside it, no id twice, a policy that forbids the rest."""
    page = HtmlPage(source)
    assert page.open == []
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    assert len(page.ids) == len(set(page.ids))
    assert {address for address in page.addresses if not address.startswith("#")} == set()
    assert {address[1:] for address in page.addresses} <= set(page.ids)
    assert "default-src 'none'" in source
    assert "@import" not in source
    assert "prefers-color-scheme: dark" in source
    return page
