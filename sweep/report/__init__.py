"""What a finished directory says: as data, text, Markdown, LaTeX and figures. Loads neither torch nor Ray.

Figures are in `sweep.report.figures`, apart from the rest because they load matplotlib.
"""

from sweep.report.assemble import build
from sweep.report.model import Cause, Counts, Environment, Report, Row, Score, Together, to_json
from sweep.report.paper import latex, markdown
from sweep.report.plain import text, wants_color
from sweep.report.plain_spread import side_by_side

__all__ = [
    "Cause",
    "Counts",
    "Environment",
    "Report",
    "Row",
    "Score",
    "Together",
    "build",
    "latex",
    "markdown",
    "side_by_side",
    "text",
    "to_json",
    "wants_color",
]
