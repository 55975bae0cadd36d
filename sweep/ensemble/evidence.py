"""Is the ensemble better than its members beyond what averaging guarantees? Paired differences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from sweep.ensemble import calibrate, curve, score
from sweep.ensemble.combine import Floats, Ints, mean
from sweep.ensemble.members import Members
from sweep.ensemble.shared import Shared, shared, tops
from sweep.errors import EnsembleError

GIVEN = "over examples, given these members"
SEEDS = "over seeds, this split and test set"


@dataclass(frozen=True)
class Difference:
    """Ensemble minus the mean of its single members, in the metric's unit.

    ensemble, members_mean: the two scores. examples: (low, high) of the paired t interval over
    examples, given these members. seeds: (low, high) of the delete-one jackknife over members, or None
    below 3 members. calibrated: both sides were calibrated, each on examples it is not scored on.
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
    """Student t interval of the mean of (examples,) differences; None below 2 or with an infinite one."""
    d = np.asarray(differences, dtype=np.float64)
    if len(d) < 2 or not bool(np.isfinite(d).all()):
        return None
    half = float(stdtrit(len(d) - 1, 0.5 + level / 2)) * float(d.std(ddof=1)) / math.sqrt(len(d))
    return float(d.mean()) - half, float(d.mean()) + half


def jackknife(whole: float, without: npt.ArrayLike, level: float = 0.95) -> tuple[float, float] | None:
    """Delete-one interval around `whole` from the (M,) replicas that each lack a member (Efron 1982, ch. 3).

    t on M - 1 degrees of freedom; None below 3 members, where replicas are single members. Simulated coverage
    of the nominal 95 % with 3 to 20 members: NLL and Brier .94 to .97; accuracy .94 to 1, since a vote that
    turns on one member is no smooth function of the members (`benchmarks/ensemble.py --coverage 300`).
    """
    replicas = np.asarray(without, dtype=np.float64)
    count = len(replicas)
    if count < 3 or not bool(np.isfinite(replicas).all()):
        return None
    error = math.sqrt((count - 1) / count * float(((replicas - replicas.mean()) ** 2).sum()))
    half = float(stdtrit(count - 1, 0.5 + level / 2)) * error
    return whole - half, whole + half


def _difference(
    metric: str, whole: Floats, singles: Floats, without: Floats, calibrated: bool, level: float
) -> Difference:
    """whole (examples,), singles (members, examples), without (members,): the ensemble lacking each."""
    count = len(singles)
    own = singles.mean(axis=1)
    centre = singles.mean(axis=0)
    with np.errstate(invalid="ignore"):
        others = (own.sum() - own) / max(count - 1, 1)
        each = whole - centre
        value = float(whole.mean()) - float(own.mean())
        replicas = without - others
    return Difference(
        metric,
        float(whole.mean()),
        float(own.mean()),
        paired(each, level),
        jackknife(value, replicas, level),
        calibrated,
        level,
    )


def of_classes(
    members: Members, val: Members | None, *, of: Shared | None = None, seed: int = 0, level: float = 0.95
) -> tuple[tuple[Difference, ...], calibrate.Calibration | None]:
    """Accuracy, and NLL and Brier of the calibrated ensemble against calibrated single members.

    A member that gives probability 0 to a target has an infinite NLL, and no temperature mends that: then NLL is not
    compared and Brier scores are those of raw probabilities. Where the pool itself has one, nothing is fitted.

    The temperatures come from val, else from cross-fitting on the scored split: one for the pool and one for
    each member. of: what is shared with other parts of an assessment. In the jackknife's replicas the pool's
    temperature is held: the NLL is stationary there, so that refitting it would change a replica to second order
    only.
    """
    if members.probs is None:
        raise EnsembleError("these members predict values, not classes", hint="use of_values")
    of, t = (shared(members.probs) if of is None else of), members.targets
    count, pool = of.count, of.pool
    fit = None if val is None or val.probs is None else (mean(val.probs), val.targets)
    sets = [(pool, of.at(t), t)]
    if fit is not None and val is not None and val.probs is not None:
        sets.append((fit[0], val.probs[:, np.arange(len(fit[1])), fit[1]], fit[1]))
    if not all((one[np.arange(len(of_it)), of_it] > 0).all() for one, _, of_it in sets):
        return _raw(of, t, level), None
    finite = all((own > 0).all() for _, own, _ in sets)
    parts = calibrate.folds(len(t), seed=seed) if fit is None else None
    tempered, used = calibrate.temper(pool, t, val=fit, parts=parts)
    served = used[0] if fit is not None else calibrate.temperature(pool, t)
    calibration = calibrate.Calibration(
        "temperature",
        f"fitted on {val.split}" if val is not None else f"cross-fitted in {len(used)} folds of {members.split}",
        served,
        used,
        {"nll": score.nll(pool, t), "brier": score.brier(pool, t), "ece": score.ece(pool, t)},
        {"nll": score.nll(tempered, t), "brier": score.brier(tempered, t), "ece": score.ece(tempered, t)},
        score.diagram(pool, t, level=level),
        score.diagram(tempered, t, level=level),
        tempered,
    )
    if not finite:
        return _raw(of, t, level), calibration
    losses = np.empty((2, count, len(t)))
    right = of.top == t
    without = np.empty((3, count))
    rows = ((slice(None), used[0]),) if parts is None else zip([fold.apply for fold in parts], used, strict=True)
    inverse, own = np.empty(len(t)), np.empty(len(t))
    for where, value in rows:
        inverse[where] = 1.0 / value
    summed = np.ascontiguousarray(pool.T) * count
    for i in range(count):
        logits = calibrate.shifted(of.logs[i])
        if val is not None and val.probs is not None:
            with np.errstate(divide="ignore"):
                other = calibrate.shifted(np.log(val.probs[i].T))
            own[:] = 1.0 / calibrate.temperature_near(used[0], other, val.targets)
        for fold, value in zip(parts or (), used, strict=False):
            own[fold.apply] = 1.0 / calibrate.temperature_near(value, logits[:, fold.fit], t[fold.fit])
        losses[:, i] = calibrate.losses(logits, t, own)
        if count > 1:
            rest = np.maximum((summed - of.by_class[i]) / (count - 1), 0.0)
            without[0, i] = (tops(rest)[0] == t).mean()
            with np.errstate(divide="ignore"):
                np.log(rest, out=rest)
            nll, brier = calibrate.losses(calibrate.shifted(rest), t, inverse)
            without[1:, i] = nll.mean(), brier.mean()
    won = (pool.argmax(axis=1) == t).astype(np.float64)
    differences = (
        _difference("accuracy", won, right.astype(np.float64), without[0], False, level),
        _difference("nll", score.nll_each(tempered, t), losses[0], without[1], True, level),
        _difference("brier", score.brier_each(tempered, t), losses[1], without[2], True, level),
    )
    return differences, calibration


