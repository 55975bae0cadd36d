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

# Distinct for colour-blind readers, and by lightness alone: see tests/report/test_drawing.py. The page has a second
# set for its dark theme.
COLORS = ("#0072b2", "#d55e00", "#119977", "#6b1030", "#5a3fd8")
DARK = ("#4aa8e8", "#e8792e", "#8ff0cf", "#ffe08a", "#8a6cff")
# Each colour has one meaning in every picture: measured, wrong (a failed run or answer), calibrated. Variants that
# share axes use the colours that have no other meaning.
MEASURED, WRONG, CALIBRATED = COLORS[:3]
VARIANTS = (MEASURED, *COLORS[3:])
INK, SOFT, RULE, PAPER = "#000000", "#5a626b", "#d5d9de", "#ffffff"
CLASSES = {**{color: str(i) for i, color in enumerate(COLORS)}, SOFT: "soft", RULE: "rule", PAPER: "paper"}

Size = Literal["screen", "column", "page", "card", "wide"]
# Width in inches and text size in points, for a notebook, one and both columns of a paper, and the cards of the page.
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
    # Text stays text, so that it can be searched and edited.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "sweep",
}


def _base() -> dict[str, Any]:
    """Return the defaults of matplotlib if it has read settings from the working folder, else nothing.

    That folder may come from a stranger, and a setting can pass the text of a picture to LaTeX.
    """
    if os.path.dirname(os.path.abspath(mpl.matplotlib_fname())) != os.getcwd():
        return {}
    kept = ("backend", "interactive", "toolbar", "timezone", "webagg", "tk.", "date.epoch", "savefig.directory")
    return {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith(kept)}


_BASE = _base()


MARGIN = 0.08  # inches around a .png, because the text of a picture reaches its edges


class Picture(Figure):
    """A figure that a notebook shows without pyplot. preset: its text size decides how many numbers an axis has."""

    preset: Size = "screen"

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the picture at twice the resolution of the screen, with its width and height in screen pixels."""
        made = _saved(self, format="png", dpi=2 * RC["figure.dpi"])
        width, height = (int.from_bytes(made[at : at + 4], "big") // 2 for at in (16, 20))  # from the PNG header
        return made, {"width": width, "height": height}


@contextmanager
def style(size: Size = "screen") -> Iterator[None]:
    """Use the style of all our figures inside the block, and restore the settings of matplotlib after it."""
    points = SIZES[size][1]
    sized = {
        "font.size": points, "axes.titlesize": points, "axes.labelsize": points, "legend.fontsize": points,
        "xtick.labelsize": points, "ytick.labelsize": points, "figure.titlesize": points, "figure.labelsize": points,
    }  # fmt: skip
    # Not rc_context: a notebook backend may turn interactive drawing on inside the block, and that has to stay.
    settings: Any = mpl.rcParams
    ours = {**_BASE, **RC, **sized}
    before = {key: settings[key] for key in ours}
    settings.update(ours)
    try:
        yield
    finally:
        settings.update(before)


def lines(size: Size) -> float:
    """Return the width of a preset, in line heights of its text."""
    width, points = SIZES[size]
    return 72 * width / points


def wrapped(text: str, size: Size) -> str:
    """Return text broken into lines that fit a preset's width."""
    return "\n".join(textwrap.wrap(text, int(lines(size) * 1.75)))


def breadth(texts: Iterable[str]) -> float:
    """Return the width of the widest of these texts, in line heights."""
    return max((0.62 * cell_len(line) for text in texts for line in text.splitlines()), default=0.0)


def tick_breadth(axis: Any) -> float:
    """Return the width of the widest number at an axis, in line heights."""
    return breadth(axis.get_major_formatter().format_ticks(list(axis.get_majorticklocs())))


def legend(axes: Axes, **options: Any) -> None:
    """Add a legend above the axes."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, borderpad=0.2, **options)


def fitted(name: str, size: Size) -> str:
    """Return the name of a curve, wrapped to fit a legend."""
    return "\n".join(textwrap.wrap(name, int((lines(size) - 9) / 0.62)))


class Frame:
    """A figure of a preset's width, with panels at given places. All lengths are in line heights of its text.

    A layout engine would have to draw everything two more times to measure it.

    title: above the picture. height: of one panel. above, below, between: room for text above and below the panels and
    between their rows. scaled: the limits of the axes follow the data; otherwise they have to be set.
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
            axes.set_title("", y=1)  # matplotlib does not compute a place that is given
            axes.set_autoscale_on(scaled)

    @property
    def middle(self) -> float:
        """Return the height of the panels' middle, as a share of the figure's."""
        return (self.below + (self.down * self.height + (self.down - 1) * self.between) / 2) / self.tall

    def place(self, left: float, right: float = 0.8, gap: float = 0.0) -> None:
        """Place the panels, with room at the left and right and a gap between neighbours."""
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
    """Numbers at an axis, with as many decimals as the finest of them needs."""

    def __call__(self, value: float, pos: int | None = None) -> str:
        return number(value, digits=8)

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        near = 1e-6 * max((abs(value) for value in values), default=0.0)
        for digits in range(1, 9):  # the fewest digits that show the ticks exactly
            found = [number(value, digits=digits) for value in values]
            if all(abs(float(text) - value) <= near for text, value in zip(found, values, strict=True)):
                break
        if any("e" in one for one in found):
            return found
        decimals = max((len(one.partition(".")[2]) for one in found), default=0)
        return [number(value, decimals) for value in values]


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure to `path`: .pdf or .svg for a paper, .png for a screen.

    Vector files hold text as text and no time stamp, so the same figure gives the same bytes.
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
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a font of the reader may have it
        figure.savefig(buffer, metadata=undated, **options)
    return buffer.getvalue()


def inline(figure: Figure, name: str, label: str) -> Markup:
    """Return a figure as an SVG element for a page that allows no inline style.

    name: the prefix of its ids. label: the text for screen readers. Text takes the font and colour of the page. Each
    colour of the palette becomes a class (`f0` to fill, `s0` to stroke), so that a style sheet can follow the theme.
    """
    root = ElementTree.fromstring(_saved(figure, format="svg"))
    _, _, width, height = root.attrib["viewBox"].split()
    inlined = _Inlined(name)
    return Markup(
        f'<svg class="picture" role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" fill="currentColor" stroke-linejoin="round">{"".join(map(inlined.element, root))}</svg>'
    )


class _Inlined:
    """The SVG of matplotlib written without inline styles, clipping, long ids and superfluous digits."""

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
            elif key == "id" and tag == "path":  # the path of a marker, which is used again
                kept["id"] = self._id(value)
            elif key in _PLACES or (key == "transform" and "rotate(-0 " not in value):
                kept[key] = _short(value)
        return "".join(f' {key}="{escape(value)}"' for key, value in kept.items())

    def _id(self, given: str) -> str:
        return self.ids.setdefault(given, f"{self.name}-{len(self.ids)}")


def _presented(style: str, *, text: bool) -> dict[str, str]:
    """Return the declarations of a style attribute as presentation attributes, and palette colours also as classes."""
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
    """Return text with its numbers rounded to a tenth of a point."""
    return " ".join(re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), text).split())
