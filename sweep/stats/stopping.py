"""Stopping rules that may look after every seed (`--until`), as functions of the completed prefix.

Both take seeds in planned order, not in the order of completion, so that fast seeds do not count earlier. A
failed seed (NaN or infinite) uses its place and gives no number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep.errors import ConfigError, StatisticsError
from sweep.stats.compare import attainable, differences
from sweep.stats.interval import Interval, Method, t_interval
from sweep.stats.sample import NUMBER, Floats, check_level, mean, rounding, sample, sd

_WIDTH = re.compile(rf"\s*(?P<metric>\S+?)\s*(?:±|\+-|\+/-)\s*(?P<width>{NUMBER})\s*", re.ASCII)
_ORDER = re.compile(r"\s*(?P<metric>[^\s:]+)\s*:\s*(?P<first>[^>]+?)\s*>\s*(?P<second>[^>]+?)\s*")
_UNTIL_HINT = 'write for example "test/accuracy ± 0.005" (or +-) or "test/accuracy: A > B"'
FIRST_LOOK = 5
EXTRA = 4  # Simons 1968: more seeds after the width is met, to restore the coverage that the looks cost
PRIOR = 0.715  # r: the prior variance of the mean difference is σ²/r


@dataclass(frozen=True)
class UntilWidth:
    """`METRIC ± WIDTH`: until the mean is known to ± half_width."""

    metric: str
    half_width: float


@dataclass(frozen=True)
class UntilOrder:
    """`METRIC: FIRST > SECOND`: until one variant's mean is known to be the larger."""

    metric: str
    first: str
    second: str


def parse_until(text: str) -> UntilWidth | UntilOrder:
    """Read `METRIC ± WIDTH` (also +-, +/-) or `METRIC: A > B`. Raise ConfigError for any other text."""
    if found := _WIDTH.fullmatch(text):
        width = float(found["width"])
        if 0 < width < math.inf:
            return UntilWidth(found["metric"], width)
        raise ConfigError(f"the width in {text!r} is not a positive number", where="--until", hint=_UNTIL_HINT)
    found = _ORDER.fullmatch(text)
    if found is None:
        raise ConfigError(f"the rule {text!r} cannot be read", where="--until", hint=_UNTIL_HINT)
    if found["first"] == found["second"]:
        raise ConfigError(f"{text!r} compares {found['first']} with itself", where="--until", hint=_UNTIL_HINT)
    return UntilOrder(found["metric"], found["first"], found["second"])


@dataclass(frozen=True)
class WidthState:
    """State of the fixed-width rule.

    target: number of places in the seed list that are surely needed; met_at: place of the first of the
    consecutive looks that met the width; used: places counted in `mean`; n: finished seeds among them; looks: number of
    looks taken.
    """

    state: Literal["running", "met", "not reached", "incomplete"]
    target: int
    looks: int
    met_at: int | None
    used: int
    n: int
    mean: float | None
    interval: Interval | None  # mean ± half_width, once met
    descriptive: Interval | None  # the plain t interval, which does not account for the looks


@dataclass(frozen=True)
class OrderState:
    """State of the comparison; `interval` is the confidence sequence at the last place used."""

    state: Literal["running", "A > B", "B > A", "not reached", "incomplete"]
    target: int
    looks: int
    used: int
    n: int
    mean: float | None
    interval: Interval | None