def _raw(of: Shared, t: Ints, level: float) -> tuple[Difference, ...]:
    """Accuracy and Brier of probabilities as they are. A gain in Brier is never negative by construction."""
    count, rows = of.count, np.arange(len(t))
    right = of.top == t
    own = np.stack([score.brier_by_class(of.by_class[i], of.by_class[i][t, rows]) for i in range(count)])
    without = np.full((2, count), np.nan)
    summed = of.pool.T * count
    for i in range(count if count > 1 else 0):
        rest = np.maximum((summed - of.by_class[i]) / (count - 1), 0.0)
        without[0, i] = (tops(rest)[0] == t).mean()
        without[1, i] = score.brier_by_class(rest, rest[t, rows]).mean()
    won = (of.pool.argmax(axis=1) == t).astype(np.float64)
    return (
        _difference("accuracy", won, right.astype(np.float64), without[0], False, level),
        _difference("brier", score.brier_each(of.pool, t), own, without[1], False, level),
    )


def of_values(
    members: Members, val: Members | None, *, seed: int = 0, level: float = 0.95
) -> tuple[tuple[Difference, ...], calibrate.Calibration | None]:
    """MSE, and with variances NLL and CRPS after each side's variances were scaled by one fitted factor."""
    if members.mean is None:
        raise EnsembleError("these members predict classes, not values", hint="use of_classes")
    m, t = members.mean, members.targets
    count = len(m)
    centre = m.mean(axis=0)
    squares = (m - t) ** 2
    rest = np.array([score.mse((centre * count - one) / max(count - 1, 1), t) for one in m])
    plain = (_difference("mse", (centre - t) ** 2, squares, rest, False, level),)
    if members.var is None:
        return plain, None
    v = members.var
    rows: Ints = np.arange(len(t))
    if val is not None and val.mean is not None and val.var is not None:
        fit_mean, fit_var, fit_targets = val.mean, val.var, val.targets
        parts: tuple[calibrate.Fold, ...] = (calibrate.Fold(np.arange(len(fit_targets)), rows),)
        source = f"fitted on {val.split}"
    else:
        fit_mean, fit_var, fit_targets = m, v, t
        parts = calibrate.folds(len(t), seed=seed)
        source = f"cross-fitted in {len(parts)} folds of {members.split}"

    def scales(chosen: slice) -> tuple[Floats, tuple[float, ...]]:
        out, used = np.empty(len(t)), []
        for fold in parts:
            used.append(
                calibrate.variance_scale(fit_mean[chosen, fold.fit], fit_var[chosen, fold.fit], fit_targets[fold.fit])
            )
            out[fold.apply] = used[-1]
        return out, tuple(used)

    factor, used = scales(slice(None))
    wide = v * factor
    singles = np.empty((2, count, len(t)))
    for i in range(count):
        own = v[i : i + 1] * scales(slice(i, i + 1))[0]
        singles[0, i] = score.mixture_nll_each(m[i : i + 1], own, t)
        singles[1, i] = score.mixture_crps_each(m[i : i + 1], own, t)
    whole = np.stack([score.mixture_nll_each(m, wide, t), score.mixture_crps_each(m, wide, t)])
    without = _values_without(m, wide, t)
    served = used[0] if len(parts) == 1 else calibrate.variance_scale(m, v, t)
    before = {"nll": score.mixture_nll(m, v, t), "crps": score.mixture_crps(m, v, t)}
    after = {"nll": float(whole[0].mean()), "crps": float(whole[1].mean())}
    return (
        *plain,
        _difference("nll", whole[0], singles[0], without[0], True, level),
        _difference("crps", whole[1], singles[1], without[1], True, level),
    ), calibrate.Calibration("variance scale", source, served, used, before, after)


def _values_without(m: Floats, v: Floats, t: Floats) -> Floats:
    """(2, members): mixture NLL and CRPS of the ensembles that lack each member."""
    count = len(m)
    out = np.full((2, count), np.nan)
    if count < 3:
        return out
    logs = score.log_density(m, v, t)
    for i in range(count):
        rest = np.delete(logs, i, axis=0)
        top = rest.max(axis=0)
        out[0, i] = math.log(count - 1) - float((top + np.log(np.exp(rest - top).sum(axis=0))).mean())
    out[1] = curve.crps_without(m, v, t)
    return out
