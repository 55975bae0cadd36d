"""Compare the ensemble with its members beyond what averaging guarantees: paired differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp, stdtrit

from sweep.ensemble import calibrate, score
from sweep.ensemble.calibrate import Calibration, Fold
from sweep.ensemble.curve import crps_without
from sweep.ensemble.members import Classes, Members, Values
from sweep.ensemble.score import Floats
from sweep.stats.sample import rounding


@dataclass(frozen=True)
class Difference:
    """Ensemble minus the mean of its single members, in the metric's unit.

    ensemble, members_mean: the two scores. examples: (low, high) of the paired t interval over examples, given these
    members. seeds: (low, high) of the delete-one jackknife over members, or None below 3 members. calibrated: both
    sides were calibrated, each on examples it is not scored on.
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


def difference(
    metric: str, whole: Floats, singles: Floats, without: Floats, calibrated: bool, level: float
) -> Difference:
    """Return the difference of whole (examples,) from singles (members, examples); without (members,) lacks each one.

    What rounding alone explains is no difference: members that predict the same have none.
    """
    own = singles.mean(axis=1)
    noise = len(own) * rounding(*(arm[np.isfinite(arm)] for arm in (whole, singles)))
    with np.errstate(invalid="ignore"):
        others = (own.sum() - own) / max(len(own) - 1, 1)
        raw = whole - singles.mean(axis=0), without - others
        apart, replicas = (np.where(np.abs(one) <= noise, 0.0, one) for one in raw)
        members = float(own.mean() if apart.any() else whole.mean())
        examples = paired(apart, level)
        seeds = jackknife(float(whole.mean() - members), replicas, level)
    return Difference(metric, float(whole.mean()), members, examples, seeds, calibrated, level)


def _parts(members: Members, val: Members | None, seed: int) -> tuple[str, int, tuple[Fold, ...]]:
    """The split that is fitted on, the number of folds, and what is fitted on which rows for which."""
    rows = np.arange(len(members.targets))
    if val is not None:
        return val.split, 0, (Fold(np.arange(len(val.targets)), rows),)
    parts = calibrate.folds(len(rows), seed=seed)
    return members.split, len(parts), parts


def of_classes(
    members: Classes, val: Classes | None, *, seed: int = 0, level: float = 0.95
) -> tuple[tuple[Difference, ...], Calibration | None]:
    """Accuracy, and NLL and Brier of the calibrated ensemble against calibrated single members.

    A member that gives probability 0 to a target has an infinite NLL, and no temperature mends that: then NLL is not
    compared and Brier scores are those of raw probabilities. Where the pool itself has one, nothing is fitted.

    The temperatures come from val, else from cross-fitting on the scored split: one for the pool and one for
    each member. In the jackknife's replicas the pool's temperature is held: the NLL is stationary there, so that
    refitting it would change a replica to second order only.
    """
    p, t, on, count = members.probs, members.targets, val or members, members.count
    pool = p.mean(axis=0)
    whole, single = score.judged(pool, t), score.judged(p, t)
    sets = [(whole, single)]
    if val is not None:
        sets.append((score.judged(val.probs.mean(axis=0), val.targets), score.judged(val.probs, val.targets)))
    raw = [
        ("accuracy", whole.right, single.right),
        ("nll", whole.nll, single.nll),
        ("brier", whole.brier, single.brier),
    ]
    without = np.full((3, count), np.nan)
    rests = [np.maximum((pool * count - one) / max(count - 1, 1), 0.0) for one in p] if count > 1 else []
    for i, rest in enumerate(rests):
        lacking = score.judged(rest, t)
        without[:, i] = lacking.right.mean(), lacking.nll.mean(), lacking.brier.mean()
    accuracy, nll, brier = (
        difference(name, mine.astype(np.float64), its.astype(np.float64), each, False, level)
        for (name, mine, its), each in zip(raw, without, strict=True)
    )
    if not all(calibrate.possible(one) for one, _ in sets):
        return (accuracy, brier), None

    split, folded, parts = _parts(members, val, seed)

    def fitted(z: Floats, near: Sequence[float]) -> tuple[Floats, tuple[float, ...]]:
        """1/T of every scored example, and T of each fold, from logits that are fitted on."""
        found, used = calibrate.by_fold(
            lambda fold, k: calibrate.fitted(z[fold.fit], on.targets[fold.fit], near[k]), parts
        )
        return 1.0 / found, used

    inverse, used = fitted(calibrate.logits(on.probs.mean(axis=0)), [1.0] * len(parts))
    tempered = calibrate.softmax(calibrate.logits(pool), inverse)
    best = score.judged(tempered, t)
    before, after = (
        {"nll": float(one.nll.mean()), "brier": float(one.brier.mean()), "ece": score.ece(one)} for one in (whole, best)
    )
    calibration = Calibration(
        "temperature", split, folded, calibrate.temperature(pool, t, used[0]) if folded else used[0], used, before,
        after,
        score.diagram(whole, level=level), score.diagram(best, level=level), tempered,
    )  # fmt: skip
    if not all(calibrate.possible(one) for _, one in sets):
        return (accuracy, brier), calibration
    own = np.empty((2, count, len(t)))
    for i, probs in enumerate(p):
        z = calibrate.logits(probs)
        mine = score.judged(calibrate.softmax(z, fitted(calibrate.logits(on.probs[i]) if val else z, used)[0]), t)
        own[:, i] = mine.nll, mine.brier
    for i, rest in enumerate(rests):
        lacking = score.judged(calibrate.softmax(calibrate.logits(rest), inverse), t)
        without[1:, i] = lacking.nll.mean(), lacking.brier.mean()
    nll = difference("nll", best.nll, own[0], without[1], True, level)
    brier = difference("brier", best.brier, own[1], without[2], True, level)
    return (accuracy, nll, brier), calibration


