"""Ensembles out of a sweep: what many members predict together, and what that is worth, as numbers. Loads no torch."""

from __future__ import annotations

from sweep.ensemble.assess import Assessment, Classification, Regression, assess, brief
from sweep.ensemble.calibrate import Calibration, scaled, temperature
from sweep.ensemble.curve import SizeCurve, class_curves, enough, value_curves
from sweep.ensemble.evidence import Difference
from sweep.ensemble.members import Classes, Members, Values, stack
from sweep.ensemble.score import Diagram, RiskCoverage
from sweep.ensemble.select import Selection

__all__ = [
    "Assessment",
    "Calibration",
    "Classes",
    "Classification",
    "Diagram",
    "Difference",
    "Members",
    "Regression",
    "RiskCoverage",
    "Selection",
    "SizeCurve",
    "Values",
    "assess",
    "brief",
    "class_curves",
    "enough",
    "scaled",
    "stack",
    "temperature",
    "value_curves",
]