def width_rule(
    values: npt.ArrayLike,
    half_width: float,
    *,
    max_seeds: int,
    level: float = 0.95,
    quantum: float = 0.0,
    lost: bool = False,
) -> WidthState:
    """Apply the fixed-width rule (Simons 1968): the t half-width is met with at least 5 seeds, and for 4 more.

    values: the completed prefix in planned order, shape (k,), NaN or infinite for a failed seed. lost: the
    seed after it will never finish. quantum: the step of the metric (1/examples for an accuracy); s is floored
    at quantum/√12, the sd of its rounding. s = 0 never stops. The width must first be met by
    max_seeds - 4, because the four more always run.
    The result is mean ± half_width over all places up to the stop; a rule that is not met by the cap is
    "not reached" and has only the t interval, as a description. Raises StatisticsError for max_seeds < 9, and for a
    half-width that is not positive and finite.

    Measured coverage at 95 %, widths .15 to 3 sd (benchmarks/coverage.py): at least .95 for normal seeds, .92
    for accuracies near 1 (Beta, skewness -1.6), .90 for exponential ones. Log-normal seeds (skewness 6) reach
    .83: their mean depends on rare values, and a t interval of 60 seeds without looks covers .90. If the width did not
    have to stay met, it would be .95, .91, .88 and .79, because a lucky run of similar seeds could end the rule.
    """
    if max_seeds < FIRST_LOOK + EXTRA:
        raise StatisticsError(f"max_seeds is {max_seeds}, but the rule needs at least {FIRST_LOOK + EXTRA}")
    if not (math.isfinite(half_width) and half_width > 0):
        raise StatisticsError(f"half-width {half_width!r} is not a positive number")
    numbers = np.asarray(values, dtype=np.float64)[:max_seeds]
    done = numbers.size
    met = width_met(numbers, half_width, level=level, quantum=quantum)
    stops = np.flatnonzero(width_kept(met))
    stop = int(stops[0]) + 1 if stops.size else None
    in_a_row = done - 1 - int(np.flatnonzero(~met)[-1]) if not met.all() else done
    target = stop or min(max_seeds, max(FIRST_LOOK + EXTRA, done + 1 + EXTRA - in_a_row))
    used = min(done, target)
    state: Literal["running", "met", "not reached", "incomplete"] = "running"
    if done >= target:
        state = "met" if stop else "not reached"
    elif lost:
        state = "incomplete"
    kept = numbers[:used][np.isfinite(numbers[:used])]
    centre = mean(kept) if kept.size else None
    interval = None
    if state == "met" and centre is not None:
        interval = Interval(centre - half_width, centre + half_width, level, Method.FIXED_WIDTH)
    plain = t_interval(kept, level) if kept.size else None
    met_at = stop - EXTRA if stop else None
    looks = max(0, used - FIRST_LOOK + 1)
    return WidthState(state, target, looks, met_at, used, kept.size, centre, interval, plain)


def width_met(values: Floats, half_width: float, *, level: float = 0.95, quantum: float = 0.0) -> npt.NDArray[np.bool_]:
    """Return, for each prefix along the last axis, whether its t half-width is small enough. Shape (…, n) to (…, n)."""
    alpha = check_level(level)
    n, _, spread = prefix_moments(values)
    enough = (n >= FIRST_LOOK) & (spread > 0)
    floored = np.maximum(spread, quantum / math.sqrt(12))
    # One quantile per possible n, because over many studies each would be computed many times.
    t = special.stdtrit(np.arange(values.shape[-1] + 1) - 1.0, 1 - alpha / 2)[n]
    met: npt.NDArray[np.bool_] = enough & (t * floored <= half_width * np.sqrt(np.maximum(n, 1)))
    return met


