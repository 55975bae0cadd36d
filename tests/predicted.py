"""Members that behave like trained models: a shared signal, a shared difficulty, and noise of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sweep.ensemble import Classes, Values, score, stack
from sweep.store import Predictions, atomic, predictions

Array = np.ndarray[Any, Any]


def classes(members: int = 6, examples: int = 80, count: int = 4, *, seed: int = 0) -> tuple[Array, Array]:
    """(members, examples, classes) float64 probabilities and (examples,) targets with every class present."""
    rng = np.random.default_rng(seed)
    targets = rng.permutation(np.arange(examples) % count)
    logits = 1.5 * np.eye(count)[targets] + rng.normal(size=(examples, count))
    logits = 1.5 * (logits + 0.8 * rng.normal(size=(members, examples, count)))
    weights = np.exp(logits)
    return weights / weights.sum(axis=2, keepdims=True), targets


def values(members: int = 6, examples: int = 80, *, seed: int = 0) -> tuple[Array, Array, Array]:
    """(members, examples) means and variances, and (examples,) targets."""
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=examples)
    means = targets + 0.4 * rng.normal(size=examples) + 0.5 * rng.normal(size=(members, examples))
    return means, rng.uniform(0.05, 0.6, size=(members, examples)), targets


def saved(probs: Array, targets: Array, ids: Array | None = None) -> Predictions:
    return Predictions(ids=np.arange(len(targets)) if ids is None else ids, targets=targets, probs=probs)


def read(path: Path) -> Predictions:
    """The predictions in a file."""
    with atomic.opened(path) as stream:
        return predictions.load(stream, where=str(path))


def together(probs: Array, targets: Array, split: str = "test") -> Classes:
    found = stack([(f"seed{i}", saved(one, targets)) for i, one in enumerate(probs)], split=split)
    assert isinstance(found, Classes)
    return found


def regression(
    members: int = 5, examples: int = 200, *, seed: int = 0, split: str = "test", factor: float = 1.0, var: bool = True
) -> Values:
    means, variances, targets = values(members, examples, seed=seed)
    kept = [
        Predictions(np.arange(examples), targets, mean=mean, var=one * factor if var else None)
        for mean, one in zip(means, variances, strict=True)
    ]
    found = stack([(f"seed{i}", one) for i, one in enumerate(kept)], split=split)
    assert isinstance(found, Values)
    return found


def accuracy_of(probs: Array, targets: Array) -> float:
    return score.of_classes(probs, targets)["accuracy"]


def nll_of(probs: Array, targets: Array) -> float:
    return score.of_classes(probs, targets)["nll"]


def brier_of(probs: Array, targets: Array) -> float:
    return score.of_classes(probs, targets)["brier"]


def pairs() -> list[tuple[str, Predictions]]:
    """Three members out of order, eight examples, ids e0 .. e7."""
    probs, targets = classes(3, 8, 4)
    ids = np.array([f"e{i}" for i in range(8)])
    return [(f"seed{seed}", saved(one, targets, ids)) for seed, one in zip((42, 7, 123), probs, strict=True)]
