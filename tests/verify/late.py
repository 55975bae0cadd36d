"""Training code that keeps its bits for five steps, and not to its end; and one that keeps them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

STEPS = 12


def _trained(run: Any, disturb: Callable[[int, Tensor], Tensor] = lambda step, loss: loss) -> nn.Module:
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(STEPS):
        optimizer.zero_grad()
        disturb(step, model(torch.randn(8, 4)).square().mean()).backward()
        optimizer.step()
    run.save_model(model)
    return model


def _noise() -> float:
    return float(np.random.default_rng().normal())  # seeded by the machine, as it is without a seed


def honest(run: Any) -> dict[str, float]:
    model = _trained(run)
    with torch.no_grad():
        return {"test/loss": float(model(torch.ones(1, 4)).sum())}


def unseeded_evaluation(run: Any) -> dict[str, float]:
    model = _trained(run)
    with torch.no_grad():
        return {"test/loss": float(model(torch.ones(1, 4)).sum()) + _noise()}


def noise_from_step_seven(run: Any) -> dict[str, float]:
    _trained(run, lambda step, loss: loss * (1.0 + _noise()) if step >= 7 else loss)
    return {"test/loss": 0.5}


def time_budget(run: Any) -> dict[str, float]:
    begun, count = time.perf_counter(), 0
    _trained(run)
    while time.perf_counter() - begun < 0.05:
        count += 1
    return {"test/loss": 0.5, "test/rounds": float(count)}


def clock_in_a_metric(run: Any) -> dict[str, float]:
    _trained(run)
    return {"test/loss": 0.5, "test/finished": time.time() % 1000 + os.getpid() * 1e-3}
