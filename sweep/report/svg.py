"""Small drawings as SVG that a page of any width can hold: text stays text, at one size.

Places are in percent of the drawing's width and, in a frame, of its height; lines and areas live in a stretched
inner drawing whose strokes do not stretch. Colours are classes with `currentColor` behind them, so a drawing is
whole without a style sheet. Everything that is not a number is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from sweep.report.words import shown

SERIES = 7  # colours that can be told apart; each comes with its own dashes


@dataclass(frozen=True)
class Scale:
    """Numbers from low to high as 0 to 100 percent of an axis."""

    low: float
    high: float

    def at(self, value: float) -> float:
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """Round numbers within the axis, at most `most`, with labels that tell them apart."""
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
        values = [k * step for k in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]
        for digits in range(3, 16):
            named = [f"{value + 0.0:.{digits}g}" for value in values]
            if len(set(named)) == len(named) and all(
                abs(float(n) - v) <= step / 100 for n, v in zip(named, values, strict=True)
            ):
                break
        return list(zip(values, named, strict=True)) if values else []


def scale(values: Iterable[float], *, margin: float = 0.04, least: float | None = None) -> Scale | None:
    """The axis that holds all finite values, with room at both ends; None where there is none.

    least: a number the axis must hold as well.
    """
    found = [float(v) for v in values if v is not None and math.isfinite(v) and abs(v) < 1e300]
    found += [least] if least is not None and found else []
    if not found:
        return None
    low, high = min(found), max(found)
    wide = high - low
    # One value, or values closer than float64 can label.
    room = wide * margin if wide > 1e-12 * max(abs(low), abs(high)) else (abs(low) * 0.05 or 1.0)
    return Scale(low - room, high + room)


def join(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def drawing(height: int, label: str, body: Markup) -> Markup:
    """The whole: `height` CSS pixels high, as wide as its place, read aloud as `label`."""
    made = Markup('<svg class="drawing" role="img" aria-label="{}" width="100%" height="{}" overflow="visible">')
    return join([made.format(shown(label, 400), height), body, Markup("</svg>")])


def text(words: str, x: float, y: str | float, *, anchor: str = "start", kind: str = "label", dy: float = 0) -> Markup:
    """A line of text; x in percent, y as it stands, dx and dy in pixels."""
    made = Markup(
        '<text class="{}" x="{}%" y="{}" dy="{}" text-anchor="{}" fill="currentColor" font-size="12">{}</text>'
    )
    return made.format(kind, x, y, dy, anchor, words)


def aside(words: str, y: float, *, dx: float = -8) -> Markup:
    """A label left of a frame, at y percent."""
    made = Markup(
        '<text class="label" x="{}" y="{}%" dy="4" text-anchor="end" fill="currentColor" font-size="12">{}</text>'
    )
    return made.format(dx, y, words)


def rule(x1: float, y1: str, x2: float, y2: str, kind: str = "grid") -> Markup:
    opacity = {"grid": ".18", "axis": ".5"}.get(kind, "1")
    made = Markup('<line class="{}" x1="{}%" y1="{}" x2="{}%" y2="{}" stroke="currentColor" stroke-opacity="{}"/>')
    return made.format(kind, x1, y1, x2, y2, opacity)


def across(x: Scale, y: str, *, below: bool = True, most: int = 5) -> Markup:
    """Labels of a horizontal axis at height y; with `below`, they hang under a frame."""
    parts = []
    for value, name in x.ticks(most):
        at = x.at(value)
        anchor = "start" if at < 4 else "end" if at > 96 else "middle"
        parts.append(text(name, at, y, anchor=anchor, dy=18 if below else 0))
    return join(parts)


def upright(x: Scale, *, most: int = 5) -> Markup:
    """Fine vertical lines at the ticks."""
    return join(rule(x.at(value), "0", x.at(value), "100%") for value, _ in x.ticks(most))


def frame(x: Scale | None, y: Scale, *, most: int = 5) -> Markup:
    """Grid and labels of both axes around a drawing."""
    lines = [
        join((rule(0, f"{100 - y.at(v)}%", 100, f"{100 - y.at(v)}%"), aside(name, 100 - y.at(v))))
        for v, name in y.ticks(5)
    ]
    return join([*lines, rule(0, "100%", 100, "100%", "axis"), across(x, "100%", most=most) if x else Markup("")])


def inner(body: Markup) -> Markup:
    """A stretched drawing of 1000 by 1000 units over the whole frame, for what has no text."""
    made = Markup('<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" width="100%" height="100%">{}</svg>')
    return made.format(body)


def _points(x: Sequence[float] | npt.NDArray[np.floating], y: Sequence[float] | npt.NDArray[np.floating]) -> str:
    return " ".join(f"{a:.5g},{b:.5g}" for a, b in zip(x, y, strict=True))


def units(x: npt.ArrayLike, y: npt.ArrayLike, over: Scale, up: Scale) -> tuple[npt.NDArray[np.float64], ...]:
    """Places in the 1000 by 1000 units of `inner`; values off the axis are held at a little beyond its ends."""
    a = 1000 * (np.asarray(x, dtype=np.float64) - over.low) / (over.high - over.low)
    b = 1000 - 1000 * (np.asarray(y, dtype=np.float64) - up.low) / (up.high - up.low)
    return a, np.clip(b, -200, 1200)


def line(x: npt.ArrayLike, y: npt.ArrayLike, over: Scale, up: Scale, *, kind: str, series: int = 0) -> Markup:
    """A line through finite points, broken where one is not."""
    a, b = units(x, y, over, up)
    there = np.isfinite(a) & np.isfinite(b)
    made = Markup(
        '<polyline class="{} c{}" points="{}" fill="none" stroke="currentColor" stroke-width="{}" '
        'stroke-opacity="{}" vector-effect="non-scaling-stroke" stroke-linejoin="round"/>'
    )
    width, opacity = ("1", ".35") if kind == "run" else ("2.2", "1")
    pieces = np.split(np.arange(there.size), np.flatnonzero(~there))
    kept = [piece[there[piece]] for piece in pieces]
    return join(made.format(kind, series % SERIES, _points(a[p], b[p]), width, opacity) for p in kept if p.size > 1)


def band(
    x: npt.ArrayLike, low: npt.ArrayLike, high: npt.ArrayLike, over: Scale, up: Scale, *, series: int = 0
) -> Markup:
    """The area between two lines, where both are finite."""
    a, lower = units(x, low, over, up)
    _, upper = units(x, high, over, up)
    there = np.isfinite(lower) & np.isfinite(upper)
    made = Markup('<polygon class="band c{}" points="{}" fill="currentColor" fill-opacity=".16"/>')
    pieces = np.split(np.arange(there.size), np.flatnonzero(~there))
    kept = [piece[there[piece]] for piece in pieces]
    return join(
        made.format(series % SERIES, _points(np.r_[a[p], a[p][::-1]], np.r_[upper[p], lower[p][::-1]]))
        for p in kept if p.size > 1
    )  # fmt: skip


def bar(x1: float, x2: float, low: float, high: float, *, kind: str, hint: str = "") -> Markup:
    """A bar from x1 to x2 percent, between two heights in percent from the bottom."""
    made = Markup(
        '<rect class="{}" x="{}%" y="{}%" width="{}%" height="{}%" fill="currentColor" fill-opacity=".6">'
        "<title>{}</title></rect>"
    )
    return made.format(kind, round(x1, 3), round(100 - high, 3), round(x2 - x1, 3), round(high - low, 3), hint)


def cell(x1: float, x2: float, y1: float, y2: float, *, strength: float, hint: str) -> Markup:
    """A field of a matrix between places in percent, y from the top; pale enough for text at any strength."""
    made = Markup(
        '<rect class="cell" x="{}%" y="{}%" width="{}%" height="{}%" fill="currentColor" fill-opacity="{}">'
        "<title>{}</title></rect>"
    )
    share = 0.06 + 0.39 * strength
    return made.format(round(x1, 3), round(y1, 3), round(x2 - x1, 3), round(y2 - y1, 3), round(share, 3), hint)


def dot(x: float, y: str | float, *, radius: float, series: int, hint: str) -> Markup:
    made = Markup(
        '<circle class="dot c{}" cx="{}%" cy="{}" r="{}" fill="currentColor" fill-opacity=".6">'
        "<title>{}</title></circle>"
    )
    return made.format(series % SERIES, x, y, radius, hint)


def mark(x: float, y: str | float, shape: str, *, kind: str, hint: str = "") -> Markup:
    """A "diamond" or a "cross" of fixed size at a place in percent and pixels (or percent)."""
    paths = {"diamond": "M0,-6.5 6,0 0,6.5 -6,0Z", "cross": "M-4.5,-4.5 4.5,4.5M-4.5,4.5 4.5,-4.5"}
    paint = 'fill="currentColor"' if shape == "diamond" else 'fill="none" stroke="currentColor" stroke-width="2"'
    made = Markup(
        '<svg x="{}%" y="{}" overflow="visible" width="1" height="1"><path class="{} {}" d="{}" ' + paint +
        "><title>{}</title></path></svg>"
    )  # fmt: skip
    return made.format(x, y, shape, kind, paths[shape], hint)


def interval(low: float, high: float, y: float, *, series: int) -> Markup:
    """A thick line with end caps at a height in pixels."""
    made = Markup(
        '<g class="interval c{}" stroke="currentColor" stroke-width="2.4">'
        '<line x1="{}%" x2="{}%" y1="{}" y2="{}"/><line x1="{}%" x2="{}%" y1="{}" y2="{}"/>'
        '<line x1="{}%" x2="{}%" y1="{}" y2="{}"/></g>'
    )
    return made.format(series % SERIES, low, high, y, y, low, low, y - 4, y + 4, high, high, y - 4, y + 4)