def width_kept(met: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return where `width_met` holds and held at the four places before, so the rule may stop: (…, n) to (…, n)."""
    padded = np.concatenate([np.zeros((*met.shape[:-1], EXTRA), dtype=bool), met], axis=-1)
    kept: npt.NDArray[np.bool_] = np.logical_and.reduce(
        [padded[..., i:][..., : met.shape[-1]] for i in range(EXTRA + 1)]
    )
    return kept


def prefix_moments(values: Floats) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Return number, mean and sd (0 below two) of the values of finished seeds in each prefix, (…, n) each.

    Running sums along the last axis, about the first such value, so that a later seed cannot change an
    earlier look and equal values have exactly no spread.
    """
    good = np.isfinite(values)
    n = np.cumsum(good, axis=-1)
    if not values.shape[-1]:
        return n, np.zeros(values.shape), np.zeros(values.shape)
    first = np.take_along_axis(np.where(good, values, 0.0), np.argmax(good, axis=-1)[..., None], axis=-1)
    shifted = np.where(good, values - first, 0.0)
    total, squares = np.cumsum(shifted, axis=-1), np.cumsum(shifted**2, axis=-1)
    count = np.maximum(n, 1)
    scatter = np.maximum(squares - total**2 / count, 0.0)
    return n, first + total / count, np.sqrt(scatter / np.maximum(n - 1, 1))


def sequence_interval(values: npt.ArrayLike, level: float = 0.95) -> Interval | None:
    """Return the t confidence sequence for a mean, valid at every n at once (normal mixture, unknown variance).

    values: shape (n,), finite, for example paired differences. Prior N(0, σ²/r) on the mean, r = .715;
    half-width s/√n · √((n-1)(c-1)/(1-cρ)), ρ = r/(r+n), c = (α²ρ)^(-1/n) (Lai 1976; Wang & Ramdas 2024).
    None for n < 5, where it is infinite.
    """
    factor = float(sequence_factor(np.array([np.size(values)]), level)[0])
    if not math.isfinite(factor):
        return None
    numbers = sample(values)
    centre = mean(numbers)
    half = factor * sd(numbers) / math.sqrt(numbers.size)
    return Interval(centre - half, centre + half, level, Method.SEQUENCE)


def sequence_factor(n: npt.NDArray[np.int64], level: float = 0.95) -> Floats:
    """Return the factor on s/√n in the sequence: 6.58, 3.85, 3.46 at n = 5, 10, 20; infinite below 5."""
    alpha = check_level(level)
    count = np.maximum(n, 1).astype(np.float64)
    rho = PRIOR / (PRIOR + count)
    # c overflows for small n and extreme levels, where the factor is infinite anyway.
    log_c = -np.log(alpha**2 * rho) / count
    solvable = (n >= FIRST_LOOK) & (log_c + np.log(rho) < 0)
    c = np.exp(np.where(solvable, log_c, 0.0))
    squared = (count - 1) * (c - 1) / (1 - c * rho)
    return np.where(solvable, np.sqrt(squared), math.inf)


def first_order(level: float = 0.95) -> int:
    """Return the number of pairs at the first look for an order, enough for an exact test to reach the level.

    6 at 95 %, see `compare.attainable`. Below that, a confidence sequence relies on normal differences alone, and the
    comparison of the same pairs would call them not distinguishable.
    """
    return next(n for n in range(FIRST_LOOK, 64) if attainable(n) <= check_level(level))


def order_rule(
    a: npt.ArrayLike, b: npt.ArrayLike, *, max_seeds: int, level: float = 0.95, lost: bool = False
) -> OrderState:
    """Stop at the first n >= `first_order` whose t confidence sequence on the paired differences A - B excludes 0.

    a, b: completed prefixes in planned order, shape (k,) each, position i the same seed; a pair with a failed
    seed (NaN or infinite) uses its place. "A > B": the metric of A is larger, whatever its direction. A look
    after every seed is accounted for: the chance of ever naming an order between equals is at most 1 - level.
    Equal differences (s = 0) never stop. lost, "not reached", StatisticsError: as in `width_rule`.
    """
    least = first_order(level)
    if max_seeds < least:
        raise StatisticsError(f"max_seeds is {max_seeds}, but the rule first looks at {least} seeds")
    first, second = (np.asarray(arm, dtype=np.float64)[:max_seeds] for arm in (a, b))
    done = first.size
    both = np.isfinite(first) & np.isfinite(second)
    gaps = np.full(done, math.nan)
    gaps[both] = first[both] - second[both]
    excluded = excludes_zero(gaps, level=level, least=rounding(first[both], second[both]))
    decided = np.flatnonzero(excluded & (np.cumsum(both) >= least))
    used = int(decided[0]) + 1 if decided.size else done
    both = both[:used]
    kept = differences(first[:used][both], second[:used][both]) if both.any() else gaps[:0]
    centre = mean(kept) if kept.size else None
    state: Literal["running", "A > B", "B > A", "not reached", "incomplete"] = "running"
    if decided.size and centre is not None:
        state = "A > B" if centre > 0 else "B > A"
    elif done >= max_seeds or lost:
        state = "not reached" if done >= max_seeds else "incomplete"
    target = min(max_seeds, max(least, done + 1)) if state == "running" else used
    looks = max(0, used - least + 1)
    return OrderState(state, target, looks, used, kept.size, centre, sequence_interval(kept, level))


def excludes_zero(gaps: Floats, *, level: float = 0.95, least: float = 0.0) -> npt.NDArray[np.bool_]:
    """Return, for each prefix along the last axis, whether the confidence sequence excludes 0. Shape (…, n) to (…, n).

    A spread of at most `least` counts as none. Without spread, 0 is never excluded.
    """
    n, centre, spread = prefix_moments(gaps)
    error = np.where(spread > least, spread, math.inf) / np.sqrt(np.maximum(n, 1))
    half = sequence_factor(n, level) * error
    out: npt.NDArray[np.bool_] = np.abs(centre) > half
    return out


def more_seeds(planned: Iterable[int], count: int) -> list[int]:
    """Return the `count` smallest non-negative integers that are not planned yet, in order."""
    taken = set(planned)
    return [seed for seed in range(len(taken) + count) if seed not in taken][:count]
