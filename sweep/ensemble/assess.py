"""The assessment of an ensemble: every number about it, computed once from matched members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import entr, rel_entr

from sweep.ensemble import calibrate, curve, evidence, score
from sweep.ensemble.calibrate import Calibration
from sweep.ensemble.members import Classes, Members, Values
from sweep.ensemble.select import Metric, Selection, select
from sweep.errors import EnsembleError
from sweep.stats.sample import Floats, Ints

HIGHER = frozenset({"accuracy", "auroc"})
# Averaging never makes these worse than the members' mean (Jensen), so a gain is no evidence.
MOST_DISPUTED = 10
BY_CONSTRUCTION = frozenset({"nll", "brier", "rmse", "mse", "crps"})


@dataclass(frozen=True)
class ScoreRow:
    """One metric: the members' mean, the best member (chosen after the fact), the ensemble, ensemble - mean.

    If a score does not exist (AUROC of a split that lacks a class), all entries are None.
    """

    metric: str
    members_mean: float | None = None
    best: float | None = None
    best_member: str | None = None
    ensemble: float | None = None
    difference: float | None = None

    @property
    def by_construction(self) -> bool:
        return self.metric in BY_CONSTRUCTION


@dataclass(frozen=True)
class Uncertainty:
    """One entry per example; total = aleatoric + epistemic. Entropies in nats, or variances in squared units.

    variation_ratio: share of members that did not vote for the most voted class (None in regression).
    aleatoric is None if regression members give no variance; total is then only the epistemic part.
    """

    total: Floats
    aleatoric: Floats | None
    epistemic: Floats
    variation_ratio: Floats | None = None


@dataclass(frozen=True)
class Disputed:
    """An example about which members disagree."""

    id: Any
    target: float
    prediction: float
    total: float
    aleatoric: float | None
    epistemic: float


@dataclass(frozen=True)
class ExtraSet:
    """A further test set, scored with the same members. calibrated: its scores with the served parameter."""

    name: str
    examples: int
    scores: tuple[ScoreRow, ...]
    calibrated: Mapping[str, float]
    total: float
    epistemic: float


@dataclass(frozen=True)
class Impossible:
    """Targets with probability 0: the members that gave it, the number of examples, and of those with 0 from all."""

    members: tuple[str, ...]
    examples: int
    by_all: int


@dataclass(frozen=True, kw_only=True)
class Assessed:
    """Results of both kinds of task. prediction: the calibrated one if `calibrated`."""

    split: str
    labels: tuple[str, ...]
    missing: tuple[tuple[str, str], ...]
    ids: npt.NDArray[Any]
    targets: npt.NDArray[Any]
    prediction: npt.NDArray[Any]
    level: float
    scores: tuple[ScoreRow, ...]
    differences: tuple[evidence.Difference, ...]
    curves: tuple[curve.SizeCurve, ...]
    uncertainty: Uncertainty
    disputed: tuple[Disputed, ...]
    calibration: Calibration | None
    calibrated: bool
    extra: tuple[ExtraSet, ...]


@dataclass(frozen=True, kw_only=True)
class Classification(Assessed):
    """probs (examples, classes). disagreement (members, members): share of examples with different top classes.
    kappa (members, members): Cohen's kappa, NaN for a pair that always predicts one and the same class."""

    kind: ClassVar[Literal["classification"]] = "classification"
    probs: Floats
    risk: score.RiskCoverage
    disagreement: Floats
    kappa: Floats
    impossible: Impossible | None
    selection: Selection | None


@dataclass(frozen=True, kw_only=True)
class Regression(Assessed):
    """rms_difference (members, members): root mean squared difference of two members' predictions."""

    kind: ClassVar[Literal["regression"]] = "regression"
    rms_difference: Floats


Assessment = Classification | Regression


