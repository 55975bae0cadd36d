"""Is A better than B, or was it the seed? Comparisons of finished directories, without torch or Ray."""

from sweep.comparison.build import best, compare
from sweep.comparison.model import Check, Comparison, Exploratory, Pair, Side, to_json
from sweep.comparison.table import latex, markdown
from sweep.comparison.view import text, view

__all__ = [
    "Check",
    "Comparison",
    "Exploratory",
    "Pair",
    "Side",
    "best",
    "compare",
    "latex",
    "markdown",
    "text",
    "to_json",
    "view",
]
