"""Ensembles out of a sweep: what many members say together, and what that is worth. Loads no torch."""

from __future__ import annotations

from sweep.ensemble.brief import brief
from sweep.ensemble.combine import geometric, mean, mixture, vote

__all__ = ["brief", "geometric", "mean", "mixture", "vote"]
