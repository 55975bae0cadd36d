"""What an assessment holds, and how it becomes plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.ensemble import calibrate, curve, evidence, score, uncertainty
from sweep.ensemble import diversity as differing
from sweep.ensemble import select as selection
from sweep.ensemble.combine import Floats


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