def of_values(
    members: Values, val: Values | None, *, seed: int = 0, level: float = 0.95
) -> tuple[tuple[Difference, ...], Calibration | None]:
    """MSE, and with variances NLL and CRPS after each side's variances were scaled by one fitted factor."""
    m, v, t, count = members.mean, members.var, members.targets, members.count
    centre = m.mean(axis=0)
    rest = np.array([(((centre * count - one) / max(count - 1, 1) - t) ** 2).mean() for one in m])
    plain = difference("mse", (centre - t) ** 2, (m - t) ** 2, rest, False, level)
    if v is None:
        return (plain,), None
    val = val if val is not None and val.var is not None else None
    fit_mean, fit_var, fit_targets = (m, v, t) if val is None or val.var is None else (val.mean, val.var, val.targets)
    split, folded, parts = _parts(members, val, seed)

    def scales(which: slice) -> tuple[Floats, tuple[float, ...]]:
        def fit(fold: Fold, k: int) -> float:
            rows = (which, fold.fit)
            return calibrate.variance_scale(fit_mean[rows], fit_var[rows], fit_targets[fold.fit])

        return calibrate.by_fold(fit, parts)

    factor, used = scales(slice(None))
    wide = v * factor
    own = [(m[i : i + 1], v[i : i + 1] * scales(slice(i, i + 1))[0]) for i in range(count)]
    whole = score.mixture_nll(m, wide, t), score.mixture_crps(m, wide, t)
    logs = score.log_density(m, wide, t)
    without = np.full((2, count), np.nan)
    if count > 2:
        without[0] = [
            math.log(count - 1) - float(logsumexp(np.delete(logs, i, 0), axis=0).mean()) for i in range(count)
        ]
        without[1] = crps_without(m, wide, t)
    served = calibrate.variance_scale(m, v, t) if folded else used[0]
    before = {"nll": float(score.mixture_nll(m, v, t).mean()), "crps": float(score.mixture_crps(m, v, t).mean())}
    after = {"nll": float(whole[0].mean()), "crps": float(whole[1].mean())}
    nll = np.array([score.mixture_nll(*one, t) for one in own])
    crps = np.array([score.mixture_crps(*one, t) for one in own])
    return (
        plain,
        difference("nll", whole[0], nll, without[0], True, level),
        difference("crps", whole[1], crps, without[1], True, level),
    ), Calibration("variance scale", split, folded, served, used, before, after)
