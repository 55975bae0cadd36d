"""Ensembles of a sweep: what many members predict together, and how good it is, as numbers. Loads no torch."""

from sweep.ensemble.assess import Assessment as Assessment
from sweep.ensemble.assess import Classification as Classification
from sweep.ensemble.assess import assess as assess
from sweep.ensemble.assess import brief as brief
from sweep.ensemble.curve import class_curves as class_curves
from sweep.ensemble.curve import enough as enough
from sweep.ensemble.members import Classes as Classes
from sweep.ensemble.members import Members as Members
from sweep.ensemble.members import Values as Values
from sweep.ensemble.members import stack as stack
