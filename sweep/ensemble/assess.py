"""Everything an ensemble's report says, computed once from matched members."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.ensemble import calibrate, combine, curve, evidence, score, uncertainty
from sweep.ensemble import diversity as differing
from sweep.ensemble import select as selection
from sweep.ensemble.assessment import Assessment, Disputed, ExtraSet, ScoreRow
from sweep.ensemble.combine import Floats, Ints
from sweep.ensemble.members import Members
from sweep.ensemble.shared import Shared, shared
from sweep.errors import EnsembleError

BY_CONSTRUCTION = "gain never negative by construction"
BIASED = "biased on few examples; no interval"
BEST = "best member, chosen after the fact"
HIGHER = frozenset({"accuracy", "auroc"})


def assess(
    members: Members,
    *,
    val: Members | None = None,
    extra: Mapping[str, Members] | None = None,
    calibrated: bool = False,
    select: selection.Metric | None = None,
    level: float = 0.95,
    seed: int = 0,
    disputed: int = 10,
) -> Assessment:
    """Score the members beside their ensemble, with evidence, uncertainty, diversity, curve and calibration.

    val: the same members on the validation split; calibration is fitted there, else cross-fitted, and
    `select` (the metric of greedy selection) needs it. extra: further test sets by name. calibrated: the
    returned prediction is the calibrated one. seed: for the folds and permutations; equal inputs and seeds
    give equal bytes.
    Raises EnsembleError when the sets are not of the same members.
    """
    for name, other in [("val", val), *(extra or {}).items()]:
        if other is not None:
            _same(members, other, name)
    notes = [members.note] if members.note else []
    if members.count < 3:
        notes.append("2 members: no interval over seeds")
    if members.probs is not None:
        notes += _impossible(members)
    build = _of_classes if members.kind == "classification" else _of_values
    parts = build(members, val, calibrated, level, seed)
    if parts["calibration"] is not None and parts["calibration"].at_bound:
        notes.append(
            f"{parts['calibration'].parameter} at the end of its range: the scores have no minimum within it, so the "
            "calibrated predictions are not to be relied on"
        )
    chosen = None
    if select is not None:
        chosen = _select(members, val, select)
        if chosen.warning:
            notes.append(chosen.warning)
    unsure = parts["uncertainty"]
    rows = uncertainty.most_disputed(unsure.epistemic, disputed)
    served = None if parts["calibration"] is None else parts["calibration"].served
    return Assessment(
        kind=members.kind,
        split=members.split,
        labels=members.labels,
        missing=members.missing,
        ids=members.ids,
        targets=members.targets,
        disputed=tuple(_disputed(members, parts["prediction"], unsure, int(row)) for row in rows),
        calibrated=calibrated and served is not None,
        selection=chosen,
        extra=tuple(_extra(name, one, served) for name, one in sorted((extra or {}).items())),
        notes=tuple(notes),
        level=level,
        **parts,
    )


def _impossible(members: Members) -> list[str]:
    """A note that names the members whose NLL is infinite."""
    assert members.probs is not None
    zero = members.probs[:, np.arange(len(members.targets)), members.targets] == 0
    if not zero.any():
        return []
    named = [label for label, some in zip(members.labels, zero.any(axis=1), strict=True) if some]
    more = f" and {len(named) - 5} more" if len(named) > 5 else ""
    some, every = int(zero.any(axis=0).sum()), int(zero.all(axis=0).sum())
    pooled = f", the ensemble as a whole to that of {every}" if every else ""
    return [
        f"NLL is infinite: {', '.join(named[:5])}{more} gave probability 0 to the target of {some} of "
        f"{len(members.targets)} examples{pooled}; compare by accuracy and Brier"
    ]


def _same(members: Members, other: Members, name: str) -> None:
    if other.labels != members.labels:
        lacking = sorted(set(members.labels) ^ set(other.labels))
        raise EnsembleError(
            f"{name} and {members.split} are not of the same members: {', '.join(lacking[:5])} is in one of them only",
            hint="choose members that predicted both with --members",
        )
    mine, its = members.probs, other.probs
    if (mine is None) != (its is None) or (mine is not None and its is not None and mine.shape[2] != its.shape[2]):
        raise EnsembleError(f"{name} and {members.split} do not have the same classes")


def _of_classes(members: Members, val: Members | None, calibrated: bool, level: float, seed: int) -> dict[str, Any]:
    p, t = members.probs, members.targets
    assert p is not None
    of = shared(p)
    pool = of.pool
    # The two long parts beside the short ones: each is arithmetic on whole arrays, which threads share well.
    with ThreadPoolExecutor(2) as threads:
        fitted = threads.submit(evidence.of_classes, members, val, of=of, seed=seed, level=level)
        curves = threads.submit(curve.curves, of, t, seed=seed, level=level)
        unsure = uncertainty.split(of)
        scores = _class_rows(members.labels, of, t)
        diversity = differing.of_votes(of.top, pool.shape[1])
        identities = (differing.brier_gap(of, t), differing.nll_gap(of, t))
    differences, calibration = fitted.result()
    pool_out = pool
    if calibrated:
        if calibration is None or calibration.predicted is None:
            raise EnsembleError(
                "there is no calibrated prediction: the ensemble gives probability 0 to a target, so its NLL is "
                "infinite and no temperature was fitted",
                hint="leave --calibrate out, or let the members predict probabilities that are not 0",
            )
        pool_out = calibration.predicted
    combinations = {"vote": {"accuracy": score.accuracy(combine.shares(of.top, pool.shape[1]), t)}}
    try:
        folded = combine.folded(combine.member_mean(of.logs).T)
        combinations["geometric"] = {
            "accuracy": score.accuracy(folded, t),
            "nll": score.nll(folded, t),
            "brier": score.brier(folded, t),
        }
    except EnsembleError:
        combinations["geometric"] = {}
    return {
        "prediction": pool_out.argmax(axis=1),
        "probs": pool_out,
        "scores": scores,
        "combinations": combinations,
        "differences": differences,
        "curves": curves.result(),
        "uncertainty": unsure,
        "diversity": diversity,
        "identities": identities,
        "calibration": calibration,
        "risk": score.risk_coverage(pool, t),
    }


def _of_values(members: Members, val: Members | None, calibrated: bool, level: float, seed: int) -> dict[str, Any]:
    m, v, t = members.mean, members.var, members.targets
    assert m is not None
    differences, calibration = evidence.of_values(members, val, seed=seed, level=level)
    scale = calibration.served if calibrated and calibration is not None else 1.0
    unsure = uncertainty.variance_split(m, None if v is None else v * scale)
    return {
        "prediction": combine.member_mean(m),
        "probs": None,
        "scores": _value_rows(members),
        "combinations": {},
        "differences": differences,
        "curves": curve.value_curves(m, v, t, seed=seed, level=level),
        "uncertainty": unsure,
        "diversity": differing.of_values(m),
        "identities": (differing.mse_identity(m, t),),
        "calibration": calibration,
        "risk": None,
    }


def _class_rows(labels: tuple[str, ...], of: Shared, t: Ints) -> tuple[ScoreRow, ...]:
    pool, at, right = of.pool, of.at(t), of.top == t

    def nll(i: int) -> float:
        with np.errstate(divide="ignore"):
            return float(-np.log(at[i]).mean())

    def row(metric: str, single: Callable[[int], float], whole: Callable[..., float], label: str) -> ScoreRow:
        return _row(metric, labels, single, lambda: whole(pool, t), label)

    return (
        row("accuracy", lambda i: float(right[i].mean()), score.accuracy, "higher is better"),
        row("nll", nll, score.nll, BY_CONSTRUCTION),
        row("brier", lambda i: float(score.brier_by_class(of.by_class[i], at[i]).mean()), score.brier, BY_CONSTRUCTION),
        row("ece", lambda i: score.reliability_of(of.confidence[i], right[i]).ece, score.ece, BIASED),
        row(
            "auroc",
            lambda i: score.auroc_by_class(of.by_class[i], t),
            score.auroc,
            "higher is better; one against the rest, macro",
        ),
        row(
            "aurc",
            lambda i: score.risk_of(of.confidence[i], right[i]).area,
            lambda probs, targets: score.risk_coverage(probs, targets).area,
            "area under risk-coverage",
        ),
    )


def _value_rows(members: Members) -> tuple[ScoreRow, ...]:
    m, v, t = members.mean, members.var, members.targets
    assert m is not None
    pool = combine.member_mean(m)

    def mixed(metric: str, of: Callable[[Floats, Floats, npt.NDArray[Any]], float], var: Floats) -> ScoreRow:
        return _row(
            metric,
            members.labels,
            lambda i: of(m[i : i + 1], var[i : i + 1], t),
            lambda: of(m, var, t),
            BY_CONSTRUCTION,
        )

    rows = [
        _row(
            "rmse",
            members.labels,
            lambda i: score.rmse(m[i], t),
            lambda: score.rmse(pool, t),
            BY_CONSTRUCTION,
        ),
        _row("mse", members.labels, lambda i: score.mse(m[i], t), lambda: score.mse(pool, t), BY_CONSTRUCTION),
        mixed("crps", score.mixture_crps, np.zeros(m.shape) if v is None else v),
    ]
    if v is not None:
        rows.append(mixed("nll", score.mixture_nll, v))
    return tuple(rows)


def _row(
    metric: str,
    labels: tuple[str, ...],
    single: Callable[[int], float],
    whole: Callable[[], float],
    label: str,
) -> ScoreRow:
    try:
        values = [single(i) for i in range(len(labels))]
        ensemble = whole()
    except EnsembleError as refused:
        return ScoreRow(metric, None, None, None, None, None, refused.what)
    best = int(np.argmax(values) if metric in HIGHER else np.argmin(values))
    average = math.fsum(values) / len(values)
    return ScoreRow(metric, average, values[best], labels[best], ensemble, ensemble - average, label)


def _select(members: Members, val: Members | None, metric: selection.Metric) -> selection.Selection:
    if members.probs is None:
        raise EnsembleError("greedy selection is for classification", hint="leave --select out")
    if val is None or val.probs is None:
        raise EnsembleError(
            f"greedy selection needs predictions for val: it may not look at {members.split}",
            hint="save predictions for val, or leave --select out",
        )
    return selection.select(val.probs, val.targets, members.probs, members.targets, metric=metric, fitted_on=val.split)


def _extra(name: str, members: Members, served: float | None) -> ExtraSet:
    if members.probs is not None:
        of = shared(members.probs)
        pool = of.pool
        unsure = uncertainty.split(of)
        tempered = pool if served is None else calibrate.scaled(pool, served)
        after = {"nll": score.nll(tempered, members.targets), "ece": score.ece(tempered, members.targets)}
        rows = _class_rows(members.labels, of, members.targets)
    else:
        assert members.mean is not None
        unsure = uncertainty.variance_split(members.mean, members.var)
        after = {}
        if members.var is not None and served is not None:
            after["nll"] = score.mixture_nll(members.mean, members.var * served, members.targets)
        rows = _value_rows(members)
    return ExtraSet(
        name,
        len(members.ids),
        rows,
        after,
        float(unsure.total.mean()),
        float(unsure.epistemic.mean()),
    )


def _disputed(members: Members, prediction: npt.NDArray[Any], unsure: uncertainty.Uncertainty, row: int) -> Disputed:
    return Disputed(
        members.ids[row].item(),
        members.targets[row].item(),
        prediction[row].item(),
        float(unsure.total[row]),
        None if unsure.aleatoric is None else float(unsure.aleatoric[row]),
        float(unsure.epistemic[row]),
    )
