"""What all pictures share: palette, sizes, style, files, and SVG that a page or a notebook can hold."""

from __future__ import annotations

import io
import os
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal
from xml.etree import ElementTree

import matplotlib as mpl
from cycler import cycler
from markupsafe import Markup, escape
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Told apart by eyes without red or green cones, and by their lightness: see tests/report/test_drawing.py. The page
# has a second set for its dark theme.
COLORS = ("#0072b2", "#d55e00", "#119977", "#6b1030", "#5a3fd8")
DARK = ("#4aa8e8", "#e8792e", "#8ff0cf", "#ffe08a", "#8a6cff")
FAILED = COLORS[1]
INK, SOFT, RULE, PAPER = "#000000", "#5a626b", "#d5d9de", "#ffffff"
CLASSES = {**{color: str(i) for i, color in enumerate(COLORS)}, SOFT: "soft", RULE: "rule", PAPER: "paper"}

Size = Literal["screen", "column", "page", "card", "wide"]
# Width in inches and size of text in points: for a notebook, one and both columns of a paper, the HTML page's cards.
SIZES: Mapping[str, tuple[float, float]] = {
    "screen": (6.0, 9), "column": (3.35, 7.5), "page": (6.9, 8), "card": (350 / 72, 12), "wide": (900 / 72, 12.5),
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
    "axes.prop_cycle": cycler(color=COLORS),
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


class Picture(Figure):
    """A figure that a notebook shows without pyplot."""

    def _repr_png_(self) -> bytes:
        return _saved(self, format="png", dpi=160)


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
    before = {key: settings[key] for key in (*RC, *sized)}
    settings.update({**RC, **sized})
    try:
        yield
    finally:
        settings.update(before)


def new(size: Size, height: float) -> Picture:
    """Return an empty figure of a preset's width; height: in lines of its text."""
    width, points = SIZES[size]
    figure = Picture(figsize=(width, height * points / 72), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def lines(size: Size) -> float:
    """Return how many lines of text would stand side by side in a preset's width: what fits is decided by it."""
    width, points = SIZES[size]
    return 72 * width / points


def wrapped(text: str, size: Size) -> str:
    """Return text broken into lines that fit a preset's width."""
    return "\n".join(textwrap.wrap(text, int(lines(size) * 1.75)))


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
    buffer = io.BytesIO()
    with warnings.catch_warnings(), style():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's own font may have it
        figure.savefig(buffer, metadata=undated, **options)
    return buffer.getvalue()


def inline(figure: Figure, name: str, label: str) -> Markup:
    """Return a figure as an SVG element for a page that allows no inline style.

    name: what its ids begin with. label: what a screen reader says. Text takes the page's font and colour, and each
    colour of the palette a class (`f0` to fill, `s0` to stroke), so that a style sheet can follow the theme.
    """
    root = ElementTree.fromstring(_saved(figure, format="svg"))
    _, _, width, height = root.attrib["viewBox"].split()
    return Markup(
        '<svg class="picture" role="img" aria-label="{}" viewBox="0 0 {} {}" width="{}" height="{}"'
        ' fill="currentColor" stroke-linejoin="round">{}</svg>'
    ).format(label, width, height, width, height, Markup("").join(map(_Inlined(name).element, root)))


class _Inlined:
    """Writes what matplotlib drew without inline styles, clipping, long ids and superfluous digits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ids: dict[str, str] = {}

    def element(self, node: ElementTree.Element) -> Markup:
        tag = node.tag.rpartition("}")[2]
        if tag in ("metadata", "style", "clipPath"):
            return Markup("")
        children = list(node)
        hints = node.get("id", "").split("|") if tag == "g" else []
        if len(hints) == len(children) > 0 and hints[0].endswith(";"):
            for child, hint in zip(children, hints, strict=True):
                ElementTree.SubElement(child, "title").text = hint.rstrip(";")
        inside = Markup("").join([escape((node.text or "").strip()), *map(self.element, children)])
        given = self._attributes(node, tag)
        if tag in ("g", "defs") and not inside:
            return Markup("")
        if tag == "g" and not given:
            return inside
        return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), given, inside)

    def _attributes(self, node: ElementTree.Element, tag: str) -> Markup:
        kept: dict[str, str] = {}
        for key, value in node.attrib.items():
            key = key.rpartition("}")[2]
            if key == "style":
                kept |= _presented(value, text=tag == "text")
            elif key == "href":
                kept["href"] = f"#{self._id(value.removeprefix('#'))}"
            elif key == "id" and tag == "path":  # of a marker, which is used again
                kept["id"] = self._id(value)
            elif (key == "transform" and "rotate(-0 " not in value) or key in (
                "d",
                "x",
                "y",
                "width",
                "height",
                "points",
            ):
                kept[key] = _short(value)
        return Markup("").join(Markup(' {}="{}"').format(key, value) for key, value in kept.items())

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
