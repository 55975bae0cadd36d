"""Exact permutation p values, each beside the smallest p that its number of seeds can give."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.errors import StatisticsError
from sweep.stats.compare import differences
from sweep.stats.sample import Floats, sample

EXACT_ARRANGEMENTS = 2**20  # 20 pairs; 11 against 11 seeds
DRAWS = 99_999
_CHUNK = 4_000_000


@dataclass(frozen=True)
class Permutation:
    """Two-sided p, twice the smaller tail, at most 1.

    floor: the smallest p these numbers of seeds can give (.10 for 3 against 3, .0625 for 5 pairs).
    exact: every arrangement was counted; otherwise that many were drawn, and the data's own is added.
    """

    p: float
    floor: float
    exact: bool
    arrangements: int
    method: str


def sign_flip_test(a: npt.ArrayLike, b: npt.ArrayLike, rng: np.random.Generator | None = None) -> Permutation:
    """Sign-flip test of the mean paired difference (Fisher 1935, section 21).

    a, b: shape (n,), position i the same seed. All 2^n signs up to n = 20; beyond that 99,999 random ones
    from `rng`, and the method says "Monte Carlo". StatisticsError when those need an rng and there is none.
    """
    gaps = differences(a, b)
    n = gaps.size
    total = math.fsum(gaps)
    if 2**n <= EXACT_ARRANGEMENTS:
        sums = np.zeros(1)
        for gap in gaps:
            sums = np.concatenate([sums + gap, sums - gap])
        return _exact(sums, total, "sign-flip", float(np.sum(np.abs(gaps))))
    generator = _needed(rng, f"{n} pairs")
    drawn = [
        (generator.integers(0, 2, (rows, n)) * 2 - 1) @ gaps for rows in _rows(n)
    ]  # fmt: skip
    return _drawn(np.concatenate(drawn), total, "sign-flip", float(np.sum(np.abs(gaps))))


def permutation_test(a: npt.ArrayLike, b: npt.ArrayLike, rng: np.random.Generator | None = None) -> Permutation:
    """Permutation test of the difference of means, independent seeds (Pitman 1937).

    a: shape (m,), b: shape (n,). All C(m+n, m) arrangements up to 2^20; beyond that as in `sign_flip_test`.
    """
    first, second = np.sort(sample(a, name="A")), np.sort(sample(b, name="B"))
    m, n = first.size, second.size
    pooled = np.sort(np.concatenate([first, second]))
    # With the total fixed, the sum of one arm orders arrangements as the difference of means does. Centred,
    # so that ties are not lost to the rounding of a large common level.
    level = float(np.median(pooled))
    pooled = pooled - level
    total, scale = math.fsum(first - level), float(np.sum(np.abs(pooled)))
    if math.comb(m + n, m) <= EXACT_ARRANGEMENTS:
        return _exact(_arm_sums(pooled, m), total, "permutation", scale)
    generator = _needed(rng, f"{m} against {n} seeds")
    drawn = [
        generator.permuted(np.broadcast_to(pooled, (rows, m + n)), axis=1)[:, :m].sum(axis=1) for rows in _rows(m + n)
    ]
    return _drawn(np.concatenate(drawn), total, "permutation", scale)


def _arm_sums(pooled: Floats, m: int) -> Floats:
    size = min(m, pooled.size - m)
    chosen = itertools.chain.from_iterable(itertools.combinations(pooled, size))
    sums: Floats = np.fromiter(chosen, np.float64).reshape(-1, size).sum(axis=1)
    if size != m:
        sums = math.fsum(pooled) - sums
    return sums


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


def _tails(sums: Floats, total: float, scale: float) -> tuple[int, int]:
    # Arrangements that tie with the data must count, whatever the order of their additions rounded to.
    slack = 1e-12 * scale
    return int(np.count_nonzero(sums <= total + slack)), int(np.count_nonzero(sums >= total - slack))


def _exact(sums: Floats, total: float, method: str, scale: float) -> Permutation:
    least = min(_tails(sums, total, scale))
    return Permutation(min(1.0, 2 * least / sums.size), min(1.0, 2 / sums.size), True, sums.size, f"exact {method}")


def _drawn(sums: Floats, total: float, method: str, scale: float) -> Permutation:
    least = min(_tails(sums, total, scale)) + 1
    count = sums.size + 1
    return Permutation(
        min(1.0, 2 * least / count), 2 / count, False, sums.size, f"Monte Carlo {method}, {sums.size} draws"
    )
