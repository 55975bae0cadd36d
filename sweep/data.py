"""Data for a recipe of your own: `sweep.data.arrays(x, y)` and what reads files, each part of a run's identity."""

from sweep.train.source import Source, arrays, dataset, idx, images, npz, table, text, tokens

__all__ = ["Source", "arrays", "dataset", "idx", "images", "npz", "table", "text", "tokens"]
