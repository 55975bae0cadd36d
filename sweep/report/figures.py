"""Pictures of a sweep: each seed, learning curves, differences of variants. Each function returns a Figure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sweep import aggregate
from sweep.errors import StatisticsError
from sweep.goals import ARROWS, Goal, direction
from sweep.number import around, limits, number, percent, places, signed
from sweep.report.document import distinct, shortened
from sweep.report.drawing import COLORS, FAILED, INK, SOFT, Size, inline, lines, new, save, style, wrapped
from sweep.report.sentence import labels, scope
from sweep.report.words import listed, shown
from sweep.stats.sample import unit

__all__ = ["COLORS", "Size", "curves", "forest", "inline", "members", "save", "style"]

Floats = npt.NDArray[np.float64]
Cell = tuple[str, str]

MOST_DOTS = 50  # seeds of a variant that are dots; of more, their density is drawn
MOST_ROWS = 40  # variants in a picture
MOST_ROWS_NARROW = 12  # in one as wide as a column or a phone
MOST_TOGETHER = 3  # variants whose curves share one pair of axes; more have a panel each
MOST_PANELS = 12
MOST_RUNS = 10  # runs of a variant with a line of their own, half in a panel; of more, the band of their deciles
MOST_POINTS = 200  # of a curve, a third in a panel; longer ones are thinned, and the axis says so
DECADE = 10  # a range beyond this factor is drawn on a logarithmic axis


class Compared(Protocol):
    """A comparison of variants, which is made a layer above."""

    @property
    def metric(self) -> str: ...
    @property
    def goal(self) -> Goal | None: ...
    @property
    def level(self) -> float: ...
    @property
    def why(self) -> str: ...
    @property
    def pairs(self) -> Sequence[Any]: ...
    @property
    def warnings(self) -> Sequence[str]: ...


def members(
    table: pd.DataFrame,
    metric: str,
    *,
    level: float = 0.95,
    goals: Mapping[str, str] | None = None,
    vary: Sequence[str] = (),
    ratio: float | None = None,
    size: Size = "screen",
) -> Figure:
    """Draw each seed's value of one metric and the mean with its Student t interval, one row per variant.

    Parameters
    ----------
    table : `aggregate.frame`
        Repeats are averaged within their seed. Seeds without a value are counted in the row's words; they are never
        drawn at a place that they do not have. A row with one seed has no interval.
    ratio : see `aggregate.test_to_train`
    size : preset of `drawing.SIZES`

    Raises
    ------
    StatisticsError
        No run reports the metric, or no axis can hold its values.
    """
    summary = aggregate.summary(table, [metric], level=level, ratio=ratio)
    goal = direction(metric, goals)
    rows: list[Any] = list(summary.itertuples())
    name = labels((row.task, row.variant) for row in rows)
    if goal is not None:
        rows.sort(key=lambda row: (row.task, not row.n, -row.mean if goal == "max" else row.mean))
    most = MOST_ROWS if lines(size) >= 42 else MOST_ROWS_NARROW
    rows, left_out = rows[:most], len(rows) - most
    grouped = table.groupby(["task", "variant"], sort=False, observed=True).indices
    values = [_seed_values(table.iloc[grouped[row.task, row.variant]], metric) for row in rows]
    if any(its.size and unit(its) != 1 for _, its in values):
        raise StatisticsError(f"{metric} has values too large or too small to draw", hint="log its logarithm")
    over = scope(metric, vary, ratio)
    if any(row.failed for row in rows):
        over = over.replace("over seeds", "over converged seeds", 1)
    with style(size):
        narrow = lines(size) < 42
        figure = new(size, 5.6 + len(rows) * (5.4 if narrow else 2.9))
        label_of = distinct([name[row.task, row.variant] for row in rows], 26 if narrow else 44)
        axes = figure.add_subplot()
        axes.grid(axis="x")
        for place, (row, (seeds, its)) in enumerate(zip(rows, values, strict=True)):
            _row(axes, place, row, seeds, its)
            words = _counted(row)
            label = label_of[place]
            value = "no value" if not row.n else around(row.mean, _half(row))
            if narrow:
                _beside(axes, 0.0, place - 0.46, f"{label}\n{words}" if label else words, "left")
                _beside(axes, 1.0, place - 0.46, value, "right")
            else:
                _beside(axes, 1.0, place, value, "left", 10)
                axes.text(-0.01, place, f"{label}\n{words}" if label else words, ha="right", va="center",
                          transform=axes.get_yaxis_transform())  # fmt: skip
        axes.set_ylim(len(rows) - (0.4 if narrow else 0.5), -0.8 if narrow else -0.5)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        _scaled(axes.xaxis, [v for _, its in values for v in its], goal)
        more = f"; {left_out} more variants are not drawn" if left_out > 0 else ""
        axes.set_xlabel(wrapped(_named(metric, goal), size))
        figure.suptitle(wrapped(f"mean and {percent(level)} CI (Student t) {over}{more}", size), ha="left", x=0.0)
    return figure


def _row(axes: Axes, place: int, row: Any, seeds: npt.NDArray[np.int64], its: Floats) -> None:
    if 0 < its.size <= MOST_DOTS or (its.size and np.ptp(its) == 0):
        digits = places(row.sd)
        hints = [f"seed {s}: {number(float(v), None if digits is None else digits + 1)};"
                 for s, v in zip(seeds, its, strict=True)]  # fmt: skip
        axes.plot(its, place - 0.1 + _stacked(its), "o", ms=4.5, mec="none", color=COLORS[0], alpha=0.8,
                  gid="|".join(hints))  # fmt: skip
    elif its.size:
        at, height = _density(its)
        axes.fill_between(at, place + 0.06, place + 0.06 - 0.42 * height, color=COLORS[0], alpha=0.35, lw=0)
    if row.n > 1:
        axes.plot([row.low, row.high], [place + 0.2] * 2, "-", color=COLORS[0], lw=2.4, solid_capstyle="butt")
    if row.n:
        axes.plot([row.mean], [place + 0.2], "D", ms=6, mec="none", color=COLORS[0])


def forest(found: Compared, *, task: str | None = None, size: Size = "screen") -> Figure:
    """Draw each variant's difference from the best one, or from the baseline, with its interval.

    The intervals hold for all pairs of the comparison together. A filled mark says that the means are shown to
    differ; positive is a larger value than the reference's. task: the first, unless given.

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
        raise StatisticsError("there is no difference to draw", hint="sweep compare says why")
    several = len(found.pairs) > 1
    with style(size):
        narrow = lines(size) < 42
        figure = new(size, 6.2 + len(rows) * (4.4 if narrow else 1.9))
        axes = figure.add_subplot()
        axes.grid(axis="x")
        axes.xaxis.set_major_locator(MaxNLocator(4 if narrow else 7))
        axes.axvline(0, color=SOFT, lw=1)
        label_of = distinct([row[0] for row in rows], 36 if narrow else 44)
        for place, (_, value, low, high, sure) in enumerate(rows):
            color = COLORS[0] if sure else SOFT
            axes.plot([low, high], [place, place], "-", color=color, lw=2.4, solid_capstyle="butt")
            axes.plot([value], [place], "D", ms=6.5, mew=1.4, mec=color, color=color if sure else "#ffffff")
            digits = places((high - low) / 2)
            words = f"{signed(value, digits)}  ({limits(low, high, digits, sign=True)})"
            if narrow:
                _beside(axes, 0.0, place - 0.45, f"{label_of[place]}\n{words}", "left")
            else:
                axes.text(-0.01, place, label_of[place], ha="right", va="center", transform=axes.get_yaxis_transform())
                _beside(axes, 1.0, place, words, "left", 10)
        axes.set_ylim(len(rows) - 0.4, -0.9 if narrow else -0.6)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        better = {"max": "better →", "min": "← better", None: ""}[found.goal]
        axes.set_xlabel(f"difference in {shown(found.metric, 40)} · {better}".rstrip(" ·"))
        held = f"{percent(found.level)} intervals" + (f", for all {len(found.pairs)} pairs together" if several else "")
        held += "; filled: shown to differ"
        title = f"difference from {shortened(reference, 40)}{f' on {shown(task, 20)}' if task else ''}; {held}"
        figure.suptitle(wrapped(title, size), ha="left", x=0.0)
    return figure


