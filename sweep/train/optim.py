"""Optimizers by their spec, always fused: one call a step over all parameters."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sweep.train.params import Optimizer


def build(spec: Optimizer, parameters: Iterable[nn.Parameter], lr: float | Tensor) -> torch.optim.Optimizer:
    """SGD or AdamW. A tensor `lr` (CUDA) is read on the device at every step: a graph may be replayed."""
    assert spec.weight_decay is not None
    if spec.name == "sgd":
        return torch.optim.SGD(
            parameters, lr=lr, momentum=spec.momentum or 0.0, nesterov=bool(spec.nesterov),
            weight_decay=spec.weight_decay, fused=True,
        )  # fmt: skip
    assert spec.betas is not None
    assert spec.eps is not None
    return torch.optim.AdamW(
        parameters, lr=lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay, fused=True,
        capturable=isinstance(lr, Tensor),
    )  # fmt: skip
