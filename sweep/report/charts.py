"""The pictures of the HTML report, drawn from data with `sweep.report.svg`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from sweep.number import number, percent, places
from sweep.report import svg
from sweep.report.model import Row
from sweep.report.thinned import Curve, band, level_strides
from sweep.report.words import plural, shown

if TYPE_CHECKING:
    from sweep.ensemble import Diagram, RiskCoverage, SizeCurve

Floats = npt.NDArray[np.float64]

MOST_DOTS = 400  # seeds of a row drawn one by one; of more, every so many, and the row says so
MOST_RUNS = 64  # members' own curves; beyond, the band alone
ROW = 62  # pixels of a row of a distribution
MOST_POINTS = 400  # of a risk-coverage curve
MOST_NUMBERED = 10  # members whose matrix has room for its numbers
MOST_MATRIX = 40  # members whose matrix is drawn


def distribution(rows: Sequence[Row], values: Mapping[tuple[str, str], tuple[Sequence[int], Floats]]) -> Markup:
    """Each seed's value as a dot and below it the mean with its interval: a row a variant, one axis for all.

    values: (task, variant) -> (seeds, their values). Dots that would hide each other are stacked.
    """
    numbers = [float(v) for row in rows for v in values[row.task, row.variant][1]]
    limits = [v for row in rows for v in (row.low, row.high) if v is not None]
    x = svg.scale([*numbers, *limits])
    if x is None:
        return Markup("")
    parts = [svg.upright(x)]
    for place, row in enumerate(rows):
        seeds, its = values[row.task, row.variant]
        parts.append(_row(row, seeds, its, x, place * ROW, place))
    height = len(rows) * ROW
    parts += [svg.rule(0, str(height), 100, str(height), "axis"), svg.across(x, str(height))]
    return svg.drawing(height, f"{shown(rows[0].metric)}: a dot a seed, the mean and its interval", svg.join(parts))


def _row(row: Row, seeds: Sequence[int], its: Floats, x: svg.Scale, top: int, series: int) -> Markup:
    every = max(1, -(-its.size // MOST_DOTS))
    note = f", every {every}th drawn" if every > 1 else ""
    said = f"{shown(row.label, 34)} · " if row.label else ""
    parts = [svg.text(f"{said}n = {row.n}{note}", 0, top + 12, kind="name")]
    small = 4.5 if its.size <= 40 else 3.2
    digits = places(row.sd)
    for i, offset in zip(range(0, its.size, every), stacked(its[::every], x), strict=True):
        at = x.at(float(its[i]))
        hint = f"seed {seeds[i]}: {number(float(its[i]), None if digits is None else digits + 1)}"
        parts.append(svg.dot(at, top + 29 + offset, radius=small, series=series, hint=hint))
    if row.low is not None and row.high is not None:
        parts.append(svg.interval(x.at(row.low), x.at(row.high), top + 49, series=series))
    if row.mean is not None:
        parts.append(svg.mark(x.at(row.mean), top + 49, "diamond", kind=f"c{series % svg.SERIES}",
                              hint=f"mean {number(row.mean, digits)}"))  # fmt: skip
    return svg.join(parts)


def stacked(values: Floats, x: svg.Scale) -> list[float]:
    """Offsets in pixels that keep near-equal values apart; the same values give the same picture."""
    bins = [round(x.at(float(v)) / 2) for v in values]
    seen: dict[int, int] = {}
    total = {b: bins.count(b) for b in set(bins)}
    offsets = []
    for b in bins:
        place = seen.get(b, 0)
        seen[b] = place + 1
        offsets.append(round((place - (total[b] - 1) / 2) * min(6.0, 20 / total[b]), 2))
    return offsets


def learning(
    cells: Mapping[tuple[str, str], Sequence[Curve]], label: Mapping[tuple[str, str], str], metric: str, level: float
) -> tuple[Markup, list[tuple[int, str]], list[str]]:
    """(picture, legend as (series, words), what a reader must be told) of one metric of one task."""
    drawn, legend, notes = [], [], []
    leveled = {cell: level_strides(runs) for cell, runs in cells.items()}
    steps = [int(s) for runs, _ in leveled.values() for run in runs for s in (run.steps[0], run.steps[-1])]
    bands = {cell: band(runs, level) for cell, (runs, _) in leveled.items()}
    every_run = [run for runs, _ in leveled.values() for run in runs]
    over = svg.scale(steps, margin=0.0)
    up = svg.scale([v for run in every_run for v in run.numbers])
    if over is None or up is None:
        return Markup(""), [], [f"{shown(metric)} has no finite value"]
    ends = []
    for series, (cell, (runs, stride)) in enumerate(leveled.items()):
        if len(runs) <= MOST_RUNS:
            drawn += [svg.line(run.steps, run.numbers, over, up, kind="run", series=series) for run in runs]
        elif "only the mean and its band are drawn" not in notes:
            notes.append("only the mean and its band are drawn")
        if stride > 1:
            notes.append(f"every {stride}th value drawn, and the last")
        found = bands[cell]
        x = found["step"].to_numpy()
        drawn.append(svg.band(x, found["low"], found["high"], over, up, series=series))
        drawn.append(svg.line(x, found["mean"], over, up, kind="mean", series=series))
        legend.append((series, _counted(label.get(cell, ""), found["n"].to_numpy())))
        ends += [_end(run, over, up) for run in runs if run.failed]
    if ends:
        notes.append("× a failed run's last value")
    body = svg.join([svg.frame(over, up), svg.inner(svg.join(drawn)), *ends])
    return (
        svg.drawing(230, f"{shown(metric)} by step, mean over seeds with a band", body),
        legend,
        list(dict.fromkeys(notes)),
    )


def _end(run: Curve, over: svg.Scale, up: svg.Scale) -> Markup:
    finite = np.flatnonzero(np.isfinite(run.numbers))
    if not finite.size:
        return Markup("")
    step, value = int(run.steps[finite[-1]]), float(run.numbers[finite[-1]])
    return svg.mark(over.at(step), f"{100 - up.at(value)}%", "cross", kind="failed", hint=f"seed {run.seed} failed")


def _counted(name: str, n: npt.NDArray[np.int64]) -> str:
    count = "no step that all finished runs logged" if not n.size else f"n = {n[0]}"
    if n.size and n.min() != n.max():
        count = f"n = {n.max()} to {n.min()}"
    return f"{shown(name, 40)}: {count}" if name else count


def size_curve(found: SizeCurve) -> Markup:
    """The expected score of an ensemble of k members, with its band over seeds."""
    k = np.arange(1, found.members + 1)
    over = svg.Scale(1.0, float(max(2, found.members)))
    up = svg.scale(
        [*found.value, *found.low[np.isfinite(found.low)], *found.high[np.isfinite(found.high)]], margin=0.06
    )
    if up is None:
        return Markup("")
    drawn = [(float(i), float(v)) for i, v in zip(k, found.value, strict=True) if math.isfinite(v)]
    hints = [
        svg.dot(over.at(i), f"{100 - up.at(v)}%", radius=3, series=0, hint=f"{plural(int(i), 'member')}: {v:.5g}")
        for i, v in (drawn if found.members <= 40 else [])
    ]
    lines = svg.join([
        svg.band(k, found.low, found.high, over, up), svg.line(k, found.value, over, up, kind="mean"),
    ])  # fmt: skip
    return svg.drawing(
        190, f"{shown(found.metric)} by number of members", svg.join([svg.frame(over, up), svg.inner(lines), *hints])
    )


CALIBRATED = 2  # the colour of what was calibrated, wherever it is drawn; that of the ensemble as it is, is 0


def reliability(before: Diagram, after: Diagram | None) -> Markup:
    """Draw accuracy by confidence in bins of equal mass, with intervals: on the diagonal it means what it says."""
    whole = svg.Scale(0.0, 1.0)
    parts = [svg.frame(whole, whole)]
    lines = [svg.line([0, 1], [0, 1], whole, whole, kind="ideal", series=6)]
    for series, one in ((0, before), (CALIBRATED, after)):
        if one is None:
            continue
        rows = zip(one.confidence, one.accuracy, one.low, one.high, one.count, strict=True)
        for a, b, low, high, n in (tuple(map(float, row)) for row in rows):
            lines.append(svg.line([a, a], [low, high], whole, whole, kind="run", series=series))
            hint = f"confidence {a:.3f}, accuracy {b:.3f} ({low:.3f} to {high:.3f}), {plural(int(n), 'example')}"
            parts.append(svg.dot(whole.at(a), f"{100 - whole.at(b)}%", radius=3.5, series=series, hint=hint))
    parts.insert(1, svg.inner(svg.join(lines)))
    return svg.drawing(230, "accuracy by confidence", svg.join(parts))


def risk_coverage(found: RiskCoverage) -> Markup:
    """The error rate among the examples answered, the surest first, for every share of them."""
    kept = np.unique(np.linspace(0, found.risk.size - 1, min(found.risk.size, MOST_POINTS)).round().astype(np.int64))
    x, y = found.coverage[kept], found.risk[kept]
    over, up = svg.Scale(0.0, 1.0), svg.Scale(0.0, (float(y.max()) or 1.0) * 1.06)
    lines = svg.join([svg.band(x, np.zeros(x.size), y, over, up), svg.line(x, y, over, up, kind="mean")])
    body = svg.join([svg.frame(over, up), svg.inner(lines)])
    return svg.drawing(190, "error rate by share of examples answered", body)


def matrix(values: Floats, labels: Sequence[str], label: str, *, in_percent: bool) -> Markup:
    """How far every two members are apart, as the half of a table below its diagonal; values: (members, members)."""
    count = len(labels)
    if not 1 < count <= MOST_MATRIX:
        return Markup("")
    pairs = values[np.tril_indices(count, -1)]
    if not np.isfinite(pairs).all():
        return Markup("")
    low, wide = float(pairs.min()), float(pairs.max() - pairs.min())
    digits = 1 if in_percent else places(wide)
    step, names = 100 / (count - 1), [shown(name, 7) for name in labels]
    short = [name.removeprefix("seed") for name in names]
    parts = []
    for i in range(1, count):
        parts.append(svg.aside(names[i], (i - 0.5) * step))
        for j in range(i):
            value = 100 * float(values[i, j]) if in_percent else float(values[i, j])
            strength = (float(values[i, j]) - low) / wide if wide else 0.0
            said = f"{number(value, digits)}{' %' if in_percent else ''}"
            hint = f"{shown(labels[i])} and {shown(labels[j])}: {said}"
            parts.append(svg.cell(j * step, (j + 1) * step, (i - 1) * step, i * step, strength=strength, hint=hint))
            if count <= MOST_NUMBERED:
                at = (j + 0.5) * step
                parts.append(svg.text(number(value, digits), at, f"{(i - 0.5) * step:.3f}%", anchor="middle",
                                      kind="name", dy=4))  # fmt: skip
    if max(map(len, short)) * 8 * count <= 230:  # pixels that a narrow card has
        parts += [svg.text(short[j], (j + 0.5) * step, "100%", anchor="middle", dy=16) for j in range(count - 1)]
    return svg.drawing(max(120, min(300, 25 * (count - 1))), label, svg.join(parts))


def histogram(values: Floats, wrong: npt.NDArray[np.bool_] | None, label: str, bins: int = 24) -> Markup:
    """How many examples have how much uncertainty; those predicted wrongly beside those predicted rightly."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Markup("")
    top = float(finite.max()) or 1.0
    edges = np.linspace(0.0, top, bins + 1)
    x, wrongly = svg.Scale(0.0, top), np.zeros(values.shape, dtype=bool) if wrong is None else wrong
    right, _ = np.histogram(values[~wrongly], edges)
    bad, _ = np.histogram(values[wrongly], edges)
    # Counts span decades: on a linear axis the uncertain examples, which matter, would not be seen.
    up = svg.Scale(0.0, math.log10(int(max(right.max(), bad.max())) + 1) * 1.05)
    parts = []
    for count in (1, 10, 100, 1000, 10_000, 100_000, 1_000_000):
        y = 100 - up.at(math.log10(count + 1))
        parts += [svg.rule(0, f"{y}%", 100, f"{y}%"), svg.aside(f"{count:,}", y)] if y >= 0 else []
    for i in range(bins):
        low, high = float(edges[i]), float(edges[i + 1])
        a, b = x.at(low) + 0.25, x.at(high) - 0.25
        middle = b if wrong is None else (a + b) / 2
        span = f"{low:.3g} to {high:.3g}: "
        for count, left, end, kind in ((right[i], a, middle, "c0"), (bad[i], middle, b, "wrong")):
            said = f"{span}{plural(int(count), 'example')}"
            if wrong is not None:
                said += " predicted " + ("wrongly" if kind == "wrong" else "rightly")
            if count:
                parts.append(svg.bar(left, end, 0, up.at(math.log10(int(count) + 1)), kind=f"bar {kind}", hint=said))
    parts += [svg.rule(0, "100%", 100, "100%", "axis"), svg.across(x, "100%", most=4)]
    return svg.drawing(150, label, svg.join(parts))


def counts(parts: Sequence[tuple[str, int]]) -> Markup:
    """Shares of the planned runs as one bar: (status, how many)."""
    total = sum(count for _, count in parts) or 1
    at, bars = 0.0, []
    for status, count in parts:
        if count:
            share = 100 * count / total
            hint = f"{count} {status} ({percent(count / total)})"
            bars.append(svg.bar(at, at + share, 0, 100, kind=f"status-{status}", hint=hint))
            at += share
    return svg.drawing(10, ", ".join(f"{count} {status}" for status, count in parts), svg.join(bars))
