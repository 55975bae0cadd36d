"""A gate for continuous integration: METRIC >=|<= base ± c | base * c | c, answered yes, no or undecided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep.errors import StatisticsError
from sweep.stats.compare import attainable, difference, differences, over_splits
from sweep.stats.grammar import Gate
from sweep.stats.interval import Interval, resampled, summarise, t_quantile
from sweep.stats.sample import Floats, check_level, mean, sd

LEAST = 3  # converged seeds an arm, whatever the other has


@dataclass(frozen=True)
class Decision:
    """What the gate says. code: 0 passed, 1 contradicted, 4 undecided.

    interval: of the candidate minus its bound (for "fixed", of the candidate itself); threshold: what it is
    held against. identical_passes: the chance that a candidate no different from the base would pass.
    """

    code: Literal[0, 1, 4]
    verdict: Literal["passed", "contradicted", "undecided"]
    reason: str
    interval: Interval | None
    threshold: float
    identical_passes: float | None


def decide(
    gate: Gate,
    base: npt.ArrayLike,
    candidate: npt.ArrayLike,
    *,
    paired: bool,
    deterministic: bool,
    unfinished: int = 0,
    max_failures: int = 0,
    level: float = 0.95,
    ratio: float | None = None,
) -> Decision:
    """Hold the candidate against the gate with the two-sided interval (at 95 %, a one-sided 2.5 % test).

    base, candidate: shape (m,) and (n,), one number a planned and finished seed, NaN or infinite for a failed
    one; in paired designs position i is the same seed. unfinished: pending and lost seeds of both.
    ratio: n_test/n_train, where every seed has a random split of its own.
    0 when the interval lies wholly on the allowed side, 1 when wholly on the other, 4 otherwise; and 4 with
    unfinished seeds, too few converged ones for an exact test to reach the level (at 95 % 6 pairs, or 4 against 4;
    see `attainable`), or no spread in fast mode (seeds that agree to the last bit there are more likely one seed).
    A candidate with more than `max_failures` failures never passes.
    """
    alpha = check_level(level)
    old, new, failed = _converged(base, candidate, paired, "base" if gate.form != "fixed" else "")
    threshold = gate.number if gate.form != "scale" else 0.0
    if unfinished:
        return _undecided(f"{unfinished} seeds are pending or lost", None, threshold, None)
    flips = paired or gate.form == "fixed"
    few = new.size if flips else min(old.size, new.size)
    if few < LEAST or attainable(new.size, None if flips else old.size) > alpha:
        had = f"{new.size}" if flips else f"{old.size} and {new.size}"
        reason = f"{had} converged seeds are too few: with them no exact test reaches {alpha:g}"
        return _undecided(reason, None, threshold, None)
    chance = identical_passes(gate, old, paired_with=new if paired else None, n=new.size, level=level, ratio=ratio)
    interval = _interval(gate, old, new, paired, level, ratio)
    if interval is None:
        return _undecided("no interval exists", None, threshold, chance)
    still = sd(new) == 0 or (gate.form != "fixed" and (sd(old) == 0 or interval.low == interval.high))
    if still and not deterministic:
        reason = "no spread between seeds in fast mode: are they different seeds?"
        return _undecided(reason, interval, threshold, chance)
    above, below = interval.low >= threshold, interval.high <= threshold
    inside, outside = (above, interval.high < threshold) if gate.side == ">=" else (below, interval.low > threshold)
    if outside:
        return Decision(1, "contradicted", "the interval lies wholly beyond", interval, threshold, chance)
    if failed > max_failures:
        reason = f"{failed} candidate seeds failed, {max_failures} are allowed"
        return _undecided(reason, interval, threshold, chance)
    if inside:
        return Decision(0, "passed", "the interval lies wholly inside", interval, threshold, chance)
    return _undecided("the interval holds both sides: more seeds would narrow it", interval, threshold, chance)


def identical_passes(
    gate: Gate, base: Floats, *, paired_with: Floats | None, n: int, level: float = 0.95, ratio: float | None = None
) -> float | None:
    """Chance that a candidate with the base's own mean and spread passes: noncentral t (Cohen 1988).

    base: shape (m,), converged; n: seeds of the candidate; paired_with: the actual candidate, whose
    differences from the base give the spread in a paired design. None when there is no spread to go by.
    """
    m = base.size
    if m < 2 or n < 2:
        return None
    factor = gate.number if gate.form == "scale" else 1.0
    margin = mean(base) * (1 - factor) - (gate.number if gate.form == "offset" else 0.0)
    if gate.form == "fixed":
        margin, error, df = mean(base) - gate.number, sd(base) / math.sqrt(n), n - 1
    elif paired_with is not None:
        error, df = sd(differences(paired_with, factor * base)) / math.sqrt(m), m - 1
    else:
        error, df = sd(base) * math.sqrt(1 / n + factor**2 / m), m + n - 2
    if not error:
        return None
    error *= 1.0 if ratio is None else resampled(n if gate.form == "fixed" else min(m, n), ratio)
    away = (margin if gate.side == ">=" else -margin) / error
    chance = 1 - float(special.nctdtr(df, away, t_quantile(df, 1 - check_level(level) / 2)))
    return chance if math.isfinite(chance) else float(away > 0)


def _converged(base: npt.ArrayLike, candidate: npt.ArrayLike, paired: bool, needs: str) -> tuple[Floats, Floats, int]:
    old, new = np.asarray(base, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    failed = int(np.count_nonzero(~np.isfinite(new)))
    if not paired or not needs:
        return old[np.isfinite(old)], new[np.isfinite(new)], failed
    if old.shape != new.shape:
        raise StatisticsError(f"base has {old.size} seeds and candidate {new.size}: these are no pairs")
    both = np.isfinite(old) & np.isfinite(new)
    return old[both], new[both], failed


def _interval(gate: Gate, old: Floats, new: Floats, paired: bool, level: float, ratio: float | None) -> Interval | None:
    if gate.form == "fixed":
        s = summarise(new, level, ratio=ratio)
        return None if s.low is None or s.high is None else Interval(s.low, s.high, level, s.method)
    factor = gate.number if gate.form == "scale" else 1.0
    found = difference(new, factor * old, paired=paired, level=level)
    return (found if ratio is None else over_splits(found, ratio, level)).interval


def _undecided(reason: str, interval: Interval | None, threshold: float, chance: float | None) -> Decision:
    return Decision(4, "undecided", reason, interval, threshold, chance)
