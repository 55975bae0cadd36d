"""Optimizers by their spec, clipping, and the learning rate of each step.

Optimizers are fused: one call per step over all parameters.

Torch wraps `add_param_group` and `step` so that its compiler skips them. This loads the compiler, which takes two
seconds in every worker, and slows every step. Nothing here compiles an optimizer, so the wrapped functions are called
directly. The arithmetic is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from inspect import unwrap
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import optimizer

from sweep.train.params import Optimizer, Schedule


def _plain(step: Any) -> Any:
    """Return a step without its wrappers, except the one for hooks while there are any, as in `sweep verify`."""
    bare = torch.no_grad()(unwrap(step))
    hooked = torch.optim.Optimizer.profile_hook_step(bare)
    hooks = (optimizer._global_optimizer_pre_hooks, optimizer._global_optimizer_post_hooks)

    def stepped(self: torch.optim.Optimizer) -> None:
        own = (self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks)
        (hooked if any(hooks) or any(own) else bare)(self)

    stepped.hooked = True  # type: ignore[attr-defined]
    return stepped


class SGD(torch.optim.SGD):
    """Torch's SGD without its compiler."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    step = _plain(torch.optim.SGD.step)


class AdamW(torch.optim.AdamW):
    """Torch's AdamW without its compiler."""

    add_param_group = unwrap(torch.optim.Optimizer.add_param_group)
    step = _plain(torch.optim.AdamW.step)


def build(spec: Optimizer, parameters: Iterable[nn.Parameter], lr: float | Tensor) -> torch.optim.Optimizer:
    """Return SGD or AdamW. A tensor `lr` (CUDA) is read on the device at every step, so a graph may be replayed."""
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


def clip(most: float, gradients: list[Tensor]) -> list[Tensor]:
    """Return the gradients scaled so that their total norm is at most `most`, as torch's own clipping does."""
    norm = torch.stack([each.float().square().sum() for each in gradients]).sum().sqrt()
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    return [each * factor.to(each.dtype) for each in gradients]


def factor(spec: Schedule, step: int, steps: int) -> float:
    """Return the factor of the learning rate at `step` (0 .. steps - 1) of a run of `steps`."""
    warmup = round(spec.warmup * steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if spec.name == "constant":
        return 1.0
    if spec.name == "cosine":
        # Loshchilov & Hutter (2017), eq. 5, one cycle. The last step still moves unless the floor is 0.
        floor = spec.floor or 0.0
        done = (step - warmup) / max(1, steps - warmup)
        return floor + (1 - floor) * 0.5 * (1 + cos(pi * done))
    gamma = 1.0 if spec.gamma is None else spec.gamma
    return gamma ** sum(step >= share * steps for share in spec.milestones or ())


def scheduled(
    scheduler: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler],
    rate: float,
    epochs: int,
    per: str,
) -> Callable[[int, int], float]:
    """Return the factors of a torch scheduler as a function of the step, so that no checkpoint needs them."""

    @lru_cache(maxsize=4)
    def factors(count: int) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=rate)
        stepped, found = scheduler(optimizer), []
        for _ in range(count):
            found.append(float(optimizer.param_groups[0]["lr"]) / rate)
            optimizer.step()
            stepped.step()
        return found

    def factor(step: int, steps: int) -> float:
        if per == "step":
            return factors(steps)[step]
        return factors(epochs)[step * epochs // steps]

    return factor
