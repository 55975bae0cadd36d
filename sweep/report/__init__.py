"""What is said of a finished directory: as text, Markdown, LaTeX, HTML and figures. Loads neither torch nor Ray.

Its parts, and pandas with them, are loaded as they are asked for: watching a sweep while it runs needs
`sweep.report.live` alone. Figures are in `sweep.report.figures`, apart from the rest because they load matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.report.document import wants_color
    from sweep.report.overview import brief_text, side_by_side, text
    from sweep.report.paper import latex, markdown
    from sweep.report.worded import Report, build, to_json

_MODULES = {
    "document": ("wants_color",),
    "overview": ("brief_text", "side_by_side", "text"),
    "paper": ("latex", "markdown"),
    "worded": ("Report", "build", "to_json"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Report",
    "brief_text",
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
