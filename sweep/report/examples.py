"""Scores of single examples, rebuilt from saved predictions, for metrics that are means over examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweep.errors import EnsembleError, SweepError
from sweep.report.together import BUDGET, matched
from sweep.store import Member, Predictions, Store

Floats = npt.NDArray[np.float64]
TOLERANCE = 1e-4  # relative; predictions are kept in single precision


@dataclass(frozen=True)
class Examples:
    """scores: (runs, examples), a row a seed in the order of `seeds`, a column an example in that of `ids`."""

    seeds: tuple[int, ...]
    ids: npt.NDArray[np.generic]
    scores: Floats


def _true(probs: Floats, targets: npt.NDArray[np.int64]) -> Floats:
    at = np.broadcast_to(targets[:, None], (*probs.shape[:2], 1))
    found: Floats = np.take_along_axis(probs, at, axis=2)[..., 0]
    return found


def _correct(probs: Floats, targets: npt.NDArray[np.int64]) -> Floats:
    right: Floats = (probs.argmax(axis=2) == targets).astype(np.float64)
    return right


def _nll(probs: Floats, targets: npt.NDArray[np.int64]) -> Floats:
    with np.errstate(divide="ignore"):
        return np.asarray(-np.log(_true(probs, targets)))


def _brier(probs: Floats, targets: npt.NDArray[np.int64]) -> Floats:
    return np.asarray((probs**2).sum(axis=2) - 2 * _true(probs, targets) + 1)


OF_CLASSES: Mapping[str, Callable[[Floats, npt.NDArray[np.int64]], Floats]] = {
    "accuracy": _correct,
    "error": lambda probs, targets: 1 - _correct(probs, targets),
    "nll": _nll,
    "loss": _nll,
    "brier": _brier,
}
OF_VALUES: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "mse": lambda mean, targets: (mean - targets) ** 2,
    "loss": lambda mean, targets: (mean - targets) ** 2,
    "mae": lambda mean, targets: np.abs(mean - targets),
}


def examples_of(store: Store, members: Sequence[Member], metric: str) -> Examples | str:
    """The scores of every example in every ok run (the first repeat of each seed), or why there are none.

    Members are those of one variant and task. The mean over examples must be the metric that the run
    recorded: a metric of the same name may be computed in another way.
    """
    split, _, leaf = metric.rpartition("/")
    if leaf not in OF_CLASSES.keys() | OF_VALUES.keys():
        return f"{metric} is not a mean over examples"
    name = f"predictions-{split}.npz"
    chosen = [m for m in members if m.status == "ok" and m.repeat == 0 and m.record is not None]
    if len(chosen) < 2:
        return "fewer than two seeds finished"
    if not all(store.has(m, name) for m in chosen):
        return f"not every run kept its {split or 'test'} predictions"
    if sum(m.record.artifacts[name].bytes for m in chosen if m.record) > BUDGET:
        return "the predictions are too large to be read for a report"
    try:
        made = [_read(store, member, split) for member in chosen]
        stacked, targets = matched(made, [member.key for member in chosen])
    except SweepError as error:
        return error.what
    scores = _scores(stacked, targets, leaf)
    if scores is None or scores.shape[1] != len(made[0].ids) or not np.isfinite(scores).all() or scores.shape[1] < 2:
        return f"{metric} cannot be computed from the predictions"
    recorded = np.array([m.record.metrics.get(metric, np.nan) for m in chosen if m.record])
    if not np.allclose(scores.mean(axis=1), recorded, rtol=TOLERANCE, atol=1e-6):
        return f"{metric} is not the mean over the saved predictions"
    return Examples(tuple(m.seed for m in chosen), np.sort(made[0].ids), scores)


def _read(store: Store, member: Member, split: str) -> Predictions:
    found = store.predictions(member, split)
    if found is None:
        raise EnsembleError(f"{member.key} has no {split} predictions")
    return found


def _scores(stacked: Mapping[str, Floats], targets: npt.NDArray[np.generic], leaf: str) -> Floats | None:
    if "probs" in stacked and leaf in OF_CLASSES and targets.dtype.kind in "iu" and targets.ndim == 1:
        probs, labels = stacked["probs"], targets.astype(np.int64)
        if probs.ndim == 3 and labels.min() >= 0 and labels.max() < probs.shape[2]:
            return OF_CLASSES[leaf](probs, labels)
    if "mean" in stacked and leaf in OF_VALUES and targets.ndim == 1:
        return OF_VALUES[leaf](stacked["mean"], targets.astype(np.float64))
    return None