def assess(
    members: Members,
    *,
    val: Members | None = None,
    extra: Mapping[str, Members] | None = None,
    calibrated: bool = False,
    select: Metric | None = None,
    level: float = 0.95,
) -> Assessment:
    """Score the members beside their ensemble, with evidence, uncertainty, diversity, curve and calibration.

    val: the same members on the validation split; calibration is fitted there, else cross-fitted, and
    `select` (the metric of greedy selection) needs it. extra: further test sets by name. calibrated: the
    returned prediction is the calibrated one. Equal inputs give equal bytes.
    Raises EnsembleError if the sets have different members.
    """
    others = dict(extra or {})
    for name, other in [("val", val), *others.items()]:
        if other is not None:
            _same(members, other, name)
    if isinstance(members, Classes):
        val = val if isinstance(val, Classes) else None
        return _of_classes(members, val, others, calibrated, select, level)
    if select is not None:
        raise EnsembleError("greedy selection is for classification", hint="leave --select out")
    val = val if isinstance(val, Values) else None
    return _of_values(members, val, others, calibrated, level)


def brief(members: Members) -> dict[str, tuple[float, float]]:
    """Return metric -> (of the ensemble, mean of the members): accuracy and NLL, or RMSE and, with variances, NLL."""
    if isinstance(members, Classes):
        whole, single = (score.judged(p, members.targets).means for p in (members.probs.mean(axis=0), members.probs))
        return {name: (whole[name], single[name]) for name in ("accuracy", "nll")}
    m, v, t = members.mean, members.var, members.targets
    singles = np.sqrt(((m - t) ** 2).mean(axis=1))
    found = {"rmse": (float(np.sqrt(((m.mean(axis=0) - t) ** 2).mean())), float(singles.mean()))}
    if v is not None:
        found["nll"] = float(score.mixture_nll(m, v, t).mean()), float(-score.log_density(m, v, t).mean())
    return found


def _same(members: Members, other: Members, name: str) -> None:
    if other.labels != members.labels:
        lacking = sorted(set(members.labels) ^ set(other.labels))
        raise EnsembleError(
            f"{name} and {members.split} have different members: only one of them has {', '.join(lacking[:5])}",
            hint="choose members that predicted both with --members",
        )
    classes = [one.probs.shape[2] if isinstance(one, Classes) else 0 for one in (members, other)]
    if classes[0] != classes[1]:
        raise EnsembleError(f"{name} and {members.split} do not have the same classes")


def _of_classes(
    members: Classes, val: Classes | None, extra: Mapping[str, Members], calibrated: bool, by: Metric | None,
    level: float,
) -> Classification:  # fmt: skip
    p, t = members.probs, members.targets
    pool = p.mean(axis=0)
    differences, calibration = evidence.of_classes(members, val, level=level)
    if calibrated:
        if calibration is None or calibration.predicted is None:
            raise EnsembleError(
                "there is no calibrated prediction: the ensemble gives probability 0 to a target, so its NLL is "
                "infinite and no temperature was fitted",
                hint="leave --calibrate out, or train members that predict no probability of 0",
            )
        pool = calibration.predicted
    chosen = None
    if by is not None:
        if val is None:
            raise EnsembleError(
                f"greedy selection needs predictions for val: it may not look at {members.split}",
                hint="save predictions for val, or leave --select out",
            )
        chosen = select((val.probs, val.targets), p, t, by, val.split)
    unsure = entropy_split(p)
    disagreement, kappa = agreement(p.argmax(axis=2), p.shape[2])
    served = None if calibration is None else calibration.served
    prediction = pool.argmax(axis=1)
    return Classification(
        split=members.split, labels=members.labels, missing=members.missing, ids=members.ids, targets=t,
        prediction=prediction, level=level, scores=_rows(members), differences=differences,
        curves=curve.class_curves(p, t, level=level), uncertainty=unsure,
        disputed=_disputed(members, prediction, unsure), calibration=calibration, calibrated=calibrated,
        extra=tuple(_extra(name, one, served) for name, one in sorted(extra.items())), probs=pool,
        risk=score.risk_coverage(score.judged(p.mean(axis=0), t)), disagreement=disagreement, kappa=kappa,
        impossible=_impossible(members), selection=chosen,
    )  # fmt: skip


