"""Pictures of a sweep: each seed, learning curves, differences of variants. Each function returns a Figure."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sweep.analysis import frames
from sweep.analysis.comparison import Comparison, Pair
from sweep.analysis.model import Across, Curve, Progress
from sweep.errors import StatisticsError, listed
from sweep.goals import direction, with_arrow
from sweep.number import around, limits, number, percent, places, signed
from sweep.report import sentence
from sweep.report.document import distinct
from sweep.report.drawing import (
    COLORS,
    INK,
    MEASURED,
    PAPER,
    SOFT,
    VARIANTS,
    WRONG,
    Frame,
    Numbers,
    Size,
    breadth,
    fitted,
    legend,
    lines,
    style,
    tick_breadth,
    wrapped,
)
from sweep.report.drawing import inline as inline
from sweep.report.drawing import save as save
from sweep.report.sentence import count_of, scope
from sweep.stats.sample import unit
from sweep.variants import labels_of
from sweep.words import plural, shown

__all__ = ["COLORS", "Size", "curves", "forest", "inline", "members", "profiles", "progress", "save", "style"]

Floats = npt.NDArray[np.float64]
Cell = tuple[str, str]

MOST_DOTS = 50  # seeds of a variant drawn as dots; for more, the density is drawn
MOST_ROWS = 40  # variants in a picture
MOST_ROWS_NARROW = 12  # the same, in a picture as wide as a column or a phone
MOST_TOGETHER = len(VARIANTS)  # variants whose curves share axes; with more, each has its own panel
MOST_PANELS = 12
MOST_PANELS_NARROW = 6
MOST_RUNS = 10  # runs of a variant drawn as lines (half as many in a panel); for more, a band of deciles
MOST_POINTS = 200  # points of a curve (a third in a panel); longer ones are thinned, and the axis notes it
DECADE = 10  # a range beyond this factor is drawn on a logarithmic axis


def members(
    table: pd.DataFrame,
    metric: str,
    *,
    level: float = 0.95,
    goals: Mapping[str, str] | None = None,
    vary: Sequence[str] = (),
    ratio: float | None = None,
    folds: int = 0,
    called: Mapping[Cell, str] | None = None,
    size: Size = "screen",
) -> Figure:
    """Draw each seed's value of one metric and the mean with its Student t interval, one row per variant.

    Parameters
    ----------
    table : `frames.frame`
        Repeats and folds are averaged within their seed. Seeds without a value are counted in the text of the row
        and never drawn. A row with one seed has no interval.
    ratio, folds : see `frames.summary`
    called : (task, variant) -> its label
    size : preset of `drawing.SIZES`

    Raises
    ------
    StatisticsError
        No run reports the metric, or no axis can hold its values.
    """
    summary = frames.summary(table, [metric], level=level, ratio=ratio, folds=folds)
    goal = direction(metric, goals)
    rows: list[Any] = list(summary.itertuples())
    name = called or labels_of((row.task, row.variant) for row in rows)
    if goal is not None:
        rows.sort(key=lambda row: (row.task, not row.n, -row.mean if goal == "max" else row.mean))
    most = MOST_ROWS if lines(size) >= 42 else MOST_ROWS_NARROW
    rows, left_out = rows[:most], len(rows) - most
    cells = dict(frames.cells(table))
    values = [frames.seed_values(cells[row.task, row.variant], metric) for row in rows]
    if any(its.size and unit(its) != 1 for _, its in values):
        raise StatisticsError(f"{metric} has values too large or too small to draw", hint="log its logarithm")
    over = scope(metric, vary, ratio, folds, finished=any(row.failed for row in rows))
    more = f"; {left_out} more variants are not drawn" if left_out > 0 else ""
    under = wrapped(with_arrow(shown(metric), goal), size)
    with style(size):
        narrow = lines(size) < 42
        # With many variants, a line names the number of seeds only if it is not the usual one.
        many = len(rows) > MOST_ROWS_NARROW
        usual = Counter(map(_counted, rows)).most_common(1)[0][0] if many else ""
        title = f"mean and {percent(level)} CI (Student t) {over}{f'; {usual}, unless named' if many else ''}{more}"
        frame = Frame(size, len(rows) * (6.2 if narrow else 1.9 if many else 2.9) + 0.4, title,
                      below=2.2 + 1.25 * len(under.splitlines()))  # fmt: skip
        axes = frame.axes
        axes.grid(axis="x")
        label_of = distinct([name[row.task, row.variant] for row in rows], int(lines(size) * (0.75 if narrow else 0.6)))
        said = [(", " if many else "\n").join(part for part in (label, _counted(row)) if part not in ("", usual))
                for label, row in zip(label_of, rows, strict=True)]  # fmt: skip
        value_of = ["no value" if not row.n else around(row.mean, _half(row)) for row in rows]
        for place, (row, (seeds, its)) in enumerate(zip(rows, values, strict=True)):
            _row(axes, place, row, seeds, its)
        _named_rows(frame, said, value_of, narrow)
        _scaled(axes.xaxis, [*(v for _, its in values for v in its), *(v for r in rows for v in (r.low, r.high))], goal)
        axes.set_xlabel(under)
    return frame.figure


def _named_rows(frame: Frame, names: Sequence[str], value_of: Sequence[str], narrow: bool) -> None:
    """Write the name and the value of each row beside it, or above it in a narrow picture."""
    axes = frame.axes
    if narrow:
        frame.place(1.6, 1.6)
    else:
        frame.place(breadth(names) + 1.0, breadth(value_of) + 1.2)
    for place, (name, value) in enumerate(zip(names, value_of, strict=True)):
        if narrow:
            _beside(axes, 0.0, place - 0.5, name, "left")
            _beside(axes, 1.0, place - 0.5, value, "right")
        else:
            _beside(axes, 0.0, place, name, "right", -6)
            _beside(axes, 1.0, place, value, "left", 10)
    axes.set_ylim(len(names) - 0.5, -0.85 if narrow else -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _row(axes: Axes, place: int, row: Any, seeds: npt.NDArray[np.int64], its: Floats) -> None:
    if 0 < its.size <= MOST_DOTS or (its.size and np.ptp(its) == 0):
        digits = places(row.sd)
        hints = [f"seed {s}: {number(float(v), None if digits is None else digits + 1)};"
                 for s, v in zip(seeds, its, strict=True)]  # fmt: skip
        axes.plot(its, place - 0.1 + _stacked(its), "o", ms=4.5, mec="none", color=MEASURED, alpha=0.8,
                  gid="|".join(hints))  # fmt: skip
    elif its.size:
        at, height = _density(its)
        axes.fill_between(at, place + 0.06, place + 0.06 - 0.42 * height, color=MEASURED, alpha=0.35, lw=0)
    if math.isfinite(row.low):
        axes.plot([row.low, row.high], [place + 0.2] * 2, "-", color=MEASURED, lw=2.4, solid_capstyle="butt")
    if row.n:
        axes.plot([row.mean], [place + 0.2], "D", ms=6, mec="none", color=MEASURED)


def forest(found: Comparison, *, task: str | None = None, size: Size = "screen") -> Figure:
    """Draw each variant's difference from the best one, or from the baseline, with its interval.

    The intervals hold for all pairs of the comparison together. A filled mark means that the means are shown to
    differ; a positive difference is a larger value than that of the reference. task: default the first.

    Raises
    ------
    StatisticsError
        Nothing was compared.
    """
    task = task if task is not None else found.pairs[0].task if found.pairs else ""
    pairs = [pair for pair in found.pairs if pair.task == task]
    reference = _reference(pairs, found.goal)
    rows = _against(reference, pairs, found)
    if not rows:
        raise StatisticsError("there is no difference to draw", hint="run sweep compare to see why")
    several = len(found.pairs) > 1
    held = f"{percent(found.level)} intervals" + (f", for all {len(found.pairs)} pairs together" if several else "")
    where = f" on {shown(task, 20)}" if task else ""
    with style(size):
        narrow = lines(size) < 42
        title = f"difference from {shown(reference, 40)}{where}; {held}; filled: shown to differ"
        frame = Frame(size, len(rows) * (3.8 if narrow else 1.9) + 0.4, title)
        axes = frame.axes
        axes.grid(axis="x")
        axes.axvline(0, color=SOFT, lw=1)
        value_of = []
        for place, (_, value, low, high, sure) in enumerate(rows):
            color = MEASURED if sure else SOFT
            axes.plot([low, high], [place, place], "-", color=color, lw=2.4, solid_capstyle="butt")
            axes.plot([value], [place], "D", ms=6.5, mew=1.4, mec=color, color=color if sure else PAPER)
            digits = places((high - low) / 2)
            value_of.append(f"{signed(value, digits)}  ({limits(low, high, digits, sign=True)})")
        label_of = distinct([row[0] for row in rows], int(lines(size) * (1.4 if narrow else 0.55)))
        if narrow:
            label_of = [f"{one}\n{value}" for one, value in zip(label_of, value_of, strict=True)]
            value_of = [""] * len(rows)
        _named_rows(frame, label_of, value_of, narrow)
        _scaled(axes.xaxis, [0.0, *(limit for _, _, low, high, _ in rows for limit in (low, high))], None)
        better = {"max": "better →", "min": "← better", None: ""}[found.goal]
        axes.set_xlabel(f"difference in {shown(found.metric, 40)} · {better}".rstrip(" ·"))
    return frame.figure


def _reference(pairs: Sequence[Pair], goal: str | None) -> str:
    """Return the variant that the others are compared with: the one in every pair, else the best mean."""
    common = set.intersection(*({pair.a.name, pair.b.name} for pair in pairs)) if len(pairs) > 1 else set()
    if len(common) == 1:
        return str(common.pop())
    means = {side.name: side.mean for pair in pairs for side in (pair.b, pair.a) if side.mean is not None}
    return str((min if goal == "min" else max)(means, key=lambda name: means[name], default=""))


def _against(reference: str, pairs: Sequence[Pair], found: Comparison) -> list[tuple[str, float, float, float, bool]]:
    """Return (variant, difference from the reference, its interval, whether it is shown), the best first."""
    rows = []
    for pair in pairs:
        sure = pair.simultaneous if len(found.pairs) > 1 and pair.simultaneous is not None else pair.interval
        if pair.difference is None or sure is None:
            continue
        value, shown_ = pair.difference.estimate, pair.verdict != "none"
        if reference == pair.b.name:
            rows.append((pair.a.name, value, sure.low, sure.high, shown_))
        elif reference == pair.a.name:
            rows.append((pair.b.name, -value, -sure.high, -sure.low, shown_))
    return sorted(rows, key=lambda row: row[1] if found.goal == "min" else -row[1])[:MOST_ROWS]


def curves(history: pd.DataFrame, metric: str, *, size: Size = "screen", **asked: Any) -> Figure:
    """Draw learning curves: per variant the mean with a pointwise t band, and the runs or their deciles behind it.

    Points are drawn where values were logged, without interpolation; a value that is not finite leaves a gap. If n
    changes, the legend gives the step. More than three variants get a panel each, with the mean of the first one
    dashed. The band is pointwise, as the title states.

    Parameters
    ----------
    history : `frames.history`
    runs : `frames.frame`
        Used to leave failed runs out of the mean, as in the table, and to mark where they ended.
    order : (task, variant) pairs
        The order to draw in; those that are not named come last.
    called : as in `members`

    Raises
    ------
    StatisticsError
        The metric was never logged, or no axis can hold its values.
    """
    return Curves(history, metric, **asked).figure(size)


class Curves:
    """The learning curves of one metric, computed once and drawn at any size. See `curves`."""

    def __init__(
        self,
        history: pd.DataFrame,
        metric: str,
        *,
        runs: pd.DataFrame | None = None,
        order: Sequence[Cell] = (),
        level: float = 0.95,
        goals: Mapping[str, str] | None = None,
        called: Mapping[Cell, str] | None = None,
    ) -> None:
        if metric not in history or not np.isfinite(history[metric].to_numpy(np.float64)).any():
            names = frames.metric_names(history)
            raise StatisticsError(
                f"{metric!r} was never logged",
                hint=f"name a logged metric: {listed(names, 20)}" if names else "log it with run.log",
            )
        logged = history[metric].to_numpy(np.float64)
        if unit(logged[np.isfinite(logged)]) != 1:
            raise StatisticsError(f"{metric} has values too large or too small to draw", hint="log its logarithm")
        self.metric, self.level, self.goal = metric, level, direction(metric, goals)
        cells = _cells(history, order, called)
        self.apart = len(cells) > MOST_TOGETHER
        points, most = (MOST_POINTS // 3, MOST_RUNS // 2) if self.apart else (MOST_POINTS, MOST_RUNS)
        drawn = dict(list(cells.items())[:MOST_PANELS])
        every = max(1, -(-max(cell[frames.STEP].nunique() for cell in drawn.values()) // points))
        self.stride = every * int(history.attrs.get("stride", 1))
        self.bands = {name: _Bands(cell, metric, runs, level, every, most) for name, cell in drawn.items()}
        self.variants = len(cells)

    def figure(self, size: Size) -> Figure:
        narrow = lines(size) < 42
        bands = dict(list(self.bands.items())[: MOST_PANELS_NARROW if narrow else MOST_PANELS])
        behind = "deciles 1 to 9 of the seeds" if any(one.deciles for one in bands.values()) else "single runs"
        left_out = self.variants - len(bands)
        more = f"; {left_out} more variants are not drawn" if left_out else ""
        title = f"mean over seeds, pointwise {percent(self.level)} t band, {behind}{more}"
        label_of = distinct(list(bands), int(lines(size) * 0.9) if narrow else 40)
        across, down = 1, 1
        if self.apart:
            across = min(2 if narrow else 4, max(2, int(lines(size) / (breadth(label_of) + 1.5))))
            down = -(-len(bands) // across)
            across = -(-len(bands) // down)
            most = int((lines(size) - 6) / across / 0.64)
            label_of = distinct(list(bands), most)
            titles = ["\n".join([label, *textwrap.wrap(one.counted, most)])
                      for label, one in zip(label_of, bands.values(), strict=True)]  # fmt: skip
            over = 1.25 * max(1 + title.count("\n") for title in titles)
        with style(size):
            key = _key(label_of, bands.values(), self.apart)
            for entry in key:
                entry.set_label(fitted(entry.get_label(), size))
            rows = sum(1 + entry.get_label().count("\n") for entry in key)
            if self.apart:
                frame = Frame(size, 8.5, title, above=over, between=over + 0.7, below=4.8, down=down, across=across)
            else:
                frame = Frame(size, min(20, lines(size) * 0.42), title, above=1.4 * rows + 0.3)
            first = next(iter(bands.values()))
            within = self._scale(frame, bands, across, narrow)
            for place, one in enumerate(bands.values()):
                axes = frame.panels[place if self.apart else 0]
                if self.apart:
                    axes.plot(first.steps, np.clip(first.mean, *within), color=SOFT, lw=1, ls="--")
                    axes.set_title(titles[place], y=1)
                one.draw(axes, VARIANTS[0 if self.apart else place], within)
            if key and self.apart:
                frame.figure.legend(handles=key, loc="lower left", bbox_to_anchor=(0, 0), borderpad=0, ncols=2)
            elif key:
                legend(frame.axes, handles=key)
        return frame.figure

    def _scale(self, frame: Frame, bands: Mapping[str, _Bands], across: int, narrow: bool) -> tuple[float, float]:
        """Scale the axes by means and deciles, so that one exploding run hides no other, and return the limits."""
        axes = frame.axes
        within = _scaled(axes.yaxis, np.concatenate([one.extent for one in bands.values()]), self.goal)
        first, last = (int(end(one.grid[at] for one in bands.values())) for end, at in ((min, 0), (max, -1)))
        axes.set_xlim(first - 0.03 * (last - first or 1), last + 0.03 * (last - first or 1))
        axes.xaxis.set_major_locator(MaxNLocator(4 if self.apart or narrow else 8, integer=True, steps=[1, 2, 5, 10]))
        for i, panel in enumerate(frame.panels):
            lowest = i + across >= max(len(bands), across) or not self.apart
            if self.apart and i >= len(bands):
                panel.set_axis_off()
            elif lowest:
                panel.set_xlabel("step" + (f" (every {self.stride}th drawn)" if self.stride > 1 else ""))
                panel.tick_params(labelbottom=True)
            # Only the outer panels have numbers; hidden ones take no time to draw.
            panel.xaxis.set_visible(lowest)
            panel.yaxis.set_visible(i % across == 0)
        frame.place(frame.ticks() + 1.6, gap=1.4)
        if self.apart:
            frame.figure.text(
                0, frame.middle, with_arrow(shown(self.metric), self.goal), rotation=90, ha="left", va="center"
            )
        else:
            axes.set_ylabel(with_arrow(shown(self.metric), self.goal))
        return within


class _Bands:
    """The curves of one variant, and the number of their seeds as text."""

    def __init__(
        self, cell: pd.DataFrame, metric: str, runs: pd.DataFrame | None, level: float, every: int, most: int
    ) -> None:
        counted, failed = _kept(cell, runs)
        table = frames.band(counted, metric, level)
        drawn = table.iloc[::-1].iloc[::every].iloc[::-1]  # counted from the end, so that the last step is kept
        self.steps, self.mean, self.low, self.high, self.first, self.ninth = (
            drawn[name].to_numpy() for name in (frames.STEP, "mean", "low", "high", "first", "ninth")
        )
        self.counted = _behind(table)
        self.grid = grid = np.unique(cell.loc[np.isfinite(cell[metric].to_numpy(np.float64)), frames.STEP])
        self.deciles = np.unique(_run(counted)).size > most
        logged = counted[counted[frames.STEP].isin(grid)]
        self.runs = (
            []
            if self.deciles
            else [(steps[::-every][::-1], its[::-every][::-1]) for steps, its in _by_run(logged, metric)]
        )
        self.ends = [(steps[-1], its[-1]) for steps, its in _by_run(failed[np.isfinite(failed[metric])], metric)]
        self.early = [(x[-1], y[-1]) for x, y in self.runs if x.size and x[-1] < grid[-1] and np.isfinite(y[-1])]

    @property
    def extent(self) -> Floats:
        spread = [self.first, self.ninth] if self.deciles else [y for _, y in self.runs]
        return np.concatenate([self.mean, *spread]) if len(self.mean) else np.array([v for _, v in self.ends])

    def draw(self, axes: Axes, color: str, within: tuple[float, float]) -> None:
        """Draw within these limits; values beyond them are drawn at the limit."""
        if self.deciles:
            between = np.clip(self.first, *within), np.clip(self.ninth, *within)
            axes.fill_between(self.steps, *between, color=color, alpha=0.16, lw=0)
        for x, y in self.runs:
            axes.plot(x, np.clip(y, *within), color=color, alpha=0.4, lw=0.7, marker="o" if x.size == 1 else "", ms=2)
        if len(self.steps):
            between = np.clip(self.low, *within), np.clip(self.high, *within)
            axes.fill_between(self.steps, *between, color=color, alpha=0.28, lw=0)
        axes.plot(self.steps, self.mean, color=color, lw=2, marker="o" if self.steps.size == 1 else "", label="mean")
        for mark, its, shade in (("x", self.ends, WRONG), ("|", self.early, color)):
            if its:
                steps, values = zip(*its, strict=True)
                axes.plot(steps, np.clip(values, *within), mark, color=shade, ms=7, mew=1.6, zorder=4, label=f"_{mark}")


def _key(names: Sequence[str], bands: Iterable[_Bands], apart: bool) -> list[Any]:
    """Return the entries of a legend: the means, and one for each kind of mark that occurs."""
    from matplotlib.lines import Line2D

    if apart:
        entries = [Line2D([], [], color=SOFT, lw=1, ls="--", label=f"mean of {names[0]}")]
    else:
        entries = [Line2D([], [], color=color, lw=2, label=f"{name}: {one.counted}".lstrip(": "))
                   for color, name, one in zip(VARIANTS, names, bands, strict=False)]  # fmt: skip
    marks = (("x", WRONG, "failed run", "ends"), ("|", SOFT, "run that ended early", "early"))
    for mark, color, meaning, kind in marks:
        if any(getattr(one, kind) for one in bands):
            entries.append(Line2D([], [], marker=mark, ls="", ms=7, mew=1.6, color=color, label=meaning))
    return entries


def _scaled(axis: Any, values: Iterable[float], goal: str | None) -> tuple[float, float]:
    """Set the range of an axis from what is drawn, and return it.

    It is logarithmic if all values are positive and span more than a factor of ten; never for a score to maximise.
    """
    found = np.array([v for v in values if np.isfinite(v)])
    low, high = (float(found.min()), float(found.max())) if found.size else (0.0, 1.0)
    set_limits = axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim
    if goal != "max" and low > 0 and high > DECADE * low:
        (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("log")
        subs = (1.0, 2.0, 5.0) if high < 50 * low else (1.0, 3.0) if high < 2000 * low else (1.0,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=6))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value, digits=8)))
        room = (high / low) ** 0.06
        low, high = low / room, high * room
    else:
        room = 0.05 * (high - low) or 0.05 * abs(high) or 0.05
        low, high = low - room, high + room
        most = 4 if axis.axis_name == "x" and axis.figure.get_figwidth() < 5 else 6
        axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(Numbers())
    set_limits(low, high)
    return low, high


def _beside(axes: Axes, x: float, y: float, text: str, side: Any, away: float = 0) -> None:
    """Write text beside a row. x: as a share of the width of the axes; y: in data units."""
    axes.annotate(text, (x, y), xycoords=axes.get_yaxis_transform(), xytext=(away, 0), textcoords="offset points",
                  ha=side, va="center", annotation_clip=False, color=INK)  # fmt: skip


def _half(row: Any) -> float | None:
    return None if np.isnan(row.low) else (row.high - row.low) / 2


def _counted(row: Any) -> str:
    return f"n = {count_of(row.n, row.planned)}" + (f", {row.failed} failed" if row.failed else "")


def _stacked(values: Floats) -> Floats:
    """Return vertical offsets that stack near-equal values, so that none hides another. They are not random."""
    width = np.ptp(values) / 50
    bins = np.round((values - values.min()) / width) if width else np.zeros(values.size)
    offsets = np.zeros(values.size)
    for bin_ in np.unique(bins):
        its = np.flatnonzero(bins == bin_)
        offsets[its] = (np.arange(its.size) - (its.size - 1) / 2) * min(0.1, 0.36 / its.size)
    return offsets


def _density(values: Floats) -> tuple[Floats, Floats]:
    """Return places and the density there, scaled to a peak of 1: Gaussian kernels of Silverman's width."""
    at = np.linspace(values.min(), values.max(), 100)
    spread = min(float(values.std(ddof=1)), float(np.subtract(*np.quantile(values, (0.75, 0.25)))) / 1.34)
    width = 0.9 * (spread or float(values.std(ddof=1))) * values.size**-0.2
    height = np.exp(-0.5 * ((at[:, None] - values[None, :]) / width) ** 2).sum(axis=1)
    return at, height / height.max()


