"""P(A > B): how often a seed of A is better than one of B. Better has a direction; failures rank worst."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep.errors import StatisticsError
from sweep.stats.compare import attainable, paired_samples
from sweep.stats.interval import Interval, clopper_pearson
from sweep.stats.sample import Floats, check_level, sample
from sweep.stats.worst_rank import ranked

MOST_COUNTED = 2500
MEANINGFUL = 0.75  # Bouthillier et al. 2021: the γ above which a difference is worth acting on

Reading = Literal[
    "too few seeds to be significant",
    "not significant",
    "significant, not meaningful",
    "significant, may be meaningful",
    "significant and meaningful",
]


@dataclass(frozen=True)
class Superiority:
    """P(A better than B), ties half; m, n seeds an arm, of which failed_a, failed_b failed."""

    probability: float
    interval: Interval
    m: int
    n: int
    failed_a: int
    failed_b: int
    method: str


@dataclass(frozen=True)
class WinRate:
    """On how many shared seeds A beat B. The interval is for wins / (wins + losses); ties decide nothing."""

    wins: int
    ties: int
    losses: int
    rate: float | None
    interval: Interval


def all_pairs_superiority(
    a: npt.ArrayLike, b: npt.ArrayLike, *, higher_is_better: bool, level: float = 0.95
) -> Superiority:
    """All-pairs P(A better than B) for independent seeds, with Newcombe's method 5.

    a: shape (m,), b: shape (n,), finite: StatisticsError otherwise (see `worst_rank_superiority`).
    """
    first, second = sample(a, name="A"), sample(b, name="B")
    return _superiority(first, second, higher_is_better, level, "all pairs, independent seeds")


def worst_rank_superiority(
    a: npt.ArrayLike, b: npt.ArrayLike, *, higher_is_better: bool, level: float = 0.95
) -> Superiority:
    """`all_pairs_superiority` over all seeds, NaN or infinite marking a failed one: it loses to any other.

    Two failed seeds tie. If A fails on 20 % of its seeds and gains 1 sd on the rest, P = .608; dropping the
    failures would say .76 (Lachin 1999, worst-rank scores).
    """
    first = ranked(a, higher_is_better=higher_is_better, name="A")
    second = ranked(b, higher_is_better=higher_is_better, name="B")
    return _superiority(first, second, higher_is_better, level, "all pairs, failed seeds ranked worst")


def _superiority(a: Floats, b: Floats, higher_is_better: bool, level: float, method: str) -> Superiority:
    ordered = np.sort(b)
    below = np.searchsorted(ordered, a, side="left")
    not_above = np.searchsorted(ordered, a, side="right")
    greater = float(np.sum(below + not_above)) / (2 * a.size * b.size)
    probability = greater if higher_is_better else 1 - greater
    interval = newcombe_5(probability, a.size, b.size, level)
    failed_a, failed_b = (int(np.count_nonzero(np.isinf(arm))) for arm in (a, b))
    return Superiority(probability, interval, a.size, b.size, failed_a, failed_b, method)


def newcombe_5(probability: float, m: int, n: int, level: float = 0.95) -> Interval:
    """Newcombe 2006 (Statistics in Medicine 25:559), method 5: the interval for P(A > B) with m and n seeds.

    The two θ with (θ̂-θ)² = z² θ(1-θ)/(mn) · [1 + (N-1)((1-θ)/(2-θ) + θ/(1+θ))], N = (m+n)/2, found by
    bisection on either side of θ̂. Within [0, 1] by construction.
    """
    z2 = float(special.ndtri(1 - check_level(level) / 2)) ** 2
    if not 0 <= probability <= 1 or min(m, n) < 1:
        raise StatisticsError(f"P(A > B) = {probability!r} over {m} x {n} seeds is no estimate")

    def beyond(theta: float) -> bool:
        spread = 1 + ((m + n) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (probability - theta) ** 2 > z2 * theta * (1 - theta) / (m * n) * spread

    return Interval(
        _boundary(beyond, outside=0.0, inside=probability),
        _boundary(beyond, outside=1.0, inside=probability),
        level,
        "Newcombe method 5",
    )


def _boundary(beyond: Callable[[float], bool], *, outside: float, inside: float) -> float:
    if not beyond(outside):
        return outside
    for _ in range(200):
        middle = (outside + inside) / 2
        if beyond(middle):
            outside = middle
        else:
            inside = middle
    return (outside + inside) / 2


def win_rate(a: npt.ArrayLike, b: npt.ArrayLike, *, higher_is_better: bool, level: float = 0.95) -> WinRate:
    """Same-seed wins of A over B with Clopper-Pearson. a, b: shape (n,), position i the same seed, finite."""
    first, second = paired_samples(a, b)
    return _win_rate(first, second, higher_is_better, level)


def worst_rank_win_rate(a: npt.ArrayLike, b: npt.ArrayLike, *, higher_is_better: bool, level: float = 0.95) -> WinRate:
    """`win_rate` with NaN or infinite marking a failed seed: it loses to one that is not, two of them tie."""
    first = ranked(a, higher_is_better=higher_is_better, name="A")
    second = ranked(b, higher_is_better=higher_is_better, name="B")
    if first.size != second.size:
        raise StatisticsError(f"A has {first.size} seeds and B has {second.size}: these are no pairs")
    return _win_rate(first, second, higher_is_better, level)


def _win_rate(a: Floats, b: Floats, higher_is_better: bool, level: float) -> WinRate:
    above, below = int(np.count_nonzero(a > b)), int(np.count_nonzero(a < b))
    wins, losses = (above, below) if higher_is_better else (below, above)
    decided = wins + losses
    rate = wins / decided if decided else None
    return WinRate(wins, a.size - decided, losses, rate, clopper_pearson(wins, decided, level))


def rank_p(probability: float, m: int, n: int) -> float:
    """Return the exact two-sided p of the rank test (Mann & Whitney 1947) of an estimated P(A > B).

    From the null distribution without ties; with ties it is conservative. Beyond 2,500 pairs of seeds the normal
    approximation.
    """
    u = min(probability, 1 - probability) * m * n
    if m * n > MOST_COUNTED:
        return float(min(1.0, 2 * special.ndtr((u - m * n / 2) / math.sqrt(m * n * (m + n + 1) / 12))))
    # The number of arrangements with each U is a coefficient of the Gaussian binomial C(m+n, m).
    ways = np.zeros(m * n + 1)
    ways[0] = 1
    for i in range(1, m + 1):
        longer, shorter = n + i, i
        ways[longer:] -= ways[:-longer].copy() if longer <= m * n else 0
        for start in range(shorter):
            ways[start::shorter] = np.cumsum(ways[start::shorter])
    return float(min(1.0, 2 * ways[: math.floor(u + 1e-9) + 1].sum() / ways.sum()))


def reading(interval: Interval, probability: float, m: int, n: int) -> Reading:
    """What an interval for P(A > B) lets one say of A over B (Bouthillier et al. 2021).

    Significant when its lower end is above .5; it then may be meaningful when the upper end is above .75,
    and is when the lower end is. For B over A pass `mirrored(interval)`. Nothing is significant that the exact
    rank test does not find at the level, and with few seeds it can find nothing (3 against 3: p is at least .10).
    """
    alpha = check_level(interval.level)
    if attainable(m, n) > alpha:
        return "too few seeds to be significant"
    if not interval.low > 0.5 or rank_p(probability, m, n) > alpha:
        return "not significant"
    if interval.low > MEANINGFUL:
        return "significant and meaningful"
    return "significant, may be meaningful" if interval.high > MEANINGFUL else "significant, not meaningful"


def mirrored(interval: Interval) -> Interval:
    """The interval for P(B > A) from the one for P(A > B)."""
    return Interval(1 - interval.high, 1 - interval.low, interval.level, interval.method)


def normal_superiority(effect: float) -> float:
    """P(A > B) of two normals whose means differ by `effect` common standard deviations: Φ(effect/√2)."""
    return float(special.ndtr(effect / math.sqrt(2)))
