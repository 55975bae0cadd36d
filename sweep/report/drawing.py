"""Common parts of all pictures: palette, sizes, style, files, and SVG for a page or a notebook."""

from __future__ import annotations

import io
import os
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal
from xml.etree import ElementTree

import matplotlib as mpl
from cycler import cycler
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import Formatter
from rich.cells import cell_len

from sweep.number import number

# Told apart by eyes without red or green cones, and by their lightness: see tests/report/test_drawing.py. The page
# has a second set for its dark theme.
COLORS = ("#0072b2", "#d55e00", "#119977", "#6b1030", "#5a3fd8")
DARK = ("#4aa8e8", "#e8792e", "#8ff0cf", "#ffe08a", "#8a6cff")
# One colour has one meaning in every picture: what was measured, what went wrong (a failed run, a wrong answer),
# what was calibrated. Variants that share axes have those colours that mean nothing else.
MEASURED, WRONG, CALIBRATED = COLORS[:3]
VARIANTS = (MEASURED, *COLORS[3:])
INK, SOFT, RULE, PAPER = "#000000", "#5a626b", "#d5d9de", "#ffffff"
CLASSES = {**{color: str(i) for i, color in enumerate(COLORS)}, SOFT: "soft", RULE: "rule", PAPER: "paper"}

Size = Literal["screen", "column", "page", "card", "wide"]
# Width in inches and size of text in points: for a notebook, one and both columns of a paper, the HTML page's cards.
SIZES: Mapping[str, tuple[float, float]] = {
    "screen": (6.0, 9), "column": (3.35, 7.5), "page": (6.9, 8), "card": (330 / 72, 12), "wide": (900 / 72, 12.5),
}  # fmt: skip

RC: Mapping[str, Any] = {
    "figure.dpi": 110,
    "text.parse_math": False,  # a dollar sign in a name starts no formula
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 6),
    "axes.prop_cycle": cycler(color=VARIANTS),
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "lines.linewidth": 1.6,
    # Text stays text, so that a journal can search it and an editor change it.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "sweep",
}


def _base() -> dict[str, Any]:
    """Return matplotlib's own settings where it has read others from the working folder, else nothing.

    That folder may be a stranger's, and a setting can hand the words of a picture to LaTeX.
    """
    if os.path.dirname(os.path.abspath(mpl.matplotlib_fname())) != os.getcwd():
        return {}
    kept = ("backend", "interactive", "toolbar", "timezone", "webagg", "tk.", "date.epoch", "savefig.directory")
    return {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith(kept)}


_BASE = _base()


MARGIN = 0.08  # inches around a .png: the words of a picture reach its edges, as a page or a column wants it


class Picture(Figure):
    """A figure that a notebook shows without pyplot. preset: its size of text decides how many numbers an axis has."""

    preset: Size = "screen"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the picture with two pixels for one of the screen, and how many of those it is wide and high."""
        made = _saved(self, format="png", dpi=2 * RC["figure.dpi"])
        width, height = (int.from_bytes(made[at : at + 4], "big") // 2 for at in (16, 20))  # of the PNG's header
        return made, {"width": width, "height": height}


@contextmanager
def style(size: Size = "screen") -> Iterator[None]:
    """Use the style of all our figures inside the block; matplotlib's settings are put back."""
    points = SIZES[size][1]
    sized = {
        "font.size": points, "axes.titlesize": points, "axes.labelsize": points, "legend.fontsize": points,
        "xtick.labelsize": points, "ytick.labelsize": points, "figure.titlesize": points, "figure.labelsize": points,
    }  # fmt: skip
    # Not rc_context: a notebook's backend turns interactive drawing on inside the block, and that has to stay.
    settings: Any = mpl.rcParams
    ours = {**_BASE, **RC, **sized}
    before = {key: settings[key] for key in ours}
    settings.update(ours)
    try:
        yield
    finally:
        settings.update(before)


def lines(size: Size) -> float:
    """Return the width of a preset in heights of a line of text."""
    width, points = SIZES[size]
    return 72 * width / points


def wrapped(text: str, size: Size) -> str:
    """Return text broken into lines that fit a preset's width."""
    return "\n".join(textwrap.wrap(text, int(lines(size) * 1.75)))


