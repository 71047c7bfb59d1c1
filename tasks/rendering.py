"""How facts become pages: templates, numbers put into words once, and foreign text that cannot become markup."""

import base64
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).with_name("templates")
MISSING = "–"
_MARKDOWN_SPECIAL = re.compile(r"([\\`*_\[\]|#~$])")  # ASCII punctuation that CommonMark or GFM may read as markup


def render_template(name: str, **values: Any) -> str:
    """Fill a template of `tasks/templates`; every value is escaped for HTML or for Markdown, as the name ends."""
    return _environment(name.endswith(".html")).get_template(name).render(values)


def template_digest() -> str:
    """Return the SHA-256 of all templates: code that the cache key of a page has to count, though it is not Python."""
    digest = hashlib.sha256()
    for path in sorted(TEMPLATES.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def embed_pictures(figures: Mapping[str, bytes], most_bytes: int) -> tuple[dict[str, Any], list[str]]:
    """Return PNGs as addresses that hold the picture itself, by name, and the names of those that there was no room for."""
    from markupsafe import Markup

    shown: dict[str, Any] = {}
    for name, png in figures.items():
        address = f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
        if len(address) <= most_bytes:
            shown[name] = Markup(address)
            most_bytes -= len(address)
    return shown, [name for name in figures if name not in shown]


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share as a percentage.

    >>> percent(0.92014, 2)
    '92.01%'
    """
    return MISSING if share is None else f"{share * 100:.{digits}f}%"


def percent_range(interval: Sequence[float] | None, digits: int = 1) -> str:
    """Return an interval of shares.

    >>> percent_range([0.9154, 0.926])
    '91.5–92.6%'
    """
    return MISSING if not interval else f"{interval[0] * 100:.{digits}f}–{interval[1] * 100:.{digits}f}%"


def points(difference: float | None, digits: int = 2) -> str:
    """Return a difference of shares in percentage points, always signed.

    >>> points(-0.0012)
    '−0.12'
    """
    return MISSING if difference is None else f"{difference * 100:+.{digits}f}".replace("-", "−")


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with a fixed count of decimals."""
    return MISSING if value is None else f"{value:.{digits}f}"


def number_range(interval: Sequence[float] | None, digits: int = 4) -> str:
    """Return an interval of numbers."""
    return MISSING if not interval else f"{interval[0]:.{digits}f}–{interval[1]:.{digits}f}"


def count(value: int | None) -> str:
    """Return a count with its thousands apart."""
    return MISSING if value is None else f"{value:,}"


def duration(seconds: float | None) -> str:
    """Return a span of time as people say it.

    >>> duration(0.034), duration(12.3), duration(125)
    ('0.03 s', '12.3 s', '2 min 05 s')
    """
    if seconds is None:
        return MISSING
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def escape_markdown(text: object) -> str:
    """Return text that Markdown shows as it is: on one line, with neither markup nor HTML in it.

    >>> escape_markdown("a|b <b>*c*")
    'a\\\\|b &lt;b&gt;\\\\*c\\\\*'
    """
    flat = " ".join(str(text).split())
    html_free = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN_SPECIAL.sub(r"\\\1", html_free)


def inline_code(text: object) -> str:
    """Return text as a Markdown code span, safe in a table cell and whatever backticks it holds."""
    flat = " ".join(str(text).split()).replace("|", "\\|") or " "
    fence = "`" * (_longest_run(flat, "`") + 1)
    padding = " " if "`" in flat else ""
    return f"{fence}{padding}{flat}{padding}{fence}"


def code_block(text: str, language: str = "text") -> str:
    """Return text as a fenced Markdown block that the text itself cannot close."""
    fence = "`" * max(3, _longest_run(text, "`") + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def group_settings(settings: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Return every setting by its dotted name, as `--set` takes it, under its first name; single values come first.

    >>> group_settings({"model": {"epochs": 5}, "seed": 7})
    {'run': [('seed', '7')], 'model': [('model.epochs', '5')]}
    """
    single = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    groups = {"run": single} if single else {}
    nested = {name: {name: value} for name, value in settings.items() if isinstance(value, Mapping)}
    return {name: list(_flatten(group)) for name, group in (groups | nested).items()}


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", MISSING if value is None else str(value)


def _longest_run(text: str, character: str) -> int:
    return max((len(run) for run in re.findall(f"{re.escape(character)}+", text)), default=0)


@functools.cache
def _environment(html: bool) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def markdown_value(value: Any) -> Any:
        return value if isinstance(value, Markup) else escape_markdown(value)

    def code(text: object) -> Markup:
        return Markup(inline_code(text))

    def fenced(text: str, language: str = "text") -> Markup:
        return Markup(code_block(text, language))

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=html,
        finalize=None if html else markdown_value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    words = (percent, percent_range, points, number, number_range, count, duration, code, fenced)
    environment.filters |= {function.__name__: function for function in words}
    return environment
