"""Which members to weigh how much: all alike, unless greedy selection on val beats that on test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sweep.ensemble import score
from sweep.ensemble.combine import Floats
from sweep.errors import EnsembleError

Metric = Literal["nll", "brier", "accuracy"]


@dataclass(frozen=True)
class Selection:
    """Greedy selection with replacement. weights (members,) sum to 1; path: the loss on val a round.

    uniform and greedy are scores on the scored split (better: lower, or a higher accuracy); warning is a
    sentence when greedy does not beat uniform there.
    """

    metric: str
    weights: Floats
    counts: tuple[int, ...]
    path: tuple[float, ...]
    fitted_on: str
    uniform: dict[str, float]
    greedy: dict[str, float]
    warning: str | None


def greedy(
    probs: npt.ArrayLike, targets: npt.ArrayLike, *, metric: Metric = "nll", rounds: int | None = None
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """How often each member is taken, and the loss after each round (Caruana 2004, sec. 2.1 and 2.2).

    probs (members, examples, classes) on val. Each round adds the member that lowers the loss of the average
    most (ties: the first); the best prefix is kept. rounds: the number of members unless given.
    """
    p, t = np.asarray(probs, dtype=np.float64), np.asarray(targets)
    count = len(p)
    rounds = count if rounds is None else rounds
    if rounds < 1:
        raise EnsembleError(f"greedy selection over {rounds} rounds", hint="give 1 round or more")
    at = p[:, np.arange(len(t)), t]
    if metric == "nll":
        losses = _nll_losses(at)
    elif metric in ("brier", "accuracy"):
        losses = _full_losses(p, t, metric)
    else:
        raise EnsembleError(f"cannot select on {metric!r}", hint="choose nll, brier or accuracy")
    taken: list[int] = []
    path: list[float] = []
    for _ in range(rounds):
        values = losses(taken)
        taken.append(int(values.argmin()))
        path.append(float(values.min()))
    kept = taken[: int(np.argmin(path)) + 1]
    return tuple(np.bincount(kept, minlength=count).tolist()), tuple(path)


def _nll_losses(at: Floats) -> Callable[[list[int]], Floats]:
    """Only the target's probability enters the NLL, so a round costs members x examples."""

    def losses(taken: list[int]) -> Floats:
        total = at[taken].sum(axis=0) + at
        with np.errstate(divide="ignore"):
            return np.asarray(-np.log(total / (len(taken) + 1)).mean(axis=1))

    return losses


def _full_losses(p: Floats, t: npt.NDArray[np.int64], metric: Metric) -> Callable[[list[int]], Floats]:
    def loss(probs: Floats) -> float:
        return score.brier(probs, t) if metric == "brier" else -score.accuracy(probs, t)

    def losses(taken: list[int]) -> Floats:
        total = p[taken].sum(axis=0)
        return np.array([loss((total + one) / (len(taken) + 1)) for one in p])

    return losses


def _scores(probs: Floats, targets: npt.ArrayLike) -> dict[str, float]:
    return {
        "accuracy": score.accuracy(probs, targets),
        "nll": score.nll(probs, targets),
        "brier": score.brier(probs, targets),
    }


def weighted(probs: npt.ArrayLike, weights: npt.ArrayLike) -> Floats:
    """(members, examples, classes) weighted by (members,), which sum to 1, to (examples, classes)."""
    return np.asarray(np.tensordot(np.asarray(weights, dtype=np.float64), np.asarray(probs, dtype=np.float64), axes=1))


def select(
    val_probs: npt.ArrayLike,
    val_targets: npt.ArrayLike,
    probs: npt.ArrayLike,
    targets: npt.ArrayLike,
    *,
    metric: Metric = "nll",
    rounds: int | None = None,
    fitted_on: str = "val",
) -> Selection:
    """Select on one split and score on another, beside the uniform average."""
    counts, path = greedy(val_probs, val_targets, metric=metric, rounds=rounds)
    weights = np.array(counts, dtype=np.float64) / sum(counts)
    count = len(counts)
    plain = _scores(weighted(probs, np.full(count, 1.0 / count)), targets)
    chosen = _scores(weighted(probs, weights), targets)
    better = chosen[metric] > plain[metric] if metric == "accuracy" else chosen[metric] < plain[metric]
    warning = None
    if not better:
        warning = (
            f"greedy selection does not beat the uniform average: {metric} {chosen[metric]:.6g} against "
            f"{plain[metric]:.6g}; use the uniform one"
        )
    return Selection(metric, weights, counts, path, fitted_on, plain, chosen, warning)
