"""Ensembles out of a sweep: what many members predict together, and what that is worth, as numbers. Loads no torch."""

from sweep.ensemble.assess import Assessment as Assessment
from sweep.ensemble.assess import Classification as Classification
from sweep.ensemble.assess import Regression as Regression
from sweep.ensemble.assess import assess as assess
from sweep.ensemble.assess import brief as brief
from sweep.ensemble.calibrate import Calibration as Calibration
from sweep.ensemble.calibrate import scaled as scaled
from sweep.ensemble.calibrate import temperature as temperature
from sweep.ensemble.curve import SizeCurve as SizeCurve
from sweep.ensemble.curve import class_curves as class_curves
from sweep.ensemble.curve import enough as enough
from sweep.ensemble.curve import value_curves as value_curves
from sweep.ensemble.evidence import Difference as Difference
from sweep.ensemble.members import Classes as Classes
from sweep.ensemble.members import Members as Members
from sweep.ensemble.members import Values as Values
from sweep.ensemble.members import stack as stack
from sweep.ensemble.score import Diagram as Diagram
from sweep.ensemble.score import RiskCoverage as RiskCoverage
from sweep.ensemble.select import Selection as Selection
