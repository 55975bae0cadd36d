"""Which direction of a metric is better: known for the usual ones, declared for others, else unknown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sweep.errors import ConfigError

Goal = Literal["max", "min"]

KNOWN: Mapping[str, Goal] = {
    **dict.fromkeys(("accuracy", "acc", "balanced_accuracy", "auroc", "auprc", "f1", "precision", "recall"), "max"),
    **dict.fromkeys(("r2", "top5_accuracy", "coverage_gain", "log_likelihood"), "max"),
    **dict.fromkeys(("loss", "nll", "brier", "ece", "error", "perplexity"), "min"),
    **dict.fromkeys(("rmse", "mse", "mae", "crps"), "min"),
}  # fmt: skip

ARROWS: Mapping[Goal | None, str] = {"max": "↑", "min": "↓", None: ""}


def direction(metric: str, goals: Mapping[str, str] | None = None) -> Goal | None:
    """ "max", "min", or None where nobody said; `goals` (the config's) come first, by full name or last part.

    metric: `split/metric` or a bare name. ConfigError when a goal is neither max nor min.
    """
    leaf = metric.rpartition("/")[2]
    for name in (metric, leaf):
        declared = (goals or {}).get(name)
        if declared == "max":
            return "max"
        if declared == "min":
            return "min"
        if declared is not None:
            raise ConfigError(f"goal {declared!r} is neither max nor min", where=f"goals.{name}")
    return KNOWN.get(leaf)


def better(metric: str, a: float, b: float, goals: Mapping[str, str] | None = None) -> bool:
    """Whether `a` is better than `b`. ConfigError when the direction of the metric is unknown."""
    goal = direction(metric, goals)
    if goal is None:
        raise ConfigError(
            f"whether more or less of {metric!r} is better is not known",
            where="goals",
            hint=f"say so in the config: goals: {{{metric.rpartition('/')[2]}: max}}",
        )
    return a > b if goal == "max" else a < b