def _of_values(
    members: Values, val: Values | None, extra: Mapping[str, Members], calibrated: bool, level: float
) -> Regression:
    m, v, t = members.mean, members.var, members.targets
    differences, calibration = evidence.of_values(members, val, level=level)
    served = None if calibration is None else calibration.served
    unsure = variance_split(m, v if v is None or not calibrated or served is None else v * served)
    return Regression(
        split=members.split, labels=members.labels, missing=members.missing, ids=members.ids, targets=t,
        prediction=m.mean(axis=0), level=level, scores=_rows(members), differences=differences,
        curves=curve.value_curves(m, v, t, level=level), uncertainty=unsure,
        disputed=_disputed(members, m.mean(axis=0), unsure), calibration=calibration,
        calibrated=calibrated and served is not None,
        extra=tuple(_extra(name, one, served) for name, one in sorted(extra.items())),
        rms_difference=np.stack([np.sqrt(((m - one) ** 2).mean(axis=1)) for one in m]),
    )  # fmt: skip


def _rows(members: Members) -> tuple[ScoreRow, ...]:
    """Return the score table: every metric of each member alone, and of all together."""
    if isinstance(members, Classes):
        singles = [score.of_classes(one, members.targets) for one in members.probs]
        whole = score.of_classes(members.probs.mean(axis=0), members.targets)
    else:
        m, v, t = members.mean, members.var, members.targets
        singles = [score.of_values(m[i : i + 1], None if v is None else v[i : i + 1], t) for i in range(len(m))]
        whole = score.of_values(m, v, t)

    def row(metric: str, ensemble: float) -> ScoreRow:
        values = np.array([one[metric] for one in singles])
        best = int(values.argmax() if metric in HIGHER else values.argmin())
        mean = float(values.mean())
        return ScoreRow(metric, mean, float(values[best]), members.labels[best], ensemble, ensemble - mean)

    return tuple(ScoreRow(name) if np.isnan(value) else row(name, value) for name, value in whole.items())


def _impossible(members: Classes) -> Impossible | None:
    zero = score.judged(members.probs, members.targets).at == 0
    labels = tuple(label for label, some in zip(members.labels, zero.any(axis=1), strict=True) if some)
    return Impossible(labels, int(zero.any(axis=0).sum()), int(zero.all(axis=0).sum())) if labels else None


def _extra(name: str, members: Members, served: float | None) -> ExtraSet:
    after: dict[str, float] = {}
    if isinstance(members, Classes):
        unsure, pool = entropy_split(members.probs), members.probs.mean(axis=0)
        tempered = score.judged(pool if served is None else calibrate.scaled(pool, served), members.targets)
        after = {"nll": tempered.means["nll"], "ece": score.ece(tempered)}
    else:
        unsure = variance_split(members.mean, members.var)
        if members.var is not None and served is not None:
            after["nll"] = float(score.mixture_nll(members.mean, members.var * served, members.targets).mean())
    total, epistemic = float(unsure.total.mean()), float(unsure.epistemic.mean())
    return ExtraSet(name, len(members.ids), _rows(members), after, total, epistemic)


def _disputed(members: Members, prediction: npt.NDArray[Any], unsure: Uncertainty) -> tuple[Disputed, ...]:
    return tuple(
        Disputed(
            members.ids[row].item(), members.targets[row].item(), prediction[row].item(), float(unsure.total[row]),
            None if unsure.aleatoric is None else float(unsure.aleatoric[row]), float(unsure.epistemic[row]),
        )
        for row in most_disputed(unsure.epistemic).tolist()
    )  # fmt: skip


def most_disputed(epistemic: Floats) -> Ints:
    """Return the rows with the largest epistemic part, the most disputed first, ties in order, zeros left out."""
    order = np.argsort(-epistemic, kind="stable")[:MOST_DISPUTED]
    return order[epistemic[order] > 0]


def entropy_split(probs: Floats) -> Uncertainty:
    """Split the entropy of the mean of (members, examples, classes): mean entropy + mutual information (Depeweg 2018).

    The mutual information is computed separately, as the mean divergence of members from their mean, so that
    the identity is a check and the difference of two close numbers cannot become negative.
    """
    pool = probs.mean(axis=0)
    aleatoric, epistemic = np.zeros(len(pool)), np.zeros(len(pool))
    votes = np.zeros(pool.shape)
    for one in probs:
        aleatoric += entr(one).sum(axis=1) / len(probs)
        epistemic += rel_entr(one, pool).sum(axis=1) / len(probs)
        votes[np.arange(len(pool)), one.argmax(axis=1)] += 1.0
    ratio = 1.0 - votes.max(axis=1) / len(probs)
    return Uncertainty(entr(pool).sum(axis=1), aleatoric, np.maximum(epistemic, 0.0), ratio)