def breadth(texts: Iterable[str]) -> float:
    """Return how wide the widest of these texts is, in lines of text."""
    return max((0.62 * cell_len(line) for text in texts for line in text.splitlines()), default=0.0)


def tick_breadth(axis: Any) -> float:
    """Return how wide the widest number at an axis is, in lines of text."""
    return breadth(axis.get_major_formatter().format_ticks(list(axis.get_majorticklocs())))


def legend(axes: Axes, **options: Any) -> None:
    """Name what is drawn, above the axes."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, borderpad=0.2, **options)


def fitted(name: str, size: Size) -> str:
    """Return the name of a line in lines that fit a legend."""
    return "\n".join(textwrap.wrap(name, int((lines(size) - 9) / 0.62)))


class Frame:
    """A figure of a preset's width, with panels at places that are given in lines of its text.

    A layout engine would draw everything twice more to measure it.

    title: what the picture shows, above it. height: of one panel. above, below: room for words, and `between` for
    those between two rows of panels. scaled: the axes' limits follow what is drawn; else they have to be set.
    """

    def __init__(
        self, size: Size, height: float, title: str, *, above: float = 0.0, below: float = 3.5, down: int = 1,
        across: int = 1, between: float = 0.0, scaled: bool = False,
    ) -> None:  # fmt: skip
        width, points = SIZES[size]
        title = wrapped(title, size)
        self.height, self.below, self.between = height, below, between
        self.across, self.down = across, down
        self.wide = lines(size)
        self.tall = 1.25 * len(title.splitlines()) + 0.7 + above + down * height + (down - 1) * between + below
        self.figure = Picture(figsize=(width, self.tall * points / 72))
        self.figure.preset = size
        FigureCanvasAgg(self.figure)
        self.figure.text(0, 1, title, ha="left", va="top")
        made = self.figure.subplots(down, across, sharex=True, sharey=True, squeeze=False)
        self.panels: list[Axes] = list(made.ravel())
        self.axes = self.panels[0]
        for axes in self.panels:
            axes.set_title("", y=1)  # a place that is given is not looked for
            axes.set_autoscale_on(scaled)

    @property
    def middle(self) -> float:
        """Return the height of the panels' middle, as a share of the figure's."""
        return (self.below + (self.down * self.height + (self.down - 1) * self.between) / 2) / self.tall

    def place(self, left: float, right: float = 0.8, gap: float = 0.0) -> None:
        """Give the panels their places: room at the left and right, and a gap between two beside each other."""
        each = (self.wide - left - right - gap * (self.across - 1)) / self.across
        for i, axes in enumerate(self.panels):
            row, column = divmod(i, self.across)
            bottom = self.below + (self.down - 1 - row) * (self.height + self.between)
            x, wide = left + column * (each + gap), each
            if axes.get_box_aspect():
                wide = min(each, self.height)
            axes.set_position((x / self.wide, bottom / self.tall, wide / self.wide, self.height / self.tall))
            axes.xaxis.set_label_coords(0.5, -1.95 / self.height)
            axes.yaxis.set_label_coords(-(self.ticks() + 0.5) / wide, 0.5)

    def numbered(self, right: float = 0.8) -> Figure:
        """Return the figure with room for the numbers at the axes of its only panel, and at its right."""
        for axis in (self.axes.xaxis, self.axes.yaxis):
            axis.set_major_formatter(Numbers())
        self.place(self.ticks() + 1.6, right)
        return self.figure

    def ticks(self) -> float:
        """Return the room that the numbers beside the first panel take."""
        return tick_breadth(self.axes.yaxis) + 0.6


class Numbers(Formatter):
    """Numbers at an axis: as many decimals as the finest of them needs."""

    def __call__(self, value: float, pos: int | None = None) -> str:
        return number(value, digits=8)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        near = 1e-6 * max((abs(value) for value in values), default=0.0)
        for digits in range(1, 9):  # the fewest that tell what the ticks are
            found = [number(value, digits=digits) for value in values]
            if all(abs(float(text) - value) <= near for text, value in zip(found, values, strict=True)):
                break
        if any("e" in one for one in found):
            return found
        decimals = max((len(one.partition(".")[2]) for one in found), default=0)
        return [number(value, decimals) for value in values]


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to `path`: .pdf or .svg for a paper, .png for a screen.

    Vector files hold text as text and no time stamp: the same figure gives the same bytes.
    """
    kind = os.fspath(path).rpartition(".")[2].lower()
    made = _saved(figure, format=kind, dpi=300)
    with open(path, "wb") as file:
        file.write(made)


