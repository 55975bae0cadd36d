"""What one member's rows must be: finite, distributions over classes, or means with positive variances."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sweep.ensemble.combine import Floats
from sweep.errors import EnsembleError

SUM_TOLERANCE = 1e-3  # a float32 softmax over many classes is off by 1e-5, a half-precision one by more


def legal(label: str, ids: npt.NDArray[Any], values: dict[str, Floats], split: str) -> None:
    for name, array in values.items():
        bad = np.flatnonzero(~np.isfinite(array).reshape(len(ids), -1).all(axis=1))
        if bad.size:
            what = "NaN" if np.isnan(array[bad[0]]).any() else "an infinity"
            raise EnsembleError(
                f"{label} has {what} in its {name} for the example {show(ids[bad[0]])} of {split} "
                f"({bad.size} such rows)",
                hint="the run diverged or its loss overflowed; leave this member out with --members",
            )
    if "var" in values:
        bad = np.flatnonzero(values["var"] <= 0)
        if bad.size:
            raise EnsembleError(
                f"{label} has the variance {values['var'][bad[0]]:g} for the example {show(ids[bad[0]])} of "
                f"{split} ({bad.size} such rows)",
                hint="variances are positive; a standard deviation is squared, a log-variance exponentiated",
            )
    if "probs" not in values:
        return
    probs = values["probs"]
    outside = np.flatnonzero(((probs < 0) | (probs > 1 + SUM_TOLERANCE)).any(axis=1))
    if outside.size:
        row = probs[outside[0]]
        worst = row[np.argmax(np.abs(row - 0.5))]
        raise EnsembleError(
            f"{label} has the probability {worst:g} for the example {show(ids[outside[0]])} of {split}: "
            f"these look like logits ({outside.size} such rows)",
            hint="save softmax(logits), not the logits",
        )
    sums = probs.sum(axis=1)
    off = np.flatnonzero(np.abs(sums - 1.0) > SUM_TOLERANCE)
    if off.size:
        raise EnsembleError(
            f"{label} has probabilities that sum to {sums[off[0]]:.6g} for the example {show(ids[off[0]])} "
            f"of {split} ({off.size} such rows)",
            hint="save a softmax over classes, in float32 or wider",
        )


def class_indices(targets: npt.NDArray[Any], classes: int, ids: npt.NDArray[Any], split: str) -> npt.NDArray[Any]:
    if targets.ndim != 1 or targets.dtype.kind not in "iu":
        raise EnsembleError(
            f"targets of {split} have shape {targets.shape} and dtype {targets.dtype}",
            hint="save class indices as integers, one an example",
        )
    bad = np.flatnonzero((targets < 0) | (targets >= classes))
    if bad.size:
        raise EnsembleError(
            f"the example {show(ids[bad[0]])} of {split} has the target {targets[bad[0]]}, "
            f"but the members know the classes 0 to {classes - 1}",
            hint="save class indices that count from 0",
        )
    return np.asarray(targets.astype(np.int64))


def numbers(targets: npt.NDArray[Any], ids: npt.NDArray[Any], split: str) -> npt.NDArray[Any]:
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.ndim != 1 or targets.dtype.kind not in "fiu":
        raise EnsembleError(
            f"targets of {split} have shape {targets.shape} and dtype {targets.dtype}",
            hint="regression takes one number an example; assess one output at a time",
        )
    bad = np.flatnonzero(~np.isfinite(targets))
    if bad.size:
        raise EnsembleError(f"the example {show(ids[bad[0]])} of {split} has the target {targets[bad[0]]}")
    return np.asarray(targets.astype(np.float64))


def show(value: Any) -> str:
    return repr(value.item() if isinstance(value, np.generic) else value)
