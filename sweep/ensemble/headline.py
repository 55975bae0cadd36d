"""The two numbers a progress line has room for: how good the members are, and how good they are together."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sweep.ensemble import combine, score
from sweep.errors import EnsembleError


def brief(
    probs: npt.ArrayLike | None,
    targets: npt.ArrayLike,
    *,
    mean: npt.ArrayLike | None = None,
    var: npt.ArrayLike | None = None,
) -> dict[str, dict[str, float]]:
    """{"ensemble": {metric: value}, "members_mean": {metric: value}}, the same bytes in any member order.

    Classification: probs (members, examples, classes), targets (examples,) class indices: accuracy and nll.
    Regression: probs None, mean and var (members, examples): rmse, and with var the nll of the Gaussian
    mixture. Raises EnsembleError when the shapes do not belong together.
    """
    if probs is not None:
        array = np.asarray(probs, dtype=np.float64)
        return {
            "ensemble": _classes(combine.mean(array), targets),
            "members_mean": _average([_classes(member, targets) for member in array]),
        }
    if mean is None:
        raise EnsembleError("neither probabilities nor means were given", hint="pass probs, or mean and var")
    means = np.asarray(mean, dtype=np.float64)
    variances = None if var is None else np.asarray(var, dtype=np.float64)
    singles = [
        _values(means[i : i + 1], None if variances is None else variances[i : i + 1], targets)
        for i in range(means.shape[0])
    ]
    return {"ensemble": _values(means, variances, targets), "members_mean": _average(singles)}


def _classes(probs: npt.NDArray[np.float64], targets: npt.ArrayLike) -> dict[str, float]:
    return {"accuracy": score.accuracy(probs, targets), "nll": score.nll(probs, targets)}


def _values(
    mean: npt.NDArray[np.float64], var: npt.NDArray[np.float64] | None, targets: npt.ArrayLike
) -> dict[str, float]:
    values = {"rmse": score.rmse(combine.member_mean(mean), targets)}
    if var is not None:
        values["nll"] = score.mixture_nll(mean, var, targets)
    return values


def _average(rows: list[dict[str, float]]) -> dict[str, float]:
    # fsum is exact, so the order of members cannot show.
    return {key: math.fsum(row[key] for row in rows) / len(rows) for key in rows[0]}
