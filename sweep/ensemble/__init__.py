"""Ensembles out of a sweep: what many members say together, and what that is worth. Loads no torch."""

from __future__ import annotations

from sweep.ensemble.assess import assess
from sweep.ensemble.assessment import Assessment, Disputed, ExtraSet, ScoreRow
from sweep.ensemble.calibrate import Calibration, scaled, temperature
from sweep.ensemble.combine import Mixture, geometric, mean, mixture, vote
from sweep.ensemble.curve import SizeCurve, class_curves, enough, value_curves
from sweep.ensemble.diversity import Diversity, Identity
from sweep.ensemble.evidence import Difference
from sweep.ensemble.headline import brief
from sweep.ensemble.members import Members, stack
from sweep.ensemble.score import Diagram, Reliability, RiskCoverage
from sweep.ensemble.select import Selection
from sweep.ensemble.uncertainty import Uncertainty, entropy_split, variance_split

__all__ = [
    "Assessment",
    "Calibration",
    "Diagram",
    "Difference",
    "Disputed",
    "Diversity",
    "ExtraSet",
    "Identity",
    "Members",
    "Mixture",
    "Reliability",
    "RiskCoverage",
    "ScoreRow",
    "Selection",
    "SizeCurve",
    "Uncertainty",
    "assess",
    "brief",
    "class_curves",
    "enough",
    "entropy_split",
    "geometric",
    "mean",
    "mixture",
    "scaled",
    "stack",
    "temperature",
    "value_curves",
    "variance_split",
    "vote",
]
