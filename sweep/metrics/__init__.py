"""Metrics of a program that was not written for sweep, read from its files or its output after it has ended."""

from sweep.metrics.files import Left, look
from sweep.metrics.read import identity, metrics, predictions, require, so_far
from sweep.metrics.rows import Found, NotFound
from sweep.metrics.samples import scores

__all__ = ["Found", "Left", "NotFound", "identity", "look", "metrics", "predictions", "require", "scores", "so_far"]
