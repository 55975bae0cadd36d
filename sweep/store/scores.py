"""scores-<name>.npz: the score of each item (a question, a problem, an episode) in one run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from io import BufferedReader
from typing import Any

import numpy as np

from sweep.errors import IntegrityError, SweepError
from sweep.store.predictions import Array, Arrays, arrays, plain


@dataclass(frozen=True)
class Scores(Arrays):
    """One row per try at an item.

    ids (tries,): integers or text, repeated for an item that was tried several times; score (tries,): finite; cluster
    (tries,) or None: items with equal labels share a source; repeat (tries,) or None: the number of the try.
    """

    ids: Array
    score: Array
    cluster: Array | None = None
    repeat: Array | None = None


def load(stream: BufferedReader, *, where: str) -> Scores:
    """Return the scores in an open file, without unpickling. Raises: IntegrityError for any other file."""
    found = arrays(stream, {f.name for f in fields(Scores)}, "scores", where)
    try:
        return checked(**found)
    except (SweepError, TypeError) as error:
        raise IntegrityError(f"not a readable scores file ({error})", where=where) from error


def checked(ids: Any, score: Any, cluster: Any = None, repeat: Any = None) -> Scores:
    """Return scores from arrays, tensors or lists.

    Raises: SweepError for a wrong shape or kind, a score that is not finite, an item in two clusters, and a try that is
    given twice.
    """
    where = "save_scores"
    values = np.asarray(plain(score))
    if values.dtype.kind not in "fiub":
        raise SweepError(
            f"score holds {values.dtype}, not numbers",
            where=where,
            hint="give numbers, for example 1 for right and 0 for wrong",
        )
    made = Scores(
        plain(ids), values.astype(np.float64), None if cluster is None else plain(cluster),
        None if repeat is None else plain(repeat),
    )  # fmt: skip
    rows = made.score.shape
    for name, array in made.arrays().items():
        if array.ndim != 1 or array.shape != rows or not rows[0]:
            scores = "" if name == "score" else f" (score has {rows})"
            raise SweepError(f"{name} needs one value per try, but has the shape {array.shape}{scores}", where=where)
        if name != "score" and array.dtype.kind not in "iuUS":
            raise SweepError(f"{name} holds {array.dtype}; integers or text are needed", where=where)
    if not np.isfinite(made.score).all():
        odd = made.ids[~np.isfinite(made.score)][0]
        raise SweepError(f"the score of item {odd} is not finite", where=where, hint="give a failed item the score 0")
    distinct, place = np.unique(made.ids, return_inverse=True)
    if made.cluster is not None:
        _, label = np.unique(made.cluster, return_inverse=True)
        first = np.zeros(len(distinct), dtype=np.int64)
        first[place] = label
        if (first[place] != label).any():
            raise SweepError(f"item {made.ids[first[place] != label][0]} is in two clusters", where=where)
    if made.repeat is not None:
        tries = np.unique(np.stack([place, np.unique(made.repeat, return_inverse=True)[1]]), axis=1)
        if tries.shape[1] < rows[0]:
            raise SweepError("an item has the same repeat twice", where=where)
    return made


def mean(made: Scores) -> float:
    """Return the mean over items, after averaging the tries of each item."""
    _, place = np.unique(made.ids, return_inverse=True)
    return float((np.bincount(place, weights=made.score) / np.bincount(place)).mean())
