"""Evidence for an ensemble beyond what averaging guarantees: paired differences from its members."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from sweep.ensemble import calibrate, curve, score
from sweep.ensemble.calibrate import Calibration, Fold
from sweep.ensemble.members import Classes, Members, Values
from sweep.ensemble.score import Judged
from sweep.stats import t_interval
from sweep.stats.sample import LARGEST, Floats, rounding


@dataclass(frozen=True)
class Difference:
    """Ensemble minus the mean of its single members, in the metric's unit.

    ensemble, members_mean: the two scores. examples: (low, high) of the paired t interval over examples, given these
    members. seeds: (low, high) of the delete-one jackknife over members, or None below 3 members. calibrated: both
    sides were calibrated, each on examples that do not count in its score.
    """

    metric: str
    ensemble: float
    members_mean: float
    examples: tuple[float, float] | None
    seeds: tuple[float, float] | None
    calibrated: bool
    level: float

    @property
    def value(self) -> float:
        return self.ensemble - self.members_mean


def paired(differences: npt.ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """Return Student's t interval of the mean difference; None for fewer than 2, or if one is infinite or huge."""
    found = t_interval(differences, level) if (np.abs(differences) < LARGEST).all() else None
    return (found.low, found.high) if found else None


def jackknife(whole: float, without: npt.ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """Return the delete-one interval around `whole` from (M,) replicas that each lack a member (Efron 1982, ch. 3).

    t on M - 1 degrees of freedom; None below 3 members, where replicas are single members. Simulated coverage
    of the nominal 95 % with 3 to 20 members: NLL and Brier .94 to .97; accuracy .94 to 1, since a vote that
    depends on one member is not a smooth function of the members (`benchmarks/ensemble.py --coverage 300`).
    """
    half = float(curve.jackknife(np.asarray(without, dtype=np.float64), level)[1])
    return (whole - half, whole + half) if math.isfinite(half) else None


def difference(
    metric: str, whole: Floats, singles: Floats, without: npt.ArrayLike, calibrated: bool, level: float
) -> Difference:
    """Return the difference of whole (examples,) from singles (members, examples). without (members,): each lacks one.

    Differences that rounding alone explains are set to 0, so that equal members have none.
    """
    own = singles.mean(axis=1)
    noise = len(own) * rounding(*(arm[np.isfinite(arm)] for arm in (whole, singles)))
    with np.errstate(invalid="ignore"):
        others = (own.sum() - own) / (len(own) - 1)
        raw = whole - singles.mean(axis=0), np.asarray(without) - others
        apart, replicas = (np.where(np.abs(one) <= noise, 0.0, one) for one in raw)
        members = float(own.mean() if apart.any() else whole.mean())
        examples = paired(apart, level)
        seeds = jackknife(float(whole.mean() - members), replicas, level)
    return Difference(metric, float(whole.mean()), members, examples, seeds, calibrated, level)


def _parts(members: Members, val: Members | None) -> tuple[str, int, tuple[Fold, ...]]:
    """Return the split used for fitting, the number of folds, and the rows to fit on and to apply to."""
    rows = np.arange(len(members.targets))
    if val is not None:
        return val.split, 0, (Fold(np.arange(len(val.targets)), rows),)
    parts = calibrate.folds(len(rows))
    return members.split, len(parts), parts


def of_classes(
    members: Classes, val: Classes | None, *, level: float = 0.95
) -> tuple[tuple[Difference, ...], Calibration | None]:
    """Compare accuracy, and NLL and Brier of the calibrated ensemble with those of calibrated single members.

    A member that gives probability 0 to a target has an infinite NLL at every temperature. NLL is then not compared,
    and Brier scores are those of raw probabilities. If the pool itself gives one, nothing is fitted.

    The temperatures come from val, else from cross-fitting on the scored split: one for the pool and one for
    each member. In the jackknife's replicas the pool's temperature is fixed: the NLL is stationary there, so
    refitting it would change a replica only to second order.
    """
    p, t, on, count = members.probs, members.targets, val or members, members.count
    pool = p.mean(axis=0)
    rests = [np.maximum((pool * count - one) / (count - 1), 0.0) for one in p]

    def compared(
        names: Sequence[str], mine: Judged, its: Mapping[str, Floats], without: Sequence[Judged], calibrated: bool
    ) -> tuple[Difference, ...]:
        means = [one.means for one in without]
        return tuple(
            difference(name, mine.each[name], its[name], [one[name] for one in means], calibrated, level)
            for name in names
        )

    whole, single = score.judged(pool, t), score.judged(p, t)
    accuracy, brier = compared(
        ("accuracy", "brier"), whole, single.each, [score.judged(rest, t) for rest in rests], False
    )
    sets = [(whole, single)]
    if val is not None:
        sets.append((score.judged(val.probs.mean(axis=0), val.targets), score.judged(val.probs, val.targets)))
    if not all(one.possible for one, _ in sets):
        return (accuracy, brier), None

    split, folded, parts = _parts(members, val)

    def fitted(z: Floats, near: Sequence[float]) -> tuple[Floats, tuple[float, ...]]:
        """Return 1/T of every scored example, and T of each fold, fitted on these logits."""
        found, used = calibrate.by_fold(
            lambda fold, k: calibrate.fitted(z[fold.fit], on.targets[fold.fit], near[k]), parts
        )
        return 1.0 / found, used

    inverse, used = fitted(calibrate.logits(on.probs.mean(axis=0)), [1.0] * len(parts))
    tempered = calibrate.softmax(calibrate.logits(pool), inverse)
    best = score.judged(tempered, t)
    before, after = (
        {"nll": one.means["nll"], "brier": one.means["brier"], "ece": score.ece(one)} for one in (whole, best)
    )
    calibration = Calibration(
        "temperature", split, folded, calibrate.temperature(pool, t, used[0]) if folded else used[0], used, before,
        after, score.diagram(whole, level=level), score.diagram(best, level=level), tempered,
    )  # fmt: skip
    if not all(one.possible for _, one in sets):
        return (accuracy, brier), calibration
    own = []
    for i, probs in enumerate(p):
        z = calibrate.logits(probs)
        near = fitted(calibrate.logits(on.probs[i]) if val else z, used)[0]
        own.append(score.judged(calibrate.softmax(z, near), t).each)
    lacking = [score.judged(calibrate.softmax(calibrate.logits(rest), inverse), t) for rest in rests]
    names = ("nll", "brier")
    singles = {name: np.array([one[name] for one in own]) for name in names}
    return (accuracy, *compared(names, best, singles, lacking, True)), calibration


def of_values(
    members: Values, val: Values | None, *, level: float = 0.95
) -> tuple[tuple[Difference, ...], Calibration | None]:
    """Compare MSE and, with variances, NLL and CRPS, after scaling the variances of each side by one fitted factor."""
    m, v, t, count = members.mean, members.var, members.targets, members.count
    centre = m.mean(axis=0)
    rest = [(((centre * count - one) / (count - 1) - t) ** 2).mean() for one in m]
    plain = difference("mse", (centre - t) ** 2, (m - t) ** 2, rest, False, level)
    if v is None:
        return (plain,), None
    val = val if val is not None and val.var is not None else None
    on = val or members
    split, folded, parts = _parts(members, val)

    def scales(which: slice) -> tuple[Floats, tuple[float, ...]]:
        """Return the factor of every scored example, and that of each fold, fitted on some of the members."""

        def fit(fold: Fold, k: int) -> float:
            assert on.var is not None
            return calibrate.variance_scale(on.mean[which, fold.fit], on.var[which, fold.fit], on.targets[fold.fit])

        return calibrate.by_fold(fit, parts)

    factor, used = scales(slice(None))
    wide = v * factor
    own = [(m[i : i + 1], v[i : i + 1] * scales(slice(i, i + 1))[0]) for i in range(count)]
    logs = score.log_density(m, wide, t)
    lacking = [math.log(count - 1) - float(logsumexp(np.delete(logs, i, 0), axis=0).mean()) for i in range(count)]
    nll, crps = score.mixture_nll(m, wide, t), score.mixture_crps(m, wide, t)
    own_nll = np.array([score.mixture_nll(*one, t) for one in own])
    own_crps = np.array([score.mixture_crps(*one, t) for one in own])
    return (
        plain,
        difference("nll", nll, own_nll, lacking, True, level),
        difference("crps", crps, own_crps, curve.crps_without(m, wide, t), True, level),
    ), Calibration(
        "variance scale", split, folded, calibrate.variance_scale(m, v, t) if folded else used[0], used,
        {"nll": float(score.mixture_nll(m, v, t).mean()), "crps": float(score.mixture_crps(m, v, t).mean())},
        {"nll": float(nll.mean()), "crps": float(crps.mean())},
    )  # fmt: skip
