"""Distance: how far apart two trainings of the same seed ended, where equal bits were not promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sweep.store.names import MODEL


@dataclass(frozen=True)
class Distance:
    """metrics: name -> |a - b|, where not 0; weights: relative Euclidean distance, largest: of one number.

    weights and largest are None where the weights were not kept. The relative distance is
    ||a - b|| / ||a||, over all floating-point tensors together, in float64.
    """

    metrics: Mapping[str, float]
    weights: float | None = None
    largest: float | None = None

    def __str__(self) -> str:
        if not self.metrics and not self.weights:
            return "no difference"
        found = [f"{name} by {value:.3g}" for name, value in sorted(self.metrics.items(), key=_first)[:4]]
        if self.weights is not None:
            found.append(f"weights by {self.weights:.2g} relative, {self.largest:.2g} at most")
        return "; ".join(found)


def _first(item: tuple[str, float]) -> tuple[bool, str]:
    return not item[0].startswith("test/"), item[0]


def distance(
    a: Mapping[str, float], b: Mapping[str, float], weights_a: Path | None = None, weights_b: Path | None = None
) -> Distance:
    """Between two results: their metrics and, where both folders hold a model, its weights."""
    metrics = {name: abs(a[name] - b[name]) for name in a if name in b and a[name] != b[name]}
    files = [folder / MODEL for folder in (weights_a, weights_b) if folder is not None]
    if len(files) < 2 or not all(file.is_file() for file in files):
        return Distance(metrics)
    from safetensors.torch import load_file

    left, right = (load_file(file) for file in files)
    squares = norm = largest = 0.0
    for name, tensor in left.items():
        if not tensor.is_floating_point() or name not in right or right[name].shape != tensor.shape:
            continue
        x, y = (each.double().numpy() for each in (tensor, right[name]))
        squares += float(np.square(x - y).sum())
        norm += float(np.square(x).sum())
        largest = max(largest, float(np.abs(x - y).max(initial=0.0)))
    return Distance(metrics, (squares / norm) ** 0.5 if norm else squares**0.5, largest)