def _cells(history: pd.DataFrame, order: Sequence[Cell], called: Mapping[Cell, str] | None) -> dict[str, pd.DataFrame]:
    grouped = {(str(t), str(v)): cell for (t, v), cell in history.groupby(["task", "variant"], observed=True)}
    # If no run has a metric, the report has no labels.
    name = called if called and len(grouped) > 1 and grouped.keys() <= called.keys() else labels_of(grouped)
    rank = {cell: place for place, cell in enumerate(order)}
    return {name[cell]: grouped[cell] for cell in sorted(grouped, key=lambda cell: (rank.get(cell, len(rank)), cell))}


def _kept(cell: pd.DataFrame, runs: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of the runs that enter a mean, and those of failed runs. Without `runs`, all rows enter."""
    if runs is None:
        return cell, cell.iloc[:0]
    its = runs[(runs["task"] == str(cell["task"].iloc[0])) & (runs["variant"] == str(cell["variant"].iloc[0]))]
    status = its["status"].to_numpy(dtype=str)
    kept = frames.finished(its["seed"].to_numpy(), status)
    own, known = _run(cell), _run(its)
    return cell[np.isin(own, known[kept])], cell[np.isin(own, known[status == "failed"])]


def _run(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return one number that combines the seed and the repeat of each row."""
    return np.asarray((table["seed"].to_numpy() << 20) + table["repeat"].to_numpy())


def _by_run(cell: pd.DataFrame, metric: str) -> list[tuple[npt.NDArray[np.int64], Floats]]:
    """Return the steps and the values of each run."""
    runs = cell.groupby(["seed", "repeat"])
    return [(its[frames.STEP].to_numpy(np.int64), its[metric].to_numpy(np.float64)) for _, its in runs]


def _behind(band: pd.DataFrame) -> str:
    """Return "n = 10, 9 from step 31": the changing number of seeds behind the mean."""
    n, steps = band["n"].to_numpy(), band[frames.STEP].to_numpy()
    if n.size == 0:
        return "no step that all runs logged"
    changes = [f"{n[i]} from step {steps[i]}" for i in np.flatnonzero(np.diff(n)) + 1]
    if len(changes) > 3:
        return f"n = {n.min()} to {n.max()}, {n[-1]} at the last step"
    return ", ".join([f"n = {n[0]}", *changes])


# ---- several tasks

LOOKS = [(color, line) for line in ("-", "--") for color in VARIANTS]


def profiles(found: Sequence[Across], *, size: Size = "screen") -> Figure:
    """Draw the share of runs whose normalised score is above each threshold, one line per variant with its band.

    Raises
    ------
    StatisticsError
        There is no profile to draw.
    """
    drawn = sorted((one for one in found if one.profile and one.iqm is not None), key=lambda one: -(one.iqm or 0.0))
    if not drawn:
        raise StatisticsError("there is no performance profile", hint=sentence.why(found[0]) if found else "")
    first = drawn[0]
    with style(size):
        over, band = sentence.over_tasks(first), _banded(first.profile, first.level)
        title = f"share of runs above each score, over {over}; {band}"
        frame = _lines(size, title, [one.label for one in drawn], [one.profile for one in drawn if one.profile])
        axes = frame.axes
        axes.set(ylim=(0, 1.02), xlabel=f"normalised {shown(first.metric, 40)}")
        axes.set_ylabel("share of runs above")
        return _placed(frame)


def progress(found: Sequence[Progress], *, size: Size = "screen") -> Figure:
    """Draw the interquartile mean of normalised scores over the steps of training, one line per variant with its band.

    Raises
    ------
    StatisticsError
        There is no curve to draw.
    """
    drawn = sorted((one for one in found if one.curve), key=lambda one: -one.curve.value[-1] if one.curve else 0.0)
    if not drawn:
        raise StatisticsError("there is no curve over tasks", hint=sentence.why(found[0]) if found else "")
    first = drawn[0]
    with style(size):
        many = f"these {plural(first.tasks, 'task')}, {plural(first.seeds, 'seed')}"
        title = f"interquartile mean over {many}; {_banded(first.curve, first.level)}"
        frame = _lines(size, title, [one.label for one in drawn], [one.curve for one in drawn if one.curve])
        axes = frame.axes
        axes.set(xlabel="step", ylabel=f"normalised {shown(first.metric, 40)}")
        axes.xaxis.set_major_locator(MaxNLocator(4 if lines(size) < 42 else 8, integer=True, steps=[1, 2, 5, 10]))
        return _placed(frame)


def _banded(curve: Curve | None, level: float) -> str:
    if curve is None or curve.low[0] != curve.low[0]:
        return "too few tasks or seeds for a band"
    return f"pointwise {percent(level)} band"


def _lines(size: Size, title: str, labels: Sequence[str], curves: Sequence[Curve]) -> Frame:
    """Return a figure with the curves, and their names above it, the highest first."""
    if (more := len(curves) - len(LOOKS)) > 0:
        title += f"; {plural(more, 'more variant')} not drawn"
    names = distinct(list(labels)[: len(LOOKS)], int(lines(size) * 0.9)) if any(labels) else []
    names = [fitted(name, size) for name in names]
    columns = 1 if lines(size) < 42 else 2
    rows = -(-sum(1 + name.count("\n") for name in names) // columns)
    frame = Frame(size, min(20, lines(size) * 0.5), title, above=1.4 * rows + 0.3 if names else 0.0, scaled=True)
    axes = frame.axes
    axes.margins(x=0.02)
    for place, (curve, (color, line)) in enumerate(zip(curves, LOOKS, strict=False)):
        axes.fill_between(curve.at, curve.low, curve.high, color=color, alpha=0.18, lw=0)
        axes.plot(curve.at, curve.value, line, color=color, lw=2, label=names[place] if names else "",
                  marker="o" if len(curve.at) == 1 else "")  # fmt: skip
    if names:
        legend(axes, ncols=columns, handlelength=2.4)
    return frame


def _placed(frame: Frame) -> Figure:
    """Return the figure with room at the right for half of the last number of the x axis."""
    return frame.numbered(max(0.8, tick_breadth(frame.axes.xaxis) / 2))