def _saved(figure: Figure, **options: Any) -> bytes:
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(options["format"])
    if options["format"] == "png":
        options["bbox_inches"] = figure.bbox_inches.padded(MARGIN)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), style(getattr(figure, "preset", "screen")):
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's own font may have it
        figure.savefig(buffer, metadata=undated, **options)
    return buffer.getvalue()


def inline(figure: Figure, name: str, label: str) -> Markup:
    """Return a figure as an SVG element for a page that allows no inline style.

    name: what its ids begin with. label: the text for screen readers. Text takes the page's font and colour, and each
    colour of the palette a class (`f0` to fill, `s0` to stroke), so that a style sheet can follow the theme.
    """
    root = ElementTree.fromstring(_saved(figure, format="svg"))
    _, _, width, height = root.attrib["viewBox"].split()
    inlined = _Inlined(name)
    return Markup(
        f'<svg class="picture" role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" fill="currentColor" stroke-linejoin="round">{"".join(map(inlined.element, root))}</svg>'
    )


class _Inlined:
    """Writes what matplotlib drew without inline styles, clipping, long ids and superfluous digits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ids: dict[str, str] = {}

    def element(self, node: ElementTree.Element) -> str:
        tag = node.tag.rpartition("}")[2]
        if tag in ("metadata", "style", "clipPath"):
            return ""
        children = list(node)
        hints = node.get("id", "").split("|") if tag == "g" else []
        if len(hints) == len(children) > 0 and hints[0].endswith(";"):
            for child, hint in zip(children, hints, strict=True):
                ElementTree.SubElement(child, "title").text = hint.rstrip(";")
        inside = escape((node.text or "").strip()) + Markup("".join(map(self.element, children)))
        given = self._attributes(node, tag)
        if tag in ("g", "defs") and not inside:
            return ""
        if tag == "g" and not given:
            return inside
        return f"<{tag}{given}>{inside}</{tag}>" if inside else f"<{tag}{given}/>"

    def _attributes(self, node: ElementTree.Element, tag: str) -> str:
        kept: dict[str, str] = {}
        for key, value in node.attrib.items():
            key = key.rpartition("}")[2]
            if key == "style":
                kept |= _presented(value, text=tag == "text")
            elif key == "href":
                kept["href"] = f"#{self._id(value.removeprefix('#'))}"
            elif key == "id" and tag == "path":  # of a marker, which is used again
                kept["id"] = self._id(value)
            elif key in _PLACES or (key == "transform" and "rotate(-0 " not in value):
                kept[key] = _short(value)
        return "".join(f' {key}="{escape(value)}"' for key, value in kept.items())

    def _id(self, given: str) -> str:
        return self.ids.setdefault(given, f"{self.name}-{len(self.ids)}")


def _presented(style: str, *, text: bool) -> dict[str, str]:
    """Return a style attribute's declarations as presentation attributes, colours of the palette as classes too."""
    said = dict(part.strip().split(": ", 1) for part in style.split(";") if ": " in part)
    classes = []
    for key, letter in (("fill", "f"), ("stroke", "s")):
        if (color := said.get(key, "")) in CLASSES:
            classes.append(letter + CLASSES[color])
        elif color == INK:
            said[key] = "currentColor"
    kept = {key: said[key] for key in _KEPT if key in said}
    if text:
        if found := re.search(r"([\d.]+)px", said.get("font", "") + said.get("font-size", "")):
            kept["font-size"] = found[1]
        if "bold" in said.get("font", "") + said.get("font-weight", "") or "700" in said.get("font", ""):
            kept["font-weight"] = "600"
    return kept | ({"class": " ".join(classes)} if classes else {})


_PLACES = ("d", "x", "y", "width", "height", "points")
_KEPT = (
    "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap",
    "opacity", "text-anchor",
)  # fmt: skip


def _short(text: str) -> str:
    """Return text with its numbers to a tenth of a point."""
    return " ".join(re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), text).split())
