"""Pictures of an ensemble, in the style of `figures`. Each takes an Assessment and returns its Axes.

matplotlib is loaded inside the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sweep.ensemble import Assessment, Classification
from sweep.errors import StatisticsError
from sweep.goals import ARROWS, direction
from sweep.number import percent
from sweep.report.figures import COLORS, FAILED, RC, style
from sweep.report.words import shown
from sweep.report.worth_view import source

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LABELS = 12  # members beyond which a matrix shows colours without names and numbers
SQUARE = 3.6  # inches
CALIBRATED = COLORS[2]  # of what was calibrated, wherever it is drawn


def size_curve(found: Assessment, metric: str = "", *, ax: Axes | None = None) -> Axes:
    """The expected score of a random ensemble of k of the members, with its jackknife band over seeds.

    metric: of the assessment's curves; NLL, or RMSE in regression, unless given. Below 3 members there is no band.
    """
    curves = {one.metric: one for one in found.curves}
    metric = metric or ("nll" if "nll" in curves else "rmse")
    if metric not in curves:
        raise StatisticsError(f"there is no size curve of {metric!r}", hint=f"choose one of {', '.join(curves)}")
    from matplotlib.ticker import MaxNLocator

    one = curves[metric]
    sizes = np.arange(1, one.members + 1)
    with style():
        axes = _axes(ax)
        axes.fill_between(sizes, one.low, one.high, color=COLORS[0], alpha=0.2, lw=0)
        axes.plot(sizes, one.value, "o-" if len(sizes) <= 20 else "-", ms=4, color=COLORS[0])
        axes.axhline(one.value[-1], color="0.5", lw=0.8, ls=":")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("members")
        axes.set_ylabel(_label(metric, found))
        axes.set_title(f"expected score of k members, {percent(one.level)} band over seeds\n(delete-one jackknife)")
    return axes


def reliability(found: Assessment, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy against confidence in bins of equal mass, before and after calibration, with intervals."""
    made = found.calibration
    if found.kind != "classification":
        raise StatisticsError("a reliability diagram is of classes, and these members predict values")
    if made is None or made.diagram_before is None or made.diagram_after is None:
        raise StatisticsError("nothing was calibrated: the ensemble gives probability 0 to a target")
    with style():
        axes = _axes(ax, square=True)
        axes.plot([0, 1], [0, 1], color="0.5", lw=0.8, ls=":")
        for name, diagram, ece, color, mark in (
            ("raw", made.diagram_before, made.before["ece"], COLORS[0], "s"),
            ("calibrated", made.diagram_after, made.after["ece"], CALIBRATED, "o"),
        ):
            axes.errorbar(
                diagram.confidence, diagram.accuracy, (diagram.accuracy - diagram.low, diagram.high - diagram.accuracy),
                fmt=mark, color=color, ms=5, mec="white", mew=0.6, elinewidth=1.0, alpha=0.8, clip_on=False,
                label=f"{name}: ECE {ece:.4f}",
            )  # fmt: skip
        axes.set_xlim(0, 1.03)
        axes.set_ylim(0, 1.03)
        axes.set_aspect("equal")
        axes.set_xlabel("confidence of the top class")
        axes.set_ylabel(f"accuracy, {percent(found.level)} CI")
        axes.set_title(f"reliability on {shown(found.split, 20)}\n{made.parameter} {made.served:.3f}, {source(made)}")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)  # marks may be anywhere above
    return axes


def risk_coverage(found: Assessment, *, ax: Axes | None = None) -> Axes:
    """The error rate among the examples the ensemble is most sure of, for each share of them that is kept."""
    if not isinstance(found, Classification):
        raise StatisticsError("risk and coverage are of classes, and these members predict values")
    with style():
        axes = _axes(ax)
        axes.plot(found.risk.coverage, found.risk.risk, color=COLORS[0])
        axes.fill_between(found.risk.coverage, 0, found.risk.risk, color=COLORS[0], alpha=0.15, lw=0)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, None)
        axes.set_xlabel("coverage: share of examples answered, the surest first")
        axes.set_ylabel("risk: error rate among them")
        axes.set_title(f"risk and coverage on {shown(found.split, 20)}: area {found.risk.area:.4f}")
    return axes


def disagreement(found: Assessment, *, ax: Axes | None = None) -> Axes:
    """How much each two members differ: share of examples with other top classes, or RMS of the difference."""
    if isinstance(found, Classification):
        matrix, name = 100 * found.disagreement, "% of examples with different top classes"
    else:
        matrix, name = found.rms_difference, "root mean square difference"
    count = len(found.labels)
    drawn = np.where(np.eye(count, dtype=bool), np.nan, matrix)
    with style():
        axes = _axes(ax, square=True)
        image = axes.imshow(drawn, cmap="cividis", vmin=0)
        figure = axes.get_figure()
        assert figure is not None
        figure.colorbar(image, ax=axes, shrink=0.8, label=name)
        if count <= MOST_LABELS:
            labels = [shown(label, 12) for label in found.labels]
            axes.set_xticks(range(count), labels, rotation=90)
            axes.set_yticks(range(count), labels)
            top = float(np.nanmax(drawn)) or 1.0
            for i, j in zip(*np.nonzero(np.isfinite(drawn)), strict=True):
                value = drawn[i, j]
                text = f"{value:.1f}" if found.kind == "classification" else f"{value:.2g}"
                # Yellow under dark letters, blue under light ones.
                axes.text(j, i, text, ha="center", va="center", fontsize=6.5, color="k" if value > top * 0.55 else "w")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_title(f"disagreement of members on {shown(found.split, 20)}")
    return axes


def uncertainty(
    found: Assessment, part: Literal["total", "aleatoric", "epistemic"] = "total", *, ax: Axes | None = None
) -> Axes:
    """Histograms of one uncertainty for the examples predicted right and wrong, each scaled to its own number."""
    values = getattr(found.uncertainty, part)
    if found.kind != "classification" or values is None:
        raise StatisticsError("right and wrong are of classes, and these members predict values")
    right = found.prediction == found.targets
    edges = np.linspace(0, float(values.max()) or 1.0, 26)
    with style():
        axes = _axes(ax)
        looks: Any = {"right": {"histtype": "stepfilled", "alpha": 0.35}, "wrong": {"histtype": "step", "lw": 1.8}}
        for which, name, color in ((right, "right", COLORS[0]), (~right, "wrong", FAILED)):
            if which.any():
                share = np.full(int(which.sum()), 100 / which.sum())
                label = f"{name}: {int(which.sum())} examples, mean {values[which].mean():.3f}"
                axes.hist(values[which], edges.tolist(), weights=share, color=color, label=label, **looks[name])
        axes.set_xlim(0, None)
        axes.set_xlabel(f"{part} uncertainty (nats)")
        axes.set_ylabel("% of the right, of the wrong")
        axes.set_title(f"{part} uncertainty on {shown(found.split, 20)}")
        axes.legend()
    return axes


def _label(metric: str, found: Assessment) -> str:
    return f"{shown(found.split, 20)}/{metric} {ARROWS[direction(metric)]}".rstrip()


def _axes(ax: Axes | None, *, square: bool = False) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    size = (SQUARE * 1.25, SQUARE * 1.1) if square else RC["figure.figsize"]
    return plt.subplots(figsize=size, layout="constrained")[1]
