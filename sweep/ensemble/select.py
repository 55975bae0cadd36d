"""Weights of the members by greedy selection on val (Caruana 2004), beside the uniform average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sweep.ensemble.score import judged
from sweep.stats.sample import Floats, Ints

Metric = Literal["nll", "brier", "accuracy"]


@dataclass(frozen=True)
class Selection:
    """Greedy selection with replacement. weights (members,) sum to 1; path: the loss on val after each round.

    uniform and greedy are scores on the scored split; better: whether the greedy one is better.
    """

    metric: Metric
    weights: Floats
    counts: tuple[int, ...]
    path: tuple[float, ...]
    fitted_on: str
    uniform: dict[str, float]
    greedy: dict[str, float]
    better: bool


def greedy(probs: Floats, targets: Ints, metric: Metric) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return how often each member is taken, and the loss after each of as many rounds as members (sec. 2.1 and 2.2).

    Each round adds the member that lowers the loss of the average most (ties: the first); the best prefix is kept.
    """
    sign = -1.0 if metric == "accuracy" else 1.0
    taken, path, total = [], [], np.zeros(probs.shape[1:])
    for size in range(1, len(probs) + 1):
        losses = [sign * judged((total + one) / size, targets).means[metric] for one in probs]
        taken.append(int(np.argmin(losses)))
        path.append(min(losses))
        total += probs[taken[-1]]
    kept = taken[: int(np.argmin(path)) + 1]
    return tuple(np.bincount(kept, minlength=len(probs)).tolist()), tuple(path)


def select(val: tuple[Floats, Ints], probs: Floats, targets: Ints, metric: Metric, fitted_on: str) -> Selection:
    """Select on val and score on another split."""
    counts, path = greedy(*val, metric)
    weights = np.array(counts, dtype=np.float64) / sum(counts)
    plain, chosen = (judged(one, targets).means for one in (probs.mean(axis=0), np.tensordot(weights, probs, 1)))
    gain = (chosen[metric] - plain[metric]) * (1 if metric == "accuracy" else -1)
    return Selection(metric, weights, counts, path, fitted_on, plain, chosen, gain > 0)
