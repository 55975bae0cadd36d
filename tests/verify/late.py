"""Training code that keeps its bits for five steps, and not to its end; and one that keeps them."""

from __future__ import annotations

import os
import signal
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


def _resumed(run: Any, *, whole: bool) -> dict[str, float]:
    """Killed once, of seed 2, at its second checkpoint; of what momentum had gathered the checkpoint may hold nothing.

    The step is long enough ago for the canary, which ends after a few, not to come here.
    """
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    state = run.restore()
    if state is not None:
        model.load_state_dict(state["model"])
        if whole:
            optimizer.load_state_dict(state["optimizer"])
    for step in range(state["step"] if state is not None else 0, STEPS):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().mean().backward()
        optimizer.step()
        if step + 1 in (4, 8):
            run.checkpoint(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, step=step + 1
            )
        if step == 9 and run.seed == 2 and not os.path.exists("died"):
            open("died", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
    run.save_model(model)
    return {"test/loss": 0.5}


def resumed_whole(run: Any) -> dict[str, float]:
    return _resumed(run, whole=True)


def resumed_forgetful(run: Any) -> dict[str, float]:
    return _resumed(run, whole=False)


def one_rehearsal_hangs(run: Any) -> dict[str, float]:
    _trained(run)
    if run.rehearsal and not os.path.exists("hung"):
        open("hung", "w").close()
        time.sleep(600)
    return {"test/loss": 0.5}


def fails_in_other_words(run: Any) -> dict[str, float]:
    raise ValueError(f"process {os.getpid()} cannot")
