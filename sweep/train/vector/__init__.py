"""Vectorised lanes: one step trains W seeds at once, their parameters stacked along a new first dimension.

The width is part of the arithmetic: other widths give other bits. At one width, a seed has the same bits in every row
and beside any other seeds. This is checked: before the first pack of a recipe, a few steps are compared (see `check`),
and a recipe whose rows affect each other is refused.
"""

from sweep.train.vector.pace import pace as pace
from sweep.train.vector.packs import train as train
