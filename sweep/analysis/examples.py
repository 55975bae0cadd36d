"""Scores of single examples, rebuilt from saved predictions, for metrics that are means over examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.analysis.ensemble import cell, finished
from sweep.analysis.remarks import Remark
from sweep.ensemble.members import Classes, Members
from sweep.ensemble.score import Judged, judged
from sweep.stats.sample import LARGEST
from sweep.store import Member, Store
from sweep.store.names import PREDICTIONS

Floats = npt.NDArray[np.float64]
TOLERANCE = 1e-4  # relative; predictions are kept in single precision

OF_CLASSES: Mapping[str, Callable[[Judged], npt.NDArray[np.generic]]] = {
    "accuracy": lambda found: found.right,
    "error": lambda found: ~found.right,
    "nll": lambda found: found.nll,
    "loss": lambda found: found.nll,
    "brier": lambda found: found.brier,
}
OF_VALUES: Mapping[str, Callable[[Floats], Floats]] = {"mse": np.square, "loss": np.square, "mae": np.abs}


@dataclass(frozen=True)
class Examples:
    """scores: (runs, examples), one row per seed as in `seeds`, one column per example as in `ids`."""

    seeds: tuple[int, ...]
    ids: npt.NDArray[np.generic]
    scores: Floats


def examples_of(store: Store, members: Sequence[Member], metric: str) -> Examples | Remark:
    """Return the scores of every example in every ok run (the first repeat of each seed), or why there are none.

    Members are those of one variant and task. The mean over examples must equal the recorded metric, because a metric
    of the same name may be computed in another way.
    """
    split, _, leaf = metric.rpartition("/")
    if leaf not in OF_CLASSES.keys() | OF_VALUES.keys():
        return Remark("no mean over examples", {"metric": metric})
    chosen = sorted(finished(members), key=lambda m: m.seed)
    if len(chosen) < 2:
        return Remark("fewer than two seeds")
    if not all(store.has(m, PREDICTIONS.format(split=split)) for m in chosen):
        return Remark("predictions missing", {"split": split or "test"})
    found = cell(store, members, split)
    if isinstance(found, Remark):
        return found
    scores = _scores(found, leaf)
    if scores is None or not (np.abs(scores) <= LARGEST).all() or scores.shape[1] < 2:
        return Remark("not computable", {"metric": metric})
    recorded = np.array([m.record.metrics.get(metric, np.nan) for m in chosen if m.record])
    if not np.allclose(scores.mean(axis=1), recorded, rtol=TOLERANCE, atol=1e-6):
        return Remark("another mean", {"metric": metric})
    told = {_examples(m, split) for m in chosen} - {None, len(found.ids)}
    if not told:
        return Examples(tuple(m.seed for m in chosen), found.ids, scores)
    # Tokens of one text, or pixels of one image, are correlated: only their mean counts as an example.
    whole = told.pop()
    if whole and not told and len(found.ids) % whole == 0 and np.issubdtype(found.ids.dtype, np.integer):
        each = len(found.ids) // whole
        ids, places = np.unique(found.ids // each, return_inverse=True)
        if len(ids) == whole and (np.bincount(places) == each).all():
            order = np.argsort(places, kind="stable")
            means = scores[:, order].reshape(len(scores), whole, each).mean(axis=2)
            return Examples(tuple(m.seed for m in chosen), ids, means)
    return Remark("parts of examples", {"rows": len(found.ids)})


def _examples(member: Member, split: str) -> int | None:
    """Return the number of examples in a split, as a run recorded it."""
    told = member.record.result.get("examples") if member.record else None
    count = told.get(split) if isinstance(told, Mapping) else None
    return count if isinstance(count, int) else None


def _scores(found: Members, leaf: str) -> Floats | None:
    if isinstance(found, Classes):
        return OF_CLASSES[leaf](judged(found.probs, found.targets)).astype(np.float64) if leaf in OF_CLASSES else None
    return OF_VALUES[leaf](found.mean - found.targets) if leaf in OF_VALUES else None
