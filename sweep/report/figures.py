"""Pictures of a sweep: matplotlib, one style, safe for colour-blind eyes. Functions return their Axes.

matplotlib is loaded inside the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweep import aggregate
from sweep.errors import StatisticsError
from sweep.goals import ARROWS, direction
from sweep.number import percent
from sweep.report.sentence import labels, scope
from sweep.report.words import listed, shown

Key = tuple[str, str, int, int]

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's palette in an order that keeps neighbours apart in grey as well; yellow is left out, being
# too light for lines on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
FAILED = "#D55E00"

MARKS = {"x": "failed run", "|": "run that ended early"}

MOST_POINTS = 1000  # of a curve; longer ones are thinned, and the axis says so
MOST_CURVES = 64  # members' own curves; beyond, the band alone is drawn, and the axis says so

RC: Mapping[str, Any] = {
    "figure.figsize": (6.0, 3.4),
    "figure.dpi": 110,
    "savefig.bbox": "tight",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.prop_cycle": "cycler('color', ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00'])",
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
    # Text stays text, so that a journal can search it and an editor change it.
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "sweep",
}


@contextmanager
def style() -> Iterator[None]:
    """The style of all our figures, for as long as the block runs; matplotlib's settings are put back."""
    import matplotlib as mpl

    # Not rc_context: a notebook's backend turns interactive drawing on inside the block, and that has to stay.
    settings: Any = mpl.rcParams
    before = {key: settings[key] for key in RC}
    settings.update(RC)
    try:
        yield
    finally:
        settings.update(before)


