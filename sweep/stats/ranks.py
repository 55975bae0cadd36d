"""Statistics without normality: exact permutation p values, P(A > B), same-seed wins, quantiles over failed seeds.

"Better" has a direction. A failed seed (NaN) ranks below every other one; permutations refuse it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep.errors import StatisticsError
from sweep.stats.compare import attainable, differences
from sweep.stats.interval import Interval, Method, OrderInterval, clopper_pearson, median_interval
from sweep.stats.sample import Floats, bisected, check_level, require_pairs, sample

EXACT_ARRANGEMENTS = 2**20  # arrangements that are all counted: 20 pairs, or 11 against 11 seeds
DRAWS = 99_999
_CHUNK = 4_000_000
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
class Permutation:
    """Two-sided p, twice the smaller tail, at most 1.

    floor: the smallest p these numbers of seeds can give (.10 for 3 against 3, .0625 for 5 pairs).
    exact: all arrangements were counted; otherwise they were drawn, and the arrangement of the data was added.
    """

    p: float
    floor: float
    exact: bool
    arrangements: int
    method: Method


def sign_flip_test(a: npt.ArrayLike, b: npt.ArrayLike, rng: np.random.Generator | None = None) -> Permutation:
    """Test the mean paired difference by flipping signs (Fisher 1935, section 21).

    a, b: shape (n,), position i the same seed. Up to n = 20 all 2^n signs; beyond that 99,999 random ones
    from `rng`, which is not exact. Raises StatisticsError if these need an rng and there is none, and for NaN,
    infinities, no values or arms of different lengths.
    """
    gaps = differences(a, b)
    n, exact = gaps.size, 2**gaps.size <= EXACT_ARRANGEMENTS
    sums = np.zeros(1)
    if exact:
        for gap in gaps:
            sums = np.concatenate([sums + gap, sums - gap])
    else:
        generator = _needed(rng, f"{n} pairs")
        # Eight signs are one random byte, which indexes a table of the sums of eight gaps.
        signs = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1) * 2.0 - 1
        sums_of = np.pad(gaps, (0, -n % 8)).reshape(-1, 8) @ signs.T
        blocks = np.arange(len(sums_of))
        drawn = (generator.integers(0, 256, (rows, blocks.size), dtype=np.uint8) for rows in _rows(blocks.size))
        sums = np.concatenate([sums_of[blocks, one].sum(axis=1) for one in drawn])
    return _permutation(sums, math.fsum(gaps), float(np.sum(np.abs(gaps))), Method.SIGN_FLIP, exact)


def permutation_test(a: npt.ArrayLike, b: npt.ArrayLike, rng: np.random.Generator | None = None) -> Permutation:
    """Test the difference of means of independent seeds by permutation (Pitman 1937).

    a: shape (m,), b: shape (n,). All C(m+n, m) arrangements up to 2^20; beyond that as in `sign_flip_test`.
    Raises StatisticsError if these need an rng and there is none, and for NaN, infinities or no values.
    """
    first, second = np.sort(sample(a, name="A")), np.sort(sample(b, name="B"))
    m, n = first.size, second.size
    pooled = np.sort(np.concatenate([first, second]))
    # With the total fixed, the sum of one arm orders arrangements as the difference of means does. Centred,
    # so that ties are not lost to the rounding of a large common level.
    level = float(np.median(pooled))
    pooled = pooled - level
    exact = math.comb(m + n, m) <= EXACT_ARRANGEMENTS
    if exact:
        size = min(m, n)
        chosen = itertools.chain.from_iterable(itertools.combinations(pooled, size))
        sums: Floats = np.fromiter(chosen, np.float64).reshape(-1, size).sum(axis=1)
        sums = sums if size == m else math.fsum(pooled) - sums
    else:
        generator = _needed(rng, f"{m} against {n} seeds")
        drawn = (generator.permuted(np.broadcast_to(pooled, (rows, m + n)), axis=1) for rows in _rows(m + n))
        sums = np.concatenate([one[:, :m].sum(axis=1) for one in drawn])
    return _permutation(sums, math.fsum(first - level), float(np.sum(np.abs(pooled))), Method.PERMUTATION, exact)


def _rows(n: int) -> list[int]:
    rows = max(1, _CHUNK // n)
    return [min(rows, DRAWS - at) for at in range(0, DRAWS, rows)]


def _needed(rng: np.random.Generator | None, what: str) -> np.random.Generator:
    if rng is None:
        raise StatisticsError(
            f"{what} have too many arrangements to count each; random ones need a generator",
            hint="pass numpy.random.default_rng(seed)",
        )
    return rng


def _permutation(sums: Floats, total: float, scale: float, method: Method, exact: bool) -> Permutation:
    # Arrangements that tie with the data must count, however their sums were rounded.
    slack = 1e-12 * scale
    least = min(np.count_nonzero(sums <= total + slack), np.count_nonzero(sums >= total - slack))
    own = 0 if exact else 1  # the arrangement of the data is one of all, and is added to drawn ones
    count = sums.size + own
    return Permutation(min(1.0, 2 * (least + own) / count), min(1.0, 2 / count), exact, sums.size, method)


@dataclass(frozen=True)
class WorstRank:
    """The median over all seeds, failed ones ranked worst.

    The estimate and the limits are infinite if they fall on a failed seed. interval: None if none exists.
    """

    estimate: float
    interval: OrderInterval | None
    n: int
    failed: int


def ranked(values: npt.ArrayLike, *, higher_is_better: bool) -> Floats:
    """Return the values (n,) with -inf (or +inf), the worst rank, for each failed seed (NaN or any infinity).

    Raises StatisticsError for no seeds or another shape.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise StatisticsError(f"values have shape {array.shape}; one number per seed is needed, shape (n,)")
    return np.where(np.isfinite(array), array, -math.inf if higher_is_better else math.inf)


