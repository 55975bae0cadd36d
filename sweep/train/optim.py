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
from torch.optim import optimizer

from sweep.train.params import Optimizer


def _plain(step: Any) -> Any:
    """Return a step without its wraps; with the one for hooks only while somebody listens, such as `sweep verify`."""
    bare = torch.no_grad()(unwrap(step))
    heard = torch.optim.Optimizer.profile_hook_step(bare)
    listeners = (optimizer._global_optimizer_pre_hooks, optimizer._global_optimizer_post_hooks)

    def stepped(self: torch.optim.Optimizer) -> None:
        own = (self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks)
        (heard if any(listeners) or any(own) else bare)(self)

    stepped.hooked = True  # type: ignore[attr-defined]
    return stepped


class SGD(torch.optim.SGD):
    """Torch's, without its compiler."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    step = _plain(torch.optim.SGD.step)


class AdamW(torch.optim.AdamW):
    """Torch's, without its compiler."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    step = _plain(torch.optim.AdamW.step)


def build(spec: Optimizer, parameters: Iterable[nn.Parameter], lr: float | Tensor) -> torch.optim.Optimizer:
    """Return SGD or AdamW. A tensor `lr` (CUDA) is read on the device at every step: a graph may be replayed."""
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
