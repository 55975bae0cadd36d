"""Parts of a recipe that change gradients, batches and the rate, each by plain arithmetic that any loop repeats."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from sweep.errors import ConfigError
from sweep.train import augment
from sweep.train.data import Dataset

QUANTILES = 4096  # of the distribution of shares


def clip(most: float, gradients: list[Tensor]) -> list[Tensor]:
    """Return gradients scaled so that their norm over all of them is `most` at most, as torch's own clipping does."""
    norm = torch.stack([each.float().square().sum() for each in gradients]).sum().sqrt()
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    return [each * factor.to(each.dtype) for each in gradients]


def mixup(alpha: float, load: Callable[[], Dataset]) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return what mixes each example with the one before it in its batch, by a share of its own.

    Shares are of Beta(alpha, alpha) (Zhang et al., 2018); class numbers become shares of the classes.
    """
    from scipy.special import betaincinv  # takes a third of a second to load, and few recipes mix

    shares = torch.from_numpy(betaincinv(alpha, alpha, (torch.arange(QUANTILES).numpy() + 0.5) / QUANTILES)).float()
    placed = {shares.device: shares}  # a copy to a device within a step would stop it from being captured
    classes: dict[torch.device, Tensor] = {}

    def mix(inputs: Tensor, targets: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        if (
            not inputs.is_floating_point()
            or targets.dim() > 2
            or (targets.dim() == 2 and not targets.is_floating_point())
        ):
            raise ConfigError("mixup takes numbers with one target per example", where="mixup", hint="leave it out")
        if inputs.device not in placed:
            placed[inputs.device] = shares.to(inputs.device)
        if not targets.is_floating_point():
            if targets.device not in classes:
                classes[targets.device] = torch.arange(load().outputs).to(targets.device)
            targets = (targets[:, None] == classes[targets.device]).float()
        share = placed[inputs.device][augment.mix(keys + 5) & (QUANTILES - 1)]
        return _mixed(inputs, share), _mixed(targets, share)

    return mix


def _mixed(values: Tensor, share: Tensor) -> Tensor:
    by_example = share.view(-1, *(1 for _ in values.shape[1:]))
    return values * by_example + values.roll(1, 0) * (1 - by_example)


def scheduled(
    scheduler: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler],
    rate: float,
    epochs: int,
    per: str,
) -> Callable[[int, int], float]:
    """Return the factors that a scheduler of torch gives, as a function of the step: nothing of it need be saved."""

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