def worst_rank_median(values: npt.ArrayLike, *, higher_is_better: bool, level: float = 0.95) -> WorstRank:
    """Return the median over all seeds and its exact order-statistic interval, failed seeds ranked worst.

    values: shape (n,), NaN or infinite for a failed seed. It always exists (Lachin 1999, worst-rank scores):
    finite if fewer than half of the seeds failed, and infinite on the bad side if it falls on a failed one.
    Raises StatisticsError for no seeds or another shape, and for a level outside (0, 1).
    """
    check_level(level)
    ordered = np.sort(ranked(values, higher_is_better=higher_is_better))
    n = ordered.size
    low, high = float(ordered[(n - 1) // 2]), float(ordered[n // 2])
    # inf - inf is undefined, so only different numbers are averaged.
    estimate = low + (high - low) / 2 if math.isfinite(low) and low != high else low
    failed = int(np.count_nonzero(np.isinf(ordered)))
    return WorstRank(estimate, median_interval(ordered, level), n, failed)


@dataclass(frozen=True)
class Superiority:
    """P(A better than B), ties half. m, n: seeds per arm; failed_a, failed_b: those that failed."""

    probability: float
    interval: Interval
    m: int
    n: int
    failed_a: int
    failed_b: int
    method: Method


@dataclass(frozen=True)
class WinRate:
    """The wins of A over B on shared seeds. The interval is for wins / (wins + losses), without ties."""

    wins: int
    ties: int
    losses: int
    rate: float | None
    interval: Interval


def superiority(a: npt.ArrayLike, b: npt.ArrayLike, *, higher_is_better: bool, level: float = 0.95) -> Superiority:
    """Return P(A better than B) over all pairs of independent seeds, with Newcombe's method 5.

    a: shape (m,), b: shape (n,), NaN or infinite for a failed seed: it loses to any other, and two failed seeds tie. If
    A fails on 20 % of its seeds and gains 1 sd on the rest, P = .608; without the failures it would be .76 (Lachin
    1999, worst-rank scores). Raises StatisticsError for an arm without seeds or of another shape, and for a level
    outside (0, 1).
    """
    first, second = (ranked(arm, higher_is_better=higher_is_better) for arm in (a, b))
    m, n, ordered = first.size, second.size, np.sort(second)
    twice = sum(np.searchsorted(ordered, first, side).sum() for side in ("left", "right"))
    probability = float(twice) / (2 * m * n)
    probability = probability if higher_is_better else 1 - probability
    failed_a, failed_b = (int(np.count_nonzero(np.isinf(arm))) for arm in (first, second))
    method = Method.WORST_RANK if failed_a or failed_b else Method.ALL_PAIRS
    return Superiority(probability, newcombe_5(probability, m, n, level), m, n, failed_a, failed_b, method)


def newcombe_5(probability: float, m: int, n: int, level: float = 0.95) -> Interval:
    """Return the interval for P(A > B) with m and n seeds: method 5 of Newcombe 2006 (Statistics in Medicine 25:559).

    Its limits are the two θ with (θ̂-θ)² = z² θ(1-θ)/(mn) · [1 + (N-1)((1-θ)/(2-θ) + θ/(1+θ))], N = (m+n)/2, found by
    bisection on either side of θ̂. Within [0, 1] by construction.
    """
    z2 = float(special.ndtri(1 - check_level(level) / 2)) ** 2

    def beyond(theta: float) -> bool:
        spread = 1 + ((m + n) / 2 - 1) * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return (probability - theta) ** 2 > z2 * theta * (1 - theta) / (m * n) * spread

    low, high = (end if not beyond(end) else bisected(beyond, end, probability) for end in (0.0, 1.0))
    return Interval(low, high, level, Method.NEWCOMBE_5)


def win_rate(a: npt.ArrayLike, b: npt.ArrayLike, *, higher_is_better: bool, level: float = 0.95) -> WinRate:
    """Return same-seed wins of A over B with the Clopper-Pearson interval. a, b: shape (n,), position i the same seed.

    NaN or infinities mark failed seeds, as in `superiority`. Raises StatisticsError for no seeds, arms of different
    lengths or another shape, and for a level outside (0, 1).
    """
    first, second = (ranked(arm, higher_is_better=higher_is_better) for arm in (a, b))
    require_pairs(first, second)
    above, below = int(np.count_nonzero(first > second)), int(np.count_nonzero(first < second))
    wins, losses = (above, below) if higher_is_better else (below, above)
    decided = wins + losses
    rate = wins / decided if decided else None
    return WinRate(wins, first.size - decided, losses, rate, clopper_pearson(wins, decided, level))


def rank_p(probability: float, m: int, n: int) -> float:
    """Return the exact two-sided p of the rank test (Mann & Whitney 1947) for an estimated P(A > B).

    It uses the null distribution without ties, which is conservative with ties, and beyond 2,500 pairs of seeds the
    normal approximation.
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
    """Return the interpretation of an interval for P(A > B) (Bouthillier et al. 2021).

    It is significant if its lower end is above .5. It then may be meaningful if the upper end is above .75, and is
    meaningful if the lower end is. For B over A pass `mirrored(interval)`. Nothing is significant unless the exact
    rank test finds it at the level; with few seeds it finds nothing (3 against 3: p is at least .10).
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
    """Return the interval for P(B > A) from the one for P(A > B)."""
    return Interval(1 - interval.high, 1 - interval.low, interval.level, interval.method)
