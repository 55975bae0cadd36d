"""Optimizers by their spec, always fused: one call a step over all parameters.

Torch wraps `add_param_group` and `step` so that its compiler passes them by, and loads the compiler to do so: two
seconds in every worker, and a share of every step. Nothing here compiles an optimizer, so what is wrapped is
called directly; the arithmetic is the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from inspect import unwrap
from typing import Any

import torch
from torch import Tensor, nn

from sweep.train.params import Optimizer


def _plain(step: Any) -> Any:
    """A step without its wraps, marked as one that the base class need not wrap again for the profiler."""
    bare: Any = torch.no_grad()(unwrap(step))
    bare.hooked = True
    return bare


class SGD(torch.optim.SGD):
    """Torch's, without its compiler."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    step = _plain(torch.optim.SGD.step)


class AdamW(torch.optim.AdamW):
    """Torch's, without its compiler."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    step = _plain(torch.optim.AdamW.step)


def build(spec: Optimizer, parameters: Iterable[nn.Parameter], lr: float | Tensor) -> torch.optim.Optimizer:
    """SGD or AdamW. A tensor `lr` (CUDA) is read on the device at every step: a graph may be replayed."""
    assert spec.weight_decay is not None
    if spec.name == "sgd":
        return SGD(
            parameters, lr=lr, momentum=spec.momentum or 0.0, nesterov=bool(spec.nesterov),
            weight_decay=spec.weight_decay, fused=True,
        )  # fmt: skip
    assert spec.betas is not None
    assert spec.eps is not None
    return AdamW(
        parameters, lr=lr, betas=spec.betas, eps=spec.eps, weight_decay=spec.weight_decay, fused=True,
        capturable=isinstance(lr, Tensor),
    )  # fmt: skip
