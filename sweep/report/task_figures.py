"""Pictures of normalised scores over several tasks. Each function returns a Figure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sweep.analysis.model import Across, Curve, Progress
from sweep.errors import StatisticsError
from sweep.number import percent
from sweep.report import spreads
from sweep.report.document import distinct
from sweep.report.drawing import VARIANTS, Frame, Numbers, Size, breadth, lines, style
from sweep.words import plural, shown

LOOKS = [(color, line) for line in ("-", "--") for color in VARIANTS]
MOST = len(LOOKS)  # variants in a picture


def profiles(found: Sequence[Across], *, size: Size = "screen") -> Figure:
    """Draw the share of runs whose normalised score is above each threshold, one line per variant with its band.

    Raises
    ------
    StatisticsError
        There is no profile to draw.
    """
    drawn = sorted((one for one in found if one.profile and one.iqm is not None), key=lambda one: -(one.iqm or 0.0))
    if not drawn:
        raise StatisticsError("there is no performance profile", hint=spreads.why(found[0]) if found else "")
    first = drawn[0]
    with style(size):
        title = f"share of runs above each score, over {spreads.over(first)}; {_banded(first.profile, first.level)}"
        frame = _frame(size, title, [one.label for one in drawn], [one.profile for one in drawn if one.profile])
        axes = frame.panels[0]
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
        raise StatisticsError("there is no curve over tasks", hint=spreads.why(found[0]) if found else "")
    first = drawn[0]
    with style(size):
        many = f"these {plural(first.tasks, 'task')}, {plural(first.seeds, 'seed')}"
        title = f"interquartile mean over {many}; {_banded(first.curve, first.level)}"
        frame = _frame(size, title, [one.label for one in drawn], [one.curve for one in drawn if one.curve])
        axes = frame.panels[0]
        axes.set(xlabel="step", ylabel=f"normalised {shown(first.metric, 40)}")
        axes.xaxis.set_major_locator(MaxNLocator(4 if lines(size) < 42 else 8, integer=True, steps=[1, 2, 5, 10]))
        return _placed(frame)


def _banded(curve: Curve | None, level: float) -> str:
    if curve is None or curve.low[0] != curve.low[0]:
        return "too few tasks or seeds for a band"
    return f"pointwise {percent(level)} band"


def _frame(size: Size, title: str, labels: Sequence[str], curves: Sequence[Curve]) -> Frame:
    """Return a figure with the curves drawn and named above it, the highest first."""
    if (more := len(curves) - MOST) > 0:
        title += f"; {plural(more, 'more variant')} not drawn"
    names = distinct(list(labels)[:MOST], int(lines(size) * 0.9)) if any(labels) else []
    names = ["\n".join(textwrap.wrap(name, int((lines(size) - 9) / 0.62))) for name in names]
    columns = 1 if lines(size) < 42 else 2
    rows = -(-sum(1 + name.count("\n") for name in names) // columns)
    frame = Frame(size, min(20, lines(size) * 0.5), title, above=1.4 * rows + 0.3 if names else 0.0, scaled=True)
    axes = frame.panels[0]
    axes.margins(x=0.02)
    for place, (curve, (color, line)) in enumerate(zip(curves, LOOKS, strict=False)):
        _draw(axes, curve, color, line, names[place] if names else "")
    if names:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0, borderpad=0.2, ncols=columns,
                    handlelength=2.4)  # fmt: skip
    return frame


def _draw(axes: Axes, curve: Curve, color: str, line: str, name: str) -> None:
    axes.fill_between(curve.at, curve.low, curve.high, color=color, alpha=0.18, lw=0)
    axes.plot(curve.at, curve.value, line, color=color, lw=2, label=name, marker="o" if len(curve.at) == 1 else "")


def _placed(frame: Frame) -> Figure:
    """Return the figure with room at the right for half of the last number below it."""
    axis = frame.panels[0].xaxis
    return frame.numbered(max(0.8, breadth(Numbers().format_ticks(list(axis.get_majorticklocs()))) / 2))