def variance_split(mean: Floats, var: Floats | None) -> Uncertainty:
    """Split the variance of (members, examples): mean of variances + variance of means (Lakshminarayanan 2017, 2.4)."""
    spread: Floats = mean.var(axis=0)
    noise: Floats | None = None if var is None else var.mean(axis=0)
    return Uncertainty(spread if noise is None else noise + spread, noise, spread)


def agreement(top: Ints, classes: int) -> tuple[Floats, Floats]:
    """Return disagreement and kappa (Cohen 1960), (members, members) each, of top classes (members, examples)."""
    members, examples = top.shape
    same, chance = np.zeros((members, members)), np.zeros((members, members))
    kind = np.float32 if examples < 2**24 else np.float64  # both count exactly
    for cls in range(classes):
        named = (top == cls).astype(kind)
        same += named @ named.T
        share = np.count_nonzero(named, axis=1) / examples
        chance += np.outer(share, share)
    same /= examples
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1.0 - same, np.where(chance < 1.0, (same - chance) / (1.0 - chance), np.nan)


def mean_of(matrix: Floats) -> float:
    """Return the mean over the M(M-1)/2 pairs of a (members, members) matrix."""
    pairs = matrix[np.triu_indices(len(matrix), 1)]
    return float(pairs.mean()) if len(pairs) else float("nan")


def columns(found: Assessment) -> dict[str, npt.NDArray[Any]]:
    """Return columns of one row per example: id, target, prediction, p0 .. (or std), total, aleatoric, epistemic."""
    table = {"id": found.ids, "target": found.targets, "prediction": found.prediction}
    unsure = found.uncertainty
    if isinstance(found, Classification):
        table |= {f"p{cls}": found.probs[:, cls] for cls in range(found.probs.shape[1])}
    else:
        table["std"] = np.sqrt(unsure.total)
    parts = ("total", "aleatoric", "epistemic", "variation_ratio")
    return table | {name: part for name in parts if (part := getattr(unsure, name)) is not None}


def to_json(found: Assessment) -> dict[str, Any]:
    """Return an assessment as plain data without the rows of examples; floats may be NaN or infinite."""
    unsure, classes = found.uncertainty, isinstance(found, Classification)
    matrices = {name: getattr(found, name) for name in (("disagreement", "kappa") if classes else ("rms_difference",))}
    parts = {name: getattr(unsure, name) for name in ("total", "aleatoric", "epistemic")}
    body: dict[str, Any] = {
        "kind": found.kind,
        "split": found.split,
        "members": list(found.labels),
        "missing": [{"member": label, "reason": reason} for label, reason in found.missing],
        "examples": len(found.ids),
        "level": found.level,
        "scores": _plain(found.scores),
        "differences": [_plain(one) | {"difference": one.value} for one in found.differences],
        "size_curve": _plain(found.curves),
        "uncertainty": {name: None if part is None else float(part.mean()) for name, part in parts.items()}
        | {"unit": "nats" if classes else "squared target unit"},
        "disputed": _plain(found.disputed),
        "diversity": {name: matrix.tolist() for name, matrix in matrices.items()}
        | {f"mean_{name}": mean_of(matrix) for name, matrix in matrices.items()},
        "calibration": _plain(found.calibration),
        "calibrated": found.calibrated,
        "extra": _plain(found.extra),
    }
    if isinstance(found, Classification):
        body |= {"impossible": _plain(found.impossible), "selection": _plain(found.selection)}
    return body


def _plain(found: Any) -> Any:
    """Return one or several results as JSON types, without the arrays that have a row for each example."""

    def plain(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in pairs if k != "predicted"}

    if isinstance(found, tuple):
        return [_plain(one) for one in found]
    return found and asdict(found, dict_factory=plain)
