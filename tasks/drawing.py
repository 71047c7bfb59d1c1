"""How every figure looks and leaves: one calm style, safe for colour-blind readers, as PNG for Prefect and SVG for a page.

Every figure belongs to no global state. No text is read as mathtext.
"""

import io
import re
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, MUTED, RULE = "#fcfcfb", "#22303c", "#5b6b79", "#d9dfe4"
BLUE, ORANGE, GREEN, PURPLE = "#0f6cbd", "#b44d06", "#0b8457", "#8a4fb5"  # told apart in every common colour blindness
COLOURS = {"paper": PAPER, "ink": INK, "muted": MUTED, "rule": RULE, "blue": BLUE, "orange": ORANGE, "green": GREEN, "purple": PURPLE}
SERIES = (BLUE, ORANGE, GREEN, PURPLE, MUTED)
DASHES = ("-", "--", "-.", ":", (0, (1, 1)))
WIDTH, HEIGHT = 5.6, 3.7  # inches
PNG_COLOURS = 64

STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": PAPER,
    "legend.facecolor": PAPER,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.9,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.1,
    "lines.linewidth": 1.9,
    "svg.fonttype": "none",
}


def import_plotting() -> None:
    """Import what drawing and saving need, which takes most of a second: for a moment at which nothing else has to be waited for."""
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.dates  # noqa: F401


def figure_style() -> AbstractContextManager[None]:
    """Return the context in which figures are drawn and saved."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def new_figure(title: str, x_label: str, y_label: str, width: float = WIDTH, height: float = HEIGHT) -> "tuple[Figure, Axes]":
    """Return an empty figure with a title and named axes; sizes are in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.set(xlabel=x_label, ylabel=y_label)
    return figure, axes


def with_note(figure: "Figure", axes: "Axes", note: str) -> "Figure":
    """Write a sentence where there is nothing to draw."""
    axes.text(0.5, 0.5, note, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set(xticks=[], yticks=[])
    return figure


def few_ticks() -> Any:
    """Return a locator for an axis with little room."""
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=2, integer=True)


def shortened(name: str, longest: int = 28) -> str:
    """Return a name that fits beside an axis; its end tells more than its beginning."""
    return name if len(name) <= longest else f"…{name[-longest + 1 :]}"


def to_png(figure: "Figure", dpi: int = 110) -> bytes:
    """Return the figure as PNG on paper of its own; a palette keeps it small enough for Prefect's database."""
    from PIL import Image

    drawn, small = io.BytesIO(), io.BytesIO()
    with figure_style():
        figure.savefig(drawn, format="png", dpi=dpi)
    image = Image.open(drawn).convert("RGB").quantize(PNG_COLOURS, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    return small.getvalue()


def to_svg(figure: "Figure", name: str) -> str:
    """Return the figure as an `<svg>` element for a page that may hold others.

    Colours are CSS variables (`--figure-ink` and so on) with this module's as fallback, so that a page can darken them.

    Args:
        figure: From one of this module's functions.
        name: Unique on the page: it salts the ids, so that equal figures are equal bytes and no two share an id.
    """
    import matplotlib

    buffer = io.StringIO()
    with figure_style(), matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True)
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r"<defs>\s*<style.*?</defs>\s*", "", svg, count=1, flags=re.DOTALL)  # it would style the whole page
    svg = svg.replace("<svg ", '<svg stroke-linejoin="round" stroke-linecap="butt" ', 1)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)  # matplotlib's plain numbering is the same in every figure
    for role, colour in COLOURS.items():
        svg = svg.replace(f": {colour}", f": var(--figure-{role}, {colour})")
    return svg