def _reference(pairs: Sequence[Any], goal: str | None) -> str:
    """Return the variant that the others are held against: a baseline in every pair, else the best mean."""
    common = set.intersection(*({pair.a.name, pair.b.name} for pair in pairs)) if len(pairs) > 1 else set()
    if len(common) == 1:
        return str(common.pop())
    means = {side.name: side.mean for pair in pairs for side in (pair.b, pair.a) if side.mean is not None}
    return str((min if goal == "min" else max)(means, key=lambda name: means[name], default=""))


def _against(reference: str, pairs: Sequence[Any], found: Compared) -> list[tuple[str, float, float, float, bool]]:
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


def curves(
    history: pd.DataFrame,
    metric: str,
    *,
    runs: pd.DataFrame | None = None,
    order: Sequence[Cell] = (),
    level: float = 0.95,
    goals: Mapping[str, str] | None = None,
    size: Size = "screen",
) -> Figure:
    """Draw learning curves: per variant the mean with a pointwise t band, and the runs or their deciles behind it.

    Points are where values were logged, never interpolated; a value that is not finite leaves a gap. Where n is
    smaller than at the beginning, the legend says from which step. From four variants on each has a panel, with
    the first one's mean dashed. The band covers at each step for itself, not as a whole, and the picture says so.

    Parameters
    ----------
    history : `aggregate.history`
    runs : `aggregate.frame`
        Leaves failed runs out of the mean, as the table does, and marks where they ended.
    order : (task, variant) pairs
        In this order; those that are not named come last.

    Raises
    ------
    StatisticsError
        The metric was never logged, or no axis can hold its values.
    """
    if metric not in history or not np.isfinite(history[metric].to_numpy(np.float64)).any():
        names = aggregate.metric_names(history)
        raise StatisticsError(
            f"{metric!r} was never logged", hint="logged: " + (listed(names, 20) if names else "nothing")
        )
    logged = history[metric].to_numpy(np.float64)
    if unit(logged[np.isfinite(logged)]) != 1:
        raise StatisticsError(f"{metric} has values too large or too small to draw", hint="log its logarithm")
    cells = _cells(history, order)
    drawn = dict(list(cells.items())[: MOST_PANELS if len(cells) > MOST_TOGETHER else None])
    apart = len(drawn) > MOST_TOGETHER
    points = MOST_POINTS // 3 if apart else MOST_POINTS
    every = max(1, -(-max(cell[aggregate.STEP].nunique() for cell in drawn.values()) // points))
    most = MOST_RUNS // 2 if apart else MOST_RUNS
    found = {name: _Bands(cell, metric, runs, level, every, most) for name, cell in drawn.items()}
    goal = direction(metric, goals)
    with style(size):
        across = (2 if lines(size) < 42 else 3 if lines(size) < 60 else 4) if apart else 1
        down = -(-len(drawn) // across) if apart else 1
        columns = -(-len(drawn) // down) if apart else 1
        figure = new(size, 4.5 + 12.5 * down if apart else 6 + min(22, lines(size) * 0.45) + len(drawn))
        panels = figure.subplots(down, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for axes in panels[len(drawn) :]:
            axes.set_axis_off()
        leading = next(iter(found.values()))
        label_of = distinct(list(found), 24 if size in ("wide", "page") else 18)
        for place, one in enumerate(found.values()):
            axes = panels[place if apart else 0]
            if apart:
                axes.plot(leading.steps, leading.mean, color=SOFT, lw=1, ls="--")
                axes.set_title(f"{label_of[place]}\n{one.counted}")
            one.draw(axes, COLORS[0 if apart else place])
        axes = panels[0]
        # Values of the means and deciles decide the axis: one run that explodes does not hide the others.
        _scaled(axes.yaxis, np.concatenate([one.extent for one in found.values()]), goal)
        axes.xaxis.set_major_locator(MaxNLocator(4 if apart else 8, integer=True))
        stride = every * int(history.attrs.get("stride", 1))
        for axes in panels[max(0, len(drawn) - columns) : len(drawn)] if apart else panels:
            axes.set_xlabel("step" + (f" (every {stride}th drawn)" if stride > 1 else ""))
            axes.tick_params(labelbottom=True)
        figure.supylabel(_named(metric, goal))
        behind = "deciles 1 to 9 of the seeds" if any(one.deciles for one in found.values()) else "single runs"
        more = f"; {len(cells) - len(drawn)} more variants are not drawn" if len(cells) > len(drawn) else ""
        title = f"mean over seeds, pointwise {percent(level)} t band, {behind}{more}"
        figure.suptitle(wrapped(title, size), ha="left", x=0.0)
        _key(figure, panels[0], found, apart)
    return figure


class _Bands:
    """The curves of one variant: what is drawn, and the words for how many seeds are behind it."""

    def __init__(
        self, cell: pd.DataFrame, metric: str, runs: pd.DataFrame | None, level: float, every: int, most: int
    ) -> None:
        counted, failed = _kept(cell, runs)
        table = aggregate.band(counted, metric, level)
        drawn = table.iloc[::-1].iloc[::every].iloc[::-1]  # counted from the end: the last step is kept
        self.steps, self.mean = drawn[aggregate.STEP].to_numpy(), drawn["mean"].to_numpy()
        self.low, self.high = drawn["low"].to_numpy(), drawn["high"].to_numpy()
        self.counted = _behind(table)
        grid = np.unique(cell.loc[np.isfinite(cell[metric].to_numpy(np.float64)), aggregate.STEP])
        by_run = [run for _, run in counted.groupby(list(aggregate.RUN[2:]), sort=True)]
        self.deciles = len(by_run) > most
        self.runs: list[tuple[npt.NDArray[np.int64], Floats]] = []
        if self.deciles:
            at = counted[counted[aggregate.STEP].isin(self.steps)].groupby(aggregate.STEP)[metric]
            self.first, self.ninth = (at.quantile(q).reindex(self.steps).to_numpy() for q in (0.1, 0.9))
        else:
            for run in by_run:
                own = run[run[aggregate.STEP].isin(grid)]
                x, y = own[aggregate.STEP].to_numpy(), own[metric].to_numpy(np.float64)
                keep = np.arange(x.size) % every == (x.size - 1) % every
                self.runs.append((x[keep], y[keep]))
        self.ends = [end for _, run in failed.groupby(list(aggregate.RUN[2:])) if (end := _end(run, metric))]
        self.early = [(x[-1], y[-1]) for x, y in self.runs if x.size and x[-1] < grid[-1] and np.isfinite(y[-1])]

    @property
    def extent(self) -> Floats:
        spread = [self.first, self.ninth] if self.deciles else [y for _, y in self.runs]
        return np.concatenate([self.mean, *spread]) if len(self.mean) else np.array([v for _, v in self.ends])

    def draw(self, axes: Axes, color: str) -> None:
        if self.deciles:
            axes.fill_between(self.steps, self.first, self.ninth, color=color, alpha=0.16, lw=0)
        for x, y in self.runs:
            axes.plot(x, y, color=color, alpha=0.4, lw=0.7, marker="o" if x.size == 1 else "", ms=2)
        if len(self.steps):
            axes.fill_between(self.steps, self.low, self.high, color=color, alpha=0.28, lw=0)
        axes.plot(self.steps, self.mean, color=color, lw=2, marker="o" if self.steps.size == 1 else "", label="mean")
        for mark, its, shade in (("x", self.ends, FAILED), ("|", self.early, color)):
            if its:
                axes.plot(*zip(*its, strict=True), mark, color=shade, ms=7, mew=1.6, zorder=4, label=f"_{mark}")


def _key(figure: Figure, axes: Axes, found: Mapping[str, _Bands], apart: bool) -> None:
    """Put the legend of the means above the curves, and one entry for each kind of mark that occurs."""
    from matplotlib.lines import Line2D

    entries: list[Any] = []
    if apart:
        entries.append(Line2D([], [], color=SOFT, lw=1, ls="--", label=f"mean of {shown(next(iter(found)), 30)}"))
    else:
        for color, (name, one) in zip(COLORS, found.items(), strict=False):
            entries.append(Line2D([], [], color=color, lw=2, label=f"{shown(name, 40)}: {one.counted}".lstrip(": ")))
    marks = (("x", FAILED, "failed run", "ends"), ("|", SOFT, "run that ended early", "early"))
    for mark, color, meaning, kind in marks:
        if any(getattr(one, kind) for one in found.values()):
            entries.append(Line2D([], [], marker=mark, ls="", ms=7, mew=1.6, color=color, label=meaning))
    if apart:
        figure.legend(handles=entries, loc="outside lower left", ncols=2)
    elif entries:
        axes.legend(handles=entries, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, borderpad=0.2)


def _scaled(axis: Any, values: Iterable[float], goal: str | None) -> None:
    """Set the range of an axis from what is drawn, logarithmic beyond a factor of ten; a score to maximise is not."""
    found = np.array([v for v in values if np.isfinite(v)])
    if not found.size:
        return
    low, high = float(found.min()), float(found.max())
    limits_of = axis.axes.set_xlim if axis.axis_name == "x" else axis.axes.set_ylim
    if goal != "max" and low > 0 and high > DECADE * low:
        (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("log")
        axis.set_major_locator(LogLocator(subs=(1.0,) if high > 50 * low else (1.0, 2.0, 5.0), numticks=6))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        room = (high / low) ** 0.06
        limits_of(low / room, high * room)
    elif axis.axis_name == "y" and high > low:
        room = 0.06 * (high - low)
        limits_of(low - room, high + room)
    if axis.axis_name == "x" and axis.get_scale() == "linear":
        axis.set_major_locator(MaxNLocator(4 if axis.figure.get_figwidth() < 5 else 6))


def _named(metric: str, goal: str | None) -> str:
    return f"{shown(metric)} {ARROWS[goal]}".rstrip()  # type: ignore[index]


def _beside(axes: Axes, x: float, y: float, text: str, side: Any, away: float = 0) -> None:
    """Write beside a row: x as a share of the axes' width, y in its data."""
    axes.annotate(text, (x, y), xycoords=axes.get_yaxis_transform(), xytext=(away, 0), textcoords="offset points",
                  ha=side, va="center", annotation_clip=False, color=INK)  # fmt: skip


def _half(row: Any) -> float | None:
    return None if np.isnan(row.low) else (row.high - row.low) / 2


def _counted(row: Any) -> str:
    counted = f"n = {row.n}" + (f" of {row.planned}" if row.n != row.planned else "")
    return counted + (f", {row.failed} failed" if row.failed else "")


def _seed_values(cell: pd.DataFrame, metric: str) -> tuple[npt.NDArray[np.int64], Floats]:
    seeds, status = cell["seed"].to_numpy(), cell["status"].to_numpy(dtype=str)
    kept = aggregate.converged(seeds, status)
    return aggregate.values_by_seed(seeds[kept], cell[metric].to_numpy(np.float64)[kept])


def _stacked(values: Floats) -> Floats:
    """Return vertical offsets that stack near-equal values, so that none hides another; nothing is by lot."""
    width = np.ptp(values) / 50
    bins = np.round((values - values.min()) / width) if width else np.zeros(values.size)
    offsets = np.zeros(values.size)
    for bin_ in np.unique(bins):
        its = np.flatnonzero(bins == bin_)
        offsets[its] = (np.arange(its.size) - (its.size - 1) / 2) * min(0.1, 0.36 / its.size)
    return offsets


def _density(values: Floats) -> tuple[Floats, Floats]:
    """Return places and the density there, its peak 1: Gaussian kernels of Silverman's width."""
    at = np.linspace(values.min(), values.max(), 100)
    spread = min(float(values.std(ddof=1)), float(np.subtract(*np.quantile(values, (0.75, 0.25)))) / 1.34)
    width = 0.9 * (spread or float(values.std(ddof=1))) * values.size**-0.2
    height = np.exp(-0.5 * ((at[:, None] - values[None, :]) / width) ** 2).sum(axis=1)
    return at, height / height.max()


def _cells(history: pd.DataFrame, order: Sequence[Cell]) -> dict[str, pd.DataFrame]:
    grouped = {(str(t), str(v)): cell for (t, v), cell in history.groupby(["task", "variant"], observed=True)}
    name = labels(grouped)
    rank = {cell: place for place, cell in enumerate(order)}
    return {name[cell]: grouped[cell] for cell in sorted(grouped, key=lambda cell: (rank.get(cell, len(rank)), cell))}


def _kept(cell: pd.DataFrame, runs: pd.DataFrame | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows of the runs that enter a mean, and those of failed ones; all, where nothing says which."""
    if runs is None:
        return cell, cell.iloc[:0]
    keys = list(aggregate.RUN[2:])
    its = runs[(runs["task"] == str(cell["task"].iloc[0])) & (runs["variant"] == str(cell["variant"].iloc[0]))]
    status = its["status"].to_numpy(dtype=str)
    own = pd.MultiIndex.from_frame(cell[keys])
    kept = aggregate.converged(its["seed"].to_numpy(), status)
    counted, failed = (own.isin(pd.MultiIndex.from_frame(its.loc[w, keys])) for w in (kept, status == "failed"))
    return cell[counted], cell[failed]


def _end(run: pd.DataFrame, metric: str) -> tuple[int, float] | None:
    there = run[np.isfinite(run[metric].to_numpy(np.float64))]
    return (int(there[aggregate.STEP].iloc[-1]), float(there[metric].iloc[-1])) if len(there) else None


def _behind(band: pd.DataFrame) -> str:
    """ "n = 10, 9 from step 31": where the number of seeds behind the mean changes, and to what."""
    n, steps = band["n"].to_numpy(), band[aggregate.STEP].to_numpy()
    if n.size == 0:
        return "no step that all runs logged"
    changes = [f"{n[i]} from step {steps[i]}" for i in np.flatnonzero(np.diff(n)) + 1]
    if len(changes) > 3:
        return f"n = {n.min()} to {n.max()}, {n[-1]} at the last step"
    return ", ".join([f"n = {n[0]}", *changes])