def members(
    table: pd.DataFrame,
    metric: str,
    *,
    level: float = 0.95,
    goals: Mapping[str, str] | None = None,
    vary: Sequence[str] = (),
    ax: Axes | None = None,
) -> Axes:
    """Each seed's value of one metric, and beside it the mean with its Student t interval, a row a variant.

    table: `aggregate.frame`. Repeats are averaged within their seed. Seeds without a value are counted in the
    row's label; they are never drawn at a place they do not have. A row with fewer than two seeds has no
    interval. StatisticsError when no run reports the metric.
    """
    summary = aggregate.summary(table, [metric], level=level)
    rows: list[Any] = list(summary.itertuples())
    name = labels((row.task, row.variant) for row in rows)
    over = scope(metric, vary)
    if any(row.failed for row in rows):
        over = over.replace("over seeds", "over converged seeds", 1)
    with style():
        axes = _axes(ax, height=1.2 + 0.62 * len(summary))
        for place, row in enumerate(rows):
            color = COLORS[place % len(COLORS)]
            cell = table[(table["task"] == row.task) & (table["variant"] == row.variant)]
            values = _seed_values(cell, metric)
            axes.plot(values, place + 0.14 + _spread(values), "o", ms=4.5, mec="none", color=color, alpha=0.6)
            if row.n > 1:
                axes.plot([row.low, row.high], [place - 0.26] * 2, "-", color=color, lw=2.2)
            if row.n:
                axes.plot([row.mean], [place - 0.26], "D", ms=5.5, mec="white", mew=0.8, color=color)
        axes.set_yticks(range(len(summary)), [_row_label(row, name[row.task, row.variant]) for row in rows])
        axes.set_ylim(len(summary) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(_metric_label(metric, goals))
        axes.set_title(f"seeds (dots), mean and {percent(level)} CI (Student t)\n{over}")
    return axes


def curves(
    history: pd.DataFrame,
    metric: str,
    *,
    runs: pd.DataFrame | None = None,
    level: float = 0.95,
    goals: Mapping[str, str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Learning curves: every run's own line, and per variant the mean with a pointwise t band.

    history: `aggregate.history`; runs: `aggregate.frame`, to mark failed runs and leave them out of the mean.
    Points are where values were logged, never interpolated; a value that is not finite leaves a gap. The legend
    states n, and from which step on it is smaller; a run that ended before the others ends in a bar, a failed one
    in a cross. The band covers at each step for itself, not as a whole, and says so. StatisticsError when the
    metric was never logged.
    """
    from matplotlib.ticker import MaxNLocator

    if metric not in history or not np.isfinite(history[metric].to_numpy(np.float64)).any():
        names = aggregate.metric_names(history)
        raise StatisticsError(
            f"{metric!r} was never logged", hint="logged: " + (listed(names, 20) if names else "nothing")
        )
    failed = _failed(runs)
    thinned = 1
    with style():
        axes = _axes(ax)
        for place, (name, cell) in enumerate(_cells(history)):
            color = COLORS[place % len(COLORS)]
            found = aggregate.band(_counted(cell, runs), metric, level)
            every = max(1, -(-len(found) // MOST_POINTS))
            thinned = max(thinned, every)
            _draw_runs(axes, cell, metric, color, failed, every)
            drawn = found.iloc[::-1].iloc[::every].iloc[::-1]  # counted from the end: the last step is kept
            x = drawn[aggregate.STEP].to_numpy()
            axes.plot(x, drawn["mean"], color=color, label=_band_label(name, found), marker=_marker(x))
            axes.fill_between(x, drawn["low"], drawn["high"], color=color, alpha=0.22, lw=0)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))  # there is no step 2.5
        axes.set_xlabel("step" + (f" (every {thinned}th drawn)" if thinned > 1 else ""))
        axes.set_ylabel(_metric_label(metric, goals))
        axes.set_title(f"mean over seeds, pointwise {percent(level)} t band (Student t at each step)")
        _legend(axes)
    return axes


def save(axes: Axes, path: str | os.PathLike[str]) -> None:
    """Write the figure of `axes` to `path`: .pdf or .svg for a paper, .png for a screen.

    Vector files hold text as text and no time stamp: the same figure gives the same bytes.
    """
    figure: Figure = axes.get_figure(root=True)  # type: ignore[assignment]
    suffix = os.fspath(path).rpartition(".")[2].lower()
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(suffix)
    with style():
        figure.savefig(path, dpi=200, metadata=undated)


def _axes(ax: Axes | None, height: float | None = None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    figsize = (RC["figure.figsize"][0], height or RC["figure.figsize"][1])
    return plt.subplots(figsize=figsize, layout="constrained")[1]


def _metric_label(metric: str, goals: Mapping[str, str] | None) -> str:
    # A dollar sign would start a formula.
    return f"{shown(metric)} {ARROWS[direction(metric, goals)]}".rstrip().replace("$", r"\$")


def _seed_values(cell: pd.DataFrame, metric: str) -> npt.NDArray[np.float64]:
    seeds, status = cell["seed"].to_numpy(), cell["status"].to_numpy(dtype=str)
    kept = aggregate.converged(seeds, status)
    return aggregate.values_by_seed(seeds[kept], cell[metric].to_numpy(np.float64)[kept])[1]


def _spread(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Vertical offsets that stack near-equal values, so that none hides another; nothing is by lot."""
    width = np.ptp(values) / 50 if values.size else 0.0
    bins = np.round((values - values.min()) / width) if width else np.zeros(values.size)
    offsets = np.zeros(values.size)
    for bin_ in np.unique(bins):
        its = np.flatnonzero(bins == bin_)
        offsets[its] = (np.arange(its.size) - (its.size - 1) / 2) * min(0.11, 0.4 / its.size)
    return offsets


def _row_label(row: Any, name: str) -> str:
    counted = f"n = {row.n}" + (f" of {row.planned}" if row.n != row.planned else "")
    parts = [shown(name, 40), counted, f"{row.failed} failed" if row.failed else ""]
    return "\n".join(part for part in parts if part).replace("$", r"\$")


def _cells(history: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    grouped = list(history.groupby(["task", "variant"], sort=True, observed=True))
    name = labels((str(key[0]), str(key[1])) for key, _ in grouped)
    return [(shown(name[str(key[0]), str(key[1])], 40), cell) for key, cell in grouped]


def _failed(runs: pd.DataFrame | None) -> frozenset[Key]:
    if runs is None:
        return frozenset()
    which = runs.loc[runs["status"] == "failed", list(aggregate.RUN)]
    return frozenset(which.itertuples(index=False, name=None))


def _counted(cell: pd.DataFrame, runs: pd.DataFrame | None) -> pd.DataFrame:
    """The rows of the runs that enter a mean; of all, where nothing says what became of them."""
    if runs is None:
        return cell
    keys = list(aggregate.RUN)
    its = runs[(runs["task"] == str(cell["task"].iloc[0])) & (runs["variant"] == str(cell["variant"].iloc[0]))]
    kept = its.loc[aggregate.converged(its["seed"].to_numpy(), its["status"].to_numpy(dtype=str)), keys[2:]]
    which = pd.MultiIndex.from_frame(cell[keys[2:]]).isin(pd.MultiIndex.from_frame(kept))
    return cell[which]


def _draw_runs(axes: Axes, cell: pd.DataFrame, metric: str, color: str, failed: frozenset[Key], every: int) -> None:
    grid = _logged(cell, metric)
    runs = list(cell.groupby(list(aggregate.RUN), sort=True, observed=True))
    for key, run in runs:
        own = run[run[aggregate.STEP].isin(grid)]
        x, y = own[aggregate.STEP].to_numpy(), own[metric].to_numpy(np.float64)
        finite = np.flatnonzero(np.isfinite(y))
        if finite.size == 0:
            continue
        if len(runs) <= MOST_CURVES:
            keep = np.arange(x.size) % every == (x.size - 1) % every
            axes.plot(x[keep], y[keep], color=color, alpha=0.35, lw=0.7, marker=_marker(x), ms=2)
        last = finite[-1]
        if key in failed or x[last] < grid[-1]:
            mark, its = ("x", FAILED) if key in failed else ("|", color)
            axes.plot(x[last], y[last], mark, color=its, ms=7, mew=1.6, zorder=4, label=f"_{MARKS[mark]}")


def _legend(axes: Axes) -> None:
    """The legend of the bands, and one entry for each kind of mark that occurs."""
    from matplotlib.lines import Line2D

    found = {str(line.get_label()).removeprefix("_") for line in axes.lines}
    marks = [
        Line2D([], [], marker=mark, ls="", ms=7, mew=1.6, color=color, label=meaning)
        for (mark, meaning), color in zip(MARKS.items(), (FAILED, "0.35"), strict=True)
        if meaning in found
    ]
    axes.legend(handles=[*axes.get_legend_handles_labels()[0], *marks])


def _logged(cell: pd.DataFrame, metric: str) -> npt.NDArray[np.int64]:
    """The steps at which any run logged the metric: elsewhere a missing value is no gap."""
    there = np.isfinite(cell[metric].to_numpy(np.float64))
    return np.unique(cell[aggregate.STEP].to_numpy()[there])


def _marker(x: npt.NDArray[Any]) -> str:
    return "o" if x.size == 1 else ""


def _band_label(name: str, found: pd.DataFrame) -> str:
    """ "n = 10, 9 from step 31": where the number of seeds behind the mean changes, and to what."""
    n, steps = found["n"].to_numpy(), found[aggregate.STEP].to_numpy()
    if n.size == 0:
        return (f"{name}: " if name else "") + "no step that all runs logged"
    changes = [f"{n[i]} from step {steps[i]}" for i in np.flatnonzero(np.diff(n)) + 1]
    text = ", ".join([f"n = {n[0]}", *changes])
    if len(changes) > 3:
        text = f"n = {n.min()} to {n.max()}, {n[-1]} at the last step"
    return (f"{name}: {text}" if name else text).replace("$", r"\$")
