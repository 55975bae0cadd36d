"""Losses by name: what targets they take, and how a model that learns by them is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sweep.errors import ConfigError
from sweep.train import scoring
from sweep.train.data import Dataset
from sweep.train.scoring import Scoring
from sweep.train.splits import Task


@dataclass(frozen=True)
class Loss:
    """A loss with what goes with it.

    of: (outputs, targets) -> the mean of a batch. task: what targets are; None: as their numbers tell. shape: of the
    outputs for one example; None: any. meta: what is stored beside the weights.
    """

    of: Callable[[Tensor, Tensor], Tensor]
    task: Task | None
    scoring: Callable[[Dataset], Scoring]
    shape: Callable[[Dataset], tuple[int, ...]] | None = None
    about: Mapping[str, Any] | None = None

    def meta(self, data: Dataset) -> dict[str, Any]:
        """Return what is stored beside the weights, for whoever serves them."""
        return {
            "task": task_of(data), "outputs": data.outputs, "classes": list(data.classes),
            "input_shape": list(data.input_shape), "normalisation": data.normalisation,
            "target": {"mean": data.target_mean, "std": data.target_std}, **(self.about or {}),
        }  # fmt: skip


def task_of(data: Dataset) -> Task:
    """Return what the targets of a data set are."""
    return "regression" if data.train.targets.is_floating_point() else "classification"


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error of the first output."""
    return (outputs[:, 0].float() - targets).square().mean()


def gaussian(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood of N(outputs[:, 0], exp(outputs[:, 1])), up to a constant.

    Nix & Weigend (1994), eq. 7.
    """
    mean, log_var = outputs.float().unbind(1)
    return 0.5 * ((mean - targets).square() * torch.exp(-log_var) + log_var).mean()


def _usual(data: Dataset) -> Scoring:
    if task_of(data) == "classification":
        return scoring.classification()
    return scoring.regression(data, "residual")


LOSSES = {
    "cross-entropy": Loss(
        nn.functional.cross_entropy, "classification", lambda data: scoring.classification(),
        lambda data: (data.outputs,),
    ),
    "mse": Loss(
        squared, "regression", lambda data: scoring.regression(data, "residual"), lambda data: (1,),
        {"variance": "residual", "outputs": 1},
    ),
    "gaussian": Loss(
        gaussian, "regression", lambda data: scoring.regression(data, "predicted"), lambda data: (2,),
        {"variance": "predicted", "outputs": 2},
    ),
}  # fmt: skip


def find(loss: str | Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """Return a loss by its name, or a function as one. Raises: ConfigError."""
    if callable(loss):
        return Loss(loss, None, _usual)
    if loss not in LOSSES:
        raise ConfigError(f"no loss is called {loss!r}", where="loss", hint=f"{', '.join(LOSSES)}, or a function")
    return LOSSES[loss]
