"""The report of a run directory: as text, Markdown, LaTeX, HTML and figures. Loads neither torch nor Ray.

Its parts, and pandas with them, are loaded when they are used: watching a running sweep needs only
`sweep.report.live`. Figures are in `sweep.report.figures`, apart from the rest because they load matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweep.report.document import wants_color as wants_color
    from sweep.report.overview import brief_text as brief_text
    from sweep.report.overview import text as text
    from sweep.report.paper import latex as latex
    from sweep.report.paper import markdown as markdown
    from sweep.report.worded import Report as Report
    from sweep.report.worded import build as build
    from sweep.report.worded import to_json as to_json

_HOME = {
    "Report": "worded", "brief_text": "overview", "build": "worded", "latex": "paper", "markdown": "paper",
    "text": "overview", "to_json": "worded", "wants_color": "document",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
