"""Losses by name: the targets that they take, and the scoring of a model that is trained by them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sweep.errors import ConfigError
from sweep.train import scoring
from sweep.train.data import Dataset
from sweep.train.scoring import Scoring
from sweep.train.splits import Kind


@dataclass(frozen=True)
class Loss:
    """A loss and its properties.

    of: (outputs, targets) -> the mean of a batch. kind: of the targets; None: inferred from them. shape: of the
    outputs for one example; None: any. about: more values to store next to the weights.
    """

    of: Callable[[Tensor, Tensor], Tensor]
    kind: Kind | None
    scoring: Callable[[Dataset], Scoring]
    shape: Callable[[Dataset], tuple[int, ...]] | None = None
    about: Mapping[str, Any] | None = None

    def meta(self, data: Dataset) -> dict[str, Any]:
        """Return the values that are stored next to the weights, needed to serve them."""
        form = self.scoring(data).form
        return {
            "task": kind_of(data), "outputs": data.outputs, **data.about,
            **({"variance": "residual"} if self.of is squared and data.train.targets.dim() == 1 else {}),
            **({"form": form} if form and data.train.targets.dim() > 1 else {}), **(self.about or {}),
        }  # fmt: skip


def kind_of(data: Dataset) -> Kind:
    """Return the kind of a data set's targets."""
    return "regression" if data.train.targets.is_floating_point() else "classification"


def squared(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error of the first output, or of all outputs if there are several targets."""
    return ((outputs[:, 0] if targets.dim() == 1 else outputs).float() - targets).square().mean()


def gaussian(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean negative log-likelihood of N(outputs[:, 0], exp(outputs[:, 1])), up to a constant.

    Nix & Weigend (1994), eq. 7.
    """
    mean, log_var = outputs.float().unbind(1)
    return 0.5 * ((mean - targets).square() * torch.exp(-log_var) + log_var).mean()


def token_cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over all tokens that count, of outputs (batch, tokens, classes)."""
    return nn.functional.cross_entropy(outputs.flatten(0, -2), targets.flatten())


def _classes(data: Dataset) -> Scoring:
    return scoring.classification() if data.train.targets.dim() == 1 else scoring.pixels()


def _values(data: Dataset) -> Scoring:
    return scoring.regression(data, "residual") if data.train.targets.dim() == 1 else scoring.values()


def _usual(data: Dataset) -> Scoring:
    return (_classes if kind_of(data) == "classification" else _values)(data)


LOSSES = {
    "cross-entropy": Loss(
        nn.functional.cross_entropy, "classification", _classes,
        lambda data: (data.outputs, *data.train.targets.shape[1:]),
    ),
    "token-cross-entropy": Loss(
        token_cross_entropy, "classification", lambda data: scoring.tokens(),
        lambda data: (*data.train.targets.shape[1:], data.outputs),
    ),
    "binary-cross-entropy": Loss(
        nn.functional.binary_cross_entropy_with_logits, "labels", lambda data: scoring.labels(),
        lambda data: (data.outputs,),
    ),
    "mse": Loss(squared, "regression", _values, lambda data: (data.outputs,)),
    "gaussian": Loss(
        gaussian, "regression", lambda data: scoring.regression(data, "predicted"), lambda data: (2,),
        {"variance": "predicted", "outputs": 2},
    ),
}  # fmt: skip


def find(loss: str | Callable[[Tensor, Tensor], Tensor] | Loss) -> Loss:
    """Return a loss by its name, or a function as one. Raises: ConfigError."""
    if isinstance(loss, Loss):
        return loss
    if callable(loss):
        return Loss(loss, None, _usual)
    if loss not in LOSSES:
        raise ConfigError(
            f"no loss is called {loss!r}", where="loss", hint=f"name {', '.join(LOSSES)}, or give a function"
        )
    return LOSSES[loss]


def smoothed(share: float) -> Loss:
    """Return the cross-entropy with label smoothing, which spreads this share of a target over all classes."""
    of = partial(nn.functional.cross_entropy, label_smoothing=share)
    return replace(LOSSES["cross-entropy"], of=of)
