"""Everything an ensemble's report says, computed once from matched members."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.ensemble import calibrate, combine, curve, evidence, score, uncertainty
from sweep.ensemble import diversity as differing
from sweep.ensemble import select as selection
from sweep.ensemble.combine import Floats
from sweep.ensemble.members import Members
from sweep.errors import EnsembleError

BY_CONSTRUCTION = "gain never negative by construction"
BIASED = "biased on few examples; no interval"
BEST = "best member, chosen after the fact"
HIGHER = frozenset({"accuracy", "auroc"})


@dataclass(frozen=True)
class ScoreRow:
    """One metric: the members' mean, the best member (chosen after the fact), the ensemble, ensemble - mean.

    Where a score does not exist its entries are None and label says why.
    """

    metric: str
    members_mean: float | None
    best: float | None
    best_member: str | None
    ensemble: float | None
    difference: float | None
    label: str


@dataclass(frozen=True)
class Disputed:
    """An example members disagree about."""

    id: Any
    target: float
    prediction: float
    total: float
    aleatoric: float | None
    epistemic: float


@dataclass(frozen=True)
class ExtraSet:
    """A further test set, scored beside the main one by the same members."""

    name: str
    examples: int
    scores: tuple[ScoreRow, ...]
    calibrated: Mapping[str, float]
    total: float
    epistemic: float


@dataclass(frozen=True)
class Assessment:
    """What an ensemble of `members` is worth on one split.

    combinations: rule to metric to score, for the rules beside the default (geometric, vote). prediction,
    probs (examples, classes), mean (examples,): the pooled prediction, calibrated when asked for. notes are
    sentences every output prints.
    """

    kind: str
    split: str
    labels: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    ids: npt.NDArray[Any]
    targets: npt.NDArray[Any]
    prediction: npt.NDArray[Any]
    probs: Floats | None
    scores: tuple[ScoreRow, ...]
    combinations: Mapping[str, Mapping[str, float]]
    differences: tuple[evidence.Difference, ...]
    curves: tuple[curve.SizeCurve, ...]
    uncertainty: uncertainty.Uncertainty
    disputed: tuple[Disputed, ...]
    diversity: differing.Diversity
    identities: tuple[differing.Identity, ...]
    calibration: calibrate.Calibration | None
    calibrated: bool
    risk: score.RiskCoverage | None
    selection: selection.Selection | None
    extra: tuple[ExtraSet, ...]
    notes: tuple[str, ...]
    level: float

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """A row an example: id, target, prediction, p0 .. (or std), total, aleatoric, epistemic."""
        table: dict[str, npt.NDArray[Any]] = {
            "id": self.ids,
            "target": self.targets,
            "prediction": self.prediction,
        }
        if self.probs is not None:
            table |= {f"p{cls}": self.probs[:, cls] for cls in range(self.probs.shape[1])}
        else:
            table["std"] = np.sqrt(self.uncertainty.total)
        table["total"] = self.uncertainty.total
        if self.uncertainty.aleatoric is not None:
            table["aleatoric"] = self.uncertainty.aleatoric
        table["epistemic"] = self.uncertainty.epistemic
        if self.uncertainty.variation_ratio is not None:
            table["variation_ratio"] = self.uncertainty.variation_ratio
        return table

    def to_json(self) -> dict[str, Any]:
        """Plain data without the rows of examples; floats may be NaN or infinite."""
        unsure = self.uncertainty
        return {
            "kind": self.kind,
            "split": self.split,
            "members": list(self.labels),
            "missing": [{"member": label, "reason": reason} for label, reason in self.missing],
            "examples": len(self.ids),
            "notes": list(self.notes),
            "level": self.level,
            "scores": [_plain(row) for row in self.scores],
            "combinations": {rule: dict(values) for rule, values in self.combinations.items()},
            "differences": [_plain(one) | {"difference": one.value} for one in self.differences],
            "size_curve": [_plain(one) for one in self.curves],
            "uncertainty": {
                "total": float(unsure.total.mean()),
                "aleatoric": None if unsure.aleatoric is None else float(unsure.aleatoric.mean()),
                "epistemic": float(unsure.epistemic.mean()),
                "unit": "nats" if self.kind == "classification" else "squared target unit",
            },
            "disputed": [_plain(one) for one in self.disputed],
            "diversity": _plain(self.diversity)
            | {
                f"mean_{name}": self.diversity.mean_of(matrix)
                for name in ("disagreement", "kappa", "rms_difference")
                if (matrix := getattr(self.diversity, name)) is not None
            },
            "identities": [_plain(one) | {"residual": one.residual} for one in self.identities],
            "calibration": None if self.calibration is None else _plain(self.calibration),
            "calibrated": self.calibrated,
            "selection": None if self.selection is None else _plain(self.selection),
            "extra": [_plain(one) for one in self.extra],
        }


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
    build = _of_classes if members.kind == "classification" else _of_values
    parts = build(members, val, calibrated, level, seed)
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
    pool = combine.mean(p)
    differences, calibration = evidence.of_classes(members, val, seed=seed, level=level)
    unsure = uncertainty.entropy_split(p)
    if calibrated:
        pool_out = calibration.predicted
        assert pool_out is not None
    else:
        pool_out = pool
    combinations = {"vote": {"accuracy": score.accuracy(combine.vote(p), t)}}
    try:
        folded = combine.geometric(p)
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
        "scores": _class_rows(members, pool),
        "combinations": combinations,
        "differences": differences,
        "curves": curve.class_curves(p, t, seed=seed, level=level),
        "uncertainty": unsure,
        "diversity": differing.of_classes(p),
        "identities": (differing.brier_identity(p, t), differing.nll_identity(p, t)),
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


def _class_rows(members: Members, pool: Floats) -> tuple[ScoreRow, ...]:
    p, t = members.probs, members.targets
    assert p is not None

    def row(metric: str, of: Callable[[Floats, npt.NDArray[Any]], float], label: str) -> ScoreRow:
        return _row(metric, members.labels, lambda i: of(p[i], t), lambda: of(pool, t), label)

    return (
        row("accuracy", score.accuracy, "higher is better"),
        row("nll", score.nll, BY_CONSTRUCTION),
        row("brier", score.brier, BY_CONSTRUCTION),
        row("ece", score.ece, BIASED),
        row("auroc", score.auroc, "higher is better; one against the rest, macro"),
        row("aurc", lambda a, b: score.risk_coverage(a, b).area, "area under risk-coverage"),
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
        pool = combine.mean(members.probs)
        unsure = uncertainty.entropy_split(members.probs)
        tempered = pool if served is None else calibrate.scaled(pool, served)
        after = {"nll": score.nll(tempered, members.targets), "ece": score.ece(tempered, members.targets)}
        rows = _class_rows(members, pool)
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


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__ if name != "predicted"}
    return value
