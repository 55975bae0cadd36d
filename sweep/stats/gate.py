"""A gate for continuous integration (`--require`): METRIC >=|<= base ± c | base * c | c; yes, no or undecided."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import special

from sweep.errors import ConfigError
from sweep.stats.compare import attainable, difference, differences, over_splits
from sweep.stats.interval import Interval, resampled, summarise, t_quantile
from sweep.stats.sample import NUMBER, Floats, check_level, mean, sd

_GATE = re.compile(
    rf"\s*(?P<metric>\S+?)\s*(?P<side>>=|<=|≥|≤)\s*"
    rf"(?:(?P<base>base)\s*(?:(?P<op>[-+*])\s*(?P<number>{NUMBER}))?|(?P<fixed>[+-]?{NUMBER}))\s*",
    re.ASCII,
)
_GATE_HINT = 'write for example "test/accuracy >= base - 0.005", "test/nll <= base * 1.02" or "test/accuracy >= 0.9"'
LEAST = 3  # finished seeds that each arm needs


@dataclass(frozen=True)
class Gate:
    """metric `side` base + number ("offset"), base * number ("scale") or number ("fixed")."""

    metric: str
    side: Literal[">=", "<="]
    form: Literal["offset", "scale", "fixed"]
    number: float

    def __str__(self) -> str:
        if self.form == "fixed":
            return f"{self.metric} {self.side} {self.number!r}"
        if self.form == "scale":
            return f"{self.metric} {self.side} base * {self.number!r}"
        sign = "-" if self.number < 0 else "+"
        return f"{self.metric} {self.side} base {sign} {abs(self.number)!r}"


def parse_gate(text: str) -> Gate:
    """Read `METRIC >=|<= base ± c | base * c | c` (≥, ≤ too). Raise ConfigError for any other text."""
    found = _GATE.fullmatch(text)
    if found is None:
        raise ConfigError(f"the requirement {text!r} cannot be read", where="--require", hint=_GATE_HINT)
    side: Literal[">=", "<="] = ">=" if found["side"] in (">=", "≥") else "<="
    if found["fixed"]:
        gate = Gate(found["metric"], side, "fixed", float(found["fixed"]))
    elif found["op"] == "*":
        gate = Gate(found["metric"], side, "scale", float(found["number"]))
    else:
        offset = float(found["number"] or 0)
        gate = Gate(found["metric"], side, "offset", -offset if found["op"] == "-" else offset)
    if not math.isfinite(gate.number):
        raise ConfigError(f"the number in {text!r} is too large", where="--require", hint=_GATE_HINT)
    return gate


Reason = Literal[
    "unfinished", "too few seeds", "no interval", "no spread", "beyond", "failed seeds", "inside", "both sides"
]


@dataclass(frozen=True)
class Decision:
    """The result of a gate and its reason. code: 0 passed, 1 contradicted, 4 undecided.

    reason, one of: seeds are unfinished; too few finished for an exact test to reach the level; no interval exists; no
    spread between seeds in fast mode; the interval lies wholly beyond the threshold; too many candidate seeds failed;
    it lies wholly inside; it has parts on both sides. seeds: finished ones of the candidate, and of the base unless the
    form is "fixed". interval: of the candidate minus its bound (for "fixed", of the candidate itself). threshold: the
    value that the interval is compared with. identical_passes: the chance that a candidate equal to the base would
    pass.
    """

    code: Literal[0, 1, 4]
    verdict: Literal["passed", "contradicted", "undecided"]
    reason: Reason
    interval: Interval | None
    threshold: float
    identical_passes: float | None
    seeds: tuple[int, ...]
    failed: int
    unfinished: int


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
    """Check the candidate against the gate by the two-sided interval (at 95 %, a one-sided 2.5 % test).

    base, candidate: shape (m,) and (n,), one number per planned seed that ended, NaN or infinite for a failed
    one; in paired designs position i is the same seed. unfinished: the number of seeds of both without a result.
    ratio: n_test/n_train, if every seed has its own random split.
    The code is 0 if the interval lies wholly on the allowed side, 1 if wholly on the other, else 4. It is also 4 with
    unfinished seeds, too few finished ones for an exact test to reach the level (at 95 % 6 pairs, or 4 against 4;
    see `attainable`), or no spread in fast mode (seeds that agree to the last bit there are probably one seed).
    A candidate with more than `max_failures` failures never passes.
    """
    alpha = check_level(level)
    old, new, failed = _finished(base, candidate, paired and gate.form != "fixed")
    threshold = gate.number if gate.form != "scale" else 0.0
    sizes = (new.size,) if gate.form == "fixed" else (new.size, old.size)
    flips = paired or gate.form == "fixed"
    interval, chance = None, None

    def decided(code: Literal[0, 1, 4], reason: Reason) -> Decision:
        verdict: Literal["passed", "contradicted", "undecided"]
        verdict = "passed" if code == 0 else "contradicted" if code == 1 else "undecided"
        return Decision(code, verdict, reason, interval, threshold, chance, sizes, failed, unfinished)

    if unfinished:
        return decided(4, "unfinished")
    few = new.size if flips else min(sizes)
    if few < LEAST or attainable(new.size, None if flips else old.size) > alpha:
        return decided(4, "too few seeds")
    chance = identical_passes(gate, old, paired_with=new if paired else None, n=new.size, level=level, ratio=ratio)
    interval = _interval(gate, old, new, paired, level, ratio)
    if interval is None:
        return decided(4, "no interval")
    still = sd(new) == 0 or (gate.form != "fixed" and (sd(old) == 0 or interval.low == interval.high))
    if still and not deterministic:
        return decided(4, "no spread")
    above, below = interval.low >= threshold, interval.high <= threshold
    inside, outside = (above, interval.high < threshold) if gate.side == ">=" else (below, interval.low > threshold)
    if outside:
        return decided(1, "beyond")
    if failed > max_failures:
        return decided(4, "failed seeds")
    return decided(0, "inside") if inside else decided(4, "both sides")


def identical_passes(
    gate: Gate, base: Floats, *, paired_with: Floats | None, n: int, level: float = 0.95, ratio: float | None = None
) -> float | None:
    """Return the chance that a candidate with the mean and spread of the base passes: noncentral t (Cohen 1988).

    base: shape (m,), finished seeds; n: seeds of the candidate; paired_with: the actual candidate, whose
    differences from the base give the spread in a paired design. None if there is no spread.
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
    error *= resampled(n if gate.form == "fixed" else min(m, n), ratio)
    away = (margin if gate.side == ">=" else -margin) / error
    chance = 1 - float(special.nctdtr(df, away, t_quantile(df, 1 - check_level(level) / 2)))
    return chance if math.isfinite(chance) else float(away > 0)


def _finished(base: npt.ArrayLike, candidate: npt.ArrayLike, paired: bool) -> tuple[Floats, Floats, int]:
    old, new = np.asarray(base, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    a, b = np.isfinite(old), np.isfinite(new)
    failed = int(np.count_nonzero(~b))
    if paired:
        a = b = a & b
    return old[a], new[b], failed


def _interval(gate: Gate, old: Floats, new: Floats, paired: bool, level: float, ratio: float | None) -> Interval | None:
    if gate.form == "fixed":
        s = summarise(new, level, ratio=ratio)
        return None if s.low is None or s.high is None else Interval(s.low, s.high, level, s.method)
    factor = gate.number if gate.form == "scale" else 1.0
    found = difference(new, factor * old, paired=paired, level=level)
    return (found if ratio is None else over_splits(found, ratio, level)).interval
