"""Sentences about the spread between seeds, the median of all of them, and several tasks together."""

from __future__ import annotations

import math

from sweep.analysis.model import Across, Median, Progress, Spread, Together
from sweep.number import limits, number, percent, places
from sweep.report.remarks import said_of
from sweep.stats import Method
from sweep.stats.tasks import RESAMPLES
from sweep.words import plural, shown


def training(one: Spread) -> str:
    """Say what training alone would leave of the spread; negative estimates as they are."""
    raw = one.training_variance or 0.0
    if raw <= 0:
        return f"training alone would give no spread that can be seen (variance {number(raw, digits=2)})"
    return f"on endless test data the seeds would differ by an sd of {number(math.sqrt(raw), places(one.sd))}"


def chance(one: Spread) -> str:
    """Say that the seeds differ by chance on this test set, or nothing."""
    if not one.mostly_chance:
        return ""
    return (
        "Seed differences here are mostly chance on this test set: picking the best seed gains little. "
        "More seeds narrow the mean on THIS test set; only more examples narrow its distance from the true "
        f"{one.metric.rpartition('/')[2]}."
    )


def median(one: Median) -> str:
    """Say where the middle of all finished seeds is."""
    scale = places(one.sd)

    def said(value: float) -> str:
        return number(value, scale) if math.isfinite(value) else "a failed seed"

    of = f"{shown(one.label)}: " if one.label else ""
    ranked = f", {one.failed} failed ranked worst" if one.failed else ""
    around = f"no {percent(one.level)} CI exists"
    if one.low is not None and one.high is not None:
        around = f"{percent(one.level)} CI {said(one.low)} to {said(one.high)}"
    seeds = plural(one.seeds, "finished seed")
    return f"{of}median {shown(one.metric)} of all {seeds}{ranked}: {said(one.median)} ({around})"


def over(found: Across) -> str:
    """Return what the pooled numbers are over: never other tasks than these."""
    left = found.planned - found.seeds
    converged = f" that converged in every task ({left} did not)" if left else ""
    return f"these {plural(found.tasks, 'task')}, {plural(found.seeds, 'seed')}{converged}"


def together(found: Across) -> str:
    """Say what the tasks say together, or why they say nothing."""
    of = f"{shown(found.label)}: " if found.label else ""
    if found.mean is None:
        return f"{of}{why(found)}"
    mean = _with(found.mean, found.mean_low, found.mean_high, found.level)
    middle = _with(found.iqm, found.iqm_low, found.iqm_high, found.level)
    return f"{of}normalised mean {mean}, interquartile mean {middle} over {over(found)}; {method(found)}"


def _with(value: float | None, low: float | None, high: float | None, level: float) -> str:
    if low is None or high is None:
        return number(value, 3)
    return f"{number(value, 3)} ({percent(level)} CI {limits(low, high, 3)})"


def why(one: Across | Progress | Together | Spread) -> str:
    """Say why there is no number; "" where nothing is missing."""
    return "" if one.reason is None else said_of(one.reason)


def method(one: Across) -> str:
    """Return how the intervals over tasks were found, or why there are none."""
    if one.method is None:
        return why(one) if one.mean is not None else ""
    return f"{one.method}, these {one.tasks} tasks, {RESAMPLES} resamples"


def order(one: Median) -> str:
    """Return which values bound the median."""
    if one.ranks is None:
        return f"no interval exists for {plural(one.seeds, 'seed')}"
    return f"{Method.ORDER} {one.ranks[0]} and {one.ranks[1]} of {one.seeds}, exact coverage {one.coverage:.3f}"


def source(one: Spread) -> str:
    """Return what the seeds vary."""
    return f"{', '.join(one.vary)} only" if one.vary else "everything a seed decides"
