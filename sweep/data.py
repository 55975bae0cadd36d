"""Data for a recipe of your own: `sweep.data.arrays(x, y)` and readers of files, part of the identity of a run."""

from sweep.train.source import Source, arrays, dataset, idx, images, npz, table, text, tokens

__all__ = ["Source", "arrays", "dataset", "idx", "images", "npz", "table", "text", "tokens"]
