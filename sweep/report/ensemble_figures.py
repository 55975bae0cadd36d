"""Pictures of an ensemble, from an Assessment. Each function returns a Figure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from sweep.ensemble import Assessment, Classification
from sweep.errors import StatisticsError
from sweep.evaluation import Answers
from sweep.goals import direction, with_arrow
from sweep.number import number, percent, places
from sweep.report.drawing import CALIBRATED, MEASURED, PAPER, SOFT, WRONG, Frame, Size, breadth, legend, lines, style
from sweep.report.ensemble import source
from sweep.words import plural, shown

MOST_MEMBERS = 40  # members in a matrix
MOST_POINTS = 200  # points of a risk-coverage curve


def drawable(found: Assessment) -> list[tuple[str, Callable[..., Figure]]]:
    """Return (title, function of a size) of each picture of an ensemble; a function raises if it has no picture."""
    curves = [one.metric for one in found.curves if np.isfinite(one.value).any()][:2]
    return [
        *((f"{metric} by number of members", partial(size_curve, found, metric)) for metric in curves),
        ("Reliability: accuracy by confidence", partial(reliability, found)),
        ("Risk by coverage", partial(risk_coverage, found)),
        ("Disagreement of members", partial(disagreement, found)),
        ("Total uncertainty", partial(uncertainty, found, "total")),
        ("Epistemic uncertainty", partial(uncertainty, found, "epistemic")),
    ]


def size_curve(found: Assessment, metric: str = "", *, size: Size = "screen") -> Figure:
    """Draw the expected score of a random ensemble of k of the members, with its jackknife band over seeds.

    metric: one of the curves. Default: NLL, or RMSE for regression. With fewer than 3 members there is no band.
    """
    curves = {one.metric: one for one in found.curves}
    metric = metric or ("nll" if "nll" in curves else "rmse")
    if metric not in curves:
        raise StatisticsError(f"there is no size curve of {metric!r}", hint=f"choose one of: {', '.join(curves)}")
    one = curves[metric]
    sizes = np.arange(1, one.members + 1)
    title = f"expected score of k members, {percent(one.level)} band over seeds (jackknife)"
    with _framed(size, title) as frame:
        axes = frame.axes
        axes.fill_between(sizes, one.low, one.high, color=MEASURED, alpha=0.2, lw=0)
        axes.plot(sizes, one.value, "o-" if len(sizes) <= 20 else "-", ms=4, color=MEASURED)
        axes.axhline(one.value[-1], color=SOFT, lw=0.8, ls=":")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("members")
        axes.set_ylabel(with_arrow(f"{shown(found.split, 20)}/{metric}", direction(metric)))
        return frame.numbered()


def reliability(found: Assessment, *, size: Size = "screen") -> Figure:
    """Draw accuracy against confidence in bins of equal mass, before and after calibration, with intervals."""
    made = found.calibration
    if found.kind != "classification":
        raise StatisticsError("a reliability diagram needs classes, but these members predict values")
    if made is None or made.diagram_before is None or made.diagram_after is None:
        raise StatisticsError("nothing was calibrated: the ensemble gives probability 0 to a target")
    title = f"reliability on {shown(found.split, 20)}; {made.parameter} {number(made.served, 3)}, {source(made)}"
    with _framed(size, title, above=2.9, square=True) as frame:
        axes = frame.axes
        axes.plot([0, 1], [0, 1], color=SOFT, lw=0.8, ls=":")
        for name, diagram, ece, color, mark in (
            ("raw", made.diagram_before, made.before["ece"], MEASURED, "s"),
            ("calibrated", made.diagram_after, made.after["ece"], CALIBRATED, "o"),
        ):
            axes.errorbar(
                diagram.confidence, diagram.accuracy, (diagram.accuracy - diagram.low, diagram.high - diagram.accuracy),
                fmt=mark, color=color, ms=5, elinewidth=1.0, label=f"{name}: ECE {number(ece, 3)}",
            )  # fmt: skip
        axes.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="confidence of the top class")
        axes.set_ylabel(f"accuracy, {percent(found.level)} CI")
        legend(axes)
        return frame.numbered()


def risk_coverage(found: Assessment, *, size: Size = "screen") -> Figure:
    """Draw the error rate of the most confident predictions, for each share of examples that is kept."""
    if not isinstance(found, Classification):
        raise StatisticsError("risk and coverage need classes, but these members predict values")
    kept = np.unique(np.linspace(0, found.risk.risk.size - 1, min(found.risk.risk.size, MOST_POINTS)).round())
    share, risk = found.risk.coverage[kept.astype(int)], found.risk.risk[kept.astype(int)]
    title = f"the surest first, on {shown(found.split, 20)}; area {number(found.risk.area, 4)}"
    with _framed(size, title) as frame:
        axes = frame.axes
        axes.fill_between(share, 0, risk, color=MEASURED, alpha=0.15, lw=0)
        axes.plot(share, risk, color=MEASURED)
        axes.set(xlim=(0, 1), ylim=(0, None), xlabel="share of examples answered", ylabel="error rate among them")
        return frame.numbered()


def agreement(found: Answers, *, size: Size = "screen") -> Figure:
    """Draw the accuracy of the majority by the share of answered examples, for each number of agreeing members."""
    one, members = found.abstention, found.votes.members
    level = percent(found.votes.interval.level)
    with _framed(size, f"answers of the majority on {shown(found.split, 20)}, {level} CI over examples") as frame:
        axes = frame.axes
        axes.fill_between(one.coverage, one.low, one.high, color=MEASURED, alpha=0.2, lw=0)
        axes.plot(one.coverage, one.accuracy, "o-" if len(one.share) <= 20 else "-", ms=5, color=MEASURED)
        ends = ((0, "left"), (-1, "right")) if len(one.share) > 1 else ((0, "center"),)
        for i, side in ends:
            agree = f"{round(one.share[i] * members)} of {members} agree"
            axes.annotate(agree, (one.coverage[i], one.high[i]), xytext=(0, 5), textcoords="offset points", ha=side)
        axes.set(xlabel="share of examples answered", ylabel="accuracy of these")
        axes.margins(x=0.08, y=0.12)
        return frame.numbered()


def disagreement(found: Assessment, *, size: Size = "screen") -> Figure:
    """Draw how much each pair of members differs: share of examples with other top classes, or RMS difference."""
    if isinstance(found, Classification):
        matrix, name = 100 * found.disagreement, "% of examples with other top classes"
    else:
        matrix, name = found.rms_difference, "root mean square difference"
    count = len(found.labels)
    if not 1 < count <= MOST_MEMBERS:
        raise StatisticsError(f"there is no matrix of {count} members", hint=f"choose 2 to {MOST_MEMBERS} members")
    pairs = matrix[np.tril_indices(count, -1)]
    low, wide, mean = float(pairs.min()), float(np.ptp(pairs)), number(float(pairs.mean()), digits=3)
    digits = 1 if found.kind == "classification" else places(wide)
    with _framed(size, f"{name} on {shown(found.split, 20)}; {mean} on average", square=True) as frame:
        axes = frame.axes
        for i in range(1, count):
            for j in range(i):
                strength = (float(matrix[i, j]) - low) / wide if wide else 0.5
                axes.add_patch(Rectangle((j - 0.5, i - 1.5), 1, 1, facecolor=MEASURED, edgecolor=PAPER, lw=1,
                                         alpha=0.08 + 0.4 * strength))  # fmt: skip
                if count < lines(size) / 3.4:
                    axes.text(j, i - 1, number(float(matrix[i, j]), digits), ha="center", va="center")
        axes.set(xlim=(-0.5, count - 1.5), ylim=(count - 1.5, -0.5))
        labels = [shown(label, 12).removeprefix("seed") for label in found.labels]
        step = max(1, -(-count // 20))
        axes.set_xticks(range(0, count - 1, step), labels[:-1:step], rotation=90 if max(map(len, labels)) > 2 else 0)
        axes.set_yticks(range(0, count - 1, step), labels[1::step])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(xlabel="member", ylabel="member")
        frame.place(breadth(labels) + 2.2)
        return frame.figure


def uncertainty(
    found: Assessment, part: Literal["total", "aleatoric", "epistemic"] = "total", *, size: Size = "screen"
) -> Figure:
    """Draw histograms of one uncertainty for the examples predicted right and wrong, each scaled to its own total."""
    values = getattr(found.uncertainty, part)
    if found.kind != "classification" or values is None:
        raise StatisticsError("right and wrong need classes, but these members predict values")
    right = found.prediction == found.targets
    edges = np.linspace(0, float(values.max()) or 1.0, 26)
    meaning = {"total": "", "aleatoric": " (noise)", "epistemic": " (disagreement)"}[part]
    with _framed(size, f"{part} uncertainty{meaning} on {shown(found.split, 20)}", above=2.9) as frame:
        axes = frame.axes
        looks: Any = {"right": {"histtype": "stepfilled", "alpha": 0.35}, "wrong": {"histtype": "step", "lw": 1.8}}
        for which, name, color in ((right, "right", MEASURED), (~right, "wrong", WRONG)):
            if which.any():
                share = np.full(int(which.sum()), 100 / which.sum())
                label = f"{name}: {plural(int(which.sum()), 'example')}, mean {number(float(values[which].mean()), 3)}"
                axes.hist(values[which], edges.tolist(), weights=share, color=color, label=label, **looks[name])
        axes.set(xlim=(0, None), xlabel=f"{part} uncertainty (nats)", ylabel="% of the right, of the wrong")
        legend(axes)
        return frame.numbered()


@contextmanager
def _framed(size: Size, title: str, *, above: float = 0.3, square: bool = False) -> Iterator[Frame]:
    """Make a figure of one panel, with its style set while it is drawn."""
    height = min(28, lines(size) - 6) if square else min(18, lines(size) * 0.5)
    with style(size):
        frame = Frame(size, height, title, above=above, scaled=True)
        frame.axes.set_box_aspect(1 if square else None)
        yield frame
