"""What a finished directory says: as data, text, Markdown, LaTeX and figures. Loads neither torch nor Ray.

Its parts, and pandas with them, are loaded as they are asked for: who only looks at a sweep while it runs needs
`sweep.report.live` alone. Figures are in `sweep.report.figures`, apart from the rest because they load matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.report.assemble import build
    from sweep.report.model import Cause, Counts, Environment, Report, Row, Score, Together, to_json
    from sweep.report.paper import latex, markdown
    from sweep.report.plain import text, wants_color
    from sweep.report.plain_spread import side_by_side

_MODULES = {
    "assemble": ("build",),
    "model": ("Cause", "Counts", "Environment", "Report", "Row", "Score", "Together", "to_json"),
    "paper": ("latex", "markdown"),
    "plain": ("text", "wants_color"),
    "plain_spread": ("side_by_side",),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
